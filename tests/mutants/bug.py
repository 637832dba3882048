"""A bug to plant into a copy of the project, to see that something catches it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Bug(NamedTuple):
    """Replaces `old` by `new` in `file`, where `old` stands once.

    `caught_by` is what must catch it: what pytest is to run for the suite, words of its report for a tool.
    """

    name: str
    file: str
    old: str
    new: str
    caught_by: str

    def plant(self, tree: Path) -> None:
        """Put it into the copy at `tree`."""
        path = tree / self.file
        text = path.read_text()
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.file} has {text.count(self.old)} times {self.old!r}, not once")
        path.write_text(text.replace(self.old, self.new))

    def remove(self, tree: Path) -> None:
        """Make the copy sound again."""
        shutil.copyfile(ROOT / self.file, tree / self.file)


def copy_project(tree: Path) -> Path:
    """A copy of the checkout at `tree`, without what was built in it and newer than all that was built of others."""
    shutil.rmtree(tree, ignore_errors=True)
    ignored = shutil.ignore_patterns("build", "dist", ".*", "__pycache__")
    return Path(shutil.copytree(ROOT, tree, ignore=ignored, copy_function=shutil.copyfile))
