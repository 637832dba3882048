"""What the types say, by mypy and by pyright, and that Python does what they say."""

import ast
import inspect
import json
import os
import pydoc
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import instep
from instep import _core
from instep.optimizers import Optimizer

FOLDER = Path(__file__).parent / "typing"
RIGHT, WRONG = (FOLDER / name for name in ("right.py", "wrong.py"))
MARKED = {number for number, line in enumerate(WRONG.read_text().splitlines(), 1) if line.endswith("  # wrong")}
CLASSES = [value for value in vars(instep).values() if isinstance(value, type) and issubclass(value, Optimizer)]
VARIANTS = [cls for cls in CLASSES if cls is not Optimizer]
every_variant = pytest.mark.parametrize("cls", VARIANTS, ids=lambda cls: cls.__name__)


def mypy(cache, *files):
    """The lines that it reports, by file."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={cache}", *files]
    ran = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode in (0, 1), ran.stderr + ran.stdout
    return [
        (match[1], int(match[2]), match[3]) for match in re.finditer(r"^(.*?):(\d+): error: (.*)", ran.stdout, re.M)
    ]


def pyright(cache, *files):
    command = [sys.executable, "-m", "pyright", "--outputjson", f"--pythonpath={sys.executable}", *files]
    environment = os.environ | {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    ran = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=600, check=False, env=environment)
    assert ran.returncode in (0, 1), ran.stderr + ran.stdout
    return [
        (Path(found["file"]).name, found["range"]["start"]["line"] + 1, found["message"])
        for found in json.loads(ran.stdout)["generalDiagnostics"]
        if found["severity"] == "error"
    ]


@pytest.mark.unemulated("other people's programs, for minutes")
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_type_checkers_report_what_is_wrong_and_nothing_else(checker, tmp_path):
    found = checker(tmp_path, RIGHT.name, WRONG.name)
    assert [error for error in found if error[0] == RIGHT.name] == []
    assert {line for file, line, _ in found if file == WRONG.name} == MARKED
    assert len(MARKED) > 30


def test_what_is_right_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(RIGHT))


def test_what_is_wrong_raises():
    """Statement by statement, but for what means nothing to Python: an annotated variable."""
    names, raised = {}, set()
    for node in ast.parse(WRONG.read_text()).body:
        if isinstance(node, ast.AnnAssign):
            raised.add(node.lineno)
            continue
        try:
            exec(compile(ast.Module([node], []), WRONG.name, "exec"), names)
        except (TypeError, AttributeError, ValueError):
            raised |= set(range(node.lineno, node.end_lineno + 1)) & MARKED
    in_functions = {
        inner.lineno
        for node in ast.parse(WRONG.read_text()).body
        if isinstance(node, ast.FunctionDef)
        for inner in node.body
    }
    assert raised == MARKED - in_functions


# ---- at run time ------------------------------------------------------------------------------------------------


@every_variant
def test_signature_help_and_defaults_agree(cls):
    parameters = inspect.signature(cls).parameters
    beside = ["groups", "state_dtype", "master", "state", "step_count"]
    assert list(parameters) == ["params", *_core.rules()[cls.rule], *beside]
    text = pydoc.render_doc(cls, renderer=pydoc.plaintext)
    optimizer = cls(np.ones(2))
    for name, parameter in list(parameters.items())[1 : -len(beside)]:
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert getattr(optimizer, name) == optimizer.options[name] == parameter.default
        assert type(getattr(optimizer, name)) is type(parameter.default) is parameter.annotation
        assert f"{name}: {parameter.annotation.__name__} = {parameter.default!r}" in text, name


def test_what_a_variant_redeclares():
    assert instep.AdamW(np.ones(2)).options == instep.Adam(np.ones(2)).options | {
        "weight_decay": 0.01,
        "decoupled_weight_decay": True,
    }
    assert instep.Adam(np.ones(2)).weight_decay == 0.0
    assert instep.AdamW(np.ones(2), weight_decay=0.5).weight_decay == 0.5
    params = [np.ones(3) for _ in range(4)]
    for step, options, param in zip(
        [instep.adamw, instep.reference.adamw, instep.adam],
        [{}, {}, dict(weight_decay=0.01, decoupled_weight_decay=True)],
        params,
        strict=False,
    ):
        step(param, np.ones(3), np.zeros(3), np.zeros(3), **options)
    instep.AdamW(params[3]).step(np.ones(3))
    assert len({param.tobytes() for param in params}) == 1


@every_variant
def test_a_subclass_redeclares(cls):
    class Mine(cls):
        """Mine."""

        __slots__ = ()

        lr: float = 0.25
        maximize: bool = True

    assert Mine(np.ones(2)).options == cls(np.ones(2)).options | {"lr": 0.25, "maximize": True}
    assert cls(np.ones(2)).lr == cls.lr.default != 0.25
    assert inspect.signature(Mine).parameters["lr"].default == 0.25
    assert Optimizer.of_rule(cls.rule) is not Mine
    for name in instep.presets(cls.__name__.lower()):
        assert type(Mine.preset(name, np.ones(2), lr=0.5)) is Mine


@every_variant
def test_what_a_subclass_may_not_declare(cls):
    def refused(message, **members):
        with pytest.raises(TypeError, match=message):
            type("Mine", (cls,), {"__slots__": (), **members})

    refused(r"Mine.lr is redeclared without its type: write lr: float = 0\.5", lr=0.5)
    refused("Mine declares alpha, but", alpha=0.5, __annotations__={"alpha": float})
    refused("Mine.lr must be a real number, not a value of type str", lr="1", __annotations__={"lr": float})
    refused("Mine.maximize must be True or False, not 1", maximize=1, __annotations__={"maximize": bool})
    refused(r"Mine.lr is redeclared without a default: write lr: float = ", __annotations__={"lr": float})
    refused("Mine declares alpha, but", __annotations__={"alpha": "float"})
    assert Optimizer.of_rule(cls.rule).__name__ != "Mine"


def test_a_rule_that_there_is_not():
    with pytest.raises(ValueError, match="there is no rule named 'adan'; there are rmsprop, "):
        type("Adan", (Optimizer,), {"rule": "adan"})


@pytest.mark.parametrize("one", [1, np.float64(1), np.float32(1)], ids=lambda one: type(one).__name__)
@every_variant
def test_every_number_is_a_default(cls, one):
    """As for a type checker and as an argument."""
    mine = type("Mine", (cls,), {"weight_decay": one, "__annotations__": {"weight_decay": "float"}})
    assert type(mine(np.ones(2), lr=0.5).weight_decay) is type(mine.weight_decay.default) is float
    assert inspect.signature(mine).parameters["weight_decay"].annotation is float


@pytest.mark.parametrize("spelled", ["ClassVar[str]", "typing.ClassVar", ClassVar[str], ClassVar])
def test_what_is_of_the_class_is_no_option(spelled):
    mine = type("Mine", (instep.Adam,), {"label": "fast", "__annotations__": {"label": spelled}})
    assert mine(np.ones(2)).label == mine.label == "fast"
    assert "label" not in inspect.signature(mine).parameters


def test_the_signature_of_a_class_with_arguments_of_its_own():
    class Halving(instep.Adam):
        """Has another constructor."""

        def __init__(self, params: Any, *, speed: float = 0.5) -> None:
            super().__init__(params, lr=speed / 2)

    assert str(inspect.signature(Halving)) == "(params: Any, *, speed: float = 0.5) -> None"
    assert Halving(np.ones(2)).lr == 0.25
    assert list(inspect.signature(instep.Adam).parameters)[:2] == ["params", "lr"]


def test_a_misspelt_attribute_is_no_attribute(rule):
    optimizer = Optimizer.of_rule(rule)(np.ones(2))
    for name in ("leaning_rate", "lrr", "step"):
        with pytest.raises(AttributeError):
            setattr(optimizer, name, 0.5)


def test_an_optimizer_needs_a_rule():
    with pytest.raises(TypeError, match="has no rule"):
        Optimizer(np.ones(2))
