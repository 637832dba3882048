"""A step over the arrays of a small policy, as five bars, on a light ground and on a dark one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from instep.benchmark.claims import find, median, rows_of, spelled
from instep.benchmark.peers import INSTEP, TUNED_NUMBA, TUTORIAL, optax_name, torch_name
from instep.benchmark.report import duration, factor

RULE = "rmsprop"
WORKLOAD = "an RL policy"
# What each is called in the chart, and the contenders of whom it shows the fastest.
BARS = {
    "instep": (INSTEP,),
    "numba, a tuned loop": (TUNED_NUMBA,),
    "NumPy": (TUTORIAL,),
    "optax, jitted": (optax_name(RULE),),
    "torch.optim": (torch_name(RULE, "for-loop"), torch_name(RULE, "foreach")),
}
# Ink, pale ink, our bar, the others' bars.
SCHEMES = {"light": ("#1f2430", "#57606a", "#4b1d91", "#c3c9d3"), "dark": ("#e6edf3", "#9198a1", "#a98bff", "#4a5261")}


def paths(result: Path) -> dict[str, Path]:
    """Where the charts of a result go, by the ground that they are for."""
    return {scheme: result.with_name(f"{result.stem}-policy-{scheme}.svg") for scheme in SCHEMES}


def seconds_of(result: dict[str, Any]) -> dict[str, float]:
    """How long each takes, with the number of threads that suits it; instep with all of them."""
    (row,) = (row for row in rows_of(result, "workloads", RULE) if row["title"] == WORKLOAD)
    best: dict[str, float] = {}
    for label, names in BARS.items():
        found = [seconds for name in names if (seconds := find(row, name)) is not None]
        if label == "instep":
            best[label] = median(row, INSTEP, result["machine"]["threads"])
        elif found:
            best[label] = min(found)
    return best


def draw(result: dict[str, Any], path: Path, scheme: str) -> None:
    """Write one chart."""
    ink, pale, ours, others = SCHEMES[scheme]
    (row,) = (row for row in rows_of(result, "workloads", RULE) if row["title"] == WORKLOAD)
    seconds = seconds_of(result)
    with matplotlib.rc_context({"font.family": "sans-serif", "font.size": 11, "svg.hashsalt": "instep"}):
        figure = Figure(figsize=(8, 3.1), layout="constrained")
        axes = figure.subplots()
        colors = [ours if label == "instep" else others for label in seconds]
        axes.barh(range(len(seconds)), [value * 1e6 for value in seconds.values()], color=colors, height=0.62)
        axes.set_yticks(range(len(seconds)), list(seconds), color=ink)
        for place, (label, value) in enumerate(seconds.items()):
            text = (
                duration(value)
                if label == "instep"
                else f"{duration(value)}, {factor(value / seconds['instep'])} as long"
            )
            weight = "bold" if label == "instep" else "normal"
            axes.annotate(
                text, (value * 1e6, place), (5, 0), textcoords="offset points", va="center", color=ink, weight=weight
            )
        axes.set_ylim(len(seconds) - 0.2, -0.5)
        axes.set_xlim(0, max(seconds.values()) * 1e6 * 1.28)
        axes.tick_params(length=0)
        axes.xaxis.set_visible(False)
        axes.spines[:].set_visible(False)
        axes.set_title(
            f"One RMSprop step of a small policy: {row['arrays']} arrays, {spelled(row['elements'])} numbers",
            loc="left", color=ink, fontsize=12, weight="bold",
        )  # fmt: skip
        there = result["machine"]
        figure.text(
            0.995, 0.01, f"{there['processor']}, {there['instruction set']}, {result['date'][:10]}",
            ha="right", va="bottom", fontsize=7.5, color=pale,
        )  # fmt: skip
        figure.savefig(path, transparent=True, metadata={"Date": None})
