"""`metrics.jsonl`: what a run says while it goes on."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from edgelora.base.text import plain

from .record import Amount, Count, ReportError, read_record

MAX_LINE = 1 << 16  # bytes of a line that is followed


@dataclass(frozen=True)
class Update:
    """One update: its number and epoch, mean loss, samples in it, the board's microseconds and joules.

    The loss is in nats or, of a network that learns values, in 256 squared int8 steps of its output.
    """

    step: Count
    epoch: Count
    loss: float | None
    learning_rate: Count
    samples: Count
    us: Amount | None = None
    joules: Amount | None = None
    event: str = field(default="update", init=False)


@dataclass(frozen=True)
class End:
    """The run is over: "done", "suspended", "stopped" by Ctrl-C, or "failed"."""

    state: str
    event: str = field(default="end", init=False)


class Metrics:
    """Appends to a `metrics.jsonl`: one JSON object a line, on its way to the disk before the call returns.

    A half-written last line of a killed run is cut off first, so that the file goes on with whole lines; `fresh`: all
    that is there. When the `with` block ends, so does the run: the last line says how.
    """

    ended = "done"  # how, unless there is an exception

    def __init__(self, path: Path, fresh: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        if fresh:
            self._file.truncate(0)
        self._file.seek(0)
        self._file.truncate(self._file.read().rfind(b"\n") + 1)

    def write(self, event: str, **values: Any) -> None:
        line = json.dumps(plain({"event": event, **values}), ensure_ascii=False)
        self._file.write(line.encode() + b"\n")
        self._file.flush()

    def update(
        self,
        step: int,
        epoch: int,
        loss: float,
        learning_rate: int,
        samples: int,
        us: float | None,
        joules: float | None = None,
    ) -> None:
        """One update: its number and epoch, mean loss, samples in it, the board's microseconds and joules."""
        values = {"loss": loss, "learning_rate": learning_rate, "samples": samples, "us": us, "joules": joules}
        self.write("update", step=step, epoch=epoch, **values)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Metrics:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.ended = "stopped" if issubclass(kind, KeyboardInterrupt) else "failed"
        with contextlib.suppress(OSError):  # nothing depends on it
            self.write("end", state=self.ended)
        self.close()


def follow(path: Path, pause: float = 0.2) -> Iterator[Update | End | None]:
    """The updates of a `metrics.jsonl` that may be growing, then how the run ended.

    None after each `pause` of seconds in which nothing came. A run that was resumed goes on behind its first end; one
    that begins anew in the same file is followed from its beginning. ReportError names a damaged line.
    """
    with path.open("rb") as file:
        rest, number, end = b"", 0, None
        while True:
            rest += file.read(MAX_LINE)
            *lines, rest = rest.split(b"\n")
            for line in lines:
                number += 1
                event = _event(line, f"{path}, line {number}")
                end = event if isinstance(event, End) else None
                if isinstance(event, Update):
                    yield event
            if lines:
                continue
            if len(rest) > MAX_LINE:
                raise ReportError(f"{path}, line {number + 1}: longer than any line of a run")
            if end and not rest:
                yield end
                return
            yield None
            time.sleep(pause)
            if path.stat().st_size < file.tell():
                file.seek(0)
                rest, number = b"", 0


def _event(line: bytes, where: str) -> Update | End | None:
    """What a line says; None for events of other kinds."""
    record = _object(line, where)
    kind = {"update": Update, "end": End}.get(str(record.pop("event", "")))
    return read_record(kind, record, where) if kind else None


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise ReportError(f"{where}: not a JSON object")
    return record


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a `metrics.jsonl`; a half-written last one is left out. ReportError names a damaged line."""
    lines = path.read_bytes().split(b"\n")[:-1]
    return [_object(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]
