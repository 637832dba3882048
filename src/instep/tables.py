"""Tables for a terminal: where it is narrow, names go on in the next line, and words and numbers stay whole."""

from __future__ import annotations

import re
from collections.abc import Collection

from rich import box, table
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.text import Text

# Where a line does not end though there is a space: within "10 000" and "1.41 us".
WITHIN_A_NUMBER = re.compile(r"(?<=\d) (?=\d{3}(?!\d)|[num]?s\b)")
JOINT = "\ue000"  # stands there until the lines are made; rich would end one at any space that Unicode has
# Where a line may end though there is no space: within "torch.optim.RMSprop", "for-loop" and "step(grads)".
WITHIN_A_NAME = re.compile(r"(?<=[a-z)][.-])(?=[A-Za-z])|(?<=[a-z])(?=\()")
SEAM = "\x1f"  # stands there; a space for rich, and no character wide


class Table(table.Table):
    """Under a title, a column a heading; all but those of `words` hold numbers, on the right."""

    def __init__(self, title: str, *headings: str, words: Collection[int] = (0,), gap: int = 1) -> None:
        super().__init__(
            title=WITHIN_A_NUMBER.sub(JOINT, title),
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
        joined = [WITHIN_A_NAME.sub(SEAM, WITHIN_A_NUMBER.sub(JOINT, cell)) for cell in cells]
        self.add_row(*joined, style=style)
        for column, cell in zip(self.columns, joined, strict=True):
            text = Text.from_markup(cell)
            width = text.cell_len if column.no_wrap else max(map(len, text.plain.split()), default=0)
            column.min_width = max(column.min_width or 0, width)

    def show(self, console: Console) -> None:
        """Print it, past the edge of a terminal that is too narrow for it."""
        narrowest = sum((column.min_width or 0) + sum(self.padding[1::2]) + 1 for column in self.columns) - 1
        self.width = narrowest if narrowest > console.width else None
        console.print(self, crop=False)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table, with the spaces of its numbers, and none in its names."""
        for segment in super().__rich_console__(console, options):
            assert isinstance(segment, Segment)
            yield Segment(segment.text.replace(JOINT, " ").replace(SEAM, ""), segment.style, segment.control)
