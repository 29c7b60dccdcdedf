"""The ClientApp that a Flower project of `edgelora fleet init` names: thin, as a node's work is in `flower`."""

from __future__ import annotations

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from . import flower

app = ClientApp()


@app.train()  # type: ignore[untyped-decorator]
def train(message: Message, context: Context) -> Message:
    """One round of the boards of this node."""
    return flower.train(message, context)


@app.train("stage")  # type: ignore[untyped-decorator]
def stage(message: Message, context: Context) -> Message:
    """One stage of a round of the boards behind this node's gateway."""
    return flower.pass_on(message, context)


@app.query("boards")  # type: ignore[untyped-decorator]
def boards(message: Message, context: Context) -> Message:
    """Which boards these are."""
    return flower.query_boards(message, context)
