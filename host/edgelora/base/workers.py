"""Jobs in separate processes that end with the command: in parallel, one per core, or isolated, as it may fail."""

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

MOST_MEMORY = 4 << 30  # bytes of address space for work on untrusted data

Result = TypeVar("Result")


def in_parallel(
    function: Callable[..., Result], jobs: Iterable[tuple[Any, ...]], workers: int | None = None
) -> Iterator[Result]:
    """Results of `function(*job)`, in the order of jobs. workers: processes, by default as many as cores.

    An exception of a job, or Ctrl-C, cancels the jobs that have not begun, and is raised immediately.
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
        # Only once, unlike `with`: a second call would revoke the cancellation.
        pool.shutdown(wait=False, cancel_futures=True)


def begin() -> None:
    """Prepares a worker: Ctrl-C ends it silently, as the main process reports it; it uses one thread."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for name in ("SIGTERM", "SIGHUP"):
        if (number := getattr(signal, name, None)) and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    threadpool_limits(1)


def apart(function: Callable[..., Result], *arguments: Any, memory: int = MOST_MEMORY) -> Result:
    """The result of `function(*arguments)`, run in a separate process, so that it can't block this one.

    For work on untrusted data. memory: its limit in bytes, where the system supports it. An exception of
    the function is raised here; InputError if the process died without one, as when out of memory.
    """
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin_apart, (memory,))
    try:
        return pool.submit(function, *arguments).result()
    except (BrokenProcessPool, MemoryError):
        raise InputError("it needs more memory than available", remedy="give a smaller part") from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _begin_apart(memory: int) -> None:
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy is imported: each thread takes address space
    begin()
    if resource is not None:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (memory, resource.getrlimit(resource.RLIMIT_AS)[1]))
