"""What this copy was built with and what it runs."""

from __future__ import annotations

import platform
import textwrap
from typing import Any, Literal, overload

import numpy as np

from . import _build_config, _core


@overload
def show_config(mode: Literal["stdout"] = ...) -> None: ...
@overload
def show_config(mode: Literal["dicts"]) -> dict[str, Any]: ...
def show_config(mode: str = "stdout") -> dict[str, Any] | None:
    """Show version, compiler, flags and instruction sets, as ``numpy.show_config`` does.

    Parameters
    ----------
    mode : {"stdout", "dicts"}
        Print it, or return it.

    Returns
    -------
    dict or None
        Under ``"instruction sets"``, what was ``built`` (lowest first), what of it is ``available`` on this
        processor, and what is ``active``: the highest, or what the environment variable ``INSTEP_ISA`` names.
    """
    isas = _core.isas()
    config = {
        "version": _build_config.VERSION,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "numpy": np.__version__,
        "compiler": _build_config.COMPILER,
        "flags": dict(_build_config.FLAGS),
        "instruction sets": {
            "built": list(isas),
            "available": [name for name, runs in isas.items() if runs],
            "active": _core.active_isa(),
        },
        "threads": _core.get_num_threads(),
    }
    if mode == "dicts":
        return config
    if mode != "stdout":
        raise ValueError(f"mode must be 'stdout' or 'dicts', not {mode!r}")
    for name, value in config.items():
        if isinstance(value, dict):
            _print(f"{name}:")
            for key, item in value.items():
                _print(f"  {key}: {', '.join(item) if isinstance(item, list) else item}")
        else:
            _print(f"{name}: {value}")
    return None


def _print(line: str) -> None:
    import shutil  # NumPy does without it, and most programs never show this

    width = shutil.get_terminal_size().columns
    print(textwrap.fill(line, width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False))
