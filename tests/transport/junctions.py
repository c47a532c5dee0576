"""Junctions built from springs: symmetric, stable and free of self-forces by construction.

Every spring adds a positive semidefinite form of (u_i - u_j); self terms follow from the acoustic sum rule of the
*infinite* system, lead | device | lead.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from thermal_flows.lattice.pair_constants import PairForceConstants
from thermal_flows.transport import Junction

Bond = tuple[int, int, tuple[int, int, int], NDArray[np.float64]]


def spring(direction: NDArray[np.float64], k_par: float, k_perp: float = 0.0) -> NDArray[np.float64]:
    """Spring matrix: stiffness ``k_par`` along the bond and ``k_perp`` across it."""
    d = np.asarray(direction, dtype=float) / np.linalg.norm(direction)
    along = np.outer(d, d)
    return k_par * along + k_perp * (np.eye(3) - along)


def crystal(cell, positions, masses, bonds: list[Bond], pinning=None) -> PairForceConstants:
    """Periodic crystal of springs; ``pinning`` (n, 3, 3) ties atoms to their sites."""
    i, j, R, phi = [], [], [], []
    n = len(masses)
    own = np.zeros((n, 3, 3)) if pinning is None else np.array(pinning, dtype=float)
    for a, b, shift, K in bonds:
        i += [a, b]
        j += [b, a]
        R += [shift, tuple(-s for s in shift)]
        phi += [-K, -K.T]
        own[a] += K
        own[b] += K.T
    i += range(n)
    j += range(n)
    R += [(0, 0, 0)] * n
    phi += list(own)
    return PairForceConstants(cell, positions, masses, np.array(i), np.array(j), np.array(R), np.array(phi))


def _is_self(part: PairForceConstants) -> NDArray[np.bool_]:
    return (part.i == part.j) & np.all(part.R == 0, axis=1)


def _lead_pull(lead: PairForceConstants, side: int) -> NDArray[np.float64]:
    """What the springs to the next lead layer (side -1 or +1) add to the self terms of a layer."""
    pull = np.zeros((lead.n_atoms, 3, 3))
    at = lead.R[:, 2] == side
    np.add.at(pull, lead.i[at], -lead.phi[at])
    return pull


def _pinning(lead: PairForceConstants) -> NDArray[np.float64]:
    total = np.zeros((lead.n_atoms, 3, 3))
    np.add.at(total, lead.i, lead.phi)
    return total


def join(
    left: PairForceConstants,
    right: PairForceConstants,
    bonds: list[Bond],
    masses=(),
    positions=None,
    pinning=None,
    right_origin=None,
) -> Junction:
    """Junction of two leads; ``bonds`` are the device's own springs.

    Device atoms are numbered: one layer of the left lead, the interior (``masses``, ``positions``), one layer of the right
    lead. ``right_origin`` is where the right lead's layer starts.
    """
    masses = np.asarray(masses, dtype=float)
    inner = len(masses)
    positions = np.zeros((inner, 3)) if positions is None else np.asarray(positions, dtype=float)
    if right_origin is None:
        right_origin = left.cell[2] if inner == 0 else left.cell[2] + np.array([0, 0, 1.0 + np.ptp(positions[:, 2])])
    n_l, n_r = left.n_atoms, right.n_atoms
    n = n_l + inner + n_r
    cell = np.vstack([left.cell[:2], [0, 0, 100.0]])
    own = np.zeros((n, 3, 3))
    own[:n_l] += _lead_pull(left, -1) + _pinning(left)
    own[n - n_r :] += _lead_pull(right, +1) + _pinning(right)
    if pinning is not None:
        own[n_l : n_l + inner] += pinning
    i, j, R, phi = [], [], [], []
    for lead, start in ((left, 0), (right, n - n_r)):
        at = (lead.R[:, 2] == 0) & ~_is_self(lead)
        i += list(start + lead.i[at])
        j += list(start + lead.j[at])
        R += [tuple(x) for x in lead.R[at]]
        phi += list(lead.phi[at])
    for a, b, shift, K in bonds:
        i += [a, b]
        j += [b, a]
        R += [shift, tuple(-s for s in shift)]
        phi += [-K, -K.T]
    np.add.at(own, np.array(i, dtype=int), -np.array(phi).reshape(-1, 3, 3))
    i += range(n)
    j += range(n)
    R += [(0, 0, 0)] * n
    phi += list(own)
    device = PairForceConstants(
        cell,
        np.vstack([left.positions, positions, right.positions + right_origin]),
        np.concatenate([left.masses, masses, right.masses]),
        np.array(i),
        np.array(j),
        np.array(R),
        np.array(phi),
    )
    return Junction(left, right, device)


# --- named junctions -------------------------------------------------------------------------------------------------


def chain_lead(mass: float, k: float, pinned: float = 0.0, across: float = 0.0) -> PairForceConstants:
    """Linear chain along z, spacing 1 A; ``across`` couples x and y displacements along the chain."""
    K = np.diag([across, across, k])
    pinning = np.zeros((1, 3, 3))
    pinning[0] = pinned * np.eye(3)
    return crystal(np.eye(3), np.zeros((1, 3)), [mass], [(0, 0, (0, 0, 1), K)], pinning)


def chain_junction(m_l, m_r, k_l, k_r, contact, pinned_l=0.0, pinned_r=0.0, across=0.0) -> Junction:
    """Two chains and a contact spring."""
    K = contact * np.diag([across / k_l, across / k_l, 1.0])
    return join(chain_lead(m_l, k_l, pinned_l, across), chain_lead(m_r, k_r, pinned_r, across), [(0, 1, (0, 0, 0), K)])


def simple_cubic_lead(mass: float, k_par: float, k_perp: float, a: float = 3.0) -> PairForceConstants:
    """Simple cubic with nearest-neighbour springs: polarisations decouple, each a chain at every q."""
    bonds = [(0, 0, tuple(int(x) for x in d), spring(d, k_par, k_perp)) for d in np.eye(3)]
    return crystal(a * np.eye(3), np.zeros((1, 3)), [mass], bonds)


def simple_cubic_junction(m_l=20.0, m_r=35.0, k_par=3.0, k_perp=1.0, contact=1.0, a=3.0) -> Junction:
    """Simple cubic mass junction; ``contact`` scales the springs of the interface."""
    K = contact * spring(np.array([0, 0, 1.0]), k_par, k_perp)
    return join(
        simple_cubic_lead(m_l, k_par, k_perp, a), simple_cubic_lead(m_r, k_par, k_perp, a), [(0, 1, (0, 0, 0), K)]
    )


_FCC_DIAGONALS = np.array([[x, y] for x in (0, -1) for y in (0, -1)])


def fcc_lead(mass: float, k: float = 1.0, a: float = 4.0, k_perp: float = 0.0) -> PairForceConstants:
    """fcc [001], nearest-neighbour springs; two atoms in a principal layer of thickness a."""
    b = a / np.sqrt(2)
    cell = np.diag([b, b, a])
    positions = np.array([[0, 0, 0], [b / 2, b / 2, a / 2]])
    bonds: list[Bond] = []
    for atom in (0, 1):
        bonds += [(atom, atom, (1, 0, 0), spring(np.array([1.0, 0, 0]), k, k_perp))]
        bonds += [(atom, atom, (0, 1, 0), spring(np.array([0, 1.0, 0]), k, k_perp))]
    for x, y in _FCC_DIAGONALS:
        d = positions[1] + [x * b, y * b, 0] - positions[0]
        bonds.append((0, 1, (int(x), int(y), 0), spring(d, k, k_perp)))
        d = positions[0] + [-x * b, -y * b, a] - positions[1]
        bonds.append((1, 0, (int(-x), int(-y), 1), spring(d, k, k_perp)))
    return crystal(cell, positions, [mass, mass], bonds)


def fcc_junction(m_l=40.0, m_r=160.0, k=1.0, contact=1.0, a=4.0, k_perp=0.0) -> Junction:
    """fcc [001] mass junction (Young-Maris type); ``contact`` scales the springs across the interface."""
    left, right = fcc_lead(m_l, k, a, k_perp), fcc_lead(m_r, k, a, k_perp)
    b = a / np.sqrt(2)
    bonds = []
    for x, y in _FCC_DIAGONALS:
        d = np.array([-x * b - b / 2, -y * b - b / 2, a / 2])
        bonds.append((1, 2, (int(-x), int(-y), 0), contact * spring(d, k, k_perp)))
    return join(left, right, bonds)


def fcc111_lead(mass: float, k: float = 1.0, a: float = 4.0) -> PairForceConstants:
    """fcc [111], nearest-neighbour springs: hexagonal in plane, one atom a layer, oblique layer translation."""
    b = a / np.sqrt(2)
    a1, a2 = b * np.array([1.0, 0, 0]), b * np.array([-0.5, np.sqrt(3) / 2, 0])
    a3 = (2 * a1 + a2) / 3 + np.array([0, 0, a / np.sqrt(3)])
    cell = np.array([a1, a2, a3])
    bonds: list[Bond] = []
    for shift in ((1, 0, 0), (0, 1, 0), (1, 1, 0), (0, 0, 1), (-1, 0, 1), (-1, -1, 1)):
        d = np.array(shift) @ cell
        assert np.isclose(np.linalg.norm(d), b)
        bonds.append((0, 0, shift, spring(d, k)))
    return crystal(cell, np.zeros((1, 3)), [mass], bonds)


def fcc111_junction(m_l=40.0, m_r=100.0, k=1.0, contact=1.0) -> Junction:
    """fcc [111] mass junction."""
    left, right = fcc111_lead(m_l, k), fcc111_lead(m_r, k)
    bonds = [
        (0, 1, (s[0], s[1], 0), contact * spring(np.array(s) @ left.cell, k))
        for s in ((0, 0, 1), (-1, 0, 1), (-1, -1, 1))
    ]
    return join(left, right, bonds)


# --- random junctions ------------------------------------------------------------------------------------------------


def _random_spring(rng: np.random.Generator, vector: NDArray[np.float64], rank: int) -> NDArray[np.float64]:
    if rank == 1:
        return spring(vector, rng.uniform(0.5, 5.0))
    if rank == 2:
        return spring(vector, rng.uniform(0.5, 5.0)) + spring(rng.normal(size=3), rng.uniform(0.1, 2.0))
    return spring(vector, rng.uniform(0.5, 5.0), rng.uniform(0.1, 1.5))


def _random_lead(rng: np.random.Generator, plane, n: int, links: int, link_rank: int, oblique: bool, twofold: bool):
    height = 1.5 * n
    a3 = np.array([*(rng.uniform(-2, 2, 2) if oblique else (0.0, 0.0)), height])
    cell = np.vstack([plane, a3])
    z = np.sort(rng.uniform(0, height, n))
    if twofold:  # every atom on a twofold axis along z, and the layers' translation too
        halves = rng.integers(0, 2, (n, 2)) / 2
        cell[2, :2] = (rng.integers(0, 2, 2) / 2 if oblique else np.zeros(2)) @ plane[:, :2]
    else:
        halves = rng.uniform(0, 1, (n, 2))
    positions = np.column_stack([halves @ plane[:, :2], z])
    masses = rng.uniform(5, 200, n)

    def bond(i: int, j: int, shift, rank: int) -> list[Bond]:
        vector = positions[j] + np.array(shift) @ cell - positions[i]
        K = _random_spring(rng, vector, rank)
        made = [(i, j, tuple(int(s) for s in shift), K)]
        if twofold:
            turn = np.diag([-1.0, -1.0, 1.0])
            mirrored = vector * [-1, -1, 1] + positions[i] - positions[j]
            back = np.rint(mirrored @ np.linalg.inv(cell)).astype(int)
            assert np.allclose(back @ cell, mirrored)
            made.append((i, j, tuple(int(s) for s in back), turn @ K @ turn))
        return made

    bonds: list[Bond] = []
    for atom in range(n):  # every atom holds on to its own images and to the next atom: no loose parts
        bonds += bond(atom, atom, (1, 0, 0), 3) + bond(atom, atom, (0, 1, 0), 3)
        if atom + 1 < n:
            bonds += bond(atom, atom + 1, (0, 0, 0), 3)
    for _ in range(n - 1):
        i, j = rng.choice(n, 2, replace=False)
        bonds += bond(i, j, (*rng.integers(-1, 2, 2), 0), int(rng.integers(1, 4)))
    for _ in range(links):
        bonds += bond(rng.integers(n), rng.integers(n), (*rng.integers(-1, 2, 2), 1), link_rank)
    return crystal(cell, positions, masses, bonds)


@dataclass(frozen=True)
class Recipe:
    """What a random junction is made from."""

    seed: int
    n_left: int = 2
    n_right: int = 2
    n_inner: int = 1
    links: int = 2
    link_rank: int = 1
    oblique: bool = False
    twofold: bool = False
    same_leads: bool = False

    def build(self) -> Junction:
        rng = np.random.default_rng(self.seed)
        angle = rng.uniform(0.3, 2.8) if self.oblique else np.pi / 2
        turn = rng.uniform(0, 2 * np.pi) if self.oblique else 0.0
        plane = rng.uniform(2, 4, 2)[:, None] * np.array(
            [[np.cos(turn), np.sin(turn), 0], [np.cos(turn + angle), np.sin(turn + angle), 0]]
        )
        left = _random_lead(rng, plane, self.n_left, self.links, self.link_rank, self.oblique, self.twofold)
        if self.same_leads:
            right = left
        else:
            right = _random_lead(rng, plane, self.n_right, self.links, self.link_rank, self.oblique, self.twofold)
        n_l, n_r = left.n_atoms, right.n_atoms
        n = n_l + self.n_inner + n_r
        masses = rng.uniform(5, 200, self.n_inner)
        top = max(left.positions[:, 2].max(), left.cell[2, 2] - 1)
        planar = rng.integers(0, 2, (self.n_inner, 2)) / 2 if self.twofold else rng.uniform(0, 1, (self.n_inner, 2))
        inner = np.column_stack([planar @ plane[:, :2], top + 1.3 * (1 + np.arange(self.n_inner))])
        origin = np.array([0, 0, top + 1.3 * (1 + self.n_inner)])
        if self.oblique and not self.twofold:
            origin[:2] = rng.uniform(-2, 2, 2)
        positions = np.vstack([left.positions, inner, right.positions + origin])

        def bond(i: int, j: int, shift, rank: int) -> list[Bond]:
            vector = positions[j] + np.array(shift[:2]) @ plane - positions[i]
            K = _random_spring(rng, vector, rank)
            made = [(int(i), int(j), (int(shift[0]), int(shift[1]), 0), K)]
            if self.twofold:
                mirror = np.diag([-1.0, -1.0, 1.0])
                mirrored = (vector * [-1, -1, 1] + positions[i] - positions[j])[:2] @ np.linalg.inv(plane[:, :2])
                back = np.rint(mirrored).astype(int)
                assert np.allclose(back, mirrored)
                made.append((int(i), int(j), (int(back[0]), int(back[1]), 0), mirror @ K @ mirror))
            return made

        bonds: list[Bond] = []
        path = [n_l - 1, *range(n_l, n_l + self.n_inner), n - n_r]
        for a, b in itertools.pairwise(path):
            bonds += bond(a, b, (0, 0), 3)
        for atom in range(n_l, n_l + self.n_inner):
            bonds += bond(atom, atom, (1, 0), 3) + bond(atom, atom, (0, 1), 3)
        for _ in range(2 + self.n_inner):
            a, b = rng.choice(n, 2, replace=False)
            bonds += bond(a, b, rng.integers(-1, 2, 2), int(rng.integers(1, 4)))
        return join(left, right, bonds, masses, inner, right_origin=origin)


# --- the same junction, written differently --------------------------------------------------------------------------


def thickened(lead: PairForceConstants, times: int) -> PairForceConstants:
    """The same crystal with principal layers ``times`` as thick."""
    n = lead.n_atoms
    i, j, R, phi = [], [], [], []
    for layer in range(times):
        target = layer + lead.R[:, 2]
        i.append(lead.i + layer * n)
        j.append(lead.j + (target % times) * n)
        R.append(np.column_stack([lead.R[:, :2], target // times]))
        phi.append(lead.phi)
    return PairForceConstants(
        lead.cell * np.array([[1.0], [1.0], [times]]),
        np.vstack([lead.positions + layer * lead.cell[2] for layer in range(times)]),
        np.tile(lead.masses, times),
        np.concatenate(i),
        np.concatenate(j),
        np.vstack(R),
        np.vstack(phi),
    )


def lengthened(junction: Junction, left_layers: int, right_layers: int) -> Junction:
    """The same junction with layers of the leads counted to the device."""
    left, right, device = junction.left, junction.right, junction.device
    n_l, n_r, n_d = left.n_atoms, right.n_atoms, device.n_atoms
    start = left_layers * n_l
    n = start + n_d + right_layers * n_r
    origin_l = device.positions[0] - left.positions[0]
    origin_r = device.positions[n_d - n_r] - right.positions[0]
    positions = np.empty((n, 3))
    positions[start : start + n_d] = device.positions
    masses = np.empty(n)
    masses[start : start + n_d] = device.masses
    i, j, R, phi = [device.i + start], [device.j + start], [device.R], [device.phi]
    flat = np.array([1, 1, 0])

    def add(lead: PairForceConstants, at, first: int, second: int) -> None:
        i.append(first + lead.i[at])
        j.append(second + lead.j[at])
        R.append(lead.R[at] * flat)
        phi.append(lead.phi[at])

    def couple(lead: PairForceConstants, lower: int, upper: int) -> None:
        add(lead, lead.R[:, 2] == 1, lower, upper)
        add(lead, lead.R[:, 2] == -1, upper, lower)

    for layer in range(left_layers):
        first = layer * n_l
        positions[first : first + n_l] = left.positions + origin_l - (left_layers - layer) * left.cell[2]
        masses[first : first + n_l] = left.masses
        add(left, left.R[:, 2] == 0, first, first)
        couple(left, first, first + n_l)
    for layer in range(right_layers):
        first = start + n_d + layer * n_r
        positions[first : first + n_r] = right.positions + origin_r + (layer + 1) * right.cell[2]
        masses[first : first + n_r] = right.masses
        add(right, right.R[:, 2] == 0, first, first)
        couple(right, first - n_r, first)
    longer = PairForceConstants(
        device.cell, positions, masses, np.concatenate(i), np.concatenate(j), np.vstack(R), np.vstack(phi)
    )
    return Junction(left, right, longer)


def with_thick_layers(junction: Junction, times: int) -> Junction:
    """The same junction with both leads described by layers ``times`` as thick."""
    longer = lengthened(junction, times - 1, times - 1)
    return Junction(thickened(junction.left, times), thickened(junction.right, times), longer.device)


def _super_part(part: PairForceConstants, s1: int, s2: int) -> PairForceConstants:
    n = part.n_atoms
    corners = [(x, y) for x in range(s1) for y in range(s2)]
    i, j, R, phi, positions = [], [], [], [], []
    for k, (x, y) in enumerate(corners):
        tx, ty = x + part.R[:, 0], y + part.R[:, 1]
        i.append(part.i + k * n)
        j.append(part.j + ((tx % s1) * s2 + ty % s2) * n)
        R.append(np.column_stack([tx // s1, ty // s2, part.R[:, 2]]))
        phi.append(part.phi)
        positions.append(part.positions + x * part.cell[0] + y * part.cell[1])
    return PairForceConstants(
        part.cell * np.array([[s1], [s2], [1.0]]),
        np.vstack(positions),
        np.tile(part.masses, len(corners)),
        np.concatenate(i),
        np.concatenate(j),
        np.vstack(R),
        np.vstack(phi),
    )


def reordered(part: PairForceConstants, order: NDArray[np.intp]) -> PairForceConstants:
    """The same atoms in another order: new atom k is old atom ``order[k]``."""
    rank = np.empty(len(order), dtype=int)
    rank[order] = np.arange(len(order))
    return replace(part, positions=part.positions[order], masses=part.masses[order], i=rank[part.i], j=rank[part.j])


def in_plane_supercell(junction: Junction, s1: int, s2: int) -> Junction:
    """The same junction in an in-plane supercell."""
    n_l, n_r, n_d = junction.left.n_atoms, junction.right.n_atoms, junction.device.n_atoms
    copies = s1 * s2
    index = np.arange(copies * n_d).reshape(copies, n_d)
    order = np.concatenate([index[:, :n_l].ravel(), index[:, n_l : n_d - n_r].ravel(), index[:, n_d - n_r :].ravel()])
    device = reordered(_super_part(junction.device, s1, s2), order)
    return Junction(_super_part(junction.left, s1, s2), _super_part(junction.right, s1, s2), device)


def with_shifted_a3(lead: PairForceConstants, m1: int, m2: int) -> PairForceConstants:
    """The same crystal with the layers' translation a3 + m1 a1 + m2 a2."""
    cell = lead.cell.copy()
    cell[2] += m1 * cell[0] + m2 * cell[1]
    R = lead.R.copy()
    R[:, 0] -= m1 * R[:, 2]
    R[:, 1] -= m2 * R[:, 2]
    return replace(lead, cell=cell, R=R)


def with_moved_atom(part: PairForceConstants, atom: int, m1: int, m2: int) -> PairForceConstants:
    """The same crystal with one atom represented by its image in another in-plane cell."""
    shift = np.array([m1, m2, 0])
    positions = part.positions.copy()
    positions[atom] += shift @ part.cell
    R = part.R + (part.i == atom)[:, None] * shift - (part.j == atom)[:, None] * shift
    return replace(part, positions=positions, R=R)
