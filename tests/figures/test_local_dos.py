"""The figure of the local density of states shows the numbers it carries."""

import numpy as np
import pytest

from thermal_flows.figures import plot_local_dos
from thermal_flows.transport import local_dos_spectrum
from transport.junctions import fcc_junction, lengthened


def test_planes_and_parts(tmp_path):
    junction = lengthened(fcc_junction(), 1, 1)
    density = local_dos_spectrum(junction, (3, 3), 30)
    figure = plot_local_dos(density, junction, "light", "heavy")
    data = figure.data
    heights = junction.device.positions[:, 2]
    assert data["height_A"] == pytest.approx(np.unique(heights.round(6)))
    counts = np.array([np.count_nonzero(np.abs(heights - h) < 1e-3) for h in data["height_A"]])
    assert counts @ data["states_per_THz_atom"] == pytest.approx(density.total.sum(axis=1))
    assert data["from_left_per_THz_atom"] + data["from_right_per_THz_atom"] == pytest.approx(
        data["states_per_THz_atom"], rel=1e-4, abs=1e-9
    )
    mesh, curve = figure.axes[0].collections[0], figure.axes[1].lines[0]
    assert np.asarray(mesh.get_array()).reshape(data["states_per_THz_atom"].shape) == pytest.approx(
        data["states_per_THz_atom"]
    )
    assert curve.get_ydata() in data["states_per_THz_atom"]
    assert figure.save(tmp_path / "local.png").stat().st_size > 10_000
    with pytest.raises(ValueError, match="give the junction it was computed for"):
        plot_local_dos(density, fcc_junction())
