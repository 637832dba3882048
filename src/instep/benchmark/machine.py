"""Where a run took place."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from .._core import active_isa, get_num_threads
from ..config import show_config

CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def describe() -> dict[str, Any]:
    """The machine and the builds, as far as they say."""
    config = show_config("dicts")
    return {
        "processor": processor(),
        "caches": caches(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "threads": get_num_threads(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": config["python"],
        "instep": config["version"],
        "compiler": config["compiler"],
        "instruction set": active_isa(),
    }


def processor() -> str:
    """The model's name, with family and model where the name says little."""
    try:
        lines = [line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()]
    except OSError:
        return platform.processor() or platform.machine()
    facts = {line[0].strip(): line[1].strip() for line in lines if len(line) == 2}
    name = facts.get("model name", platform.machine())
    if "cpu family" in facts:
        name += f" (family {facts['cpu family']}, model {facts['model']})"
    return name


def caches() -> dict[str, int]:
    """The data caches of the first processor in bytes, by level."""
    found = {}
    for cache in sorted(CACHES.glob("index*")):
        if (cache / "type").read_text().strip() != "Instruction":
            size = (cache / "size").read_text().strip()
            found["L" + (cache / "level").read_text().strip()] = int(size[:-1]) * UNITS[size[-1]]
    return found


def last_level_cache() -> int:
    """In bytes; 32 MiB where the system does not tell."""
    return max(caches().values(), default=32 << 20)


def free_memory() -> int:
    """What may be allocated without swapping, in bytes."""
    try:
        facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return int(facts["MemAvailable"].split()[0]) << 10
    except (OSError, KeyError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
