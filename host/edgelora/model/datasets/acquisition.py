"""Edge Impulse's acquisition format, as .json and .cbor.

It is (version v1, as its documentation has it) an object of `protected` (`ver`, `alg`), `signature` and `payload`
(`device_type`, `interval_ms`, `sensors` with `name` and `units`, `values` with a row a sample). A signature is
HMAC-SHA256 of the file's bytes with 64 zeros in the signature's place.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

from edgelora.base.errors import InputError, MissingPackage

from .capture import Capture, checked_text, checked_values

UNSIGNED = "0" * 64  # in place of the signature while it is computed
AUDIO_UNITS = "wav"  # counts of 16 bits


def load_acquisition(path: Path, data: bytes, key: str | None) -> Capture:
    remedy = "give a file in Edge Impulse's acquisition format, version v1"
    content = _decoded(path, data, remedy)
    parts = [content.get(name) if isinstance(content, dict) else None for name in ("protected", "signature", "payload")]
    protected, signature, payload = parts
    if not (isinstance(protected, dict) and isinstance(signature, str) and isinstance(payload, dict)):
        raise InputError(f"{path}: lacks protected, signature or payload", remedy=remedy)
    if protected.get("ver") != "v1":
        raise InputError(f"{path}: its version is {str(protected.get('ver'))[:40]!r}, must be 'v1'", remedy=remedy)
    said = _signature(path, data, str(protected.get("alg"))[:40], signature, key)
    sensors, rows, interval = (payload.get(name) for name in ("sensors", "values", "interval_ms"))
    if not (isinstance(sensors, list) and sensors and all(isinstance(sensor, dict) for sensor in sensors)):
        raise InputError(f"{path}: names no sensors", remedy=remedy)
    if not isinstance(rows, list) or any(isinstance(row, str) for row in rows[:1]):
        raise InputError(f"{path}: its values are in another file, or not a list", remedy="export it as .csv or .wav")
    if isinstance(interval, bool) or not isinstance(interval, (int, float)) or not 1e-4 <= interval <= 1e6:
        raise InputError(f"{path}: interval_ms of {str(interval)[:40]}", remedy="give milliseconds, 0.0001 to 1000000")
    values = checked_values(path, rows)
    if len(sensors) != values.shape[1]:
        raise InputError(f"{path}: {len(sensors)} sensors but {values.shape[1]} values per row: correct it")
    names, units = (tuple(checked_text(sensor.get(what, "")) for sensor in sensors) for what in ("name", "units"))
    counts = set(units) == {AUDIO_UNITS}
    return Capture(values, 1000 / interval, names, () if counts else units, counts, said)


def _decoded(path: Path, data: bytes, remedy: str) -> Any:
    try:
        return json.loads(data) if path.suffix.lower() == ".json" else _cbor().loads(data)
    except (MissingPackage, KeyboardInterrupt):
        raise
    except Exception as error:  # of cbor2 itself, and of the values that it builds
        raise InputError(f"{path}: can't be read ({type(error).__name__}: {str(error)[:200]})", remedy=remedy) from None


def _cbor() -> Any:
    try:
        import cbor2
    except ImportError:
        raise MissingPackage(".cbor files need the package cbor2: pip install 'edgelora[cbor]'") from None
    return cbor2


def _signature(path: Path, data: bytes, algorithm: str, signature: str, key: str | None) -> str:
    """The signature's status, in words. InputError if a key was given and the signature is wrong."""
    if algorithm == "none":
        if key is not None:
            raise InputError(f"{path}: is not signed: omit the key, or ask for a signed file")
        return "not signed"
    if algorithm != "HS256":
        raise InputError(f"{path}: signed with {algorithm!r}, must be 'HS256' or 'none': export it again")
    if key is None:
        return "signed, not checked: no key was given"
    there = signature.encode(errors="replace")
    if len(there) == 64 and data.count(there) == 1:
        made = hmac.new(key.encode(), data.replace(there, UNSIGNED.encode()), hashlib.sha256).hexdigest()
        if hmac.compare_digest(made.encode(), there):
            return "signed, and the signature is valid"
    raise InputError(f"{path}: the signature does not match: the file was changed, or the key is wrong")


def packed_acquisition(path: Path, capture: Capture, key: str | None) -> bytes:
    if not capture.rate:
        raise InputError(f"{path}: the sample rate is unknown: give --rate")
    channels = capture.values.shape[1]
    names = capture.names or tuple(f"channel{i}" for i in range(channels))
    units = (AUDIO_UNITS,) * channels if capture.counts else capture.units or ("",) * channels
    values: list[Any] = (capture.values if channels > 1 else capture.values[:, 0]).tolist()
    if capture.counts:
        values = capture.values.astype(int).tolist() if channels > 1 else capture.values[:, 0].astype(int).tolist()
    content = {
        "protected": {"ver": "v1", "alg": "none" if key is None else "HS256"},
        "signature": UNSIGNED,
        "payload": {
            "device_type": "EdgeLoRA",
            "interval_ms": 1000 / capture.rate,
            "sensors": [{"name": n, "units": u} for n, u in zip(names, units, strict=True)],
            "values": values,
        },
    }
    data = json.dumps(content).encode() if path.suffix.lower() == ".json" else _cbor().dumps(content)
    if key is None:
        return bytes(data)
    signature = hmac.new(key.encode(), data, hashlib.sha256).hexdigest()
    return bytes(data.replace(UNSIGNED.encode(), signature.encode(), 1))
