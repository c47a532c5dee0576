"""Files, refusals and determinism."""

import pickle
import zipfile
from dataclasses import fields, replace

import numpy as np
import pytest

from thermal_flows import units
from thermal_flows.lattice.pair_constants import ForceConstantsError, PairForceConstants
from thermal_flows.transport import (
    Junction,
    JunctionError,
    TransportError,
    UnstableLeadError,
    diffuse_mismatch,
    solve_modes,
    solve_transmission,
)

from .junctions import (
    Recipe,
    chain_junction,
    chain_lead,
    crystal,
    fcc111_junction,
    fcc_junction,
    fcc_lead,
    join,
    lengthened,
    thickened,
)

PARTS = ("left", "right", "device")


@pytest.fixture(scope="module")
def junction() -> Junction:
    return fcc_junction()


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [fcc_junction, fcc111_junction, Recipe(1, 2, 3, 2, oblique=True).build])
def test_round_trip(tmp_path, build):
    junction = build()
    path = junction.to_npz(tmp_path / "junction.npz")
    again = Junction.from_npz(path)
    for name in PARTS:
        for f in fields(PairForceConstants):
            np.testing.assert_array_equal(
                getattr(getattr(again, name), f.name), getattr(getattr(junction, name), f.name)
            )
    q = (0.1, 0.2)
    f = 0.4 * min(junction.top_frequencies)
    assert solve_modes(again, q, f).transmission == solve_modes(junction, q, f).transmission


def test_file_name_is_completed_and_nothing_else_is_left(tmp_path, junction):
    written = junction.to_npz(tmp_path / "no-suffix")
    assert written == tmp_path / "no-suffix.npz"
    junction.to_npz(str(written))  # overwrites
    assert [p.name for p in tmp_path.iterdir()] == ["no-suffix.npz"]


def test_failed_write_leaves_nothing_behind(tmp_path, junction):
    (tmp_path / "taken.npz").mkdir()
    with pytest.raises(OSError):
        junction.to_npz(tmp_path / "taken.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["taken.npz"]
    with pytest.raises(FileNotFoundError):
        junction.to_npz(tmp_path / "absent" / "junction.npz")
    assert not (tmp_path / "absent").exists()


def test_failed_write_keeps_the_old_file(tmp_path, junction):
    path = junction.to_npz(tmp_path / "junction.npz")
    before = path.read_bytes()
    # a part that no longer holds arrays: writing must fail, and the old file must survive
    broken = fcc_junction()
    object.__setattr__(broken.device, "phi", _Unwritable())
    with pytest.raises(RuntimeError, match="cannot be written"):
        broken.to_npz(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["junction.npz"]


class _Unwritable:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("cannot be written")


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no junction file"):
        Junction.from_npz(tmp_path / "absent.npz")


def garbage(path):
    path.write_bytes(b"not an archive at all")


def empty(path):
    path.write_bytes(b"")


def a_single_array(path):
    with path.open("wb") as stream:
        np.save(stream, np.zeros(3))


def pickled(path):
    path.write_bytes(pickle.dumps({"L_cell": 1}))


def objects(path):
    np.savez(path, L_cell=np.array([{}], dtype=object))


def truncated(path):
    fcc_junction().to_npz(path)
    path.write_bytes(path.read_bytes()[:-200])


def damaged(path):
    fcc_junction().to_npz(path)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo("D_phi.npy")
    start = entry.header_offset + 30 + len("D_phi.npy") + 20
    for k in range(start, start + min(60, entry.compress_size - 30)):
        content[k] ^= 0xFF
    path.write_bytes(bytes(content))


def other_members(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "nothing")


def folder(path):
    path.mkdir()


@pytest.mark.parametrize(
    "content", [garbage, empty, a_single_array, pickled, objects, truncated, damaged, other_members, folder]
)
def test_files_that_are_no_junctions(tmp_path, content):
    path = tmp_path / "junction.npz"
    content(path)
    with pytest.raises(JunctionError, match=r"junction\.npz"):
        Junction.from_npz(path)


def test_missing_arrays_are_named(tmp_path, junction):
    arrays = junction.to_arrays()
    del arrays["R_mass"], arrays["D_phi"]
    path = tmp_path / "junction.npz"
    np.savez(path, **arrays)
    with pytest.raises(JunctionError, match="R_mass, D_phi missing"):
        Junction.from_npz(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("L_mass", np.array([1.0])),
        ("L_mass", np.array([1.0, -2.0])),
        ("D_i", np.array(["a", "b"])),
        ("D_pos", np.array(["a"])),
        ("R_R", np.zeros((3, 2))),
        ("L_phi", np.array(1.0)),
        ("R_i", np.array(5)),
        ("L_cell", np.full((3, 3), np.nan)),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, junction, key, value):
    path = tmp_path / "junction.npz"
    np.savez(path, **(junction.to_arrays() | {key: value}))
    with pytest.raises(JunctionError):
        Junction.from_npz(path)


# --- parts that do not fit -------------------------------------------------------------------------------------------


def test_force_constants_that_are_not_symmetric(junction):
    for name in PARTS:
        part = getattr(junction, name)
        phi = part.phi.copy()
        phi[0, 0, 1] += 1e-3
        with pytest.raises(JunctionError, match=f"{name} are not symmetric"):
            replace(junction, **{name: replace(part, phi=phi)})
        replace(junction, symmetry_tolerance=1e-2, **{name: replace(part, phi=phi)})


def test_pair_without_its_partner(junction):
    keep = np.arange(1, len(junction.left.i))
    part = junction.left
    alone = replace(part, i=part.i[keep], j=part.j[keep], R=part.R[keep], phi=part.phi[keep])
    with pytest.raises(JunctionError, match="not symmetric"):
        replace(junction, left=alone)


@pytest.mark.parametrize("side", ["left", "right"])
def test_principal_layer_too_short(junction, side):
    lead = getattr(junction, side)
    K = np.eye(3)
    far = crystal(lead.cell, lead.positions, lead.masses, [(0, 0, (0, 0, 2), K)])
    longer = replace(
        lead,
        i=np.concatenate([lead.i, far.i]),
        j=np.concatenate([lead.j, far.j]),
        R=np.vstack([lead.R, far.R]),
        phi=np.vstack([lead.phi, far.phi]),
    )
    with pytest.raises(JunctionError, match=r"shorter than the force range: atoms couple to layer 2.*thickness 8 A"):
        replace(junction, **{side: longer})
    # the remedy that the message names
    K2 = thickened(longer, 2)
    assert np.abs(K2.R[:, 2]).max() == 1


def test_different_in_plane_cells(junction):
    for name in PARTS[1:]:
        part = getattr(junction, name)
        cell = part.cell.copy()
        cell[0, 0] += 0.01
        with pytest.raises(JunctionError, match=f"in-plane cell of the {name} differs"):
            replace(junction, **{name: replace(part, cell=cell)})


def test_cells_that_do_not_lie_in_the_plane(junction):
    cell = junction.left.cell.copy()
    cell[1, 2] = 0.5
    tilted = {name: replace(getattr(junction, name), cell=cell) for name in PARTS}
    with pytest.raises(JunctionError, match="xy plane"):
        replace(junction, **tilted)


def test_layer_that_points_down(junction):
    cell = junction.left.cell * [[1], [1], [-1]]
    with pytest.raises(JunctionError, match=r"along \+z"):
        replace(junction, left=replace(junction.left, cell=cell))


def test_device_that_is_periodic_or_too_short_or_of_other_atoms(junction):
    device = junction.device
    with pytest.raises(JunctionError, match="finite along z"):
        periodic = device.R + np.sign(device.j - device.i)[:, None] * [0, 0, 1]
        replace(junction, device=replace(device, R=periodic))
    with pytest.raises(JunctionError, match=r"2 atoms; it must hold one principal layer of either lead \(2 \+ 2"):
        replace(junction, device=replace(fcc_lead(40.0), R=fcc_lead(40.0).R * [1, 1, 0]))
    with pytest.raises(JunctionError, match="masses differ"):
        replace(junction, device=replace(device, masses=device.masses[::-1]))


@pytest.mark.parametrize("side", ["left", "right"])
def test_unstable_lead_is_reported_with_wave_vector_and_frequency(side):
    good = chain_lead(20.0, 5.0)
    bad = crystal(np.eye(3), np.zeros((1, 3)), [20.0], [(0, 0, (0, 0, 1), np.diag([-0.1, 0.2, 5.0]))])
    leads = {"left": (bad, good), "right": (good, bad)}[side]
    junction = join(*leads, [(0, 1, (0, 0, 0), np.diag([0.1, 0.1, 5.0]))])
    # sqrt(4 * 0.1 / 20) at the zone boundary along z
    with pytest.raises(UnstableLeadError, match=rf"{side} lead is unstable: frequency -2\.211 THz .* 0\.5\)"):
        solve_transmission(junction, (2, 2), 10)
    with pytest.raises(UnstableLeadError):
        solve_modes(junction, (0, 0), 1.0)
    with pytest.raises(UnstableLeadError):
        diffuse_mismatch(junction, (2, 2), 10)
    with pytest.raises(UnstableLeadError):
        solve_transmission(junction, (2, 2), frequencies=[1.0], frequency_weights=[1.0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masses": np.array([1.0, 0.0])}, "masses must be positive"),
        ({"masses": np.array([1.0])}, "shape"),
        ({"i": np.full(26, 7)}, "outside"),
        ({"j": np.full(26, 0.5)}, "integers"),
        ({"phi": np.full((26, 3, 3), np.inf)}, "not finite"),
    ],
)
def test_force_constants_that_no_crystal_has(change, message):
    with pytest.raises(ForceConstantsError, match=message):
        replace(fcc_lead(40.0), **change)


# --- requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"q_mesh": (0, 4)}, "q_mesh"),
        ({"q_mesh": (4,)}, "q_mesh"),
        ({"n_frequencies": 0}, "n_frequencies"),
        ({"n_frequencies": 2.5}, "n_frequencies"),
        ({"frequencies": []}, "positive numbers"),
        ({"frequencies": [0.0, 1.0]}, "positive numbers"),
        ({"frequencies": [-1.0]}, "positive numbers"),
        ({"frequencies": [1.0, np.nan]}, "positive numbers"),
        ({"frequencies": [[1.0, 2.0]]}, "positive numbers"),
        ({"frequencies": [1.0, 2.0]}, "give frequency_weights"),
        ({"frequencies": [1.0, 3.1]}, "give frequency_weights"),
        ({"frequencies": [1.0, 2.0], "frequency_weights": [1.0]}, "2 numbers"),
        ({"frequencies": [1.0, 2.0], "frequency_weights": [1.0, np.inf]}, "2 numbers"),
        ({"frequency_weights": [1.0]}, "without frequencies"),
        ({"n_workers": 0}, "n_workers"),
    ],
)
def test_requests_that_make_no_sense(junction, request_, message):
    for function in (solve_transmission, diffuse_mismatch):
        with pytest.raises(TransportError, match=message):
            function(junction, **({"q_mesh": (2, 2), "n_frequencies": 4} | request_))


def test_unknown_method(junction):
    with pytest.raises(TransportError, match="mode_matching"):
        solve_transmission(junction, (2, 2), 4, method="magic")


@pytest.mark.parametrize("frequency", [0.0, -1.0, np.nan, np.inf])
def test_modes_at_a_frequency_that_makes_no_sense(junction, frequency):
    with pytest.raises(TransportError, match="frequency must be positive"):
        solve_modes(junction, (0, 0), frequency)


@pytest.mark.parametrize("q", [(0,), (0, 0, 0), (np.nan, 0), 0.5])
def test_modes_at_a_wave_vector_that_makes_no_sense(junction, q):
    with pytest.raises(TransportError, match="q_frac"):
        solve_modes(junction, q, 1.0)


def test_conductance_arguments(junction):
    spectrum = solve_transmission(junction, (2, 2), 4, n_workers=1)
    for temperature in (0, -1, np.nan, [300, 0]):
        with pytest.raises(ValueError, match="temperatures must be positive"):
            spectrum.conductance(temperature)
    with pytest.raises(ValueError, match="statistics"):
        spectrum.conductance(300, statistics="fermi")
    with pytest.raises(ValueError, match="definition"):
        spectrum.conductance(300, definition="kapitza")
    with pytest.raises(ValueError, match="side"):
        spectrum.mean_transmittance("top")
    assert spectrum.conductance(300).shape == (1,)
    assert spectrum.conductance([100, 200, 300]).shape == (3,)


def test_own_frequency_grids(junction):
    plain = solve_transmission(junction, (2, 2), 6, n_workers=1)
    given = solve_transmission(junction, (2, 2), frequencies=plain.frequencies, n_workers=1)
    np.testing.assert_allclose(given.frequency_weights, plain.frequency_weights, rtol=1e-12)
    np.testing.assert_array_equal(given.transmission, plain.transmission)
    weighted = solve_transmission(
        junction, (2, 2), frequencies=[1.0, 0.3, 2.0], frequency_weights=[0.2, 0.1, 0.0], n_workers=1
    )
    assert weighted.frequencies.tolist() == [1.0, 0.3, 2.0]
    above = solve_transmission(junction, (2, 2), frequencies=[50.0], frequency_weights=[1.0], n_workers=1)
    assert np.all(above.transmission == 0)
    assert above.checks.solved == 0
    assert above.conductance(300)[0] == 0


# --- determinism -----------------------------------------------------------------------------------------------------


def everything(spectrum) -> bytes:
    arrays = [spectrum.transmission, spectrum.modes_left, spectrum.modes_right, spectrum.q_points, spectrum.q_weights]
    arrays += [getattr(spectrum.modes, f.name) for f in fields(spectrum.modes)]
    return b"".join(np.ascontiguousarray(a).tobytes() for a in arrays) + repr(spectrum.checks).encode()


@pytest.mark.parametrize("build", [fcc_junction, Recipe(1, 2, 3, 2, oblique=True).build])
def test_same_bytes_for_any_number_of_workers(build):
    results = [
        everything(solve_transmission(build(), (5, 4), 20, resolve_modes=True, n_workers=n)) for n in (1, 1, 2, 4)
    ]
    assert len(set(results)) == 1
    models = {diffuse_mismatch(build(), (5, 4), 20, n_workers=n).transmission.tobytes() for n in (1, 2, 4)}
    assert len(models) == 1


def test_progress_is_reported(junction):
    seen: list[tuple[int, int]] = []
    spectrum = solve_transmission(junction, (4, 4), 4, n_workers=2, progress=lambda done, n: seen.append((done, n)))
    n = len(spectrum.q_points)
    assert seen == [(k, n) for k in range(1, n + 1)]


def test_checks_count_the_points(junction):
    spectrum = solve_transmission(junction, (4, 4), 10, n_workers=1)
    checks = spectrum.checks
    assert checks.points == spectrum.transmission.size
    assert np.count_nonzero(spectrum.transmission) <= checks.solved <= checks.points
    assert checks.conservation_over_bound < 1
    assert checks.reciprocity_over_bound < 1
    assert checks.flagged == 0


# --- consistency of a junction with its leads ------------------------------------------------------------------------


def test_block_mismatch_and_sum_rule():
    junction = lengthened(fcc_junction(), 2, 2)
    device = junction.device
    assert max(junction.block_mismatch()) < 1e-12
    assert junction.sum_rule_error() < 1e-12
    phi = device.phi.copy()
    first = int(np.flatnonzero((device.i == 0) & (device.j == 1))[0])
    back = np.flatnonzero((device.i == 1) & (device.j == 0) & ~np.any(device.R + device.R[first], axis=1))[0]
    phi[[first, back]] *= 1.1
    off = replace(junction, device=replace(device, phi=phi))
    left, right = off.block_mismatch()
    assert left == pytest.approx(0.1 * np.abs(device.phi[first]).max())
    assert right < 1e-12
    assert off.sum_rule_error() == pytest.approx(left, rel=1e-9)


def test_area_and_tops():
    junction = fcc111_junction()
    assert junction.area == pytest.approx(8 * np.sqrt(3) / 2)
    chain = chain_junction(20, 60, 5, 5, 5)
    expected = np.sqrt(20 / np.array([20, 60])) * units.THZ_PER_SQRT_W2
    np.testing.assert_allclose(chain.top_frequencies, expected, rtol=1e-12)
