"""The entry point of the command `instep`, beside the package: whatever is in it runs after the package's imports."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command; an interrupt is answered in one line while the package is imported, too."""
    try:
        from instep.__main__ import main as run
    except KeyboardInterrupt:
        print("instep: interrupted", file=sys.stderr)
        return 130
    return run()
