"""Plants one bug after the other and runs the tests that must catch it: ``python tests/mutants/run.py [--every N]``.

A bug is caught when a test fails, and when the tests hang or take the process with them.  It is planted into a copy,
which is built and installed into the environment that runs this.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bug import Bug, copy_project
from for_suite import BUGS

PYTEST = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not compiler", "-p", "no:cacheprovider"]
HANGS = 300  # seconds


def main() -> int:
    """Plant them all; the exit status is 1 if one survives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="plant only every N-th bug")
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORDS", help="plant only bugs of such a name")
    arguments = parser.parse_args()
    bugs = [bug for bug in BUGS[:: arguments.every] if any(words in bug.name for words in arguments.only)]

    with tempfile.TemporaryDirectory() as scratch:
        tree = copy_project(Path(scratch) / "project")
        build(tree)
        for tests in sorted({bug.caught_by for bug in bugs}):
            failure = failure_of(tree, tests)
            if failure:
                print(f"{tests} fails without any bug: {failure}")
                return 1
        try:
            survivors = [bug for bug in bugs if not is_caught(tree, bug)]
        finally:
            build(copy_project(tree))  # leave no bug installed
    print(f"{len(bugs) - len(survivors)} of {len(bugs)} bugs were caught")
    for bug in survivors:
        print(f"SURVIVED: {bug.name} ({bug.file}): {bug.caught_by} passes")
    return 1 if survivors else 0


def is_caught(tree: Path, bug: Bug) -> bool:
    """Whether the tests fail with this bug in the copy, which is sound again afterwards."""
    start = time.monotonic()
    bug.plant(tree)
    build(tree)
    failure = failure_of(tree, bug.caught_by)
    bug.remove(tree)
    print(f"{time.monotonic() - start:4.0f} s  {bug.name}: {failure or 'SURVIVED'}", flush=True)
    return failure is not None


def build(tree: Path) -> None:
    """Build what changed in the copy, and install it."""
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--force-reinstall", f"-Cbuild-dir={tree}/build"]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, tree], check=True)


def failure_of(tree: Path, tests: str) -> str | None:
    """The first test that fails, or None."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "HYPOTHESIS_STORAGE_DIRECTORY": f"{tree}/.hypothesis"}
    command = [*PYTEST, *tests.split()]
    try:
        run = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=HANGS)
    except subprocess.TimeoutExpired:
        return f"hangs for {HANGS} s"
    if run.returncode == 0:
        return None
    named = [line for line in run.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return named[0][:160] if named else f"exit status {run.returncode}"


if __name__ == "__main__":
    sys.exit(main())
