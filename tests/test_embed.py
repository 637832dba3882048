"""instep in other people's programs: each is built as its author would, against what is installed, and run."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

import instep
from instep import _core
from peers import REQUIRED
from trials import CLASSES

PROJECT = Path(__file__).parents[1]
EMBED = Path(__file__).parent / "embed"
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
HEADER = Path(instep.get_include(), "instep.h").read_text()
FUNCTIONS = re.findall(r"^INSTEP_API .*?(instep_\w+)\(", HEADER, re.MULTILINE)
COMPILERS = ["gcc", "clang", "clang-16"]


def program(name):
    found = shutil.which(name, path=PATH)
    if found is None:
        pytest.fail(f"{name} is not on the PATH and is needed to build the embeddings; "
                    "where there is no compiler, run: pytest -m 'not compiler'")  # fmt: skip
    return found


def optional_program(name):
    """A C compiler is all that the suite asks for."""
    if not REQUIRED and shutil.which(name, path=PATH) is None:
        pytest.skip(f"{name} is not on the PATH")
    return program(name)


def run(*command, **env):
    words = [*map(str, [program(command[0]), *command[1:]])]
    done = subprocess.run(words, env={**os.environ, "PATH": PATH, **env}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"{' '.join(words)} failed:\n{done.stdout[-5000:]}{done.stderr[-5000:]}")
    return done.stdout


def build(source, folder, *options):
    run("cmake", "-S", source, "-B", folder, "-DCMAKE_COMPILE_WARNING_AS_ERROR=ON", *options)
    run("cmake", "--build", folder, "--parallel", "2")
    return folder


# ---- the C API is all there, however it is reached --------------------------------------------------------------


def address(name):
    return ctypes.cast(getattr(ctypes.CDLL(_core.__file__), name), ctypes.c_void_p).value


def pointer(capsule, name):
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return get(capsule, name)


def name_of(capsule):
    get = ctypes.pythonapi.PyCapsule_GetName
    get.restype, get.argtypes = ctypes.c_char_p, [ctypes.py_object]
    return get(capsule)


def test_the_header_is_installed_as_it_is():
    assert (PROJECT / "csrc/instep.h").read_text() == HEADER
    assert FUNCTIONS


def test_the_capsule_has_every_function_in_its_place():
    struct = Path(instep.get_include(), "instep_capi.h").read_text()
    members = re.findall(r"\(\*(\w+)\)\(", struct)
    assert [f"instep_{name}" for name in members] == [name for name in FUNCTIONS if name != "instep_abi_version"]
    size = ctypes.sizeof(ctypes.c_void_p)
    table = pointer(instep.C_API, b"instep.C_API")
    assert ctypes.c_int.from_address(table).value == ctypes.CDLL(_core.__file__).instep_abi_version()
    assert ctypes.c_size_t.from_address(table + size).value == (2 + len(members)) * size
    for place, name in enumerate(members, 2):
        assert ctypes.c_void_p.from_address(table + place * size).value == address(f"instep_{name}"), name


def lacking(file, pattern, expected):
    """What is missing in a file for Cython, in a sentence; it may be empty."""
    found = re.findall(pattern, (Path(instep.__file__).parent / file).read_text(), re.MULTILINE)
    absent = [name for name in expected if name not in found]
    assert set(found) <= set(expected)
    return f"{file} lacks {', '.join(absent)}, which instep.h has" if absent else ""


def test_cython_has_every_function_and_constant():
    assert not lacking("functions.pxi", r"(instep_\w+)\(", FUNCTIONS)
    assert set(instep.__pyx_capi__) == set(FUNCTIONS)
    for name, capsule in instep.__pyx_capi__.items():
        assert pointer(capsule, name_of(capsule)) == address(name), name
    constants = set(re.findall(r"^    (INSTEP_\w+) = ", HEADER, re.MULTILINE))
    constants |= set(re.findall(r"^#define (INSTEP_\w+) \d", HEADER, re.MULTILINE))
    constants |= {"INSTEP_FLOAT32", "INSTEP_FLOAT64"}
    assert not lacking("__init__.pxd", r"^ {8}(INSTEP_\w+)$", sorted(constants))


@pytest.mark.compiler
@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        ("", "no function is declared INSTEP_API"),
        ("INSTEP_API int instep_set(instep_optimizer *optimizer,\n    double value);\n", "no declaration of one line"),
        ("INSTEP_API int instep_sum(const double values[], size_t count);\n", "no declaration of one line"),
    ],
    ids=["none", "two lines", "not names alone"],
)
def test_a_declaration_that_is_not_understood_stops_the_build(header, complaint, tmp_path):
    (tmp_path / "csrc").mkdir()
    (tmp_path / "csrc/instep.h").write_text(header)
    (tmp_path / "CMakeLists.txt").write_text(f"""
        cmake_minimum_required(VERSION 3.26)
        project(other LANGUAGES NONE)
        include({PROJECT}/cmake/functions.cmake)
    """)
    command = [program("cmake"), "-S", tmp_path, "-B", tmp_path / "build"]
    done = subprocess.run(command, env={**os.environ, "PATH": PATH}, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert complaint in " ".join(done.stderr.split())


# ---- ctypes -----------------------------------------------------------------------------------------------------


def minimum(rule, n=100, steps=50):
    w, target = np.zeros(n), np.arange(n)
    optimizer = CLASSES[rule]([w], lr=0.25)
    for _ in range(steps):
        optimizer.step([2 * (w - target)])
    return " ".join(x.hex() for x in w.tolist())


def by_ctypes(library, rule):
    trainer = EMBED / "ctypes/trainer.py"
    return subprocess.check_output([sys.executable, trainer, library, rule, "100", "50"], text=True).strip()


def test_ctypes_reaches_the_functions_of_the_package(rule):
    assert by_ctypes(_core.__file__, rule) == minimum(rule)


def test_ctypes_with_structs_of_another_abi_is_refused(tmp_path):
    trainer = (EMBED / "ctypes/trainer.py").read_text()
    assert "ABI_VERSION = 1 " in trainer
    other = tmp_path / "trainer.py"
    other.write_text(trainer.replace("ABI_VERSION = 1 ", "ABI_VERSION = 2 "))
    done = subprocess.run(
        [sys.executable, other, _core.__file__, "rmsprop", "100", "50"], capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode != 0
    assert "another ABI version" in done.stderr


def test_ctypes_and_python_share_one_copy():
    library = ctypes.CDLL(_core.__file__)
    assert library.instep_set_threads(3) == 0
    assert instep.get_num_threads() == 3
    library.instep_set_isa(b"baseline")
    assert _core.active_isa() == "baseline"


# ---- C and C++ --------------------------------------------------------------------------------------------------


def available_compilers():
    return [name for name in COMPILERS if shutil.which(name, path=PATH)] or ["gcc"]


@pytest.fixture(scope="module", params=available_compilers())
def compiler(request):
    name = request.param
    return f"-DCMAKE_C_COMPILER={program(name)}"


@pytest.fixture(scope="module")
def prefix(tmp_path_factory, compiler):
    """Where `cmake --install` has put the library; that it was built without a warning is part of the test."""
    folder = tmp_path_factory.mktemp("library")
    build(PROJECT, folder / "build", compiler)
    run("cmake", "--install", folder / "build", "--prefix", folder / "prefix")
    shutil.rmtree(folder / "build")
    return folder / "prefix"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    x, y = load_breast_cancer(return_X_y=True)
    name = tmp_path_factory.mktemp("data") / "breast_cancer.txt"
    np.savetxt(name, np.column_stack([y, (x - x.mean(axis=0)) / x.std(axis=0)]), fmt="%.6g")
    return name


def with_cmake(prefix, folder, compiler, target):
    build(EMBED / "c", folder, f"-DCMAKE_PREFIX_PATH={prefix}", f"-DINSTEP_TARGET={target}", compiler)
    return folder / "logistic_regression"


@pytest.mark.compiler
def test_c_programs_find_the_library_and_agree(prefix, data, compiler, tmp_path):
    trainers = [
        with_cmake(prefix, tmp_path / "shared", compiler, "instep::instep"),
        with_cmake(prefix, tmp_path / "static", compiler, "instep::instep_static"),
    ]
    assert b"libinstep.so.1" in trainers[0].read_bytes()
    assert b"libinstep.so" not in trainers[1].read_bytes()
    isas = [name for name, runs in _core.isas().items() if runs]
    for rule in _core.rules():
        results = {run(trainer, data, rule, isa) for trainer in trainers for isa in isas}
        assert len(results) == 1
        accuracy, *weights = results.pop().split()
        assert float(accuracy) > 0.92, rule
        assert len(weights) == 31


def with_pkg_config(language, source, libraries, built):
    """Compile a program with the flags that pkg-config finds in this folder of libraries."""
    optional_program("pkg-config")
    flags = run("pkg-config", "--cflags", "--libs", "instep", PKG_CONFIG_PATH=str(libraries / "pkgconfig")).split()
    strict = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    words = [EMBED / "c" / source, *strict, *flags, "-lm", f"-Wl,-rpath,{libraries}", "-o", built]
    run(optional_program(language), *words)
    return built


@pytest.mark.compiler
@pytest.mark.parametrize(("language", "source"), [("cc", "logistic_regression.c"), ("c++", "one_buffer.cpp")])
def test_pkg_config_gives_the_flags(prefix, data, language, source, tmp_path):
    built = with_pkg_config(language, source, prefix / "lib", tmp_path / "program")
    assert float.fromhex(run(built, data).split()[-1])


@pytest.fixture(scope="module")
def build_folder(tmp_path_factory):
    """A build, to be configured anew: only where it is installed to differs."""
    return tmp_path_factory.mktemp("build")


def embeds(libraries, data, folder):
    """Whether both ways to find the library in this folder lead to programs that run."""
    found = f"-Dinstep_DIR={libraries}/cmake/instep"
    run(build(EMBED / "c", folder / "by_cmake", found) / "logistic_regression", data)
    run(with_pkg_config("cc", "logistic_regression.c", libraries, folder / "by_pkg_config"), data)


@pytest.mark.compiler
def test_libraries_may_be_installed_outside_of_the_prefix(build_folder, data, tmp_path):
    prefix, libraries = tmp_path / "prefix", tmp_path / "elsewhere/lib"
    options = [f"-DCMAKE_INSTALL_PREFIX={prefix}/", f"-DCMAKE_INSTALL_LIBDIR={libraries}"]
    run("cmake", "--install", build(PROJECT, build_folder, "-UCMAKE_INSTALL_*", *options))
    assert (prefix / "include/instep.h").exists()
    assert not list(prefix.rglob("*libinstep*"))
    embeds(libraries, data, tmp_path)
    run("cmake", "--install", build_folder, "--prefix", prefix)


@pytest.mark.compiler
def test_libraries_outside_of_the_prefix_are_of_one_prefix(build_folder, tmp_path):
    """What is installed there has the prefix in it."""
    options = [f"-DCMAKE_INSTALL_PREFIX={tmp_path}/prefix", f"-DCMAKE_INSTALL_LIBDIR={tmp_path}/lib"]
    build(PROJECT, build_folder, "-UCMAKE_INSTALL_*", *options)
    command = [program("cmake"), "--install", build_folder, "--prefix", tmp_path / "another"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert f"set CMAKE_INSTALL_PREFIX={tmp_path}/another when configuring" in " ".join(done.stderr.split())
    assert [path.name for path in tmp_path.iterdir()] == []


@pytest.mark.compiler
def test_the_header_may_be_installed_outside_of_the_prefix(build_folder, data, tmp_path):
    headers, prefix = tmp_path / "elsewhere/include", tmp_path / "prefix"
    build(PROJECT, build_folder, "-UCMAKE_INSTALL_*", f"-DCMAKE_INSTALL_INCLUDEDIR={headers}")
    run("cmake", "--install", build_folder, "--prefix", prefix)
    assert (headers / "instep.h").exists()
    assert not list(prefix.rglob("*.h"))
    embeds(prefix / "lib", data, tmp_path)


@pytest.mark.compiler
def test_a_project_built_by_scikit_build_core_may_have_this_one_inside(data, tmp_path):
    """Then it is the library that is asked for, and the other's wheel does not get what is not its own."""
    (tmp_path / "CMakeLists.txt").write_text(f"""
        cmake_minimum_required(VERSION 3.26)
        project(other LANGUAGES C)
        add_subdirectory({PROJECT} instep EXCLUDE_FROM_ALL)
        add_executable(other {EMBED}/c/logistic_regression.c)
        target_link_libraries(other PRIVATE instep::instep_static m)
        install(TARGETS other DESTINATION other)
    """)
    built = build(tmp_path, tmp_path / "build", "-DSKBUILD=2", "-DSKBUILD_PROJECT_NAME=other")
    run("cmake", "--install", built, "--prefix", tmp_path / "installed")
    assert [file.name for file in (tmp_path / "installed").rglob("*") if file.is_file()] == ["other"]
    run(tmp_path / "installed/other/other", data)


@pytest.mark.compiler
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the other processors have the baseline alone")
def test_a_project_built_for_newer_processors_may_have_this_one_inside(compiler, data, tmp_path):
    """What runs before the processor is known stays at the baseline; the project itself is what was asked for."""
    (tmp_path / "CMakeLists.txt").write_text(f"""
        cmake_minimum_required(VERSION 3.21)
        project(other LANGUAGES C)
        add_compile_options(-march=x86-64-v3)
        add_subdirectory({PROJECT} instep EXCLUDE_FROM_ALL)
        add_executable(other {EMBED}/c/logistic_regression.c)
        target_link_libraries(other PRIVATE instep::instep_static m)
    """)
    (tmp_path / "newer.h").write_text("__AVX__ __BMI2__ __SSE3__")
    flags = ["-DCMAKE_C_FLAGS=-march=native", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", compiler]
    build(tmp_path, tmp_path / "build", *flags)
    commands = json.loads((tmp_path / "build/compile_commands.json").read_text())
    for_any = [c["command"] for c in commands if re.search(r"instep_c_hidden\.dir|_baseline\.dir", c["command"])]
    assert len(for_any) > 2
    for command in for_any:
        words = [word for word in shlex.split(command) if word.startswith("-m")]
        macros = run(shlex.split(command)[0], *words, "-E", "-P", "-x", "c", tmp_path / "newer.h").split()
        assert macros == ["__AVX__", "__BMI2__", "__SSE3__"], command
    run(tmp_path / "build/other", data, "rmsprop", "baseline")


@pytest.mark.compiler
def test_programs_may_compare_the_functions_addresses(prefix, compiler, tmp_path):
    """Also those that are not position-independent, for which the linker puts the address into the program."""
    (tmp_path / "program.c").write_text("""
        #include <instep.h>
        int (*volatile function)(void) = instep_abi_version;
        int main(void) { return function != instep_abi_version || function() != INSTEP_ABI_VERSION; }
    """)
    flags = ["-fno-pie", "-no-pie", f"-I{prefix}/include", f"-L{prefix}/lib", f"-Wl,-rpath,{prefix}/lib"]
    run(compiler.split("=")[1], tmp_path / "program.c", *flags, "-linstep", "-o", tmp_path / "program")
    run(tmp_path / "program")


@pytest.mark.compiler
@pytest.mark.skipif(sys.platform != "linux", reason="asks nm for the dynamic symbols of ELF")
def test_a_shared_library_does_not_export_what_it_has_inside(prefix, compiler, tmp_path):
    """Two of them in a process, with two versions of instep inside, would step by the one that was loaded first."""
    (tmp_path / "other.c").write_text("""
        #include <instep.h>
        int other(instep_optimizer *optimizer, instep_array *array) { return instep_step(optimizer, array, 1); }
    """)
    flags = ["-shared", "-fPIC", f"-I{prefix}/include"]
    libraries = [f"{prefix}/lib/libinstep.a", "-pthread", "-lm"]
    run(compiler.split("=")[1], *flags, tmp_path / "other.c", *libraries, "-o", tmp_path / "other.so")
    exported = run("nm", "--dynamic", "--defined-only", tmp_path / "other.so").split()
    assert "other" in exported
    assert [name for name in exported if "instep" in name] == []
    assert "instep_step" in run("nm", tmp_path / "other.so").split()


@pytest.mark.compiler
@pytest.mark.parametrize("library", ["the C library", "the package"])
def test_its_own_calls_reach_no_other_copy(library, prefix):
    """They are bound when it is linked: none is left for the loader to look up in what else is loaded."""
    file = _core.__file__ if library == "the package" else prefix / "lib/libinstep.so"
    relocations = run("readelf", "--wide", "--relocs", file, LC_ALL="C")
    assert "pthread_create" in relocations
    assert re.findall(r" (instep_\w+)", relocations) == []


@pytest.mark.compiler
def test_without_posix_threads_the_steps_have_the_same_bits(tmp_path):
    """As on Windows, where a number of threads is taken and one is used."""
    outputs = []
    for threads in ("ON", "OFF"):
        folder = tmp_path / threads
        run("cmake", "-S", PROJECT / "tests/c", "-B", folder, f"-DINSTEP_THREADS={threads}")
        run("cmake", "--build", folder, "--target", "test_c_api", "--parallel", "2")
        taken = run("nm", "--undefined-only", "--no-sort", folder / "instep/libinstep.a")
        assert ("pthread_create" in taken) == (threads == "ON")
        outputs.append(run(folder / "test_c_api"))
    assert outputs[0] == outputs[1]
    assert "digest" in outputs[0]


@pytest.mark.compiler
def test_a_program_with_another_header_is_refused(prefix, data, tmp_path):
    header = re.sub(r"(#define INSTEP_ABI_VERSION) \d+", r"\1 2", HEADER)
    assert header != HEADER
    (tmp_path / "instep.h").write_text(header)
    source, built = EMBED / "c/logistic_regression.c", tmp_path / "program"
    run("cc", source, f"-I{tmp_path}", prefix / "lib/libinstep.so", f"-Wl,-rpath,{prefix / 'lib'}", "-lm", "-o", built)
    done = subprocess.run([built, data], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "another ABI version" in done.stderr
    assert done.stdout == ""


@pytest.mark.compiler
def test_ctypes_reaches_the_functions_of_the_library(prefix, rule):
    assert by_ctypes(prefix / "lib/libinstep.so", rule) == minimum(rule)


@pytest.mark.compiler
def test_the_licence_is_installed(prefix):
    assert (prefix / "share/licenses/instep/LICENSE").read_text() == (PROJECT / "LICENSE").read_text()


@pytest.mark.compiler
def test_what_is_installed_can_be_moved(prefix):
    for name in ("lib/pkgconfig/instep.pc", "lib/cmake/instep/instepTargets.cmake"):
        assert str(prefix) not in (prefix / name).read_text()
    assert str(PROJECT).encode() not in (prefix / "lib/libinstep.so").read_bytes()


def in_comment(text):
    """The code in a comment, which is what is indented in it."""
    return "\n".join(line[7:] for line in text.splitlines() if line.startswith(" *     ") or line == " *")


def compiles(code, folder, *options):
    (folder / "example.c").write_text(code)
    strict = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    run("cc", *strict, f"-I{instep.get_include()}", *options, folder / "example.c")


@pytest.mark.compiler
def test_the_examples_of_the_documentation_compile(tmp_path):
    examples = {}
    for page in (PROJECT / "docs").rglob("*.md"):
        for number, example in enumerate(re.findall(r"^```c\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)):
            examples[f"{page.stem} {number}"] = example
            arrays = "float *w, float *g, float *v, float *bias, float *bias_grad, float *bias_avg"
            compiles(f"""
                #include <instep.h>
                int fill_the_gradient(float *);
                void example(size_t n, {arrays}, uint16_t *w16, uint16_t *g16);
                void example(size_t n, {arrays}, uint16_t *w16, uint16_t *g16) {{ {example} }}
            """, tmp_path, "-Wno-unused")  # fmt: skip
    of_the_header = HEADER.split("One buffer, from beginning to end")[1].split("*/")[0]
    assert in_comment(of_the_header).split() == examples["c 0"].split()


@pytest.mark.compiler
def test_the_example_of_the_capsule_compiles(tmp_path):
    example = in_comment(Path(instep.get_include(), "instep_capi.h").read_text().split("*/")[0])
    includes = [line for line in example.splitlines() if line.startswith("#include")]
    body = [line for line in example.splitlines() if not line.startswith("#include")]
    assert len(includes) == 2
    function = "void *example(instep_optimizer optimizer, instep_array *arrays, size_t count)"
    lines = [*includes, function + ";", function, "{", *body, "return NULL;", "}"]
    compiles("\n".join(lines), tmp_path, f"-I{sysconfig.get_path('include')}")


# ---- Cython -----------------------------------------------------------------------------------------------------


@pytest.fixture
def downstream(tmp_path, monkeypatch):
    """A package of the files that the documentation shows, built and installed by itself."""
    program("cc")
    page = (PROJECT / "docs/how-to/cython.md").read_text()
    shown = re.findall(r"^```\{literalinclude\} .*/embed/cython/(.*)\n:caption: (.*)$", page, re.MULTILINE)
    for file, caption in [*shown, ("src/trainer/__init__.py", "src/trainer/__init__.py")]:
        assert file == caption
        (tmp_path / "cython" / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(EMBED / "cython" / file, tmp_path / "cython" / file)
    install = ["pip", "install", "--quiet", "--no-index", "--no-build-isolation", "--no-deps"]
    run(sys.executable, "-m", *install, "--target", tmp_path / "installed", tmp_path / "cython")
    monkeypatch.syspath_prepend(tmp_path / "installed")


@pytest.mark.compiler
def test_a_cython_package_trains_with_the_functions_of_the_package(downstream):
    from trainer import regression

    x, y = load_breast_cancer(return_X_y=True)
    x, y = np.ascontiguousarray((x - x.mean(axis=0)) / x.std(axis=0)), y.astype(np.float64)
    with ThreadPoolExecutor(4) as threads:  # it is declared safe without the GIL
        fits = [threads.submit(regression.fit, rule, x, y, 50, {"lr": 0.02}) for rule in CLASSES]
    for fit, (rule, cls) in zip(fits, CLASSES.items(), strict=True):
        w = np.zeros(x.shape[1])
        optimizer = cls([w], lr=0.02)
        for _ in range(50):
            optimizer.step([regression.gradient(x, y, w)])
        assert fit.result().tobytes() == w.tobytes()
        assert ((x @ w > 0) == y).mean() > 0.92, rule
    with pytest.raises(ValueError, match=r"rho=1 must be in \[0, 1\)"):
        regression.fit("rmsprop", x, y, 1, {"rho": 1})


@pytest.mark.compiler
def test_cython_finds_every_function(tmp_path, monkeypatch):
    source, module = tmp_path / "addresses.pyx", tmp_path / f"addresses{sysconfig.get_config_var('EXT_SUFFIX')}"
    addresses = ", ".join(f"'{name}': <uintptr_t>instep.{name}" for name in FUNCTIONS)
    source.write_text(f"cimport instep\nfrom libc.stdint cimport uintptr_t\nFUNCTIONS = {{{addresses}}}\n")
    directive = "freethreading_compatible=True"  # or the import would switch the GIL on
    run(sys.executable, "-m", "cython", "-3", "-X", directive, source, "-o", tmp_path / "addresses.c")
    includes = [f"-I{sysconfig.get_path('include')}", f"-I{instep.get_include()}"]
    run("cc", "-shared", "-fPIC", *includes, tmp_path / "addresses.c", "-o", module)
    monkeypatch.syspath_prepend(tmp_path)
    import addresses

    assert {name: address(name) for name in FUNCTIONS} == addresses.FUNCTIONS
