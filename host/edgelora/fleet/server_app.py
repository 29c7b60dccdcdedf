"""The ServerApp that a Flower project of `edgelora fleet init` names. Its run config says where the federation is."""

from __future__ import annotations

from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from ..streams import note
from .federation import Federation
from .flower import FleetStrategy, Twins
from .privacy import BudgetSpent
from .roster import Site

app = ServerApp()


@app.main()  # type: ignore[untyped-decorator]
def main(grid: Grid, context: Context) -> None:
    """Carries the federation's rounds that are left; killed, it goes on with the next run."""
    federation = Federation.open(Path(str(context.run_config["state"])))
    base, data, site = federation.base, context.run_config.get("data"), context.run_config.get("site")
    work = Twins(str(data), federation.plan, base.elm, base.name) if data else Site(Path(str(site)))
    federation.ended = ""
    try:
        FleetStrategy(federation, work, lambda done, total, what: note(f"{done}/{total} {what}")).start(grid)
    except BudgetSpent as error:  # an end as good as any other
        federation.ended = str(error)
    except Exception as error:
        federation.ended = str(error) or repr(error)
        raise
