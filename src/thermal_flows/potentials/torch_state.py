"""torch's global state, set where a potential needs it and put back afterwards."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from thermal_flows.potentials.errors import PotentialError

_LOAD_ANYTHING = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


@contextmanager
def loading_pickles() -> Iterator[None]:
    """Let torch unpickle whole models inside the block only, without what mace and its packages print then.

    Importing mace switches torch's protection (``weights_only``) off for the whole process, by a variable of the
    environment; this puts it back. The packages below mace need it switched off already when they are imported.
    """
    before = os.environ.get(_LOAD_ANYTHING)
    os.environ[_LOAD_ANYTHING] = "1"
    level = logging.root.level
    logging.root.setLevel(max(level, logging.ERROR))  # mace tells the root logger about dtypes, heads and accelerators
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.filterwarnings(
                "ignore", message="Environment variable TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", category=UserWarning
            )
            warnings.filterwarnings("ignore", message=".*TorchScript", category=UserWarning)
            warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
            yield
    finally:
        logging.root.setLevel(level)
        if before is None:
            os.environ.pop(_LOAD_ANYTHING, None)
        else:
            os.environ[_LOAD_ANYTHING] = before


@contextmanager
def torch_threads(n_threads: int | None) -> Iterator[None]:
    """Run torch on this many threads inside the block; None leaves torch as it is."""
    import torch

    before = torch.get_num_threads()
    if n_threads is not None and n_threads != before:
        torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


@contextmanager
def kept_dtype() -> Iterator[None]:
    """Put torch's default dtype back after the block."""
    import torch

    before = torch.get_default_dtype()
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def double_precision() -> Iterator[None]:
    """Make float64 torch's default dtype inside the block."""
    import torch

    with kept_dtype():
        torch.set_default_dtype(torch.float64)
        yield


def available_threads() -> int:
    """Threads for torch where nobody says: ``OMP_NUM_THREADS``, else the cores that this process may use."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) > 0 else len(os.sched_getaffinity(0))


def check_device(device: str) -> None:
    """Refuse a device that torch does not have.

    Raises
    ------
    PotentialError
        With what there is.
    """
    import torch

    kind = device.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise PotentialError(f"device must be 'cpu', 'cuda' or 'cuda:<number>', not {device!r}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise PotentialError(
            f"device {device!r}: torch {torch.__version__} sees no CUDA device here. Use device 'cpu', or a machine with a GPU "
            "and a CUDA build of torch"
        )
