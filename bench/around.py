"""What is around a step, measured by itself: that part of `instep bench`, in some minutes.

    python bench/around.py bench/results/around/NAME.json [RULE]

The result has no other section, so that the whole need not be measured again for it.
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from instep.benchmark import machine, peers, report, suite
from instep.dialects import family

SECTIONS = ("around", "passes", "rows")


def run(rule: str) -> dict[str, Any]:
    """A result of these sections alone."""
    found = {rule: [peer for peer in peers.peers_of(rule) if peer.needs == ("torch",) and not peer.missing]}
    scale = suite.full_scale()
    parts = [part for part in suite.sections(scale, found) if part.name in SECTIONS]
    result: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "versions": peers.versions(found[rule]),
        "rules": [rule],
    }
    with Progress(transient=True) as progress:
        for part in parts:
            task = progress.add_task(part.title, total=1.0)
            rows = part.run(part.effort, lambda done, task=task: progress.update(task, completed=done))
            result.setdefault(part.name, []).extend({"rule": rule, "title": part.title} | row for row in rows)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("result", type=Path, help="where to write it, as .json")
    parser.add_argument("rule", nargs="?", default="rmsprop", choices=family())
    arguments = parser.parse_args()
    result = run(arguments.rule)
    arguments.result.write_text(json.dumps(result, indent=1) + "\n")
    report.show_around(result, Console(highlight=False))


if __name__ == "__main__":
    main()
