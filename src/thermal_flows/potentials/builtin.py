"""Potentials known by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from thermal_flows.potentials import tersoff

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

EMT_METALS = frozenset({"Al", "Cu", "Ag", "Au", "Ni", "Pd", "Pt"})


@dataclass(frozen=True)
class BuiltinPotential:
    """A potential that :func:`thermal_flows.potentials.resolve_potential` knows by name.

    Attributes
    ----------
    description : str
        One line for lists.
    elements : frozenset of str
        Chemical symbols that it describes.
    citation : tuple of str
        DOIs.
    analytic_hessian : bool
        Whether its calculator has ``get_property("hessian")``.
    package : str
        Distribution that implements it, for provenance.
    parameters : callable
        Returns the JSON-able parameters: what identifies the potential.
    build : callable
        Takes the parameters, the name and the elements and returns a fresh ASE calculator.
    """

    description: str
    elements: frozenset[str]
    citation: tuple[str, ...]
    analytic_hessian: bool
    package: str
    parameters: Callable[[], dict[str, Any]]
    build: Callable[[dict[str, Any], str, frozenset[str]], Calculator]


def _tersoff(parameters: dict[str, Any], name: str, elements: frozenset[str]) -> Calculator:
    from matscipy.calculators.manybody.explicit_forms import TersoffBrenner

    from thermal_flows.potentials.calculators import KnownElementsManybody

    return KnownElementsManybody(name, elements, **TersoffBrenner(parameters))


def _stillinger_weber(parameters: dict[str, Any], name: str, elements: frozenset[str]) -> Calculator:
    from matscipy.calculators.manybody.explicit_forms import StillingerWeber

    from thermal_flows.potentials.calculators import KnownElementsManybody

    return KnownElementsManybody(name, elements, **StillingerWeber(parameters))


def _emt(parameters: dict[str, Any], name: str, elements: frozenset[str]) -> Calculator:  # noqa: ARG001
    from thermal_flows.potentials.calculators import KnownElementsEMT

    return KnownElementsEMT(name, elements)


def _tersoff_si_c_parameters() -> dict[str, Any]:
    from matscipy.calculators.manybody.explicit_forms.tersoff_brenner import Tersoff_PRB_39_5566_Si_C

    return dict(Tersoff_PRB_39_5566_Si_C)


def _sw_si_parameters() -> dict[str, Any]:
    from matscipy.calculators.manybody.explicit_forms.stillinger_weber import Stillinger_Weber_PRB_31_5262_Si

    return dict(Stillinger_Weber_PRB_31_5262_Si)


def _emt_parameters() -> dict[str, Any]:
    from ase.calculators.emt import beta, parameters

    return {
        "beta": beta,
        "asap_cutoff": False,
        "metals": {metal: list(parameters[metal]) for metal in sorted(EMT_METALS)},
    }


BUILTIN_POTENTIALS: Mapping[str, BuiltinPotential] = MappingProxyType(
    {
        "tersoff-si-ge": BuiltinPotential(
            "Tersoff 1989 for Si, Ge and their alloys",
            frozenset({"Si", "Ge"}),
            tersoff.CITATION,
            True,
            "matscipy",
            tersoff.si_ge_parameters,
            _tersoff,
        ),
        "tersoff-si-c": BuiltinPotential(
            "Tersoff 1989 for Si, C and SiC",
            frozenset({"Si", "C"}),
            tersoff.CITATION,
            True,
            "matscipy",
            _tersoff_si_c_parameters,
            _tersoff,
        ),
        "sw-si": BuiltinPotential(
            "Stillinger and Weber 1985 for Si",
            frozenset({"Si"}),
            ("10.1103/PhysRevB.31.5262", "10.1103/PhysRevB.33.1451"),
            True,
            "matscipy",
            _sw_si_parameters,
            _stillinger_weber,
        ),
        "emt": BuiltinPotential(
            "Effective medium theory for Al, Cu, Ag, Au, Ni, Pd and Pt; smooth and quick, not quantitative for phonons",
            EMT_METALS,
            ("10.1016/0039-6028(96)00816-3",),
            False,
            "ase",
            _emt_parameters,
            _emt,
        ),
    }
)
"""Potentials by name; ``emt`` leaves out ASE's toy parameters for H, C, N and O."""
