"""Every op, drawn from everything that models may have, gives the same bytes everywhere.

Fast kernels = plain kernels = the NumPy reference = TensorFlow Lite Micro (forward, where a `.tflite` file can express
the op), on every core that can be emulated here and, under sanitizers, on this machine. A full run draws new ops on
all cores: hypothesis shrinks a failing op and prints it; such ops are then added to FIXED. Other runs have the same
ops each time, on five cores.
"""

from __future__ import annotations

import itertools
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import fresh
import hypothesis
import numpy as np
import pytest
from class_cases import INPUTS, small_base
from drawn_runs import VARIANTS, Runs, runs_of
from fresh import FULL, SEED, fresh_seeds, slow, some
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from member_calls import round_of_a_board
from random_models import (
    random_adapter,
    random_frames,
    random_input,
    random_model,
    random_ranks,
    random_sample,
    random_target,
    ranks_of,
)
from random_ops import DrawnOp, drawn_op
from random_transformers import LONGEST, Sizes, language_model, random_transformer

from benchmarks.kernels import SHAPES
from benchmarks.networks import network
from edgelora.base.resources import ROOT
from edgelora.core.formats.ela import pack_adapter, unpack_adapter
from edgelora.core.formats.elm import base_id, pack_model, unpack_model
from edgelora.core.formats.network import Tensor
from edgelora.core.front_ends import AudioFrontEnd, SpectralFrontEnd
from edgelora.core.twin.session import Session

sys.path.insert(0, str(ROOT / "tools"))

from cores import (  # noqa: E402
    CORES,
    CORTEX_M0PLUS,
    CORTEX_M33,
    HOST,
    MPS2_CORTEX_M33,
    MPS3_CORTEX_M55,
    RV32,
    SANITIZED,
    SESSION_CALLS,
    VIRT_RV32,
    Answers,
    Calls,
    Machine,
    Program,
)

tflite_writer = pytest.importorskip("tflite_writer")

GOLDEN = sorted((ROOT / "tests" / "golden").glob("*.txt"))
TESTED = CORES if FULL else (HOST, SANITIZED, CORTEX_M0PLUS, CORTEX_M33, RV32)
OPS = 2500 if FULL else 60
TRANSFORMERS = 2000 if FULL else 30
MACHINES = {MPS2_CORTEX_M33: 2, MPS3_CORTEX_M55: 16, VIRT_RV32: 1}  # products of an instruction, at most
# height and width, channels, heads, heads of keys, channels of a head, symbols
ATTENDED = (
    Sizes(2, 1, 3, 1, 1, 4, 5),
    Sizes(1, 5, 7, 6, 2, 6, 9),
    Sizes(3, 11, 36, 3, 3, 30, 20),
    Sizes(64, 1, 32, 8, 2, 16, 96),
    Sizes(5, 3, 9, 6, 3, 7, 12),
    Sizes(60, 1, 20, 1, 1, 33, 12),
    Sizes(200, 1, 4, 1, 1, 10, 3),
    LONGEST,
)
FIXED = {
    "visual wake words, first": DrawnOp(
        "conv", (96, 96, 1), (48, 48, 8), (3, 3), (2, 2), tflite=True, alone=True, rank=2
    ),
    "visual wake words, 48": DrawnOp("depthwise", (48, 48, 8), (48, 48, 8), (3, 3), padding=(1, 1), tflite=True),
    "visual wake words, 48 to 24": DrawnOp("depthwise", (48, 48, 16), (24, 24, 16), (3, 3), (2, 2), tflite=True),
    "visual wake words, 24": DrawnOp("depthwise", (24, 24, 32), (24, 24, 32), (3, 3), padding=(1, 1), tflite=True),
    "visual wake words, 24 to 12": DrawnOp("depthwise", (24, 24, 32), (12, 12, 32), (3, 3), (2, 2), tflite=True),
    "visual wake words, 12": DrawnOp("depthwise", (12, 12, 64), (12, 12, 64), (3, 3), padding=(1, 1), tflite=True),
    "visual wake words, 6": DrawnOp("depthwise", (6, 6, 128), (6, 6, 128), (3, 3), padding=(1, 1), tflite=True),
    "visual wake words, 3": DrawnOp("depthwise", (3, 3, 256), (3, 3, 256), (3, 3), padding=(1, 1), tflite=True),
    "one row too wide for four planes": DrawnOp(
        "depthwise", (1, 253, 4), (1, 253, 4), (3, 3), padding=(1, 1), tflite=True
    ),
    "average of more than fit a reciprocal": DrawnOp("average_pool", (21, 23, 5), (2, 4, 5), (20, 20)),
    "average of words, in blocks of rows": DrawnOp("average_pool", (22, 26, 8), (3, 3, 8), (20, 22)),
    "average under alike windows": DrawnOp("average_pool", (12, 9, 4), (4, 3, 4), (3, 3), (3, 3)),
    "maximum of four and more": DrawnOp("max_pool", (9, 8, 7), (4, 3, 7), (3, 3), (2, 2)),
    "mean of more than fit 16 bits": DrawnOp("mean", (20, 30, 8), (1, 1, 8)),
    "dense, rows of A in parts": DrawnOp("dense", (1, 1, 1100), (1, 1, 9), alone=True, rank=8, trainable_a=True),
    "dense, words of B": DrawnOp("dense", (1, 1, 30), (1, 1, 50), alone=True, rank=4),
    "conv, windows as they lie": DrawnOp("conv", (1, 40, 6), (1, 20, 16), (1, 5), (1, 2), padding=(0, 1), rank=3),
    "conv, windows and what lies before them": DrawnOp(
        "conv", (3, 40, 6), (3, 20, 13), (1, 5), (1, 2), padding=(0, 1), tflite=True
    ),
    "conv, B behind 64 inputs": DrawnOp("conv", (3, 3, 64), (3, 3, 12), rank=4, trainable_a=True),
    "conv, two groups of B behind 64 inputs": DrawnOp("conv", (3, 3, 64), (3, 3, 12), rank=7, trainable_a=True),
    "conv, inputs that one row of a frozen A looks at": DrawnOp("conv", (5, 5, 16), (5, 5, 12), rank=4),
    "conv, errors of which most are 0": DrawnOp("conv", (5, 5, 96), (5, 5, 32), rank=4),
    "conv, sparse errors and a dense A": DrawnOp("conv", (5, 5, 32), (5, 5, 32), rank=4, trainable_a=True),
    "conv, windows of sparse errors": DrawnOp(
        "conv", (1, 50, 16), (1, 17, 24), (1, 5), (1, 3), padding=(0, 1), rank=8, trainable_a=True, seed=2
    ),
    "conv, windows of sparse errors, over all edges": DrawnOp(
        "conv", (6, 5, 16), (4, 7, 28), (3, 4), (2, 1), (2, 1), (3, 2), rank=4, trainable_a=True
    ),
    "conv, windows of sparse errors, without an adapter": DrawnOp(
        "conv", (5, 7, 12), (3, 4, 70), (2, 2), (2, 2), seed=2
    ),
    "conv, one position beside quads": DrawnOp("conv", (3, 3, 20), (3, 3, 8), (3, 3), padding=(1, 1), rank=8),
    "conv, an odd number of outputs": DrawnOp("conv", (5, 3, 12), (5, 3, 7), tflite=True),
    "conv, t of 16 rows side by side": DrawnOp(
        "conv", (4, 37, 16), (4, 37, 20), (3, 3), padding=(1, 1), rank=7, trainable_a=True
    ),
    "visual wake words, pointwise": DrawnOp("conv", (24, 24, 16), (24, 24, 32), rank=4, tflite=True),
    # backward: a convolution of stride 1 for each phase of the strides, tiles of the gradients, pairs of rows
    "phases of stride 2": DrawnOp(
        "conv", (9, 11, 16), (5, 6, 12), (3, 3), (2, 2), padding=(1, 1), rank=4, trainable_a=True
    ),
    "phases of stride 3, along one axis": DrawnOp(
        "conv", (1, 50, 16), (1, 17, 24), (1, 5), (1, 3), padding=(0, 1), rank=8, trainable_a=True
    ),
    "phases of stride 4, dilations of common divisors": DrawnOp(
        "conv", (17, 10, 6), (4, 3, 5), (3, 2), (4, 4), (2, 6), (2, 3), rank=3, trainable_a=True
    ),
    # gradients of A: rows of the input packed once for all runs of a kernel, outer products
    "rows of the input for all runs": DrawnOp("conv", (10, 10, 16), (8, 8, 12), (3, 3), rank=4, trainable_a=True),
    "runs that no output reads": DrawnOp(
        "conv", (4, 16, 5), (4, 8, 6), (9, 3), (1, 2), padding=(4, 1), rank=3, trainable_a=True
    ),
    "runs apart": DrawnOp(
        "conv", (9, 12, 6), (9, 12, 7), (3, 3), dilation=(2, 1), padding=(2, 1), rank=2, trainable_a=True
    ),
    "outer products, ones, twos and fours": DrawnOp("dense", (1, 1, 207), (1, 1, 11), rank=7, trainable_a=True),
    "phases that no output reads": DrawnOp("conv", (12, 12, 8), (3, 3, 8), (1, 2), (4, 4), rank=2),
    "lopsided": DrawnOp("conv", (40, 2, 7), (13, 2, 9), (7, 1), (3, 1), padding=(2, 0), rank=5, trainable_a=True),
    "gradient of A in tiles": DrawnOp(
        "conv", (12, 12, 20), (12, 12, 8), (3, 3), padding=(1, 1), rank=8, trainable_a=True
    ),
    # weights that are read ahead: a row a block, blocks and a rest, behind an adapter
    "dense, a row a block": DrawnOp("dense", (1, 1, 1500), (1, 1, 7), tflite=True, alone=True),
    "dense, blocks of three rows": DrawnOp("dense", (1, 1, 640), (1, 1, 13), tflite=True),
    "dense, blocks behind an adapter": DrawnOp("dense", (1, 1, 128), (1, 1, 65), rank=5, trainable_a=True),
    "dense in tiles": DrawnOp("dense", (1, 1, 200), (1, 1, 70), rank=8, trainable_a=True),
    "one multiplier for many positions": DrawnOp("multiply", (2, 1, 4), (2, 1, 4), source2=(2, 1, 4), known=True),
    "one multiplier for words": DrawnOp("multiply", (6, 5, 8), (6, 5, 8), source2=(6, 5, 8)),
    "dense of odd rows": DrawnOp("dense", (1, 1, 63), (1, 1, 21), rank=3, trainable_a=True),
}


@pytest.fixture(scope="module")
def programs() -> Iterator[list[Program]]:
    made = [Program(core) for core in TESTED]
    yield made
    for program in made:
        program.close()


def check(programs: list[Program], drawn: DrawnOp) -> None:
    """All cores agree on the op's outputs and, if errors pass through it, on the result of training."""
    runs = runs_of(drawn)
    if drawn.tflite:
        tflm = tflite_writer.TflmModel(tflite_writer.write_tflite(runs.model))
        for x, y in zip(runs.x, runs.y, strict=True):
            assert tflm(x).tobytes() == y, "TensorFlow Lite Micro has another output"
    check_runs(programs, runs)


def check_runs(programs: list[Program], runs: Runs) -> None:
    for program in programs:
        answers = program.run(runs.calls)
        differ = [name for name, a, b in zip(runs.calls.names, answers, runs.answers, strict=True) if a != b]
        assert not differ, f"{program.core.name} gives other answers to {differ}"


def check_named(programs: list[Program], drawn: DrawnOp) -> None:
    """Runs `check`; a failure names the op."""
    try:
        check(programs, drawn)
    except AssertionError as error:
        error.add_note(repr(drawn))
        raise


@st.composite
def drawn_ops(draw: Callable) -> DrawnOp:
    return drawn_op(lambda low, high: draw(st.integers(low, high)), draw(st.booleans()))


def test_drawn_ops(programs: list[Program], record_property: Callable) -> None:
    kinds: Counter[str] = Counter()

    @hypothesis.seed(SEED)
    @settings(max_examples=OPS, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(drawn_ops())
    def run(drawn: DrawnOp) -> None:
        check(programs, drawn)
        kinds[drawn.kind] += 1

    run()
    assert kinds.total() >= OPS
    record_property("drawn ops", kinds.total())


def test_drawn_transformers(programs: list[Program], record_property: Callable) -> None:
    for seed in range(SEED, SEED + TRANSFORMERS):
        model = random_transformer(seed, edges=seed % 3 == 0)
        ranks = random_ranks(np.random.default_rng(seed), model)
        runs = Runs(model, ranks, seed, trainable_a=seed % 2 == 0)
        try:
            check_runs(programs, runs)
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise
    record_property("drawn transformers", TRANSFORMERS)


@pytest.mark.parametrize("causal", [True, False], ids=lambda causal: "causal" if causal else "all rows")
@pytest.mark.parametrize("sizes", some(ATTENDED, 4), ids=lambda sizes: f"{sizes.rows}-{sizes.heads}-{sizes.head}")
def test_attention_within_vectors_and_across(programs: list[Program], sizes: Sizes, causal: bool) -> None:
    """Rows, heads and channels that fill no vector, one, or many; one head, and keys of several."""
    seed = fresh_seeds(1)[0]
    model = random_transformer(seed, sizes, edges=seed % 2 == 0)
    for op in model.ops:
        op.causal = causal and op.kind == "attend"
    check_runs(programs, Runs(model, random_ranks(np.random.default_rng(seed), model), seed))


@pytest.mark.parametrize("name", FIXED)
def test_fixed_ops(programs: list[Program], name: str) -> None:
    check(programs, FIXED[name])


@pytest.mark.parametrize(("same", "stride"), some([*itertools.product([True, False], [1, 2])]))
def test_depthwise_of_every_width(programs: list[Program], same: bool, stride: int, record_property: Callable) -> None:
    """Strips of 3x3 kernels split a row into columns: all widths up to 70, with heights of one strip and more."""
    rng = np.random.default_rng(SEED)
    for width in range(3, 71):
        height, channels = int(rng.integers(3, 30)), int(rng.integers(1, 4))
        size = (height, width)
        out = [-(-n // stride) if same else (n - 3) // stride + 1 for n in size]
        before = [max(0, (o - 1) * stride + 3 - n) // 2 if same else 0 for o, n in zip(out, size, strict=True)]
        shapes = (*size, channels), (*out, channels)
        op = DrawnOp(
            "depthwise",
            *shapes,
            (3, 3),
            (stride, stride),
            padding=tuple(before),
            tflite=True,
            seed=int(rng.integers(2**32)),
        )
        check_named(programs, op)
    record_property("drawn ops", 68)


def test_depthwise_strips_behind_the_input(programs: list[Program]) -> None:
    """The last strip of columns begins after the end of the row: it has padding alone."""
    check(programs, DrawnOp("depthwise", (17, 29, 3), (4, 17, 15), (3, 3), (5, 2), padding=(2, 1), shift=2, seed=1))


def test_depthwise_of_any_stride_and_padding(programs: list[Program], record_property: Callable) -> None:
    """3x3 kernels whose windows start before the input or end after it, with several outputs per channel."""
    rng = np.random.default_rng(fresh.SEED)
    count = 60 if FULL else 30
    for _ in range(count):
        channels, times = int(rng.integers(1, 6)), int(rng.choice([1, 1, 2, 5]))
        stride = int(rng.choice([1, 1, 2, 3, 5])), int(rng.choice([1, 2]))
        size, before = rng.integers(1, 34, 2), rng.integers(0, 4, 2)
        out = [int(rng.integers(1, max(2, (n + p + 4) // s + 1))) for n, p, s in zip(size, before, stride, strict=True)]
        op = DrawnOp(
            "depthwise",
            (int(size[0]), int(size[1]), channels),
            (out[0], out[1], channels * times),
            (3, 3),
            stride,
            padding=(int(before[0]), int(before[1])),
            shift=int(rng.integers(4)),
            seed=int(rng.integers(2**32)),
        )
        check_named(programs, op)
    record_property("drawn ops", count)


@pytest.fixture(params=range(len(TESTED)), ids=[core.name for core in TESTED])
def program(request: pytest.FixtureRequest, programs: list[Program]) -> Program:
    return programs[request.param]


def unhexed(text: str) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(text), np.int8)


def golden_calls(path: Path) -> tuple[Calls, Answers]:
    """The calls of a golden file, and their expected answers."""
    calls, expected, elm, model = Calls(), Answers(), b"", None
    lines = path.read_text().splitlines()
    sample = next(line.split()[-1] for line in lines if line.startswith("step"))
    for line in lines:
        kind, *values = line.split()
        if kind == "elm":
            elm = bytes.fromhex(values[0])
            model = unpack_model(elm)
        elif kind == "run":
            micro_batch, rate = int(values[2]), int(values[4])
        elif kind == "start":
            start = bytes.fromhex(values[0])
            adapter = unpack_adapter(start, model, base_id(elm))
            ranks = ranks_of(model, {layer.op: layer.rank for layer in adapter.layers})
            mode = "trainable_a" if adapter.trainable_a else "frozen_a"
            frames = len(unhexed(sample)) // model.input.size
            calls.open(elm, ranks, mode, micro_batch, adapter.momentum, adapter.threshold, frames)
            calls.load(start)
            expected += [0, 0]
        elif kind == "step":
            target, loss, _, x = values
            label = model.loss == "cross_entropy" and not model.learns_sequences
            calls.train(unhexed(x), int(target) if label else unhexed(target), rate)
            expected.append(int(loss))
        elif kind == "final":
            calls.flush(rate)
            calls.save(state=True)
            expected += [0, bytes.fromhex(values[0])]
    return calls, expected


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_runs(program: Program, path: Path) -> None:
    calls, expected = golden_calls(path)
    assert len(expected) > 80
    assert program.run(calls) == expected


@pytest.mark.parametrize(("count", "parameters"), [(2, 1), (6, 100), (12, 1024)])
def test_a_member_of_a_fleet_answers_as_the_twin_does(program: Program, count: int, parameters: int) -> None:
    """With one neighbour, with all others as neighbours, and with some of them."""
    (seed,) = fresh_seeds(1)
    recorded = round_of_a_board(seed, count, parameters)
    assert program.run(recorded.calls) == recorded.answers, f"seed {seed}"


@pytest.mark.parametrize("seed", fresh_seeds(2))
def test_features_are_the_twins(program: Program, seed: int) -> None:
    rng, calls, expected = np.random.default_rng(seed), Calls(), Answers()
    grid = Tensor((1, 1, 40), float(np.float32(2.0 ** rng.uniform(-8, 2))), int(rng.integers(-128, 128)))
    raw, scaled = (0, 0, 0), (2, int(np.float32(grid.scale).view(np.uint32)), grid.zero_point & 0xFFFFFFFF)
    sounds = ((AudioFrontEnd(), raw), (AudioFrontEnd("firmware"), (1, 0, 0)), (AudioFrontEnd(grid), scaled))
    shaken = ((SpectralFrontEnd(3, 1), raw), (SpectralFrontEnd(3, 1, to=grid), scaled))
    for kind, steps, settings_of, fronts in (("audio", 12, (), sounds), ("spectral", 16, (3, 1, 8), shaken)):
        for front, how in fronts:
            shape = (steps * front.window * front.channels,)
            samples = (rng.integers(-32768, 32768, shape) >> rng.integers(0, 12)).astype(np.int16)
            calls.front_end(kind, (*settings_of, *how), samples)
            expected.append(front.feed(samples).tobytes())
    assert program.run(calls) == expected and all(expected)


@pytest.mark.parametrize("seed", fresh_seeds(2))
def test_all_uses_of_a_sample_are_the_same_on_every_core(programs: list[Program], seed: int) -> None:
    """Evaluation, features, classes and blended adapters, for a random network, a transformer and one with room for
    classes."""
    for model in (random_model(seed), random_transformer(seed), small_base(np.random.default_rng(seed))):
        rng, calls = np.random.default_rng(seed), Calls()
        frames = random_frames(rng, model)
        calls.open(pack_model(model), ranks_of(model, random_ranks(rng, model)), "trainable_a", 2, frames=frames)
        calls.begin(seed)
        calls.train(random_sample(rng, model, frames), random_target(rng, model), 9000)
        for what in SESSION_CALLS:
            calls.session(what, random_sample(rng, model, frames), random_target(rng, model))
        calls.save(state=True)
        expected, *others = (program.run(calls) for program in programs)
        assert all(other == expected for other in others)
        assert expected[:3] >= [0, 0, 0] and all(isinstance(one, bytes) for one in expected[3:])
        row = expected[3 + SESSION_CALLS.index("classes")]
        assert (len(row) > 4 + 2 * INPUTS) == (model.class_stats is not None)


@pytest.mark.parametrize("sizes", [None, Sizes(9, 1, 64, 4, 2, 16, 80)], ids=("small", "weights read ahead"))
@pytest.mark.parametrize("known", [False, True], ids=lambda known: "constants too" if known else "computed")
def test_decoding_is_inference_of_the_window_on_every_core(
    programs: list[Program], known: bool, sizes: Sizes | None
) -> None:
    """Row by row, with an adapter in use and without; symbols drawn to follow are the same everywhere."""
    for seed in fresh_seeds(2):
        rng, model = np.random.default_rng(seed), language_model(seed, sizes, known)
        ranks = ranks_of(model, random_ranks(rng, model))
        files = {i: rank for i, rank in enumerate(ranks) if rank}
        adapters = (None, pack_adapter(random_adapter(rng, model, True, ranks=files)) if files else None)
        ids = rng.integers(0, model.output.shape[2], model.input.shape[0])
        calls, expected = Calls(), []
        whole, decoding = Session(pack_model(model), ranks, "infer"), Session(pack_model(model), ranks, "decode")
        for adapter, (plain, cores) in itertools.product(adapters, VARIANTS):
            calls.open(pack_model(model), ranks, "decode", plain=plain, cores=cores)
            for session in (whole, decoding, calls):
                session.use(adapter)
            decoding.reset()
            calls.session("reset", np.zeros(whole.input_size, np.int8), 0)
            whole.infer(ids.astype(f"<u{model.input.shape[2]}").view(np.int8))
            for symbol, row in zip(ids, whole.logits.reshape(len(ids), -1), strict=True):
                calls.session("next", np.zeros(whole.input_size, np.int8), symbol)
                words = decoding.next(int(symbol)), decoding.choose(300 / 256, int(symbol), 5)
                expected.append(struct.pack("<2i", *words) + row.tobytes())
        for program in programs:
            answers = program.run(calls)
            decoded = [a for a, kind in zip(answers, calls.kinds, strict=True) if kind == "session next"]
            assert decoded == expected, program.core.name


@slow
@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_instructions_are_counted(machine: Machine, tmp_path: Path) -> None:
    """Counts the benchmark's kernels on emulated boards, as `bench kernels --cores` does."""
    calls = Calls()
    for shape in SHAPES:
        model = network([shape])
        x = random_input(np.random.default_rng(1), model)
        for plain in (False, True):
            calls.open(pack_model(model), b"\0", "infer", plain=plain)
            calls.infer(x)
            calls.count(x, 0, 1)
    answers = machine.run(calls, machine.build(tmp_path))
    for k, shape in enumerate(SHAPES):
        fast, plain = answers[6 * k : 6 * k + 3], answers[6 * k + 3 : 6 * k + 6]
        assert fast[:2] == plain[:2], shape
        assert min(fast[2], plain[2]) > shape.macs / MACHINES[machine], shape


def test_a_program_that_dies_is_started_anew() -> None:
    program, calls = Program(SANITIZED), Calls()
    calls.infer(np.zeros(4, np.int8))  # without a session
    with pytest.raises(RuntimeError, match="sanitizers: the program died"):
        program.run(calls)
    again = Calls()
    again.open(b"no model", b"", "infer")
    assert program.run(again)[0] < 0
    program.close()


def test_a_run_that_is_interrupted_is_not_answered_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A timeout while a program answers: the next run gets its own answers."""
    program, again = Program(SANITIZED), Calls()
    again.open(b"no model", b"", "infer")

    def interrupted(pipe: object, size: int) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("cores._read", interrupted)
        program.run(Calls())
    assert program.run(again)[0] < 0
    program.close()
