"""Errors of the database room: what went wrong, and what to do about it."""

from maggma.core import StoreError


class DatabaseError(StoreError):
    """Base of every error of this room; also a :class:`maggma.core.StoreError`."""

    def __init__(self, message: str) -> None:
        Exception.__init__(self, message)

    def __str__(self) -> str:
        return str(self.args[0])


class DatabaseFileError(DatabaseError):
    """A database file cannot be opened, read or written."""


class DatabaseNotFoundError(DatabaseFileError, FileNotFoundError):
    """A database file, or the folder it should be made in, does not exist."""


class QueryError(DatabaseError):
    """Criteria, a projection or a sort order that is malformed or not supported.

    Raised before anything is read, so that an unsupported operator never looks like an empty result.
    """


class DocumentError(DatabaseError):
    """A document that cannot be stored as it is; nothing of its batch has been written."""


class MissingKeyError(DocumentError, KeyError):
    """A document lacks a field that should identify it."""


class DuplicateValueError(DocumentError):
    """A document repeats a value of ``_id`` or of a field with a unique index."""
