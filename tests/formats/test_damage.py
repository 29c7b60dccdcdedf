"""After changed bytes, host and core accept a model or both refuse it."""

from __future__ import annotations

import re
import struct
import sys
import zlib

import numpy as np
import pytest
from fresh import FULL, SEED, rounds, some

from edgelora.base.resources import ROOT
from edgelora.core.formats.elm import base_id, pack_model, unpack_model
from edgelora.core.formats.envelope import FormatError
from edgelora.core.formats.network import QuantModel
from edgelora.core.twin.binding import TwinError, check_model

sys.path.insert(0, str(ROOT / "tools"))
import fuzz_seeds

HOST_ONLY = re.compile(
    "scale|UTF-8|padding|logit_scale or E|unused|newline|byte 7|byte 65|the offset of|exponentials"
)  # boards do not check this


@pytest.fixture(scope="module")
def models() -> list[QuantModel]:
    """The fuzzers' seeds: three of each chain of ops, one with classes, transformers, drawn ops."""
    return list(fuzz_seeds.models(np.random.default_rng(SEED), 12))


@pytest.mark.parametrize("turn", [*some(range(39), 7), 39, 40, 42, 49])
def test_host_and_core_agree_on_what_is_right(models: list[QuantModel], turn: int) -> None:
    """With corrected base id and CRC."""
    data, rng = pack_model(models[turn]), np.random.default_rng(SEED)
    tables = struct.unpack_from("<I", data, 32)[0] + 36 * struct.unpack_from("<H", data, 26)[0]
    refused = 0
    for at in [*range(16, tables), *rng.integers(tables, len(data), 300)]:
        values = (0, 1, 2, 3, 4, 127, 128, 200, 255, data[at] ^ 1, int(rng.integers(256)))
        for value in rng.choice(values, rounds(16), replace=False).tolist() if not FULL else values:
            changed = bytearray(data)
            changed[at] = value
            changed[16:24] = base_id(changed)
            struct.pack_into("<I", changed, 12, zlib.crc32(changed[16:]))
            try:
                unpack_model(bytes(changed))
                told = ""
            except FormatError as error:
                told = str(error)
            try:
                check_model(bytes(changed))
                accepted = True
            except TwinError:
                accepted = False
            if not (told and HOST_ONLY.search(told)):
                assert accepted == (not told), f"seed {SEED}, byte {at} = {value}: {told or 'the core refuses it'}"
            refused += not accepted
    assert refused > 150
