"""Commands of a federation: create, simulate, run, show."""

from __future__ import annotations

import argparse
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from shlex import quote

from edgelora.base.errors import InputError, MissingPackage
from edgelora.base.streams import say
from edgelora.fleet import deployment as fleet_deployment
from edgelora.fleet import policy, privacy
from edgelora.fleet.collusion import abandoned
from edgelora.fleet.deployment import Deployment, DeploymentError, address_of, write_project
from edgelora.fleet.federation import Federation
from edgelora.fleet.messages import Task, thresholds
from edgelora.fleet.plan import NOISY, RATES, Plan
from edgelora.fleet.policy import SAFE
from edgelora.fleet.privacy import ADJACENCY, BudgetSpent, Epsilons
from edgelora.fleet.roster import Site
from edgelora.fleet.simulate import ENGINES, simulate, write_page
from edgelora.fleet.simulated_boards import fleet_base
from edgelora.fleet.web import GatewayClient
from edgelora.learn.report.fleet_page import mean_of
from edgelora.learn.training.data.base import load_base

from . import console
from .arguments import show, whole
from .command_line import Add

DROPOUTS = 0.2  # of a cohort's boards, for what a plan tells
STOPPED = "stopped; completed rounds are saved: repeat the command to continue"
PLAN = {
    "rounds": "rounds of the federation",
    "epochs": "epochs that a board trains in a round",
    "rate": "learning rate of the first round; it falls to 0 over rounds",
    "rank": "rank of the adapters",
    "server_rate": "share of the average update that moves the global adapter, in 1/256",
    "server_momentum": "momentum of the server's steps, in 1/256",
    "share": "chance that a board is sampled in a round",
    "clip": "largest norm of an update, in masters",
    "noise": "noise of a sum, in clips: z of differential privacy",
    "least": "fewest boards whose sum is opened",
    "cohort": "most boards of one sum; more sampled boards make several sums",
    "colluders": "boards of a cohort that may collude with the server",
    "delta": "delta of (epsilon, delta) privacy",
    "budget": f"largest epsilon, by {ADJACENCY}; 0: no limit",
    "deadline": "seconds that boards have to train in a round",
    "patience": "seconds that boards have for each later message",
    "seed": "seed of all random choices; 0: random",
}


def add_federating(add: Add) -> None:
    """`simulate`, `report`, `status`, `init` and `run` of `edgelora fleet`."""

    def command(name: str, run: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        p = add(name, run)
        p.add_argument("federation", type=Path, help="folder of the federation")
        p.set_defaults(stopped=STOPPED)
        return p

    p = command("simulate", cmd_simulate)
    p.add_argument(
        "--data", default="har", help="har, har-choosing, or a folder of .npz files, one per board (%(default)s)"
    )
    p.add_argument("--base", type=Path, help="the base (.elm) of all boards (that of the named data)")
    p.add_argument("--boards", type=whole(1, 65535), help="number of boards (8)")
    p.add_argument("--engine", choices=ENGINES, default="pool", help="how rounds are run (%(default)s)")
    p.add_argument("--no-accuracy", action="store_true", help="do not measure boards after each round")
    add_plan_settings(p)
    p.epilog = "If the folder holds a federation, it is resumed with its own settings."
    command("report", cmd_report)
    command("status", cmd_status)
    p = command("init", cmd_init)
    p.add_argument("--site", type=Path, help="folder of the fleet whose boards take part")
    p.add_argument("--data", default="", help="simulated boards instead: har, har-choosing, or a folder of .npz files")
    p.add_argument("--base", type=Path, help="the base (.elm) of all boards (that of the named data)")
    p.add_argument("--boards", type=whole(1, 65535), help="number of boards (those of the roster, or 8)")
    p.add_argument("--no-masks", action="store_true", help="send updates unmasked; for experiments only")
    p.add_argument(
        "--address", default="127.0.0.1:9092", metavar="HOST:PORT", help="address of the SuperLink (%(default)s)"
    )
    add_plan_settings(p)
    p = command("run", cmd_run)
    p.add_argument("--start", action="store_true", help="start the SuperLink and SuperNodes here, for this run")
    p.add_argument(
        "--gateway",
        type=Path,
        action="append",
        default=[],
        help="folder of a gateway on this computer; starts one node for each",
    )
    p.add_argument(
        "--nodes", type=whole(1, 64), default=2, help="number of SuperNodes for simulated boards (%(default)s)"
    )
    p.add_argument("--stop", type=int, metavar="RUN", help="stop a run that was started elsewhere")


def add_plan_settings(parser: argparse.ArgumentParser) -> None:
    defaults = Plan()
    by_others = {name: f"{getattr(defaults, name)}; with noise {value}" for name, value in NOISY.items()}
    by_others["rate"] = " or ".join(map(str, RATES.values())) + ", by mode"
    for name, text in PLAN.items():
        default = getattr(defaults, name)
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(default),
            metavar="N",
            help=f"{text} ({by_others.get(name, f'{default:g}')})",
        )
    parser.add_argument(
        "--mode",
        choices=RATES,
        help="adapter mode (trainable_a; with noise frozen_a, a quarter of the values)",
    )


def plan_of(args: argparse.Namespace) -> Plan:
    given = {f.name: v for f in fields(Plan) if (v := getattr(args, f.name, None)) is not None}
    return Plan.suited(**given)


def cmd_simulate(args: argparse.Namespace) -> None:
    """Simulates a federation on this computer, and writes its page.

    Each board trains the global adapter on its own samples, clips the update and adds its noise; the server averages,
    in exact integers. Masks cancel exactly, so none are computed, but epsilon accounts for them. With more boards than
    recordings, each board has some windows of one.

        edgelora fleet simulate out/fleet
        edgelora fleet simulate out/private --boards 1000 --share 0.1 --clip 2000 --noise 2 --least 50
    """
    if (args.federation / "state.json").exists():
        federation = Federation.open(args.federation)
    else:
        base = load_base(args.base) if args.base else fleet_base()
        federation = Federation.create(args.federation, plan_of(args), base)
    ended = ""
    try:
        with console.progress("rounds", args.json) as progress:
            simulate(federation, args.data, args.engine, progress, not args.no_accuracy)
    except BudgetSpent as error:
        ended = str(error)
    path = write_page(federation, args.federation / "report.html", ended)
    _tell(args, federation, path, ended)


def cmd_report(args: argparse.Namespace) -> None:
    """Writes the current page of a federation.

    It shows accuracies only of simulations: real boards do not reveal theirs.
    """
    federation = Federation.open(args.federation)
    ended = federation.ended if federation.done < federation.plan.rounds else ""
    path = write_page(federation, args.federation / "report.html", ended)
    _tell(args, federation, path, ended)


def cmd_status(args: argparse.Namespace) -> None:
    """Shows a federation's progress and remaining budget.

    Epsilons include all federations of the fleet, according to its ledger.
    """
    federation = Federation.open(args.federation)
    standing, plan = federation.standing(), federation.plan
    result = {"rounds": federation.done, "boards": plan.boards, "attempts": len(federation.asked), **standing.as_json()}
    text = f"{federation.done} of {plan.rounds} rounds, {plan.boards} boards\n{_epsilon(standing.epsilons, plan)}\n"
    show(args, result, text + f"left of the budget: {standing.words}")


def _epsilon(epsilons: Epsilons, plan: Plan) -> str:
    return f"epsilon: {epsilons}, at delta {plan.delta:g} ({ADJACENCY})"


def cmd_init(args: argparse.Namespace) -> None:
    """Creates a folder for a federation, with a Flower project.

    It is an ordinary Flower project with EdgeLoRA's apps: `flwr run FOLDER/app` runs it, too.

        edgelora fleet init out/federation --site fleet --base har.elm --noise 1 --clip 2000 --least 6
        edgelora fleet run out/federation --start --gateway gateway
    """
    if bool(args.data) == bool(args.site):
        raise InputError("no boards are given to take part", remedy="give --site FLEET, or --data for twins")
    site = Site(args.site) if args.site else None
    if site:
        active = site.roster().active
        if len(active) < (1 if args.no_masks else 2):
            raise InputError(
                f"{args.site} has {len(active)} boards: a board's update hides among those of others",
                remedy="enroll more with edgelora fleet enroll",
            )
        args.boards = args.boards or len(active)
    plan = plan_of(args)
    if plan.seed and plan.noise:
        raise InputError(
            "the seed decides which boards are sampled, and a given one can be guessed: epsilon would not hold",
            remedy="omit --seed: it is random then",
        )
    plan = replace(plan, masks=not args.no_masks)
    _check_cohorts(plan)
    base = load_base(args.base) if args.base else fleet_base()
    federation = Federation.create(args.federation, plan, base, site)
    app = write_project(args.federation, args.data, args.site, args.address)
    result = {"app": str(app), "address": args.address, "sha256": federation.sha256, **federation.plan.as_json()}
    text = f"{app}: {plan.boards} boards, {plan.rounds} rounds\n"
    with contextlib.suppress(MissingPackage):  # what is begun here may be run elsewhere
        standing = federation.standing()
        planned = privacy.planned(federation.plan, federation.spent, plan.rounds)
        result["planned"] = {"outsider": planned.outsider, "server": planned.server, "adjacency": ADJACENCY}
        result["rounds_within_budget"] = standing.within
        text += f"after all rounds, {_epsilon(planned, plan)}\nthe budget: {standing.words}\n"
    result["refused_by_safe_policy"] = why = policy.refusal(SAFE, _any_task(plan))
    text += f"boards with the safe policy refuse: {why}\n" if why else "boards with the safe policy take part\n"
    if plan.masks:
        result["abandoned"] = lost = _abandoned(plan, DROPOUTS)
        text += f"if {DROPOUTS:.0%} of the boards drop out, {lost:.2g} of the rounds fail\n"
        lying = f"a lying server learns only sums, unless more than {plan.colluders} boards collude with it"
        text += f"{lying}\n"
    show(args, result, text + f"next: edgelora fleet run {quote(str(args.federation))}")


def _any_task(plan: Plan) -> Task:
    """One of the plan's, for whatever base."""
    return plan.task(1, bytes(8), bytes(32), 1)


def _abandoned(plan: Plan, dropouts: float) -> float:
    """The probability that a cohort of the usual size has no sum."""
    return abandoned(plan.usual_cohort, thresholds(_any_task(plan), plan.usual_cohort)[1], dropouts)


def _check_cohorts(plan: Plan) -> None:
    """InputError if no round could have a sum even without drop-outs."""
    if plan.masks and _abandoned(plan, 0.0) == 1:
        raise InputError(
            f"about {plan.usual_cohort} boards are in a cohort, fewer than --least {plan.least} and --colluders "
            f"{plan.colluders} require: no round could have a sum",
            remedy="lower --least or --colluders, or raise --share or --cohort",
        )


def cmd_run(args: argparse.Namespace) -> None:
    """Runs a federation on Flower, and prints each round.

    With --start, a SuperLink and one SuperNode per gateway run here for the duration of the run; otherwise they run
    elsewhere, as FOLDER/flower/config.toml says. Ctrl-C stops the run; the same command resumes it.
    """
    federation = Federation.open(args.federation)
    address = address_of(args.federation)
    if federation.done == federation.plan.rounds and args.stop is None:
        with federation.carried():
            return _tell(args, federation, write_page(federation, args.federation / "report.html"), "")
    if args.stop is None:
        for folder in args.gateway:
            GatewayClient(folder).boards()  # GatewayError: it does not run
    with Deployment(args.federation, int(address.rpartition(":")[2]), address.rpartition(":")[0]) as deployment:
        if args.stop is not None:
            deployment.stop_run(args.stop)
            return show(args, {"stopped": args.stop}, f"run {args.stop} is asked to stop")
        if args.start:
            with console.step("starting Flower", args.json):
                deployment.start(args.gateway, 0 if args.gateway else args.nodes)
        run = deployment.run()
        try:
            with console.progress("rounds", args.json) as progress:
                [federation] = deque(fleet_deployment.federated(deployment, run, progress), 1)
        except KeyboardInterrupt:
            deployment.stop_run(run)
            raise
        ended = federation.ended if federation.done < federation.plan.rounds else ""
        if federation.done < federation.plan.rounds and not deployment.completed(run):
            what = f"run {run} ended after {federation.done} of {federation.plan.rounds} rounds"
            raise DeploymentError(
                what, remedy=ended or f"see {deployment.log('superlink')}; repeat the command to continue"
            )
    path = write_page(federation, args.federation / "report.html", ended)
    _tell(args, federation, path, ended)


def _tell(args: argparse.Namespace, federation: Federation, path: Path, ended: str) -> None:
    rounds, standing, before = federation.rounds, federation.standing(), federation.before
    if not rounds and not ended:
        raise InputError(f"{args.federation} has no round yet", remedy="run some first")
    after = rounds[-1].accuracies if rounds else {}
    result = {
        "rounds": len(rounds),
        "base": mean_of(before),
        "fedavg": mean_of(after),
        "worst": min(after.values(), default=None),
        "sha256": federation.sha256,
        "report": str(path),
        "ended": ended,
        **standing.as_json(),
    }
    if before and after and not args.json:
        worst = min(after.values())
        say(f"accuracy {result['base']:.1%} -> {result['fedavg']:.1%}, worst board {worst:.1%}")
    if ended and not args.json:
        say(ended)
    show(
        args,
        result,
        f"{_epsilon(standing.epsilons, federation.plan)}\nadapter {federation.sha256[:16]}\nreport: {path}",
    )
