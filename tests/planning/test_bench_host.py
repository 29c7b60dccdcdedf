"""`edgelora bench host`: what it runs, and the content of its `.tflite` files; no times."""

import platform
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from benchmarks.held import held_to_avx2
from benchmarks.host import LITERT, NETWORKS, PLAIN, TRANSFORMERS, bench_host
from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.network import WEIGHT_KINDS
from edgelora.core.twin.binding import library
from edgelora.core.twin.session import Session
from edgelora.learn.planning.plan import layer_plans
from edgelora.learn.training.recipe import Recipe
from edgelora.model.importers.tflite.convert import import_tflite
from edgelora.model.importers.tflite.write import write_tflite

tflite_writer = pytest.importorskip("tflite_writer")

MACS = {"keyword DS-CNN": 2_656_768, "image ResNet": 12_501_632}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_compute_what_tensorflow_does(name):
    model = NETWORKS[name](3)
    elm = pack_model(model)
    session = Session(elm, bytes(len(model.ops)), "infer")
    tflm = tflite_writer.TflmModel(write_tflite(model))
    rng, outputs = np.random.default_rng(4), set()
    for _ in range(4):
        x = rng.integers(-128, 128, model.input.shape).astype(np.int8)
        session.infer(x.reshape(-1))
        assert session.logits.tobytes() == tflm(x).tobytes()
        outputs.add(session.logits.tobytes())
    assert len(outputs) == 4
    settings = Recipe().settings(elm)
    assert sum(plan.macs for plan in layer_plans(model, settings) if plan.kind in WEIGHT_KINDS) == MACS[name]


class Interpreter:
    """Replaces LiteRT's interpreter."""

    ran = 0

    def __init__(self, model_content: bytes, num_threads: int) -> None:
        assert num_threads == 1
        self.shape = import_tflite(model_content).input.shape

    def allocate_tensors(self) -> None: ...

    def get_input_details(self) -> list[dict]:
        return [{"index": 7}]

    def set_tensor(self, index: int, x: np.ndarray) -> None:
        assert (index, x.shape, x.dtype) == (7, (1, *self.shape), np.int8)

    def invoke(self) -> None:
        Interpreter.ran += 1


@pytest.mark.parametrize("installed", [True, False])
def test_a_row_for_each_run_and_its_peer(monkeypatch, installed):
    module = ModuleType("ai_edge_litert.interpreter")
    if installed:
        module.Interpreter = Interpreter
    monkeypatch.setitem(sys.modules, "ai_edge_litert", ModuleType("ai_edge_litert"))
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", module)
    Interpreter.ran = 0
    rows = bench_host(rounds=1)
    assert [row.model for row in rows] == [name for name in (*NETWORKS, *TRANSFORMERS) for _ in range(4)]
    for row in rows:
        assert row.us > 0
        litert = row.what == "inference" and row.model in NETWORKS
        assert row.peer == (PLAIN if not litert else LITERT if installed else None)
        assert (row.peer_us is None) == (row.peer is None)
    assert bool(Interpreter.ran) == installed


def test_this_machine_runs_the_widest_kernels_it_has():
    cpu = Path("/proc/cpuinfo")
    if platform.machine() != "x86_64" or not cpu.exists():
        pytest.skip("asks Linux on x86-64 what its processor has")
    flags = set(next(line for line in cpu.read_text().splitlines() if line.startswith("flags")).split())
    vnni = {"avx512f", "avx512bw", "avx512vl", "avx512_vnni"} <= flags
    widest, held = 2 if vnni else int("avx2" in flags), int("avx2" in flags)
    assert library().edgelora_simd_level() == widest
    with held_to_avx2("libedgelora"):
        assert library().edgelora_simd_level() == held
    assert library().edgelora_simd_level() == widest
