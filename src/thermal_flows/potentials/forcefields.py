"""Force fields by atomate2's names, built by atomate2's own function."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from thermal_flows.potentials.errors import PotentialError
from thermal_flows.potentials.torch_state import kept_dtype, loading_pickles

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

SOFTENING = (
    "A universal potential: it was fitted near equilibrium and makes most crystals too soft, so that phonon "
    "frequencies come out low "
    "(doi:10.1038/s41524-024-01500-6)."
)
CHGNET_RIPPLES = (
    "CHGNet's energy has ripples a few hundredths of an Angstrom long: its force constants are those at the relaxed "
    "positions, and "
    "displacements of 0.05 Angstrom give others (in silicon a highest frequency lower by 20 %)."
)


@dataclass(frozen=True)
class ForceField:
    """A name of atomate2.

    Attributes
    ----------
    module : str
        Python module that must be importable.
    distribution : str
        Its distribution, for provenance.
    install : str
        pip command for it.
    may_download : bool
        Whether the weights come from the network when they are not there yet.
    needs_file : bool
        Whether its calculator takes a file of parameters, which a bare name cannot give.
    citation : tuple of str
        DOIs.
    universal : bool
        Whether it was fitted to most of the periodic table.
    """

    module: str
    distribution: str
    install: str
    may_download: bool = True
    needs_file: bool = False
    citation: tuple[str, ...] = ()
    universal: bool = True


def _mace(doi: str) -> ForceField:
    return ForceField("mace", "mace-torch", "pip install mace-torch", citation=(doi, "10.48550/arXiv.2206.07697"))


def _own_file(module: str, package: str) -> ForceField:
    return ForceField(module, package, f"pip install {package}", False, needs_file=True, universal=False)


FORCE_FIELDS: Mapping[str, ForceField] = MappingProxyType(
    {
        "CHGNet": ForceField(
            "chgnet", "chgnet", 'pip install "thermal-flows[chgnet]"', False, citation=("10.1038/s42256-023-00716-3",)
        ),
        "MACE": _mace("10.48550/arXiv.2401.00096"),
        "MACE-MP-0": _mace("10.48550/arXiv.2401.00096"),
        "MACE-MP-0b3": _mace("10.48550/arXiv.2401.00096"),
        "MACE-MPA-0": _mace("10.48550/arXiv.2401.00096"),
        "M3GNet": ForceField("matgl", "matgl", "pip install matgl", citation=("10.1038/s43588-022-00349-3",)),
        "MatPES-PBE": ForceField("matgl", "matgl", "pip install matgl", citation=("10.48550/arXiv.2503.04070",)),
        "MatPES-r2SCAN": ForceField("matgl", "matgl", "pip install matgl", citation=("10.48550/arXiv.2503.04070",)),
        "SevenNet": ForceField("sevenn", "sevenn", "pip install sevenn", citation=("10.1021/acs.jctc.4c00190",)),
        "MatterSim": ForceField(
            "mattersim", "mattersim", "pip install mattersim", citation=("10.48550/arXiv.2405.04967",)
        ),
        "FAIRChem": ForceField("fairchem", "fairchem-core", "pip install fairchem-core"),
        "UPET": ForceField("upet", "upet", "pip install upet"),
        "GAP": _own_file("quippy", "quippy-ase"),
        "NEP": _own_file("calorine", "calorine"),
        "DeepMD": _own_file("deepmd", "deepmd-kit"),
        "Nequip": _own_file("nequip", "nequip"),
        "Allegro": _own_file("nequip", "nequip"),
    }
)
"""What is needed for the names of ``atomate2.forcefields.MLFF``."""


@lru_cache(maxsize=1)
def force_field_names() -> dict[str, str]:
    """Every spelling that atomate2 takes, with the name it stands for: values and member names of its enumeration."""
    from atomate2.forcefields.utils import MLFF

    names = {member.name: str(member.value) for member in MLFF if member.name != "Forcefield"}
    return {spelling: value for name, value in names.items() for spelling in (name, value, f"MLFF.{name}")}


def force_field(name: str) -> ForceField:
    """What a name needs, which is there.

    Parameters
    ----------
    name : str
        A value of :func:`force_field_names`.

    Raises
    ------
    PotentialError
        If the package is missing (with the pip command), or the calculator needs a file of the user's.
    """
    entry = FORCE_FIELDS.get(name)
    if entry is None:
        raise PotentialError(
            f"atomate2 knows the force field {name!r} and this version of thermal_flows does not: write a function "
            f"that returns its "
            "ASE calculator and name it 'module:callable'"
        )
    if entry.needs_file:
        raise PotentialError(
            f"force field {name!r} takes a file with parameters of your own, which a name cannot say: write a function of no "
            f"arguments that returns its ASE calculator ({entry.install}), in an importable module, and name it 'module:callable'"
        )
    if find_spec(entry.module) is None:
        raise PotentialError(f"force field {name!r} needs the package {entry.distribution}: {entry.install}")
    return entry


def weights_in_package(name: str) -> Path | None:
    """File of the weights that come with the package, None where they are downloaded."""
    if name != "CHGNet":
        return None
    try:
        files = distribution("chgnet").files or []
    except PackageNotFoundError:
        return None
    found = [file for file in files if "pretrained/0.3.0" in file.as_posix() and file.name.endswith(".tar")]
    return Path(str(found[0].locate())) if len(found) == 1 else None


def build_force_field(name: str, device: str, n_threads: int | None) -> Calculator:
    """Calculator of a name, through atomate2, in float64 where that can be had.

    Parameters
    ----------
    name : str
        A key of :data:`FORCE_FIELDS`.
    device : str
    n_threads : int or None

    Raises
    ------
    PotentialError
        If atomate2 or the package fails, for instance because weights cannot be downloaded.
    """
    from atomate2.forcefields.utils import _DEFAULT_CALCULATOR_KWARGS, MLFF, ase_calculator

    entry = force_field(name)
    meta = MLFF(name)
    options = dict(_DEFAULT_CALCULATOR_KWARGS.get(meta, {}))
    mace = entry.module == "mace"
    if mace:
        options["device"] = device
    elif name == "CHGNet":
        options["use_device"] = device
    elif device != "cpu":
        raise PotentialError(f"force field {name!r} chooses its device itself: leave device at 'cpu'")
    try:
        with contextlib.redirect_stdout(io.StringIO()), loading_pickles(), kept_dtype():
            calculator: Any = ase_calculator(meta, **options, **({"default_dtype": "float64"} if mace else {}))
    except Exception as error:
        # packages of many makers and the network: anything may be raised, the reason is kept
        what = "its weights may have to be downloaded, or " if entry.may_download else ""
        raise PotentialError(
            f"force field {name!r} cannot be built by atomate2 ({type(error).__name__}: {error}): "
            f"{what}{entry.distribution} is of "
            f"another version; {entry.install}"
        ) from error
    if calculator is None:
        raise PotentialError(f"atomate2 has no calculator for force field {name!r}")
    if mace:
        from thermal_flows.potentials.mace_calculator import BatchedMACE

        return BatchedMACE(name, calculator.models[0], device=device, n_threads=n_threads)
    if name == "CHGNet":
        from thermal_flows.potentials.chgnet_calculator import DoubleCHGNet

        return DoubleCHGNet(name, calculator.model, device=device, n_threads=n_threads)
    return calculator
