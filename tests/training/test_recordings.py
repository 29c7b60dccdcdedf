"""Recordings in files: each format converts to each other; hostile, damaged or wrongly signed files are refused."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import cbor2
import numpy as np
import pytest
from commands import edgelora, result

from benchmarks.swap import layers_and_adapters
from edgelora.base.errors import InputError
from edgelora.core.formats.elm import pack_model, unpack_model
from edgelora.core.formats.signal import Normal, Signal
from edgelora.learn.streaming.sample_windows import Window, windows_of
from edgelora.model.datasets import recordings
from edgelora.model.datasets import recordings as datasets_recordings
from edgelora.model.datasets.capture import Capture
from edgelora.model.datasets.dataset import load_dataset
from edgelora.model.datasets.har import har_takes, load_har
from edgelora.model.datasets.recordings import Recording, load_capture, save_capture

KEY = "fed53116f20684c067774ebf9e7bcbdc"
ALL = (".csv", ".npz", ".json", ".cbor")


def capture(counts: bool = False) -> Capture:
    rng = np.random.default_rng(1)
    values = np.round(rng.normal(0, 2, (50, 3)), 4)
    if counts:
        return Capture(rng.integers(-32768, 32768, (50, 2)).astype(float), 8000, counts=True)
    return Capture(values, 62.5, ("accX", "accY", "accZ"), ("m/s2",) * 3)


@pytest.mark.parametrize("first", ALL)
@pytest.mark.parametrize("second", ALL)
def test_file_types_are_converted_into_each_other(tmp_path: Path, first: str, second: str) -> None:
    a, b = tmp_path / f"a{first}", tmp_path / f"b{second}"
    save_capture(capture(), a)
    edgelora("convert", a, "-o", b)
    back = load_capture(b)
    assert np.allclose(back.values, capture().values, rtol=0, atol=1e-9) and back.names == capture().names
    assert back.rate == pytest.approx(62.5)
    if ".csv" not in (first, second):
        assert back.units == capture().units


def test_sound(tmp_path: Path) -> None:
    for kind in (".wav", ".json", ".cbor", ".npz"):
        save_capture(capture(counts=True), tmp_path / f"a{kind}")
        edgelora("convert", tmp_path / f"a{kind}", "-o", tmp_path / "b.wav")
        back = load_capture(tmp_path / "b.wav")
        assert back.counts and back.rate == 8000 and (back.values == capture(counts=True).values).all()
    (tmp_path / "c.wav").write_bytes((tmp_path / "b.wav").read_bytes()[:-3])
    assert len(load_capture(tmp_path / "c.wav").values) == 49, "what is left of a file that was cut off"


@pytest.mark.parametrize("kind", [".json", ".cbor"])
def test_signatures(tmp_path: Path, kind: str) -> None:
    path, key = tmp_path / f"a{kind}", ("--hmac-key", KEY)
    save_capture(capture(), tmp_path / "plain.csv")
    edgelora("convert", tmp_path / "plain.csv", "-o", path, *key)
    assert result("convert", path, "-o", tmp_path / "b.csv", *key)["signature"] == "signed, and the signature is valid"
    assert "not checked" in edgelora("convert", path, "-o", tmp_path / "b.csv")
    assert "does not match" in edgelora("convert", path, "-o", tmp_path / "c.csv", "--hmac-key", "x", code=1)
    changed = path.read_bytes().replace(b"EdgeLoRA", b"EdgeL0RA")
    path.write_bytes(changed)
    assert "does not match" in edgelora("convert", path, "-o", tmp_path / "c.csv", *key, code=1)
    edgelora("convert", tmp_path / "plain.csv", "-o", path)
    assert "is not signed" in edgelora("convert", path, "-o", tmp_path / "c.csv", *key, code=1)
    assert not (tmp_path / "c.csv").exists()


def told(**changes: Any) -> dict[str, Any]:
    """An acquisition with changed fields; None removes a field."""
    payload = {"device_type": "x", "interval_ms": 10, "sensors": [{"name": "a", "units": "g"}] * 2}
    payload |= {"values": [[1.0, 2], [3, 4]]} | changes.pop("payload", {})
    whole = {"protected": {"ver": "v1", "alg": "none"}, "signature": "0" * 64, "payload": payload} | changes
    return {name: value for name, value in whole.items() if value is not None}


HOSTILE = [
    (told(signature=None), "lacks protected, signature or payload"),
    (told(protected={"ver": "v2", "alg": "none"}), "its version is 'v2'"),
    (told(protected={"ver": "v1", "alg": "RS256"}), "signed with 'RS256'"),
    ([], "lacks protected"),
    (told(payload={"values": [[1.0, 2], [3]]}), "different lengths"),
    (told(payload={"values": [[1.0, float("nan")]]}), "not finite"),
    (told(payload={"values": [[1.0, 1e400]]}), "not finite"),
    (told(payload={"values": [[1.0, 10**40]]}), "finite numbers"),
    (told(payload={"values": [["x", "y"]]}), "finite numbers"),
    (told(payload={"values": [[[1], [2]]]}), "finite numbers"),
    (told(payload={"values": [[True, None]]}), "finite numbers"),
    (told(payload={"values": []}), "has no samples"),
    (told(payload={"values": ["Ref-BINARY-i16 (100 bytes)"]}), "export it as .csv or .wav"),
    (told(payload={"values": {"a": 1}}), "export it as .csv or .wav"),
    (told(payload={"values": [[1] * 3]}), "2 sensors but 3 values"),
    (told(payload={"sensors": []}), "names no sensors"),
    (told(payload={"sensors": [1, 2]}), "names no sensors"),
    (told(payload={"interval_ms": 0}), "interval_ms of 0"),
    (told(payload={"interval_ms": "10"}), "give milliseconds"),
    (told(payload={"interval_ms": 10**400}), "interval_ms"),
]


@pytest.mark.parametrize(("what", "words"), HOSTILE, ids=lambda value: value if isinstance(value, str) else "")
def test_hostile_acquisitions(tmp_path: Path, what: Any, words: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps(what))
    (tmp_path / "a.cbor").write_bytes(cbor2.dumps(what))
    for name in ("a.json", "a.cbor"):
        assert words in edgelora("convert", tmp_path / name, "-o", tmp_path / "b.csv", code=1), name
    assert not (tmp_path / "b.csv").exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",  # a list of 2^64 - 1
        b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff",  # bytes of 2^63 - 1
        b"\x81" * 100_000,  # lists in lists
        b"\xd8\x1c\x81\xd8\x1d\x00",  # a list that contains itself
        b"\xc0\x63abc",  # no date
        b"\xa1\x80\x01",  # a list as a key
        b"[" * 100_000,
    ],
)
def test_bytes_that_are_no_acquisition(tmp_path: Path, data: bytes) -> None:
    for kind in (".json", ".cbor"):
        (tmp_path / f"a{kind}").write_bytes(data)
        with pytest.raises(InputError, match="can't be read|lacks protected") as error:
            load_capture(tmp_path / f"a{kind}")
        assert error.value.remedy


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "x,y\n", "has no samples"),
        ("a.csv", "1,2\n3\n", "give comma-separated numbers"),
        ("a.csv", "x,y\n1,2,3\n", "its header names 2"),
        ("a.csv", "timestamp,x\n2,1\n2,1\n", "does not increase"),
        ("a.csv", "1,inf\n", "not finite"),
        ("a.csv", "1,nan\n", "not finite"),
        ("a.csv", "", "has no samples"),
        ("a.csv", "x" * 200_000, "give comma-separated numbers"),
        ("a.txt", "1,2\n", "is not a recording format"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    assert words in edgelora("convert", tmp_path / name, "-o", tmp_path / "b.npz", code=1)


def test_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "MAX_RECORDING_BYTES", 3)
    (tmp_path / "a.csv").write_text("1,2\n")
    assert "split it" in edgelora("convert", tmp_path / "a.csv", "-o", tmp_path / "b.npz", code=1)


@pytest.mark.parametrize("text", ["1,2\r3,4\r", "\ufeff1,2\r\n\r\n3,4", "\ufeffx,y\n1,2\n\n3,4\n"])
def test_line_endings_of_other_programs(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text, newline="")
    assert load_capture(tmp_path / "a.csv").values.tolist() == [[1, 2], [3, 4]]


# ---- samples for a base


SIGNAL = Signal(50, 3, 10, 5, tuple(Normal(0.001, 0.1 * i, 1 + i) for i in range(3)), units="g")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A network on windows of 10 samples of three axes."""
    elm, _ = layers_and_adapters((30, 5), 0)
    model = unpack_model(elm)
    model.signal = SIGNAL
    (tmp_path / "base.elm").write_bytes(pack_model(model))
    return tmp_path / "base.elm"


def test_windows_to_train_on(tmp_path: Path, base: Path) -> None:
    """Each file format with its own units; classes from filenames."""
    rows = np.round(np.random.default_rng(2).normal(0, 1, (40, 3)), 3)
    acceleration = Capture(rows * 9.80665, 50, ("x", "y", "z"), ("m/s2",) * 3)
    save_capture(acceleration, tmp_path / "wave.1.json")
    save_capture(Capture(rows[:23] * 1000), tmp_path / "rest.first.csv")
    save_capture(Capture(rows[:5] * 1000), tmp_path / "rest.short.csv")
    files = [tmp_path / name for name in ("wave.1.json", "rest.first.csv", "rest.short.csv")]
    out = tmp_path / "samples.npz"
    made = result("convert", *files, "--base", base, "-o", out)
    assert made["windows"] == {"rest": 3, "wave": 7} and made["signatures"] == {str(files[0]): "not signed"}
    data = load_dataset(out)
    assert data.signal == SIGNAL and data.labels == ["rest", "wave"] and data.y.tolist() == [1] * 7 + [0] * 3
    wanted = (rows[5:15] - [0, 0.1, 0.2]) / [1, 2, 3]
    assert np.allclose(data.x[1, 0], wanted, atol=1e-6) and np.allclose(data.x[8], data.x[1], atol=1e-6)
    assert result("convert", *files, "--base", base, "--hop", 1, "-o", out)["windows"] == {"rest": 14, "wave": 31}
    short = edgelora("convert", files[2], "--base", base, "-o", tmp_path / "none.npz", code=1)
    assert "give longer ones" in short and not (tmp_path / "none.npz").exists()


def test_windows_without_a_base(tmp_path: Path) -> None:
    """Edge Impulse's recordings become training samples in their own units."""
    rows = np.round(np.random.default_rng(3).normal(0, 9, (40, 3)), 3)
    for name, part in (("wave.1.json", rows), ("rest.a.cbor", rows[:20]), ("rest.b.json", rows[:5])):
        save_capture(Capture(part, 50, ("x", "y", "z"), ("m/s2",) * 3), tmp_path / name)
    files, out = sorted(tmp_path.iterdir()), tmp_path / "samples.npz"
    made = result("convert", *files, "--window", 10, "--hop", 5, "-o", out)
    assert made["windows"] == {"rest": 3, "wave": 7} and (made["shape"], made["rate"]) == ([1, 10, 3], 50)
    data = load_dataset(out)
    assert data.labels == ["rest", "wave"] and np.allclose(data.x[4, 0], rows[5:15])
    assert result("convert", *files, "--window", 10, "-o", out) == made, "half a window is the usual hop"
    assert "give longer ones" in edgelora("convert", *files, "--window", 99, "-o", out, code=1)
    save_capture(Capture(rows, 50, ("x", "y", "z"), ("g",) * 3), tmp_path / "wave.2.json")
    said = edgelora("convert", *files, tmp_path / "wave.2.json", "--window", 10, "-o", out, code=1)
    assert "wave has units ('g', 'g', 'g'), rest ('m/s2'" in said


def test_more_windows_than_memory_holds_are_refused(tmp_path: Path, base: Path) -> None:
    """Before any window is cut: a recording of 1 MB would make 500 GB of windows."""
    save_capture(Capture(np.zeros((400_000, 3)), 50, counts=True), tmp_path / "rest.npz")
    out = tmp_path / "samples.npz"
    said = edgelora("convert", tmp_path / "rest.npz", "--window", 200_000, "--hop", 1, "-o", out, code=1)
    assert "200001 windows of 200000 samples need 480002400000 bytes" in said and "a larger --hop" in said
    assert not out.exists()
    long = np.zeros((10_000_000, 3), np.int16)
    with pytest.raises(InputError, match="9999991 windows of 10 samples need 1199998920 bytes"):
        windows_of([("rest", Recording(long))], Window(SIGNAL, (1, 10, 3)), 1)


@pytest.mark.parametrize("rate", [0, 10_000_001, 0xFFFFFFFF])
def test_a_wav_without_a_usable_rate(tmp_path: Path, rate: int) -> None:
    head = struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate & 0xFFFFFFFF, 2, 16)
    (tmp_path / "a.wav").write_bytes(b"RIFF\x2c\0\0\0WAVEfmt " + head + b"data\x08\0\0\0" + bytes(8))
    assert f"{rate} is not a rate" in edgelora("convert", tmp_path / "a.wav", "-o", tmp_path / "b.csv", code=1)


def test_a_rate_that_a_wav_cannot_hold(tmp_path: Path) -> None:
    save_capture(Capture(np.ones((9, 1)), 0.25, ("x",), ("g",)), tmp_path / "a.json")
    said = edgelora("convert", tmp_path / "a.json", "-o", tmp_path / "b.wav", code=1)
    assert "at least 1 Hz, not 0.25" in said and not (tmp_path / "b.wav").exists()
    (tmp_path / "c.csv").write_text("timestamp,x\n0,1\n1e-320,2\n")
    assert "inf is not a rate" in edgelora("convert", tmp_path / "c.csv", "-o", tmp_path / "b.wav", code=1)


@pytest.mark.parametrize("kind", ALL)
def test_half_a_character_in_a_name(tmp_path: Path, kind: str) -> None:
    save_capture(capture(), tmp_path / "a.json")
    text = (tmp_path / "a.json").read_text().replace("accX", "a\\ud800").replace("m/s2", "\\udfff")
    (tmp_path / "a.json").write_text(text)
    edgelora("convert", tmp_path / "a.json", "-o", tmp_path / f"b{kind}")
    back = load_capture(tmp_path / f"b{kind}")
    assert back.names[0] in ("a?", "a_")


@pytest.mark.parametrize("signature", ["\\ud800", "é" * 32, "\\ud800" * 64])
def test_signatures_that_are_no_hex(tmp_path: Path, signature: str) -> None:
    save_capture(capture(), tmp_path / "a.json", KEY)
    told = json.loads((tmp_path / "a.json").read_text())
    text = (tmp_path / "a.json").read_text().replace(told["signature"], signature)
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    said = edgelora("convert", tmp_path / "a.json", "-o", tmp_path / "b.csv", "--hmac-key", KEY, code=1)
    assert "the signature does not match" in said


def test_units_other_than_the_bases(tmp_path: Path, base: Path) -> None:
    save_capture(Capture(np.ones((20, 3)), 50, ("x", "y", "z"), ("dps",) * 3), tmp_path / "a.json")
    said = edgelora("convert", tmp_path / "a.json", "--base", base, "-o", tmp_path / "b.npz", code=1)
    assert "channel x is in 'dps', not in g: convert it" in said


def test_counts_of_a_watch_equal_its_windows() -> None:
    """The counts that `demo har` sends to a board, cut by the base's signal, equal its training and test data."""
    data = load_har(3)
    signal = data.test.signal
    assert signal
    later = har_takes(3, "test")
    windows = [
        (counts[at : at + signal.window], label)
        for counts, label in later
        for at in range(0, len(counts) - signal.window + 1, signal.hop)
    ]
    assert len(later) == 14 and [label for _, label in windows] == data.test.y.tolist()
    for takes, part in ((windows, data.test), (har_takes(3, "train"), data.train)):
        assert [label for _, label in takes] == part.y.tolist()
        assert np.array_equal([counts for counts, _ in takes], signal.counts(part.x[:, 0]))


MOTION = Signal(50, 6, 100, 50, (Normal(8 / 32768),) * 3 + (Normal(0.001, 0, 4),) * 3, units="g, then rad/s")
SOUND = Signal(16000, 1, 16000, 8000, (Normal(0.01),), front="audio")
REST = np.random.default_rng(2).normal(0, 0.004, (200, 6)) + (0, 0, 1, 0, 0, 0)  # g, rad/s: a sensor that lies still


@pytest.mark.parametrize(
    ("values", "counted", "words"),
    [
        (REST, False, ""),
        (np.random.default_rng(3).normal(0, (1, 1, 1, 9, 9, 9), (200, 6)), False, ""),  # shaken
        (0 * REST, False, "all values are 0"),
        (0 * REST + 0.5, False, "no value ever changes"),
        (REST * ([9.81] * 3 + [1] * 3), False, "limits of 16 bits"),  # m/s2
        (MOTION.counts_of_units(REST), False, "are they in g, then rad/s, or counts of 0.0002441, 0.001"),
        (np.round(REST + np.random.default_rng(4).normal(0, 1, (200, 6))), True, "less than 8%"),  # g taken for counts
    ],
)
def test_implausible_values_of_motion(values: np.ndarray, counted: bool, words: str) -> None:
    counts = values.astype(np.int16) if counted else MOTION.counts_of_units(values)
    told = datasets_recordings.doubts(counts, MOTION)
    assert words in told if words else not told


def test_a_channel_that_is_much_larger() -> None:
    shaken = np.random.default_rng(3).normal(0, 4, (200, 6))
    still = replace(MOTION, normals=(Normal(8 / 32768),) * 5 + (Normal(0.001, 0, 0.2),))
    assert "channel 6 is 20 times as large" in datasets_recordings.doubts(
        still.counts_of_units(shaken / ([4] * 5 + [1])), still
    )


def test_implausible_values_of_sound() -> None:
    noise = np.random.default_rng(5).normal(0, 300, (4000, 1))
    assert not datasets_recordings.doubts(noise.astype(np.int16), SOUND)
    assert "no value is beyond" in datasets_recordings.doubts((noise / 300).astype(np.int16), SOUND)
    assert "all values are 0" in datasets_recordings.doubts(np.zeros((4000, 1), np.int16), SOUND)


def test_a_command_reports_implausible_values(base: Path, tmp_path: Path) -> None:
    np.savetxt(tmp_path / "still.csv", np.zeros((40, 3)), "%d", ",")
    told = result("convert", tmp_path / "still.csv", "--base", base, "-o", tmp_path / "a.npz")
    assert list(told["doubts"].values()) == ["all values are 0: is the sensor connected?"]
