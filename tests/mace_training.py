"""A small real MACE, trained on cells labelled by the Tersoff potential of Si-Ge: what a user's own model file is in tests."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk

from thermal_flows.potentials import resolve_potential
from thermal_flows.potentials.torch_state import double_precision, loading_pickles

ELEMENTS = (14, 32)
CUTOFF = 3.6
"""Angstrom: bonds, but not second neighbours, as in Tersoff's potential."""


def labelled_cells(count: int, seed: int) -> list[Atoms]:
    """Rattled and strained cells of eight atoms: Si, Ge and mixtures of both, with energy, forces and stress."""
    rng = np.random.default_rng(seed)
    calculator = resolve_potential("tersoff-si-ge").calculator()
    cells = []
    for k in range(count):
        atoms = bulk("Si", "diamond", rng.uniform(5.35, 5.75), cubic=True)
        if k % 4 == 1:
            atoms.numbers[:] = ELEMENTS[1]
        elif k % 4 > 1:
            atoms.numbers[rng.choice(8, rng.integers(1, 8), replace=False)] = ELEMENTS[1]
        atoms.set_cell(atoms.cell @ (np.eye(3) + rng.uniform(-0.02, 0.02, (3, 3))), scale_atoms=True)
        atoms.positions += rng.normal(0, rng.uniform(0.02, 0.06), (8, 3))
        atoms.calc = calculator
        atoms.info["REF_energy"] = atoms.get_potential_energy()
        atoms.info["REF_stress"] = atoms.get_stress()
        atoms.arrays["REF_forces"] = atoms.get_forces()
        atoms.calc = None
        cells.append(atoms)
    return cells


def untrained(channels: int = 4, layers: int = 1, cutoff: float = CUTOFF):
    """A MACE for Si and Ge with random weights, float64; deterministic. Built once, handed out as copies."""
    return deepcopy(_build(channels, layers, cutoff, (0.0, 0.0)))


@cache
def _build(channels: int, layers: int, cutoff: float, energies: tuple[float, float]):
    with loading_pickles():
        import torch
        from e3nn import o3
        from mace import modules

        with double_precision():
            torch.manual_seed(0)
            return modules.ScaleShiftMACE(
                r_max=cutoff,
                num_bessel=6,
                num_polynomial_cutoff=5,
                max_ell=3 if layers == 1 else 1,
                interaction_cls=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
                interaction_cls_first=modules.interaction_classes["RealAgnosticInteractionBlock"],
                num_interactions=layers,
                num_elements=len(ELEMENTS),
                hidden_irreps=o3.Irreps(f"{channels}x0e"),
                MLP_irreps=o3.Irreps("8x0e"),
                gate=torch.nn.functional.silu,
                atomic_energies=np.array(energies),
                avg_num_neighbors=4.0,
                atomic_numbers=list(ELEMENTS),
                correlation=3,
                radial_type="bessel",
                radial_MLP=[16, 16],
                atomic_inter_scale=2.0,
                atomic_inter_shift=0.0,
            )


def trained(n_cells: int = 64, batch_size: int = 16, n_epochs: int = 60, rate: float = 0.04):
    """A MACE fitted to energies, forces and stresses of :func:`labelled_cells`; about ten seconds on one core."""
    cells = labelled_cells(n_cells, seed=0)
    energies = np.array([atoms.info["REF_energy"] for atoms in cells])
    counts = np.array([[np.count_nonzero(atoms.numbers == z) for z in ELEMENTS] for atoms in cells])
    model = deepcopy(_build(16, 1, CUTOFF, tuple(np.linalg.lstsq(counts, energies, rcond=None)[0])))
    with loading_pickles():
        import torch
        from mace import data
        from mace.tools import AtomicNumberTable, torch_geometric

        keys = data.KeySpecification(
            info_keys={"energy": "REF_energy", "stress": "REF_stress"}, arrays_keys={"forces": "REF_forces"}
        )
        with double_precision():
            graphs = [
                data.AtomicData.from_config(
                    data.config_from_atoms(atoms, key_specification=keys),
                    z_table=AtomicNumberTable(list(ELEMENTS)),
                    cutoff=CUTOFF,
                )
                for atoms in cells
            ]
            loader = torch_geometric.dataloader.DataLoader(graphs, batch_size=batch_size, shuffle=True)
            optimizer = torch.optim.Adam(model.parameters(), lr=rate)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=n_epochs * len(loader))
            for _ in range(n_epochs):
                for batch in loader:
                    optimizer.zero_grad()
                    out = model(batch.to_dict(), training=True, compute_stress=True)
                    loss = (
                        ((out["energy"] - batch.energy) / 8).square().mean()
                        + (out["forces"] - batch.forces).square().mean()
                        + 100 * (out["stress"] - batch.stress.view(-1, 3, 3)).square().mean()
                    )
                    loss.backward()
                    torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
                    optimizer.step()
                    schedule.step()
    return model


def save(model: object, path: Path) -> Path:
    """Write a model as mace does."""
    import torch

    torch.save(model, path)
    return path
