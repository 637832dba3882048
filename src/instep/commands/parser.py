"""How the commands read their arguments, and say what is wrong with one in the words of who typed it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..dialects import NEAR, choose, family


class Parser(argparse.ArgumentParser):
    """Answers for what it does not know itself, where `argparse` leaves that to the parser of all commands."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs, allow_abbrev=False)

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:  # type: ignore[override]
        """All of them are known, or it is an error."""
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            shown = [action for action in self._actions if action.help is not argparse.SUPPRESS]
            flags = [flag for action in shown for flag in action.option_strings]
            given = unknown[0].partition("=")[0]
            begun = [flag for flag in flags if given[2:] and flag.startswith(given)]
            close = begun or get_close_matches(given, flags, n=1, cutoff=NEAR)
            advice = f"did you mean {' or '.join(close)}?" if close else "--help says what it takes"
            self.error(f"it takes no {' '.join(unknown)}: {advice}")
        return parsed, unknown


class Elsewhere(argparse.Action):
    """An option that is not one of this parser: an error that says where it belongs."""

    def __init__(self, option_strings: Sequence[str], dest: str, *, answer: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs="*", help=argparse.SUPPRESS)
        self.answer = answer

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """The parser's error."""
        parser.error(self.answer)


def name_of_rule(*more: str) -> Callable[[str], str]:
    """Reads the name of a rule or of a variant, or one of these words."""

    def parse(text: str) -> str:
        names = [*family(), *more]
        if text not in names:
            raise argparse.ArgumentTypeError(choose(f"there is no rule {text!r:.60}", text, "there are", names))
        return text

    return parse


def integer(least: int) -> Callable[[str], int]:
    """Reads an integer of at least so much."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"expected an integer of at least {least}, not {text!r}")
        return value

    return parse


def number(text: str) -> float:
    """Any number; whether it suits the option is the rule's to say."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, not {text!r}") from None


def check_writable(output: Path) -> None:
    """Fail now rather than when there is something to write."""
    existed = output.exists()
    with output.open("ab"):
        pass
    if not existed:
        output.resolve().unlink()
