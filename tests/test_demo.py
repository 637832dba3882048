"""`instep demo` shows what it promises, of every rule, and says in one line what is wrong."""

import re
import subprocess
import sys
from functools import partial
from importlib import import_module
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.image import imread
from PIL import Image

import instep
from instep.__main__ import main
from instep._core import rules
from instep.commands import demo as command
from instep.commands.demo import DEFAULT_RULE, DEMOS, OPTIONS, flag_of
from instep.demo import cliff, digits, memory, regression, sparse, surfaces, trace
from instep.demo.picture import canvas
from instep.optimizers import Optimizer
from trials import CLASSES, combinations

PICTURES = [name for name, demo in DEMOS.items() if demo.draws]
OF_A_RULE = [name for name, demo in DEMOS.items() if demo.takes_rule]
EACH_DEMO_AND_RULE = [(name, DEFAULT_RULE) for name in OF_A_RULE] + [("trace", rule) for rule in rules()][1:]


@pytest.fixture(autouse=True)
def narrow_terminal(monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)


def chosen(name, rule):
    """The arguments that choose a demo of a rule, as short as it can be."""
    arguments = [rule] if name == "trace" else ["--rule", rule]
    return [name, *arguments, *(["--epochs=1"] if "epochs" in DEMOS[name].settings else [])]


def assert_picture(path):
    height, width, _ = imread(path, format="png").shape
    assert height >= 400
    assert width >= 1000


# ---- what each of them shows ------------------------------------------------------------------------------------


@pytest.mark.unemulated("minutes of matrix products, which are NumPy's")
def test_digits(capsys, tmp_path):
    assert main(["demo"]) == 0
    out = capsys.readouterr().out
    assert float(re.search(r"test accuracy +(\S+)", out)[1]) >= 0.97
    assert len(re.findall(r"a step of \w+ +[\d.]+ us", out)) == 2
    assert "the same bits" in out
    assert "picture: instep-digits.png\n" in out
    assert_picture(tmp_path / "instep-digits.png")


def lines_of(out):
    """(w, b) by the name of the row."""
    return {
        match[1]: (float(match[2]), float(match[3])) for match in re.finditer(r"^(\S.*?)  +(\S+) +(\S+) ", out, re.M)
    }


def test_regression(capsys, tmp_path):
    assert main(["demo", "regression"]) == 0
    out = capsys.readouterr().out
    rows = lines_of(out)
    np.testing.assert_allclose(rows["last step, lr=0.1, falling to 0"], rows["least squares"], rtol=0, atol=0.02)
    assert abs(rows["last step, lr=0.1"][0] - rows["least squares"][0]) > 0.2
    assert "picture: instep-regression.png\n" in out
    assert_picture(tmp_path / "instep-regression.png")


def test_regression_finds_a_learning_rate(rule):
    rng = np.random.default_rng(0)
    x, y = regression.points(rng)
    order = regression.orders(rng, 5)[:, :1]
    make = partial(Optimizer.of_rule(rule))
    paths = [regression.learn(make, x, y, order, instep.schedules.cosine(lr, 500)) for lr in regression.LEARNING_RATES]
    least = min(regression.of_epochs(path, x, y).mean() for path in paths)
    assert least < regression.loss(np.zeros(2), x, y) / 4


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved, with their ticks laid out."""
    figures = []

    def save(figure, output):
        figure.draw_without_rendering()
        figures.append(figure)

    for name in PICTURES:
        monkeypatch.setattr(import_module(f"instep.demo.{name}"), "save", save)
    return figures


def texts(axis):
    """What stands at the ticks that are seen."""
    low, high = sorted(axis.get_view_interval())
    return [tick.label1.get_text() for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]


def test_the_loss_of_a_regression_falls_smoothly(drawn):
    """Under the schedule it goes up from one epoch to the next by little, and never twice its share of the way."""
    assert main(["demo", "regression"]) == 0
    (losses,) = (panel for panel in drawn[0].axes if panel.get_yscale() == "log")
    _, falling = (line.get_ydata() for line in losses.lines[:2])
    assert (np.diff(falling) < 0.02 * falling[1:]).all()
    assert falling[-1] < falling[5] / 1.3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "a constant lr goes on shaking, a falling one settles"),
        (["--rule=rprop"], "a falling lr changes nothing"),
        (["--lr=1e-6"], "with a constant lr, and with one that falls to 0"),
    ],
    ids=str,
)
def test_the_title_of_a_regression_is_true(drawn, arguments, words):
    assert main(["demo", "regression", *arguments]) == 0
    assert drawn[0].get_suptitle().endswith(f"to one point at a time: {words}")


def test_each_run_of_a_regression_goes_its_own_way(rule):
    rng = np.random.default_rng(0)
    x, y = regression.points(rng)
    order = regression.orders(rng, 2)
    assert (np.sort(order.reshape(2, regression.POINTS, -1), axis=1) == np.arange(len(x))[:, np.newaxis]).all()
    make, schedule = partial(Optimizer.of_rule(rule)), instep.schedules.constant(0.01)
    together = regression.learn(make, x, y, order, schedule)
    for run in (0, regression.RUNS - 1):
        alone = regression.learn(make, x, y, order[:, run : run + 1], schedule)
        assert together[:, run : run + 1].tobytes() == alone.tobytes()


@pytest.mark.parametrize("epochs", [1, 2, 3])
@pytest.mark.parametrize("name", ["digits", "regression", "cliff"])
@pytest.mark.unemulated("minutes of matrix products, which are NumPy's")
def test_a_picture_of_few_epochs(small_race, monkeypatch, drawn, name, epochs):
    """Every point is seen, epochs are whole, no power of ten stands at an axis that has several numbers to show."""
    monkeypatch.setattr(digits, "TIMED_STEPS", 10)
    assert main(["demo", name, f"--epochs={epochs}"]) == 0
    axes = [panel for panel in drawn[0].axes if panel.get_xlabel() == "epoch"]
    assert len(axes) >= 1 + (name != "digits")
    for panel in axes:
        for line in panel.lines:
            assert len(line.get_xdata()) != epochs or line.get_marker() == "o" or line.get_linestyle() == ":"
        assert all(re.fullmatch(r"\d+", text) for text in texts(panel.xaxis))
    for panel in drawn[0].axes:
        if panel.get_yscale() == "log":
            shown = texts(panel.yaxis)
            assert len(shown) >= 2
            assert all(re.fullmatch(r"[\d.]{1,5}", text) for text in shown), shown


@pytest.mark.parametrize(
    ("epochs", "words"),
    [
        (1, "1 epoch: half the units die after 2, and then averages decay"),
        (2, "2 epochs: half the units die after 2"),
        (4, "Half the units die at the dotted line. Averages decay, and none is subnormal yet."),
        (25, r"where it is grey, up to 4\d% of them are subnormal\."),
    ],
)
def test_the_title_of_the_cliff_speaks_of_what_is_seen(small_race, drawn, epochs, words):
    assert main(["demo", "cliff", f"--epochs={epochs}"]) == 0
    assert re.search(words, drawn[0].get_suptitle())
    for panel in drawn[0].axes:
        assert any(line.get_linestyle() == ":" and line.get_label()[0] == "_" for line in panel.lines) == (epochs > 2)
        assert bool(panel.patches) == (epochs == 25)


@pytest.mark.parametrize("surface", surfaces.SURFACES, ids=lambda surface: surface.title)
def test_surface(surface):
    for goal in surface.goals:
        np.testing.assert_allclose(surface.gradient(*goal), 0, atol=1e-12)
        assert surface.height(*goal) == pytest.approx(surface.height(*surface.goals[0]))
        assert surface.height(*goal) < surface.height(*surface.start)
    for x, y in (surface.start, (0.3, -0.7)):
        h = 1e-6
        by_x = (surface.height(x + h, y) - surface.height(x - h, y)) / (2 * h)
        by_y = (surface.height(x, y + h) - surface.height(x, y - h)) / (2 * h)
        np.testing.assert_allclose(surface.gradient(x, y), (by_x, by_y), rtol=1e-6)


@pytest.mark.parametrize("surface", surfaces.SURFACES, ids=lambda surface: surface.title)
def test_every_rule_arrives(rule, surface):
    run = surfaces.best(rule, surface)
    low, high = np.transpose(surface.window)
    assert run.name == CLASSES[rule].__name__
    assert tuple(run.path[0]) == surface.start
    assert ((low <= run.path) & (run.path <= high)).all()
    assert (run.distance[run.arrival :] <= surfaces.NEAR).all()
    assert run.distance[run.arrival - 1] > surfaces.NEAR
    for lr in surfaces.LEARNING_RATES:
        other = surfaces.walk(CLASSES[rule], lr, surface)
        inside = ((low <= other.path) & (other.path <= high)).all()
        assert not inside or other.arrival is None or other.arrival >= run.arrival


def test_a_rule_that_never_arrives():
    run = surfaces.walk(instep.SGD, 1e-4, surfaces.SURFACES[0])
    assert run.arrival is None
    table = surfaces.table(surfaces.SURFACES[0], [run])
    assert list(table.columns[2].cells) == [f"over {surfaces.STEPS}"]


def test_a_rule_that_is_lost_stays_there():
    run = surfaces.walk(instep.SGD, 500.0, surfaces.SURFACES[2])
    assert np.isfinite(run.path).all()
    assert (run.path[-1] == run.path[-2]).all()


@pytest.mark.parametrize("surface", surfaces.SURFACES, ids=lambda surface: surface.title)
def test_a_curve_crosses_the_line_where_the_rule_has_come_to_stay(surface):
    race = [surfaces.best(rule, surface) for rule in rules()]
    for run in race:
        assert int((run.ahead > surfaces.NEAR).sum()) == run.arrival
    with canvas(10, 6.4) as figure:
        curves = surfaces.draw(figure, [race] * len(surfaces.SURFACES))
    for curve in curves[1::2]:  # a step onto the goal by chance would be a bar
        assert (np.diff(curve.get_ydata()) <= 0).all(), curve.get_label()


def test_surfaces(capsys, tmp_path):
    assert main(["demo", "surfaces"]) == 0
    out = capsys.readouterr().out
    for cls in CLASSES.values():
        assert len(re.findall(rf"^{cls.__name__} ", out, re.M)) == len(surfaces.SURFACES)
    assert_picture(tmp_path / "instep-surfaces.png")


def test_animation(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(surfaces, "LEARNING_RATES", (0.05, 0.1))
    monkeypatch.setattr(surfaces, "frames", lambda: [0, 10, surfaces.STEPS])
    assert main(["demo", "surfaces", "--animate"]) == 0
    assert "picture: instep-surfaces.gif\n" in capsys.readouterr().out
    with Image.open(tmp_path / "instep-surfaces.gif") as image:
        assert image.n_frames == 3
        assert image.size[0] >= 800
        shown = []
        for frame in range(3):
            image.seek(frame)
            shown.append(np.asarray(image.convert("RGB")).astype(int))
    for before, after in pairwise(shown):
        assert 0.001 < np.mean(np.abs(before - after).max(axis=-1) > 60) < 0.2  # curves come, the rest stays


def test_frames_end_with_the_last_step():
    frames = surfaces.frames()
    assert frames == sorted(set(frames))
    assert (frames[0], frames[-1]) == (0, surfaces.STEPS)


def test_memory(capsys, tmp_path):
    assert main(["demo", "memory"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"Adagrad +0\.01000 +0\.00316 +0\.00100 +0\.00032 +0\.00010\n", out)
    assert re.search(r"RMSprop +0\.03162 +0\.01239 +0\.01000 +0\.01000 +0\.01000\n", out)
    assert_picture(tmp_path / "instep-memory.png")


def test_memory_draws_a_rule_the_same_in_all_panels():
    with canvas(10, 4.2) as figure:
        memory.draw(figure, {rule.__name__: np.ones(memory.STEPS) for rule in memory.STATES})
    assert figure.get_suptitle()
    lines = [line for axes in figure.axes for line in axes.lines]
    for rule in memory.STATES:
        own = [line for line in lines if line.get_label().startswith(rule.__name__)]
        assert len(own) == 4
        assert len({(line.get_color(), line.get_linestyle()) for line in own}) == 1


def test_memory_is_of_the_gradient_so_many_steps_back():
    np.testing.assert_allclose(memory.weights(instep.Adagrad), 1 / memory.MEMORY)
    forgotten = 0.9 ** np.arange(memory.MEMORY)
    np.testing.assert_allclose(memory.weights(instep.RMSprop), forgotten / forgotten.sum())


@pytest.fixture
def small_race(monkeypatch):
    """Of those that are always there."""
    monkeypatch.setattr(cliff, "HIDDEN", 64)
    monkeypatch.setattr(cliff, "CONTENDERS", {name: cliff.CONTENDERS[name] for name in ("instep", "NumPy")})


def test_cliff(small_race, capsys, tmp_path):
    assert main(["demo", "cliff", "--epochs=25"]) == 0
    out = capsys.readouterr().out
    assert len(re.findall(r"^(?:instep|NumPy) +\d+ us +\d+ us +[\d.]+x$", out, re.M)) == 2
    assert re.search(r"last: 4\d% of the averages are too small", out)
    assert_picture(tmp_path / "instep-cliff.png")


def test_half_the_units_die(small_race):
    rng = np.random.default_rng(0)
    images, _ = digits.load(rng)
    raced = cliff.race(cliff.CONTENDERS, digits.network(rng, cliff.HIDDEN), images, 25, rng, lambda: None)
    assert set(raced.times) == {"instep", "NumPy"}
    assert all(times.shape == (25,) and (times > 0).all() for times in raced.times.values())
    assert (raced.small[:12] == 0).all()
    assert (np.diff(raced.small) >= 0).all()
    assert 0.3 < raced.small[-1] <= 0.5


@pytest.fixture
def quick_tables(monkeypatch):
    monkeypatch.setattr(sparse, "TABLES", (1_000, 2_000))
    monkeypatch.setattr(sparse, "TIMED_STEPS", 5)


def test_sparse(quick_tables, capsys, tmp_path):
    assert main(["demo", "sparse", "--epochs=2"]) == 0
    out = capsys.readouterr().out
    for word in sparse.WORDS:
        assert re.search(rf"^{word} +\w+, \w+, \w+, \w+, \w+ *$", out, re.M)
    assert len(re.findall(r"^ *\d+ +\d+ us +\d+ us +[\d.]+x$", out, re.M)) == 2
    assert_picture(tmp_path / "instep-sparse.png")


@pytest.mark.unemulated("minutes of matrix products, which are NumPy's")
def test_words_of_one_kind_are_near():
    rng = np.random.default_rng(0)
    text = sparse.read()
    params = sparse.vectors(rng, len(text.words))
    losses = [*sparse.learn(params, text, 3, rng)]
    assert losses == sorted(losses, reverse=True)
    near = sparse.neighbours(params["words"], text)
    assert near.keys() == set(sparse.WORDS)
    assert "complex" in near["float"]
    assert "coroutine" in near["async"]
    for word, cosines in near.items():
        assert word not in cosines
        assert [*cosines.values()] == sorted(cosines.values(), reverse=True)


def test_pairs_are_within_a_window_of_a_paragraph(monkeypatch):
    monkeypatch.setattr(sparse, "FREQUENT", np.inf)
    occurring = np.arange(40)
    text = sparse.Text([str(k) for k in occurring], np.ones(40, np.int64), occurring, np.repeat([0, 1, 2], [20, 1, 19]))
    found = np.transpose(sparse.pairs(text, np.random.default_rng(0)))
    assert len(np.unique(found, axis=0)) == len(found)
    words, contexts = found.T
    assert (np.abs(words - contexts) <= sparse.WINDOW).all()
    assert (words != contexts).all()
    assert (text.paragraph[words] == text.paragraph[contexts]).all()
    assert 20 not in words  # alone in its paragraph
    assert {1, sparse.WINDOW} <= {*np.abs(words - contexts).tolist()}


def test_gradients_of_words_are_those_of_the_loss():
    rng = np.random.default_rng(0)
    params = {name: rng.normal(size=(9, sparse.SIZE)) for name in ("words", "contexts")}
    word, contexts = rng.integers(9, size=20), rng.integers(9, size=(20, 4))
    grads, _ = sparse.gradients(params, word, contexts)
    for name, grad in grads.items():
        dense = np.zeros_like(params[name])
        np.add.at(dense, grad.indices, grad.values)
        for place in ((0, 0), (4, 3), (8, 63)):
            losses = []
            for h in (1e-6, -1e-6):
                moved = {key: array.copy() for key, array in params.items()}
                moved[name][place] += h
                losses.append(sparse.gradients(moved, word, contexts)[1])
            assert (losses[0] - losses[1]) / 2e-6 == pytest.approx(dense[place], rel=1e-5, abs=1e-6)


# ---- trace ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "w"),
    [([], (-1.0081, -0.5045)), (["--rho", "0.5"], (-0.5488, -0.2546)), (["--rho=0.99"], (-3.0593, -1.5586))],
)
def test_trace_shows_the_numbers_of_the_formula(capsys, arguments, w):
    assert main(["demo", "trace", *arguments]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert tuple(round(float(row[-1]), 4) for row in rows if row[:1] == ["w"]) == w


def test_trace_follows_every_rule(rule):
    for options in combinations(rule)[:: max(1, len(combinations(rule)) // 20)]:
        name, weights = trace.follow(partial(CLASSES[rule], **options))
        w = np.zeros(2)
        opt = CLASSES[rule](w, **options)
        assert name == CLASSES[rule].__name__
        for step, grad in enumerate(trace.GRADS):
            before = w.copy()
            opt.step(np.array(grad))
            for k, shown in enumerate(weights):
                assert list(shown) == ["gradient", *opt.state, "update", "update / gradient", "w"]
                at = {key: values[step] for key, values in shown.items()}
                update = before[k] - w[k]
                assert (at["gradient"], at["update"], at["w"]) == (grad[k], update, w[k])
                assert at["update / gradient"] == (update / grad[k] if grad[k] else None)
                assert [at[state] for state in opt.state] == [state[k] for state in opt.state.values()]


@pytest.mark.parametrize("columns", [30, 40, 60, 80, 200])
def test_trace_never_cuts_a_number_or_a_word(monkeypatch, capsys, rule, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["demo", "trace", rule]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= columns
    assert out.isascii()
    _, weights = trace.follow(partial(CLASSES[rule], lr=0.1))
    words = out.split()
    for rows in weights:
        for values in rows.values():
            for text in trace.spell(values):
                assert text in words
        for name in rows:
            for part in re.findall(r"[^ _]+_?", name):
                assert any(part in word for word in words)


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([0.5, None, 0.0], ["0.50000", "-", "0.00000"]),
        ([1.00808, -0.2], ["1.0081", "-0.2000"]),
        ([9999.0, -1234.56], ["9999.0", "-1234.6"]),
        ([1e-3, 2e-3], ["1.00e-03", "2.00e-03"]),
        ([1.0, 1e-4], ["1.00e+00", "1.00e-04"]),
        ([0.0, 0.0], ["0.0000", "0.0000"]),
        ([-0.0, 1.0], ["0.0000", "1.0000"]),
        ([float("nan"), float("inf")], ["nan", "inf"]),
    ],
    ids=str,
)
def test_numbers_of_a_row(values, texts):
    assert trace.spell(values) == texts


# ---- options ----------------------------------------------------------------------------------------------------


def with_another(rule, option):
    """Options in which this one is not its default, with what it needs beside it."""
    defaults = rules()[rule]
    for options in combinations(rule):
        if options.get(option, defaults[option]) != defaults[option]:
            return {name: value for name, value in options.items() if value != defaults[name]}
    return {option: {bool: True, int: 2, float: 0.25}[type(defaults[option])]}


@pytest.mark.parametrize(("name", "of_rule"), EACH_DEMO_AND_RULE)
def test_every_option_is_a_flag(monkeypatch, name, of_rule):
    made = []
    monkeypatch.setattr(import_module(f"instep.demo.{name}"), "run", lambda make, **settings: made.append(make))
    for option in rules()[of_rule].keys() & OPTIONS.keys():
        options = with_another(of_rule, option)
        arguments = []
        for key, value in options.items():
            if isinstance(value, bool):
                arguments.append(flag_of(key) if value else flag_of(f"no_{key}"))
            else:
                arguments += [flag_of(key), str(value)]
        assert main(["demo", *chosen(name, of_rule), *arguments]) == 0
        assert made[-1].func is CLASSES[of_rule]
        assert made[-1].keywords == ({"lr": DEMOS[name].lr} if DEMOS[name].lr else {}) | options


@pytest.mark.parametrize("name", OF_A_RULE)
def test_every_rule(monkeypatch, capsys, name, rule):
    monkeypatch.setattr(digits, "TIMED_STEPS", 10)
    assert main(["demo", *chosen(name, rule)]) == 0
    out, err = capsys.readouterr()
    assert CLASSES[rule].__name__ in out
    assert not err


def test_the_default_rule_is_the_first(capsys):
    assert DEFAULT_RULE == next(iter(rules())) == "rmsprop"
    shown = []
    for arguments in ([], [DEFAULT_RULE]):
        assert main(["demo", "trace", *arguments]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]


@pytest.mark.parametrize("name", [name for name in PICTURES if "seed" in DEMOS[name].settings])
def test_same_seed_same_picture(tmp_path, name):
    pictures = {}
    for path, seed in (("a.png", 1), ("again.png", 1), ("other.png", 2)):
        assert main(["demo", name, f"--seed={seed}", "--epochs=2", "--output", str(tmp_path / path)]) == 0
        pictures[path] = (tmp_path / path).read_bytes()
    assert pictures["a.png"] == pictures["again.png"] != pictures["other.png"]


@pytest.mark.parametrize("name", DEMOS)
def test_as_a_program_in_ascii(tmp_path, name, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    epochs = ["--epochs=1"] if "epochs" in DEMOS[name].settings else []
    done = subprocess.run([sys.executable, "-m", "instep", "demo", name, *epochs], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert done.stdout.isascii()
    assert "..." not in done.stdout
    assert (tmp_path / f"instep-{name}.png").exists() == (name in PICTURES)


# ---- errors -----------------------------------------------------------------------------------------------------


@pytest.fixture
def never_run(monkeypatch):
    """An error is found before a demo begins."""
    for name in DEMOS:
        monkeypatch.setattr(import_module(f"instep.demo.{name}"), "run", lambda **settings: pytest.fail("it ran"))


def assert_one_line(capsys, name, *messages):
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"instep demo {name}: error: ")
    assert err.count("\n") == 1
    for message in messages:
        assert message in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits", "--rho=2"], "rho=2.0 must be"),
        (["regression", "--lr=-1"], "lr=-1.0 must"),
        (["trace", "--lr=nan"], "lr=nan must be finite"),
        (["trace", "--nesterov"], "needs momentum"),
        (["digits", "--eps=1e-60"], "eps=1e-60 counts as 0"),
        (["digits", "--output=a.pdf"], "'a.pdf' must end in .png"),
        (["surfaces", "--animate", "--output=a.png"], "'a.png' must end in .gif"),
        (["surfaces", "--output=a.gif"], "'a.gif' must end in .png"),
    ],
    ids=" ".join,
)
def test_bad_values(capsys, tmp_path, never_run, arguments, message):
    assert main(["demo", *arguments]) == 2
    assert_one_line(capsys, arguments[0], message)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "of_rule"), EACH_DEMO_AND_RULE)
def test_options_of_another_rule(capsys, never_run, name, of_rule):
    for option in OPTIONS.keys() - rules()[of_rule]:
        value = [] if isinstance(next(iter(OPTIONS[option].values())), bool) else ["0.5"]
        assert main(["demo", *chosen(name, of_rule), flag_of(option), *value]) == 2
        assert_one_line(
            capsys, name,
            f"{flag_of(option)} is an option of {', '.join(OPTIONS[option])}, not of {of_rule}, which has --lr",
        )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["digits", "--learning-rate", "0.1"],
            "it takes no --learning-rate: keras calls it learning_rate; here it is --lr",
        ),
        (["trace", "--learning_rate=0.1"], "keras calls it learning_rate; here it is --lr"),
        (["trace", "--alpha", "0.9"], "torch calls it alpha; here it is --rho"),
        (["trace", "adam", "--betas", "0.9", "0.99"], "torch calls it betas; here it is --beta1 and --beta2"),
        (["regression", "--rule=adam", "--epsilon=1e-3"], "keras calls it epsilon; here it is --eps"),
        (["trace", "sgd", "--betas", "0.9"], "it takes no --betas: sgd has --lr, --momentum"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_another_framework_calls_an_option(capsys, never_run, arguments, message):
    assert main(["demo", *arguments]) == 2
    assert_one_line(capsys, arguments[0], message)


def test_float64_takes_what_float32_cannot(capsys):
    assert main(["demo", "trace", "--eps=1e-60"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nosuch"], "argument DEMO: invalid choice: 'nosuch'"),
        (["digits", "--rule=nosuch"], "argument --rule: there is no rule 'nosuch'; there are rmsprop, sgd, "),
        (["trace", "RMSProp"], "argument RULE: there is no rule 'RMSProp': did you mean rmsprop? There are rmsprop, "),
        (["digits", "--epo", "1"], "it takes no --epo 1: did you mean --epochs?"),
        (["digits", "--ep=1"], "it takes no --ep=1: did you mean --epochs or --eps or --eps-inside or "),
        (["digits", "--epochs=0"], "argument --epochs: expected an integer of at least 1, not '0'"),
        (["digits", "--epochs=x"], "argument --epochs: expected an integer of at least 1, not 'x'"),
        (["digits", "--seed=-1"], "argument --seed: expected an integer of at least 0, not '-1'"),
        (["trace", "--rho=x"], "argument --rho: expected a number, not 'x'"),
        (["trace", "--seed=1"], "it takes no --seed=1"),
        (["surfaces", "--rule", "adam"], "it takes no --rule adam"),
        (["memory", "--lr=1"], "it takes no --lr=1"),
        (["--epochs", "5"], "first, as in instep demo digits --epochs; digits, regression, cliff, sparse take it"),
        (["--animate"], "the demo's name comes first, as in instep demo surfaces --animate"),
        (["--lr=-1", "trace"], "the demo's name comes first, as in instep demo digits --lr; digits, regression, trace"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_arguments_that_do_not_parse(capsys, tmp_path, arguments, message):
    with pytest.raises(SystemExit) as stop:
        main(["demo", *arguments])
    assert stop.value.code == 2
    usage, line = capsys.readouterr().err.splitlines()
    assert usage.startswith("usage: instep demo ")
    assert line.startswith(("instep demo ", "instep demo: "))
    assert message in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("output", ["no/a.png", "folder.png", "file/a.png", f"{'a' * 300}.png"])
def test_where_no_picture_can_be_written(capsys, tmp_path, never_run, name, output):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    assert main(["demo", name, "--output", output]) == 1
    assert_one_line(capsys, name, output)


def test_an_earlier_picture_stays_until_there_is_another(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(b"earlier")
    monkeypatch.setattr(memory, "run", lambda **settings: None)
    assert main(["demo", "memory", "--output=a.png"]) == 0
    assert (tmp_path / "a.png").read_bytes() == b"earlier"


@pytest.mark.parametrize("name", DEMOS)
def test_interrupted(capsys, tmp_path, monkeypatch, name):
    def interrupt(**settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(import_module(f"instep.demo.{name}"), "run", interrupt)
    assert main(["demo", name]) == 130
    assert re.fullmatch(rf"instep demo {name}: interrupted(, no picture is written)?\n", capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "within"), [("digits", "learn"), ("cliff", "race"), ("sparse", "learn")])
def test_interrupted_while_a_bar_is_shown(capsys, monkeypatch, name, within):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(import_module(f"instep.demo.{name}"), within, interrupt)
    assert main(["demo", name]) == 130
    out, err = capsys.readouterr()
    assert err == f"instep demo {name}: interrupted, no picture is written\n"
    assert all(out.splitlines())


@pytest.mark.parametrize(
    "arguments",
    [["digits", "--epochs=1", "--lr=1e30"], ["regression", "--rule=sgd", "--lr=0.1"], ["regression", "--lr=1e300"]],
    ids=" ".join,
)
def test_what_overflows(capsys, tmp_path, arguments):
    assert main(["demo", *arguments]) == 1
    err = capsys.readouterr().err
    assert re.fullmatch(r"instep demo \w+: error: .*: no picture; --lr may be too large\n", err)
    assert not list(tmp_path.iterdir())


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
def test_missing_extras(capsys, tmp_path, uninstall, missing):
    uninstall(missing)
    assert main(["demo"]) == 1
    expected = f'instep demo digits: error: {missing} is not installed: pip install ".[demo]" in a checkout of instep\n'
    assert capsys.readouterr().err == expected
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [None, *DEMOS])
def test_help_needs_no_extras(capsys, uninstall, name):
    uninstall("rich")
    with pytest.raises(SystemExit) as stop:
        main(["demo", *([name] if name else []), "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    for option in OPTIONS if name in OF_A_RULE else []:
        assert flag_of(option) in out
    for shown in [] if name else DEMOS:
        assert shown in out


def test_the_help_says_which_rules_have_an_option_and_its_default():
    assert command.spell_defaults(OPTIONS["rho"]) == "rmsprop: 0.9, adadelta: 0.9"
    assert command.spell_defaults(OPTIONS["maximize"]) == "default off"
    assert "adam: on" in command.spell_defaults(OPTIONS["bias_correction"])
