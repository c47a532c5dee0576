"""Stores, builders and the query client: results in one file, queried like MongoDB."""

from thermal_flows.database.client import Interfaces, ThermalDatabase
from thermal_flows.database.errors import (
    DatabaseError,
    DatabaseFileError,
    DatabaseNotFoundError,
    DocumentError,
    DuplicateValueError,
    MissingKeyError,
    QueryError,
)
from thermal_flows.database.interface_builder import BuildReport, InterfaceBuilder
from thermal_flows.database.job_store import job_store
from thermal_flows.database.sqlite_store import SQLiteStore

__all__ = [
    "BuildReport",
    "DatabaseError",
    "DatabaseFileError",
    "DatabaseNotFoundError",
    "DocumentError",
    "DuplicateValueError",
    "InterfaceBuilder",
    "Interfaces",
    "MissingKeyError",
    "QueryError",
    "SQLiteStore",
    "ThermalDatabase",
    "job_store",
]
