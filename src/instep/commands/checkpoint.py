"""`instep checkpoint`."""

from __future__ import annotations

import argparse
import sys

from .. import checkpoint
from ..state_dict import CheckpointError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`instep checkpoint show FILE`."""
    actions = parser.add_subparsers(dest="action", required=True)
    show = actions.add_parser("show", help="print what is inside a checkpoint and whether it is sound")
    show.add_argument("file", metavar="FILE")


def run(arguments: argparse.Namespace) -> int:
    """Print what is inside; 1 if the file is not sound or cannot be read."""
    try:
        state_dict = checkpoint.read(arguments.file)
    except (CheckpointError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{arguments.file}: sound, {state_dict['rule']} after {state_dict['step_count']} steps")
    print("options:")
    for name, value in state_dict["options"].items():
        print(f"  {name} = {value!r}")
    print("state:")
    for name, arrays in state_dict["state"].items():
        for place, array in arrays.items():
            spelled = f"{name}/{place}" if place else name
            spelled = spelled.encode("unicode_escape").decode()  # a name may hold anything, such as a terminal's codes
            print(f"  {spelled}  {array.dtype} {array.shape}, {state_dict['step_counts'][place]} steps")
    return 0
