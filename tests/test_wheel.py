"""What is shipped: how the binaries are made, and with ``--soak`` that a commit makes one wheel, everywhere."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import instep

PROJECT = Path(__file__).parents[1]
PACKAGE = Path(instep.__file__).parent
EXTENSIONS = sorted(PACKAGE.glob("_*.so"))
C_API = re.findall(r"^INSTEP_API .*?(instep_\w+)\(", Path(instep.get_include(), "instep.h").read_text(), re.MULTILINE)
OF_THE_SYSTEM = {"libc.so.6", "libm.so.6", "libpthread.so.0", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
# The glibc of the image that wheels are built in, and what a newer one has under a newer version: the functions of
# libpthread moved into libc until 2.34, and from 2.38 on numbers are read as in C23.
OLDEST_GLIBC = (2, 28)
RENEWED = re.compile(r"pthread_\w+|__isoc23_\w+")
LARGEST_WHEEL = 712_000
COMMIT_DATE = "1700000000"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into ELF files")


def run(*words, **env):
    done = subprocess.run(
        [*map(str, words)], env={**os.environ, **env}, capture_output=True, text=True, check=False
    )  # fmt: skip
    if done.returncode != 0:
        pytest.fail(f"{' '.join(map(str, words))} failed:\n{done.stdout[-5000:]}{done.stderr[-5000:]}")
    return done.stdout


def readelf(option, file):
    if shutil.which("readelf") is None:
        pytest.fail("readelf is not on the PATH; where there is no linker, run: pytest -m 'not compiler'")
    return run("readelf", "--wide", option, file, LC_ALL="C")


def symbols(file):
    """What is visible outside of it, and what it takes from others: names without versions."""
    table = [line.split() for line in readelf("--dyn-syms", file).splitlines()]
    names = [(row[6], row[7].split("@")[0]) for row in table if len(row) >= 8 and row[0][:-1].isdigit()]
    return {name for section, name in names if section != "UND"}, {name for section, name in names if section == "UND"}


def versions(file):
    """What it takes from the C library, each with the version that it asks for."""
    found = re.findall(r" UND (\w+)@GLIBC_([\d.]+)", readelf("--dyn-syms", file))
    return {name: tuple(map(int, version.split("."))) for name, version in found}


@pytest.fixture(params=EXTENSIONS, ids=lambda file: file.name.split(".")[0])
def extension(request):
    return request.param


def test_there_are_extensions():
    assert "_core" in [file.name.split(".")[0] for file in EXTENSIONS]


@pytest.mark.compiler
def test_hardened(extension):
    segments, dynamic = readelf("--segments", extension), readelf("--dynamic", extension)
    assert re.search(r"GNU_STACK .* RW ", segments)
    assert "GNU_RELRO" in segments
    assert re.search(r"\(FLAGS\) .*BIND_NOW", dynamic)
    assert "RPATH" not in dynamic
    assert "RUNPATH" not in dynamic
    assert not re.search(r"LOAD .* RWE ", segments)
    taken = symbols(extension)[1]
    assert "__stack_chk_fail" in taken
    if extension.name.startswith("_core."):  # the other calls nothing of which there is a checked version
        assert any(name.endswith("_chk") for name in taken)


@pytest.mark.compiler
def test_exports_its_init_and_the_c_api_alone(extension):
    init = f"PyInit_{extension.name.split('.')[0]}"
    exported = symbols(extension)[0]
    assert init in exported
    assert exported - {init} <= set(C_API)
    if init == "PyInit__core":
        assert exported == {init, *C_API}


@pytest.mark.compiler
def test_brings_no_runtime(extension):
    assert set(re.findall(r"\(NEEDED\) .*\[(.*)\]", readelf("--dynamic", extension))) <= OF_THE_SYSTEM


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this interpreter has the GIL")
def test_the_import_leaves_the_gil_off():
    run(sys.executable, "-c", "import sys, instep._core, instep._bench; sys.exit(sys._is_gil_enabled())")


@pytest.mark.compiler
def test_takes_nothing_that_an_older_system_lacks(extension):
    taken = versions(extension)
    assert taken
    newer = [name for name, version in taken.items() if version > OLDEST_GLIBC]
    assert [name for name in newer if not RENEWED.fullmatch(name)] == []


@pytest.mark.compiler
def test_profilers_see_the_kernels_by_name(extension):
    """In one copy, which the benchmark measures too."""
    kernels = re.findall(r" (instep_rmsprop_f(?:32|64)_\w+)$", readelf("--symbols", extension), re.MULTILINE)
    isas = set(instep._core.isas()) if extension.name.startswith("_core.") else set()
    assert {name.split("_", 3)[3] for name in kernels} == isas


def test_tells_no_path_of_the_build(extension):
    for path in (str(PROJECT), f"{PROJECT.name}/src"):  # a relative one too, such as ../../there/instep/src
        assert path.encode() not in extension.read_bytes()


def test_has_what_other_compiled_code_needs_and_no_sources():
    shipped = {file.relative_to(PACKAGE).as_posix() for file in PACKAGE.rglob("*") if "__pycache__" not in file.parts}
    assert {"__init__.pxd", "functions.pxi", "py.typed", "include/instep.h", "include/instep_capi.h"} <= shipped
    assert not [name for name in shipped if name.endswith((".pyx", ".c", ".o", ".a"))]


# ---- built here, which takes a minute ---------------------------------------------------------------------------


def build(kind, project, out, umask=-1):
    """Run the build backend as a frontend does, without a network."""
    call = f"import scikit_build_core.build as b, sys; b.build_{kind}(sys.argv[1])"
    out.mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-c", call, out],
        cwd=project,
        env={**os.environ, "SOURCE_DATE_EPOCH": COMMIT_DATE, "PIP_NO_INDEX": "1"},
        umask=umask,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(f"the {kind} of {project} does not build:\n{done.stdout[-5000:]}{done.stderr[-5000:]}")
    return next(out.iterdir())


def unpacked(sdist, folder, umask):
    """The project in a folder, with the modes that git gives its files under this umask."""
    folder.mkdir(parents=True)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    for file in filter(Path.is_file, folder.rglob("*")):
        file.chmod((file.stat().st_mode | 0o666) & ~umask)
    return next(folder.iterdir())


def digest(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def built(soak, tmp_path_factory):
    """An sdist of the project, and the wheels of two folders that it was unpacked into, by users with other umasks."""
    if not soak:
        pytest.skip("builds two wheels: pytest --soak tests/test_wheel.py")
    folder = tmp_path_factory.mktemp("built")
    sdist = build("sdist", PROJECT, folder / "sdist")
    places, wheels = [], []
    for place, umask in [(folder / "a", 0o002), (folder / "elsewhere" / "and" / "deeper", 0o077)]:
        places.append(unpacked(sdist, place, umask))
        wheels.append(build("wheel", places[-1], place / "wheel", umask))
    return sdist, places, wheels


@pytest.mark.compiler
def test_two_builds_have_one_hash(built):
    first, second = built[2]
    assert digest(first) == digest(second)


@pytest.mark.compiler
def test_the_sdist_makes_itself(built, tmp_path):
    sdist, places, _ = built
    assert digest(build("sdist", places[0], tmp_path / "again")) == digest(sdist)


@pytest.mark.compiler
def test_the_wheel_is_small_and_holds_the_package_and_its_command_alone(built):
    wheel = built[2][0]
    assert wheel.stat().st_size < LARGEST_WHEEL
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        roots = {name.split("/")[0] for name in names}
        assert roots == {"instep", "_instep_command.py", f"instep-{instep.__version__}.dist-info"}
        assert {f"instep/{file.name}" for file in EXTENSIONS} <= set(names)


@pytest.mark.compiler
def test_the_tag_is_as_old_as_the_symbols(built, tmp_path):
    """Nor is anything grafted in, which would be a foreign runtime."""
    if importlib.util.find_spec("auditwheel") is None:
        pytest.skip("auditwheel is absent: nox -s wheels")
    wheel = built[2][0]
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "unpacked")
    extensions = list((tmp_path / "unpacked").rglob("*.so"))
    newest = max(version for file in extensions for version in versions(file).values())
    report = run(sys.executable, "-m", "auditwheel", "show", wheel)
    tag = re.search(r"platform tag:\s+\"manylinux_(\d+)_(\d+)_", report)
    assert tag, report
    assert (int(tag[1]), int(tag[2])) == newest

    run(sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", tmp_path / "repaired", wheel)
    (repaired,) = (tmp_path / "repaired").iterdir()
    assert f"manylinux_{tag[1]}_{tag[2]}_" in repaired.name
    with zipfile.ZipFile(wheel) as before, zipfile.ZipFile(repaired) as after:
        assert {name for name in after.namelist() if not name.endswith("/")} == set(before.namelist())
        for file in extensions:
            name = file.relative_to(tmp_path / "unpacked").as_posix()
            assert after.read(name) == before.read(name), name
