"""Tersoff's potential for Si-Ge: the printed parameters and the forms that calculators take."""

from __future__ import annotations

from math import sqrt
from types import MappingProxyType
from typing import Any

CITATION = ("10.1103/PhysRevB.39.5566", "10.1103/PhysRevB.41.3248.2")

SI_GE = MappingProxyType(
    {
        "Si": MappingProxyType(
            {
                "A": 1.8308e3,
                "B": 4.7118e2,
                "lambda": 2.4799,
                "mu": 1.7322,
                "beta": 1.1000e-6,
                "n": 7.8734e-1,
                "c": 1.0039e5,
                "d": 1.6217e1,
                "h": -5.9825e-1,
                "R": 2.7,
                "S": 3.0,
            }
        ),
        "Ge": MappingProxyType(
            {
                "A": 1.769e3,
                "B": 4.1923e2,
                "lambda": 2.4451,
                "mu": 1.7047,
                "beta": 9.0166e-7,
                "n": 7.5627e-1,
                "c": 1.0643e5,
                "d": 1.5652e1,
                "h": -4.3884e-1,
                "R": 2.8,
                "S": 3.1,
            }
        ),
    }
)
"""Table I of J. Tersoff, Phys. Rev. B 39, 5566 (1989): A and B in eV, lambda and mu in 1/Angstrom, cut-off radii R
and S in Angstrom, the rest without unit."""

CHI_SI_GE = 1.00061
"""Strength of the mixed attraction, Table I."""


def si_ge_parameters() -> dict[str, Any]:
    """Parameters of Si-Ge as matscipy's ``TersoffBrenner`` form takes them.

    Returns
    -------
    dict
        Per element in the order of ``el``; per pair in the order Si-Si, Si-Ge, Ge-Ge, with the mixing rules
        of the paper (eq. 1f): arithmetic means of lambda and mu, geometric means of A, B, R and S, and
        the factor chi on the mixed attraction.
    """
    first, second = SI_GE["Si"], SI_GE["Ge"]

    def geometric(key: str) -> list[float]:
        return [first[key], sqrt(first[key] * second[key]), second[key]]

    def arithmetic(key: str) -> list[float]:
        return [first[key], 0.5 * (first[key] + second[key]), second[key]]

    return {
        "__ref__": "J. Tersoff, Phys. Rev. B 39, 5566 (1989)",
        "style": "Tersoff",
        "el": ["Si", "Ge"],
        "A": geometric("A"),
        "B": geometric("B"),
        "chi": [1.0, CHI_SI_GE, 1.0],
        "lambda": arithmetic("lambda"),
        "mu": arithmetic("mu"),
        "lambda3": [0.0, 0.0, 0.0],
        **{key: [first[key], second[key]] for key in ("beta", "n", "c", "d", "h")},
        "r1": geometric("R"),
        "r2": geometric("S"),
    }
