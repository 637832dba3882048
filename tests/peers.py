"""The frameworks that tests stand beside: an absent one skips its tests, or fails them where none may be, as in CI."""

import importlib
import os

import pytest

REQUIRED = os.environ.get("INSTEP_REQUIRE_PEERS") == "1"


def peer(name):
    """The framework's module."""
    if not REQUIRED:
        pytest.importorskip(name)
    module = importlib.import_module(name)
    if name == "torch":
        module.set_num_threads(1)
    return module
