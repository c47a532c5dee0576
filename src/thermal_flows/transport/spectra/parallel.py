"""Work shared out over wave vectors, to threads or processes, with results that do not depend on how."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import joblib
import numpy as np
from threadpoolctl import threadpool_limits

from thermal_flows.transport.errors import TransportError

Progress = Callable[[int, int], None]
T = TypeVar("T")

EXECUTORS = ("auto", "threads", "processes")
_PROCESSES_FROM = 2.0
"""Seconds of work per worker above which processes, which need about a second to start, are faster than threads."""


def share_out(
    work: Callable[[int], T],
    n: int,
    n_workers: int | None = None,
    executor: str = "auto",
    progress: Progress | None = None,
) -> Iterator[T]:
    """Results of ``work(0) ... work(n - 1)``, in order.

    Every call runs the linear algebra on one thread, so that its result is the same, to the last bit, wherever it runs.

    Parameters
    ----------
    work : callable
        Of the index; can be pickled if processes are to be used.
    n : int
    n_workers : int, optional
        Threads or processes; by default all cores this process may use.
    executor : {"auto", "threads", "processes"}
        Threads wait for each other where Python itself is at work; processes do not, and start late. ``auto`` times the first
        call and takes processes for long runs.
    progress : callable, optional
        Called with (calls done, calls in all).

    Raises
    ------
    TransportError
        If the number of workers or the executor is not usable.
    """
    if n_workers is None:
        n_workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if n_workers != int(n_workers) or n_workers < 1:
        raise TransportError(f"n_workers must be a whole number, at least 1; got {n_workers!r}")
    if executor not in EXECUTORS:
        raise TransportError(f"executor must be one of {', '.join(EXECUTORS)}; got {executor!r}")
    return _results(work, n, int(n_workers), executor, progress or _silent)


def _silent(_done: int, _total: int) -> None:
    pass


def _results(work: Callable[[int], T], n: int, n_workers: int, executor: str, progress: Progress) -> Iterator[T]:
    began = time.perf_counter()
    yield _alone(work, 0)
    progress(1, n)
    seconds = (time.perf_counter() - began) * (n - 1) / n_workers
    if n_workers == 1:
        results = _in_turn(work, n)
    elif executor == "processes" or (executor == "auto" and seconds > _PROCESSES_FROM):
        results = _in_processes(work, n, n_workers)
    else:
        results = _in_threads(work, n, n_workers)
    for done, result in enumerate(results, start=2):
        progress(done, n)
        yield result


def _alone(work: Callable[[int], T], k: int) -> T:
    _keep_freed_memory()
    with threadpool_limits(limits=1):
        return work(k)


def _in_turn(work: Callable[[int], T], n: int) -> Iterator[T]:
    with threadpool_limits(limits=1):
        yield from map(work, range(1, n))


def _in_threads(work: Callable[[int], T], n: int, n_workers: int) -> Iterator[T]:
    with threadpool_limits(limits=1), ThreadPoolExecutor(n_workers) as pool:
        try:
            yield from pool.map(work, range(1, n))
        finally:
            pool.shutdown(cancel_futures=True)


def _in_processes(work: Callable[[int], T], n: int, n_workers: int) -> Iterator[T]:
    with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        pool = joblib.Parallel(n_jobs=n_workers, return_as="generator")
        yield from pool(joblib.delayed(_alone)(work, k) for k in range(1, n))


def _keep_freed_memory() -> None:
    """Let the C library keep freed arrays for the next ones: a tenth of the time, more with several threads.

    glibc hands blocks above 128 kB back to the system, which clears them page by page when they are taken again. Freeing a
    larger block, of 32 MB at most, raises that limit to its size (mallopt(3), M_MMAP_THRESHOLD). Elsewhere nothing happens.
    """
    np.empty(31 * 2**20, dtype=np.uint8)
