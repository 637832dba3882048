"""Which compilation of the loops runs, and what may not be in any of them."""

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import instep
from instep import _core

SOURCES = Path(__file__).parents[1] / "csrc"
EXTENSION = Path(_core.__file__)


def python(code, *arguments, **environment):
    """A process of its own: what it returned, wrote and complained of."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith("INSTEP_")} | environment
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


# ---- forcing one ------------------------------------------------------------------------------------------------

# Chosen where it is faster than the one before it, which is measured.
TIMED = "x86_v4_fma"


def highest():
    """The highest available, or that and the one before it if speed decides."""
    available = [name for name, runs in _core.isas().items() if runs]
    return available[-2:] if available[-1] == TIMED else available[-1:]


SHOW_ACTIVE = "import instep; print(instep.show_config('dicts')['instruction sets']['active'])"


def test_the_variable_forces_one(isa):
    assert python(SHOW_ACTIVE, INSTEP_ISA=isa).stdout.strip() == isa


@pytest.mark.parametrize("variables", [{}, {"INSTEP_ISA": ""}], ids=["unset", "empty"])
def test_the_highest_worthwhile_is_the_default(variables):
    assert python(SHOW_ACTIVE, **variables).stdout.strip() in highest()


@pytest.mark.parametrize("name", ["x86_v9", "AVX2", "baseline ", "Baseline", "native"])
def test_an_unknown_one_is_refused_with_the_choices(name):
    process = python(SHOW_ACTIVE, INSTEP_ISA=name)
    assert process.returncode != 0
    assert "ValueError: INSTEP_ISA" in process.stderr
    for available in [known for known, runs in _core.isas().items() if runs]:
        assert available in process.stderr
    with pytest.raises(ValueError, match="choose one of baseline"):
        _core.set_isa(name)


def test_a_refused_one_leaves_the_active_one(isa):
    with pytest.raises(ValueError, match="no instruction set of that name"):
        _core.set_isa("x86_v9")
    assert _core.active_isa() == isa


def test_none_chooses_the_highest():
    _core.set_isa("baseline")
    assert _core.active_isa() == "baseline"
    _core.set_isa(None)
    assert _core.active_isa() in highest()


@pytest.mark.parametrize("threads", ["0", "257", "-1", "two", "1.5"])
def test_a_bad_number_of_threads_is_refused(threads):
    process = python("import instep", INSTEP_NUM_THREADS=threads)
    assert process.returncode != 0
    assert f"INSTEP_NUM_THREADS={threads!r} must be an integer from 1 to 256" in process.stderr


# ---- the forced one is the one that runs ------------------------------------------------------------------------

# What the main loops of an instruction set take roots with, as objdump spells it.  How wide they are is the compiler's
# choice: of x86-64-v4 some make loops of 256 bits.
ROOTS = {
    "baseline": r"\bsqrtp[sd]\s|\bfsqrt\s+v",
    "x86_v3": r"\bvsqrtp[sd]\s",
    "x86_v4": r"\bvsqrtp[sd]\s",
    TIMED: r"\bvrsqrt14p[sd]\s",
}
# What no lower one has, somewhere in its loops.
OWN = {
    "baseline": ROOTS["baseline"],
    "x86_v3": r"%ymm",
    "x86_v4": r"%zmm|%[xy]mm(1[6-9]|2\d|3[01])\b|%k[0-7]\b",
    TIMED: ROOTS[TIMED],
}

# Overwrites code of the loaded extension with what no processor runs, then steps.
SPOIL_AND_STEP = """
import ctypes, mmap, sys
import numpy as np
import instep
from instep import _core
forced, *places = sys.argv[1:]
_core.set_isa(forced)
library = [line for line in open("/proc/self/maps") if line.rstrip().endswith(_core.__file__)]
base = min(int(line.split("-")[0], 16) for line in library)
protect = ctypes.CDLL(None).mprotect
protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
for place in places:
    address = base + int(place, 16)
    assert protect(address // mmap.PAGESIZE * mmap.PAGESIZE, 2 * mmap.PAGESIZE, 7) == 0
    ctypes.memset(address, 0, 4)
    ctypes.memmove(address, bytes.fromhex("0f0b") if "x86" in "".join(_core.isas()) else bytes(4), 2)
for dtype in (np.float32, np.float64):
    instep.rmsprop(*np.ones((3, 1024), dtype))
print("alive")
"""


@cache
def disassembled():
    """The functions of the extension, each with its lines."""
    if shutil.which("objdump") is None:
        pytest.fail("objdump is not installed: it comes with binutils")
    command = ["objdump", "-d", "--no-show-raw-insn", str(EXTENSION)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    _, *functions = re.split(r"(?m)^[0-9a-f]+ <(.+)>:$", text)
    return [(name, lines.splitlines()) for name, lines in zip(functions[::2], functions[1::2], strict=True)]


def loops(isa):
    """The lines of the functions compiled for this instruction set: the names end in its own."""
    found = [lines for name, lines in disassembled() if re.search(rf"_f(32|64)_{isa}(\.\w+)*$", name)]
    assert found, f"no function is named after {isa}: the extension is stripped"
    return [line for lines in found for line in lines]


@pytest.mark.compiler
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/maps")
@pytest.mark.parametrize("spoilt", ROOTS)
def test_the_forced_one_runs(isa, spoilt):
    """Spoil the loops of one instruction set: a step dies exactly when that one is forced."""
    if spoilt not in _core.isas():
        assert isa != spoilt
        return
    places = [line.split(":")[0].strip() for line in loops(spoilt) if re.search(ROOTS[spoilt], line)]
    assert places, "the loops are not vectorized"
    process = python(SPOIL_AND_STEP, isa, *places)
    assert (process.stdout == "alive\n") == (isa != spoilt), process.stderr
    assert process.returncode == 0 or isa == spoilt


# ---- what may not be in it --------------------------------------------------------------------------------------

CONTRACTED = r"\bv?fn?m(add|sub|addsub|subadd)\d*\w*|\bfn?m(adds?|subs?|la|ls)\b"
APPROXIMATE = r"\bv?(rsqrt|rcp)\d*[a-z]*|\bf(rsqrte|recpe|rsqrts|recps)\b"


@pytest.mark.compiler
def test_no_instruction_rounds_otherwise():
    """No contraction and no approximation, in any loop or anywhere else in the extension, but where roots are of them.

    There a root has one estimate and so many FMAs, and no FMA is in a loop without a root.
    """
    in_roots = 0
    for name, lines in disassembled():
        text = "\n".join(lines)
        fmas, estimates = len(re.findall(CONTRACTED, text)), len(re.findall(APPROXIMATE, text))
        if name.endswith(TIMED):
            each = 6 if "_f32_" in name else 10
            assert fmas == each * estimates, f"{name} has {fmas} FMAs and {estimates} roots"
            in_roots += estimates
        else:
            assert (fmas, estimates) == (0, 0), name
    assert in_roots or TIMED not in _core.isas()


@pytest.mark.compiler
def test_those_instructions_would_be_found():
    spelt = ["vfmadd213ps %zmm1,%zmm2,%zmm3", "vfnmsub231sd %xmm1,%xmm2,%xmm3", "vrsqrt14ps %zmm1,%zmm2"]
    spelt += ["rcpps %xmm1,%xmm2", "vrcpps %ymm1,%ymm2", "fmla v0.4s, v1.4s, v2.4s", "fmadd s0, s1, s2, s3"]
    for line in spelt:
        assert re.search(f"{CONTRACTED}|{APPROXIMATE}", line), line
    for line in ["vmulps %ymm1,%ymm2,%ymm3", "sqrtps %xmm1,%xmm2", "fmul v0.4s, v1.4s, v2.4s", "fsqrt v0.2d, v1.2d"]:
        assert not re.search(f"{CONTRACTED}|{APPROXIMATE}", line), line


@pytest.mark.compiler
def test_the_loops_of_each_instruction_set_are_there():
    """With what they alone have, or a lower one was compiled twice."""
    for name in _core.isas():
        text = "\n".join(loops(name))
        assert re.search(OWN[name], text), name
        assert re.search(ROOTS[name], text), f"the loops of {name} are not vectorized"
    lower = "\n".join(loops("baseline"))
    assert not any(re.search(pattern, lower) for name, pattern in OWN.items() if name != "baseline")
    assert "x86_v4" not in _core.isas() or not re.search(OWN["x86_v4"], "\n".join(loops("x86_v3")))


def compile_kernels(*flags):
    compiler = os.environ.get("CC", "cc")
    if shutil.which(compiler) is None:
        pytest.fail(f"{compiler} is not installed: the build needs it too")
    definitions = ["-DINSTEP_ISA=baseline", "-DINSTEP_TYPE=float", "-DINSTEP_DTYPE=f32"]
    command = [compiler, "-std=c11", "-O3", *flags, *definitions, "-S", "-o", os.devnull, str(SOURCES / "kernels.c")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.compiler
@pytest.mark.parametrize("flags", [["-ffast-math"], ["-Ofast"]], ids=" ".join)
def test_fast_math_does_not_compile(flags):
    process = compile_kernels(*flags)
    assert process.returncode != 0
    assert "the bits of a step are a promise" in process.stderr


@pytest.mark.compiler
def test_the_loops_compile_without_it():
    process = compile_kernels("-ffp-contract=off", "-fno-math-errno")
    assert process.returncode == 0, process.stderr


# ---- show_config and the command --------------------------------------------------------------------------------


def test_show_config():
    config = instep.show_config("dicts")
    assert list(config) == ["version", "python", "numpy", "compiler", "flags", "instruction sets", "threads"]
    sets = config["instruction sets"]
    assert sets["built"] == list(_core.isas())
    assert sets["built"][0] == "baseline"
    assert sets["active"] in sets["available"]
    assert set(sets["available"]) <= set(sets["built"])
    assert list(config["flags"]) == sets["built"]
    for flags in config["flags"].values():
        assert "native" not in flags
        assert "-ffp-contract=off" in flags or "/fp:precise" in flags
    assert config["version"] == instep.__version__
    assert config["numpy"] == np.__version__
    assert config["threads"] == instep.get_num_threads()


def test_show_config_follows_what_is_forced(isa):
    assert instep.show_config("dicts")["instruction sets"]["active"] == isa


def test_show_config_prints(capsys):
    assert instep.show_config() is None
    printed = capsys.readouterr().out
    for value in (instep.__version__, _core.active_isa(), *_core.isas()):
        assert value in printed


def test_show_config_of_another_mode():
    with pytest.raises(ValueError, match="'stdout' or 'dicts', not 'json'"):
        instep.show_config("json")


def test_the_command_info():
    command = [sys.executable, "-m", "instep", "info"]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert instep.__version__ in process.stdout
    for name in _core.isas():
        assert name in process.stdout


def test_the_command_without_a_subcommand_lists_them():
    process = subprocess.run([sys.executable, "-m", "instep"], capture_output=True, text=True, check=True)
    assert "info" in process.stdout
