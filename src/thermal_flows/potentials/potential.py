"""A potential by name, file or importable factory: what it is, what it describes, how to build its calculator."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thermal_flows.potentials.builtin import BUILTIN_POTENTIALS
from thermal_flows.potentials.elements import CHGNET_ELEMENTS, refuse_unknown_elements
from thermal_flows.potentials.errors import PotentialError
from thermal_flows.potentials.factories import EXAMPLE, FACTORY, import_factory, is_calculator, source_sha256
from thermal_flows.potentials.forcefields import (
    CHGNET_RIPPLES,
    FORCE_FIELDS,
    SOFTENING,
    build_force_field,
    force_field,
    force_field_names,
    weights_in_package,
)
from thermal_flows.potentials.mace_file import MACEFile, existing_file, file_sha256, load_model, read_mace_file
from thermal_flows.potentials.torch_state import available_threads, check_device

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator
    from pymatgen.core import Structure

_PINNED = re.compile(r"(?P<path>.+)#sha256=(?P<sha256>[0-9a-f]{64})")
_FILE_SUFFIXES = frozenset(
    ".model .pt .pth .ckpt .json .yaml .xml .npz .tersoff .sw .eam .alloy .fs .meam".split()  # noqa: SIM905 - shorter
)
_MACE_CITATION = ("10.48550/arXiv.2206.07697",)
_HASHED = {
    "builtin": "parameters",
    "factory": "source file of the factory's module",
    "mace_file": "model file",
    "force_field": "file of the weights in the package",
}


@dataclass(frozen=True)
class Potential:
    """An interatomic potential, without its calculator: hashable, serialisable by its ``spec``.

    Attributes
    ----------
    name : str
        Name for tables: of a built-in potential or force field, of the file, or ``module:callable``.
    spec : str
        What :func:`resolve_potential` takes to give this potential again, on this machine or another that has the
        same files; for a file its absolute path and sha256, so that a file that has changed since is refused.
    elements : frozenset of str or None
        Chemical symbols that it describes; None if unknown.
    sha256 : str or None
        Of the canonical JSON of a built-in potential's parameters, of a model file, of the weights that come with a force field's
        package, or of the source file of the factory's module; None where there is none of these. A model file that a factory
        loads is not covered.
    citation : tuple of str
        DOIs to cite; empty if unknown.
    kind : {"builtin", "mace_file", "force_field", "factory"}
    dtype : str or None
        Precision of its forces; None if unknown, in which case their noise decides.
    may_download : bool
        Whether the calculator may fetch weights from the network; never for a file.
    warnings : tuple of str
        What a reader of its results must know.
    file : MACEFile or None
        Cut-off, layers and stored precision of a model file.
    smooth : bool
        Whether forces are smooth over the displacements of finite differences; if not, these can neither replace nor
        check its own second derivatives.
    """

    name: str
    spec: str
    elements: frozenset[str] | None
    sha256: str | None
    citation: tuple[str, ...] = ()
    kind: str = "factory"
    dtype: str | None = None
    may_download: bool = False
    warnings: tuple[str, ...] = ()
    file: MACEFile | None = None
    smooth: bool = True

    @property
    def is_builtin(self) -> bool:
        """Whether the name is one of ``BUILTIN_POTENTIALS``."""
        return self.kind == "builtin"

    @property
    def hessian_range(self) -> float | None:
        """Distance in Angstrom beyond which force constants vanish, None if unknown.

        The energy of an atom depends on what lies within the cut-off times the number of layers, so that two atoms
        are coupled up to twice that.
        """
        return None if self.file is None else 2 * self.file.cutoff * self.file.n_layers

    def calculator(self, device: str = "cpu", n_threads: int | None = None) -> Calculator:
        """Fresh ASE calculator, independent of every other.

        Parameters
        ----------
        device : str
            ``cpu``, ``cuda`` or ``cuda:<number>``, for machine-learned potentials by file or name.
        n_threads : int, optional
            Threads of torch on the CPU; ``OMP_NUM_THREADS`` or all cores of the process by default.

        Raises
        ------
        PotentialError
            If the device is not there, a file has changed or cannot be read, a package fails, or a factory fails or returns
            something else.
        """
        if self.kind == "builtin":
            entry = BUILTIN_POTENTIALS[self.name]
            return entry.build(entry.parameters(), self.name, entry.elements)
        if self.kind == "factory":
            return self._from_factory()
        check_device(device)
        threads = available_threads() if n_threads is None else n_threads
        if self.file is None:
            return build_force_field(self.name, device, threads)
        model = load_model(Path(self.file.path), self.file.sha256)
        from thermal_flows.potentials.mace_calculator import BatchedMACE

        return BatchedMACE(self.name, model, device=device, n_threads=threads)

    def _from_factory(self) -> Calculator:
        factory = import_factory(self.spec)
        try:
            calculator = factory()
        except Exception as error:
            # a factory may raise anything; the reason is kept
            raise PotentialError(
                f"the factory {self.spec!r} failed ({type(error).__name__}: {error}); it must work when called "
                "without arguments on the machine that runs the job"
            ) from error
        if not is_calculator(calculator):
            raise PotentialError(
                f"the factory {self.spec!r} returned {type(calculator).__name__}, not an ASE calculator "
                "(an object with get_potential_energy and get_forces)"
            )
        return calculator

    @cached_property
    def analytic_hessian(self) -> bool:
        """Whether the calculator has second derivatives of its own; builds one to look for a factory or a force field."""
        if self.kind == "builtin":
            return BUILTIN_POTENTIALS[self.name].analytic_hessian
        if self.kind == "mace_file":
            return True
        calculator = self.calculator()
        return hasattr(calculator, "hessian_of") or "hessian" in getattr(calculator, "implemented_properties", ())

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
        """JSON-able record: name, spec, kind, sha256 and what it covers, elements, DOIs, versions, parameters, warnings."""
        parameters: dict[str, Any] | None = None
        if self.kind == "builtin":
            parameters = BUILTIN_POTENTIALS[self.name].parameters()
        elif self.file is not None:
            parameters = {
                "cutoff": self.file.cutoff,
                "n_layers": self.file.n_layers,
                "stored_dtype": self.file.stored_dtype,
                "torchscript": self.file.scripted,
            }
        return {
            "name": self.name,
            "spec": self.spec,
            "kind": self.kind,
            "sha256": self.sha256,
            "sha256_of": None if self.sha256 is None else _HASHED[self.kind],
            "elements": None if self.elements is None else sorted(self.elements),
            "citation": list(self.citation),
            "packages": {package: version(package) for package in sorted({"ase", *self._packages()})},
            "parameters": parameters,
            "dtype": self.dtype,
            "may_download": self.may_download,
            "warnings": list(self.warnings),
        }

    def _packages(self) -> set[str]:
        if self.kind == "builtin":
            return {BUILTIN_POTENTIALS[self.name].package}
        if self.kind == "mace_file":
            return {"mace-torch", "torch"}
        if self.kind == "force_field":
            return {"atomate2", FORCE_FIELDS[self.name].distribution, "torch"}
        return set()


def _canonical_sha256(parameters: Mapping[str, Any]) -> str:
    text = json.dumps(parameters, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def resolve_potential(spec: str | Path | Potential) -> Potential:
    """Potential of a name, a file or an importable factory; everything that can be refused is refused here.

    Parameters
    ----------
    spec : str or pathlib.Path
        In this order:

        - a name of ``BUILTIN_POTENTIALS`` (``tersoff-si-ge``, ``tersoff-si-c``, ``sw-si``, ``emt``);
        - a name of atomate2's force fields (``CHGNet``, ``MACE-MP-0`` ...); its package must be installed, and some
          download their
          weights when their calculator is first built (``Potential.may_download``);
        - ``"module:callable"``: a function or class that returns an ASE calculator when called without arguments. The module is
          imported at once; the factory is called by :meth:`Potential.calculator` only;
        - the path of a MACE model as ``mace_run_train`` writes it (``NAME.model``, ``NAME_compiled.model``),
          absolute or relative to
          the current folder. It is read, checked and hashed at once, and never downloaded. **Reading it runs code that is in the
          file: name only files that you trust.**

        A :class:`Potential` is returned as it is.

    Returns
    -------
    Potential

    Raises
    ------
    PotentialError
        If the name is unknown, a package, module, callable or file is missing, a file is truncated, of another kind
        or changed since its ``spec`` was made, or a calculator instance is given (it cannot be stored in a Flow).
    """
    if isinstance(spec, Potential):
        return spec
    if is_calculator(spec):
        raise PotentialError(
            f"a calculator instance ({type(spec).__name__}) is refused: Flows are stored and run elsewhere, and a calculator "
            f"does not survive that. Instead {EXAMPLE}"
        )
    if isinstance(spec, Path):
        return _of_file(str(spec), None)
    if not isinstance(spec, str):
        raise PotentialError(
            f"a potential is a name, a file or 'module:callable', not {type(spec).__name__}. Known names: {_known_names()}"
        )
    if spec in BUILTIN_POTENTIALS:
        entry = BUILTIN_POTENTIALS[spec]
        return Potential(
            spec, spec, entry.elements, _canonical_sha256(entry.parameters()), entry.citation, "builtin", "float64"
        )
    if FACTORY.fullmatch(spec):
        import_factory(spec)
        return Potential(spec, spec, None, source_sha256(spec))
    pinned = _PINNED.fullmatch(spec)
    if pinned:
        return _of_file(pinned["path"], pinned["sha256"])
    if Path(spec).suffix.lower() in _FILE_SUFFIXES or "/" in spec or "\\" in spec:
        return _of_file(spec, None)
    names = force_field_names()
    if spec in names:
        return _of_force_field(names[spec])
    if Path(spec).is_file():
        return _of_file(spec, None)
    here = [path.name for path in Path().iterdir() if path.suffix.lower() in _FILE_SUFFIXES]
    spellings = {s.lower().replace("_", "-"): s for s in [*names, *BUILTIN_POTENTIALS, *here]}
    near = difflib.get_close_matches(spec.lower().replace("_", "-"), spellings, n=1, cutoff=0.4)
    hint = f" Did you mean {spellings[near[0]]!r}?" if near else ""
    raise PotentialError(
        f"unknown potential {spec!r}.{hint} Known names: {_known_names()}; force fields of atomate2: "
        f"{', '.join(FORCE_FIELDS)}. A MACE "
        f"model is named by the path of its file. For any other ASE calculator {EXAMPLE}"
    )


def _known_names() -> str:
    return "; ".join(f"{name} ({entry.description})" for name, entry in BUILTIN_POTENTIALS.items())


def _of_file(text: str, expected_sha256: str | None) -> Potential:
    path = existing_file(text)
    file = read_mace_file(path, expected_sha256)
    warnings: tuple[str, ...] = ()
    if file.stored_dtype != "float64":
        warnings = (f"The weights of {path.name} are stored in {file.stored_dtype}; they are used in float64.",)
    return Potential(
        path.name,
        f"{path}#sha256={file.sha256}",
        file.elements,
        file.sha256,
        _MACE_CITATION,
        "mace_file",
        "float64",
        warnings=warnings,
        file=file,
    )


def _of_force_field(name: str) -> Potential:
    entry = force_field(name)
    weights = weights_in_package(name)
    chgnet = name == "CHGNet"
    warnings = ((SOFTENING,) if entry.universal else ()) + ((CHGNET_RIPPLES,) if chgnet else ())
    return Potential(
        name,
        name,
        CHGNET_ELEMENTS if chgnet else None,
        None if weights is None else file_sha256(weights),
        entry.citation,
        "force_field",
        "float64" if chgnet or entry.module == "mace" else None,
        entry.may_download,
        warnings,
        smooth=not chgnet,
    )
