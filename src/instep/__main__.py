"""The command `instep`: one subcommand a module of `instep.commands`."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

COMMANDS = {
    "bench": "how fast a step is on this machine, beside its limits and what others take",
    "checkpoint": "what is inside a checkpoint, and whether it is sound",
    "demo": "see the rules at work: on handwritten digits, on a line, on surfaces, step by step",
    "info": "version, compiler, instruction sets",
}


def main(argv: list[str] | None = None) -> int:
    """Run the subcommand that the arguments name; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="instep", description="Optimizer steps in place on NumPy buffers.")
    subparsers = parser.add_subparsers(dest="command", required=True)
    for name, summary in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=summary, description=summary)
        if name in argv[:1]:  # a command is imported when it is called: some need what others do without
            import_module(f"instep.commands.{name}").add_arguments(subparser)
    arguments = parser.parse_args(argv)
    return int(import_module(f"instep.commands.{arguments.command}").run(arguments))


if __name__ == "__main__":
    sys.exit(main())
