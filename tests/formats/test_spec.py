"""SPEC.md is correct: its worked dumps, tables and limits match C and Python."""

from __future__ import annotations

import re

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgelora.base.resources import ROOT
from edgelora.board.link.protocol import encode
from edgelora.core.formats import elu
from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.limits import MAX_RANK
from edgelora.core.formats.network import Op, QuantModel, Tensor
from edgelora.core.twin import binding
from edgelora.core.twin.session import Session
from edgelora.learn.training.recipe import LIMITS

SPEC = (ROOT / "SPEC.md").read_text()
DEVICE_FACE = (ROOT / "micropython_module" / "python" / "edgelora" / "__init__.py").read_text()
HEADER = (ROOT / "micropython_module" / "core" / "edgelora.h").read_text()


def example_model() -> bytes:
    """Two inputs, one dense layer, two classes."""
    op = Op(
        "dense",
        0,
        1,
        weights=np.array([[64, -127], [127, 32]], np.int8).reshape(2, 1, 1, 2),
        bias=np.array([100, -50], np.int32),
        multiplier=np.array([1 << 30, 1518500250], np.int32),
        shift=np.array([-6, -7], np.int8),
        t_shift=6,
        branch_shift=1,
    )
    tensors = [Tensor((1, 1, 2), 0.5, -3), Tensor((1, 1, 2), 0.25, 4)]
    return pack_model(QuantModel(tensors, [op], ["no", "yes"]))


def example_adapter() -> bytes:
    """Rank 1 on that layer, frozen A, after two updates."""
    session = Session(example_model(), bytes([1]), "frozen_a", 1)
    session.begin(7)
    for label in (0, 1):
        session.train(np.array([90, -60], np.int8), label, 60000)
    return session.save()


def example_bundle() -> bytes:
    """That adapter, signed with the key of RFC 8032's first test."""
    secret = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret))
    return elu.pack(example_adapter(), "wake", 7, "band", key, compress=False)


def dump(data: bytes) -> str:
    rows = [f"{at:04x}  {data[at : at + 16].hex(' ')}" for at in range(0, len(data), 16)]
    return "\n".join("    " + row for row in rows)


@pytest.mark.parametrize("make", [example_model, example_adapter, example_bundle])
def test_worked_dumps(make) -> None:
    assert dump(make()) in SPEC, f"the dump of {make.__name__} should be\n{dump(make())}"


def test_worked_frame() -> None:
    frame = encode(2, 0x11, bytes([0, 0, 0, 0, 1, 2, 3, 4]))
    assert frame.hex(" ") in SPEC


@pytest.mark.parametrize(
    ("anchor", "size"),
    [
        ("## 8. Model", 68),
        ("Tensor record", 12),
        ("Op record", 36),
        ("### Signal", 20),
        ("| offset | type | field of a normalization", 20),
        ("## 9. Adapter", 48),
        ("Layer record", 12),
        ("## 14. Update", 256),
        ("### Sample file", 32),
        ("### Checkpoint", 180),
        ("### Reservoir", 32),
    ],
)
def test_byte_tables_have_no_gaps(anchor: str, size: int) -> None:
    """Offsets of the first table after `anchor` are contiguous and add up to the stated size."""
    table = SPEC[SPEC.rindex(anchor) :].split("| offset |", 1)[1].split("\n\n", 1)[0]
    end = 0
    for offset, bits, count in re.findall(r"^\| (\d+) \| [uif](\d+)(?:\[(\d+)\])? \|", table, re.MULTILINE):
        assert int(offset) == end, f"{anchor}: a field at {offset}, the one before ends at {end}"
        end += int(bits) // 8 * int(count or 1)
    assert end == size


def test_statuses_of_core_and_host_are_one_list() -> None:
    library = binding.library()
    assert len(binding.statuses()) == len(re.findall(r"^ +X\(", HEADER, re.MULTILINE))
    for name, value in binding.statuses().items():
        text = library.edgelora_status_text(value).decode()
        assert text != "unknown status", name
    assert library.edgelora_status_text(-99) == b"unknown status"


def test_versions_agree() -> None:
    import edgelora

    assert f'EDGELORA_VERSION "{edgelora.__version__}"' in HEADER
    assert f'__version__ = "{edgelora.__version__}"' in DEVICE_FACE
    assert f'version = "{edgelora.__version__}"' in (ROOT / "pyproject.toml").read_text()
    assert f"## {edgelora.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_a_rank_has_one_limit() -> None:
    """The same limit in files, recipes and text."""
    assert LIMITS["rank"] == (1, MAX_RANK) and f"rank r, 1..{MAX_RANK} |" in SPEC
