"""`instep checkpoint`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator

from ..checkpoint import file
from ..checkpoint.state_dict import CheckpointError, StateDict


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`instep checkpoint show FILE`."""
    actions = parser.add_subparsers(dest="action", required=True)
    show = actions.add_parser("show", help="print what is inside a checkpoint and whether it is sound")
    show.add_argument("file", metavar="FILE")


def run(arguments: argparse.Namespace) -> int:
    """Print what is inside; 1 if the file is not sound or cannot be read."""
    try:
        state_dict = file.read(arguments.file)
    except (CheckpointError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    try:
        for line in _lines(arguments.file, state_dict):
            print(line)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough, such as `head`; Python flushes again at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _lines(path: str, state_dict: StateDict) -> Iterator[str]:
    yield f"{_spell(path)}: sound, {state_dict['rule']} after {state_dict['step_count']} steps"
    yield "options:"
    for name, value in state_dict["options"].items():
        yield f"  {name} = {value!r}"
    yield "state:"
    for name, arrays in state_dict["state"].items():
        for place, array in arrays.items():
            spelled = _spell(file.tensor_name(name, place))
            yield f"  {spelled}  {array.dtype} {array.shape}, {state_dict['step_counts'][place]} steps"


def _spell(name: str) -> str:
    """In ASCII: a name may hold anything, such as a terminal's codes, or bytes that are no text."""
    return name.encode("unicode_escape").decode()
