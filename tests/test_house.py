"""The house is in order: what one list has, all others have.  A failure says what is missing, in a sentence."""

import ast
import doctest
import importlib
import inspect
import itertools
import pkgutil
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import buffers
import instep
from instep import _core
from trials import CLASSES, NUMBERS, function, one_of_each_loop, states_of, twin

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def options_of(callable_object):
    """The keyword arguments with their defaults."""
    parameters = inspect.signature(callable_object).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def documented(docstring):
    """What stands to the left of the colons in the section of parameters."""
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\w[^\n]*\n-+\n|\Z)", inspect.cleandoc(docstring), re.M | re.S)
    names = re.findall(r"^(\S[^:\n]*?)(?: :.*)?$", section[1], re.M) if section else []
    return {name.strip().lstrip("*") for line in names for name in line.split(",")}


# ---- every rule is everywhere -----------------------------------------------------------------------------------


def test_every_class_has_a_rule():
    assert set(CLASSES) == set(_core.rules()), "a rule of csrc/rules.def has no class in src/instep/optimizers.py"


def test_the_rule_is_public(rule):
    name = CLASSES[rule].__name__
    assert name in instep.__all__, f"instep.__all__ does not have {name}"
    assert rule in instep.__all__, f"instep.__all__ does not have {rule}"
    assert getattr(instep, name) is CLASSES[rule], f"instep.{name} is not the class of {rule}"
    assert callable(function(rule)), f"src/instep/optimizers.py has no {rule}"
    assert callable(twin(rule)), f"src/instep/reference.py has no {rule}"


def test_the_defaults_are_the_registry_s(rule):
    registry = _core.rules()[rule]
    for where in (CLASSES[rule].__init__, function(rule), twin(rule)):
        given = options_of(where)
        for name, default in registry.items():
            assert name in given, f"{where.__module__}.{where.__qualname__} has no argument {name}"
            same = (given[name], type(given[name])) == (default, type(default))
            assert same, (
                f"{where.__module__}.{where.__qualname__}: {name}={given[name]!r}, the registry has {default!r}"
            )
    assert list(options_of(CLASSES[rule].__init__)) == list(registry), f"{rule}: options of the class in another order"


def test_the_function_and_its_twin_have_one_signature(rule):
    parameters = [
        [(p.name, p.kind, p.default) for p in inspect.signature(f).parameters.values()]
        for f in (function(rule), twin(rule))
    ]
    assert parameters[0] == parameters[1], f"instep.{rule} and instep.reference.{rule} have other signatures"


def test_every_option_is_an_attribute(rule):
    for name in _core.rules()[rule]:
        assert name in vars(CLASSES[rule]), f"{CLASSES[rule].__name__} has no attribute {name}"


def test_every_option_is_typed(rule):
    for where in (CLASSES[rule].__init__, function(rule)):
        hints = typing.get_type_hints(where)
        for name, default in _core.rules()[rule].items():
            assert hints.get(name) is type(default), (
                f"{where.__qualname__}: {name} must be annotated as {type(default)}"
            )
        assert hints["return"] is type(None), f"{where.__qualname__} must be annotated as returning None"


def test_every_option_is_documented(rule):
    for where in (CLASSES[rule], function(rule)):
        missing = set(_core.rules()[rule]) - documented(where.__doc__)
        assert not missing, f"the docstring of {where.__qualname__} does not describe {', '.join(sorted(missing))}"


def test_every_state_is_documented(rule):
    for options in one_of_each_loop(rule):
        missing = set(states_of(rule, options)) - documented(function(rule).__doc__)
        assert not missing, f"the docstring of {rule} does not describe {', '.join(sorted(missing))}"


def test_every_option_is_in_the_readme(rule):
    assert CLASSES[rule].__name__ in README, f"README.md does not mention {CLASSES[rule].__name__}"
    for name in _core.rules()[rule]:
        if name not in ("lr", "rho", "eps"):
            assert f"`{name}`" in README, f"README.md does not mention `{name}` of {rule}"
        else:
            assert re.search(rf"\b{name}\b", README), f"README.md does not mention {name} of {rule}"


def test_every_option_is_tried(rule):
    for name, default in _core.rules()[rule].items():
        assert isinstance(default, bool) or name in NUMBERS, f"tests/trials.py has no values for {name} of {rule}"


def test_every_preset_is_documented():
    for name, options in instep.presets().items():
        unknown = set(options) - set(_core.rules()["rmsprop"])
        assert not unknown, f"preset {name} has options that there are not: {', '.join(unknown)}"


# ---- docstrings, types, examples --------------------------------------------------------------------------------


def public_objects():
    """What users call, by its full name."""
    found = {}
    for name in instep.__all__:
        value = getattr(instep, name)
        if inspect.isclass(value):
            found[name] = value
            for attribute, member in inspect.getmembers(value) if not issubclass(value, Exception) else []:
                if not attribute.startswith("_") and (inspect.isroutine(member) or isinstance(member, property)):
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


@pytest.mark.parametrize("name", [name for name in PUBLIC if not isinstance(PUBLIC[name], property)])
def test_every_argument_is_documented(name):
    value = PUBLIC[name]
    if inspect.isclass(value) and issubclass(value, Exception):
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


def test_all_is_sorted_and_there():
    assert instep.__all__ == sorted(instep.__all__), "instep.__all__ is not sorted"
    for name in instep.__all__:
        assert hasattr(instep, name), f"instep.__all__ names {name}, which there is not"
    public = {name for name, value in vars(instep).items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert public <= set(instep.__all__), f"instep.__all__ lacks {', '.join(public - set(instep.__all__))}"


MODULES = [module.name for module in pkgutil.iter_modules(instep.__path__) if not module.name.startswith("_")]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(f"instep.{name}")
    failed, _ = doctest.testmod(module)
    assert failed == 0, f"{failed} examples in the docstrings of instep.{name} fail: python -m doctest shows them"


def test_the_rules_have_examples(rule):
    for where in (CLASSES[rule], function(rule)):
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


def test_no_file_names_a_home():
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked_files()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if HOME.search(line)
    ]
    assert not found, f"a path of somebody's machine stands in {', '.join(found)}"


@pytest.mark.parametrize("page", ["README.md", "docs/reference/buffers.md"])
def test_the_table_of_buffers_is_the_one_that_is_tested(page, capsys):
    buffers.main()
    assert f"<!-- buffers -->\n{capsys.readouterr().out}<!-- /buffers -->" in (ROOT / page).read_text()


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
        assert (ROOT / bug.caught_by.split("::")[0]).exists(), bug.name
