"""Transmission of a Si | heavy-Si junction: mode matching beside batched decimation and kwant, on the same blocks.

    python benchmarks/transmission_speed.py [--junction FILE.npz] [--kwant-python PATH]

Prints a table; the exit code is 1 if the methods disagree or a target is missed:

- per solved point, one thread: a quarter of decimation, a thirtieth of kwant
- the 20 x 20 x 200 mesh on two threads: 5 s, and with all modes one by one: 30 s

The targets are those of layers of four atoms, as here. With two atoms a layer (six degrees of freedom) the work on a wave
vector as a whole weighs more, and a solved point comes to half of decimation.

A point is one in-plane wave vector (of the mesh reduced by symmetry) and one frequency. Points where a lead certainly has
no modes are skipped by solve_transmission, exactly. The ratios charge all its time (symmetry detection, stability check of
the leads, bands, blocks, mode numbers of skipped points) to the points that it does solve; the peers are timed on a sample
of those same points, without the making of blocks and systems. Per point of the mesh the ratios are larger: a peer that cannot
tell which points carry nothing has to solve them all (taken to cost it the same). Ratios are of processor times, which other
work on the machine disturbs least; runs of the methods alternate and medians are taken.

Decimation: Sancho-Rubio for the surface Green's functions and one solution for the device, all frequencies of a wave vector
at once, broadening 1e-9 of the largest diagonal element. It has to stay below 0.8 ms a point (12 degrees of freedom a layer),
or it would be no fair peer.

kwant runs in an environment of its own, given by --kwant-python or the variable KWANT_PYTHON. To make one:

    python3.11 -m venv kwant-env && . kwant-env/bin/activate
    pip install "numpy<2" "scipy<1.15" "cython<3.1" setuptools wheel setuptools_scm
    CPATH=$(python -c "import numpy; print(numpy.get_include())") pip install --no-build-isolation kwant==1.5.0

The junction is FILE.npz, or junctions/si_ge_sw_mass.npz in the folder THERMAL_FLOWS_DATA, or made here: silicon of
matscipy's Stillinger-Weber potential, and the same with the mass of germanium.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from thermal_flows import units
from thermal_flows.lattice.pair_constants import PairForceConstants
from thermal_flows.transport import Junction, TransmissionSpectrum, solve_transmission
from thermal_flows.transport.leads.blocks import BlockBuilder, JunctionBlocks

BROADENING = 1e-9
FAIR_DECIMATION = 0.8e-3
TARGETS = {"decimation": 4.0, "kwant": 30.0}
LIMITS = {"mesh": 5.0, "mesh, all modes": 30.0}
AGREEMENT = {"decimation": 2e-5, "kwant": 1e-7}
"""Largest difference of transmissions away from edges; decimation's is that of its broadening."""


@dataclass
class Cost:
    """Seconds of wall clock and of processor time, medians, for a number of points."""

    wall: float
    cpu: float
    points: int

    @classmethod
    def of(cls, runs: list[tuple[float, float]], points: int) -> "Cost":
        return cls(statistics.median(r[0] for r in runs), statistics.median(r[1] for r in runs), points)


@dataclass
class Sample:
    """Blocks at some wave vectors of the mesh with the squared frequencies solved there."""

    q_index: list[int]
    blocks: list[JunctionBlocks]
    frequency_index: list[NDArray[np.intp]]
    w2: list[NDArray[np.float64]]

    def thinned(self, n_points: int) -> "Sample":
        """About ``n_points`` of the points, evenly."""
        step = max(1, sum(map(len, self.w2)) // n_points)
        return Sample(
            self.q_index, self.blocks, [f[::step] for f in self.frequency_index], [w[::step] for w in self.w2]
        )

    def of(self, spectrum: TransmissionSpectrum) -> NDArray[np.float64]:
        return np.concatenate(
            [spectrum.transmission[q, f] for q, f in zip(self.q_index, self.frequency_index, strict=True)]
        )


def heavy_silicon_junction(mass: float = 72.63, a: float = 5.431) -> Junction:
    """Silicon | silicon of another mass along [001], Stillinger-Weber, one principal layer of either in the device."""
    from ase import Atoms
    from matscipy.calculators.manybody import Manybody
    from matscipy.calculators.manybody.explicit_forms.stillinger_weber import (
        Stillinger_Weber_PRB_31_5262_Si,
        StillingerWeber,
    )

    cell = np.diag([a / np.sqrt(2), a / np.sqrt(2), a])
    positions = np.array([[0, 0, 0], [0.5, 0, 0.25], [0.5, 0.5, 0.5], [0, 0.5, 0.75]]) @ cell
    repeats = np.array([5, 5, 3])
    crystal = Atoms("Si4", positions=positions, cell=cell, pbc=True).repeat(repeats)
    crystal.calc = Manybody(**StillingerWeber(Stillinger_Weber_PRB_31_5262_Si))
    hessian = crystal.calc.get_property("hessian", crystal).tocsr()[:12].toarray().reshape(4, 3, -1, 3)
    strong = np.abs(hessian).max(axis=(1, 3)) > 1e-10
    i, k = np.nonzero(strong)
    scaled = np.rint((crystal.positions[k] - positions[k % 4]) @ np.linalg.inv(cell)).astype(int)
    R = (scaled + repeats // 2) % repeats - repeats // 2
    phi = hessian[i, :, k, :]
    lead = PairForceConstants(cell, positions, np.full(4, 28.0855), i, k % 4, R, phi)
    heavy = PairForceConstants(cell, positions, np.full(4, mass), i, k % 4, R, phi)
    # two layers: atoms 4 .. 7 are those of the layer above
    parts = []
    for layer in (0, 1):
        inside = (R[:, 2] + layer >= 0) & (R[:, 2] + layer <= 1)
        flat = R[inside] * [1, 1, 0]
        parts.append((i[inside] + 4 * layer, k[inside] % 4 + 4 * (R[inside, 2] + layer), flat, phi[inside]))
    device = PairForceConstants(
        cell * [[1], [1], [2]],
        np.vstack([positions, positions + cell[2]]),
        np.repeat([28.0855, mass], 4),
        *(np.concatenate(values) for values in zip(*parts, strict=True)),
    )
    return Junction(lead, heavy, device)


def load_junction(given: Path | None) -> tuple[str, Junction]:
    if given is None and os.environ.get("THERMAL_FLOWS_DATA"):
        candidate = Path(os.environ["THERMAL_FLOWS_DATA"]) / "junctions" / "si_ge_sw_mass.npz"
        given = candidate if candidate.exists() else None
    if given is not None:
        return given.name, Junction.from_npz(given)
    return "Si | heavy Si, Stillinger-Weber, [001]", heavy_silicon_junction()


def timed(work: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


# --- decimation ------------------------------------------------------------------------------------------------------


def surface_green(z: NDArray, onsite: NDArray, forward: NDArray) -> NDArray:
    """Surface Green's functions (nz, n, n) of a lead that extends along ``forward``, by Sancho-Rubio decimation."""
    n = len(onsite)
    unit = z[:, None, None] * np.eye(n)
    inner = np.broadcast_to(onsite.astype(complex), unit.shape).copy()
    surface = inner.copy()
    a = np.broadcast_to(forward.astype(complex), unit.shape).copy()
    b = np.broadcast_to(forward.conj().T.astype(complex), unit.shape).copy()
    small = 1e-14 * np.abs(forward).max()
    for _ in range(60):
        both = np.linalg.solve(unit - inner, np.concatenate([a, b], axis=2))
        from_a, from_b = a @ both, b @ both
        surface += from_a[:, :, n:]
        inner += from_a[:, :, n:] + from_b[:, :, :n]
        a, b = from_a[:, :, :n], from_b[:, :, n:]
        if max(np.abs(a).max(), np.abs(b).max()) < small:
            break
    return np.linalg.inv(unit - surface)


def decimation(blocks: JunctionBlocks, w2: NDArray[np.float64], broadening: float = BROADENING) -> NDArray[np.float64]:
    """Transmissions at one wave vector and all its frequencies."""
    left, right, device = blocks.left, blocks.right, blocks.device.block
    n_l, n_r = len(left.H00), len(right.H00)
    z = w2 + 1j * broadening * max(np.abs(np.diag(left.H00)).max(), np.abs(np.diag(right.H00)).max())
    down, up = left.H01.conj().T, right.H01
    sigma_l = down @ surface_green(z, left.H00, down) @ left.H01
    sigma_r = up @ surface_green(z, right.H00, up) @ right.H01.conj().T
    matrix = z[:, None, None] * np.eye(len(device)) - device
    matrix[:, :n_l, :n_l] -= sigma_l
    matrix[:, -n_r:, -n_r:] -= sigma_r
    source = np.zeros((len(device), n_l))
    source[:n_l] = np.eye(n_l)
    green = np.linalg.solve(matrix, np.broadcast_to(source, (len(z), *source.shape)))[:, -n_r:]
    gamma_l = 1j * (sigma_l - sigma_l.conj().swapaxes(1, 2))
    gamma_r = 1j * (sigma_r - sigma_r.conj().swapaxes(1, 2))
    return np.einsum("wij,wij->w", gamma_r @ green @ gamma_l, green.conj()).real


# --- kwant -----------------------------------------------------------------------------------------------------------


def kwant_transmissions(python: str, sample: Sample) -> tuple[str, NDArray[np.float64], Cost]:
    """kwant's version, transmissions at the points of the sample, and their cost."""
    arrays: dict[str, NDArray] = {"n_q": np.array(len(sample.blocks))}
    for k, (blocks, w2) in enumerate(zip(sample.blocks, sample.w2, strict=True)):
        parts = (blocks.left.H00, blocks.left.H01, blocks.right.H00, blocks.right.H01, blocks.device.block, w2)
        names = ("h00l", "h01l", "h00r", "h01r", "hd", "w2")
        arrays.update({f"{name}_{k}": part for name, part in zip(names, parts, strict=True)})
    with tempfile.TemporaryDirectory() as folder:
        given, result = Path(folder) / "blocks.npz", Path(folder) / "result.npz"
        np.savez(given, **arrays)  # type: ignore[arg-type]
        worker = Path(__file__).with_name("_kwant_worker.py")
        alone = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        subprocess.run([python, str(worker), str(given), str(result)], check=True, env=os.environ | alone)
        with np.load(result) as answer:
            n = len(answer["wall"])
            cost = Cost(float(np.median(answer["wall"])) * n, float(np.median(answer["cpu"])) * n, n)
            return str(answer["version"]), answer["transmission"], cost


# --- comparison ------------------------------------------------------------------------------------------------------


def make_sample(junction: Junction, spectrum: TransmissionSpectrum, n_q: int) -> tuple[Sample, int]:
    """Evenly chosen wave vectors with all points solved there, and the number of points solved in all."""
    builder = BlockBuilder(junction)
    w2 = np.asarray(units.thz_to_w2(spectrum.frequencies))
    all_blocks = [builder(q) for q in spectrum.q_points]
    solved = [np.flatnonzero(b.left.may_propagate(w2) & b.right.may_propagate(w2)) for b in all_blocks]
    with_points = [k for k, at in enumerate(solved) if len(at)]
    chosen = [with_points[k] for k in np.unique(np.linspace(0, len(with_points) - 1, n_q).astype(int))]
    sample = Sample(
        chosen, [all_blocks[k] for k in chosen], [solved[k] for k in chosen], [w2[solved[k]] for k in chosen]
    )
    return sample, sum(map(len, solved))


def away_from_edges(sample: Sample) -> NDArray[np.bool_]:
    """Points where the decimated transmission does not follow its broadening: no edge, no pole of an isolated layer."""
    with np.errstate(all="ignore"):
        one, two = (
            np.concatenate([decimation(b, w2, eta) for b, w2 in zip(sample.blocks, sample.w2, strict=True)])
            for eta in (BROADENING, 2 * BROADENING)
        )
        return np.isfinite(one) & np.isfinite(two) & (np.abs(one - two) < 0.1 * AGREEMENT["decimation"])


def row(name: str, threads: int, cost: Cost, ratio: float | None) -> None:
    per_point = [1e6 * seconds / cost.points for seconds in (cost.wall, cost.cpu)]
    print(f"{name:44s}{threads:8d}{cost.points:9d}{per_point[0]:12.1f}{per_point[1]:12.1f}", end="")
    print("" if ratio is None else f"{ratio:10.1f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--junction", type=Path, help="a junction file")
    parser.add_argument("--kwant-python", default=os.environ.get("KWANT_PYTHON"), help="Python of kwant's environment")
    parser.add_argument("--mesh", type=int, default=20, help="wave vectors along either direction")
    parser.add_argument("--frequencies", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2, help="for the whole mesh")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    name, junction = load_junction(arguments.junction)

    def solve(n_workers: int, resolve_modes: bool = False) -> TransmissionSpectrum:
        fresh = Junction(junction.left, junction.right, junction.device)  # nothing remembered from an earlier run
        mesh = (arguments.mesh, arguments.mesh)
        return solve_transmission(fresh, mesh, arguments.frequencies, n_workers=n_workers, resolve_modes=resolve_modes)

    spectrum = solve(1)
    points, n_solved = spectrum.checks.points, spectrum.checks.solved
    sample, n_expected = make_sample(junction, spectrum, 8)
    assert n_solved == n_expected
    runs: dict[str, list[tuple[float, float]]] = {
        key: [] for key in ("one", "one, modes", "mesh", "mesh, modes", "dec")
    }
    for _ in range(arguments.repeats):
        runs["one"].append(timed(lambda: solve(1)))
        runs["dec"].append(timed(lambda: [decimation(b, w2) for b, w2 in zip(sample.blocks, sample.w2, strict=True)]))
        runs["one, modes"].append(timed(lambda: solve(1, True)))
        runs["mesh"].append(timed(lambda: solve(arguments.threads)))
        runs["mesh, modes"].append(timed(lambda: solve(arguments.threads, True)))

    n_sample = sum(map(len, sample.w2))
    own, modes = Cost.of(runs["one"], n_solved), Cost.of(runs["one, modes"], n_solved)
    peers = {"decimation": Cost.of(runs["dec"], n_sample)}
    calm = away_from_edges(sample)
    references = {
        "decimation": (
            sample,
            calm,
            np.concatenate([decimation(*p) for p in zip(sample.blocks, sample.w2, strict=True)]),
        )
    }
    version = "not installed"
    if arguments.kwant_python:
        thin = sample.thinned(150)
        version, transmissions, peers["kwant"] = kwant_transmissions(arguments.kwant_python, thin)
        references["kwant"] = (thin, away_from_edges(thin), transmissions)

    print(
        f"{name}: {3 * junction.left.n_atoms} | {3 * junction.device.n_atoms} | {3 * junction.right.n_atoms} degrees of freedom"
    )
    print(
        f"{arguments.mesh} x {arguments.mesh} x {arguments.frequencies} mesh: {len(spectrum.q_points)} wave vectors by symmetry, "
        f"{points} points, {n_solved} of them solved; conductance at 300 K {spectrum.conductance(300)[0]:.3f} MW/(m2 K)"
    )
    print(f"\n{'':44s}{'threads':>8s}{'points':>9s}{'wall, us':>12s}{'cpu, us':>12s}{'ratio':>10s}")
    own_cpu = own.cpu / own.points
    row("mode matching, per solved point", 1, own, 1.0)
    row("  per point of the mesh", 1, Cost(own.wall, own.cpu, points), None)
    row("mode matching, all modes, per solved point", 1, modes, (modes.cpu / modes.points) / own_cpu)
    row(f"decimation, broadening {BROADENING:g}", 1, peers["decimation"], peers["decimation"].cpu / n_sample / own_cpu)
    if "kwant" in peers:
        row(f"kwant {version}", 1, peers["kwant"], peers["kwant"].cpu / peers["kwant"].points / own_cpu)
    else:
        print(f"{'kwant':44s}   not installed: see --help")

    failures = []
    print()
    for peer, (where, mask, transmissions) in references.items():
        difference = np.abs(where.of(spectrum) - transmissions)[mask]
        print(
            f"difference from {peer}: largest {difference.max():.1e}, median {np.median(difference):.1e} "
            f"at {mask.sum()} points away from edges, of {len(mask)}; allowed {AGREEMENT[peer]:.0e}"
        )
        if not difference.max() <= AGREEMENT[peer]:
            failures.append(f"transmissions differ from {peer}")
    per_point = peers["decimation"].cpu / n_sample
    if junction.left.n_atoms <= 4 and junction.right.n_atoms <= 4 and per_point > FAIR_DECIMATION:
        failures.append(f"decimation takes {1e3 * per_point:.2f} ms a point, too slow for a fair peer")
    for peer, cost in peers.items():
        ratio = cost.cpu / cost.points / own_cpu
        print(
            f"{peer} / mode matching, per solved point: {ratio:.1f} (target {TARGETS[peer]:g}); "
            f"per point of the mesh: {cost.cpu / cost.points / (own.cpu / points):.1f}"
        )
        if ratio < TARGETS[peer]:
            failures.append(f"ratio to {peer}")
    for key, limit in LIMITS.items():
        seconds = Cost.of(runs[key.replace("all ", "")], 1)
        print(
            f"{key} on {arguments.threads} threads: {seconds.wall:.2f} s wall, {seconds.cpu:.2f} s cpu (target {limit:g} s wall)"
        )
        if seconds.wall > limit:
            failures.append(key)
    print(f"\nmissed: {'; '.join(failures)}" if failures else "\nall targets met")
    return int(bool(failures))


if __name__ == "__main__":
    with threadpool_limits(limits=1):
        sys.exit(main())
