"""A new rule is what CONTRIBUTING.md says: these files, and an option written down so often.

A rule that this house does not have moves into a copy of it by those files alone, is built, and passes the tests.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mutants.bug import copy_project

pytestmark = [pytest.mark.compiler, pytest.mark.unemulated("a compiler, for minutes")]

ROOT = Path(__file__).parents[1]
SECTION = re.search(r"^## Add a rule in (\w+) files\n(.*?)^## ", (ROOT / "CONTRIBUTING.md").read_text(), re.M | re.S)
NUMBERS = dict(zip(["two", "three", "four", "five", "six"], range(2, 7), strict=True)) | {"once": 1, "twice": 2}

FORMULA = """\
/* Signum (Bernstein et al., 2018). */

/* ---- once an element, in the type of the arrays ---- */

struct signum_coefficients {
    S step, persistence;
};

static inline void signum(T *p, T g, T *state, const struct signum_coefficients *c)
{
    T *trace = &state[0];

    *trace = c->persistence * *trace + g;
    *p -= towards(*trace, every(c->step));
}

/* ---- once a step, in double ---- */

NO_CONTRADICTION(signum)
ONE_LOOP(signum)

static inline void signum_coefficients(const struct signum *o, int64_t t, struct signum_coefficients *c)
{
    (void)t;
    c->step = o->lr * o->scale;
    c->persistence = o->persistence;
}
"""

ROLL_CALL = """\
RULE(signum)
OPTION(signum, lr, 1e-3, ANY_SIZE)
OPTION(signum, scale, 1, POSITIVE)
OPTION(signum, persistence, 0.9, DECAY)
PREPARED(signum)
STATE(signum, trace, ANY_NUMBER, 0)
LOOP(signum, signum, 1, NAMES("trace"))
END(signum)

"""

CLASS = '''\
"""Signum."""

from __future__ import annotations

from typing import Any

from ..arithmetic import prepared, towards
from ..functions import native
from ..optimizers import Optimizer


class Signum(Optimizer):
    """Signum over one array or many, in place: the sign of a momentum, ``trace``.

    Parameters
    ----------
    {params}
    lr : float
        The learning rate; 0 or greater.
    scale : float
        Of every step; greater than 0.
    persistence : float
        How much of the momentum a step keeps; in [0, 1).
    {prepared}

    Examples
    --------
    >>> import numpy as np, instep
    >>> param = np.zeros(2)
    >>> instep.Signum(param, lr=0.5).step(np.array([3.0, -1.0]))
    >>> param
    array([-0.5,  0.5])
    """

    __slots__ = ()

    rule = "signum"

    lr: float = 1e-3
    scale: float = 1.0
    persistence: float = 0.9


@native
def signum(
    param: Any,
    grad: Any,
    trace: Any = None,
    *,
    step_count: int = 1,
    lr: float = 1e-3,
    scale: float = 1.0,
    persistence: float = 0.9,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
) -> None:
    """Take one Signum step on one array, in place.

    Parameters
    ----------
    {function}
    trace : numpy.ndarray
        The momentum, of the shape, dtype and layout of `param`, started at 0.  Updated in place.
    step_count : int
        Which step this is, from 1.  Nothing depends on it.
    {options of Signum}

    Examples
    --------
    >>> import numpy as np, instep
    >>> param, trace = np.zeros(2), np.zeros(2)
    >>> instep.signum(param, np.array([3.0, -1.0]), trace, lr=0.5)
    >>> param
    array([-0.5,  0.5])
    """
    g = prepared(param, grad, lr, weight_decay, decoupled_weight_decay, maximize)

    trace[...] = persistence * trace + g
    param -= towards(trace, lr * scale)
'''


def with_the_rule(path, text):
    """What a file of the house is with the rule in it; None of those that stay as they are."""
    match path:
        case "csrc/rules/signum.h":
            return FORMULA
        case "src/instep/rules/signum.py":
            return CLASS
        case "csrc/rules.def":
            text = text.replace('#include "rules/sgd.h"\n', '#include "rules/sgd.h"\n#include "rules/signum.h"\n')
            return text.replace("#undef NAMES\n", ROLL_CALL + "#undef NAMES\n")
        case "src/instep/__init__.py":
            text = text.replace("from .rules.yogi", "from .rules.signum import Signum, signum\nfrom .rules.yogi")
            return text.replace("__all__ = [\n", '__all__ = [\n    "Signum",\n    "signum",\n')
    return None


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """The copy, the package built from it, and the files that had to be touched."""
    tree = copy_project(tmp_path_factory.mktemp("new-rule") / "project")
    package = tree.parent / "package"
    touched = set()
    for path in re.findall(r"^\d\. `(.+?)`", SECTION[2], re.MULTILINE):
        path = path.replace("<rule>", "signum")
        file = tree / path
        changed = with_the_rule(path, file.read_text() if file.exists() else "")
        assert changed, f"CONTRIBUTING.md names {path}, which a new rule does not touch"
        file.write_text(changed)
        touched.add(path)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps"]
    command += ["--disable-pip-version-check", "--target", package, tree]
    subprocess.run(command, check=True, timeout=1800)
    return tree, package, touched


def run_in(tree, package, *arguments):
    """What pytest says of the copy."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    environment = os.environ | {"PYTHONPATH": str(package)}
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=1800, check=False)


def test_contributing_counts_the_files_and_what_is_written(house):
    tree, _, touched = house
    assert len(touched) == NUMBERS[SECTION[1]], f"a rule touches {', '.join(sorted(touched))}"
    written = "".join((tree / path).read_text() for path in sorted(touched))
    times = re.search(r"An option is written down (\w+) times: (\w+) in C, .* and (\w+) in Python", SECTION[2])
    in_c, in_python = (written.count(declared) for declared in ("OPTION(signum, scale, ", " scale: float = "))
    assert [in_c + in_python, in_c, in_python] == [NUMBERS[word] for word in times.groups()]


def test_the_new_rule_passes_the_tests_of_every_rule(house):
    tree, package, _ = house
    names = ("house", "rules", "rows", "contract", "presets", "checkpoint", "damage", "learning")
    files = [f"tests/test_{name}.py" for name in names]
    fast = "signum and not float64 and not torch and not jax"
    done = run_in(tree, package, *files, "-k", fast, "-m", "not compiler")
    assert done.returncode == 0, done.stdout[-5000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 300


def test_what_has_formulas_of_its_own_is_named(house):
    """CONTRIBUTING says where, and who forgets it is told."""
    tree, package, _ = house
    for file in ("src/instep/benchmark/formulas.py", "tests/c/reference.h"):
        assert f"`{file}`" in SECTION[2]
        assert (tree / file).exists()
    done = run_in(tree, package, "tests/test_bench.py", "-k", "signum and has_peers")
    assert done.returncode == 1, done.stdout[-5000:]
    assert "signum is not in benchmark/formulas.py" in done.stdout


def test_a_rule_that_is_not_exported_is_one_sentence(house):
    tree, package, _ = house
    file = package / "instep/__init__.py"
    whole = file.read_text()
    file.write_text(whole.replace("from .rules.signum import Signum, signum\n", ""))
    try:
        done = run_in(tree, package, "tests/test_house.py", "-k", "signum and not examples or all_is_there")
    finally:
        file.write_text(whole)
    assert done.returncode == 1, done.stdout[-5000:]
    assert 'csrc/rules.def has the rule signum: no class with rule = "signum" is imported' in done.stdout
    assert re.search(r"^2 failed", done.stdout, re.MULTILINE), done.stdout[-5000:]
