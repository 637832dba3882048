"""Write the tables of saved results into the READMEs, and draw their pictures.

    python bench/write_readme.py bench/results/NAME.json
    python bench/write_readme.py --training bench/results/training/NAME.json
    python bench/write_readme.py --around bench/results/around/NAME.json
    python bench/write_readme.py --torch bench/results/torch/NAME.json

What is between ``<!-- benchmark -->`` and ``<!-- /benchmark -->`` is replaced, and so for every other table.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import policy_chart
import torch_table
import training
from instep.benchmark import picture, report

ROOT = Path(__file__).parents[1]
READMES = [ROOT / "README.md", ROOT / "bench" / "README.md"]


def with_training(text: str, result: dict) -> str:
    """The text with the table of the trainings in its place."""
    return with_table(text, "training", training.markdown(result))


def with_around(text: str, result: dict) -> str:
    """The text with the table of what is around a step in its place."""
    return with_table(text, "around", report.markdown_around(result))


def with_table(text: str, name: str, table: str) -> str:
    """The text with this table in its place."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, rest = text.split(begin)
    return before + begin + table + end + rest.split(end)[1]


def with_torch(text: str, result: dict) -> str:
    """The text of the page about torch, with the table of its trainings."""
    return with_table(text, "trainings", torch_table.markdown(result))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("result", type=Path, nargs="?", help="what `instep bench --output` wrote")
    parser.add_argument("--training", type=Path, metavar="RESULT", help="what bench/training.py wrote")
    parser.add_argument("--around", type=Path, metavar="RESULT", help="what bench/around.py wrote")
    parser.add_argument("--torch", type=Path, metavar="RESULT", help="what bench/torch_trainings.py wrote")
    parser.add_argument(
        "--into", type=Path, nargs="+", default=READMES, help="the files with places for tables (both READMEs)"
    )
    arguments = parser.parse_args()
    if arguments.result:
        result = json.loads(arguments.result.read_text())
        texts = {path: report.write_tables(path.read_text(), result) for path in arguments.into}
        for path, text in texts.items():
            path.write_text(text)
        picture.draw(result, arguments.result.with_suffix(".svg"))
        for scheme, path in policy_chart.paths(arguments.result).items():
            policy_chart.draw(result, path, scheme)
    if arguments.training:
        readme = arguments.into[0]
        readme.write_text(with_training(readme.read_text(), json.loads(arguments.training.read_text())))
    if arguments.around:
        readme = arguments.into[-1]
        readme.write_text(with_around(readme.read_text(), json.loads(arguments.around.read_text())))
    if arguments.torch:
        page = ROOT / "docs" / "how-to" / "torch.md"
        page.write_text(with_torch(page.read_text(), json.loads(arguments.torch.read_text())))


if __name__ == "__main__":
    main()
