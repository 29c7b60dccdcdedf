"""Complete demonstrations: `edgelora demo`."""

from __future__ import annotations

import argparse
import sys
import webbrowser
from pathlib import Path

from edgelora.base.streams import note, say
from edgelora.board.profiles import load_board
from edgelora.core.formats.monitor import MAX_WINDOWS
from edgelora.fleet.privacy import ADJACENCY
from edgelora.learn.machines.machine_base import MACHINE_RECIPE
from edgelora.learn.machines.machine_monitor import Phases
from edgelora.learn.report.fleet_page import mean_of
from edgelora.learn.training.recipe import Recipe
from edgelora.model.datasets.har import HAR_SUBJECTS
from edgelora.model.datasets.keywords import VOICES
from edgelora.model.datasets.text import AUTHORS, TRAIN_CHARACTERS

from .arguments import add_board, add_port, show, whole
from .command_line import Add
from .console import emit
from .demo import demo_har, demo_keywords
from .exit_codes import ExitCode
from .recipe_arguments import add_recipe, recipe_of
from .runs import exit_code, print_report

DEMOS = "Complete demonstrations: each step does what its own command does."
PHASES = {  # of `Phases`, in windows of 4.9 s
    "scale": "windows for the spread of each value",
    "learn": "windows for the adapter, of which the last quarter validates it",
    "residuals": "windows for the spread of the residuals",
    "threshold": "windows for the threshold",
}
DEMO_RECIPE = Recipe(epochs=4, on_board=True)  # enough to show; an emulated board takes its time
KEYWORDS_RECIPE = Recipe(
    rank=4, placement="pointwise", epochs=8, learning_rate=14000, momentum=2, on_board=True
)  # as `bench learning kws` has it
ONE_IN = "one normal window in N may be above the threshold (%(default)s)"


def add_commands(add: Add) -> None:
    add = add.group("demo", "Runs a complete demonstration", DEMOS)
    p = add("har", cmd_demo)
    add_board(p, "virtual-pico", "a virtual board, or a real one (%(default)s)")
    p.add_argument(
        "--subject",
        type=int,
        default=3,
        choices=HAR_SUBJECTS,
        help="the person to adapt to (%(default)s)",
    )
    p.add_argument("-o", "--output", type=Path, default=Path("out/har"), help="output folder (%(default)s)")
    add_recipe(p, DEMO_RECIPE)
    add_port(p)
    p = add("machine", cmd_demo_machine)
    add_board(p, "virtual-pico", "a virtual board, or a real one (%(default)s)")
    p.add_argument("--machine", type=whole(0, 10**6), default=200, help="the simulated machine's number (%(default)s)")
    for name, what in PHASES.items():
        default = getattr(Phases, name)
        flag = f"--{name}-windows"
        p.add_argument(flag, type=whole(2, MAX_WINDOWS), default=default, metavar="N", help=f"{what} (%(default)s)")
    p.add_argument("--one-in", type=whole(2, MAX_WINDOWS + 1), default=Phases.one_in, metavar="N", help=ONE_IN)
    p.add_argument("-o", "--output", type=Path, default=Path("out/machine"), help="output folder (%(default)s)")
    add_recipe(p, MACHINE_RECIPE)
    add_port(p)
    p.epilog = "The vibration is simulated: this shows how a board learns, not how a real machine behaves."
    p = add("keywords", cmd_demo_keywords)
    add_board(p, "virtual-pico", "a virtual board, or a real one (%(default)s)")
    p.add_argument("--voice", default="slt", choices=tuple(VOICES), help="the voice to adapt to (%(default)s)")
    p.add_argument("-o", "--output", type=Path, default=Path("out/keywords"), help="output folder (%(default)s)")
    add_recipe(p, KEYWORDS_RECIPE)
    add_port(p)
    p = add("keyboard", cmd_demo_keyboard)
    add_board(p, "virtual-pico", "a virtual board, or a real one (%(default)s)")
    p.add_argument("--owner", default="ronald_reagan", choices=AUTHORS, help="whose text is typed (%(default)s)")
    p.add_argument("--other", default="john_f_kennedy", choices=AUTHORS, help="who types in turn (%(default)s)")
    p.add_argument(
        "--characters",
        type=whole(4096, TRAIN_CHARACTERS),
        default=16384,
        metavar="N",
        help="how many of the owner's first characters are typed: 16384 take some minutes (%(default)s)",
    )
    p.add_argument("-o", "--output", type=Path, default=Path("out/keyboard"), help="output folder (%(default)s)")
    add_port(p)
    p = add("fleet", cmd_demo_fleet)
    p.add_argument("--boards", nargs="+", default=["unix", "unix"], metavar="BOARD", help="virtual boards (unix unix)")
    p.add_argument("--twins", type=whole(1, 1000), default=30, help="additional simulated boards (%(default)s)")
    p.add_argument("--rounds", type=whole(1, 1000), default=3, help="number of rounds (%(default)s)")
    p.add_argument("-o", "--output", type=Path, default=Path("out/fleet"), help="output folder (%(default)s)")
    p.epilog = (
        "It needs Flower: pip install 'edgelora[fleet]'; in a checkout `make fleet`, then .build/fleet/bin/edgelora."
    )


def cmd_demo(args: argparse.Namespace) -> ExitCode:
    """Recognizes activities from a watch's motion sensor.

    All steps: pretrain, quantize, plan, build, flash, personalize on the board, report.
    """
    recipe = recipe_of(args, DEMO_RECIPE)
    port = args.port or (None if load_board(args.board).is_virtual else args.usual_port)
    report, path = demo_har(args.board, args.subject, recipe, args.output, port, quiet=args.json)
    return print_report(args, report, path)


def cmd_demo_machine(args: argparse.Namespace) -> ExitCode:
    """Learns the vibration of one machine, and monitors it.

    The base is pretrained on 40 other machines. The board gets a stream of raw accelerometer counts: it computes
    features, trains an adapter, sets its own threshold, and scores each window.
    """
    from .demo_machine import demo_machine

    phases = Phases(**{name: getattr(args, f"{name}_windows") for name in PHASES}, one_in=args.one_in)
    recipe = recipe_of(args, MACHINE_RECIPE)
    port = args.port or (None if load_board(args.board).is_virtual else args.usual_port)
    report, path = demo_machine(args.board, args.machine, recipe, phases, args.output, port, quiet=args.json)
    code = exit_code(report.host_twin_identical, report.activated)
    if args.json:
        emit(report.as_json() | {"report": str(path)})
        return code
    own, base = report.methods["lora_residual"], report.methods["base_residual"]
    say(f"AUC {base.auc:.3f} -> {own.auc:.3f}: {report.verdict}  (Mahalanobis {report.methods['mahalanobis'].auc:.3f})")
    say(f"normal windows above the threshold: {report.false_alarms:.1%}, aimed at {1 / report.one_in:.1%}")
    say(f"false alarms in {24 * report.days:.1f} hours: {report.alarms}")
    say(f"host twin identical: {'yes' if report.host_twin_identical else 'NO'}")
    say(f"a window: {report.window_us / 1000:.1f} ms; adapter and record {report.adapter_bytes} bytes")
    say(f"report: {path}")
    return code


def cmd_demo_keyboard(args: argparse.Namespace) -> ExitCode:
    """Suggests words while somebody types, and learns theirs.

    A language model of characters goes on the board. An owner's text is typed over the link; the board learns between
    keystrokes, and uses what it learned once that is better on text it held out. Then two owners type in turn.
    """
    from edgelora.learn.report.words_page import name_of

    from .demo_keyboard import demo_keyboard

    port = args.port or (None if load_board(args.board).is_virtual else args.usual_port)
    report, path = demo_keyboard(
        args.board, args.owner, args.other, args.characters, args.output, port, quiet=args.json
    )
    code = exit_code(report.host_twin_identical, report.activated)
    if args.json:
        emit(report.as_json() | {"report": str(path)})
        return code
    before, after = report.before.own, report.after.own
    float_lora, once = report.after.float_lora, report.repeated
    say(f"on later text of {name_of(report.owner)}, before and after {report.after.characters:,} characters:")
    say(f"bits a character {before['bits']:.3f} -> {after['bits']:.3f}  (float LoRA {float_lora['bits']:.3f})")
    say(f"next character among three {before['three']:.1%} -> {after['three']:.1%}")
    say(f"words completed after two letters {before['words']:.1%} -> {after['words']:.1%}")
    say(
        f"{once.characters:,} characters learned {once.times} times on the host twin: {once.trained:.3f} bits a "
        f"character; {once.in_use:.3f} by what the guard keeps in use"
    )
    say(f"host twin identical: {f'NO: they differ in {report.difference}' if report.difference else 'yes'}")
    kept = {True: "yes", False: "NO", None: "there is none"}[report.kept_over_reset]
    say(f"adapter kept over a reset: {kept}")
    say(
        f"arenas {report.arena_bytes} bytes, adapter {report.adapter_bytes} bytes, "
        f"{report.heap_free} bytes of heap left"
    )
    window = "" if report.train_step_us is None else f", learning a window {report.train_step_us / 1000:.0f} ms"
    say(f"a key with suggestions {report.key_us / 1000:.1f} ms{window}")
    say(report.clock)
    say(f"report: {path}")
    if code is ExitCode.DIFFERS:
        note("edgelora: what is said of text is the host twin's: install this version's firmware on the board")
    elif code is ExitCode.NOT_ACTIVATED:
        note("edgelora: no adapter was better than the base on held-out windows: give more text with --characters")
    return code


def cmd_demo_fleet(args: argparse.Namespace) -> None:
    """Federated learning with masks and noise.

    Virtual boards and twins take part over a real SuperLink. Enrolled in a signed roster, they train on their own
    samples, clip, and add noise and masks; the server only sees sums. The page opens at the end.
    """
    from .demo_fleet import demo_fleet

    demo = demo_fleet(args.boards, args.twins, args.rounds, args.output, args.json)
    before, after = mean_of(demo.before), mean_of(demo.after)
    epsilons, last = demo.federation.epsilons, demo.federation.rounds[-1]
    result = {
        "before": before,
        "after": after,
        "boards": demo.federation.plan.boards,
        "survivors": last.survivors,
        "outsider": epsilons.outsider,
        "server": epsilons.server,
        "adjacency": ADJACENCY,
        "sha256": demo.federation.sha256,
        "report": str(demo.page),
    }
    text = f"accuracy {before:.1%} -> {after:.1%}, mean of {demo.federation.plan.boards} boards\n"
    text += f"epsilon: {epsilons} ({ADJACENCY})\nreport: {demo.page}"
    show(args, result, text)
    if not args.json and sys.stdout.isatty():
        webbrowser.open(demo.page.resolve().as_uri())


def cmd_demo_keywords(args: argparse.Namespace) -> ExitCode:
    """Recognizes spoken words, adapted to one voice.

    Like `demo har`, from sound: the link carries sound as from a microphone, the board's front end makes samples of
    it, and the board trains on its own. After a reset it is tested on held-out words.
    """
    recipe = recipe_of(args, KEYWORDS_RECIPE)
    port = args.port or (None if load_board(args.board).is_virtual else args.usual_port)
    report, path = demo_keywords(args.board, args.voice, recipe, args.output, port, quiet=args.json)
    return print_report(args, report, path)
