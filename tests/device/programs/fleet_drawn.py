"""When imported, makes a board save its random values of a round, so that a twin can use the same ones."""

from edgelora import fleet

DRAWN = "/drawn"
_draw = fleet.Identity.draw


def draw(identity):
    drawn = _draw(identity)
    with open(DRAWN, "wb") as file:
        file.write(drawn)
    return drawn


fleet.Identity.draw = draw
