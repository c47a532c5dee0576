"""CHGNet in float64: its weights are what they are, but forces are smooth to machine precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from numpy.typing import NDArray
from pymatgen.io.ase import AseAtomsAdaptor

from thermal_flows import units
from thermal_flows.potentials.elements import CHGNET_ELEMENTS, refuse_unknown_elements
from thermal_flows.potentials.torch_state import torch_threads

if TYPE_CHECKING:
    from chgnet.graph import CrystalGraph
    from chgnet.model import CHGNet

CALLS_PER_ROW = 3.0
"""Cost of the three second derivatives of one atom in force calls, measured on 8 to 216 atoms (1.9 to 2.9)."""

IMAGES_PER_CALL = {"cpu": 1, "cuda": 16}
"""On a CPU images together are no quicker (8 atoms), or slower (64 atoms: 2.5 times)."""


class DoubleCHGNet(Calculator):
    """A CHGNet model in float64: energy, forces, stress, forces of many images, rows of the Hessian.

    chgnet's own calculator is in float32 throughout, which leaves noise of about 1e-6 eV/Angstrom on the forces.

    Parameters
    ----------
    name : str
        Name of the potential, for messages.
    model : chgnet.model.CHGNet
        Converted to float64 in place, except for the energies of the isolated elements, which exert no forces.
    device : str
    n_threads : int, optional
        Threads of torch on the CPU; None leaves torch as it is.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012 - ASE's own convention

    def __init__(self, name: str, model: CHGNet, *, device: str = "cpu", n_threads: int | None = None) -> None:
        super().__init__()
        self.potential_name = name
        self.model = model.to(device).double().eval()
        if self.model.composition_model is not None:
            self.model.composition_model.float()  # its input is built in float32
        self.model.graph_converter.set_isolated_atom_response("error")
        self.device = device
        self.n_threads = n_threads
        self.known_elements = CHGNET_ELEMENTS

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = ("energy",), system_changes: Any = tuple(all_changes)
    ) -> None:
        """Energy, forces and stress.

        Raises
        ------
        PotentialError
            If an element is unknown.
        """
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        with torch_threads(self.n_threads):
            found = self.model.predict_graph(self._graph(self.atoms), task="efs")
        assert isinstance(found, dict)
        stress = np.asarray(found["s"], dtype=float) / units.GPA_PER_EV_A3
        energy = float(found["e"]) * (len(self.atoms) if self.model.is_intensive else 1)
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "forces": np.asarray(found["f"], dtype=float),
            "stress": (0.5 * (stress + stress.T))[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]],
        }

    def forces_of(self, images: Sequence[Atoms]) -> NDArray[np.float64]:
        """Forces on several arrangements of the same atoms; see :class:`BatchedForces`."""
        with torch_threads(self.n_threads):
            found = self.model.predict_graph(
                [self._graph(image) for image in images],
                task="ef",
                batch_size=IMAGES_PER_CALL[self.device.partition(":")[0]],
            )
        return np.array([each["f"] for each in ([found] if isinstance(found, dict) else found)], dtype=float)

    def hessian_of(
        self, atoms: Atoms, rows: NDArray[np.intp], progress: Callable[[int, int], None] | None = None
    ) -> NDArray[np.float64]:
        """Rows of the Hessian by differentiating the model twice; see :class:`RowHessian`.

        Four convolutions of 6 Angstrom reach so far that the whole graph is kept.
        """
        import torch
        from chgnet.model.model import BatchedGraph

        with torch_threads(self.n_threads):
            graph = BatchedGraph.from_graphs(
                [self._graph(atoms)],
                bond_basis_expansion=self.model.bond_basis_expansion,
                angle_basis_expansion=self.model.angle_basis_expansion,
            )
            forces = self.model._compute(graph, compute_force=True)["f"][0]
            positions = graph.atom_positions[0]
            values = np.zeros((len(rows), len(atoms), 3, 3))
            for k, atom in enumerate(rows):
                for axis in range(3):
                    (slope,) = torch.autograd.grad(forces[int(atom), axis], positions, retain_graph=True)
                    values[k, :, axis, :] = -slope.cpu().numpy()
                if progress is not None:
                    progress(k + 1, len(rows))
        return values

    def hessian_cost(self, atoms: Atoms, rows: NDArray[np.intp]) -> float:  # noqa: ARG002 - of the protocol
        """Cost of :meth:`hessian_of` in force calls on the same atoms; see :class:`RowHessian`."""
        return 1.0 + CALLS_PER_ROW * len(rows)

    def _graph(self, atoms: Atoms) -> CrystalGraph:
        """The graph of chgnet's converter with coordinates in float64."""
        import torch

        refuse_unknown_elements(self.potential_name, self.known_elements, atoms)
        structure = AseAtomsAdaptor.get_structure(atoms)
        graph = self.model.graph_converter(structure)
        graph.atom_frac_coord = torch.tensor(structure.frac_coords, dtype=torch.float64, requires_grad=True)
        graph.lattice = torch.tensor(structure.lattice.matrix, dtype=torch.float64, requires_grad=True)
        graph.neighbor_image = graph.neighbor_image.double()
        return graph.to(self.device)
