"""The table of a result of `torch_trainings.py`, which can be written where torch is absent."""

from __future__ import annotations

from statistics import fmean
from typing import Any

OURS, THEIRS = "instep.torch", "torch.optim"


def duration(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} us" if seconds < 1e-2 else f"{seconds:.2f} s"


def learned(row: dict[str, Any], way: str) -> str:
    """The mean over the seeds, and how far they are apart."""
    values = row["times"][way]["learned"]
    digits = 3 if row["learned"] == "accuracy" else 0
    return f"{fmean(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def markdown(result: dict[str, Any]) -> str:
    """A line for each way, under its program."""
    lines = ["| | a step | the training | against `torch.optim` | learned |", "|---|---:|---:|---:|---:|"]
    for row in result["trainings"]:
        lines.append(f"| *{row['title']}: {row['rule']}, {row['steps']} steps* | | | | *{row['learned']}* |")
        for way, time in row["times"].items():
            ratio = row["times"][THEIRS]["training"] / time["training"]
            name = f"**{way}**" if way == OURS else way if way == THEIRS else f"torch.optim, {way}"
            lines.append(
                f"| {name} | {duration(time['step'])} | {duration(time['training'])} | {ratio:.2f}x "
                f"| {learned(row, way)} |"
            )
    there, seeds = result["machine"], len(row["times"][OURS]["learned"])
    where = f"{there['processor']}, {there['instruction set']}, {there['python']}"
    libraries = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    how = f"one thread; processor time, medians over {seeds} seeds; {result['date'][:10]}"
    lines += ["", f"{where}, {libraries}; {how}."]
    return "\n".join(lines) + "\n"
