"""`instep info`."""

from __future__ import annotations

import argparse

from ..config import show_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`instep info` takes none."""


def run(arguments: argparse.Namespace) -> int:
    """Print what `instep.show_config` shows."""
    show_config()
    return 0
