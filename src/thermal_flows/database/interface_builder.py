"""Builder from job outputs to the ``interfaces`` collection."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from maggma.core import Builder, Store
from maggma.utils import grouper

Document = dict[str, Any]
Reference = dict[str, Any]
"""Which output: ``uuid``, ``index``, ``completed_at``."""

DOC_TYPE = "InterfaceDoc"
KEY = "interface_id"
FAILED = "failed"
SUCCESSFUL = "successful"
_SOURCE_INDEXES = ("uuid", "output.doc_type")
_TARGET_INDEXES = (
    KEY,
    "state",
    "film_formula",
    "substrate_formula",
    "system_id",
    "method_id",
    "conductance.temperature",
    "conductance.value",
)
_CONTENT_ERRORS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


@dataclass(frozen=True)
class BuildReport:
    """What a build did."""

    built: int
    """Interface documents written."""
    failed: int
    """Outputs that could not be used; each is a document with ``state: "failed"`` and an ``error``."""


class InterfaceBuilder(Builder):
    """One document per interface and method, from all job outputs that describe it.

    Sources are outputs with ``output.doc_type == "InterfaceDoc"``; all with the same
    ``interface_id`` become one document with the content of the newest. Added to it are

    - ``provenance.job_uuids``: every job whose output went into it, without duplicates;
    - ``built_from``: ``uuid``, ``index`` and ``completed_at`` of these outputs;
    - ``state`` (``"successful"``) and ``last_updated`` (UTC).

    An output that lacks what a query needs becomes a document of its own, with ``state: "failed"``,
    ``error`` and the ``interface_id`` ``failed:<job uuid>:<index>``. References to arrays in an
    additional store stay references. Only outputs that are new, or were written again, are read;
    a build that was interrupted goes on where it stopped.

    Parameters
    ----------
    source : maggma.core.Store
        Job outputs: a JobStore, or its document store.
    target : maggma.core.Store
        Interfaces; its key is ``interface_id``.
    chunk_size : int
        Interfaces to write at once.
    retry_failed : bool
        Whether to read outputs again that failed before.
    rebuild : bool
        Whether to read all outputs again.

    Raises
    ------
    ValueError
        If the target has another key.
    """

    version = 1
    """Raised when the documents change, so that a database is built again."""

    def __init__(
        self,
        source: Store,
        target: Store,
        chunk_size: int = 100,
        retry_failed: bool = False,
        rebuild: bool = False,
    ) -> None:
        if target.key != KEY:
            raise ValueError(f"the target store must have the key {KEY!r}, not {target.key!r}")
        self.source = source
        self.target = target
        self.retry_failed = retry_failed
        self.rebuild = rebuild
        super().__init__(sources=[source], targets=[target], chunk_size=chunk_size)

    @property
    def _outputs(self) -> Store:
        """The documents alone: a JobStore might load the arrays too."""
        outputs: Store = getattr(self.source, "docs_store", self.source)
        return outputs

    def ensure_indexes(self) -> None:
        """Index the fields that the builder and queries use; a store that cannot is slower, not wrong."""
        for store, fields in ((self._outputs, _SOURCE_INDEXES), (self.target, _TARGET_INDEXES)):
            for field in fields:
                if not store.ensure_index(field):
                    self.logger.warning("no index on %r of %s: queries will be slow", field, store.name)

    def get_items(self) -> Iterator[Document]:
        """Interfaces with new outputs: ``interface_id``, the outputs, and the document there is."""
        self.ensure_indexes()
        groups = self._new_outputs()
        self.total = len(groups)
        for interface_id, wanted in groups.items():
            outputs = [
                output
                for output in self._outputs.query({"uuid": {"$in": sorted({ref["uuid"] for ref in wanted})}})
                if _reference(output) in wanted
            ]
            present = self.target.query_one({KEY: interface_id}) if interface_id else None
            yield {KEY: interface_id, "outputs": outputs, "present": present}

    def _new_outputs(self) -> dict[str, list[Reference]]:
        """New outputs by interface id; those without a usable one under an empty id."""
        done = {_identity(ref) for doc in self._built() for ref in doc.get("built_from", [])}
        groups: dict[str, list[Reference]] = {}
        fields = ["uuid", "index", "completed_at", "output.interface_id"]
        for output in self._outputs.query({"output.doc_type": DOC_TYPE}, fields):
            ref = _reference(output)
            if _identity(ref) not in done:
                interface_id = output["output"].get(KEY)
                groups.setdefault(interface_id if isinstance(interface_id, str) else "", []).append(ref)
        return groups

    def _built(self) -> Iterable[Document]:
        if self.rebuild:
            return ()
        return self.target.query({"state": SUCCESSFUL} if self.retry_failed else {}, ["built_from"])

    def process_item(self, item: Document) -> list[Document]:
        """Documents from :meth:`get_items`'s item: the interface, if any output is good, and the failures."""
        good: list[Document] = []
        failures = []
        for output in item["outputs"]:
            try:
                check_output(output["output"])
                _age(_reference(output))
                good.append(output)
            except _CONTENT_ERRORS as error:
                self.logger.error("output of job %s cannot be used: %s", output.get("uuid"), error)
                failures.append(_failure(output, error))
        return [_merge(good, item["present"]), *failures] if good else failures

    def update_targets(self, items: list[list[Document]]) -> None:
        """Write the documents, and remove failures of outputs that are good now."""
        docs = [doc for item in items for doc in item]
        if not docs:
            return
        now = datetime.now(UTC).replace(tzinfo=None)
        for doc in docs:
            doc[self.target.last_updated_field] = now
        self.target.update(docs)
        healed = [_failure_id(ref) for doc in docs if doc["state"] == SUCCESSFUL for ref in doc["built_from"]]
        if healed and self.target.count({"state": FAILED}):
            self.target.remove_docs({"state": FAILED, KEY: {"$in": healed}})

    def build(self) -> BuildReport:
        """Build what is new, quietly, and leave the stores open.

        Returns
        -------
        BuildReport
            How many interfaces were written, and how many outputs failed.

        Raises
        ------
        DatabaseError
            If a store cannot be read or written.
        """
        self.connect()
        built = failed = 0
        for chunk in grouper(self.get_items(), self.chunk_size):
            processed = [self.process_item(item) for item in chunk]
            self.update_targets(processed)
            failures = sum(doc["state"] == FAILED for item in processed for doc in item)
            built += sum(map(len, processed)) - failures
            failed += failures
        return BuildReport(built, failed)


def check_output(output: Any) -> None:
    """Check that an InterfaceDoc, as plain data, holds what the collection's queries rest on.

    Raises
    ------
    TypeError, ValueError
        If a field is missing or not what it should be; the message names it.
    """
    if not isinstance(output, Mapping):
        raise TypeError(f"the output is not an InterfaceDoc but {type(output).__name__}")
    for field in (KEY, "system_id", "method_id", "film_formula", "substrate_formula"):
        if not isinstance(output.get(field), str) or not output[field]:
            raise ValueError(f"{field} must be a non-empty string, not {output.get(field)!r}")
    values = output.get("conductance")
    if not isinstance(values, list) or not values:
        raise ValueError(f"conductance must be a list of at least one value, not {values!r}")
    for position, entry in enumerate(values):
        if not isinstance(entry, Mapping):
            raise TypeError(f"conductance[{position}] must be an object, not {entry!r}")
        if not _is_number(entry.get("temperature")):
            raise ValueError(f"conductance[{position}].temperature must be a number, not {entry.get('temperature')!r}")
        if entry.get("value") is not None and not _is_number(entry["value"]):
            raise ValueError(f"conductance[{position}].value must be a number or null, not {entry['value']!r}")
        if not isinstance(entry.get("definition"), str):
            raise ValueError(f"conductance[{position}].definition must be a string, not {entry.get('definition')!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _merge(outputs: list[Document], present: Document | None) -> Document:
    """One document from outputs of the same interface and the document that is there."""
    outputs = sorted(outputs, key=lambda output: _age(_reference(output)))
    built_from = list(present.get("built_from", [])) if present else []
    newest = outputs[-1]
    is_newer = not built_from or _age(_reference(newest)) >= max(_age(ref) for ref in built_from)
    doc = dict(newest["output"]) if is_newer or present is None else dict(present)
    doc.pop("_id", None)
    for output in outputs:
        ref = _reference(output)
        built_from = [other for other in built_from if _failure_id(other) != _failure_id(ref)]
        built_from.append(ref)
    uuids: list[str] = list((present or {}).get("provenance", {}).get("job_uuids", []))
    for output in outputs:
        uuids += (output["output"].get("provenance") or {}).get("job_uuids") or []
        uuids.append(output["uuid"])
    doc["provenance"] = {**(doc.get("provenance") or {}), "job_uuids": list(dict.fromkeys(uuids))}
    doc["built_from"] = built_from
    doc["state"] = SUCCESSFUL
    return doc


def _failure(output: Document, error: Exception) -> Document:
    ref = _reference(output)
    return {
        KEY: _failure_id(ref),
        "doc_type": DOC_TYPE,
        "state": FAILED,
        "error": f"{type(error).__name__}: {error}",
        "provenance": {"job_uuids": [ref["uuid"]]},
        "built_from": [ref],
    }


def _reference(output: Document) -> Reference:
    return {name: output.get(name) for name in ("uuid", "index", "completed_at")}


def _identity(ref: Reference) -> tuple[Any, ...]:
    return ref["uuid"], ref["index"], str(ref["completed_at"])


def _failure_id(ref: Reference) -> str:
    return f"{FAILED}:{ref['uuid']}:{ref['index']}"


def _age(ref: Reference) -> tuple[float, int]:
    """Sorts outputs from old to new: by the time of completion, then by the job's index."""
    completed = ref["completed_at"]
    if isinstance(completed, str):
        completed = datetime.fromisoformat(completed)
    seconds = completed.timestamp() if isinstance(completed, datetime) else float("-inf")
    return seconds, ref["index"] if isinstance(ref["index"], int) else 0
