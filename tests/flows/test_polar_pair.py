"""A polar crystal goes through, with the size of what is left out."""

import numpy as np
import pytest

from thermal_flows.lattice.pair_constants import ForceConstantsError
from thermal_flows.structures import crystal

from .conftest import coarse, document, run

# silicon carbide: Born charges 2.7 and dielectric constant 6.5, in phonopy's format
BORN = "14.4\n6.5 0 0 0 6.5 0 0 0 6.5\n2.7 0 0 0 2.7 0 0 0 2.7\n-2.7 0 0 0 -2.7 0 0 0 -2.7\n"


@pytest.fixture(scope="module")
def born_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("born") / "BORN"
    path.write_text(BORN)
    return path


def test_polar_lead(fresh, born_file):
    carbide = crystal("SiC").get_primitive_structure()
    flow = coarse("tersoff-si-c").make(carbide, crystal("SiC"), film_born=born_file)
    run(flow, fresh)
    doc = document(flow, fresh)
    rough, given = doc.polarity["substrate"], doc.polarity["film"]
    assert rough["polar"]
    assert given["polar"]
    assert (rough["source"], given["source"]) == ("nominal", "given")
    smallest, largest = rough["splitting"]
    assert smallest < given["splitting"][0] < largest
    # LO^2 - TO^2 = e^2 Z^2 / (eps0 eps V mu), with a reduced mass mu
    volume, reduced = 2 * doc.structure.volume / len(doc.structure), 28.0855 * 12.011 / (28.0855 + 12.011)
    squared = 14.3996 * 4 * np.pi * 2.7**2 / (6.5 * volume * reduced)
    assert given["bound"][1] == pytest.approx(15.6333 * np.sqrt(squared), rel=1e-3)
    for formula_side in ("substrate", "film"):
        assert doc.polarity[formula_side]["formula"] == "SiC"
    assert sum("SiC is polar" in w and "neglected" in w for w in doc.warnings) == 2  # one rough, one not
    assert any("A rough estimate" in w for w in doc.warnings)


def test_unusable_born_files_are_refused_at_once(tmp_path):
    maker, carbide = coarse("tersoff-si-c"), crystal("SiC").get_primitive_structure()
    with pytest.raises(ForceConstantsError, match="no BORN file"):
        maker.make(carbide, carbide, film_born=tmp_path / "BORN")
    (tmp_path / "BORN").write_text("\n".join(BORN.splitlines()[:-1]))
    with pytest.raises(ForceConstantsError, match=r"does not fit SiC with 2 atoms"):
        maker.make(carbide, carbide, substrate_born=tmp_path / "BORN")
