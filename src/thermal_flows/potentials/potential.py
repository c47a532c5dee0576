"""A potential by name or importable factory: what it is, what it describes, how to build its calculator."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thermal_flows.potentials.builtin import BUILTIN_POTENTIALS
from thermal_flows.potentials.elements import refuse_unknown_elements
from thermal_flows.potentials.errors import PotentialError

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator
    from pymatgen.core import Structure

_FACTORY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_FILE_SUFFIXES = frozenset(
    [
        ".model",
        ".pt",
        ".pth",
        ".ckpt",
        ".json",
        ".yaml",
        ".xml",
        ".npz",
        ".tersoff",
        ".sw",
        ".eam",
        ".alloy",
        ".fs",
        ".meam",
    ]
)
_EXAMPLE = (
    "write a function of no arguments that returns an ASE calculator, in an importable module, for example "
    "my_potentials.py with `def model(): from mace.calculators import MACECalculator; return "
    "MACECalculator(model_paths='/absolute/path/to.model', device='cpu', default_dtype='float64')`, "
    "and name it 'my_potentials:model'"
)


@dataclass(frozen=True)
class Potential:
    """An interatomic potential, without its calculator: hashable, serialisable by its ``spec``.

    Attributes
    ----------
    name : str
        Name for tables: the built-in name or ``module:callable``.
    spec : str
        What :func:`resolve_potential` takes to give this potential again.
    elements : frozenset of str or None
        Chemical symbols that it describes; None if unknown.
    sha256 : str or None
        Of the canonical JSON of a built-in potential's parameters, or of the source file of the factory's
        module; None for a module without source file. A model file that the factory loads is not covered.
    citation : tuple of str
        DOIs to cite; empty if unknown.
    """

    name: str
    spec: str
    elements: frozenset[str] | None
    sha256: str | None
    citation: tuple[str, ...] = ()

    @property
    def is_builtin(self) -> bool:
        """Whether the name is one of ``BUILTIN_POTENTIALS``."""
        return self.name in BUILTIN_POTENTIALS

    def calculator(self) -> Calculator:
        """Fresh ASE calculator, independent of every other.

        Raises
        ------
        PotentialError
            If the factory fails or returns something else.
        """
        if self.is_builtin:
            entry = BUILTIN_POTENTIALS[self.name]
            return entry.build(entry.parameters(), self.name, entry.elements)
        factory = _import_factory(self.spec)
        try:
            calculator = factory()
        except Exception as error:
            # a factory may raise anything; the reason is kept
            raise PotentialError(
                f"the factory {self.spec!r} failed ({type(error).__name__}: {error}); it must work when called "
                "without arguments on the machine that runs the job"
            ) from error
        if not _is_calculator(calculator):
            raise PotentialError(
                f"the factory {self.spec!r} returned {type(calculator).__name__}, not an ASE calculator "
                "(an object with get_potential_energy and get_forces)"
            )
        return calculator

    @cached_property
    def analytic_hessian(self) -> bool:
        """Whether the calculator has ``get_property("hessian")``; builds one to look for a factory."""
        if self.is_builtin:
            return BUILTIN_POTENTIALS[self.name].analytic_hessian
        return "hessian" in getattr(self.calculator(), "implemented_properties", ())

    def check_elements(self, atoms: Atoms | Structure) -> None:
        """Refuse atoms of elements that the potential does not describe; no check if they are unknown.

        Parameters
        ----------
        atoms : ase.Atoms or pymatgen.core.Structure

        Raises
        ------
        PotentialError
            Naming the unknown elements and the known ones.
        """
        if self.elements is not None:
            refuse_unknown_elements(self.name, self.elements, atoms)

    def provenance(self) -> dict[str, Any]:
        """JSON-able record: name, spec, sha256 and what it covers, elements, DOIs, versions, parameters."""
        if self.is_builtin:
            entry = BUILTIN_POTENTIALS[self.name]
            covers: str | None = "parameters"
            packages = {package: version(package) for package in sorted({"ase", entry.package})}
            parameters: dict[str, Any] | None = entry.parameters()
        else:
            covers = None if self.sha256 is None else "source file of the factory's module"
            packages = {"ase": version("ase")}
            parameters = None
        return {
            "name": self.name,
            "spec": self.spec,
            "sha256": self.sha256,
            "sha256_of": covers,
            "elements": None if self.elements is None else sorted(self.elements),
            "citation": list(self.citation),
            "packages": packages,
            "parameters": parameters,
        }


def _is_calculator(candidate: object) -> bool:
    return not isinstance(candidate, type) and all(
        callable(getattr(candidate, method, None)) for method in ("get_potential_energy", "get_forces")
    )


def _canonical_sha256(parameters: dict[str, Any]) -> str:
    text = json.dumps(parameters, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _import_factory(spec: str) -> Callable[[], Any]:
    """Callable of ``module:callable``."""
    module_name, _, attribute = spec.partition(":")
    try:
        target: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and module_name.split(".")[: error.name.count(".") + 1] == error.name.split("."):
            raise PotentialError(
                f"potential {spec!r}: there is no importable module {error.name!r}. Jobs do not run in the folder where "
                "the module lies, and the current folder need not be on sys.path: install the module "
                "(pip install -e .) or put its folder on PYTHONPATH, here and where jobs run"
            ) from error
        raise PotentialError(
            f"potential {spec!r}: module {module_name!r} needs {error.name!r}, which is not installed"
        ) from error
    except Exception as error:
        # importing runs the user's code, which may raise anything; the reason is kept
        raise PotentialError(
            f"potential {spec!r}: importing {module_name!r} failed ({type(error).__name__}: {error})"
        ) from error
    for part in attribute.split("."):
        if not hasattr(target, part):
            near = difflib.get_close_matches(part, dir(target), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise PotentialError(f"potential {spec!r}: module {module_name!r} has no {attribute!r}{hint}")
        target = getattr(target, part)
    if not callable(target) or _is_calculator(target):
        raise PotentialError(
            f"potential {spec!r} names a {type(target).__name__}; it must name a function or class that returns an "
            "ASE calculator when called without arguments"
        )
    return target


def _source_sha256(spec: str) -> str | None:
    """Hash of the source file of the module named in ``spec``, None without one."""
    origin = getattr(sys.modules[spec.partition(":")[0]].__spec__, "origin", None)
    if origin is None or not Path(origin).is_file():
        return None
    return hashlib.sha256(Path(origin).read_bytes()).hexdigest()


def _known_names() -> str:
    return "; ".join(f"{name} ({entry.description})" for name, entry in BUILTIN_POTENTIALS.items())


def _looks_like_file(spec: str) -> bool:
    return Path(spec).suffix.lower() in _FILE_SUFFIXES or "/" in spec or "\\" in spec or Path(spec).exists()


def resolve_potential(spec: str | Potential) -> Potential:
    """Potential of a name or an importable factory.

    Parameters
    ----------
    spec : str
        A name of ``BUILTIN_POTENTIALS`` (``tersoff-si-ge``, ``tersoff-si-c``, ``sw-si``, ``emt``), or
        ``"module:callable"``: a function or class that returns an ASE calculator when called without
        arguments. The module is imported at once, so that a missing one is reported before any job;
        the factory is called by :meth:`Potential.calculator` only. A :class:`Potential` is returned as it is.

    Returns
    -------
    Potential

    Raises
    ------
    PotentialError
        If the name is unknown, the module cannot be imported or has no such callable, a calculator
        instance is given (it cannot be stored in a Flow) or a file (not supported yet).
    """
    if isinstance(spec, Potential):
        return spec
    if _is_calculator(spec):
        raise PotentialError(
            f"a calculator instance ({type(spec).__name__}) is refused: Flows are stored and run elsewhere, and a calculator "
            f"does not survive that. Instead {_EXAMPLE}"
        )
    if isinstance(spec, Path) or (
        isinstance(spec, str) and not _FACTORY.fullmatch(spec) and spec not in BUILTIN_POTENTIALS
    ):
        text = str(spec)
        if isinstance(spec, Path) or _looks_like_file(text):
            raise PotentialError(
                f"{text!r} is a file: potentials from files (MACE models ...) are not taken directly yet. For now {_EXAMPLE}"
            )
        near = difflib.get_close_matches(text.lower().replace("_", "-"), BUILTIN_POTENTIALS, n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise PotentialError(
            f"unknown potential {text!r}.{hint} Known names: {_known_names()}. For any other ASE calculator {_EXAMPLE}"
        )
    if not isinstance(spec, str):
        raise PotentialError(
            f"a potential is a name or 'module:callable', not {type(spec).__name__}. Known names: {_known_names()}"
        )
    if spec in BUILTIN_POTENTIALS:
        entry = BUILTIN_POTENTIALS[spec]
        return Potential(spec, spec, entry.elements, _canonical_sha256(entry.parameters()), entry.citation)
    _import_factory(spec)
    return Potential(spec, spec, None, _source_sha256(spec))
