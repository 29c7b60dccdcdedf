"""The C core against the independent NumPy reference, bit for bit."""

from __future__ import annotations

import math
import pickle
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import reference
from fresh import fresh_seeds, slow
from numpy.typing import NDArray
from random_models import (
    model_of,
    random_adapter,
    random_frames,
    random_input,
    random_model,
    random_ranks,
    random_sample,
    random_target,
    ranks_of,
)
from random_ops import DrawnOp
from random_transformers import Sizes, language_model, random_transformer
from reference import FORWARD_KINDS

from edgelora.core.formats.ela import Adapter, pack_adapter, unpack_adapter
from edgelora.core.formats.elm import base_id, pack_model
from edgelora.core.formats.envelope import FormatError
from edgelora.core.formats.fixed_point import LOGISTIC_GRID, SOFTMAX_GRID, derive
from edgelora.core.formats.limits import MAX_OPS
from edgelora.core.formats.network import KINDS, LOSSES, TWO_INPUT_KINDS, Op, QuantModel, Tensor, id_bytes
from edgelora.core.twin import binding, device
from edgelora.core.twin import regions as twin_regions
from edgelora.core.twin.binding import MODES, TwinError, check_model
from edgelora.core.twin.regions import LASTING, SCRATCH, Layout, Region
from edgelora.core.twin.seeded_a import seeded_a
from edgelora.core.twin.session import Session

Sample = tuple[np.ndarray, object, int]  # input, target, learning rate
PRODUCTS = ("conv", "squared_difference", "conv", "matmul", "softmax", "matmul")  # as in attention that is not fused


@dataclass
class Case:
    """A random model with a random training configuration, and samples."""

    model: QuantModel
    data: bytes
    ranks: dict[int, int]
    mode: str
    micro_batch: int
    momentum: int
    threshold: int
    frames: int
    samples: list[Sample]

    def session(self, **options) -> Session:
        ranks = ranks_of(self.model, self.ranks)
        options = {"threshold": self.threshold, "frames": self.frames, **options}
        return Session(self.data, ranks, self.mode, self.micro_batch, self.momentum, **options)


def drawn(seed: int, size: str = "small", edges: bool = False, loss: str = "cross_entropy") -> QuantModel:
    """A random model: one in four a transformer, one in eight of PRODUCTS."""
    if seed % 4 == 2:
        return random_transformer(seed, None, edges, loss)
    return random_model(seed, size, PRODUCTS if seed % 8 == 5 else None, False, edges, loss)


def random_case(seed: int, steps: int = 10, loss: str | None = None, size: str = "small") -> Case:
    model = drawn(1000 + seed, size, edges=seed % 3 == 0, loss=loss or LOSSES[seed // 3 % 3])
    return case_of(model, np.random.default_rng(1000 + seed), steps)


def case_of(model: QuantModel, rng: np.random.Generator, steps: int, frames: int | None = None) -> Case:
    frames = frames or random_frames(rng, model)
    return Case(
        model,
        pack_model(model),
        random_ranks(rng, model),
        str(rng.choice(["frozen_a", "trainable_a"])),
        int(rng.integers(1, 5)),
        int(rng.choice([0, 2, 4])),
        int(rng.choice([0, 0, 700, 3000])),
        frames,
        [
            (random_sample(rng, model, frames), random_target(rng, model), int(rng.choice([500, 4000, 65535])))
            for _ in range(steps)
        ],
    )


def trained(session: Session, case: Case, seed: int = 1) -> tuple[list[int], bytes]:
    """The losses of a whole run, and its adapter with state."""
    session.begin(seed)
    losses = [session.train(x, target, rate) for x, target, rate in case.samples]
    session.flush(3000)
    return losses, session.save(state=True)


@pytest.mark.parametrize("size", ["small", "wide"])
def test_forward_equals_reference(size: str) -> None:
    for seed in range(100) if size == "small" else fresh_seeds(40):
        rng = np.random.default_rng(seed)
        model = drawn(seed, size, edges=seed % 3 == 0, loss=LOSSES[seed // 3 % 3])
        data = pack_model(model)
        sessions = [Session(data, bytes(len(model.ops)), "infer", plain=plain) for plain in (False, True)]
        for adapter in [None] + [random_adapter(rng, model, trainable_a=True) for _ in range(2)]:
            file = None if adapter is None else pack_adapter(adapter)
            inputs = [random_input(rng, model) for _ in range(3)]
            held = {}
            expected = [reference.forward(model, x, adapter, held).logits.tolist() for x in inputs]
            for session in sessions:
                session.use(file)
                session.reset()
                for x, logits in zip(inputs, expected, strict=True):
                    session.infer(x)
                    assert session.logits.tolist() == logits, f"seed {seed}"


def check_training(case: Case, seed: int) -> None:
    """Losses and files of a whole run equal the reference's, with and without the kernels of this machine."""
    options = (case.mode == "trainable_a", case.momentum, case.threshold)
    start = reference.fresh_adapter(case.model, case.ranks, seed, base_id(case.data), *options)
    trainer = reference.Trainer(case.model, start, case.micro_batch)
    expected = [trainer.train(x, target, rate) for x, target, rate in case.samples]
    trainer.flush(3000)
    for plain in (False, True):
        session = case.session(plain=plain)
        losses, file = trained(session, case, seed)
        assert losses == expected, f"seed {seed}"
        assert file == pack_adapter(trainer.export()), f"seed {seed}"
        assert session.save() == pack_adapter(trainer.export(state=False))


@pytest.mark.parametrize("first", range(0, 180, 20))
def test_training_equals_reference(first: int) -> None:
    for seed in range(first, first + 20):
        check_training(random_case(seed), seed)


def test_training_of_wide_models_equals_reference() -> None:
    for seed in fresh_seeds(40):
        check_training(random_case(seed, steps=4, size="wide"), seed)


def test_rounded_errors_of_averages_equal_reference() -> None:
    """Also of an odd number of channels, where neighbours under the same windows are rounded differently."""
    odd = 0
    for seed in range(60):
        model = random_model(seed, kinds=("conv", "average_pool", "dense"), edges=False)
        model.rounds = True
        check_training(case_of(model, np.random.default_rng(seed), 3), seed)
        odd += model.tensors[0].shape[2] % 2
    assert odd > 10


@pytest.mark.parametrize("head", [1, 7, 9])
def test_rounded_errors_of_odd_heads_equal_reference(head: int) -> None:
    """Heads whose rows begin at odd places, where errors are rounded the other way."""
    for seed, (heads, shared) in enumerate([(1, 1), (3, 3), (6, 3), (9, 3), (2, 1), (4, 2)]):
        model = random_transformer(seed, Sizes(7, 2, 13, heads, shared, head, 12))
        model.rounds = True
        check_training(case_of(model, np.random.default_rng(seed), 4), seed)


def test_the_deepest_graph_trains_as_the_reference() -> None:
    """Its steps, 0 to 1022, fill their 10 bits; boards and host refuse one op more."""
    case = case_of(random_model(1, kinds=("residual",) * 255 + ("dense",), edges=False), np.random.default_rng(1), 2)
    assert len(case.model.ops) == MAX_OPS == 511
    check_training(case, 1)
    longer = QuantModel([case.model.input, *case.model.tensors], [Op("reshape", 0, 1)], loss=case.model.loss)
    longer.ops += [replace(op, input=op.input + 1, input2=op.input2 + 1, output=op.output + 1) for op in case.model.ops]
    for op in longer.ops:
        op.input2 *= op.kind in TWO_INPUT_KINDS
    with pytest.raises(FormatError, match="512 ops, must be 1 to 511"):
        pack_model(longer)
    forged = bytearray(case.data)
    struct.pack_into("<HH", forged, 24, 513, 512)
    struct.pack_into("<I", forged, 12, zlib.crc32(forged[16:]))
    with pytest.raises(TwinError, match="inconsistent"):
        check_model(bytes(forged))


def placed(layout: Layout, order: Callable[[Region], object]) -> dict[Region, int]:
    """Offsets of a pass's buffers if they are placed in this order, each at the lowest free offset. Scratch is there
    before: that of the forward pass all the time until the loss, that of a backward step while it runs.
    """
    scratch = [region for region in layout.regions if region.name == SCRATCH]
    places = {region: region.offset for region in scratch}
    for region in sorted(buffers_of(layout), key=order):
        others = [r for r in places if r.birth <= region.death and region.birth <= r.death]
        places[region] = min(
            at
            for at in (scratch[0].offset, *(places[r] + r.size for r in others))
            if all(at + region.size <= places[r] or at >= places[r] + r.size for r in others)
        )
    return places


def buffers_of(layout: Layout) -> list[Region]:
    return [r for r in layout.regions if r.op >= 0 and r.name.split()[0] not in {*LASTING, SCRATCH}]


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize("mode", ["frozen_a", "trainable_a"])
def test_buffers_have_the_lowest_places(mode: str, cores: int) -> None:
    """Regions are placed by size or by birth, whichever order needs less."""
    for seed in range(30):
        model = drawn(seed, "medium" if seed % 2 else "small")
        rng = np.random.default_rng(seed)
        ranks = ranks_of(model, random_ranks(rng, model))
        recompute = rng.integers(0, 2, len(model.ops)).astype(np.uint8).tobytes()
        layout = twin_regions.layout(pack_model(model), ranks, mode, 4, 1, recompute, cores=cores)
        ways = [placed(layout, lambda r: -r.size), placed(layout, lambda r: (r.birth, -r.size))]
        places = min(ways, key=lambda way: max(at + region.size for region, at in way.items()))
        assert all(region.offset == places[region] for region in buffers_of(layout)), f"seed {seed}"


@pytest.mark.parametrize("mode", ["frozen_a", "trainable_a"])
def test_buffers_of_a_chain_live_no_longer_than_they_are_read(mode: str) -> None:
    """Outputs live until their reader or, if A is trained, until the backward step that reads them; errors for one
    step."""
    for seed in range(10):
        model = random_model(seed, kinds=("conv", "conv", "average_pool", "conv", "dense"), edges=False)
        ops = len(model.ops)
        ranks = bytes(1 if op.is_matrix else 0 for op in model.ops)
        regions = twin_regions.layout(pack_model(model), ranks, mode, 4, 1).regions
        found = {(r.name, r.op): (r.birth, r.death) for r in regions}
        for op in range(ops):
            read = 2 * ops - (op + 1) if mode == "trainable_a" and op + 1 < ops and ranks[op + 1] else op + 1
            assert found["output", op] == (op, read if op + 1 < ops else ops), f"seed {seed}, op {op}"
            first = 2 * ops - (op + 1) if op + 1 < ops else ops
            assert found["error", op] == (first, 2 * ops - op), f"seed {seed}, op {op}"


def test_what_a_recomputation_reads_ends_with_it() -> None:
    """A conv's output is recomputed for the lookup above it, from that of the lookup below, which no backward step
    reads.
    """
    for seed in range(10):
        model = random_model(seed, kinds=("conv", "lookup", "conv", "lookup", "conv", "dense"), edges=False)
        assert [op.kind for op in model.ops[1:4]] == ["lookup", "conv", "lookup"]
        ranks = bytes(1 if op.is_matrix else 0 for op in model.ops)
        layout = twin_regions.layout(pack_model(model), ranks, "frozen_a", 4, 1, bytes([0, 0, 1, 0, 0, 0]))
        found = {(r.name, r.op): (r.birth, r.death) for r in layout.regions}
        back = found["error", 3][1]
        assert layout.steps == 2 * len(model.ops) + 2 and found["recomputed output", 2] == (back - 1, back), (
            f"seed {seed}"
        )
        assert found["output", 1] == (1, back - 1), f"seed {seed}"


@pytest.mark.parametrize("shift", [-3, 9, 25])
def test_a_branch_whose_error_is_zero_changes_nothing(shift: int) -> None:
    """A lookup with slope 0 produces zero errors whose exponent would shift out the sibling's error."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        model = random_model(seed, kinds=("conv", "gate", "dense"), edges=False)
        model.ops[1].slope[:], model.ops[1].shift[:] = 0, shift
        check_training(case_of(model, rng, 6), seed)


@slow
def test_training_cases_change_most_matrices() -> None:
    """Training changes most matrices of the cases above, and every kind passes errors on in some case."""
    moved = total = 0
    passing = set()
    for seed in range(180):
        case = random_case(seed)
        start = reference.fresh_adapter(case.model, case.ranks, seed, bytes(8), True, 0)
        trainer = reference.Trainer(case.model, start)
        for x, target, rate in case.samples[:5]:
            trainer.train(x, target, rate)
        for layer in trainer.adapter.layers:
            total += 1
            moved += layer.b_state.vm > 0
            if layer.b_state.vm:
                passing |= {op.kind for op in case.model.ops[layer.op + 1 : case.model.training_ops]}
    assert moved > 0.7 * total
    assert passing >= set(KINDS) - {"constant", *FORWARD_KINDS}


@pytest.mark.parametrize("first", range(0, 40, 10))
def test_recomputing_outputs_changes_nothing(first: int) -> None:
    for seed in range(first, first + 10):
        case, rng = random_case(500 + seed, steps=6), np.random.default_rng(seed)
        expected = trained(case.session(), case)
        count = len(case.model.ops)
        choices = [bytes([1] * count)] + [rng.integers(0, 2, count).astype(np.uint8).tobytes() for _ in range(4)]
        for recompute in choices:
            assert trained(case.session(recompute=recompute), case) == expected, f"seed {seed}, {recompute}"


def kept_features(case: Case, x: np.ndarray, lowest: int) -> list[np.ndarray]:
    """Reference features: of all frames if an op from the lowest adapter on has a history, else of the last one."""
    held, features = {}, []
    for frame in x:
        trace = reference.forward(case.model, frame, held=held)
        read = [(trace.y[i], case.model.tensors[i]) for i in reference.cut(case.model, lowest)]
        parts = [y.astype(tensor.dtype).reshape(-1).view(np.int8) for y, tensor in read]
        if any(tensor.wide for _, tensor in read):
            parts = [np.pad(part, (0, part.size % 2)) for part in parts]
        features.append(np.concatenate(parts))
    return features if any(op.kind == "history" for op in case.model.ops[lowest:]) else features[-1:]


def check_features(case: Case, seed: int) -> Session:
    """Features are the outputs that the ops from the lowest adapter on read; with them, training and inference are the
    same.
    """
    session, direct = case.session(), case.session()
    expected = trained(direct, case, seed)
    session.begin(seed)
    losses = []
    for x, target, rate in case.samples:
        features = session.features(x)
        assert features.tolist() == np.concatenate(kept_features(case, x, min(case.ranks))).tolist(), f"seed {seed}"
        losses.append(session.train_features(features, target, rate))
    session.flush(3000)
    assert (losses, session.save(state=True)) == expected, f"seed {seed}"
    x = case.samples[0][0]
    assert session.infer_features(session.features(x)) == direct.infer_sample(x)
    assert session.logits.tolist() == direct.logits.tolist()
    return session


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_training_from_features_equals_training_from_inputs(first: int) -> None:
    for seed in range(first, first + 20):
        check_features(random_case(700 + seed, steps=6), seed)


@pytest.mark.parametrize("make", [random_model, random_transformer])
def test_features_below_every_op(make: Callable[[int], QuantModel]) -> None:
    for seed in fresh_seeds(8):
        model = make(seed)
        able = reference.trainable(model)
        for lowest in able:
            case = replace(case_of(model, np.random.default_rng(seed), 2), ranks={max(able): 3, lowest: 2})
            try:
                check_features(case, seed)
            except AssertionError as error:
                error.add_note(f"seed {seed}, op {lowest}")
                raise


@pytest.mark.parametrize(("seed", "op", "lowest"), [(31731, 2, 1), (32035, 15, 9), (32806, 1, 0)])
def test_a_feature_that_an_op_reads_twice(seed: int, op: int, lowest: int) -> None:
    """A minimum, a sum and a product of a tensor with itself."""
    model = random_model(seed)
    model.ops[op].input2 = model.ops[op].input
    assert model.ops[op].input in reference.cut(model, lowest) and lowest <= op
    check_features(replace(case_of(model, np.random.default_rng(seed), 3), ranks={lowest: 2}), seed)


@pytest.mark.parametrize(("seed", "lowest"), [(182, 3), (224, 2)])
def test_streams_among_features_are_aligned(seed: int, lowest: int) -> None:
    """The features before the stream have an odd size."""
    case = replace(case_of(random_transformer(seed), np.random.default_rng(seed), 3), ranks={lowest: 2})
    assert case.model.tensors[reference.cut(case.model, lowest)[0]].size % 2
    session = check_features(case, seed)
    odd = np.zeros(session.feature_size + 1, np.int8)[1:]
    for call in (lambda: session.infer_features(odd), lambda: session.train_features(odd, case.samples[0][1], 1)):
        with pytest.raises(TwinError) as error:
            call()
        assert error.value.status == binding.statuses()["ERR_ALIGN"]


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_one_call_trains_samples_one_after_the_other(first: int) -> None:
    for seed in range(first, first + 20):
        case = random_case(800 + seed, steps=6)
        single, whole, cached = (case.session() for _ in range(3))
        for session in (single, whole, cached):
            session.begin(seed)
        x, y = np.stack([x for x, _, _ in case.samples]), np.stack([target for _, target, _ in case.samples])
        losses = [single.train(x, target, 3000) for x, target, _ in case.samples]
        assert whole.train_all(x, y, 3000) == losses, f"seed {seed}"
        features = np.stack([cached.features(row) for row in x])
        assert cached.train_all(features, y, 3000, features=True) == losses, f"seed {seed}"
        for session in (single, whole, cached):
            session.flush(3000)
        assert single.save(True) == whole.save(True) == cached.save(True), f"seed {seed}"
        answers = [single.evaluate(x, target) for x, target, _ in case.samples]
        best, found = whole.evaluate_all(x, y)
        assert list(zip(best.tolist(), found.tolist(), strict=True)) == answers, f"seed {seed}"
        assert whole.predict(x).tolist() == [single.infer_sample(row) for row in x], f"seed {seed}"


def test_samples_of_one_call_are_checked() -> None:
    case = random_case(0, loss="cross_entropy")
    session = case.session()
    x, y = np.stack([x for x, _, _ in case.samples]), np.array([target for _, target, _ in case.samples])
    with pytest.raises(TwinError, match="begin"):
        session.train_all(x, y, 3000)
    session.begin(1)
    for wrong_x, wrong_y in [
        (x.astype(np.int16), y),
        (x.reshape(len(x), -1)[:, :-1], y),
        (x, y[1:]),
        (x, y - 2**33),
        (x, y + 10000),
        (x, np.zeros((len(x), session.target_size + 1), np.int8)),
        (x, np.zeros((len(x), session.target_size), np.int16)),
    ]:
        before = session.save(True)
        with pytest.raises(TwinError):
            session.train_all(wrong_x, wrong_y, 3000)
        assert session.save(True) == before
    assert session.train_all(x[:0], y[:0], 3000) == []


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_merging_equals_reference(first: int) -> None:
    for seed in range(first, first + 20):
        rng = np.random.default_rng(seed)
        model = drawn(3000 + seed)
        adapter = random_adapter(rng, model, trainable_a=True)
        if seed % 5 == 0:
            for layer in adapter.layers:
                layer.t_shift, layer.branch_shift = (24, -15) if seed % 2 else (0, 8)
        session = Session(pack_model(model), bytes(len(model.ops)), "infer", plain=bool(seed % 2))
        session.use(pack_adapter(adapter))
        for layer in list(adapter.layers):
            session.merge(layer.op)
            model = reference.merge(model, layer)
            adapter.layers.remove(layer)
            session.reset()
            held = {}
            for x in (random_input(rng, model) for _ in range(3)):
                session.infer(x)
                expected = reference.forward(model, x, adapter, held)
                assert session.logits.tolist() == expected.logits.tolist(), f"seed {seed}"


# ---- sums of adapters ----


def random_parts(rng: np.random.Generator, model: QuantModel) -> list[Adapter]:
    """Adapters of one model: with one seed or several, with equal trained A's or different ones, with other shifts or
    not."""
    count, mode = int(rng.integers(1, 5)), int(rng.integers(0, 4))
    ranks = {index: int(rng.integers(1, 5)) for index in random_ranks(rng, model)}
    first = random_adapter(rng, model, mode == 2, ranks=ranks)
    parts = [first]
    for _ in range(count - 1):
        other = random_adapter(rng, model, mode in (2, 3), ranks=None if rng.random() < 0.4 else ranks)
        if mode < 2 and rng.random() < 0.8:
            other.seed = first.seed
            for layer in other.layers:
                layer.a = seeded_a(first.seed, layer.op, layer.rank, model.ops[layer.op])
        elif mode == 2:
            for layer, its in zip(other.layers, first.layers, strict=False):
                if layer.op == its.op and layer.rank == its.rank and rng.random() < 0.5:
                    layer.a = its.a.copy()
        parts.append(other)
    for part in parts:
        for layer in part.layers:
            if rng.random() < 0.2:
                layer.t_shift, layer.branch_shift = int(rng.integers(0, 25)), int(rng.integers(-15, 9))
            if part.a_stored and rng.random() < 0.2:  # so that it can be scaled up
                layer.a = (layer.a >> int(rng.integers(0, 8))).astype(np.int8)
    return parts


@pytest.mark.parametrize("first", range(0, 300, 100))
def test_sums_of_adapters_equal_reference(first: int) -> None:
    found = {"seed": 0, "stored": 0, "none": 0}
    for seed in range(first, first + 100):
        rng = np.random.default_rng(seed)
        model = random_model(4000 + seed, edges=False)
        parts = random_parts(rng, model)
        weights = [int(rng.choice([4096, rng.integers(-32767, 32768), rng.integers(0, 4097)])) for _ in parts]
        session = Session(pack_model(model), bytes(len(model.ops)), "infer")
        files = [pack_adapter(part) for part in parts]
        fine = bool(rng.integers(0, 2))
        wanted = reference.blend(model, parts, weights, fine)
        found["none" if wanted is None else "stored" if wanted.a_stored else "seed"] += 1
        if wanted is None:
            with pytest.raises(TwinError, match="can't be added up"):
                session.blend(files, weights, fine)
            continue
        assert session.blend(files, weights, fine) == pack_adapter(wanted), f"seed {seed}"
    assert min(found.values()) > 0, found


def test_sums_of_a_trained_a_and_a_seed_s() -> None:
    """A trained A and a seed's A with equal ranks and shifts are not confused."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        model = random_model(4000 + seed, kinds=("conv", "dense"), edges=False)
        parts = [random_adapter(rng, model, trainable_a=bool(k + seed & 1), ranks={0: 2, 1: 3}) for k in range(2)]
        for layer, other in zip(parts[0].layers, parts[1].layers, strict=True):
            other.t_shift, other.branch_shift = layer.t_shift, layer.branch_shift
        session = Session(pack_model(model), bytes(2), "infer")
        wanted = reference.blend(model, parts, [4096, 2048], True)
        files = [pack_adapter(part) for part in parts]
        assert wanted and session.blend(files, [4096, 2048], True) == pack_adapter(wanted), f"seed {seed}"


def test_adapters_of_several_seeds_take_turns() -> None:
    """Without training, a session computes A from the seed of each adapter that it uses."""
    model = random_model(2, kinds=("conv", "dense"), edges=False)
    rng, ranks = np.random.default_rng(2), {0: 2, 1: 3}
    session = Session(pack_model(model), ranks_of(model, ranks), "infer")
    adapters = [random_adapter(rng, model, ranks=ranks) for _ in range(3)]
    for turn in range(9):
        x, adapter = random_input(rng, model), adapters[turn * 2 % 3]
        session.use(pack_adapter(adapter))
        session.infer(x)
        assert session.logits.tolist() == reference.forward(model, x, adapter).logits.tolist()
    training = Session(pack_model(model), ranks_of(model, ranks), "frozen_a", 1)
    training.begin(adapters[0].seed)
    training.use(pack_adapter(adapters[0]))
    with pytest.raises(TwinError) as error:
        training.use(pack_adapter(adapters[1]))
    assert error.value.status == binding.statuses()["ERR_SEED"]
    with pytest.raises(TwinError) as error:
        training.load(pack_adapter(random_adapter(rng, model, ranks={0: 1, 1: 3})))
    assert error.value.status == binding.statuses()["ERR_RANKS"]


def test_sums_that_are_exact() -> None:
    """One adapter is its own sum; two with one seed, or with room for both ranks, give their branches' exact sum."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        model = random_model(4000 + seed, kinds=("conv", "conv", "dense"), edges=False)
        one, other = (random_adapter(rng, model, trainable_a=bool(seed % 2), ranks={0: 2, 1: 3}) for _ in range(2))
        session = Session(pack_model(model), bytes([2, 3, 0]), "infer")
        if not seed % 2:
            other.seed = one.seed
            for layer, its in zip(other.layers, one.layers, strict=True):
                layer.a = its.a
        for layer in (*one.layers, *other.layers):
            layer.b //= 2 if seed % 2 else 4
        files = [pack_adapter(part) for part in (one, other)]
        one.trainable_a = False
        assert session.blend(files[:1], [4096], False) == pack_adapter(one)
        both = unpack_adapter(session.blend(files, [4096, 4096], False), model)
        assert both.a_stored == bool(seed % 2)
        for layer, a, b in zip(both.layers, one.layers, other.layers, strict=True):
            assert layer.branch_shift == a.branch_shift == b.branch_shift
            mine = layer.b.astype(int) @ layer.a.astype(int)
            assert np.array_equal(mine, a.b.astype(int) @ a.a.astype(int) + b.b.astype(int) @ b.a.astype(int))
        session.use(session.blend(files, [4096, 4096]))


def test_sums_that_are_refused() -> None:
    model = random_model(1, kinds=("conv", "dense"), edges=False)
    data, rng = pack_model(model), np.random.default_rng(0)
    one = pack_adapter(random_adapter(rng, model, ranks={0: 2, 1: 2}))
    session = Session(data, bytes([2, 2]), "infer")
    for files, weights in (([], []), ([one] * 9, [1] * 9), ([one], [32768]), ([one], [-32768])):
        with pytest.raises(TwinError) as error:
            session.blend(files, weights)
        assert error.value.status == binding.statuses()["ERR_BLEND"]
    wide = [pack_adapter(random_adapter(rng, model, ranks={0: 17, 1: 2})) for _ in range(2)]
    with pytest.raises(TwinError, match="can't be added up"):
        session.blend(wide, [4096, 4096])
    assert len(session.blend([one] * 8, [4096, -4096] * 4)) == len(one)


STREAMS = ("conv", "history", "depthwise", "conv", "history", "conv", "history", "dense")


def test_training_and_features_leave_a_stream_as_it_is() -> None:
    """Training between frames does not affect the stream, and the stream does not affect training."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        case = case_of(random_model(seed, kinds=STREAMS, edges=False), rng, 6)
        heard = [random_input(rng, case.model) for _ in case.samples]
        expected = trained(case.session(plain=bool(seed % 2)), case)
        session = case.session(plain=bool(seed % 2))
        session.begin(1)
        losses, held = [], {}
        for (x, target, rate), frame in zip(case.samples, heard, strict=True):
            session.use(None)
            session.infer(frame)
            assert session.logits.tolist() == reference.forward(case.model, frame, held=held).logits.tolist()
            losses.append(session.train(x, target, rate))
            session.features(x)
        session.flush(3000)
        assert (losses, session.save(state=True)) == expected, f"seed {seed}"


THROUGH_TIME = (
    STREAMS,
    ("history", "conv", "history", "depthwise", "conv", "history", "dense"),
    ("conv", "history", "history", "max_pool", "conv", "history", "residual", "dense"),
    ("conv", "branches", "history", "slice", "conv", "history", "pad", "lookup", "dense"),
    ("history", "dense", "history", "twice", "history", "softmax"),
    ("dense", "history", "conv", "history", "multiply", "mean"),
)


def test_training_through_time_equals_reference() -> None:
    """Windows shorter and longer than what the network remembers; from inputs and from features."""
    earlier, ways = 0, set()
    for seed in fresh_seeds(90):
        rng = np.random.default_rng(seed)
        loss = LOSSES[seed % 3]
        model = random_model(seed, kinds=THROUGH_TIME[seed // 3 % len(THROUGH_TIME)], edges=seed % 4 == 0, loss=loss)
        case = case_of(model, rng, 3, frames=int(rng.integers(2, 17)))
        earlier += _has_gradients_of_earlier_frames(case)
        settings = (ranks_of(model, case.ranks), case.mode, case.micro_batch)
        ways.add(twin_regions.layout(case.data, *settings, frames=case.frames).computes_again)
        check_training(case, seed)
        check_features(case, seed)
    assert earlier > 30 and ways == {False, True}


def _has_gradients_of_earlier_frames(case: Case) -> bool:
    """By the reference: for its first sample, with adapters that change outputs."""
    adapter = random_adapter(np.random.default_rng(1), case.model, trainable_a=True, ranks=case.ranks)
    traces = reference.forward_frames(case.model, case.samples[0][0], adapter)
    _, error = reference.loss(case.model, traces[-1].y[case.model.loss_index].reshape(-1), case.samples[0][1])
    frames = reference.backward(case.model, adapter, traces, error)
    return any(product.value.any() for products in frames[1:] for product in products.values())


def test_frames_that_the_loss_does_not_depend_on_change_nothing() -> None:
    """Not even what the arena needs: its buffers are for the frames that the network remembers."""
    shorter = 0
    for seed in range(12):
        model = random_model(seed, kinds=("conv", "history", "conv", "history", "dense"), edges=False)
        held = [op for op in model.ops if op.kind == "history"]
        depends = 1 + sum(math.ceil(model.tensors[op.output].size / model.tensors[op.input].size) - 1 for op in held)
        x = random_sample(np.random.default_rng(seed), model, depends + 9)
        files, sizes = zip(*(_learned(model, x[-depends - more :]) for more in (-1, 0, 1, 9)), strict=True)
        assert files[1] == files[2] == files[3] and sizes[1] == sizes[2] == sizes[3], f"seed {seed}"
        shorter += files[0] != files[1]
    assert shorter


def _learned(model: QuantModel, x: NDArray[np.int8]) -> tuple[bytes, int]:
    """The adapter after three updates with a sample, and the arena's size."""
    session = Session(pack_model(model), ranks_of(model, {0: 2, 2: 1}), "trainable_a", 1, frames=len(x))
    session.begin(1)
    for _ in range(3):
        session.train(x, 0, 20000)
    return session.save(state=True), session.arena_bytes


def test_frames_are_limited() -> None:
    model = random_model(3, kinds=("conv", "history", "dense"), edges=False)
    data, positions = pack_model(model), model.tensors[1].positions
    ranks = ranks_of(model, {0: 2})
    remembered = math.ceil(model.tensors[2].size / model.tensors[1].size)
    most = 65536 // (positions * remembered)
    if most < 255:
        Session(data, ranks, "frozen_a", most, frames=32767)
        with pytest.raises(TwinError, match=r"positions \* frames \* micro_batch"):
            Session(data, ranks, "frozen_a", most + 1, frames=32767)
    with pytest.raises(TwinError, match="1 to 32767"):
        Session(data, ranks, "frozen_a", 1, frames=32768)


def test_a_sample_is_a_stream_of_its_own() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        case = case_of(random_model(seed, kinds=STREAMS, edges=False), rng, 3)
        session = case.session()
        for x, _, _ in case.samples:
            session.infer(random_input(rng, case.model))
            found = session.infer_sample(x)
            assert session.logits.tolist() == reference.forward_sample(case.model, x).logits.tolist()
            session.reset()
            assert [session.infer(frame) for frame in x][-1] == found


def test_features_of_a_stream_are_a_training_session_s() -> None:
    """An inference session keeps only the stream's histories below the lowest adapter, so it can't compute features."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        model = random_model(seed, kinds=STREAMS, edges=False)
        data, x = pack_model(model), random_sample(rng, model, 3)
        made = []
        for lowest in (0, 3, 7):
            ranks = ranks_of(model, {lowest: 1})
            training, inference = (Session(data, ranks, mode, frames=3) for mode in ("frozen_a", "infer"))
            training.begin(1)
            if lowest:
                with pytest.raises(TwinError) as error:
                    inference.features(x)
                assert error.value.status == binding.statuses()["ERR_MODE"]
            else:
                assert inference.features(x).tolist() == training.features(x).tolist() == x.reshape(-1).tolist()
            made.append(training.infer_features(training.features(x)))
        assert len(set(made)) == 1


def test_softmax_of_many_equal_values() -> None:
    """The sum of exponentials has its maximum: each output is less than half a step."""
    for channels in (255, 511, 512, 513, 1024):
        model = model_of(DrawnOp("softmax", (1, 2, channels), (1, 2, channels), alone=True, seed=channels))
        x = np.zeros(model.input.shape, np.int8)
        x[0, 1] = np.random.default_rng(channels).integers(-2, 2, channels)
        session = Session(pack_model(model), bytes(len(model.ops)), "infer")
        session.infer(x)
        assert session.logits.tolist() == reference.forward(model, x).logits.tolist(), channels


def test_outputs_that_are_no_probabilities() -> None:
    """If the last op computes probabilities from logits, its output has their grid; else `probabilities` is refused."""
    found = []
    for seed in range(20):
        model = random_model(seed, kinds=("dense", "lookup"), edges=False, loss="binary_cross_entropy")
        session = Session(pack_model(model), bytes(2), "infer")
        session.infer(random_input(np.random.default_rng(seed), model))
        probable = model.output.zero_point == -128
        found.append(probable)
        if probable:
            assert session.probabilities().tolist() == ((session.logits.astype(int) + 128) << 7).tolist()
            continue
        with pytest.raises(TwinError) as error:
            session.probabilities()
        assert error.value.status == binding.statuses()["ERR_OUTPUTS"]
    assert not all(found)


def test_only_models_with_history_have_frames() -> None:
    model = random_model(1, kinds=("conv", "dense"))
    for frames in (0, 2, 65536):
        with pytest.raises(TwinError) as error:
            Session(pack_model(model), bytes(2), "infer", frames=frames)
        assert error.value.status == binding.statuses()["ERR_CONFIG"]
    large, small, held = (Tensor(shape, 1.0, 0) for shape in ((1024, 1, 1024), (1, 1, 1024), (2, 1, 1024)))
    ops = [Op("slice", 0, 1, axis=1), Op("history", 1, 2), Op("max_pool", 2, 3, kernel=(2, 1))]
    wide = pack_model(QuantModel([large, small, held, small], ops, loss="mean_squared_error"))
    assert Session(wide, bytes(3), "infer", frames=2000).output_size == 1024
    for frames in (2048, 4096, 65535):  # frames of 2^20 values: sizes in bytes would wrap
        with pytest.raises(TwinError, match="2\\^31 values"):
            Session(wide, bytes(3), "infer", frames=frames)
    there = pickle.loads(pickle.dumps(error.value))  # like an error from a worker process
    assert (type(there), there.status, str(there)) == (TwinError, error.value.status, str(error.value))


@pytest.mark.parametrize("logistic", [False, True])
def test_a_single_output_says_yes_or_no(logistic: bool) -> None:
    found = set()
    for seed in range(10):
        model = random_model(seed, kinds=("dense",), edges=False, loss="binary_cross_entropy")
        op, tensor = model.ops[0], model.tensors[1]
        for array in ("weights", "bias", "multiplier", "shift"):
            setattr(op, array, getattr(op, array)[:1])
        model.tensors[1] = Tensor((1, 1, 1), tensor.scale, tensor.zero_point)
        if logistic:
            model.tensors.append(Tensor((1, 1, 1), *LOGISTIC_GRID))
            model.ops.append(Op("lookup", 1, 2))
            derive(model, model.ops[1], "logistic")
        session = Session(pack_model(model), bytes(len(model.ops)), "infer")
        for turn in range(10):
            x = random_input(np.random.default_rng(turn), model)
            says = model.output.scale * (reference.forward(model, x).logits[0] - model.output.zero_point)
            found.add(session.infer(x))
            assert session.infer(x) == (says > (0.5 if logistic else 0))
    assert found == {0, 1} and model.classes == 2


@pytest.mark.parametrize("mode", ["frozen_a", "trainable_a"])
@pytest.mark.parametrize("momentum", [0, 3])
def test_resumed_training_equals_uninterrupted(mode: str, momentum: int) -> None:
    rng = np.random.default_rng(7)
    model = random_model(7)
    data = pack_model(model)
    ranks = ranks_of(model, random_ranks(rng, model))
    samples = [(random_input(rng, model), random_target(rng, model)) for _ in range(24)]
    assert not model.has_history

    def train(session: Session, part: list) -> None:
        for x, label in part:
            session.train(x, label, 5000)

    whole = Session(data, ranks, mode, 4, momentum)
    whole.begin(9)
    train(whole, samples)
    first = Session(data, ranks, mode, 4, momentum)
    first.begin(9)
    train(first, samples[:12])
    second = Session(data, ranks, mode, 4, momentum)
    second.load(first.save(state=True))
    train(second, samples[12:])
    assert second.save(state=True) == whole.save(state=True)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_wrong_target_is_refused(loss: str) -> None:
    case = random_case(1, steps=1, loss=loss)
    session = case.session()
    session.begin(1)
    size = case.model.loss_tensor.size
    wrong = {
        "cross_entropy": [size, np.zeros(size, np.int8)],
        "binary_cross_entropy": [0, np.full(size, 2, np.int8), np.zeros(size + 1, np.int8)],
        "mean_squared_error": [0, np.zeros(size + 1, np.int8)],
    }
    for target in wrong[loss]:
        with pytest.raises(TwinError):
            session.train(case.samples[0][0], target, 1000)


def test_an_adapter_of_another_base_is_refused() -> None:
    first, second = (pack_model(random_model(seed, kinds=("conv", "dense"), edges=False)) for seed in (1, 2))
    session = Session(first, bytes([2, 2]), "frozen_a", 1)
    session.begin(1)
    other = Session(second, bytes([2, 2]), "frozen_a", 1)
    for refused in (other.use, other.load):
        with pytest.raises(TwinError) as error:
            refused(session.save())
        assert error.value.status == binding.statuses()["ERR_BASE"]
    session.use(session.save())


@pytest.mark.parametrize("mode", MODES[:3])
def test_a_session_never_writes_outside_its_arena(mode: str) -> None:
    """Regions of the plan with overlapping lifetimes don't overlap in memory, and all lie in the arena."""
    for seed in range(40):
        model = drawn(seed, loss=LOSSES[seed % 3])
        data = pack_model(model)
        rng = np.random.default_rng(seed)
        ranks = ranks_of(model, random_ranks(rng, model))
        recompute = rng.integers(0, 2, len(model.ops)).astype(np.uint8).tobytes()
        layout = twin_regions.layout(data, ranks, mode, 4, 1, recompute=recompute, cores=1 + seed % 2)
        for a in layout.regions:
            assert a.offset + a.size <= layout.arena_bytes
            for b in layout.regions:
                together = a.birth <= b.death and b.birth <= a.death
                apart = a.offset + a.size <= b.offset or b.offset + b.size <= a.offset
                assert a is b or apart or not together, (a, b)


def laid_out(seed: int, known: bool = False) -> QuantModel:
    """A random language model: odd seeds have their positions along the width, as `zoo.language_model`."""
    model = language_model(seed, known=known)
    if not seed % 2:
        return model
    tensors = [replace(tensor, shape=(1, tensor.positions, tensor.shape[2])) for tensor in model.tensors]
    for op in model.ops:
        op.values = None if op.values is None else op.values.reshape(tensors[op.output].shape)
    return replace(model, tensors=tensors)


@pytest.mark.parametrize("known", [False, True], ids=lambda known: "constants too" if known else "computed")
@pytest.mark.parametrize("seed", fresh_seeds(8))
def test_decoding_equals_inference_of_the_window(seed: int, known: bool) -> None:
    """Row by row, with an adapter in use and merged, fast and plain; a full window and a sample are refused."""
    rng = np.random.default_rng(seed)
    model = laid_out(seed, known)
    data, rows, symbols = pack_model(model), model.input.positions, model.output.shape[2]
    ranks = bytes(int(rng.integers(1, 5)) if op.is_matrix else 0 for op in model.ops)
    adapter = pack_adapter(random_adapter(rng, model, True, ranks={i: r for i, r in enumerate(ranks) if r}))
    whole = Session(data, ranks, "infer")
    ids = rng.integers(0, symbols, rows)
    for plain in (False, True):
        decoding = Session(data, ranks, "decode", plain=plain)
        for used in (None, adapter):
            whole.use(used)
            decoding.use(used)
            decoding.reset()
            whole.infer(ids.astype(f"<u{model.input.shape[2]}").view(np.int8))
            for row, symbol in enumerate(ids):
                best = decoding.next(int(symbol))
                expected = whole.logits.reshape(rows, symbols)[row]
                np.testing.assert_array_equal(decoding.logits, expected)
                assert best == expected.argmax()
            with pytest.raises(TwinError, match="window is full"):
                decoding.next(0)
            kept = decoding.back(int(rng.integers(1, rows + 3)))
            for row in range(kept, rows):
                decoding.next(int(ids[row]))
            np.testing.assert_array_equal(decoding.logits, expected)
            assert decoding.back(rows + 1) == 0
        decoding.reset()
        with pytest.raises(TwinError, match="one row at a time"):
            decoding.choose(1, 0, 0)  # after nothing
        if model.input.shape[2] == 1:
            with pytest.raises(TwinError, match="label"):
                decoding.next(256)
        with pytest.raises(TwinError, match="one row at a time"):
            decoding.infer(np.zeros(decoding.input_size, np.int8))
    merged = Session(data, ranks, "decode")
    for session in (whole, merged):
        session.use(adapter)
        for op, rank in enumerate(ranks):
            if rank:
                session.merge(op)
    whole.infer(ids.astype(f"<u{model.input.shape[2]}").view(np.int8))
    for row, symbol in enumerate(ids):
        merged.next(int(symbol))
        np.testing.assert_array_equal(merged.logits, whole.logits.reshape(rows, symbols)[row])
    for refused in (lambda: whole.next(0), lambda: whole.back(1)):
        with pytest.raises(TwinError, match="one row at a time"):
            refused()


@pytest.mark.parametrize("seed", fresh_seeds(4))
def test_a_boards_full_window_slides_by_half(seed: int) -> None:
    model = laid_out(seed)
    data, rows = pack_model(model), model.input.positions
    ranks = bytes(len(model.ops))
    board = device.module().Model(data, ranks, "decode")
    text = np.random.default_rng(seed).integers(0, model.output.shape[2], 3 * rows).tolist()
    first = 0  # of the window
    for end, symbol in enumerate(text, 1):
        best = board.next(symbol)
        if end - first > rows:
            first = end - 1 - rows // 2
        whole = Session(data, ranks, "decode")
        for each in text[first:end]:
            expected = whole.next(each)
        assert best == expected and bytes(board.output) == whole.logits.tobytes()
    likely = board.suggest(2)
    assert [p for _, p in likely] == sorted(board.probabilities(), reverse=True)[:2]
    assert likely[0][1] == board.probabilities()[best]
    board.slide(1)  # before it is full
    whole.reset()
    assert board.next(text[0]) == [whole.next(symbol) for symbol in (text[-1], text[0])][-1]
    with pytest.raises(ValueError, match="has 2 symbols to keep, not 3"):
        board.slide(3)
    board.reset()
    whole.reset()
    assert board.next(text[0]) == whole.next(text[0])


def chances(logits: NDArray[np.int8], step: float, temperature: float) -> NDArray[np.float64]:
    """How often each symbol should be drawn; step: of a logit, in nats."""
    found: NDArray[np.float64] = np.exp((logits.astype(float) - logits.max()) * step / temperature)
    return found / found.sum()


def test_symbols_are_drawn_by_the_temperature() -> None:
    """A chi-square test of 20,000 draws each; the seed and the place in the text alone decide on a draw."""
    model = language_model(7)
    data = pack_model(model)
    session = Session(data, bytes(len(model.ops)), "decode")
    session.next(1)
    step = max(model.output.scale, 16 / 255)
    for temperature in (0.25, 1.0, 4.0):
        drawn = [session.choose(temperature, 1, place) for place in range(20_000)]
        expected = chances(session.logits, step, temperature) * len(drawn)
        often = expected >= 5
        found = np.bincount(drawn, minlength=len(expected))
        rest = expected[~often].sum(), found[~often].sum()
        terms = (found - expected)[often] ** 2 / expected[often]
        square = terms.sum() + ((rest[1] - rest[0]) ** 2 / rest[0] if rest[0] >= 5 else 0)
        degrees = len(terms) - (rest[0] < 5)
        assert len(terms) > 3 and square < degrees + 4 * math.sqrt(2 * degrees)
        assert drawn[:50] != [session.choose(temperature, 2, place) for place in range(50)]
    assert {session.choose(1 / 256, 1, place) for place in range(50)} <= set(
        np.flatnonzero(session.logits == session.logits.max())
    )
    board = device.module().Model(data, bytes(len(model.ops)), "decode")
    for place, symbol in enumerate((1, 5, 2), 1):
        board.next(symbol)
        session.next(symbol) if place > 1 else None
        assert board.sample(0.75, 9) == session.choose(0.75, 9, place)
    for refused in (0, 256):
        with pytest.raises(ValueError, match="temperature"):
            board.sample(refused)


@pytest.mark.parametrize("seed", fresh_seeds(4))
def test_a_last_softmax_changes_no_draw(seed: int) -> None:
    """Whatever its probabilities round to."""
    model = language_model(seed)
    if model.ops[-1].kind == "softmax":
        model = replace(model, ops=model.ops[:-1], tensors=model.tensors[:-1])
    end = len(model.ops)
    tensors = [*model.tensors, Tensor(model.output.shape, *SOFTMAX_GRID)]
    probable = replace(model, tensors=tensors, ops=[*model.ops, Op("softmax", end, end + 1)])
    derive(probable, probable.ops[-1])
    sessions = [Session(pack_model(m), bytes(len(m.ops)), "decode") for m in (model, probable)]
    text = np.random.default_rng(seed).integers(0, model.output.shape[2], model.input.positions)
    for place, symbol in enumerate(text):
        for session in sessions:
            session.next(int(symbol))
        for temperature in (1 / 256, 0.3, 1, 5, 255):
            first, second = (session.choose(temperature, seed, place) for session in sessions)
            assert first == second


def test_only_language_models_decode() -> None:
    """A loss of all positions' outputs together has no likeliest symbol of a row."""
    models = [random_model(1, kinds=("conv", "dense"))]
    models += [replace(language_model(1), loss=loss) for loss in LOSSES if loss != "cross_entropy"]
    for model in models:
        with pytest.raises(TwinError, match="one row at a time"):
            Session(pack_model(model), bytes(len(model.ops)), "decode")


@pytest.mark.parametrize("rows", [17, 47, 100])
@pytest.mark.parametrize("plain", [False, True])
def test_groups_of_a_sequence_that_have_no_loss_learn_nothing(rows: int, plain: bool) -> None:
    """More groups than are drawn, of which some, or all, have no loss in a step: both are the reference's bytes."""
    sizes = Sizes(rows, 1, 11, 4, 2, 6, 40)
    model = next(model for seed in range(99) if (model := random_transformer(seed, sizes)).learns_sequences)
    rng, ranks = np.random.default_rng(rows), dict.fromkeys(reference.trainable(model), 3)
    adapter = reference.fresh_adapter(model, ranks, 5, base_id(pack_model(model)), trainable_a=True)
    trainer = reference.Trainer(model, adapter, micro_batch=2)
    taken = bytes(ranks.get(i, 0) for i in range(len(model.ops)))
    session = Session(pack_model(model), taken, "trainable_a", micro_batch=2, plain=plain)
    session.begin(5)
    for missing in (slice(0), slice(16, None), slice(16), slice(None)):
        ids = rng.integers(0, 40, rows)
        ids[missing] = 255
        x, target = random_sample(rng, model, 1), id_bytes(ids, 40).reshape(-1)
        assert session.train(x, target, 20_000) == trainer.train(x, target, 20_000)
    assert session.save(state=True) == pack_adapter(trainer.export())
