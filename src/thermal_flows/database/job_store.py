"""A jobflow JobStore in one SQLite file."""

from pathlib import Path
from typing import Literal

from jobflow import JobStore

from thermal_flows.database.sqlite_store import SQLiteStore

OUTPUTS = "outputs"
"""Collection of job outputs."""

DATA = "data"
"""Collection, and additional store, of arrays that jobs keep out of their documents."""


def job_store(
    path: str | Path, synchronous: Literal["NORMAL", "FULL"] = "FULL", read_only: bool = False, timeout: float = 60.0
) -> JobStore:
    """JobStore with documents and arrays in one file, made when it is first used.

    ``run_locally(flow, store=job_store("results.db"))`` is all it takes; several processes may write
    to the same file.

    Parameters
    ----------
    path : str or Path
        The file, made absolute at once.
    synchronous : {"FULL", "NORMAL"}
        ``FULL`` by default: the output of a job, often hours of work, survives a power failure. See
        :class:`thermal_flows.database.SQLiteStore`.
    read_only : bool
        Never write; the file must exist.
    timeout : float
        Seconds to wait while another process writes.

    Returns
    -------
    jobflow.JobStore
        Outputs in the collection ``outputs``, arrays in ``data``.

    Raises
    ------
    ValueError
        If the path is not one of a file.
    """
    outputs, data = output_stores(path, synchronous, read_only, timeout)
    return JobStore(outputs, additional_stores={DATA: data})


def output_stores(
    path: str | Path, synchronous: Literal["NORMAL", "FULL"], read_only: bool, timeout: float
) -> tuple[SQLiteStore, SQLiteStore]:
    """Stores of outputs and of arrays that :func:`job_store` puts together."""
    outputs = SQLiteStore(
        path,
        OUTPUTS,
        key="uuid",
        last_updated_field="completed_at",
        last_updated_type="isoformat",
        read_only=read_only,
        synchronous=synchronous,
        timeout=timeout,
        indexes=["output.doc_type"],
    )
    data = SQLiteStore(
        path,
        DATA,
        key="blob_uuid",
        read_only=read_only,
        synchronous=synchronous,
        timeout=timeout,
        indexes=["job_uuid"],
    )
    return outputs, data
