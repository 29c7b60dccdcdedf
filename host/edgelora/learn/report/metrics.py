"""`metrics.jsonl`: the log of a run in progress."""

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

MAX_LINE = 1 << 16  # bytes of a line


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
    """The end of a run: "done", "suspended", "stopped" by Ctrl-C, or "failed"."""

    state: str
    event: str = field(default="end", init=False)


class Metrics:
    """Appends to a `metrics.jsonl`: one JSON object per line, flushed before the call returns.

    First removes a half-written last line of a killed run; `fresh`: the whole content.
    When the `with` block ends, the last line records how the run ended.
    """

    ended = "done"  # how the run ends, without an exception

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
        with contextlib.suppress(OSError):  # best effort
            self.write("end", state=self.ended)
        self.close()


def follow(path: Path, pause: float = 0.2) -> Iterator[Update | End | None]:
    """Yields the updates of a `metrics.jsonl` that may be growing, then how the run ended.

    Yields None after each `pause` (seconds) without news. A resumed run continues behind its first end; one
    that restarts in the same file is followed from its start. ReportError names a damaged line.
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
                raise ReportError(f"{path}, line {number + 1}: too long for a metrics file")
            if end and not rest:
                yield end
                return
            yield None
            time.sleep(pause)
            if path.stat().st_size < file.tell():
                file.seek(0)
                rest, number = b"", 0


def _event(line: bytes, where: str) -> Update | End | None:
    """The event of a line; None for other kinds."""
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
    """All complete lines of a `metrics.jsonl`, without a half-written last one. ReportError names a damaged line."""
    lines = path.read_bytes().split(b"\n")[:-1]
    return [_object(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]
