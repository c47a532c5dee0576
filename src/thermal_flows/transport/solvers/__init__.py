"""Two solvers, by mode matching and by Green's functions, and what they are asked for."""
