"""`instep checkpoint`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from ..checkpoint import file
from ..checkpoint.state_dict import CheckpointError, StateDict


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`instep checkpoint show FILE`."""
    parser.set_defaults(show_help=parser.print_help)
    actions = parser.add_subparsers(dest="action", title="actions", metavar="ACTION")
    show = actions.add_parser("show", help="print what is inside a checkpoint and whether it is sound")
    show.add_argument("file", metavar="FILE")


def run(arguments: argparse.Namespace) -> int:
    """Print what is inside; 1 if the file is not sound or cannot be read."""
    if arguments.action is None:
        arguments.show_help()
        return 0
    try:
        state_dict = file.read(arguments.file)
    except (CheckpointError, OSError) as error:
        print(f"instep checkpoint: error: {error}", file=sys.stderr)
        return 1
    for line in _lines(arguments.file, state_dict):
        print(line)
    return 0


def _lines(path: str, state_dict: StateDict) -> Iterator[str]:
    skipped = f", {state_dict['skipped_steps']} skipped" if state_dict["skipped_steps"] else ""
    yield f"{_spell(path)}: sound, {state_dict['rule']} after {_steps(state_dict['step_count'])}{skipped}"
    yield "options:"
    for name, value in state_dict["options"].items():
        yield f"  {name} = {value!r}"
    for pattern, changes in state_dict["groups"].items():
        yield f"group {_spell(pattern)}:"
        for name, value in changes.items():
            yield f"  {name} = {value!r}"
    kept = {name: value for name, value in state_dict["storage"].items() if value is not None}
    if kept:
        yield "storage:"
        yield from (f"  {name} = {value!r}" for name, value in kept.items())
    yield "state:"
    for name, arrays in state_dict["state"].items():
        for place, array in arrays.items():
            spelled = _spell(file.tensor_name(name, place))
            yield f"  {spelled}  {array.dtype} {array.shape}, {_steps(state_dict['step_counts'][place])}"


def _steps(count: int) -> str:
    return "1 step" if count == 1 else f"{count} steps"


def _spell(name: str) -> str:
    """In ASCII: a name may hold anything, such as a terminal's codes, or bytes that are no text."""
    return name.encode("unicode_escape").decode()
