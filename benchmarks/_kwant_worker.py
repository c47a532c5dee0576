"""Transmission of given blocks with kwant, one point after the other: run by transmission_speed.py in kwant's environment.

    python _kwant_worker.py BLOCKS.npz RESULT.npz

Needs numpy and kwant only. H = D(q), E = omega^2. Only the calls of ``kwant.smatrix`` are timed, not building the system.
"""

import sys
import time
import warnings

import numpy as np

warnings.filterwarnings("ignore", message="MUMPS is not available")
import kwant  # noqa: E402
from kwant.builder import Builder  # noqa: E402


def system(h00l, h01l, h00r, h01r, hd):
    """The device as up to three sites (first layer, middle, last layer), so that leads couple to whole sites."""
    n_l, n_r, n = len(h00l), len(h00r), len(hd)
    left, middle, right = (
        kwant.lattice.chain(name=name, norbs=max(m, 1))
        for name, m in (("left", n_l), ("middle", n - n_l - n_r), ("right", n_r))
    )
    parts = [(left(0), slice(0, n_l)), (middle(0), slice(n_l, n - n_r)), (right(0), slice(n - n_r, n))]
    parts = [(site, part) for site, part in parts if part.stop > part.start]
    builder = Builder()
    for k, (site, part) in enumerate(parts):
        builder[site] = hd[part, part]
        for other, other_part in parts[:k]:
            builder[site, other] = hd[part, other_part]
    for sign, family, onsite, forward in ((-1, left, h00l, h01l), (1, right, h00r, h01r)):
        lead = Builder(kwant.TranslationalSymmetry((sign,)))
        lead[family(0)] = onsite
        lead[family(0), family(1)] = forward
        builder.attach_lead(lead)
    return builder.finalized()


def main() -> None:
    blocks = np.load(sys.argv[1])
    transmission, wall, cpu = [], [], []
    for k in range(int(blocks["n_q"])):
        built = system(*(blocks[f"{name}_{k}"] for name in ("h00l", "h01l", "h00r", "h01r", "hd")))
        for energy in blocks[f"w2_{k}"]:
            start_wall, start_cpu = time.perf_counter(), time.process_time()
            value = kwant.smatrix(built, float(energy)).transmission(1, 0)
            cpu.append(time.process_time() - start_cpu)
            wall.append(time.perf_counter() - start_wall)
            transmission.append(value)
    np.savez(sys.argv[2], transmission=transmission, wall=wall, cpu=cpu, version=kwant.__version__)


if __name__ == "__main__":
    main()
