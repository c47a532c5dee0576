"""The command ``thermal-flows``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thermal_flows import __version__

if TYPE_CHECKING:
    from jobflow import Flow
    from pymatgen.core import Structure

    from thermal_flows.flows import InterfaceTransmissionMaker

QUICKSTART_FOLDER = "thermal-flows-quickstart"

_LISTED = 15
"""Common cells listed on a screen."""

_EXAMPLES = """examples:
  thermal-flows quickstart                      Si|Ge(001) from force constants: table, figure, database
  thermal-flows itc Si Ge                       the same by hand
  thermal-flows itc sub.cif film.cif --potential mymodule:calculator --substrate-miller 1 1 1 --film-miller 1 1 1
  thermal-flows itc Al Cu --matches             terminations and common cells of the two crystals
  thermal-flows itc Al Cu --potential emt       a pair that does not fit cell by cell
  thermal-flows itc Si Ge --potential ./my.model    with a MACE file
  thermal-flows itc Si Ge --dry-run             atoms, memory and time before anything long
  thermal-flows db list results.db
  thermal-flows db query results.db '{"film_formula": "Ge"}'
  thermal-flows doctor
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the process by default.

    Returns
    -------
    int
        0 on success, 1 after an error that was explained, 130 after an interrupt.
    """
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        print("interrupted; finished jobs are in the database", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except _expected_errors() as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _expected_errors() -> tuple[type[Exception], ...]:
    """Errors whose message is written for the user; anything else is a bug and keeps its traceback."""
    from maggma.core import StoreError

    from thermal_flows.potentials.relaxation import RelaxationError

    return (
        ValueError,
        RelaxationError,
        StoreError,
        FileNotFoundError,
        PermissionError,
        NotADirectoryError,
        IsADirectoryError,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="thermal-flows",
        description="Interfacial thermal conductance from force constants, into a database you can query.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"thermal-flows {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    quick = commands.add_parser("quickstart", help="Si|Ge(001) with the Tersoff potential, end to end")
    quick.add_argument(
        "--output", type=Path, default=Path(QUICKSTART_FOLDER), metavar="DIR", help="folder of the results"
    )
    _common(quick)
    quick.set_defaults(run=_quickstart)

    itc = commands.add_parser(
        "itc", help="interfacial thermal conductance of two crystals", formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EXAMPLES,
    )  # fmt: skip
    itc.add_argument(
        "substrate", metavar="SUBSTRATE", help="left lead: a structure file or a built-in crystal (Si, Ge, Cu ...)"
    )
    itc.add_argument("film", metavar="FILM", help="right lead: a structure file or a built-in crystal")
    itc.add_argument(
        "--potential",
        metavar="NAME",
        help="built-in name, MACE file, name of a force field that atomate2 knows, or module:callable (also of a file here); by "
        "default the only built-in one that fits",
    )
    itc.add_argument("--substrate-miller", nargs=3, type=int, default=(0, 0, 1), metavar=("H", "K", "L"))
    itc.add_argument("--film-miller", nargs=3, type=int, default=(0, 0, 1), metavar=("H", "K", "L"))
    itc.add_argument(
        "--substrate-termination", type=int, default=0, metavar="N", help="first atomic plane of the substrate's unit"
    )
    itc.add_argument(
        "--film-termination", type=int, default=0, metavar="N", help="first atomic plane of the film's unit"
    )
    itc.add_argument(
        "--strain", choices=("film", "substrate", "both"), default="film", help="which side takes the strain"
    )
    itc.add_argument(
        "--max-strain", type=float, default=0.05, metavar="X", help="largest principal strain accepted (0.05)"
    )
    itc.add_argument(
        "--max-area", type=float, metavar="A2", help="largest common in-plane cell that is looked for (200 A^2)"
    )
    for side in ("substrate", "film"):
        itc.add_argument(
            f"--{side}-supercell",
            nargs="+",
            type=int,
            metavar="N",
            help=f"common cell as N1 N2 conventional in-plane cells of the {side}, or four numbers: a matrix of primitive ones",
        )
    itc.add_argument("--supercell", nargs="+", type=int, metavar="N", help="multiple of the common cell: N, or N1 N2")
    itc.add_argument(
        "--matches", action="store_true", help="list terminations and common cells of the two crystals, and stop"
    )
    itc.add_argument(
        "--shift",
        nargs=2,
        type=float,
        default=(0.0, 0.0),
        metavar=("U", "V"),
        help="in-plane shift of the film, fractions",
    )
    itc.add_argument(
        "--gap", type=float, metavar="A", help="distance of the outermost planes before relaxation (Angstrom)"
    )
    for side in ("substrate", "film"):
        itc.add_argument(
            f"--{side}-born",
            type=Path,
            metavar="FILE",
            help=f"phonopy's BORN file of the {side}: states the LO-TO splitting that is neglected",
        )
    itc.add_argument(
        "--q-mesh", nargs=2, type=int, default=(20, 20), metavar=("N1", "N2"), help="wave vectors, refined if needed"
    )
    itc.add_argument("--n-frequencies", type=int, default=200, metavar="N")
    itc.add_argument("--temperature", nargs="+", type=float, metavar="K", default=(100.0, 200.0, 300.0, 400.0, 500.0))
    itc.add_argument("--cutoff", type=float, metavar="A", help="truncate force constants at this distance (Angstrom)")
    itc.add_argument(
        "--no-comparisons",
        action="store_true",
        help="leave out the tests of device length and Hessian (two thirds of the forces); the error bar then lacks them",
    )
    itc.add_argument(
        "--no-relax-crystals", action="store_true", help="keep the lattice constants of the given crystals"
    )
    itc.add_argument(
        "--database", type=Path, default=None, metavar="FILE", help="results.db, or the one of the settings"
    )
    itc.add_argument("--figure", type=Path, default=None, metavar="FILE", help="also write the figure (png, pdf, svg)")
    _common(itc)
    itc.set_defaults(run=_itc)

    db = commands.add_parser("db", help="look into a database file")
    db.add_argument("action", choices=("list", "query"))
    db.add_argument("file", type=Path, metavar="FILE")
    db.add_argument("criteria", nargs="?", default="{}", metavar="CRITERIA", help="Mongo criteria as JSON, for query")
    db.add_argument("--json", action="store_true", help="whole documents as JSON")
    db.set_defaults(run=_db)

    doctor = commands.add_parser("doctor", help="check the installation")
    doctor.add_argument("--json", action="store_true", help="as JSON")
    doctor.set_defaults(run=_doctor)
    return parser


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="state atoms, memory and time, and stop")
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")


@dataclass(frozen=True)
class _Request:
    """One conductance, as asked for on the command line."""

    potential: str
    substrate: Structure
    film: Structure
    interface: dict[str, Any] = field(default_factory=dict)
    born: dict[str, Any] = field(default_factory=dict)
    transmission: dict[str, Any] = field(default_factory=dict)
    cutoff: float | None = None
    relax_crystals: bool = True
    comparisons: bool = True

    def flow(self, maker: InterfaceTransmissionMaker) -> Flow:
        """The flow of this pair."""
        return maker.make(self.film, self.substrate, **self.interface, **self.born)

    def polar_statements(self) -> list[str]:
        """What is left out of polar crystals and metals, one entry a crystal."""
        from thermal_flows.lattice.polar import assess_polarity

        found = [
            assess_polarity(structure, born_file=self.born.get(f"{side}_born")).warning
            for side, structure in (("substrate", self.substrate), ("film", self.film))
        ]
        return list(dict.fromkeys(text for text in found if text is not None))

    def maker(self) -> InterfaceTransmissionMaker:
        """The maker of the flow; refuses settings that cannot work."""
        from thermal_flows.flows import InterfaceTransmissionMaker

        maker = InterfaceTransmissionMaker.from_potential(self.potential, **self.transmission)
        maker.junction_maker.settings = replace(maker.junction_maker.settings, cutoff=self.cutoff)
        if not self.comparisons:
            maker.junction_maker.compare = ()
        if not self.relax_crystals:
            maker.crystal_maker = None
        return maker


def _quickstart(options: argparse.Namespace) -> int:
    from thermal_flows.structures import crystal

    folder: Path = options.output.expanduser().resolve()
    began = time.perf_counter()
    request = _Request("tersoff-si-ge", crystal("Si"), crystal("Ge"))
    if options.dry_run:
        return _dry_run(request, options.json)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"cannot make the folder {folder} ({error.strerror}); give another one with --output DIR"
        ) from error
    doc = _compute(request, folder / "results.db", options.quiet)
    files = {"database": folder / "results.db"}
    from thermal_flows.figures import plot_conductance, plot_interface

    files["figure"] = plot_interface(doc).save(folder / "interface.png")
    files["conductance figure"] = plot_conductance(doc).save(folder / "conductance.png")
    _show(options, doc, files, time.perf_counter() - began)
    if not options.json:
        print(
            "Query it in Python:\n"
            "  from thermal_flows.database import ThermalDatabase\n"
            f'  db = ThermalDatabase("{files["database"]}")\n'
            '  db.interfaces.query({"film_formula": "Ge",\n'
            '                       "conductance": {"$elemMatch": {"temperature": 300, "value": {"$gt": 100}}}})'
        )
    return 0


def _itc(options: argparse.Namespace) -> int:
    from thermal_flows.settings import settings
    from thermal_flows.structures import crystal

    began = time.perf_counter()
    sys.path.insert(0, str(Path.cwd()))  # a module:callable may lie in the working folder
    substrate, film = crystal(options.substrate), crystal(options.film)
    if options.matches:
        return _matches(options, substrate, film)
    request = _Request(
        potential=options.potential or _only_builtin(substrate, film),
        substrate=substrate,
        film=film,
        interface={
            "substrate_miller": tuple(options.substrate_miller),
            "film_miller": tuple(options.film_miller),
            "substrate_termination": options.substrate_termination,
            "film_termination": options.film_termination,
            "strain": options.strain,
            "max_strain": options.max_strain,
            "shift": tuple(options.shift),
            "gap": options.gap,
            **_cells(options),
        },
        born={"substrate_born": options.substrate_born, "film_born": options.film_born},
        transmission={
            "q_mesh": tuple(options.q_mesh),
            "n_frequencies": options.n_frequencies,
            "temperatures": tuple(options.temperature),
        },
        cutoff=options.cutoff,
        relax_crystals=not options.no_relax_crystals,
        comparisons=not options.no_comparisons,
    )
    if options.figure is not None:
        _check_figure(options.figure)
    if options.dry_run:
        return _dry_run(request, options.json)
    database = (options.database or Path(settings().database or "results.db")).expanduser().resolve()
    doc = _compute(request, database, options.quiet)
    files = {"database": database}
    if options.figure is not None:
        from thermal_flows.figures import plot_interface

        files["figure"] = plot_interface(doc).save(options.figure)
    _show(options, doc, files, time.perf_counter() - began)
    return 0


def _cells(options: argparse.Namespace) -> dict[str, Any]:
    """Which cells are to be matched, as arguments of build_interface; nothing for what was not asked for."""
    cells: dict[str, Any] = {} if options.max_area is None else {"max_area": options.max_area}
    for name in ("substrate_supercell", "film_supercell", "supercell"):
        numbers = getattr(options, name)
        if numbers is not None:
            shapes = {1: numbers[0], 2: tuple(numbers), 4: (tuple(numbers[:2]), tuple(numbers[2:]))}
            if len(numbers) not in shapes:
                raise ValueError(f"--{name.replace('_', '-')} takes one, two or four whole numbers, not {len(numbers)}")
            cells[name] = shapes[len(numbers)]
    return cells


def _matches(options: argparse.Namespace, substrate: Structure, film: Structure) -> int:
    """What the two crystals offer: planes to end with, and common cells."""
    from thermal_flows.structures import find_matches, terminations

    limits = {} if options.max_area is None else {"max_area": options.max_area}
    found = find_matches(
        substrate,
        film,
        substrate_miller=options.substrate_miller,
        film_miller=options.film_miller,
        strain=options.strain,
        max_strain=options.max_strain,
        **limits,
    )
    planes = {
        "substrate": terminations(substrate, options.substrate_miller),
        "film": terminations(film, options.film_miller),
    }
    if options.json:
        content = {
            "terminations": {side: [asdict(plane) for plane in listed] for side, listed in planes.items()},
            "matches": [match.as_dict() for match in found],
        }
        print(json.dumps(content, indent=2))
        return 0
    for side, crystal_, miller in (
        ("substrate", substrate, options.substrate_miller),
        ("film", film, options.film_miller),
    ):
        plane = " ".join(map(str, miller))
        print(f"{side} {crystal_.composition.reduced_formula} ({plane}), terminations:")
        for t in planes[side]:
            equal = "" if t.equivalent_to == t.index else f", equal to {t.equivalent_to} by symmetry"
            print(
                f"  {t.index}: {' '.join(t.species)}, next plane {t.spacing:.3f} A above, {t.spacing_below:.3f} A below{equal}"
            )
    print(f"common cells strained by {100 * options.max_strain:g} % or less ({options.strain} strained):")
    for match in found[:_LISTED]:
        rows = [" ".join(str(n) for row in matrix for n in row) for matrix in (match.substrate, match.film)]
        print(f"  {match}: --substrate-supercell {rows[0]} --film-supercell {rows[1]}")
    if not found:
        print("  none: raise --max-area or --max-strain")
    if len(found) > _LISTED:
        print(f"  and {len(found) - _LISTED} more: all with --json, fewer with a smaller --max-area or --max-strain")
    return 0


def _check_figure(path: Path) -> None:
    """Refuse a figure file that could not be written, before anything is computed."""
    from matplotlib.backend_bases import FigureCanvasBase

    target = path.expanduser().resolve()
    if not target.parent.is_dir():
        raise ValueError(f"the folder {target.parent} of the figure does not exist; make it first")
    known = sorted(FigureCanvasBase.get_supported_filetypes())
    if target.suffix.lstrip(".").lower() not in known:
        raise ValueError(f"the figure {target.name} needs a suffix that tells its format: {', '.join(known)}")


def _only_builtin(*crystals: Structure) -> str:
    """The built-in potential that knows all elements, if there is just one."""
    from thermal_flows.potentials import BUILTIN_POTENTIALS

    elements = {str(e) for c in crystals for e in c.composition.elements}
    fitting = [name for name, p in BUILTIN_POTENTIALS.items() if elements <= p.elements]
    if len(fitting) == 1:
        return fitting[0]
    listed = "; ".join(f"{name}: {', '.join(sorted(p.elements))}" for name, p in BUILTIN_POTENTIALS.items())
    reason = f"several built-in potentials know {', '.join(sorted(elements))}: {', '.join(fitting)}" if fitting else (
        f"no built-in potential knows {', '.join(sorted(elements))}"
    )  # fmt: skip
    raise ValueError(f"{reason}. Give --potential NAME or --potential module:callable (built-in: {listed})")


def _compute(request: _Request, database: Path, quiet: bool) -> dict[str, Any]:
    """Run the flow into the database file and return the built document."""
    from jobflow import run_locally

    from thermal_flows.database import ThermalDatabase, job_store
    from thermal_flows.progress import Reporter, StreamReporter, reporting

    flow = request.flow(request.maker())
    store = job_store(database)
    store.connect()
    with reporting(Reporter() if quiet else StreamReporter()), warnings.catch_warnings():
        # jobflow's own use of a deprecated helper
        warnings.filterwarnings("ignore", category=FutureWarning, module="jobflow")
        responses = run_locally(flow, store=store, log=False, raise_immediately=True)
    uuid = flow.jobs[-1].uuid
    interface_id = responses[uuid][1].output.interface_id
    store.close()
    with ThermalDatabase(database) as db:
        doc = db.interfaces.query_one({"interface_id": interface_id})
    if doc is None:
        raise ValueError(f"the result is not in {database}; look at `thermal-flows db list {database}`")
    return doc


def _dry_run(request: _Request, as_json: bool) -> int:
    """State the cost; whatever the run itself would refuse at its start is refused here too."""
    from thermal_flows.flows.interface import STRAIN_SLACK
    from thermal_flows.potentials import resolve_potential
    from thermal_flows.structures import build_interface
    from thermal_flows.transport.junctions.estimate import estimate_cost

    maker = request.maker()
    request.flow(maker)
    slack = STRAIN_SLACK if request.relax_crystals else 0.0
    options = {**request.interface, "max_strain": request.interface.get("max_strain", 0.05) + slack}
    interface = build_interface(request.substrate, request.film, **options)
    potential = resolve_potential(request.potential)
    q_mesh, n_frequencies = maker.transmission_maker.q_mesh, maker.transmission_maker.n_frequencies
    cost = estimate_cost(
        interface, potential.calculator(), maker.junction_maker.settings, q_mesh, n_frequencies, os.cpu_count() or 1
    )
    notes = [*request.polar_statements(), *potential.warnings]
    if as_json:
        content = {"label": interface.label, "potential": potential.name, **asdict(cost), "notes": notes}
        print(json.dumps(content, indent=2))
        return 0
    strains = [100 * max(map(abs, interface.strain[side]["principal"])) for side in ("substrate", "film")]
    tests = " (three times that with the convergence tests)" if request.comparisons else ""
    print(
        f"{interface.label} with {potential.name}, in-plane cell {interface.area:.4f} A^2, strains (substrate, film) "
        f"{strains[0]:.2f} %, {strains[1]:.2f} % before relaxation\n"
        f"  principal layers   {cost.principal_layers[0]} and {cost.principal_layers[1]} atoms\n"
        f"  junction cell      {cost.junction_atoms} atoms relaxed; device {cost.device_atoms} atoms\n"
        f"  force constants    supercell of {cost.supercell_atoms} atoms, about {cost.force_calls} force calls of "
        f"{cost.force_seconds:.2g} s: {cost.force_constant_seconds:.3g} s{tests}\n"
        f"  transmission       {q_mesh[0]} x {q_mesh[1]} x {n_frequencies}: about {cost.transmission_seconds:.3g} s "
        "with the tests\n"
        f"  memory             about {cost.memory_bytes / 2**20:.0f} MiB of arrays, without what the potential itself takes\n"
        "Times are good to about a factor of two. Nothing was written."
    )
    for statement in notes:
        print(f"Note: {statement}")
    return 0


def _show(options: argparse.Namespace, doc: dict[str, Any], files: dict[str, Path], seconds: float) -> None:
    from thermal_flows.report import render, summary

    if options.json:
        content = summary(doc)
        content["files"] = {name: str(path) for name, path in files.items()}
        content["wall_time_s"] = seconds
        print(json.dumps(content, indent=2))
        return
    print(render(doc))
    for name, path in files.items():
        print(f"{name}: {path}")
    print(f"Total wall time {seconds:.1f} s")


def _db(options: argparse.Namespace) -> int:
    from monty.json import jsanitize

    from thermal_flows.database import ThermalDatabase
    from thermal_flows.report import short

    try:
        criteria = json.loads(options.criteria)
    except json.JSONDecodeError as error:
        raise ValueError(f'criteria must be JSON, for instance \'{{"film_formula": "Ge"}}\': {error}') from error
    with ThermalDatabase(options.file) as db:
        docs = db.interfaces.query(criteria if options.action == "query" else {})
    if options.json:
        print(json.dumps(jsanitize(docs), indent=2))
        return 0
    print(f"{'interface':<28} {'potential':<18} {'G at 300 K (MW/m2K, quantum Landauer)':<40} id")
    for doc in docs:
        values = [
            c
            for c in doc["conductance"]
            if (c["temperature"], c["definition"], c["statistics"], c["method"])
            == (300.0, "landauer", "quantum", "mode_matching")
        ]
        value = (
            f"{values[0]['value']:.4g} +- {short(values[0]['error'])}"
            if values and values[0]["value"] is not None
            else "-"
        )
        potential = (doc["provenance"].get("potential") or {}).get("name", "given")
        print(f"{doc['label']:<28} {potential:<18} {value:<40} {doc['interface_id'][:12]}")
    print(f"{len(docs)} interface{'s' if len(docs) != 1 else ''}")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from thermal_flows.doctor import examine

    findings = examine()
    if options.json:
        print(json.dumps([asdict(f) for f in findings], indent=2))
    else:
        for finding in findings:
            print(f"{'ok ' if finding.good else 'BAD'} {finding.name:<22} {finding.found}")
    return 0 if all(f.good for f in findings) else 1


if __name__ == "__main__":
    sys.exit(main())
