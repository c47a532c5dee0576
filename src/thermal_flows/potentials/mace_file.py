"""MACE model files: what they are is read before anything in them runs, then the model is loaded in float64."""

from __future__ import annotations

import difflib
import hashlib
import pickletools
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thermal_flows.potentials.errors import PotentialError
from thermal_flows.potentials.torch_state import loading_pickles

if TYPE_CHECKING:
    import torch

MODEL_CLASSES = frozenset({"MACE", "ScaleShiftMACE"})
"""Classes of mace.modules.models that have energies and forces and no other input than the atoms."""

_PACKAGES = frozenset(
    {"torch", "mace", "e3nn", "opt_einsum_fx", "numpy", "collections", "_codecs", "functools", "copyreg"}
)
_BUILTINS = frozenset(
    {"set", "frozenset", "dict", "list", "tuple", "slice", "complex", "bytearray", "int", "float", "bool"}
)
_CURE = "Give the file that mace writes at the end of a training (NAME.model in its model directory)"


@dataclass(frozen=True)
class MACEFile:
    """A file with a MACE model, as far as it can be told without its atoms.

    Attributes
    ----------
    path : str
        Absolute.
    sha256 : str
    elements : frozenset of str
        Chemical symbols.
    cutoff : float
        Radius of one message-passing step, Angstrom.
    n_layers : int
        Message-passing steps; the energy of an atom depends on what lies within ``n_layers * cutoff``.
    stored_dtype : str
        Precision of the weights in the file; they are used in float64.
    scripted : bool
        A TorchScript archive (``NAME_compiled.model``).
    """

    path: str
    sha256: str
    elements: frozenset[str]
    cutoff: float
    n_layers: int
    stored_dtype: str
    scripted: bool


def file_sha256(path: Path) -> str:
    """sha256 of a file, read in pieces."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def existing_file(text: str) -> Path:
    """Absolute path of an existing file.

    Raises
    ------
    PotentialError
        If there is none, with names like it.
    """
    path = Path(text).expanduser().absolute()
    if path.is_dir():
        raise PotentialError(f"potential {text!r} is a folder; name the model file in it")
    if not path.is_file():
        beside = [p.name for p in path.parent.iterdir() if p.is_file()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, beside, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise PotentialError(f"potential {text!r}: there is no file {str(path)!r}.{hint} A file is never downloaded")
    return path.resolve()


def inspect_file(path: Path) -> bool:
    """Check that a file is a whole MACE model, without running anything in it.

    Parameters
    ----------
    path : pathlib.Path
        Existing file.

    Returns
    -------
    bool
        Whether it is a TorchScript archive.

    Raises
    ------
    PotentialError
        If it is truncated, damaged, or something else; with the cure.
    """
    what = f"potential file {str(path)!r}"
    with path.open("rb") as handle:
        head = handle.read(512)
    if not head:
        raise PotentialError(f"{what} is empty: copy it again")
    if not zipfile.is_zipfile(path):
        raise PotentialError(f"{what} {_not_an_archive(head)}")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            record = next((name for name in names if name.endswith("/data.pkl")), None)
            if record is None:
                listed = ", ".join(names[:3])
                raise PotentialError(
                    f"{what} is an archive of something else (it holds {listed} ...), not of torch. {_CURE}"
                )
            damaged = archive.testzip()
            if damaged is not None:
                raise PotentialError(f"{what} is damaged ({damaged} fails its check sum): copy it again")
            pickled = archive.read(record)
    except (zipfile.BadZipFile, EOFError) as error:
        raise PotentialError(
            f"{what} is truncated or damaged ({error}): copy it again and compare its sha256"
        ) from error
    scripted = any("/code/" in name for name in names)
    _check_pickle(what, pickled, scripted)
    return scripted


def _not_an_archive(head: bytes) -> str:
    if head.startswith(b"PK"):
        return "is truncated (a torch file without its end): copy it again and compare its size and sha256"
    if head.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the model: run 'git lfs pull' where it came from"
    if head.startswith(b"\x80"):
        return f"is a pickle, or written by a torch older than 1.6, and not a MACE model. {_CURE}"
    try:
        head.decode()
    except UnicodeDecodeError:
        return f"is not a torch file. {_CURE}"
    return (
        f"is a text file, not a MACE model. {_CURE}; for a potential with parameters in a text file write a function that "
        "returns its ASE calculator and name it 'module:callable'"
    )


def _check_pickle(what: str, pickled: bytes, scripted: bool) -> None:
    """Refuse a pickle whose outermost object is no MACE model, or that names what no MACE model needs."""
    try:
        operations = list(pickletools.genops(pickled))
    except ValueError as error:
        raise PotentialError(f"{what} is damaged ({error}): copy it again") from error
    if any(op.name == "STACK_GLOBAL" for op, _, _ in operations):
        raise PotentialError(
            f"{what} is pickled with another protocol than torch's own: write it with torch.save(model, path)"
        )
    named = [str(arg).split(" ", 1) for op, arg, _ in operations if op.name == "GLOBAL"]
    opening = next(op.name for op, _, _ in operations if op.name not in ("PROTO", "FRAME"))
    if (
        opening in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE")
        or not named
        or named[0] == ["collections", "OrderedDict"]
    ):
        raise PotentialError(
            f"{what} holds weights (a state_dict or a checkpoint of a training), not a model. {_CURE}, not one of its checkpoints"
        )
    module, name = named[0]
    package = module.removeprefix("__torch__.").partition(".")[0]
    if package != "mace" or name not in MODEL_CLASSES:
        raise PotentialError(
            f"{what} holds a {module.removeprefix('__torch__.')}.{name}, not a MACE model with energies and forces "
            f"({' or '.join(sorted(MODEL_CLASSES))}). {_CURE}; for another calculator write a function that returns "
            f"it and name it "
            "'module:callable'"
        )
    if scripted:
        return  # TorchScript runs in its own interpreter
    strangers = sorted(
        f"{module}.{name}"
        for module, name in map(tuple, named)
        if not (name in _BUILTINS if module in ("__builtin__", "builtins") else module.partition(".")[0] in _PACKAGES)
    )
    if strangers:
        raise PotentialError(
            f"{what} names {', '.join(strangers[:3])}, which no MACE model needs and which loading it would run. If "
            f"you know why, "
            "load it in a function of your own that returns its ASE calculator, and name that 'module:callable'"
        )


def load_model(path: Path, sha256: str) -> torch.nn.Module:
    """The model of a file, as it is stored, on the CPU.

    Loading a model runs code that is in the file; it happens only for files that the user names.

    Parameters
    ----------
    path : pathlib.Path
    sha256 : str
        Hash that the file must have.

    Raises
    ------
    PotentialError
        If the file is no MACE model, has changed, or belongs to another version of mace.
    """
    scripted = inspect_file(path)
    if file_sha256(path) != sha256:
        raise PotentialError(f"potential file {str(path)!r} is not the file that was named: {_changed(sha256, path)}")
    with loading_pickles():
        import mace.modules  # noqa: F401 - before e3nn
        import torch

        try:
            model = torch.jit.load(path, map_location="cpu") if scripted else _unpickled(path)
        except (AttributeError, ImportError, KeyError, RuntimeError, TypeError) as error:
            from importlib.metadata import version

            raise PotentialError(
                f"potential file {str(path)!r} cannot be loaded by mace-torch {version('mace-torch')} with torch "
                f"{version('torch')} ({type(error).__name__}: {error}). It may belong to another version of mace: "
                f"install that one, or "
                "write the model again with this one"
            ) from error
    return model.eval()


def _unpickled(path: Path) -> torch.nn.Module:
    import torch

    return torch.load(path, map_location="cpu", weights_only=False)


def _changed(expected: str, path: Path) -> str:
    return (
        f"its sha256 is {file_sha256(path)[:16]}..., {expected[:16]}... was recorded when the flow was made. Put "
        f"the old file back, "
        "or make the flow again with the new one"
    )


def read_mace_file(path: Path, expected_sha256: str | None = None) -> MACEFile:
    """Check a MACE model file and read what it describes.

    Parameters
    ----------
    path : pathlib.Path
    expected_sha256 : str, optional
        Hash recorded earlier.

    Raises
    ------
    PotentialError
        If the file is no MACE model or has changed since.
    """
    inspect_file(path)
    sha256 = file_sha256(path)
    if expected_sha256 is not None and sha256 != expected_sha256:
        raise PotentialError(f"potential file {str(path)!r} has changed: {_changed(expected_sha256, path)}")
    return _described(str(path), sha256)


@lru_cache(maxsize=16)
def _described(path: str, sha256: str) -> MACEFile:
    from ase.data import chemical_symbols

    model: Any = load_model(Path(path), sha256)
    floating = [p for p in model.parameters() if p.is_floating_point()]
    return MACEFile(
        path,
        sha256,
        frozenset(chemical_symbols[int(z)] for z in model.atomic_numbers),
        round(float(model.r_max), 6),
        int(model.num_interactions),
        str(floating[0].dtype).removeprefix("torch."),
        inspect_file(Path(path)),
    )
