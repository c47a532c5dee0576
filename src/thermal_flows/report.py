"""An interface document as text: the table that the command line prints."""

from __future__ import annotations

from io import StringIO
from typing import Any

from rich.console import Console
from rich.table import Table

DEFINITIONS = {
    ("mode_matching", "landauer"): "Landauer, two reservoirs: temperatures of the emitted phonons",
    ("mode_matching", "nonequilibrium"): "nonequilibrium: temperatures of all phonons (compare with NEMD, TDTR)",
    ("diffuse_mismatch", "landauer"): "diffuse mismatch model, full dispersion, two reservoirs",
    (
        "maximum_transmission",
        "landauer",
    ): "elastic maximum: min(modes left, modes right) at every point, two reservoirs",
    ("radiation_limit", "landauer"): "radiation limit: all modes of the softer side, not a bound, two reservoirs",
}
"""What a conductance means, by method and definition."""


def summary(doc: dict[str, Any]) -> dict[str, Any]:
    """The part of an interface document that fits a screen, as JSON content; units in the names."""
    return {
        "interface_id": doc["interface_id"],
        "label": doc["label"],
        "potential": (doc["provenance"].get("potential") or {}).get("name"),
        "area_A2": doc["area"],
        "conductance_MW_m2K": [
            {
                "method": c["method"],
                "definition": c["definition"],
                "statistics": c["statistics"],
                "temperature_K": c["temperature"],
                "value": c["value"],
                "error": c["error"],
                "resistance_1e-9_m2K_W": c["resistance"],
            }
            for c in doc["conductance"]
        ],
        "converged": doc["converged"],
        "convergence": [{k: v for k, v in t.items() if not k.startswith("@")} for t in doc["convergence"]],
        "checks": {
            part: {k: v for k, v in (doc[part] or {}).items() if not k.startswith("@")}
            for part in ("junction_checks", "transmission_checks")
        },
        "warnings": doc["warnings"],
        "timings_s": doc["timings"],
    }


def render(doc: dict[str, Any], width: int = 118) -> str:
    """Tables of conductances, convergence, checks and timings of an interface document, as plain text.

    Parameters
    ----------
    doc : dict
        A document as it comes from a query.
    width : int
        Columns.
    """
    buffer = StringIO()
    console = Console(file=buffer, width=width, no_color=True, highlight=False)
    potential = (doc["provenance"].get("potential") or {}).get("name", "given force constants")
    console.print(f"\n{doc['label']} (substrate|film), {potential}", style="bold")
    console.print(_strain_line(doc))
    console.print(_conductances(doc))
    console.print(_convergence(doc))
    for line in _checks(doc):
        console.print(line, soft_wrap=False)
    for warning in doc["warnings"]:
        console.print(f"Note: {warning}")
    steps = ", ".join(f"{name} {seconds:.1f}" for name, seconds in doc["timings"].items())
    console.print(f"Wall times (s): {steps}")
    return buffer.getvalue()


def _strain_line(doc: dict[str, Any]) -> str:
    strain = doc.get("strain")
    line = f"In-plane cell {doc['area']:.4f} A^2"
    if strain:
        parts = ", ".join(
            f"{side} {100 * strain[side]['principal'][0]:+.2f} %/{100 * strain[side]['principal'][1]:+.2f} %"
            for side in ("substrate", "film")
        )
        line += f"; in-plane principal strains: {parts} ({strain['strained']} strained)"
    return line


def _conductances(doc: dict[str, Any]) -> Table:
    table = Table(title="Interfacial thermal conductance G (MW/m2K), numerical error, and resistance R (1e-9 m2K/W)")
    temperatures = sorted({c["temperature"] for c in doc["conductance"]})
    table.add_column("definition")
    table.add_column("statistics")
    for t in temperatures:
        table.add_column(f"{t:g} K", justify="right")
    rows: dict[tuple[str, str, str], dict[float, str]] = {}
    for c in doc["conductance"]:
        cell = "infinite" if c["value"] is None else f"{c['value']:.4g}"
        if c["error"] is not None:
            cell += f"\n+- {short(c['error'])}"
        if c["resistance"] is not None:
            cell += f"\nR {c['resistance']:.3g}"
        rows.setdefault((c["method"], c["definition"], c["statistics"]), {})[c["temperature"]] = cell
    for (method, definition, statistics), cells in rows.items():
        table.add_row(
            DEFINITIONS.get((method, definition), f"{method}, {definition}"),
            statistics,
            *(cells.get(t, "") for t in temperatures),
            end_section=True,
        )
    return table


def _convergence(doc: dict[str, Any]) -> Table:
    state = "within" if doc["converged"] else "NOT within"
    table = Table(
        title=f"Convergence of the quantum Landauer value: sum of changes {state} {100 * doc['convergence_tolerance']:g} %"
    )
    for name in ("setting", "used", "compared with", "at"):
        table.add_column(name)
    table.add_column("G used\n(MW/m2K)", justify="right")
    table.add_column("G compared\n(MW/m2K)", justify="right")
    table.add_column("change", justify="right")
    for test in doc["convergence"]:
        table.add_row(
            test["parameter"].replace("_", " "),
            _text(test["used"]),
            _text(test["compared"]),
            f"{test['temperature']:g} K, {test['settings']}",
            f"{test['conductance_used']:.5g}",
            f"{test['conductance_compared']:.5g}",
            f"{100 * test['relative_change']:.2g} %",
        )
    return table


def short(value: float) -> str:
    """An error bar: one significant digit, whole numbers from 10 on."""
    return f"{value:.0f}" if value >= 10 else f"{value:.1g}"


def _text(value: Any) -> str:
    return " x ".join(str(v) for v in value) if isinstance(value, list) else str(value)


def _checks(doc: dict[str, Any]) -> list[str]:
    solver = doc["transmission_checks"]
    lines = [
        f"Checks: largest |T+R-1| {solver['conservation']:.1e} ({solver['conservation_over_bound']:.1g} of the round-off bound), "
        f"reciprocity {solver['reciprocity']:.1e}, transmission above min(modes) {solver['excess']:.1e}; "
        f"{solver['solved']} of {solver['points']} points carry heat, {solver['flagged']} at a band edge."
    ]
    if solver.get("second_solver") is not None:
        lines.append(f"        Green's functions differ by {solver['second_solver']:.1e} at most, on a coarse mesh.")
    built = doc.get("junction_checks")
    if built:
        lines.append(
            f"        device against leads {built['mismatch_left']:.1e} (left), {built['mismatch_right']:.1e} (right) eV/A^2, "
            f"sum rule of the stitched system {built['sum_rule']:.1e} eV/A^2"
            + (f", largest force {built['max_force']:.1e} eV/A." if built["max_force"] is not None else ".")
        )
    return lines
