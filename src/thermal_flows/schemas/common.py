"""What all documents share: provenance, versions, conductance values, convergence."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from thermal_flows import units

SCHEMA_VERSION = 1
"""Version of all documents of this package; raised when a field changes its meaning."""

_PACKAGES = (
    "thermal-flows",
    "numpy",
    "scipy",
    "ase",
    "pymatgen",
    "phonopy",
    "matscipy",
    "jobflow",
    "atomate2",
    "maggma",
)


def package_versions() -> dict[str, str]:
    """Versions of the packages that decide a result."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


class Document(BaseModel):
    """Base of all documents; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    @model_validator(mode="before")
    @classmethod
    def _without_labels(cls, content: Any) -> Any:
        """Take what a store returns: the labels ``@module``, ``@class`` and ``@version`` are no fields."""
        if not isinstance(content, dict):
            return content
        return {key: value for key, value in content.items() if key not in ("@module", "@class", "@version")}


class Provenance(Document):
    """Where a result came from."""

    potential: dict[str, Any] | None = Field(
        default=None,
        description="Potential: name, specification, sha256 of its file or parameters, elements, citation.",
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="Every setting of the calculation, in package units."
    )
    packages: dict[str, str] = Field(default_factory=package_versions, description="Versions of the packages in use.")
    job_uuids: list[str] = Field(default_factory=list, description="Jobflow jobs whose outputs this document rests on.")
    citations: list[str] = Field(default_factory=list, description="DOIs to cite with the result.")
    created_at: datetime = Field(
        default_factory=lambda: datetime.now(UTC), description="When the document was made, UTC."
    )

    @field_validator("created_at")
    @classmethod
    def _in_utc(cls, moment: datetime) -> datetime:
        """Stores drop the time zone."""
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


class ConductanceValue(Document):
    """One conductance, with what it means."""

    value: float | None = Field(
        description="Interfacial thermal conductance G in MW/(m2 K); null where the definition gives infinity (no interface)."
    )
    resistance: float | None = Field(
        description="Interfacial thermal resistance R = 1/G in 1e-9 m2 K/W; null where nothing is transmitted."
    )
    temperature: float = Field(description="Temperature in K.")
    definition: str = Field(
        description="'landauer': two-reservoir value, temperatures of the emitted phonons; 'nonequilibrium': temperatures of all "
        "phonons, corrected at each frequency."
    )
    statistics: str = Field(description="'quantum' (Bose-Einstein) or 'classical' (k_B a mode).")
    method: str = Field(description="'mode_matching', 'diffuse_mismatch', 'maximum_transmission' or 'radiation_limit'.")
    error: float | None = Field(
        description="Numerical error of G in MW/(m2 K): sum of the absolute changes when each setting under `convergence` is "
        "coarsened (mesh and grid in two ways each, the larger change). It says nothing about the potential or the harmonic "
        "approximation."
    )


class ConvergenceTest(Document):
    """One setting that was varied, and how the conductance moved."""

    parameter: str = Field(description="What was varied: q_mesh, n_frequencies, device_length or hessian.")
    used: Any = Field(description="Setting of the reported result.")
    compared: Any = Field(description="Setting it was compared with.")
    temperature: float = Field(description="Temperature of the compared conductances in K.")
    conductance_used: float = Field(description="Two-reservoir quantum conductance with the setting used, MW/(m2 K).")
    conductance_compared: float = Field(description="The same with the setting compared, MW/(m2 K).")
    relative_change: float = Field(description="|compared - used| / used, dimensionless.")
    settings: str = Field(description="Mesh and grid on which the two were compared.")


def conductance_value(
    value: float,
    temperature: float,
    definition: str,
    statistics: str,
    method: str,
    error: float | None,
) -> ConductanceValue:
    """A :class:`ConductanceValue` from a number in MW/(m2 K); infinity becomes null with zero resistance."""
    finite = value != float("inf")
    return ConductanceValue(
        value=float(value) if finite else None,
        resistance=(float(units.resistance_from_conductance(value)) if value > 0 else None) if finite else 0.0,
        temperature=float(temperature),
        definition=definition,
        statistics=statistics,
        method=method,
        error=None if error is None or not finite else float(error),
    )
