"""`instep demo`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from .._core import Options
from ..dialects import called_here, family, foreign_names
from .parser import Elsewhere, check_writable, integer, name_of_rule, number


class Demo(NamedTuple):
    """What a demo shows, the arguments of its `run` with their defaults, and what it makes of the options of a rule."""

    summary: str
    settings: Mapping[str, Any] = MappingProxyType({})
    takes_rule: bool = False
    lr: float | None = None  # where it is not the rule's own
    lr_help: str = ""
    draws: bool = True


DEMOS = {
    "digits": Demo("a two-layer network learns to read handwritten digits", dict(epochs=40, seed=0), takes_rule=True),
    "regression": Demo(
        "a line through noisy points, learned from one at a time, with a schedule and without",
        dict(epochs=50, seed=0),
        takes_rule=True,
        lr_help="default: the best of some powers of ten",
    ),
    "surfaces": Demo("every rule on three surfaces: its way to the goal, and when it is there", dict(animate=False)),
    "memory": Demo("what Adagrad and RMSprop remember, and why the learning rate of one of them dies"),
    "cliff": Demo("half the units of a network die: whose steps then take longer, and whose do not", dict(epochs=45)),
    "sparse": Demo("word vectors, whose steps touch some rows of a table and not the others", dict(epochs=5)),
    "trace": Demo("five steps of two weights in numbers", takes_rule=True, lr=0.1, lr_help="default 0.1", draws=False),
}
DEFAULT_DEMO = next(iter(DEMOS))
CLASSES = family()
RULES = {
    rule: {option: cls._defaults[option] for option in Options(cls.rule).of_formula} for rule, cls in CLASSES.items()
}
DEFAULT_RULE = next(iter(RULES))
# Every option of any formula, with its default in each of the rules that have it.
OPTIONS = {
    option: {rule: options[option] for rule, options in RULES.items() if option in options}
    for option in dict.fromkeys(option for options in RULES.values() for option in options)
}
# What frameworks call them where we do not, with a hyphen or as in Python; `run` answers, for it knows the rule.
FOREIGN = {
    theirs: list(dict.fromkeys([f"--{theirs.replace('_', '-')}", f"--{theirs}"]))
    for theirs in sorted(foreign_names())
    if theirs not in OPTIONS
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A parser a demo; what is not given is left to the demo and to the rule."""
    parsers = parser.add_subparsers(dest="demo", title="demos", metavar="DEMO")
    parser.set_defaults(demo=DEFAULT_DEMO)
    takers: dict[str, list[str]] = {}
    for name, demo in DEMOS.items():
        summary = f"{demo.summary} (the default)" if name == DEFAULT_DEMO else demo.summary
        of_demo = parsers.add_parser(name, help=summary, description=demo.summary, argument_default=argparse.SUPPRESS)
        before = set(of_demo._option_string_actions)
        add_settings(of_demo, name, demo)
        for flag in of_demo._option_string_actions.keys() - before:
            takers.setdefault(flag, []).append(name)
    for flag, names in takers.items():
        answer = f"the demo's name comes first, as in instep demo {names[0]} {flag}; {', '.join(names)} take it"
        parser.add_argument(flag, action=Elsewhere, answer=answer)


def add_settings(parser: argparse.ArgumentParser, name: str, demo: Demo) -> None:
    """What one demo takes."""
    settings = demo.settings
    parser.usage = f"%(prog)s {'' if demo.draws else '[RULE] '}[options]"
    if demo.takes_rule:
        text = f"{', '.join(RULES)}; default {DEFAULT_RULE}"
        if demo.draws:
            parser.add_argument("--rule", type=name_of_rule(), metavar="RULE", help=text)
        else:
            parser.add_argument("rule", nargs="?", type=name_of_rule(), default=DEFAULT_RULE, metavar="RULE", help=text)
    if "epochs" in settings:
        text = f"how often to go through the data; default {settings['epochs']}"
        parser.add_argument("--epochs", type=integer(least=1), metavar="N", help=text)
    if "seed" in settings:
        text = f"where the random numbers start; default {settings['seed']}"
        parser.add_argument("--seed", type=integer(least=0), metavar="N", help=text)
    if "animate" in settings:
        parser.add_argument("--animate", action="store_true", help="an animation, .gif, instead of a picture")
    if demo.draws:
        parser.add_argument("--output", type=Path, metavar="PATH", help=f"the picture; default instep-{name}.png")
    if demo.takes_rule:
        group = parser.add_argument_group("options of the rule")
        for option, defaults in OPTIONS.items():
            text = demo.lr_help if option == "lr" and demo.lr_help else spell_defaults(defaults)
            if isinstance(next(iter(defaults.values())), bool):
                group.add_argument(flag_of(option), action=argparse.BooleanOptionalAction, help=text)
            else:
                group.add_argument(flag_of(option), type=number, metavar="NUMBER", help=text)
        for theirs, flags in FOREIGN.items():
            parser.add_argument(*flags, dest=theirs, nargs="*", help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Run the demo that the arguments name."""
    given = vars(arguments)
    name = given["demo"]
    demo = DEMOS[name]
    complain = partial(complain_of, name)
    settings = {key: given.get(key, default) for key, default in demo.settings.items()}
    options = {key: value for key, value in given.items() if key in OPTIONS}
    rule = given.get("rule", DEFAULT_RULE)
    its_flags = ", ".join(map(flag_of, RULES[rule]))
    for option in options:
        if option not in RULES[rule]:
            return complain(
                f"{flag_of(option)} is an option of {', '.join(OPTIONS[option])}, not of {rule}, which has {its_flags}",
                status=2,
            )
    for theirs in given.keys() & FOREIGN.keys():
        answer = called_here(rule, theirs, flag_of) or f"{rule} has {its_flags}"
        return complain(f"it takes no {FOREIGN[theirs][0]}: {answer}", status=2)
    if demo.lr is not None:
        options.setdefault("lr", demo.lr)
    try:
        if demo.draws:
            suffix = ".gif" if settings.get("animate") else ".png"
            output = settings["output"] = given.get("output", Path(f"instep-{name}{suffix}"))
            if output.suffix != suffix:
                return complain(f"argument --output: {str(output)!r} must end in {suffix}", status=2)
            check_writable(output)
        module = import_module(f"instep.demo.{name}")
        if demo.takes_rule:
            settings["make"] = partial(CLASSES[rule], **options)
            try:
                settings["make"](np.zeros(1, module.DTYPE))
            except ValueError as error:
                return complain(error, status=2)
        module.run(**settings)
    except KeyboardInterrupt:
        print(f"instep demo {name}: interrupted{', no picture is written' if demo.draws else ''}", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        return complain(f'{error.name} is not installed: pip install ".[demo]" in a checkout of instep', status=1)
    except (OSError, ArithmeticError) as error:
        return complain(error, status=1)
    return 0


def complain_of(demo: str, error: object, status: int) -> int:
    """Print the error as argparse does, without the usage."""
    print(f"instep demo {demo}: error: {error}", file=sys.stderr)
    return status


def spell_defaults(defaults: dict[str, float | bool]) -> str:
    """Which rules have an option, and what it is when it is not given."""
    words = {
        rule: ("on" if value else "off") if isinstance(value, bool) else f"{value:g}"
        for rule, value in defaults.items()
    }
    if len(words) == len(RULES) and len(set(words.values())) == 1:
        return f"default {words[DEFAULT_RULE]}"
    return ", ".join(f"{rule}: {word}" for rule, word in words.items())


def flag_of(option: str) -> str:
    """How an option is given."""
    return f"--{option.replace('_', '-')}"
