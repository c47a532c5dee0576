"""The second solver: Green's functions of the whole device, with self-energies from Bloch states and from decimation."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from thermal_flows import units
from thermal_flows.transport import Junction, TransportError, local_dos, solve_transmission
from thermal_flows.transport.leads.blocks import BlockBuilder, LeadBlocks
from thermal_flows.transport.solvers.decimation import decimate
from thermal_flows.transport.solvers.green_function import (
    caroli_transmission,
    decimated_self_energies,
    exact_self_energies,
    widths,
)
from thermal_flows.transport.solvers.open_device import OpenDevice

from . import oracle
from .junctions import (
    Recipe,
    chain_junction,
    crystal,
    fcc111_junction,
    fcc_junction,
    fcc_lead,
    join,
    lengthened,
    simple_cubic_junction,
)
from .tools import band_extrema, fractions, inside, recipes, solve, wave_vectors, window

JUNCTIONS = {
    "fcc001": fcc_junction(k_perp=0.13),
    "fcc111": fcc111_junction(),
    "fcc001-weak": fcc_junction(contact=1e-3),
    "fcc001-long": lengthened(fcc_junction(), 1, 2),
    "cubic": simple_cubic_junction(20, 35),
    "random-complex": Recipe(11, 2, 3, 2, 3, 2, oblique=True).build(),
    "random-real": Recipe(12, 3, 2, 1, 3, 3, twofold=True).build(),
    "random-one-port": Recipe(13, 3, 2, 1, 1, 1).build(),
    "random-full-rank": Recipe(14, 1, 1, 3, 4, 3).build(),
}
REFERENCES = ("chain_mass", "fcc_nn_mass4", "si_ge_sw_mass")


def top(junction: Junction, q) -> float:
    return float(max(oracle.band_edges(lead, q)[1] for lead in (junction.left, junction.right)))


def caroli(junction: Junction, q, w2, broadening=None):
    blocks = BlockBuilder(junction)(np.asarray(q, dtype=float))
    return caroli_transmission(blocks, np.atleast_1d(w2), top(junction, q), broadening)


def smooth(junction: Junction, q, w2) -> np.ndarray:
    """Where mode matching moves by less than 1e-8 with a relative 1e-10 of the squared frequency: no edge, no narrow line."""
    here = solve(junction, q, w2)
    steep = np.abs(solve(junction, q, w2 * (1 + 1e-10)).forward - here.forward)
    return (steep < 1e-8) & ~here.flagged


def slope(junction: Junction, q, w2) -> np.ndarray:
    """How fast the transmission varies: its change on the real axis, per change of the squared frequency over its largest."""
    step = 1e-9 * top(junction, q)
    return np.abs(solve(junction, q, w2 + step).forward - solve(junction, q, w2 - step).forward) / 2e-9


# --- agreement with mode matching ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REFERENCES)
def test_reference_junctions(junction_data, name):
    junction = Junction.from_npz(junction_data / f"{name}.npz")
    case = next(c for c in json.loads((junction_data / "expected.json").read_text())["cases"] if c["id"] == name)
    settings = {"q_mesh": (4, 4), "n_frequencies": 50, "n_workers": 1}
    matched = solve_transmission(junction, **settings)
    exact = solve_transmission(junction, method="green_function", **settings)
    decimated = solve_transmission(junction, method="green_function", broadening=1e-12, **settings)
    assert matched.transmission.max() > 0.5
    np.testing.assert_allclose(exact.transmission, matched.transmission, rtol=0, atol=1e-10)
    np.testing.assert_allclose(decimated.transmission, matched.transmission, rtol=0, atol=1e-6)
    for spectrum in (exact, decimated):
        np.testing.assert_array_equal(spectrum.modes_left, matched.modes_left)
        np.testing.assert_array_equal(spectrum.modes_right, matched.modes_right)
        assert (spectrum.checks.solved, spectrum.checks.points) == (matched.checks.solved, matched.checks.points)
        assert spectrum.checks.reciprocity_over_bound < 0.1
    assert exact.checks.conservation_over_bound < 0.1
    assert 1e-14 < decimated.checks.conservation < 1e-6
    for sample in case.get("samples", ()):
        q, w2 = sample["q_frac"], units.thz_to_w2(sample["omega"] / (2 * np.pi))
        assert caroli(junction, q, w2).forward[0] == pytest.approx(sample["xi"], abs=1e-8)
        assert caroli(junction, q, w2, 1e-12).forward[0] == pytest.approx(sample["xi"], abs=1e-6)


@given(recipes(6), wave_vectors, fractions)
def test_random_junctions(recipe: Recipe, q, at):
    junction = recipe.build()
    w2 = inside(junction, q, at)
    assume(len(w2))
    w2 = w2[smooth(junction, q, w2)]
    assume(len(w2))
    matched, found = solve(junction, q, w2), caroli(junction, q, w2)
    np.testing.assert_allclose(found.forward, matched.forward, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.backward, matched.backward, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(found.modes_left, matched.modes_left)
    np.testing.assert_array_equal(found.modes_right, matched.modes_right)
    assert np.all(found.conservation < matched.bound)
    broadened = caroli(junction, q, w2, 1e-13).forward
    assert np.all(np.abs(broadened - matched.forward) < 1e-8 + 1e-12 * slope(junction, q, w2))


@pytest.mark.parametrize("q", [(0.0, 0.0), (0.11, 0.23), (0.5, 0.5)], ids=str)
@pytest.mark.parametrize("name", JUNCTIONS)
def test_on_and_near_poles(name, q):
    """Eigenvalues of the isolated layers and of the isolated device are ordinary points, for either self-energy."""
    junction = JUNCTIONS[name]
    scale = top(junction, q)
    energies = np.concatenate(
        [np.linalg.eigvalsh(oracle.block(part, q, 0)) for part in (junction.left, junction.right, junction.device)]
    )
    poles = np.unique(energies[energies > 1e-3 * scale].round(12))
    w2 = (poles[:, None] * (1 + np.array([0, 1e-13, -1e-9, 1e-6]))).ravel()
    w2 = w2[smooth(junction, q, w2)]
    matched = solve(junction, q, w2)
    np.testing.assert_allclose(caroli(junction, q, w2).forward, matched.forward, rtol=0, atol=1e-9)
    broadened = caroli(junction, q, w2, 1e-13)
    clean = ~broadened.flagged & (slope(junction, q, w2) < 1e3)  # steeper: a band edge on the pole
    assert clean.mean() > 0.75
    assert np.abs(broadened.forward - matched.forward)[clean].max() < 1e-8


@pytest.mark.parametrize(
    ("name", "q"),
    [(name, (0.11, 0.23)) for name in ("fcc001", "fcc111", "cubic", "random-complex")]
    + [("random-real", (0.05, 0.15))],
)
def test_decimation_from_1e_5_off_edges_and_poles(name, q):
    """Where decimation can be a reference at all, it is one: from 1e-5 (of the largest squared frequency) off them."""
    junction = JUNCTIONS[name]
    scale, blocks = top(junction, q), BlockBuilder(junction)(np.array(q))
    poles = [np.linalg.eigvalsh(block) for block in (blocks.left.H00, blocks.right.H00, blocks.device.block)]
    special = np.concatenate([*poles, *(band_extrema(lead) for lead in (blocks.left, blocks.right))])
    low, high = window(junction, q)
    special = special[(special > low) & (special < high)]
    w2 = np.concatenate([special - 1.01e-5 * scale, special + 1.01e-5 * scale])
    w2 = w2[(w2 > low) & (w2 < high) & (np.abs(w2[:, None] - special).min(axis=1) > 1e-5 * scale)]
    assert len(w2) >= 4
    matched, decimated = solve(junction, q, w2), caroli(junction, q, w2, 1e-14)
    assert matched.forward.max() > 0.1
    np.testing.assert_allclose(decimated.forward, matched.forward, rtol=0, atol=1e-7)


def test_complex_and_real_gauge_agree():
    junction, q = JUNCTIONS["fcc001"], np.array([0.05, 0.12])
    w2 = inside(junction, q, np.linspace(0.02, 0.98, 40))
    real, complex_ = BlockBuilder(junction), BlockBuilder(junction)
    assert real.real
    complex_.real = False
    for broadening in (None, 1e-9):
        one, two = (caroli_transmission(b(q), w2, top(junction, q), broadening) for b in (real, complex_))
        assert one.forward.max() > 0.1
        np.testing.assert_allclose(one.forward, two.forward, rtol=0, atol=1e-10)


@pytest.mark.parametrize("broadening", [None, 1e-13])
def test_equal_leads_transmit_every_mode(broadening):
    lead = fcc_lead(40.0, k_perp=0.2)
    junction = lengthened(fcc_junction(40.0, 40.0, k_perp=0.2), 2, 1)
    for q in ((0.0, 0.0), (0.13, 0.21), (-0.4, 0.07)):
        w2 = inside(junction, q, np.linspace(0.05, 0.95, 19))
        found = caroli(junction, q, w2, broadening)
        expected = np.array([oracle.count_crossings(lead, q, x)[0] for x in w2])
        apart = np.array([oracle.count_crossings(lead, q, x)[1] for x in w2]) > 1e-3 * top(junction, q)
        assert apart.sum() > 10
        np.testing.assert_allclose(found.forward[apart], expected[apart], rtol=0, atol=1e-9)


def test_chain_on_its_band_edge_and_at_a_mode_that_touches_nothing():
    parameters = (20.0, 60.0, 5.0, 5.0, 5.0)
    edge = 4 * 5 / 60
    w2 = edge * np.array([0.5, 1 - 1e-6, 1, 1 + 1e-6])
    found = caroli(chain_junction(*parameters), (0, 0), w2)
    np.testing.assert_allclose(
        found.forward[[0, 1, 3]], oracle.chain_transmission(w2[[0, 1, 3]], *parameters), rtol=0, atol=1e-9
    )
    assert 0 <= found.forward[2] < 1e-3

    def tied(mass: float):
        pinning = [np.diag([10.0, 10.0, 0.0])]
        return crystal(np.eye(3), np.zeros((1, 3)), [mass], [(0, 0, (0, 0, 1), np.diag([0, 0, 5.0]))], pinning)

    # x and y of the device's first atom move at the very frequency asked for: no Green's function there
    junction = join(tied(20.0), tied(27.0), [(0, 1, (0, 0, 0), np.diag([0, 0, 5.0]))])
    w2 = np.array([0.3, 0.5, 0.51])
    found = caroli(junction, (0, 0), w2)
    np.testing.assert_array_equal(found.flagged, [False, True, False])
    np.testing.assert_allclose(found.forward, oracle.chain_transmission(w2, 20, 27, 5, 5, 5), rtol=0, atol=1e-8)


# --- self-energies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("careful", [False, True])
@pytest.mark.parametrize("name", JUNCTIONS)
def test_self_energies_solve_their_equation_and_are_retarded(name, careful):
    """S = B+ [w2 - H00 - A S A+]^-1 B of a right lead; Gamma >= 0 with as many channels as there are modes."""
    junction, q = JUNCTIONS[name], np.array([0.11, 0.23])
    blocks = BlockBuilder(junction)(q)
    w2 = inside(junction, q, np.linspace(0.01, 0.99, 9))
    leads = exact_self_energies(blocks, w2, careful)
    for lead, S, modes, up in (
        (blocks.left, leads.left, leads.modes_left, False),
        (blocks.right, leads.right, leads.modes_right, True),
    ):
        near, far = (lead.A, lead.B) if up else (lead.B, lead.A)
        inner = w2[:, None, None] * np.eye(len(lead.H00)) - lead.H00 - near @ S @ near.conj().T
        again = far.conj().T @ np.linalg.solve(inner, np.broadcast_to(far, (len(w2), *far.shape)))
        sizes = np.abs(S).max(axis=(1, 2))
        assert np.all(np.abs(again - S).max(axis=(1, 2)) < 1e-9 * sizes)
        open_ = np.linalg.eigvalsh(widths(S))
        assert np.all(open_[:, 0] > -1e-10 * sizes)
        np.testing.assert_array_equal((open_ > 1e-6 * sizes[:, None]).sum(axis=1), modes)


@pytest.mark.parametrize("name", JUNCTIONS)
def test_decimation_is_that_of_the_textbook_away_from_the_axis(name):
    junction, q = JUNCTIONS[name], np.array([0.11, 0.23])
    builder = BlockBuilder(junction)
    builder.real = False  # the reference knows no gauge
    left, right = builder(q).left, builder(q).right
    scale = top(junction, q)
    z = scale * np.array([0.2 + 0.03j, 0.7 + 1e-3j, 1.3 + 1e-2j, -0.2 + 1e-2j])
    for lead, up in ((left, False), (right, True)):
        H01 = lead.H01 if up else lead.H01.conj().T
        far = lead.B if up else lead.A
        g = np.array([oracle.surface_green(x, lead.H00, H01) for x in z])
        found = decimate(lead, z)
        np.testing.assert_allclose(
            found.upper if up else found.lower, far.conj().T @ g @ far, rtol=0, atol=1e-10 * np.abs(g).max() * scale
        )


@pytest.mark.parametrize("name", JUNCTIONS)
def test_decimation_tends_to_the_bloch_states_in_proportion_to_the_broadening(name):
    """Also on the eigenvalues of one and of two isolated layers, where effective dynamical matrices diverge."""
    junction, q = JUNCTIONS[name], np.array([0.11, 0.23])
    blocks = BlockBuilder(junction)(q)
    scale = top(junction, q)
    lead = blocks.left
    double = np.block([[lead.H00, lead.H01], [lead.H01.conj().T, lead.H00]])
    poles = np.concatenate([np.linalg.eigvalsh(lead.H00), np.linalg.eigvalsh(double)])
    from_edge = np.array([oracle.count_crossings(junction.left, q, x)[1] for x in poles])
    poles = poles[(poles > 1e-3 * scale) & (from_edge > 1e-3 * scale)]
    assert len(poles) >= 2
    exact = exact_self_energies(blocks, poles)
    errors = []
    for broadening in (1e-8, 1e-10, 1e-12):
        found = decimate(lead, poles + 1j * broadening * scale)
        assert np.all(found.residual < 1e-11)
        errors.append(np.abs(found.lower - exact.left).max(axis=(1, 2)) / np.abs(exact.left).max(axis=(1, 2)))
    assert np.all(errors[1] < 0.011 * errors[0] + 1e-10)
    assert np.all(errors[2] < 0.011 * errors[1] + 1e-10)
    assert np.all(errors[2] < 1e-6)


def test_decimation_needs_a_broadening_that_double_precision_can_follow():
    lead = BlockBuilder(JUNCTIONS["fcc001"])(np.zeros(2)).left
    for z in (0.1, 0.1 - 1e-9j):
        with pytest.raises(TransportError, match="positive imaginary part"):
            decimate(lead, np.array([z], dtype=complex))
    with pytest.raises(TransportError, match="too small for double precision"):
        decimate(lead, np.array([0.05 + 1e-17j]))


def test_lead_without_coupling_has_no_self_energy():
    lead = LeadBlocks.build(np.diag([1.0, 2.0, 3.0]), np.zeros((3, 3)))
    found = decimate(lead, np.array([1.5 + 1e-6j, 2 + 1e-6j]))
    assert found.upper.shape == found.lower.shape == (2, 0, 0)


# --- the device in slices --------------------------------------------------------------------------------------------


@given(recipes(4), wave_vectors, st.integers(0, 3), st.integers(0, 3), st.floats(0.05, 1.2), st.sampled_from([0, 1e-3]))
def test_slices_give_the_inverse_of_the_whole_matrix(recipe: Recipe, q, more_left, more_right, at, imaginary):
    junction = lengthened(recipe.build(), more_left, more_right)
    blocks = BlockBuilder(junction)(np.asarray(q))
    device = OpenDevice.build(blocks)
    H, P, r_l = blocks.device.block, blocks.device.ports, blocks.left.rank
    assert sorted(device.order) == list(range(len(H)))
    scale = top(junction, q)
    z = scale * np.array([at, 0.7 * at]) + 1j * imaginary * scale
    leads = decimated_self_energies(blocks, z.real, 1e-5 * scale)
    S = np.zeros((2, P.shape[1], P.shape[1]), dtype=complex)
    S[:, :r_l, :r_l], S[:, r_l:, r_l:] = leads.left, leads.right
    matrix = z[:, None, None] * np.eye(len(H)) - H - P @ S @ P.conj().T
    G = np.linalg.inv(matrix)
    assume(np.linalg.cond(matrix).max() < 1e6)
    size = np.abs(G).max()
    columns, diagonal = device.columns(z, leads.left, leads.right), device.diagonal(z, leads.left, leads.right)
    np.testing.assert_allclose(columns, G @ P, rtol=0, atol=1e-9 * size)
    np.testing.assert_allclose(device.on_ports(columns), P.conj().T @ G @ P, rtol=0, atol=1e-9 * size)
    np.testing.assert_allclose(diagonal, np.diagonal(G, axis1=1, axis2=2), rtol=0, atol=1e-9 * size)


def test_slices_are_thin_however_the_atoms_are_numbered():
    """A long device is cut along z: cost grows with its length."""
    junction = lengthened(fcc_junction(k_perp=0.1), 8, 8)
    device = junction.device
    n = device.n_atoms
    inner = np.random.default_rng(3).permutation(np.arange(2, n - 2))
    order = np.concatenate([[0, 1], inner, [n - 2, n - 1]])
    rank = np.argsort(order)
    mixed = replace(
        device, positions=device.positions[order], masses=device.masses[order], i=rank[device.i], j=rank[device.j]
    )
    junction_mixed = Junction(junction.left, junction.right, mixed)
    q = (0.07, 0.19)
    slices = OpenDevice.build(BlockBuilder(junction_mixed)(np.array(q))).slices
    assert max(len(block) for block in slices) <= 24
    w2 = inside(junction, q, np.linspace(0.1, 0.9, 9))
    short = solve(fcc_junction(k_perp=0.1), q, w2).forward
    np.testing.assert_allclose(caroli(junction_mixed, q, w2).forward, short, rtol=0, atol=1e-10)


def test_batches_change_nothing(monkeypatch):
    junction, q = JUNCTIONS["random-complex"], (0.11, 0.23)
    w2 = inside(junction, q, np.linspace(0.02, 0.98, 23))
    whole = caroli(junction, q, w2)
    monkeypatch.setattr("thermal_flows.transport.solvers.green_function._BATCH_BYTES", 1)
    np.testing.assert_allclose(caroli(junction, q, w2).forward, whole.forward, rtol=0, atol=1e-13)


# --- the public function ---------------------------------------------------------------------------------------------


def test_any_number_of_workers_gives_the_same_bytes():
    results = [
        solve_transmission(
            JUNCTIONS["random-real"], (3, 3), 20, "green_function", broadening=b, n_workers=n, executor="threads"
        )
        for b in (None, 1e-10)
        for n in (1, 3)
    ]
    assert results[0].transmission.max() > 0.01
    assert results[0].transmission.tobytes() == results[1].transmission.tobytes()
    assert results[2].transmission.tobytes() == results[3].transmission.tobytes()


def test_requests_that_make_no_sense():
    junction = JUNCTIONS["cubic"]
    with pytest.raises(TransportError, match="resolve_modes needs method='mode_matching'"):
        solve_transmission(junction, (2, 2), 4, "green_function", resolve_modes=True)
    with pytest.raises(TransportError, match="works without broadening"):
        solve_transmission(junction, (2, 2), 4, broadening=1e-9)
    for broadening in (0.0, -1e-9, 1.5, np.nan, np.inf):
        with pytest.raises(TransportError, match="between 0 and 1"):
            solve_transmission(junction, (2, 2), 4, "green_function", broadening=broadening)


def test_mode_bound_to_the_end_of_a_lead():
    """A lead cut off there would have a surface mode, and an infinite self-energy; the junction has nothing special."""
    junction = lengthened(fcc_junction(), 1, 1)
    q, w2 = np.array([1 / 3, -1 / 3]), 0.75**2 * float(units.thz_to_w2(min(junction.top_frequencies)))
    blocks = BlockBuilder(junction)(q)
    found = caroli_transmission(blocks, np.array([w2]), w2)
    assert found.conservation[0] < 1e-8
    assert found.flagged[0]
    frequency = float(units.w2_to_thz(w2))
    states = local_dos(junction, q, frequency, route="scattering_states")  # no self-energies: nothing is shifted
    parts = [local_dos(junction, q, frequency, incident=side) for side in ("left", "right", "both")]
    # the shift of 1e-7 moves the steep flank of a resonance, and self-energies of 1e7 cost digits: no more than this
    assert parts[2] == pytest.approx(states, rel=1e-4)
    assert parts[0] + parts[1] == pytest.approx(parts[2], rel=1e-4)
