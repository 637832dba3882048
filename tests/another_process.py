"""Python in a process of its own: what hangs there is a failure here."""

import os
import subprocess
import sys
import textwrap


def python(script, *arguments, timeout=60, options=("-W", "error"), **environment):
    """What the script prints; it fails the test by a traceback, another exit status than 0, or taking too long."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.path.dirname(__file__)} | environment
    inherited = {
        name: os.environ[name]
        for name in ("INSTEP_ISA", "LD_PRELOAD", "ASAN_OPTIONS", "PYTHONMALLOC", "TSAN_OPTIONS")
        if name in os.environ
    }
    done = subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(script), *map(str, arguments)],
        env=inherited | environment,
        timeout=timeout,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
