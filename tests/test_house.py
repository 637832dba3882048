"""The house is in order: what one list has, all others have.  A failure says what is missing, in a sentence."""

import ast
import builtins
import doctest
import importlib
import inspect
import itertools
import json
import pickle
import pkgutil
import pydoc
import re
import subprocess
import sys
import tomllib
import typing
from pathlib import Path

import numpy as np
import pytest

import buffers
import instep
import keywords
from instep import _core
from instep._core import Options
from instep.documentation import filled
from instep.optimizers import Optimizer
from peers import peer
from trials import CLASSES, ENDS, NUMBERS, function, one_of_each_loop, ranges, states_of

ROOT = Path(__file__).parents[1]


def options_of(callable_object):
    """The keyword arguments with their defaults, without states and counts."""
    parameters = inspect.signature(callable_object).parameters.values()
    found = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    options = {name: default for name, default in found.items() if name != "step_count"}
    return {name: default for name, default in options.items() if isinstance(default, float | int)}


def documented(docstring):
    """What stands to the left of the colons in the section of parameters."""
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\w[^\n]*\n-+\n|\Z)", inspect.cleandoc(docstring), re.M | re.S)
    names = re.findall(r"^(\S[^:\n]*?)(?: :.*)?$", section[1], re.M) if section else []
    return {name.strip().lstrip("*") for line in names for name in line.split(",")}


# ---- every rule is everywhere -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", _core.rules())
def test_the_rule_is_public(name):
    """What the other tests take for granted of a rule: they leave one without it out."""
    cls = Optimizer._of_rule.get(name)
    at_home = f"src/instep/rules/{name}.py and src/instep/__init__.py"
    assert cls, f'csrc/rules.def has the rule {name}: no class with rule = "{name}" is imported; look into {at_home}'
    assert hasattr(instep, name), f"there is no instep.{name}, the function of one array: look into {at_home}"
    for exported in (cls.__name__, name):
        assert exported in instep.__all__, f"instep.__all__ does not have {exported}"
    assert getattr(instep, cls.__name__) is cls, f"instep.{cls.__name__} is not the class of {name}"
    assert hasattr(instep.reference, name), f"instep.{name} has no NumPy twin: it must be decorated with @native"


def test_every_state_is_declared():
    """With C's default a state that is not would start at 0 and hold any number."""
    roll_call = (ROOT / "csrc/rules.def").read_text()
    for rule, loop, count, names in re.findall(
        r"^LOOP\((\w+), (\w+), (\d+), (?:NAMES\((.*)\)|NONE)\)", roll_call, re.M
    ):
        names = re.findall(r"\w+", names)
        assert len(names) == int(count), f"csrc/rules.def: LOOP {loop} says {count} states and names {len(names)}"
        for name in names:
            assert f"STATE({rule}, {name}," in roll_call, f"csrc/rules.def: {loop} has {name}, which no STATE declares"


def test_every_range_is_tried(rule):
    for name, span in ranges(rule).items():
        assert span in NUMBERS, f"tests/trials.py has no NUMBERS in the range {span!r} of {name} of {rule}"
        assert span in ENDS, f"tests/trials.py has no ENDS of the range {span!r} of {name} of {rule}"


VARIANTS = {
    name: value
    for name, value in vars(instep).items()
    if isinstance(value, type) and issubclass(value, Optimizer) and value is not Optimizer
}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_class_and_its_function_have_the_same_defaults(name):
    cls, step = VARIANTS[name], getattr(instep, name.lower(), None)
    assert step, f"there is no instep.{name.lower()}, the function of instep.{name}"
    assert list(options_of(cls)) == list(_core.rules()[cls.rule]), f"the signature of instep.{name} has other options"
    for option, default in options_of(cls).items():
        given = options_of(step).get(option)
        same = (given, type(given)) == (default, type(default)) or option not in Options(cls.rule).of_formula
        assert same, f"instep.{name.lower()}: {option}={given!r}, but instep.{name} has {default!r}"
        assert getattr(cls, option).default == default, f"instep.{name}.{option} is not the option of its signature"
    of_formula = Options(cls.rule).of_formula
    assert list(options_of(step)) == of_formula, f"instep.{name.lower()}: its options are in another order"


@pytest.mark.parametrize("name", VARIANTS)
def test_the_function_and_its_twin_have_one_signature(name):
    step, twin = getattr(instep, name.lower()), getattr(instep.reference, name.lower())
    parameters = [[(p.name, p.kind, p.default) for p in inspect.signature(f).parameters.values()] for f in (step, twin)]
    assert parameters[0] == parameters[1], f"instep.{name.lower()} and its twin have other signatures"


@pytest.mark.parametrize("name", VARIANTS)
def test_the_function_is_found_by_its_name(name):
    """By who reads a traceback, and by pickle, which multiprocessing goes by."""
    for step in (getattr(instep, name.lower()), getattr(instep.reference, name.lower())):
        assert step.__qualname__ == step.__name__ == name.lower()
        assert pickle.loads(pickle.dumps(step)) is step
    assert sorted(map(str.lower, VARIANTS)) == dir(instep.reference)
    with pytest.raises(AttributeError, match=r"instep\.reference has no 'adan'; it has .*adamw, .*yogi"):
        instep.reference.adan  # noqa: B018


def test_every_option_is_an_attribute(rule):
    for name in _core.rules()[rule]:
        assert isinstance(getattr(CLASSES[rule], name, None), _core.Option), (
            f"{CLASSES[rule].__name__} has no attribute {name}"
        )


@pytest.mark.parametrize("name", VARIANTS)
def test_every_option_is_typed(name):
    for where in (VARIANTS[name], getattr(instep, name.lower())):
        hints = typing.get_type_hints(where)
        for option, default in options_of(where).items():
            assert hints.get(option) is type(default), (
                f"{where.__qualname__}: {option} must be annotated as {type(default).__name__}"
            )
    assert hints["return"] is type(None), f"{where.__qualname__} must be annotated as returning None"


@pytest.mark.parametrize("name", VARIANTS)
def test_every_option_is_documented(name):
    for where in (VARIANTS[name], getattr(instep, name.lower())):
        missing = set(options_of(where)) - documented(where.__doc__)
        assert not missing, f"the docstring of {where.__qualname__} does not describe {', '.join(sorted(missing))}"


def test_every_state_is_documented(rule):
    for options in one_of_each_loop(rule):
        for name in states_of(rule, options):
            assert name in documented(function(rule).__doc__), f"the docstring of {rule} does not describe {name}"
            assert name in CLASSES[rule].__doc__, f"the docstring of {CLASSES[rule].__name__} does not speak of {name}"


@pytest.mark.parametrize("name", VARIANTS)
def test_every_preset_has_options_that_there_are(name):
    for framework, options in instep.presets(name.lower()).items():
        unknown = set(options) - set(_core.rules()[VARIANTS[name].rule])
        assert not unknown, f"preset {framework} of {name} has options that there are not: {', '.join(unknown)}"


# ---- docstrings, types, examples --------------------------------------------------------------------------------


def is_property(member):
    """In Python or in Cython."""
    return isinstance(member, property) or inspect.isgetsetdescriptor(member)


def public_objects():
    """What users call, by its full name."""
    found = {}
    exported = {name: getattr(instep, name) for name in instep.__all__ if hasattr(instep, name)}  # all: below
    for module in ("around", "interchange", "schedules", "storage"):
        values = importlib.import_module(f"instep.{module}")
        exported |= {f"{module}.{name}": getattr(values, name) for name in values.__all__}
    for name, value in exported.items():
        if inspect.isclass(value):
            found[name] = value
            for attribute, member in inspect.getmembers(value) if not issubclass(value, Exception) else []:
                if (
                    not attribute.startswith("_")
                    and not hasattr(tuple, attribute)
                    and (inspect.isroutine(member) or is_property(member))
                ):
                    found[f"{name}.{attribute}"] = member
        elif callable(value):
            found[name] = value
    return found


PUBLIC = public_objects()


@pytest.mark.parametrize("name", PUBLIC)
def test_docstring(name):
    docstring = inspect.getdoc(PUBLIC[name])
    assert docstring, f"instep.{name} has no docstring"
    summary = docstring.split("\n\n")[0]
    assert summary.endswith((".", "::")), f"instep.{name}: the summary must be a sentence: {summary!r}"
    assert "\n" not in summary or len(summary) < 360, f"instep.{name}: the summary is a chapter"


@pytest.mark.parametrize("name", [name for name in PUBLIC if not is_property(PUBLIC[name])])
def test_every_argument_is_documented(name):
    value = PUBLIC[name]
    not_called = (Optimizer, instep.schedules.Schedule)
    if value in not_called or (inspect.isclass(value) and issubclass(value, Exception)):
        return
    try:
        parameters = [p for p in inspect.signature(value).parameters if p not in ("self", "cls")]
    except ValueError:  # Cython's methods carry their signature in the stub alone
        return
    docstring = inspect.getdoc(value)
    if "Parameters\n---" not in docstring:
        missing = [p for p in parameters if not re.search(rf"\b{p}\b", docstring)]
    else:
        missing = set(parameters) - documented(docstring)
    assert not missing, f"the docstring of instep.{name} does not describe {', '.join(sorted(missing))}"


def section(docstring, heading):
    """The lines of a numpydoc section that are not indented: the names of what it lists."""
    _, _, rest = docstring.partition(f"{heading}\n{'-' * len(heading)}\n")
    rest = re.split(r"^\w+\n-{3,}$", rest, flags=re.M)[0]
    return [line for line in rest.splitlines() if line and not line.startswith(" ")]


@pytest.mark.parametrize("name", PUBLIC)
def test_only_exceptions_are_raised(name):
    """A sentence at the end of the section would be listed as one more."""
    for line in section(inspect.getdoc(PUBLIC[name]), "Raises"):
        for raised in line.split(", "):
            known = getattr(builtins, raised, getattr(instep, raised, None))
            is_exception = inspect.isclass(known) and issubclass(known, Exception)
            assert is_exception, f"instep.{name}: {raised!r} stands among what is raised, where a name is expected"


@pytest.mark.parametrize("name", [name for name in PUBLIC if is_property(PUBLIC[name])])
def test_a_property_does_not_begin_with_what_reads_as_its_type(name):
    """In numpydoc, what stands before a colon in an attribute's docstring is its type."""
    summary = inspect.getdoc(PUBLIC[name]).splitlines()[0]
    assert ":" not in summary, f"instep.{name}: {summary!r} reads as a type and a description"


@pytest.mark.parametrize("name", PUBLIC)
def test_no_signature_shows_an_object(name):
    if is_property(PUBLIC[name]) or PUBLIC[name] is instep.CheckpointError:
        return
    shown = str(inspect.signature(PUBLIC[name]))
    assert not re.search(r" at 0x|<[a-z]", shown), f"instep.{name}{shown}"


def test_the_signature_in_the_docstring_of_rows_is_that_of_their_constructor():
    assert list(inspect.signature(instep.Rows).parameters) == ["indices", "values"]
    rows = instep.Rows(indices=np.array([1]), values=np.ones((1, 2)))
    assert (rows.indices, rows.values.shape) == (1, (1, 2))


@pytest.mark.parametrize("name", [name for name in PUBLIC if inspect.isclass(PUBLIC[name])])
def test_help_shows_nothing_of_the_compiler(name):
    shown = pydoc.render_doc(PUBLIC[name], renderer=pydoc.plaintext)
    if issubclass(PUBLIC[name], Optimizer):  # whose subclasses, and other modules, need its table of functions
        shown = shown.replace("__pyx_vtable__", "")
    assert not re.search(r"pyx|cython", shown), f"help(instep.{name}) shows {re.findall(r'.*(?:pyx|cython).*', shown)}"


def test_all_is_there():
    for name in instep.__all__:
        assert hasattr(instep, name), f"instep.__all__ names {name}, which there is not"
    public = {name for name, value in vars(instep).items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert public <= set(instep.__all__), f"instep.__all__ lacks {', '.join(public - set(instep.__all__))}"


# That of instep.mpi are run by test_mpi.py, in a process that may start MPI.
MODULES = [
    module.name
    for module in pkgutil.walk_packages(instep.__path__, "instep.")
    if "._" not in module.name and module.name != "instep.mpi"
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name.partition(".")[0] == "instep":
            raise
        pytest.skip(f"{error.name} is absent")
    failed, _ = doctest.testmod(module)
    assert failed == 0, f"{failed} examples in the docstrings of {name} fail: python -m doctest shows them"


@pytest.mark.parametrize("name", VARIANTS)
def test_the_rules_have_examples(name):
    for where in (VARIANTS[name], getattr(instep, name.lower())):
        assert ">>> " in where.__doc__, f"the docstring of {where.__qualname__} has no example"


def names_in_stub(path):
    """What a stub declares: its names, and those of its classes as class.name."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.AnnAssign):
            names.add(node.target.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{f.name}" for f in node.body if isinstance(f, ast.FunctionDef)}
            names |= {f"{node.name}.{f.target.id}" for f in node.body if isinstance(f, ast.AnnAssign)}
    return names


def names_at_run_time(module):
    names = {name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__}
    for owner in [name for name in names if inspect.isclass(getattr(module, name))]:
        members = vars(getattr(module, owner))
        names |= {f"{owner}.{name}" for name in members if not name.startswith("__") and "cython" not in name}
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("stub", sorted((ROOT / "src/instep").glob("*.pyi")), ids=lambda path: path.stem)
def test_the_stub_has_what_the_module_has(stub):
    if stub.stem == "_torch":
        peer("torch")
    module = importlib.import_module(f"instep.{stub.stem}")
    declared = names_in_stub(stub)
    private = {name for name, value in vars(module).items() if inspect.isclass(value)} - declared
    lacking = {name for name in names_at_run_time(module) - declared if name.split(".")[0] not in private}
    assert not lacking, f"{stub.name} lacks {', '.join(sorted(lacking))}"
    for name in declared:
        owner = module
        for part in name.split("."):
            assert hasattr(owner, part), f"{stub.name} declares {name}, which instep.{stub.stem} does not have"
            owner = getattr(owner, part)


def test_the_import_brings_nothing_that_numpy_did_not():
    script = "import sys, numpy; before = set(sys.modules); import instep; print(*set(sys.modules) - before)"
    listed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    foreign = {name for name in listed.stdout.split() if not name.startswith(("instep", "_cython", "cython_runtime"))}
    assert foreign <= {"__future__"}, f"import instep also imports {', '.join(sorted(foreign))}"


def test_the_package_is_typed():
    assert (Path(instep.__file__).parent / "py.typed").exists(), "src/instep/py.typed is not installed"


def test_the_contents_have_every_page():
    docs = ROOT / "docs"
    index = (docs / "index.md").read_text()
    for path in docs.rglob("*.md"):
        page = path.relative_to(docs).with_suffix("").as_posix()
        if page != "index" and not page.startswith("reference/api/"):
            assert re.search(rf"^{page}$", index, re.M), f"the contents in docs/index.md do not have {page}"


def test_parts_of_docstrings_are_found_where_python_takes_the_indentation_away():
    """As it does from 3.13 on, before a class has its docstring."""
    indented = "A rule.\n\n    {bits}\n\n    Parameters\n    ----------\n    {params}\n    {options of RMSprop}\n    "
    found = [filled(docstring, ("rho", "eps")) for docstring in (indented, inspect.cleandoc(indented) + "\n")]
    assert "{" not in found[0]
    assert inspect.cleandoc(found[0]) == inspect.cleandoc(found[1])


# ---- the files of the repository --------------------------------------------------------------------------------

HOME = re.compile(r"/(home|root|work|Users)/\w")
TEXT = {
    ".py",
    ".pyx",
    ".pxd",
    ".pxi",
    ".pyi",
    ".c",
    ".h",
    ".def",
    ".md",
    ".toml",
    ".txt",
    ".yml",
    ".yaml",
    ".cmake",
    "",
}


def tracked_files():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    names = listed.stdout.split("\n") if listed.returncode == 0 else []
    names = [name for name in names if name] or [
        str(path.relative_to(ROOT)) for folder in ("src", "csrc", "tests") for path in (ROOT / folder).rglob("*.*")
    ]
    return [path for name in names if (path := ROOT / name).is_file() and path.suffix in TEXT]


def test_the_tools_run_tests_that_there_are():
    """Pytest stops at a name that it does not find, and a tool is not run every day."""
    named = re.findall(r"(tests/\w+\.py)::(\w+)(\[)?", (ROOT / "noxfile.py").read_text())
    assert named
    for file, test, parameter in named:
        assert f"\ndef {test}(" in (ROOT / file).read_text(), f"noxfile.py: {file} has no {test}"
        assert not parameter, f"noxfile.py names a parameter of {test}, which another may stand before"


def test_no_file_names_a_home():
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked_files()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if HOME.search(line)
    ]
    assert not found, f"a path of somebody's machine stands in {', '.join(found)}"


def test_two_builds_of_this_tree_have_folders_of_their_own():
    """Which is where scikit-build-core builds unless it is told; who builds again and again tells it."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["scikit-build"]
    assert "build-dir" not in settings, "two builds at once would write into the same folder"
    assert "--no-build-isolation -Cbuild-dir=build/python ." in (ROOT / "CONTRIBUTING.md").read_text()


def test_the_table_of_buffers_is_the_one_that_is_tested(capsys):
    buffers.main()
    page = (ROOT / "docs/reference/buffers.md").read_text()
    assert f"<!-- buffers -->\n{capsys.readouterr().out}<!-- /buffers -->" in page


def test_the_table_of_keywords_is_what_they_do(capsys):
    keywords.main()
    page = (ROOT / "docs/reference/keywords.md").read_text()
    assert f"<!-- keywords -->\n{capsys.readouterr().out}<!-- /keywords -->" in page, (
        "run python tests/keywords.py, and put what it prints into docs/reference/keywords.md"
    )


def test_the_page_on_groups_has_all_options_of_the_step():
    page = (ROOT / "docs/how-to/groups.md").read_text()
    sentence = page[page.index("Options of the step as a whole") : page.index("Groups are in")]
    assert re.findall(r"`(\w+)`", sentence) == Options("rmsprop").of_step


def test_the_table_of_keywords_has_all_of_them():
    formula = {"params", *_core.Options("rmsprop").of_formula}
    listed = {name for values in keywords.KEYWORDS.values() for name in values}
    beside = {"state", "step_count"}  # which depend on all others: test_past_memory.py
    assert listed == set(inspect.signature(instep.RMSprop).parameters) - formula - beside


FOREIGN = ["mapped, r+", "from DLPack", "over a ctypes array", "over a bytearray"]
SHORT_TABLE = {
    "float32, ": ["float32", "misaligned by 1", "rows of a larger array", *FOREIGN],
    "strided, ": ["columns of a larger array", "every other element", "negative strides", "broadcast"],
    "read-only": ["read-only", "mapped, r"],
    "a list, ": ["nested lists of numbers", "torch.Tensor", "int32", "subclass of ndarray"],
}


def test_the_short_table_of_arrays_says_the_same():
    """The README's, a row for many kinds."""
    cells = {buffer.kind: (str(buffer.param), str(buffer.grad)) for buffer in buffers.BUFFERS}
    readme = (ROOT / "README.md").read_text()
    for start, kinds in SHORT_TABLE.items():
        row = re.search(rf"^\| {start}[^|]*\| (\S+?(?: place)?) \| (in place|copied|\w+)", readme, re.M)
        for kind in kinds:
            assert row.groups() == cells[kind], f"README.md, {start!r}: {kind} is {cells[kind]}"


def test_the_loop_that_the_readme_begins_with_has_the_bits_of_the_step(dtype):
    loop = re.search(r"^```python\n(for .*?)```", (ROOT / "README.md").read_text(), re.M | re.S)[1]
    rng = np.random.default_rng(0)
    grads = {"w": rng.normal(size=1000).astype(dtype)}
    params, stepped, average = ({"w": np.zeros(1000, dtype)} for _ in range(3))
    optimizer = instep.RMSprop(stepped, lr=1e-3)
    for _ in range(3):
        exec(loop, dict(np=np, params=params, grads=grads, average=average))
        optimizer.step(grads)
    assert params["w"].tobytes() == stepped["w"].tobytes()
    assert average["w"].tobytes() == optimizer.state["square_avg"]["w"].tobytes()


@pytest.mark.parametrize(("page", "measured"), [("README.md", "training"), ("docs/how-to/torch.md", "torch")])
def test_a_page_shows_the_saved_trainings(monkeypatch, page, measured):
    monkeypatch.syspath_prepend(ROOT / "bench")
    saved = json.loads(next(ROOT.glob(f"bench/results/{measured}/*.json")).read_text())
    text = (ROOT / page).read_text()
    again = getattr(importlib.import_module("write_readme"), f"with_{measured}")(text, saved)
    assert again == text, f"run bench/write_readme.py --{measured} with the result that {page} shows"


def test_every_script_of_the_benchmark_is_in_its_table():
    """Those of pytest-benchmark have one line for all."""
    table = (ROOT / "bench/README.md").read_text().split("\n\n")[1]
    for path in (ROOT / "bench").glob("*.py"):
        if path.name != "conftest.py" and not path.name.startswith("bench_"):
            assert f"`bench/{path.name}" in table, f"bench/README.md does not say what {path.name} is for"


def test_the_trainings_are_shown_with_their_spread_and_their_script():
    readme = (ROOT / "README.md").read_text()
    shown = readme.split("<!-- training -->")[1].split("<!-- /training -->")[0]
    assert "(bench/training.py)" in shown
    rows = [line for line in shown.splitlines() if re.match(r"\| \d", line)]
    assert rows
    for row in rows:
        for median, low, high in re.findall(r"([\d.]+) s \(([\d.]+) to ([\d.]+)\)", row):
            assert float(low) <= float(median) <= float(high)
        assert row.count(" to ") == 3


def test_every_test_file_is_in_the_table():
    table = (ROOT / "tests/README.md").read_text()
    for path in (ROOT / "tests").glob("test_*.py"):
        assert f"`{path.name}`" in table, f"tests/README.md does not say what {path.name} is for"


def test_every_bug_can_be_planted(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tests/mutants")
    for_suite, for_tools = map(importlib.import_module, ("for_suite", "for_tools"))
    for bug in itertools.chain(for_suite.BUGS, *for_tools.BUGS.values()):
        assert (ROOT / bug.file).read_text().count(bug.old) == 1, bug.name
    for bug in for_suite.BUGS:
        assert (ROOT / bug.caught_by.split()[0].split("::")[0]).exists(), bug.name
