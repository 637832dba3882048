"""The command `instep`: what all its subcommands do alike, in narrow terminals and poor encodings too."""

import io
import json
import re
import subprocess
import sys
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
import rich.console

import instep
from instep.__main__ import COMMANDS, main
from instep.benchmark import report, suite
from instep.tables import Table

RESULT = next((Path(__file__).parents[1] / "bench/results").glob("*.json"))
# As short as each command can be.
SHORT = {
    "bench": ["--show", str(RESULT)],
    "checkpoint": ["show", "opt.checkpoint"],
    "demo": ["memory"],
    "info": [],
}


@pytest.fixture(autouse=True)
def a_folder_with_a_checkpoint(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    instep.RMSprop({"w": np.ones(2)}).save("opt.checkpoint")


def test_every_command_is_tried():
    assert list(SHORT) == list(COMMANDS)


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"instep {instep.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["checkpoint"]], ids=" ".join)
def test_nothing_more_shows_the_help(capsys, arguments):
    with pytest.raises(SystemExit):
        main([*arguments, "--help"])
    shown = capsys.readouterr()
    assert main(arguments) == 0
    assert capsys.readouterr() == shown
    for name in [] if arguments else COMMANDS:
        assert f"\n    {name} " in shown.out or f"\n    {name}\n" in shown.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nosuch"], "instep: error: argument COMMAND: invalid choice: 'nosuch' (choose from"),
        (["--nosuch"], "instep: error: it takes no --nosuch: --help says what it takes"),
        (["info", "--nosuch"], "instep info: error: it takes no --nosuch"),
        (["bench", "--rules=adam"], "instep bench: error: it takes no --rules=adam"),
        (["bench", "--quic"], "instep bench: error: it takes no --quic"),
        (["checkpoint", "nosuch"], "instep checkpoint: error: argument ACTION: invalid choice: 'nosuch'"),
        (["checkpoint", "show"], "instep checkpoint show: error: the following arguments are required: FILE"),
        (["demo", "digits", "--epochs=many"], "argument --epochs: expected an integer of at least 1, not 'many'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_parse(capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    usage, line = capsys.readouterr().err.splitlines()
    assert usage.startswith("usage: instep")
    assert message in line


def test_no_message_speaks_of_a_function(capsys):
    """argparse names the function that reads a value, unless it raises ArgumentTypeError."""
    for arguments in (["demo", "digits", "--lr=x"], ["demo", "digits", "--seed=x"], ["demo", "trace", "--rho="]):
        with pytest.raises(SystemExit):
            main(arguments)
        assert not re.search(r"invalid \w+ value", capsys.readouterr().err)


@pytest.mark.parametrize("command", COMMANDS)
def test_an_interrupt_is_answered_in_one_line(capsys, monkeypatch, command):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(import_module(f"instep.commands.{command}"), "run", interrupt)
    assert main([command, *SHORT[command]]) == 130
    assert capsys.readouterr() == ("", f"instep {command}: interrupted\n")


@pytest.mark.parametrize("module", ["numpy", "instep._core", "instep.__main__"])
def test_an_interrupt_of_the_imports_is_answered_in_one_line(module):
    (command,) = entry_points(group="console_scripts", name="instep")
    program = f"""
import sys

class Interrupt:
    def find_spec(name, path, target=None):
        if name == {module!r}:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt)
from {command.module} import {command.attr}
sys.exit({command.attr}())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "instep: interrupted\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_who_reads_may_leave(command):
    program = [sys.executable, "-m", "instep", command, *SHORT[command]]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""


@pytest.mark.parametrize("command", COMMANDS)
def test_ascii_is_enough(monkeypatch, command):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    program = [sys.executable, "-m", "instep", command, *SHORT[command]]
    done = subprocess.run(program, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.isascii()


@pytest.mark.parametrize("width", [60, 80])
def test_info_keeps_to_the_terminal(monkeypatch, capsys, width):
    """Nothing is lost at the ends of lines."""
    shown = {}
    for columns in (width, 300):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert main(["info"]) == 0
        shown[columns] = capsys.readouterr().out
    assert max(map(len, shown[width].splitlines())) <= width
    assert shown[width].split() == shown[300].split()
    for key, flags in instep.show_config("dicts")["flags"].items():
        assert f"\n  {key}: {flags}\n" in shown[300]


def test_a_name_that_the_encoding_does_not_have(monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    program = [sys.executable, "-m", "instep", "demo", "memory", "--output", "b\u00e4r.png"]
    done = subprocess.run(program, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.endswith(rb"picture: b\xe4r.png" + b"\n")


def test_bench_finds_what_it_cannot_write_before_it_measures(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(suite, "run", lambda *args: pytest.fail("it measures"))
    (tmp_path / "result.png").mkdir()
    for output in ("result.json", "nosuch/result.json"):
        assert main(["bench", "--output", output]) == 1
        line = capsys.readouterr().err
        assert line.startswith("instep bench: error: ")
        assert line.count("\n") == 1
    assert not (tmp_path / "result.json").exists()


# ---- tables -----------------------------------------------------------------------------------------------------


def lines_of(table, width):
    console = rich.console.Console(width=width, file=io.StringIO())
    table.show(console)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [5, 30, 40, 60])
def test_numbers_stay_whole_and_words_stay_there(width):
    table = Table("a title", "", "a long heading", "short")
    table.add("words that go on and on", "12 345.678 us", "[bold]9")
    lines = lines_of(table, width)
    assert any(re.search(r"12 345\.678 us +9", line) for line in lines)
    words = "".join(re.sub(r"12 345\.678 us|9|[^a-z]", "", line) for line in lines[3:])
    assert words == "wordsthatgoonandon"


@pytest.mark.parametrize("width", [5, 16, 40])
def test_numbers_among_words_stay_whole(width):
    table = Table("a title of 64 000 000", "", "measured", words=(0, 1))
    table.add("64 000 000 elements, in 7 arrays", "3.76x (at 300 000)")
    table.add("1.41 us", "[bold]yes")
    lines = "\n".join(lines_of(table, width))
    assert lines.count("64 000 000") == 2
    assert "300 000)" in lines
    assert "1.41 us" in lines


def test_a_name_goes_on_behind_its_dots():
    table = Table("", "", "a step")
    table.add("torch.optim.RMSprop, for-loop", "12 345.678 us")
    assert [line[:9].rstrip() for line in lines_of(table, 24)[2:]] == ["torch.", "optim.", "RMSprop,", "for-loop"]


@pytest.mark.parametrize("width", [60, 80])
def test_a_result_in_a_narrow_terminal(width):
    """The same numbers as in a wide one, no line too long and nothing cut."""
    printed = {}
    for columns in (width, 300):
        console = rich.console.Console(width=columns, file=io.StringIO())
        report.show(json.loads(RESULT.read_text()), console)
        printed[columns] = console.file.getvalue()
    assert max(map(len, printed[width].splitlines())) <= width
    assert "\u2026" not in printed[width]
    (largest,) = {text.count("64 000 000") for text in printed.values()}
    assert largest >= 3
    numbers = [sorted(re.findall(r"(?<=\s)[\d.]+(?: [numk]?s|x|%)(?=\s|$)", text)) for text in printed.values()]
    assert numbers[0] == numbers[1]
    assert len(numbers[0]) > 300
    narrow, wide = (set(re.findall(r"[A-Za-z]+", text)) for text in printed.values())
    assert narrow == wide
    assert not re.search(r"\d,\d{3}", printed[width])
