"""Imported, has a board keep what it draws for a round, so that a twin can draw the same."""

from edgelora import fleet

DRAWN = "/drawn"
_draw = fleet.Identity.draw


def draw(identity):
    drawn = _draw(identity)
    with open(DRAWN, "wb") as file:
        file.write(drawn)
    return drawn


fleet.Identity.draw = draw
