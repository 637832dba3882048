"""The command `instep`: one subcommand a module of `instep.commands`."""

from __future__ import annotations

import io
import os
import sys
from importlib import import_module

from ._build_config import VERSION
from .commands.parser import Parser

COMMANDS = {
    "bench": "how fast a step is on this machine, beside its limits and what others take",
    "checkpoint": "what is inside a checkpoint, and whether it is sound",
    "demo": "see the rules at work: on handwritten digits, on a line, on surfaces, step by step",
    "info": "version, compiler, instruction sets",
}


def main(argv: list[str] | None = None) -> int:
    """Run the subcommand that the arguments name; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name of a file may hold what the encoding does not
    called = " ".join(["instep", *[name for name in argv[:1] if name in COMMANDS]])
    try:
        return run(argv)
    except KeyboardInterrupt:
        print(f"{called}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever reads has seen enough, such as `head`; Python flushes again at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def run(argv: list[str]) -> int:
    """Parse, import the command, and let it run."""
    parser = Parser(prog="instep", description="Optimizer steps in place on NumPy buffers.")
    parser.add_argument("--version", action="version", version=f"instep {VERSION}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, summary in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=summary, description=summary)
        if name in argv[:1]:  # a command is imported when it is called: some need what others do without
            command = import_module(f"instep.commands.{name}")
            subparser.set_defaults(run=command.run)
            command.add_arguments(subparser)
    arguments = parser.parse_args(argv)
    if "run" not in arguments:
        parser.print_help()
        return 0
    status = int(arguments.run(arguments))
    sys.stdout.flush()
    return status


if __name__ == "__main__":
    sys.exit(main())
