"""The database as its users see it: ``ThermalDatabase("results.db").interfaces.query(...)``."""

import threading
import warnings
from collections.abc import Callable, Mapping
from numbers import Real
from pathlib import Path
from types import TracebackType
from typing import Any

from jobflow import JobStore
from maggma.core import Sort, Store

from thermal_flows.database.blobs import load_arrays, load_document
from thermal_flows.database.errors import DatabaseError, DatabaseNotFoundError, QueryError
from thermal_flows.database.interface_builder import FAILED, KEY, SUCCESSFUL, BuildReport, InterfaceBuilder
from thermal_flows.database.job_store import DATA, output_stores
from thermal_flows.database.sqlite_file import absolute_path
from thermal_flows.database.sqlite_store import SQLiteStore

Document = dict[str, Any]
INTERFACES = "interfaces"
BUILDS = "builds"
_TEMPERATURE_TOLERANCE = 1e-6


class Interfaces:
    """The interfaces of a :class:`ThermalDatabase`: one document per physical system and method.

    Documents are plain dicts with the fields of ``thermal_flows.schemas.InterfaceDoc``, and
    ``state``, ``built_from`` and ``last_updated``. Conductances are in MW/(m2 K), temperatures in K.
    Outputs that could not be used are left out unless the criteria name ``state``; see
    :meth:`failures`.
    """

    def __init__(self, store: SQLiteStore, data: Mapping[str, Store], refresh: Callable[[], None]) -> None:
        self._store = store
        self._data = data
        self._refresh = refresh

    def __repr__(self) -> str:
        return f"<interfaces of {self._store.name}>"

    def query(
        self,
        criteria: Mapping[str, Any] | None = None,
        properties: Mapping[str, Any] | list[str] | None = None,
        sort: Mapping[str, Sort | int] | None = None,
        skip: int = 0,
        limit: int = 0,
    ) -> list[Document]:
        """Interfaces that match Mongo criteria.

        Parameters
        ----------
        criteria : mapping, optional
            Such as ``{"film_formula": "Ge", "conductance": {"$elemMatch": {"temperature": 300,
            "value": {"$gt": 100}}}}``, in MW/(m2 K) and K. Everything by default.
        properties : list or mapping, optional
            Fields to return, such as ``["label", "conductance"]``. All by default.
        sort : mapping, optional
            Fields and 1 (ascending) or -1 (descending).
        skip, limit : int
            How many to leave out first, and to return at most (0: all).

        Returns
        -------
        list of dict

        Raises
        ------
        QueryError
            If an argument is malformed or not supported.
        DatabaseFileError
            If the file cannot be read.
        """
        self._refresh()
        return list(self._store.query(_successful(criteria), _without_id(properties), sort, skip, limit))

    def query_one(
        self,
        criteria: Mapping[str, Any] | None = None,
        properties: Mapping[str, Any] | list[str] | None = None,
        sort: Mapping[str, Sort | int] | None = None,
    ) -> Document | None:
        """The first interface that matches, or None; arguments and errors as in :meth:`query`."""
        return next(iter(self.query(criteria, properties, sort, limit=1)), None)

    def count(self, criteria: Mapping[str, Any] | None = None) -> int:
        """Number of interfaces that match.

        Parameters
        ----------
        criteria : mapping, optional
            As in :meth:`query`, with its errors; everything by default.
        """
        self._refresh()
        return self._store.count(_successful(criteria))

    def distinct(self, field: str, criteria: Mapping[str, Any] | None = None) -> list[Any]:
        """Values that a field has in the interfaces that match.

        Parameters
        ----------
        field : str
            Such as ``"film_formula"`` or ``"provenance.potential.name"``.
        criteria : mapping, optional
            As in :meth:`query`, with its errors; everything by default.
        """
        self._refresh()
        return self._store.distinct(field, _successful(criteria))

    def find(
        self,
        film: str | None = None,
        substrate: str | None = None,
        temperature: float | None = None,
        properties: Mapping[str, Any] | list[str] | None = None,
    ) -> list[Document]:
        """Interfaces between two crystals, whichever of them is the substrate.

        Parameters
        ----------
        film, substrate : str, optional
            Formulas, reduced here (``Ga4As4`` is ``GaAs``); with one of them, its interfaces with
            anything. The documents tell which is the substrate.
        temperature : float, optional
            Only interfaces with a conductance at this temperature, in K.
        properties : list or mapping, optional
            Fields to return.

        Returns
        -------
        list of dict

        Raises
        ------
        QueryError
            If a formula or the temperature is not one.
        """
        formulas = [_reduced(formula) for formula in (film, substrate) if formula is not None]
        criteria: dict[str, Any] = {}
        if formulas:
            pairs = [formulas, formulas[::-1]] if len(formulas) == 2 else [[formulas[0], None], [None, formulas[0]]]
            criteria["$or"] = [_pair(*pair) for pair in pairs]
        if temperature is not None:
            if isinstance(temperature, bool) or not isinstance(temperature, Real) or not temperature >= 0:
                raise QueryError(f"temperature must be a number in K, not {temperature!r}")
            criteria["conductance"] = {"$elemMatch": {"temperature": _near(float(temperature))}}
        return self.query(criteria, properties)

    def failures(self) -> list[Document]:
        """Outputs that could not be used, with their ``error`` and the uuid of their job."""
        return self.query({"state": FAILED})

    def arrays(self, document: Mapping[str, Any]) -> Document:
        """Arrays of a document, from the additional store.

        Parameters
        ----------
        document : mapping
            A document from :meth:`query`, or part of one, with its references.

        Returns
        -------
        dict
            Content by dotted field name, such as ``{"spectrum": {"frequencies": array, ...}}``, in
            the units of the document's schema.

        Raises
        ------
        DatabaseError
            If an array is missing.
        """
        return {".".join(map(str, path)): value for path, value in load_arrays(document, self._data).items()}


class ThermalDatabase:
    """Results in a file that :func:`thermal_flows.database.job_store` wrote.

    Collections are brought up to date whenever the file has new job outputs, so that what
    ``run_locally`` has just written is there.

    Parameters
    ----------
    path : str or Path, optional
        The file; by default the setting ``database``.
    read_only : bool
        Never write, and so never build; a warning tells if outputs are not built yet.

    Raises
    ------
    DatabaseNotFoundError
        If there is no such file; none is made.
    DatabaseFileError
        If it cannot be read or written, or holds something else.
    NotImplementedError
        For a ``mongodb://`` URI.
    ValueError
        If no path is given and none is set.

    Examples
    --------
    >>> with ThermalDatabase("results.db") as db:  # doctest: +SKIP
    ...     for doc in db.interfaces.find(film="Ge", substrate="Si", temperature=300):
    ...         print(doc["label"], doc["conductance"][0]["value"])
    """

    def __init__(self, path: str | Path | None = None, read_only: bool = False) -> None:
        if path is None:
            path = _path_from_settings()
        if str(path).startswith(("mongodb://", "mongodb+srv://")):
            raise NotImplementedError("MongoDB databases are not supported yet; give the path of a database file")
        self.path = absolute_path(path)
        self.read_only = read_only
        if not self.path.exists():
            raise DatabaseNotFoundError(
                f"there is no database file {self.path}; run a flow with store=job_store({str(path)!r}) to write one"
            )
        self._outputs, data = output_stores(self.path, synchronous="FULL", read_only=read_only, timeout=60.0)
        self._data = {DATA: data}
        self.job_store = JobStore(self._outputs, additional_stores=dict(self._data))
        self._target = SQLiteStore(self.path, INTERFACES, key=KEY, read_only=read_only)
        self._builds = SQLiteStore(self.path, BUILDS, key="builder", read_only=read_only)
        self.job_store.connect()
        self._lock = threading.Lock()
        self._warned = False
        self.interfaces = Interfaces(self._target, self._data, self._refresh)

    def __repr__(self) -> str:
        return f"ThermalDatabase({str(self.path)!r})"

    def __enter__(self) -> "ThermalDatabase":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        for store in (self.job_store, self._target, self._builds):
            store.close()

    def build(self, retry_failed: bool = False, rebuild: bool = False) -> BuildReport:
        """Bring the collections up to date with the job outputs, whether or not there seem to be new ones.

        Parameters
        ----------
        retry_failed : bool
            Whether to try again what failed before.
        rebuild : bool
            Whether to read all outputs again.

        Returns
        -------
        BuildReport
            How many interfaces were written, and how many outputs failed.

        Raises
        ------
        DatabaseError
            If the database was opened with ``read_only=True``, or cannot be written.
        """
        if self.read_only:
            raise DatabaseError(f"{self.path} was opened with read_only=True; open it without to build")
        with self._lock:
            return self._build(retry_failed, rebuild)

    def _build(self, retry_failed: bool, rebuild: bool) -> BuildReport:
        writes = self._writes()
        report = InterfaceBuilder(self.job_store, self._target, retry_failed=retry_failed, rebuild=rebuild).build()
        self._builds.update({"builder": INTERFACES, "version": InterfaceBuilder.version, "source_writes": writes})
        return report

    def _refresh(self) -> None:
        """Build if there are outputs that the last build, by whichever process, has not seen."""
        with self._lock:
            last = self._builds.query_one({"builder": INTERFACES}) or {}
            is_current = last.get("version") == InterfaceBuilder.version
            if is_current and last.get("source_writes") == self._writes():
                return
            if not self.read_only:
                self._build(retry_failed=False, rebuild=bool(last) and not is_current)
            elif not self._warned and self._writes():
                self._warned = True
                warnings.warn(
                    f"{self.path} has job outputs that are not in its collections yet; open it once without read_only=True",
                    stacklevel=4,
                )

    def _writes(self) -> int:
        return self._outputs.change_count()

    def load(self, document: Mapping[str, Any]) -> Document:
        """Copy of a document with its arrays in place of the references.

        Parameters
        ----------
        document : mapping
            From a query.

        Raises
        ------
        DatabaseError
            If an array is missing.
        """
        return load_document(document, self._data)


def _path_from_settings() -> str:
    from thermal_flows.settings import settings

    path = settings().database
    if path is None:
        raise ValueError(
            'no database is given: call ThermalDatabase("results.db"), or set THERMAL_FLOWS_DATABASE, or "database:" in '
            "~/.thermal_flows.yaml"
        )
    return path


def _successful(criteria: Mapping[str, Any] | None) -> dict[str, Any]:
    if criteria is not None and not isinstance(criteria, Mapping):
        raise QueryError(f'criteria must be a dict such as {{"film_formula": "Ge"}}, not {criteria!r}')
    criteria = dict(criteria or {})
    return criteria if "state" in criteria else {**criteria, "state": SUCCESSFUL}


def _without_id(properties: Mapping[str, Any] | list[str] | None) -> dict[str, Any]:
    spec = dict(properties) if isinstance(properties, Mapping) else dict.fromkeys(properties or [], 1)
    return {"_id": 0, **spec}


def _pair(film: str | None, substrate: str | None) -> dict[str, str]:
    pair = {"film_formula": film, "substrate_formula": substrate}
    return {field: formula for field, formula in pair.items() if formula is not None}


def _near(temperature: float) -> dict[str, float]:
    return {"$gte": temperature - _TEMPERATURE_TOLERANCE, "$lte": temperature + _TEMPERATURE_TOLERANCE}


def _reduced(formula: str) -> str:
    from pymatgen.core import Composition

    try:
        return str(Composition(formula).reduced_formula)
    except (TypeError, ValueError) as error:
        raise QueryError(f"{formula!r} is not a chemical formula such as 'Ge' or 'GaAs'") from error
