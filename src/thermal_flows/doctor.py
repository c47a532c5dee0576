"""A look at the installation: versions, threads, settings, optional engines and a self-test with a known answer."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from thermal_flows.schemas.common import package_versions


@dataclass(frozen=True)
class Finding:
    """One line of the report: a name, what was found, and whether it is as it should be."""

    name: str
    found: str
    good: bool = True


def chain_self_test() -> float:
    """Largest error of the solver on a chain of two masses, where the answer is known in closed form.

    A chain of masses m1 | m2 with equal springs K transmits sin k1 sin k2 / sin^2((k1 + k2)/2), m omega^2 = 4 K sin^2(k/2).
    """
    from thermal_flows import units
    from thermal_flows.lattice.pair_constants import PairForceConstants
    from thermal_flows.transport import Junction, solve_modes

    spring, masses = 5.0, (20.0, 60.0)
    along = np.zeros((3, 3))
    along[2, 2] = spring

    def lead(mass: float) -> PairForceConstants:
        R = [[0, 0, 0], [0, 0, 1], [0, 0, -1]]
        return PairForceConstants(
            np.eye(3), np.zeros((1, 3)), np.array([mass]), np.zeros(3, int), np.zeros(3, int), np.array(R),
            np.array([2 * along, -along, -along]),
        )  # fmt: skip

    device = PairForceConstants(
        np.diag([1.0, 1.0, 2.0]),
        np.array([[0.0, 0, 0], [0, 0, 1.0]]),
        np.array(masses),
        np.array([0, 1, 0, 1]),
        np.array([0, 1, 1, 0]),
        np.zeros((4, 3), int),
        np.array([2 * along, 2 * along, -along, -along]),
    )
    junction = Junction(lead(masses[0]), lead(masses[1]), device)
    worst = 0.0
    for share in (0.1, 0.5, 0.9):
        frequency = share * min(junction.top_frequencies)
        w2 = float(units.thz_to_w2(frequency))
        k1, k2 = (2 * np.arcsin(np.sqrt(w2 * m / (4 * spring))) for m in masses)
        exact = np.sin(k1) * np.sin(k2) / np.sin((k1 + k2) / 2) ** 2
        worst = max(worst, abs(solve_modes(junction, (0.0, 0.0), frequency).transmission - exact))
    return worst


def examine() -> list[Finding]:
    """Everything :command:`thermal-flows doctor` prints."""
    from threadpoolctl import threadpool_info

    from thermal_flows.settings import settings

    findings = [Finding("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")]
    findings += [Finding(name, number) for name, number in package_versions().items()]
    if find_spec("torch"):
        from importlib.metadata import version

        findings.append(Finding("torch", version("torch")))
    findings.append(Finding("cores", str(os.cpu_count())))
    findings += [
        Finding("linear algebra", f"{pool['internal_api']} {pool.get('version', '')}, {pool['num_threads']} threads")
        for pool in threadpool_info()
    ]
    try:
        findings.append(Finding("settings", settings().model_dump_json(exclude_none=True)))
    except ValueError as error:
        findings.append(Finding("settings", str(error), good=False))
    for engine, command in (("LAMMPS", "lmp"), ("LOBSTER", "lobster-5.1.1"), ("VASP", "vasp_std")):
        where = shutil.which(command)
        findings.append(Finding(f"{engine} (optional)", where or f"not found ({command})"))
    try:
        from thermal_flows.database import job_store  # noqa: F401

        findings.append(
            Finding(
                "working folder", "writable" if os.access(".", os.W_OK) else "not writable", os.access(".", os.W_OK)
            )
        )
    except ImportError as error:
        findings.append(Finding("database", str(error), good=False))
    error_of_chain = chain_self_test()
    findings.append(Finding("solver self-test", f"two-mass chain to {error_of_chain:.1e}", error_of_chain < 1e-10))
    return findings
