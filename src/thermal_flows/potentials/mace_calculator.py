"""MACE in float64 with many sets of atoms per model call, and second derivatives of asked atoms only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_changes
from ase.data import chemical_symbols
from numpy.typing import NDArray
from scipy.sparse import csr_array

from thermal_flows.potentials.elements import refuse_unknown_elements
from thermal_flows.potentials.errors import PotentialError
from thermal_flows.potentials.torch_state import double_precision, loading_pickles, torch_threads

with loading_pickles():
    from mace.calculators import MACECalculator
    from mace.data import AtomicData, config_from_atoms
    from mace.tools.torch_geometric import Batch

if TYPE_CHECKING:
    import torch

BATCH_BYTES = {"cpu": 3.0e7, "cuda": 4.0e9}
"""Memory that the images of one model call may take. On a CPU small: what leaves its caches costs more than a call saves."""

HESSIAN_BYTES = 8.0e9
"""Memory above which a row of the Hessian is left to finite differences."""

CALLS_PER_ROW = 15.0
"""Cost of the three second derivatives of one atom in force calls on the same graph; measured 12 to 17 for one to two layers."""

_FORCE_TENSORS, _HESSIAN_TENSORS = 8, 24
"""Tensors of the size of a message (edges x channels x spherical harmonics) kept per call, measured as peak memory."""


@dataclass
class _Graph:
    """A part of a periodic graph of atoms: the nodes that decide one row of the Hessian."""

    nodes: NDArray[np.intp]
    edges: NDArray[np.intp]
    centres: NDArray[np.bool_]
    row: int


class BatchedMACE(MACECalculator):
    """A MACE model in float64: ASE calculator, forces of many images at once, rows of the Hessian.

    Parameters
    ----------
    name : str
        Name of the potential, for messages.
    model : torch.nn.Module
        ``MACE`` or ``ScaleShiftMACE``; converted to float64 in place.
    device : str
        ``cpu``, ``cuda`` or ``cuda:<number>``.
    n_threads : int, optional
        Threads of torch on the CPU; None leaves torch as it is.
    batch_bytes : float, optional
        Memory that the images of one model call may take; :data:`BATCH_BYTES` of the device by default.
    head : str, optional
        Head of a model with several.

    Raises
    ------
    PotentialError
        If the model has several heads and it is not said which one to take.

    Notes
    -----
    The energy of an atom depends on what lies within as many steps of the graph as the model has layers. A row of
    the Hessian is the second derivative of those atomic energies only that the displaced atom takes part in, so that
    a small part of the graph decides it, whatever the size of the supercell. Parts of several rows go into one call
    as disjoint graphs.
    """

    def __init__(
        self,
        name: str,
        model: torch.nn.Module,
        *,
        device: str = "cpu",
        n_threads: int | None = None,
        batch_bytes: float | None = None,
        head: str | None = None,
    ) -> None:
        heads = list(getattr(model, "heads", None) or ["Default"])
        if head is None and len(heads) > 1 and "default" not in [h.lower() for h in heads]:
            raise PotentialError(
                f"potential {name!r} has the heads {', '.join(heads)} and none called 'Default': write a function that returns "
                f"BatchedMACE(name, model, head={heads[0]!r}) and name it 'module:callable'"
            )
        self.implemented_properties: list[str] = []  # mace appends to the list of the class
        options: dict[str, Any] = {} if head is None else {"head": head}
        with loading_pickles():
            super().__init__(models=model.double(), device=device, default_dtype="float64", **options)
        self.potential_name = name
        self.known_elements = frozenset(chemical_symbols[z] for z in self.z_table.zs)
        self.n_threads = n_threads
        self.batch_bytes = BATCH_BYTES[device.partition(":")[0]] if batch_bytes is None else batch_bytes
        self.n_layers = int(self.models[0].num_interactions)
        self._message = _message_size(model)

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = None, system_changes: Any = tuple(all_changes)
    ) -> None:
        """Energy, forces and stress of atoms whose elements are all known.

        Raises
        ------
        PotentialError
            If an element is unknown.
        """
        if atoms is not None:
            refuse_unknown_elements(self.potential_name, self.known_elements, atoms)
        with torch_threads(self.n_threads):
            super().calculate(atoms, properties, list(system_changes))

    def forces_of(self, images: Sequence[Atoms]) -> NDArray[np.float64]:
        """Forces on several arrangements of the same atoms; see :class:`BatchedForces`.

        As many images go into a model call as ``batch_bytes`` allows, at least one.
        """
        forces: list[NDArray[np.float64]] = []
        with torch_threads(self.n_threads):
            graphs = [self._graph(image) for image in images]
            for batch in _batches(
                graphs, lambda graph: graph.edge_index.shape[1], self._edges_per_call(_FORCE_TENSORS)
            ):
                joined = Batch.from_data_list(batch).to(self.device)
                found = self.models[0](joined.to_dict(), compute_stress=False)["forces"]
                forces.append(found.detach().cpu().numpy())
        return np.concatenate(forces).reshape(len(images), -1, 3)

    def hessian_of(
        self, atoms: Atoms, rows: NDArray[np.intp], progress: Callable[[int, int], None] | None = None
    ) -> NDArray[np.float64]:
        """Rows of the Hessian by differentiating the model twice; see :class:`RowHessian`."""
        rows = np.asarray(rows, dtype=np.intp)
        values = np.zeros((len(rows), len(atoms), 3, 3))
        with torch_threads(self.n_threads), double_precision():
            whole = self._graph(atoms).to(self.device)
            parts = _parts(whole.edge_index.cpu().numpy(), len(atoms), rows, self.n_layers)
            done = 0
            for batch in _batches(parts, lambda part: len(part.edges), self._edges_per_call(_HESSIAN_TENSORS)):
                for part, block in zip(batch, self._rows_of_parts(whole, batch), strict=True):
                    values[done, part.nodes] = block
                    done += 1
                if progress is not None:
                    progress(done, len(rows))
        return values

    def hessian_cost(self, atoms: Atoms, rows: NDArray[np.intp]) -> float:
        """Cost of :meth:`hessian_of` in force calls on the same atoms; see :class:`RowHessian`."""
        with torch_threads(self.n_threads):
            edge_index = self._graph(atoms).edge_index.numpy()
        edges = [len(part.edges) for part in _parts(edge_index, len(atoms), np.asarray(rows), self.n_layers)]
        if 8 * _HESSIAN_TENSORS * self._message * max(edges) > HESSIAN_BYTES:
            return float("inf")
        return CALLS_PER_ROW * sum(edges) / max(1, edge_index.shape[1])

    def _graph(self, atoms: Atoms) -> Any:
        refuse_unknown_elements(self.potential_name, self.known_elements, atoms)
        with double_precision():
            config = config_from_atoms(atoms, head_name=self.head)
            return AtomicData.from_config(config, z_table=self.z_table, cutoff=self.r_max, heads=self.available_heads)

    def _edges_per_call(self, tensors: int) -> int:
        return max(1, int(self.batch_bytes / (8 * tensors * self._message)))

    def _rows_of_parts(self, whole: Any, parts: Sequence[_Graph]) -> Iterator[NDArray[np.float64]]:
        """d2E / du_i du_j of the row's atom i of every part with its nodes j, shape (n_nodes, 3, 3) each."""
        import torch

        sizes = [len(part.nodes) for part in parts]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        nodes = torch.as_tensor(np.concatenate([part.nodes for part in parts]), device=self.device)
        edges = torch.as_tensor(np.concatenate([part.edges for part in parts]), device=self.device)
        edge_index = np.hstack(
            [
                _renumbered(whole.edge_index.cpu().numpy()[:, part.edges], part.nodes) + start
                for part, start in zip(parts, starts, strict=False)
            ]
        )
        batch = {
            "positions": whole.positions[nodes].detach().clone(),
            "node_attrs": whole.node_attrs[nodes],
            "edge_index": torch.as_tensor(edge_index, device=self.device),
            "shifts": whole.shifts[edges],
            "unit_shifts": whole.unit_shifts[edges],
            "cell": whole.cell.repeat(len(parts), 1),
            "batch": torch.repeat_interleave(
                torch.arange(len(parts), device=self.device), torch.as_tensor(sizes, device=self.device)
            ),
            "ptr": torch.as_tensor(starts, device=self.device),
            "head": whole.head.reshape(1).repeat(len(parts)),
        }
        centres = torch.as_tensor(np.concatenate([part.centres for part in parts]), device=self.device)
        out = self.models[0](batch, compute_force=False)
        positions = batch["positions"]
        (gradient,) = torch.autograd.grad(out["node_energy"][centres].sum(), positions, create_graph=True)
        displaced = torch.as_tensor(
            [start + part.row for part, start in zip(parts, starts, strict=False)], device=self.device
        )
        # the parts are disjoint: one derivative of the sum gives the row of every part
        slopes = [
            torch.autograd.grad(gradient[displaced, axis].sum(), positions, retain_graph=axis < 2)[0]
            for axis in range(3)
        ]
        found = torch.stack(slopes, dim=1).cpu().numpy()
        for start, size in zip(starts, sizes, strict=False):
            yield found[start : start + size]


def _message_size(model: Any) -> int:
    """Numbers per edge of the largest message: channels x spherical harmonics."""
    import torch

    widths = [p.shape[-1] for p in model.node_embedding.parameters() if p.ndim] or [1]
    embedding = int(max(widths))
    if embedding % len(model.atomic_numbers) == 0:  # e3nn's linear layer keeps its weights flat
        embedding //= len(model.atomic_numbers)
    with torch.no_grad():
        reference = next(model.parameters())
        harmonics = model.spherical_harmonics(torch.ones((1, 3), dtype=reference.dtype, device=reference.device)).shape[
            -1
        ]
    return max(1, embedding) * int(harmonics)


def _batches(items: Sequence[Any], size: Callable[[Any], int], limit: int) -> Iterator[list[Any]]:
    """Consecutive items whose sizes add up to no more than the limit, at least one at a time."""
    batch: list[Any] = []
    total = 0
    for item in items:
        if batch and total + size(item) > limit:
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += size(item)
    if batch:
        yield batch


def _renumbered(edge_index: NDArray[np.intp], nodes: NDArray[np.intp]) -> NDArray[np.intp]:
    return np.searchsorted(nodes, edge_index)


def _parts(edge_index: NDArray[np.intp], n_atoms: int, rows: NDArray[np.intp], n_layers: int) -> list[_Graph]:
    """For every row the nodes within twice as many steps as layers, with centres within as many steps as layers."""
    adjacency = csr_array((np.ones(edge_index.shape[1], dtype=bool), tuple(edge_index)), shape=(n_atoms, n_atoms))
    parts = []
    for row in rows:
        reached = np.zeros(n_atoms, dtype=bool)
        reached[row] = True
        centres = reached
        for step in range(2 * n_layers):
            reached = reached | (adjacency @ reached)
            if step == n_layers - 1:
                centres = reached
        nodes = np.flatnonzero(reached)
        edges = np.flatnonzero(reached[edge_index[0]] & reached[edge_index[1]])
        parts.append(_Graph(nodes, edges, centres[nodes], int(np.searchsorted(nodes, row))))
    return parts
