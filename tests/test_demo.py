"""`instep demo` shows what it promises, and says in one line what is wrong."""

import re
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.image import imread

import instep
from instep.__main__ import main
from instep.commands.demo import DEMOS, OPTIONS
from instep.demo import trace

PICTURES = [name for name, settings in DEMOS.items() if "output" in settings]


@pytest.fixture(autouse=True)
def narrow_terminal(monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)


def assert_picture(path):
    height, width, _ = imread(path, format="png").shape
    assert height >= 400
    assert width >= 800


@pytest.mark.unemulated("minutes of matrix products, which are NumPy's")
def test_digits(capsys, tmp_path):
    assert main(["demo"]) == 0
    out = capsys.readouterr().out
    assert float(re.search(r"test accuracy +(\S+)", out)[1]) >= 0.97
    assert len(re.findall(r"a step of \w+ +[\d.]+ µs", out)) == 2
    assert "the same bits" in out
    assert "picture: instep-digits.png\n" in out
    assert_picture(tmp_path / "instep-digits.png")


def test_regression(capsys, tmp_path):
    assert main(["demo", "regression"]) == 0
    out = capsys.readouterr().out
    w, b = map(float, re.search(r"mean over the last epoch │ (\S+) │ (\S+)", out).groups())
    assert abs(w - 2) < 0.1
    assert abs(b - 1) < 0.2
    assert "picture: instep-regression.png\n" in out
    assert_picture(tmp_path / "instep-regression.png")


def rows(out):
    return [list(map(float, line.split())) for line in out.splitlines() if line[:1].isdigit()]


@pytest.mark.parametrize(
    ("arguments", "w"),
    [([], (-1.0081, -0.5045)), (["--rho", "0.5"], (-0.5488, -0.2546)), (["--rho=0.99"], (-3.0593, -1.5586))],
)
def test_trace(capsys, arguments, w):
    assert main(["demo", "trace", *arguments]) == 0
    table = np.array(rows(capsys.readouterr().out))
    assert tuple(table[-1, -2:]) == w
    before = np.vstack([np.zeros(2), table[:-1, -2:]])
    g, effective_lr, after = table[:, 1:3], table[:, 5:7], table[:, 7:9]
    np.testing.assert_allclose(after, before - effective_lr * g, rtol=0, atol=5e-4)


@pytest.mark.parametrize(
    "options",
    [
        {},
        dict(eps=0.1),
        dict(eps=0.1, eps_inside=True),
        dict(bias_correction=True),
        dict(initial_square_avg=1.0),
        dict(centered=True),
    ],
    ids=str,
)
def test_effective_lr_is_what_multiplies_the_gradient(options):
    w = np.zeros(1)
    opt = instep.RMSprop(w, lr=0.1, **options)
    for g in (0.5, -0.3):
        before = w[0]
        opt.step(np.array([g]))
        (v,) = opt.state["variance" if opt.centered else "square_avg"]
        np.testing.assert_allclose(w[0], before - opt.lr / trace.denominator(opt, v) * g, rtol=1e-14)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_a_flag(monkeypatch, option):
    seen = []
    monkeypatch.setattr(trace, "run", seen.append)
    base = {"lr": 0.1, "momentum": 0.5}
    changed = not OPTIONS[option] if isinstance(OPTIONS[option], bool) else 0.25
    flag = f"--{option.replace('_', '-')}"
    value = [] if isinstance(changed, bool) else [str(changed)]
    assert main(["demo", "trace", "--momentum", "0.5", flag, *value]) == 0
    assert seen == [OPTIONS | base | {option: changed}]


def test_options_reach_the_optimizer(capsys):
    tables = []
    for arguments in (
        [],
        ["--eps-inside", "--eps=0.01"],
        ["--centered"],
        ["--lr=0.2"],
        ["--momentum=0.9"],
        ["--maximize"],
    ):
        assert main(["demo", "trace", *arguments]) == 0
        tables.append(str(rows(capsys.readouterr().out)))
    assert len(set(tables)) == len(tables)


@pytest.mark.parametrize("name", PICTURES)
def test_same_seed_same_picture(capsys, tmp_path, name):
    pictures = {}
    for path, seed in (("a.png", 1), ("again.png", 1), ("other.png", 2)):
        assert main(["demo", name, f"--seed={seed}", "--epochs=2", "--output", str(tmp_path / path)]) == 0
        assert f"picture: {tmp_path / path}\n" in capsys.readouterr().out
        pictures[path] = (tmp_path / path).read_bytes()
    assert pictures["a.png"] == pictures["again.png"] != pictures["other.png"]


@pytest.mark.parametrize("name", DEMOS)
def test_as_a_program_in_80_columns(tmp_path, name):
    epochs = ["--epochs=1"] if "epochs" in DEMOS[name] else []
    done = subprocess.run([sys.executable, "-m", "instep", "demo", name, *epochs], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "…" not in done.stdout
    assert (tmp_path / f"instep-{name}.png").exists() == (name in PICTURES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rho=2"], "rho=2.0 must be"),
        (["regression", "--lr=-1"], "lr=-1.0 must"),
        (["trace", "--lr=nan"], "lr=nan must be finite"),
        (["trace", "--nesterov"], "needs momentum"),
        (["--eps=1e-60"], "eps=1e-60 rounds to 0"),
        (["trace", "--seed=1"], "trace takes no --seed"),
    ],
    ids=" ".join,
)
def test_bad_options_are_one_line(capsys, tmp_path, arguments, message):
    assert main(["demo", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("instep demo: error: ")
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_float64_takes_what_float32_cannot(capsys):
    assert main(["demo", "trace", "--eps=1e-60"]) == 0


@pytest.mark.parametrize(
    "arguments",
    [["nosuch"], ["--epochs=0"], ["--epochs=x"], ["--seed=-1"], ["--rho=x"], ["--output=a.pdf"], ["--output=no/a.png"]],
    ids=" ".join,
)
def test_arguments_that_do_not_parse(capsys, tmp_path, arguments):
    with pytest.raises(SystemExit) as stop:
        main(["demo", *arguments])
    assert stop.value.code == 2
    usage, message = capsys.readouterr().err.splitlines()
    assert usage.startswith("usage: instep demo ")
    assert message.startswith("instep demo: error: argument ")
    assert not list(tmp_path.iterdir())


def test_picture_that_cannot_be_written(capsys, tmp_path):
    (tmp_path / "a.png").mkdir()
    assert main(["demo", "regression", "--output=a.png"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("instep demo: error: ")
    assert err.count("\n") == 1


class Uninstalled:
    """A finder before all others that knows which package is not there."""

    def __init__(self, package):
        self.package = package

    def find_spec(self, name, path, target=None):
        if name == self.package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.fixture
def uninstall(monkeypatch):
    def uninstall(package):
        for name in list(sys.modules):
            if name.startswith("instep.demo.") or name.split(".")[0] == package:
                monkeypatch.delitem(sys.modules, name)
        monkeypatch.setattr(sys, "meta_path", [Uninstalled(package), *sys.meta_path])

    return uninstall


@pytest.mark.parametrize("missing", ["rich", "matplotlib", "sklearn"])
def test_missing_extras(capsys, uninstall, missing):
    uninstall(missing)
    assert main(["demo"]) == 1
    assert capsys.readouterr().err == f'instep demo: error: {missing} is not installed: pip install "instep[demo]"\n'


def test_help_needs_no_extras(capsys, uninstall):
    uninstall("rich")
    with pytest.raises(SystemExit) as stop:
        main(["demo", "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    for option in OPTIONS:
        assert f"--{option.replace('_', '-')}" in out
