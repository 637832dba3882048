"""Tables for a terminal: where it is narrow, words go on in the next line, and numbers stay whole."""

from __future__ import annotations

from collections.abc import Collection

from rich import box, table
from rich.console import Console
from rich.text import Text

PART_OF_A_WORD = 8  # characters, which fold no further


class Table(table.Table):
    """Under a title, a column a heading; all but those of `words` hold numbers, on the right."""

    def __init__(self, title: str, *headings: str, words: Collection[int] = (0,), gap: int = 1) -> None:
        super().__init__(
            title=title,
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE_HEAD,
            show_edge=False,
            pad_edge=False,
            padding=(0, gap, 0, 0),
        )
        for k, heading in enumerate(headings):
            if k in words:
                self.add_column(heading, overflow="fold")
            else:
                self.add_column(heading, justify="right", no_wrap=True, overflow="crop")

    def add(self, *cells: str, style: str = "") -> None:
        """A row, whose numbers make its columns at least as wide as they are."""
        self.add_row(*cells, style=style)
        for column, cell in zip(self.columns, cells, strict=True):
            width = Text.from_markup(cell).cell_len
            column.min_width = max(column.min_width or 0, width if column.no_wrap else min(width, PART_OF_A_WORD))

    def show(self, console: Console) -> None:
        """Print it, past the edge of a terminal that is too narrow for it."""
        narrowest = sum((column.min_width or 0) + sum(self.padding[1::2]) + 1 for column in self.columns) - 1
        self.width = narrowest if narrowest > console.width else None
        console.print(self, crop=False)
