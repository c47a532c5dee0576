"""Leads and device as force constants: from two crystals, a supercell or files to a Junction."""
