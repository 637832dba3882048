"""Time an element against size, with the walls drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..dialects import family
from .claims import find, rows_of
from .peers import DEEPSPEED, INSTEP, OUT, PYTHON, TUNED_NUMBA, TUTORIAL, optax_name, torch_name
from .walls import DIVIDER, ROOF

INK, PALE, PAPER = "#1f2430", "#8a90a0", "#ffffff"
OURS, OURS_THREADED = "#d1495b", "#4b1d91"


def peers(rule: str) -> dict[str, tuple[str, str]]:
    """What each is called in the picture, and its color."""
    return {
        PYTHON: ("Python", "#b8bcc8"),
        TUTORIAL: ("NumPy, tutorial", "#edae49"),
        OUT: ("NumPy, out=", "#c98a1b"),
        torch_name(rule, "for-loop"): ("torch", "#66a182"),
        torch_name(rule, "fused"): ("torch, fused", "#46826a"),
        torch_name(rule, "compiled"): ("torch, compiled", "#2e6f57"),
        optax_name(rule): ("optax, jitted", "#7b8cde"),
        DEEPSPEED: ("DeepSpeed", "#6d597a"),
        TUNED_NUMBA: ("numba, tuned", "#00798c"),
    }


def draw(result: dict[str, Any], path: Path) -> None:
    """Write the picture of the first rule in the format that the path's suffix names."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    rule, most = result["rules"][0], result["machine"]["threads"]
    rows = rows_of(result, "sizes", rule)
    style: dict[Any, Any] = {
        "font.family": "sans-serif",
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": PALE,
        "text.color": INK,
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "svg.hashsalt": "instep",
    }
    with plt.rc_context(style):
        figure, axes = plt.subplots(figsize=(9.6, 5.6), layout="constrained", facecolor=PAPER)
        axes.set(xscale="log", yscale="log", xlabel="elements of one float32 array", ylabel="nanoseconds per element")
        title = f"One step of {family()[rule].__name__}: its time per element"
        axes.set_title(title, loc="left", fontsize=13, fontweight="bold", pad=14)
        axes.grid(which="major", color="#e6e8ee", linewidth=0.8)
        axes.tick_params(which="both", length=0)
        axes.yaxis.set_major_formatter("{x:g}")

        labels = []
        for name, (label, color) in peers(rule).items():
            if points := curve(rows, name):
                axes.plot(*zip(*points, strict=True), color=color, linewidth=1.5, marker="o", markersize=3, zorder=3)
                labels.append((points[-1], label, color, "normal"))
        # Where the curves are one, the thin one lies upon the other.
        for threads, (color, width) in {1: (OURS, 1.8), most: (OURS_THREADED, 4)}.items():
            points = curve(rows, INSTEP, threads)
            dots: dict[str, Any] = dict(marker="o", markersize=width + 2.5, zorder=7 - width)
            axes.plot(*zip(*points, strict=True), color=color, linewidth=width, **dots)
            name = f"instep, {counted(threads)}"
            labels.append((points[-1], name, color, "bold"))
        draw_walls(axes, rows, result)
        write_labels(axes, labels)
        there = result["machine"]
        figure.text(
            0.995, 0.005,
            f"{there['processor']}, {there['instruction set']}, {result['date'][:10]}",
            ha="right", va="bottom", fontsize=7.5, color=PALE,
        )  # fmt: skip
        metadata = {"Date": None} if path.suffix == ".svg" else {}
        figure.savefig(path, dpi=160, metadata=metadata)
        plt.close(figure)


def curve(rows: list[dict[str, Any]], name: str, threads: int | None = None) -> list[tuple[int, float]]:
    """Elements and nanoseconds an element, with the fastest number of threads if none is given."""
    return [
        (row["elements"], seconds / row["elements"] * 1e9)
        for row in rows
        if (seconds := find(row, name, threads)) is not None
    ]


def draw_walls(axes: Any, rows: list[dict[str, Any]], result: dict[str, Any]) -> None:
    """The divider, or the roof in cache, as far as the caches reach, the memory beyond, for one thread and for all."""
    most = result["machine"]["threads"]
    divides = curve(rows, DIVIDER, 1)
    divider = min(seconds for _, seconds in divides or curve(rows, ROOF, 1))
    roofs = {threads: curve(rows, ROOF, threads)[-1][1] for threads in sorted({1, most})}
    left, right = rows[0]["elements"], rows[-1]["elements"]
    edge = max(result["machine"]["caches"].values(), default=32 << 20) / 12
    for begin, end, wall in ((left, edge, divider), (edge, right, min(roofs.values()))):
        axes.fill_between([begin, end], wall, wall / 1.3, color=INK, alpha=0.13, linewidth=0, zorder=1)
    axes.plot([left, edge], [divider, divider], color=INK, linewidth=1, zorder=2)
    for roof in roofs.values():
        axes.plot([edge, right], [roof, roof], color=INK, linewidth=1, zorder=2)
    text = dict(fontsize=8.5, color=INK, va="top")
    axes.text(
        left,
        divider / 1.38,
        f"{'the divider' if divides else 'loads and stores'}: {divider:.2f} ns, one thread",
        **text,
    )
    spelled = "\n".join(f"{roof:.2f} ns, {counted(threads)}" for threads, roof in roofs.items())
    axes.text(right, divider / 1.38, f"memory:\n{spelled}", ha="right", linespacing=1.3, **text)
    axes.set_ylim(bottom=divider / 7)


def counted(threads: int) -> str:
    """So many threads, in words."""
    return "one thread" if threads == 1 else f"{threads} threads"


def write_labels(axes: Any, labels: list[tuple[tuple[int, float], str, str, str]]) -> None:
    """Each name at the end of its curve, moved up where two would touch."""
    right = max(point[0] for point, *_ in labels)
    bottom, top = axes.get_ylim()
    apart = (top / bottom) ** (1 / 27)
    lowest = 0.0
    for (x, y), label, color, weight in sorted(labels, key=lambda item: item[0][1]):
        if x < right:
            axes.annotate(
                label, (x, y), xytext=(6, 0), textcoords="offset points", va="center", color=color, weight=weight
            )
            continue
        place = max(y, lowest * apart)
        lowest = place
        axes.annotate(
            label, (x, y), xytext=(right * 1.35, place), textcoords="data", va="center", color=color, weight=weight,
            annotation_clip=False,
        )  # fmt: skip
    axes.set_xlim(right=right * 1.2)
