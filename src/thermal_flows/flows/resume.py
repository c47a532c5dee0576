"""Going on with a flow that stopped: only its unfinished jobs."""

from __future__ import annotations

from jobflow import Flow, JobStore
from monty.json import MontyDecoder, MontyEncoder


def unfinished(flow: Flow, store: JobStore) -> Flow | None:
    """The jobs of a flow whose outputs are not in a store.

    Parameters
    ----------
    flow : jobflow.Flow
        The flow that stopped, or the same read back from its JSON; it is not changed.
    store : jobflow.JobStore
        Where its outputs went.

    Returns
    -------
    jobflow.Flow or None
        To be run with ``run_locally(..., store=store, allow_external_references=True)``: the finished jobs' outputs are taken
        from the store. None if all jobs are finished.
    """
    store.connect()
    rest: Flow = MontyDecoder().decode(MontyEncoder().encode(flow))
    done = {entry["uuid"] for entry in store.query({"uuid": {"$in": list(rest.job_uuids)}}, properties=["uuid"])}
    if done.issuperset(rest.job_uuids):
        return None
    rest.remove_jobs([k for k, job in enumerate(rest.jobs) if getattr(job, "uuid", None) in done])
    return rest
