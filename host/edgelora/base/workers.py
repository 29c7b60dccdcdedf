"""Jobs in processes of their own, that end when the command does: side by side, one a core, or one that may fail."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

from .errors import InputError

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

MOST_MEMORY = 4 << 30  # bytes of addresses for work on what somebody else made

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


def apart(function: Callable[..., Result], *arguments: Any, memory: int = MOST_MEMORY) -> Result:
    """What `function(*arguments)` returns, done in a process of its own: nothing that it does holds this one up.

    For work on what somebody else made. memory: bytes that it may take, where the system bounds that. An exception of
    the function is raised here; InputError where the process ended without one, as for want of memory.
    """
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin_apart, (memory,))
    try:
        return pool.submit(function, *arguments).result()
    except (BrokenProcessPool, MemoryError):
        raise InputError("it takes more memory than there is for it", remedy="give a smaller part of it") from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _begin_apart(memory: int) -> None:
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy is there: each thread takes addresses
    begin()
    if resource is not None:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (memory, resource.getrlimit(resource.RLIMIT_AS)[1]))
