"""Candidates for criteria and sort orders from the index table: always a superset of the matches.

A collection's index table has one row ``(field, type, value, id)`` per scalar that an indexed path
leads to in document ``id`` (:func:`thermal_flows.database.paths.index_entries`). A condition on an
indexed field becomes a ``SELECT id``; conditions that say nothing about single scalars (``$exists``,
``$regex``, ``$nor``, a dict or a list as value ...) are left to the final filter.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from thermal_flows.database.criteria import ELEMENT, RANGES, Condition, Leaf, Node
from thermal_flows.database.errors import DocumentError
from thermal_flows.database.paths import IN_ARRAY, NOT_SCALAR, NULL, scalar_entry
from thermal_flows.database.values import encode_id

_CHUNK = 400
# SQLite allows 32,766 parameters and 500 joined SELECTs by default; beyond, documents are read and tested
_MOST_VALUES = 20_000
_MOST_SELECTS = 400
_LOWER = frozenset({"$gt", "$gte"})
_SIGN = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}


@dataclass(frozen=True)
class Candidates:
    """Ids of documents that may match."""

    sql: str
    """A ``SELECT id`` over the index table; ids may repeat."""
    parameters: tuple[Any, ...]
    exact: bool
    """Whether every one of them does match, so that no document needs to be tested."""
    field: int | None = None
    """Number of the index field, if they come from one range of it."""
    ordered: bool = False
    """Whether the ids come in the order of a field, each once."""


class Planner:
    """Candidates from one collection's index table.

    Parameters
    ----------
    documents, table : str
        Quoted names of the tables of documents and of index rows.
    fields : mapping
        Number of each indexed field.
    has_arrays : callable
        Tells whether an indexed field, given by number, goes through an array in any document.
    """

    def __init__(
        self, documents: str, table: str, fields: Mapping[str, int], has_arrays: Callable[[int], bool]
    ) -> None:
        self.documents = documents
        self.table = table
        self.fields = fields
        self.has_arrays = has_arrays

    def plan(self, condition: Condition) -> Candidates | None:
        """Candidates for a condition, or None if the index table does not narrow them down."""
        plan = self._plan(condition)
        if plan is not None and (len(plan.parameters) > _MOST_VALUES or plan.sql.count("SELECT") > _MOST_SELECTS):
            return None
        return plan

    def _plan(self, condition: Condition) -> Candidates | None:
        if isinstance(condition, Leaf):
            return self._leaf(condition)
        if condition.kind == "nor":
            return None
        if condition.kind == "or":
            parts = [self._plan(child) for child in condition.children]
            known = [part for part in parts if part is not None]
            return _combine("UNION", known, exact=True) if len(known) == len(parts) else None
        return self._all(_flat(condition))

    def _all(self, conditions: list[Condition]) -> Candidates | None:
        ranges, others = self._merge_ranges(conditions)
        parts = [*ranges, *(self._plan(condition) for condition in others)]
        known = [part for part in parts if part is not None]
        return _combine("INTERSECT", known, exact=len(known) == len(parts)) if known else None

    def _merge_ranges(self, conditions: list[Condition]) -> tuple[list[Candidates], list[Condition]]:
        """One index range for both bounds on a field, where no array may meet them with two elements."""
        bounds: dict[str, list[Leaf]] = {}
        others: list[Condition] = []
        for condition in conditions:
            if isinstance(condition, Leaf) and condition.operator in RANGES and condition.field in self.fields:
                bounds.setdefault(condition.field, []).append(condition)
            else:
                others.append(condition)
        merged = []
        for field, leaves in bounds.items():
            kinds = {entry[0] for entry in (scalar_entry(leaf.operand) for leaf in leaves) if entry is not None}
            if len(leaves) == 2 and len(kinds) == 1 and NULL not in kinds and not self.has_arrays(self.fields[field]):
                lower, upper = sorted(leaves, key=lambda leaf: leaf.operator not in _LOWER)
                if lower.operator in _LOWER and upper.operator not in _LOWER and _scalar(lower) and _scalar(upper):
                    both = f"value {_SIGN[lower.operator]} ? AND value {_SIGN[upper.operator]} ?"
                    values = (_value(lower), _value(upper))
                    merged.append(self._select(field, kinds.pop(), both, values, exact=True))
                    continue
            others.extend(leaves)
        return merged, others

    def _leaf(self, leaf: Leaf) -> Candidates | None:
        if leaf.operator == "element":
            return self._element(leaf)
        if leaf.field == "_id":
            return self._identifier(leaf)
        if leaf.field not in self.fields:
            return None
        if leaf.operator == "in":
            return self._any_of(leaf)
        entry = scalar_entry(leaf.operand)
        if entry is None:
            return None
        if leaf.operator == "eq":
            # the null entry also stands for paths that end early, which a null condition may not match
            return self._select(leaf.field, entry[0], "value = ?", (entry[1],), exact=entry[0] != NULL)
        if leaf.operator in RANGES and entry[0] != NULL:
            return self._select(leaf.field, entry[0], f"value {_SIGN[leaf.operator]} ?", (entry[1],), exact=True)
        return None

    def _identifier(self, leaf: Leaf) -> Candidates | None:
        values = leaf.operand if leaf.operator == "in" else [leaf.operand]
        if leaf.operator not in ("eq", "in") or not 0 < len(values) <= _CHUNK:
            return None
        try:
            encoded = tuple(encode_id(value) for value in values)
        except DocumentError:
            return None
        marks = ", ".join("?" * len(encoded))
        return Candidates(f"SELECT id FROM {self.documents} WHERE _id IN ({marks})", encoded, True)

    def _any_of(self, leaf: Leaf) -> Candidates | None:
        by_type: dict[int, list[Any]] = {}
        for value in leaf.operand:
            entry = scalar_entry(value)
            if entry is None:
                return None
            by_type.setdefault(entry[0], []).append(entry[1])
        parts = [
            self._select(
                leaf.field, kind, f"value IN ({', '.join('?' * len(chunk))})", tuple(chunk), exact=kind != NULL
            )
            for kind, values in by_type.items()
            for chunk in (values[start : start + _CHUNK] for start in range(0, len(values), _CHUNK))
        ]
        if not parts:
            return Candidates(f"SELECT id FROM {self.table} WHERE 0", (), True)
        return _combine("UNION", parts, exact=True)

    def _element(self, leaf: Leaf) -> Candidates | None:
        """Conditions that one element of an array must meet, each as a condition on all of them."""
        parts = []
        for condition in _flat(leaf.operand):
            if not isinstance(condition, Leaf) or condition.operator == "element":
                continue
            if condition.field == ELEMENT:
                field = leaf.field
            elif condition.field.split(".")[0].isdigit():
                continue
            else:
                field = f"{leaf.field}.{condition.field}"
            plan = self._leaf(Leaf(field, condition.operator, condition.operand))
            if plan is not None:
                parts.append(plan)
        return _combine("INTERSECT", parts, exact=False) if parts else None

    def _select(self, field: str, kind: int, condition: str, values: tuple[Any, ...], exact: bool) -> Candidates:
        sql = f"SELECT id FROM {self.table} WHERE field = ? AND type = ? AND {condition}"
        return Candidates(sql, (self.fields[field], kind, *values), exact, self.fields[field])

    def order(self, field: str, descending: bool, candidates: Candidates | None) -> Candidates | None:
        """The same ids in the order of one indexed field, or None where the index cannot give MongoDB's order."""
        number = self.fields.get(field)
        if number is None or self.has_arrays(number):
            return None
        way = "DESC" if descending else "ASC"
        by = f"ORDER BY type {way}, value {way}, id"
        if candidates is None:
            return Candidates(f"SELECT id FROM {self.table} WHERE field = ? {by}", (number,), False, ordered=True)
        if candidates.field == number:
            return replace(candidates, sql=f"{candidates.sql} {by}", ordered=True)
        sql = f"SELECT id FROM {self.table} WHERE field = ? AND id IN ({candidates.sql}) {by}"
        return Candidates(sql, (number, *candidates.parameters), candidates.exact, ordered=True)


def array_test(table: str) -> str:
    """SQL that finds a document in which field ``?`` goes through an array or to something not scalar."""
    return f"SELECT 1 FROM {table} WHERE field = ? AND type IN ({IN_ARRAY}, {NOT_SCALAR}) LIMIT 1"


def _scalar(leaf: Leaf) -> bool:
    return scalar_entry(leaf.operand) is not None


def _value(leaf: Leaf) -> Any:
    entry = scalar_entry(leaf.operand)
    return None if entry is None else entry[1]


def _flat(condition: Node) -> list[Condition]:
    out: list[Condition] = []
    for child in condition.children:
        out.extend(_flat(child) if isinstance(child, Node) and child.kind == "and" else [child])
    return out


def _combine(operator: str, parts: list[Candidates], exact: bool) -> Candidates:
    exact = exact and all(part.exact for part in parts)
    if len(parts) == 1:
        return replace(parts[0], exact=exact)
    sql = f" {operator} ".join(f"SELECT id FROM ({part.sql})" for part in parts)
    return Candidates(sql, tuple(value for part in parts for value in part.parameters), exact)
