"""Sphinx configuration. Nothing is fetched from the network."""

import sys
from pathlib import Path

from thermal_flows import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "thermal_flows"
author = "the thermal_flows developers"
copyright = "2026, the thermal_flows developers"
version = release = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "thermal_flows_docs"]
exclude_patterns = ["_build", "jupyter_execute", "**.ipynb_checkpoints", "tutorials/README.md"]

html_theme = "furo"
html_title = f"thermal_flows {__version__}"

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# Notebooks are stored without outputs and run when the pages are built, so that a page shows what the present code gives.
# While writing, `sphinx-build -D nb_execution_mode=off ...` skips them.
nb_execution_mode = "auto"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_output_stderr = "remove"
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True}
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
