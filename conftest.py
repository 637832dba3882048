"""Runs the Python examples of README and documentation, each page from top to bottom."""

import os
from importlib.util import find_spec

from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser


def absent(framework):
    """Whether an example is to be skipped for want of a framework, which is not to be where none may be absent."""
    return os.environ.get("INSTEP_REQUIRE_PEERS") != "1" and find_spec(framework) is None


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README.md", "docs/**/*.md", "docs/*.md"],
    setup=lambda namespace: namespace.update(absent=absent),
).pytest()
