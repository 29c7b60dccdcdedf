"""Fixtures shared by the tests."""

import os
import signal
from collections import Counter
from collections.abc import Iterator

import fresh
import numpy as np
import pytest

from edgelora.base.resources import ROOT
from edgelora.board import virtual_boards
from edgelora.core.formats.elm import pack_model
from edgelora.model.datasets import keywords
from edgelora.model.floatnet import balance
from edgelora.model.floatnet.zoo import ds_cnn
from edgelora.model.quantization.quantize import quantize

# A shell ignores SIGINT in background jobs, and children inherit that; some tests send SIGINT to their children.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Tests build nothing: what they ask `make` for must be up to date, else it fails with an error that names the target.
os.environ["MAKEFLAGS"] = f"q -- MAKE={ROOT}/tests/support/make_nothing.sh"
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(ROOT / ".build" / "hypothesis"))


def pytest_report_header() -> str:
    return f"EDGELORA_SEED={fresh.SEED}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints how many random ops agreed on every core."""
    counts: Counter[str] = Counter()
    for report in terminalreporter.getreports("passed"):
        counts.update({name: n for name, n in report.user_properties if report.when == "call" and name == "drawn ops"})
    for name, count in counts.items():
        terminalreporter.write_line(f"{name}, the same on every core: {count}")


# The slowest files begin first, so that none is left to one worker while the other is idle.
LONGEST = (
    "package/test_readme.py",
    "studio/test_studio_journey.py",
    "boards/test_install.py",
    "cli/test_pico_end_to_end.py",
    "core/test_reference.py",
    "link/test_link.py",
    "cli/test_cli.py",
    "device/test_store.py",
    "core/test_cores.py",
    "device/test_device.py",
    "studio/test_studio_learn.py",
    "package/test_wheel.py",
    "cli/test_interrupted.py",
    "fleet/test_published_to_pico.py",
    "device/test_fleet_board.py",
    "studio/test_studio_bare_boards.py",
    "updates/test_update.py",
    "studio/test_studio_guard.py",
    "device/test_training.py",
    "studio/test_studio_boards.py",
    "device/test_frontend.py",
    "fleet/test_mixed_round.py",
    "studio/test_studio_live.py",
    "formats/test_damage.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {ROOT / "tests" / name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(LONGEST)))


@pytest.fixture(scope="module", autouse=True)
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps virtual boards of tests apart from the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
        yield
        for board in virtual_boards.running():
            board.kill()


@pytest.fixture(scope="session")
def keyword_elm() -> bytes:
    """The keyword network with random weights, quantized on noise."""
    x = np.random.default_rng(0).normal(size=(32, 49, 10, 1)).astype(np.float32)
    net = balance.balanced(ds_cnn((49, 10, 1), len(keywords.LABELS), 0, keywords.LABELS), x)
    return pack_model(quantize(net, x))
