"""Write the tables of a result into the READMEs, and its picture beside it.

    python bench/write_readme.py bench/results/NAME.json

What is between ``<!-- benchmark -->`` and ``<!-- /benchmark -->`` (or ``claims``, ``options``) is replaced.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from instep.benchmark import picture, report

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("result", type=Path, help="what `instep bench --output` wrote")
    parser.add_argument(
        "--into",
        type=Path,
        nargs="+",
        default=[ROOT / "README.md", ROOT / "bench" / "README.md"],
        help="the files with places for tables (README.md and bench/README.md)",
    )
    arguments = parser.parse_args()
    result = json.loads(arguments.result.read_text())
    texts = {path: report.write_tables(path.read_text(), result) for path in arguments.into}
    for path, text in texts.items():
        path.write_text(text)
    picture.draw(result, arguments.result.with_suffix(".svg"))


if __name__ == "__main__":
    main()
