"""`instep bench`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ..dialects import family
from .parser import check_writable, name_of_rule

SECTIONS = ("machine", "versions", "rules", "sizes", "workloads", "overhead", "function")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What and how long to measure, and where to write."""
    parser.add_argument(
        "--rule",
        type=name_of_rule("all"),
        metavar="NAME",
        help="the rule to measure, such as adam; all measures every rule, the first at length; default rmsprop",
    )
    parser.add_argument("--quick", action="store_true", help="a shorter run: fewer sizes, rounds and workloads")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("instep-bench.json"),
        metavar="PATH",
        help="the result (instep-bench.json); the picture is put beside it, as .png",
    )
    parser.add_argument(
        "--show", type=Path, metavar="PATH", help="show the tables of an earlier result, measure nothing"
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure, show, write the result and its picture."""
    try:
        from rich.console import Console
        from rich.progress import Progress

        from ..benchmark import picture, report, suite
    except ModuleNotFoundError as error:
        print(
            f'instep bench: error: {error.name} is not installed: pip install ".[bench]" in a checkout of instep',
            file=sys.stderr,
        )
        return 1

    console = Console(highlight=False)
    try:
        if arguments.show:
            report.show(load(arguments.show), console)
            return 0
        kinds = chosen(arguments.rule)
        image = arguments.output.with_suffix(".png")
        if image == arguments.output:
            print(
                f"instep bench: error: argument --output: {str(image)!r} is where the picture goes: name the result, "
                ".json say",
                file=sys.stderr,
            )
            return 2
        for output in (arguments.output, image):
            check_writable(output)
        scale = suite.quick_scale() if arguments.quick else suite.full_scale()
        seconds = suite.expected_seconds(scale, kinds)
        console.print(f"expected to take some {seconds / 60:.1f} minutes on a quiet machine")
        try:  # a bar that goes again leaves an empty line where there is no terminal to take it from
            with Progress(console=console, transient=True, disable=not console.is_interactive) as progress:
                task = progress.add_task("", total=1.0)
                result = suite.run(
                    scale, kinds, lambda title, done: progress.update(task, description=title, completed=done)
                )
        except KeyboardInterrupt:
            print("instep bench: interrupted, nothing is written", file=sys.stderr)
            return 130
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")
        report.show(result, console)
        console.print(f"written: {arguments.output}", markup=False, soft_wrap=True)
        try:
            picture.draw(result, image)
            console.print(f"written: {image}", markup=False, soft_wrap=True)
        except ModuleNotFoundError as error:
            console.print(f"[yellow]no picture:[/] {error.name} is not installed")
    except (OSError, ValueError) as error:
        print(f"instep bench: error: {error}", file=sys.stderr)
        return 1
    return 0


def chosen(name: str | None) -> list[str]:
    """The rules to measure, the one at length first."""
    kinds = list(family())
    return kinds if name == "all" else [name or kinds[0]]


def load(path: Path) -> dict[str, Any]:
    """An earlier result."""
    try:
        result = json.loads(path.read_bytes())
    except ValueError:
        result = None
    if not isinstance(result, dict) or result.get("format") != 3 or not all(map(result.get, SECTIONS)):
        raise ValueError(f"{path} is not a result of instep bench")
    return result
