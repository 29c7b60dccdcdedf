"""Jobs side by side in processes, one a core, that end when the command does."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

Result = TypeVar("Result")


def in_parallel(
    function: Callable[..., Result], jobs: Iterable[tuple[Any, ...]], workers: int | None = None
) -> Iterator[Result]:
    """What `function(*job)` returns, in the order of jobs; as many processes as cores unless told.

    An exception of a job, or Ctrl-C, drops the jobs that have not begun, and is raised as soon as it happens.
    """
    pool = ProcessPoolExecutor(workers or os.cpu_count(), initializer=begin)
    try:
        futures = [pool.submit(function, *job) for job in jobs]
        place = {future: number for number, future in enumerate(futures)}
        done: dict[int, Result] = {}
        following = 0
        for future in as_completed(futures):
            done[place[future]] = future.result()
            while following in done:
                yield done.pop(following)
                following += 1
    finally:
        # Once only, which `with` would not do: a second call would take back that jobs are dropped.
        pool.shutdown(wait=False, cancel_futures=True)


def begin() -> None:
    """What ends the command ends a worker without a word: the main process speaks. Other cores are other workers'."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for name in ("SIGTERM", "SIGHUP"):
        if (number := getattr(signal, name, None)) and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    threadpool_limits(1)
