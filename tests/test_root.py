"""The root without the divider is the divider's in every bit: see csrc/root.h and tests/c/test_root.c."""

import re
import subprocess
from pathlib import Path

import pytest

from instep import _core

ROOT = Path(__file__).parents[1]
FLAGS = ["-std=gnu11", "-O2", "-march=x86-64-v4", "-ffp-contract=off"]


def root_program(folder, header):
    """What tests/c/test_root.c says of this root.h, its exit status first."""
    (folder / "root.h").write_text(header)
    (folder / "float_mode.h").write_text((ROOT / "csrc/float_mode.h").read_text())
    program = folder / "test_root"
    source = ROOT / "tests/c/test_root.c"
    subprocess.run(["cc", *FLAGS, f"-I{folder}", source, "-lm", "-o", program], check=True, timeout=60)
    return program


@pytest.mark.compiler
@pytest.mark.skipif(not _core.isas().get("x86_v4_fma"), reason="needs AVX-512, as x86_v4_fma itself does")
def test_every_root(tmp_path, soak):
    program = root_program(tmp_path, (ROOT / "csrc/root.h").read_text())
    done = subprocess.run([program, *(["every"] if soak else [])], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout


@pytest.mark.compiler
@pytest.mark.skipif(not _core.isas().get("x86_v4_fma"), reason="needs AVX-512, as x86_v4_fma itself does")
@pytest.mark.parametrize(
    "change",
    [
        (r"0x1\.fffffep-2f", "0.5f"),  # the largest number below 4 comes out as a power of 2
        (r"    g = _mm512_fmadd_ps\(_mm512_fnmadd.*\n", ""),
        (r"    g = last_line_of_doubles.*\n", ""),
        (r"    h = _mm512_fmadd_round_pd.*\n", ""),
        (r"fmadd_pd\(_mm512_fnmadd_pd\(g, g, x\), h, g\)", "fmadd_pd(_mm512_fnmadd_pd(g, g, x), h, h)"),
        (r"0x1p-100f", "0x1p-120f"),  # residuals are flushed
        ("0x00100100", "0x00000100"),  # infinity
    ],
)
def test_a_root_that_is_wrong_is_seen(tmp_path, change):
    old, new = change
    header, found = re.subn(old, new, (ROOT / "csrc/root.h").read_text())
    assert found == 1, old
    done = subprocess.run([root_program(tmp_path, header)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 1, "the planted bug was not seen"
