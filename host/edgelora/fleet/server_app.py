"""The ServerApp that a Flower project of `edgelora fleet init` names. Its run config says where the federation is."""

from __future__ import annotations

from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from ..streams import note
from .federation import Federation
from .flower import FleetStrategy, Twins

app = ServerApp()


@app.main()  # type: ignore[untyped-decorator]
def main(grid: Grid, context: Context) -> None:
    """Carries the federation's rounds that are left; killed, it goes on with the next run."""
    federation = Federation.open(Path(str(context.run_config["state"])))
    base = federation.base
    twins = Twins(str(context.run_config["data"]), federation.plan, base.elm, base.name)
    FleetStrategy(federation, twins, lambda done, total, what: note(f"{done}/{total} {what}")).start(grid)
