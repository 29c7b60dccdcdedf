"""The C core against the independent NumPy reference, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from random_models import random_adapter, random_input, random_model, random_ranks

from edgelora import formats, twin


def ranks_of(model, ranks: dict[int, int]) -> bytes:
    return bytes(ranks.get(i, 0) for i in range(len(model.ops)))


@pytest.mark.parametrize("seed", range(60))
def test_forward_equals_reference(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = random_model(seed, edges=seed % 3 == 0)
    data = formats.pack_model(model)
    session = twin.Session(data, bytes(len(model.ops)), "infer")
    adapters = [None] + [random_adapter(rng, model, trainable_a=True) for _ in range(2)]
    for adapter in adapters:
        session.use(None if adapter is None else formats.pack_adapter(adapter))
        for _ in range(3):
            x = random_input(rng, model)
            session.infer(x)
            assert np.array_equal(session.logits, reference.forward(model, x, adapter).logits)


@pytest.mark.parametrize("seed", range(60))
def test_training_equals_reference(seed: int) -> None:
    rng = np.random.default_rng(1000 + seed)
    model = random_model(1000 + seed, edges=seed % 4 == 0)
    data = formats.pack_model(model)
    ranks = random_ranks(rng, model)
    mode = ("frozen_a", "trainable_a")[seed % 2]
    micro_batch, momentum = int(rng.integers(1, 5)), int(rng.choice([0, 2, 4]))
    session = twin.Session(data, ranks_of(model, ranks), mode, micro_batch, momentum)
    session.begin(seed)
    start = reference.fresh_adapter(model, ranks, seed, formats.base_id(data), mode == "trainable_a", momentum)
    trainer = reference.Trainer(model, start, micro_batch)
    for step in range(12):
        x, label = random_input(rng, model), int(rng.integers(model.output.size))
        rate = int(rng.choice([500, 4000, 65535]))
        assert session.train(x, label, rate) == trainer.train(x, label, rate), f"loss of step {step}"
    session.flush(3000)
    trainer.flush(3000)
    assert session.save(state=True) == formats.pack_adapter(trainer.export())
    assert session.save() == formats.pack_adapter(trainer.export(state=False))


@pytest.mark.parametrize("mode", ["frozen_a", "trainable_a"])
@pytest.mark.parametrize("momentum", [0, 3])
def test_resumed_training_equals_uninterrupted(mode: str, momentum: int) -> None:
    rng = np.random.default_rng(7)
    model = random_model(7)
    data = formats.pack_model(model)
    ranks = ranks_of(model, random_ranks(rng, model))
    samples = [(random_input(rng, model), int(rng.integers(model.output.size))) for _ in range(24)]

    def train(session: twin.Session, part: list) -> None:
        for x, label in part:
            session.train(x, label, 5000)

    whole = twin.Session(data, ranks, mode, 4, momentum)
    whole.begin(9)
    train(whole, samples)
    first = twin.Session(data, ranks, mode, 4, momentum)
    first.begin(9)
    train(first, samples[:12])
    second = twin.Session(data, ranks, mode, 4, momentum)
    second.load(first.save(state=True))
    train(second, samples[12:])
    assert second.save(state=True) == whole.save(state=True)


def test_an_adapter_of_another_base_is_refused() -> None:
    first, second = (formats.pack_model(random_model(seed, kinds=("conv", "dense"), edges=False)) for seed in (1, 2))
    session = twin.Session(first, bytes([2, 2]), "frozen_a", 1)
    session.begin(1)
    other = twin.Session(second, bytes([2, 2]), "frozen_a", 1)
    for refused in (other.use, other.load):
        with pytest.raises(twin.TwinError) as error:
            refused(session.save())
        assert error.value.status == twin.statuses()["ERR_BASE"]
    session.use(session.save())


@pytest.mark.parametrize("mode", twin.MODES)
def test_a_session_never_writes_outside_its_arena(mode: str) -> None:
    """The plan's regions do not overlap while both are in use, and all lie in the arena."""
    for seed in range(20):
        model = random_model(seed, edges=False)
        data = formats.pack_model(model)
        ranks = ranks_of(model, random_ranks(np.random.default_rng(seed), model))
        layout = twin.layout(data, ranks, mode, 4, 1)
        for a in layout.regions:
            assert a.offset + a.size <= layout.arena_bytes
            for b in layout.regions:
                together = a.birth <= b.death and b.birth <= a.death
                apart = a.offset + a.size <= b.offset or b.offset + b.size <= a.offset
                assert a is b or apart or not together, (a, b)
