"""Files of the library, compiled by themselves."""

import ctypes
import os
import subprocess
from pathlib import Path

CSRC = Path(__file__).parent.parent / "csrc"


def shared_library(folder, *sources):
    """These files of csrc, compiled for ctypes."""
    library = folder / "library.so"
    compiler = ["cc", "-std=c11", "-O1", "-shared", "-fPIC", "-pthread", "-o", library]
    subprocess.run([*compiler, *(CSRC / source for source in sources), "-lm"], check=True, timeout=60)
    return ctypes.CDLL(os.fspath(library))
