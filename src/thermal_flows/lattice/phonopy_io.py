"""Force constants to and from phonopy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thermal_flows import units
from thermal_flows.lattice.pair_constants import ForceConstantsError, PairForceConstants

if TYPE_CHECKING:
    from phonopy import Phonopy


def from_phonopy(phonon: Phonopy) -> PairForceConstants:
    """Pair force constants of a phonopy object's unit cell.

    Images at equal distance share a constant equally, as in phonopy itself, so that frequencies are phonopy's at every wave
    vector.

    Parameters
    ----------
    phonon : phonopy.Phonopy
        With force constants (eV/Angstrom^2), for all atoms or compact.

    Returns
    -------
    PairForceConstants
        Of ``phonon.unitcell``, whatever the primitive cell.

    Raises
    ------
    ForceConstantsError
        If there are no force constants.
    """
    from phonopy import Phonopy
    from phonopy.harmonic.force_constants import compact_fc_to_full_fc

    constants = phonon.force_constants
    if constants is None:
        raise ForceConstantsError(
            "the phonopy object has no force constants: load FORCE_CONSTANTS, or force sets and call produce_force_constants()"
        )
    if constants.shape[0] != constants.shape[1]:
        constants = compact_fc_to_full_fc(phonon.primitive, constants)
    # identity primitive cell: rows for every atom of the unit cell
    whole = Phonopy(
        phonon.unitcell, phonon.supercell_matrix, primitive_matrix=np.eye(3), is_symmetry=False, log_level=0
    )
    primitive = whole.primitive
    if len(whole.supercell) != constants.shape[0]:
        raise ForceConstantsError(
            f"force constants of {constants.shape[0]} atoms do not fit a supercell of {len(whole.supercell)} atoms"
        )
    rows = np.asarray(primitive.p2s_map)
    vectors, multiplicities = primitive.get_smallest_vectors()
    index_of = {int(s): k for k, s in enumerate(rows)}
    owner = np.array([index_of[int(s)] for s in primitive.s2p_map])
    fractional = primitive.scaled_positions
    table_i, table_j, table_R, table_phi = [], [], [], []
    for s in range(len(whole.supercell)):
        for i, row in enumerate(rows):
            count, start = multiplicities[s, i]
            j = owner[s]
            R = np.rint(vectors[start : start + count] + fractional[i] - fractional[j]).astype(np.intp)
            table_i += [i] * count
            table_j += [j] * count
            table_R.append(R)
            table_phi += [constants[row, s] / count] * count
    return PairForceConstants(
        np.array(primitive.cell),
        np.array(primitive.positions),
        np.array(primitive.masses),
        np.array(table_i),
        np.array(table_j),
        np.concatenate(table_R),
        np.array(table_phi),
    )


def to_phonopy(pairs: PairForceConstants, numbers: NDArray[np.intp], repeats: tuple[int, int, int]) -> Phonopy:
    """A phonopy object with these force constants.

    Parameters
    ----------
    pairs : PairForceConstants
    numbers : numpy.ndarray of int, shape (n,)
        Atomic numbers.
    repeats : tuple of int
        Supercell; pairs that fall on the same supercell atom are added up, so that a supercell wider than twice the range
        keeps all frequencies.

    Returns
    -------
    phonopy.Phonopy
    """
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    unit = PhonopyAtoms(
        numbers=numbers,
        cell=pairs.cell,
        positions=pairs.positions,
        masses=pairs.masses,
    )
    phonon = Phonopy(unit, np.diag(repeats), primitive_matrix=np.eye(3), log_level=0)
    supercell, primitive = phonon.supercell, phonon.primitive
    rows = np.asarray(primitive.p2s_map)
    n_super = len(supercell)
    # supercell atom at every (unit atom, cell)
    fractional = supercell.positions @ np.linalg.inv(pairs.cell)
    unit_fractional = pairs.positions @ np.linalg.inv(pairs.cell)
    lookup: dict[tuple[int, ...], int] = {}
    for s in range(n_super):
        j = int(np.flatnonzero(rows == primitive.s2p_map[s])[0])
        cell = np.rint(fractional[s] - unit_fractional[j]).astype(int) % np.array(repeats)
        lookup[(j, *(int(c) for c in cell))] = s
    constants = np.zeros((pairs.n_atoms, n_super, 3, 3))
    origin = [np.rint(fractional[rows[i]] - unit_fractional[i]).astype(int) for i in range(pairs.n_atoms)]
    for i, j, R, phi in zip(pairs.i, pairs.j, pairs.R, pairs.phi, strict=True):
        cell = (R + origin[i]) % np.array(repeats)
        constants[i, lookup[(int(j), *(int(c) for c in cell))]] += phi
    phonon.force_constants = constants
    return phonon


def density_of_states(
    pairs: PairForceConstants, numbers: NDArray[np.intp], n_points: int = 301, mesh: int = 20
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Phonon density of states of a bulk crystal by phonopy's linear tetrahedron method.

    Parameters
    ----------
    pairs : PairForceConstants
    numbers : numpy.ndarray of int, shape (n,)
        Atomic numbers.
    n_points : int
        Frequencies from 0 to 1.02 times the highest one of the zone.
    mesh : int
        Sampling mesh along every reciprocal vector, with the zone centre.

    Returns
    -------
    frequencies : numpy.ndarray, shape (n_points,)
        THz.
    states : numpy.ndarray, shape (n_points,)
        States per THz and atom; the integral is 3.
    """
    reach = float(np.linalg.norm(pairs.vectors, axis=1).max())
    spacing = 1.0 / np.linalg.norm(np.linalg.inv(pairs.cell), axis=0)
    repeats = np.maximum(1, np.ceil(2 * reach / spacing + 1e-6)).astype(int)
    phonon = to_phonopy(pairs, numbers, (int(repeats[0]), int(repeats[1]), int(repeats[2])))
    top = 1.02 * float(units.w2_to_thz(pairs.zone_extrema()[1]))
    phonon.run_mesh([mesh] * 3, is_gamma_center=True)
    phonon.run_total_dos(freq_min=0.0, freq_max=top, freq_pitch=top / (n_points - 1), use_tetrahedron_method=True)
    result = phonon.total_dos
    assert result is not None  # made by the line above
    return np.asarray(result.frequency_points), np.asarray(result.dos) / pairs.n_atoms
