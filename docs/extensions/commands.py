"""What a command prints, as it prints it: ``.. prints:: instep demo trace adam``."""

from __future__ import annotations

import contextlib
import io
import os

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

from instep.__main__ import main

COLUMNS = "80"


class Prints(Directive):
    """A block with the command and its output, of the copy that the site is built with."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Run it here."""
        program, *arguments = self.arguments[0].split()
        printed = io.StringIO()
        before, os.environ["COLUMNS"] = os.environ.get("COLUMNS"), COLUMNS
        try:
            with contextlib.redirect_stdout(printed):
                status = main(arguments)
        finally:
            if before is None:
                del os.environ["COLUMNS"]
            else:
                os.environ["COLUMNS"] = before
        if program != "instep" or status != 0:
            raise self.error(f"{self.arguments[0]} does not run")
        text = "\n".join(line.rstrip() for line in printed.getvalue().rstrip().splitlines())
        block = nodes.literal_block(text, f"$ {self.arguments[0]}\n{text}", language="text", classes=["printed"])
        return [block]


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect it."""
    app.add_directive("prints", Prints)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
