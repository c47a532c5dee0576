"""Documents that match, in order, without holding a transaction open while the caller looks at them."""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

from thermal_flows.database.criteria import Node, matcher
from thermal_flows.database.planning import Candidates
from thermal_flows.database.projection import sort_documents
from thermal_flows.database.sqlite_file import SQLiteFile
from thermal_flows.database.tables import Row, Tables, read_row

Document = dict[str, Any]
_BATCH_ROWS = 1000
_BATCH_BYTES = 4_000_000


class Reader:
    """One query on one collection.

    Parameters
    ----------
    file : SQLiteFile
        Where the collection is.
    collection : str
        Its name; one that does not exist has no documents.
    condition : Node
        Which documents.
    order : list
        Paths to sort by, and whether they descend; the order of insertion if empty.
    """

    def __init__(
        self, file: SQLiteFile, collection: str, condition: Node, order: list[tuple[tuple[str, ...], bool]]
    ) -> None:
        self.file = file
        self.collection = collection
        self.condition = condition
        self.order = order
        self.matches = matcher(condition)

    def documents(self, skip: int, limit: int) -> Iterator[Document]:
        """Matching documents in order, ``skip`` left out first, at most ``limit`` of them (0: all)."""
        stop = skip + limit if limit else None
        found: list[Document] | None = None
        with self.file.read() as connection:
            tables = Tables(connection, self.collection)
            if not tables.exist:
                return
            plan, exact = tables.plan(self.condition)
            ordered = self._order_by_index(tables, plan)
            ids = tables.ids(ordered or plan, lazy=stop is not None)
            rows = tables.rows(ids)
            if self.order and ordered is None:
                found = list(self._tested(rows, exact))
                sort_documents(found, self.order)
            elif stop is not None:
                found = list(islice(self._tested(rows, exact), stop))
            else:
                first = _batch(rows)
        if found is not None:
            yield from found[skip:stop]
            return
        # later batches are of a later moment, and so have to be tested even if the candidates were exact
        later = self._tested(self._later(first, ids), exact=False)
        yield from islice(chain(self._tested(iter(first), exact), later), skip, None)

    def _order_by_index(self, tables: Tables, plan: Candidates | None) -> Candidates | None:
        if len(self.order) != 1:
            return None
        parts, descending = self.order[0]
        return tables.planner().order(".".join(parts), descending, plan)

    def _tested(self, rows: Iterator[Row], exact: bool) -> Iterator[Document]:
        docs = map(read_row, rows)
        return docs if exact else filter(self.matches, docs)

    def _later(self, batch: list[Row], ids: Iterable[int] | None) -> Iterator[Row]:
        """Rows after the first batch, in batches of one moment each."""
        remaining = None if ids is None else deque(ids)
        while batch:
            last = batch[-1][0]
            if remaining is not None:
                while remaining and remaining.popleft() != last:
                    pass
            with self.file.read() as connection:
                tables = Tables(connection, self.collection)
                batch = _batch(tables.rows(remaining, after=last))
            yield from batch


def _batch(rows: Iterator[Row]) -> list[Row]:
    """The next rows, as many as fit in memory without notice."""
    batch: list[Row] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row[2])
        if size > _BATCH_BYTES or len(batch) == _BATCH_ROWS:
            break
    return batch
