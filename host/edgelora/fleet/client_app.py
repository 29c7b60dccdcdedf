"""The ClientApp that a Flower project of `edgelora fleet init` names; `flower` does a node's work."""

from __future__ import annotations

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from . import flower

app = ClientApp()


@app.train()  # type: ignore[untyped-decorator]
def train(message: Message, context: Context) -> Message:
    """Runs one round of the twins on this node."""
    return flower.train(message, context)


@app.train("stage")  # type: ignore[untyped-decorator]
def stage(message: Message, context: Context) -> Message:
    """Runs one stage of a round for the boards behind this node's gateway."""
    return flower.pass_on(message, context)


@app.query("boards")  # type: ignore[untyped-decorator]
def boards(message: Message, context: Context) -> Message:
    """Lists the boards behind this node's gateway."""
    return flower.query_boards(message, context)
