"""Steps a model in files of a folder under a limit: past_memory.py RULE FOLDER LIMIT [FILE OF A CONTROL GROUP].

Prints how many numbers are not those that the rule's function makes of the files, block by block, how many steps were
taken, and by how many bytes the memory grew that is of no file.
"""

import json
import os
import re
import resource
import sys
from pathlib import Path

import numpy as np

import instep

TOTAL = 256 << 20
BLOCK = 1 << 20


def anonymous():
    return int(re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) << 10


def data():
    return int(re.search(r"VmData:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) << 10


def main(rule, folder, limit, group=None):
    cls, function = instep.optimizers.Optimizer.of_rule(rule), getattr(instep, rule)
    names = list(cls(np.ones(1, np.float32)).state)
    size = TOTAL // 4 // (2 + len(names))

    def file(name):
        return np.memmap(Path(folder) / name, np.float32, "w+", shape=(2, size // 2))

    instep.set_num_threads(2)
    cls(np.ones(1 << 20, np.float32)).step(np.ones(1 << 20, np.float32))  # threads and their stacks
    if group is not None:
        Path(group).write_text(str(os.getpid()))
    resource.setrlimit(resource.RLIMIT_DATA, (data() + int(limit),) * 2)
    before = anonymous()

    arrays = {name: file(name) for name in ("param", "grad", *names)}
    blocks = [slice(start, start + BLOCK) for start in range(0, size, BLOCK)]
    flat = {name: array.reshape(-1) for name, array in arrays.items()}
    for number, block in enumerate(blocks):
        random = np.random.default_rng(number)
        for name in ("param", "grad"):
            flat[name][block] = random.standard_normal(flat[name][block].size, np.float32)

    optimizer = cls({"w": arrays["param"]}, state={name: {"w": arrays[name]} for name in names})
    for _ in range(2):
        optimizer.step({"w": arrays["grad"]})
    grown = anonymous() - before

    differing = 0
    for number, block in enumerate(blocks):
        random = np.random.default_rng(number)
        param, grad = (random.standard_normal(flat["param"][block].size, np.float32) for _ in range(2))
        states = {name: np.zeros_like(param) for name in names}
        for step in (1, 2):
            function(param, grad, **states, step_count=step)
        for name, array in {"param": param, **states}.items():
            differing += int((array.view(np.uint32) != flat[name][block].view(np.uint32)).sum())
    print(json.dumps({"differing": differing, "steps": optimizer.step_count, "grown": grown}))


if __name__ == "__main__":
    main(*sys.argv[1:])
