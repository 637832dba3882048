"""`instep demo`."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from .._core import rules
from ..rules.rmsprop import RMSprop

# What each demo takes beside the options of RMSprop, and where its defaults differ from theirs.
DEMOS: dict[str, dict[str, Any]] = {
    "digits": dict(epochs=40, seed=0, output=Path("instep-digits.png"), lr=2e-3),
    "regression": dict(epochs=50, seed=0, output=Path("instep-regression.png"), lr=0.1),
    "trace": dict(lr=0.1),
}
OPTIONS = rules()[RMSprop.rule]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which demo, its settings, and every option of RMSprop; what is not given is left to the demo."""
    parser.argument_default = argparse.SUPPRESS
    parser.usage = f"%(prog)s [{' | '.join(DEMOS)}] [options]"
    parser.add_argument(
        "demo",
        nargs="?",
        default="digits",
        choices=DEMOS,
        help="digits (the default): a two-layer network learns to read; regression: a line is fitted, one point at a "
        "time; trace: five steps of two weights in numbers",
    )
    parser.add_argument(
        "--epochs", type=positive_integer, metavar="N", help=f"how often to go through the data ({defaults('epochs')})"
    )
    parser.add_argument(
        "--seed", type=natural_number, metavar="N", help=f"where the random numbers start ({defaults('seed')})"
    )
    parser.add_argument("--output", type=png, metavar="PATH", help=f"the picture ({defaults('output')})")
    group = parser.add_argument_group("options of RMSprop")
    for name, value in OPTIONS.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            group.add_argument(flag, action=argparse.BooleanOptionalAction, help=defaults(name))
        else:
            group.add_argument(flag, type=float, metavar="NUMBER", help=defaults(name))


def run(arguments: argparse.Namespace) -> int:
    """Run the demo that the arguments name."""
    given = vars(arguments)
    name = given["demo"]
    settings = DEMOS[name] | {key: value for key, value in given.items() if key not in ("command", "demo")}
    options = {option: settings.pop(option, value) for option, value in OPTIONS.items()}
    for setting in settings.keys() - DEMOS[name].keys():
        return complain(f"{name} takes no --{setting}", status=2)
    try:
        demo = import_module(f"instep.demo.{name}")
    except ModuleNotFoundError as error:
        return complain(f'{error.name} is not installed: pip install "instep[demo]"', status=1)
    try:
        RMSprop(np.zeros(1, demo.DTYPE), **options)
    except ValueError as error:
        return complain(error, status=2)
    try:
        demo.run(options, **settings)
    except OSError as error:
        return complain(error, status=1)
    return 0


def complain(error: object, status: int) -> int:
    """Print the error as argparse does, without the usage."""
    print(f"instep demo: error: {error}", file=sys.stderr)
    return status


def defaults(name: str) -> str:
    """What an option is when it is not given, for its help."""
    common = [f"default {OPTIONS[name]}"] if name in OPTIONS else []
    return ", ".join(common + [f"{demo}: {settings[name]}" for demo, settings in DEMOS.items() if name in settings])


def natural_number(text: str) -> int:
    """An integer of at least 0."""
    if int(text) < 0:
        raise ValueError
    return int(text)


def positive_integer(text: str) -> int:
    """An integer of at least 1."""
    if int(text) < 1:
        raise ValueError
    return int(text)


def png(text: str) -> Path:
    """The path of a picture that can be written."""
    path = Path(text)
    if path.suffix != ".png":
        raise argparse.ArgumentTypeError(f"{text!r} must end in .png")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{str(path.parent)!r} is not a directory")
    return path
