"""Factories of ASE calculators, named ``module:callable``."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from thermal_flows.potentials.errors import PotentialError

FACTORY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")

EXAMPLE = (
    "write a function of no arguments that returns an ASE calculator, in an importable module, for example "
    "my_potentials.py with `def model(): from ase.calculators.lj import LennardJones; return LennardJones(sigma=3.4, "
    "epsilon=0.01, rc=8.5, smooth=True)`, and name it 'my_potentials:model'"
)


def is_calculator(candidate: object) -> bool:
    """Whether an object is an ASE calculator, as far as its methods tell."""
    return not isinstance(candidate, type) and all(
        callable(getattr(candidate, method, None)) for method in ("get_potential_energy", "get_forces")
    )


def import_factory(spec: str) -> Callable[[], Any]:
    """Callable of ``module:callable``.

    Raises
    ------
    PotentialError
        If the module cannot be imported, or has no such callable.
    """
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
    if not callable(target) or is_calculator(target):
        raise PotentialError(
            f"potential {spec!r} names a {type(target).__name__}; it must name a function or class that returns an "
            "ASE calculator when called without arguments"
        )
    return target


def source_sha256(spec: str) -> str | None:
    """Hash of the source file of the module named in ``spec``, None without one."""
    origin = getattr(sys.modules[spec.partition(":")[0]].__spec__, "origin", None)
    if origin is None or not Path(origin).is_file():
        return None
    return hashlib.sha256(Path(origin).read_bytes()).hexdigest()
