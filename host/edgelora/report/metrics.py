"""`metrics.jsonl`: what a run says while it goes on."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any

from ..text import plain
from .record import ReportError


class Metrics:
    """Appends to a `metrics.jsonl`: one JSON object a line, on its way to the disk before the call returns.

    A half-written last line of a killed run is cut off first, so that the file goes on with whole lines; `fresh`: all
    that is there.
    """

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
        """One update: its number and epoch, mean loss in nats, samples in it, the board's microseconds and joules."""
        values = {"loss": loss, "learning_rate": learning_rate, "samples": samples, "us": us, "joules": joules}
        self.write("update", step=step, epoch=epoch, **values)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Metrics:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a `metrics.jsonl`; a half-written last one is left out. ReportError names a damaged line."""
    lines = path.read_bytes().split(b"\n")[:-1]
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise ReportError(f"{path}, line {number}: not a JSON object")
        records.append(record)
    return records
