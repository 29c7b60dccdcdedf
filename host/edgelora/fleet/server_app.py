"""The ServerApp that a Flower project of `edgelora fleet init` names. Its run config has the federation's folder."""

from __future__ import annotations

from logging import INFO
from pathlib import Path

from flwr.app import Context
from flwr.common import log
from flwr.serverapp import Grid, ServerApp

from edgelora.base.progress import Progress

from .federation import Federation
from .flower import FleetStrategy, Twins, metrics_of, result_of
from .privacy import BudgetSpent
from .roster import Site

app = ServerApp()


@app.main()  # type: ignore[untyped-decorator]
def main(grid: Grid, context: Context) -> None:
    """Runs the federation's remaining rounds; if it is killed, the next run continues."""
    federation = Federation.open(Path(str(context.run_config["state"])))
    base, data, site = federation.base, context.run_config.get("data"), context.run_config.get("site")
    work = Twins(str(data), federation.plan, base.elm, base.name) if data else Site(Path(str(site)))
    federation.ended = ""
    strategy = FleetStrategy(federation, work, _teller(federation))
    strategy.summary()
    try:
        strategy.start(grid)
    except BudgetSpent as error:  # a regular end
        federation.ended = str(error)
    except Exception as error:
        federation.ended = str(error) or repr(error)
        raise
    finally:
        log(INFO, "Final results:\n%s", result_of(federation))


def _teller(federation: Federation) -> Progress:
    """Logs rounds in Flower's form, so that `flwr log` shows them."""

    def tell(done: int, total: int, what: str) -> None:
        rounds = federation.rounds
        log(INFO, "[ROUND %s/%s] %s", done, total, what)
        if rounds and done == len(rounds):
            log(INFO, "\t└──> Aggregated MetricRecord: %s", metrics_of(rounds[-1]))

    return tell
