"""`instep bench`: it runs, it names who is missing, it does not time who computes something else."""

import importlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rich.console

import instep
from instep import _core, reference
from instep.__main__ import main
from instep._bench import Walk
from instep._core import Options
from instep.benchmark import (
    around,
    between,
    claims,
    formulas,
    measure,
    peers,
    picture,
    report,
    suite,
    values,
    variants,
    walls,
    work,
)
from instep.dialects import family
from trials import assert_same_bits, expected, hard_arrays, one_of_each_loop

ROOT = Path(__file__).parents[1]
FAMILY = list(family())
SHAPES = [(300, 3), (7,), (1,)]
OTHERS = ["adam", "sgd"]


def numpy_peers(kind):
    """Those that are always there, of whom a loop in Python is too slow for a test."""
    return [peer for peer in peers.peers_of(kind) if not peer.needs and peer.name != peers.PYTHON]


@pytest.fixture(scope="module")
def result():
    """A run in which every number is there and means nothing."""
    with pytest.MonkeyPatch.context() as patch:
        absent = peers.Peer("x", peers.start_twin, needs=("x_",))
        patch.setattr(suite, "peers_of", lambda kind: iter([*numpy_peers(kind), absent]))
        progress = []
        kinds = [FAMILY[0], *OTHERS]
        found = suite.run(suite.tiny_scale(), kinds, lambda title, done: progress.append(done))
    assert progress == sorted(progress)
    assert progress[-1] == pytest.approx(1)
    return json.loads(json.dumps(found))


def test_a_run_has_every_section(result):
    first, *others = result["rules"]
    assert [row["elements"] for row in claims.rows_of(result, "sizes", first)] == [10, 1_000, 10_000, 100_000]
    of_first = ("options", "around", "passes", "rows", "between", "values", "import")
    for section in ("sizes", "workloads", "overhead", "function", *of_first):
        assert claims.rows_of(result, section, first)
        for row in result[section]:
            assert row["title"]
            assert all(0 < time["low"] <= time["median"] <= time["high"] for time in row["times"])
    for rule in others:
        of_others = ("sizes", "workloads", "overhead", "function", "values")
        assert all(claims.rows_of(result, section, rule) for section in of_others)
    assert set(result["options"][0]["bytes"]) == set(variants.variants_of(first))


def test_a_row_knows_the_bytes_of_its_rule(result):
    bytes_of = {row["rule"]: row["bytes"] for row in result["workloads"]}
    assert bytes_of == {"rmsprop": 20, "adam": 28, "sgd": 12}


def test_absent_peers_are_named(result):
    assert result["left_out"] == {"x": "x_ not installed"}
    assert "Left out: x (x_ not installed)." in report.markdown(result)


def test_claims_are_judged_by_the_run(result):
    found = claims.claims(result)
    assert len({one.what for one in found}) == len(found) > 10
    for one in found:
        limit, measured = (
            float(re.search(r"-?\d[\d. ]*", text)[0].replace(" ", "")) for text in (one.limit, one.measured)
        )
        assert one.holds == (measured >= limit if "at least" in one.limit else measured <= limit), one


@pytest.mark.parametrize(
    ("value", "limit", "text"),
    [
        (1.0532, 1.05, "1.053"),
        (1.0500001, 1.05, "1.0500001"),
        (1.05, 1.05, "1.05"),
        (0.9496, 0.95, "0.9496"),
        (0.947, 0.95, "0.947"),
        (1.9, 1.5, "1.90"),
        (1655.3, 453.5, "1 655"),
        (453.6, 453.5, "454"),
        (-0.004, 0.3, "-0.00"),
    ],
)
def test_a_claim_shows_on_which_side_of_its_limit_it_is(value, limit, text):
    assert claims.measured(value, limit) == text


@pytest.mark.parametrize("kind", FAMILY)
@pytest.mark.parametrize("threads", [1, 2])
def test_peers_compute_the_rule(kind, threads):
    for peer in (*peers.OURS, *numpy_peers(kind), *(one for one in peers.peers_of(kind) if one.name == peers.PYTHON)):
        peers.cross_check(peer, kind, SHAPES, threads)


@pytest.mark.parametrize("kind", FAMILY)
def test_the_drop_in_is_timed_where_it_steps(kind):
    pytest.importorskip("torch")
    for peer in peers.peers_of(kind):
        if peer.name == peers.DROP_IN:
            peers.cross_check(peer, kind, SHAPES, 1)
            started = peer.start(work.make_work(kind, SHAPES).under(work.dialect(kind, "torch")), 1)
            started.step()
            assert started.step.__self__.fallbacks() == []


class StandIn:
    """DeepSpeed's kernel by the signatures in its cpu_adam.h, computed by the twin."""

    def create_adam(self, handle, alpha, betta1, betta2, eps, weight_decay, adamw_mode, should_log):
        self.modes = getattr(self, "modes", {}) | {handle: adamw_mode}

    def adam_update(
        self, handle, step, lr, beta1, beta2, epsilon, weight_decay, bias_correction, params, grads, exp_avg, exp_avg_sq
    ):
        arrays = [array.numpy() for array in (params, grads, exp_avg, exp_avg_sq)]
        reference.adam(
            *arrays, step_count=step, lr=lr, beta1=beta1, beta2=beta2, eps=epsilon, bias_correction=bias_correction,
            weight_decay=weight_decay, decoupled_weight_decay=self.modes[handle],
        )  # fmt: skip


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_deepspeed_is_called_as_its_header_says(kind, monkeypatch):
    pytest.importorskip("torch")
    kernel = StandIn()
    monkeypatch.setattr(peers, "deepspeed_adam", lambda: kernel)
    (peer,) = (one for one in peers.peers_of(kind) if one.name == peers.DEEPSPEED)
    peers.cross_check(peer, kind, SHAPES, 1)
    peers.cross_check(peer, kind, SHAPES, 2)
    assert len(kernel.modes) == 2


WAYS = {
    around.PASSES: [(kind, extra) for kind in ("rmsprop", "adam") for extra in around.extras_of(kind) if extra.passes],
    around.TORCH: [(kind, extra) for kind in ("rmsprop", "adam") for extra in around.extras_of(kind) if extra.torch],
}


@pytest.mark.parametrize(
    ("way", "kind", "extra"),
    [(way, *one) for way, found in WAYS.items() for one in found],
    ids=lambda value: value.name if isinstance(value, around.Extra) else value.split()[-1],
)
def test_other_ways_do_what_instep_does_around_a_step(way, kind, extra):
    if way == around.TORCH:
        pytest.importorskip("torch")
    ours, theirs = (around.Arrays(kind, 50_000) for _ in range(2))
    ours.step(ours.params[extra.param], around.gradient(ours, extra), extra.options)()
    (extra.torch if way == around.TORCH else extra.passes)(theirs)()
    if extra.param == "float32":
        moved = np.abs(ours.param - 1).mean()
        assert moved > 0
        np.testing.assert_allclose(ours.param, theirs.param, rtol=0, atol=1e-3 * moved)
    else:
        param, other = (of.params["bfloat16"].astype(np.float32) for of in (ours, theirs))
        np.testing.assert_allclose(param, other, rtol=2**-7)
        if not extra.options:  # the parameter is all there is, right on the average
            np.testing.assert_allclose(param.mean() - 1, other.mean() - 1, rtol=0.05)
        assert (ours.low == theirs.low).all()
        np.testing.assert_allclose(ours.wide, theirs.wide, rtol=0, atol=1e-6)
    if "average_decay" in extra.options:
        assert not ours.own_grad.any()
        assert not theirs.own_grad.any()
        np.testing.assert_allclose(ours.average, theirs.average, rtol=0, atol=2 * moved)  # ours begins with this step


@pytest.mark.parametrize(
    "extra", [one for one in around.EXTRAS if "skip_nonfinite" in one.options], ids=lambda e: e.name
)
@pytest.mark.parametrize("way", [around.OURS, around.PASSES, around.TORCH])
def test_all_ways_skip_what_is_not_finite(way, extra):
    if way == around.TORCH:
        pytest.importorskip("torch")
    arrays = around.Arrays("rmsprop", 1000)
    before = arrays.param.copy()
    for value in (np.inf, np.nan):
        arrays.grad[700] = arrays.own_grad[700] = value
        if way == around.OURS:
            arrays.step(arrays.param, arrays.grad, extra.options)()
        else:
            (extra.torch if way == around.TORCH else extra.passes)(arrays)()
        assert (arrays.param == before).all()


@pytest.mark.parametrize("kind", ["rmsprop", "adam"])
def test_rows_are_stepped_alike(kind):
    contenders = {one.name: one for one in around.contenders_over_rows(kind, 64, with_torch=False)}
    assert list(contenders) == [around.ROWS, around.GATHERED, around.DENSE]
    assert all(one.seconds(2) > 0 for one in contenders.values())


def test_a_rule_without_states_stores_none():
    assert {extra.name for extra in around.EXTRAS} - {extra.name for extra in around.extras_of("sgd")} == {
        "8-bit states",
        "bfloat16 states",
    }


@pytest.mark.parametrize("kind", FAMILY)
def test_every_rule_runs_with_everything_around(kind):
    with_torch = kind in ("rmsprop", "sgd")
    if with_torch:
        pytest.importorskip("torch")
    for one in (*around.contenders(kind, 300, 1), *around.others(kind, 300, 1, with_torch)):
        one.prepare()
        assert one.seconds(2) > 0


@pytest.mark.parametrize("kind", FAMILY)
def test_every_rule_has_peers(kind):
    names = [peer.name for peer in peers.peers_of(kind)]
    assert len(set(names)) == len(names)
    assert {peers.TUTORIAL, peers.TWIN, peers.TUNED_NUMBA} < set(names), f"{kind} is not in benchmark/formulas.py"


WRONG = {
    "eps inside": dict(eps_inside=True),
    "another rho": dict(rho=0.9),
    "another lr": dict(lr=work.LR * 1.001),
    "bias correction": dict(bias_correction=True),
}
WRONG_OF_OTHERS = {
    "adam": dict(beta1=0.8),
    "adamw": dict(beta2=0.99),
    "rprop": dict(eta_minus=0.4),
    "lion": dict(beta1=0.8),
    "sgd": dict(maximize=True),
}


@pytest.mark.parametrize("kind", WRONG_OF_OTHERS)
def test_a_wrong_option_is_caught(kind):
    def start(given, threads):
        return peers.start_twin(given.under(given.options.replace(WRONG_OF_OTHERS[kind], (np.float32,))), threads)

    with pytest.raises(peers.WrongResult, match="wrong is off by"):
        peers.cross_check(peers.Peer("wrong", start), kind, SHAPES, 1)


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG)
def test_a_wrong_peer_is_caught(changes):
    def start(given, threads):
        return peers.start_twin(given.under(given.options.replace(changes, (np.float32,))), threads)

    wrong, right = peers.Peer("wrong", start), numpy_peers("rmsprop")[0]
    with pytest.raises(peers.WrongResult, match="wrong is off by"):
        peers.cross_check(wrong, "rmsprop", suite.POLICY, 1)
    found, left_out = suite.choose("rmsprop", [wrong, right])
    assert [peer.name for peer in found] == [right.name]
    assert left_out["wrong"].startswith("another result")


def test_a_peer_that_gives_nan_is_caught():
    def start(given, threads):
        return peers.Started(lambda: None, lambda: [np.full_like(param, np.nan) for param in given.params])

    with pytest.raises(peers.WrongResult):
        peers.cross_check(peers.Peer("nan", start), "rmsprop", suite.POLICY, 1)


def test_every_contender_has_a_turn_in_every_round():
    turns = []

    def contender(name):
        def seconds(n):
            turns.append((name, n))
            return n * 1e-3

        return measure.Contender(name, 1, seconds)

    samples = measure.interleave([contender(name) for name in "abc"], measure.Effort(rounds=3, batch=4e-3, patience=60))
    assert {name: len(times) for (name, _), times in samples.items()} == {"a": 3, "b": 3, "c": 3}
    assert all(time == pytest.approx(1e-3) for times in samples.values() for time in times)
    timed = [name for name, n in turns if n == 4]
    assert timed[-9:] == list("abcbcacab")


def make_walk(rule, options, sizes, dtype, isa=None):
    """A walk, and its arrays by name, one dict for each size."""
    checked = Options(rule).replace(options, (np.dtype(dtype),))
    random = np.random.default_rng(1)
    arrays = [hard_arrays(random, rule, options, (size,), dtype) for size in sizes]
    params, grads, *states = ([one[name] for one in arrays] for name in ("param", "grad", *checked.states))
    return Walk(checked, params, grads, dict(zip(checked.states, states, strict=True)), isa), arrays


@pytest.mark.parametrize("threads", [1, 3])
def test_the_loop_alone_is_the_kernel(rule, dtype, threads):
    for options in one_of_each_loop(rule):
        walk, arrays = make_walk(rule, options, (1, 5000, 0, 3072, 17), dtype)
        after = [expected(rule, options, expected(rule, options, one)) for one in arrays]
        assert walk.seconds("bare", threads, 2) > 0
        for found, twin in zip(arrays, after, strict=True):
            assert_same_bits(found, twin, options)


def test_the_walls_walk_every_element(rule, isa):
    for options in one_of_each_loop(rule):
        walk, (arrays,) = make_walk(rule, options, (5001,), "float32", isa)
        param, grad, *states = arrays.values()
        for value, array in enumerate([grad, *states], 1):
            array[...] = value**2
        for roots, loop in enumerate(("divider", "divider of two roots"), 1):
            if len(states) < roots:
                with pytest.raises(ValueError, match="needs more states"):
                    walk.seconds(loop, 2, 1)
                continue
            walk.seconds(loop, 2, 1)
            assert (param == np.float32(0.5 if roots == 1 else 1.5)).all()
        param[...] = 1
        walk.seconds("roof", 2, 3)
        assert (param == param[0]).all()
        assert param[0] == pytest.approx(0.997)
        for value, state in enumerate(states, 2):
            assert (state == value**2 + 3).all()


COSTS = {"rmsprop": (1, 1), "adagrad": (1, 1), "adam": (1, 1), "yogi": (1, 1), "adadelta": (2, 1), "sgd": (0, 0)}


def test_roots_and_divisions_are_those_of_the_twin(rule):
    cost = walls.roots_and_divisions(Options(rule))
    assert cost == COSTS.get(rule, cost)
    for options in one_of_each_loop(rule):
        assert walls.roots_and_divisions(Options(rule).replace(options, ())) == cost


def test_the_divider_walks_as_many_roots(rule):
    here = work.make_work(rule, [(3000,)])
    dividers = [one for one in walls.walls(here, with_divider=True) if one.name == walls.DIVIDER]
    assert len(dividers) == bool(walls.roots_and_divisions(here.options)[0])
    assert all(one.seconds(1) > 0 for one in dividers)


def test_variants_are_what_costs_something_else():
    found = variants.variants_of("rmsprop")
    assert found["momentum, nesterov"] == {"momentum": 0.9, "nesterov": True}
    assert found["weight_decay, decoupled_weight_decay"] == {"weight_decay": 1.0, "decoupled_weight_decay": True}
    assert found["momentum, centered"] == {"momentum": 0.9, "centered": True}
    assert found["eps_inside"] == {"eps_inside": True}
    assert "initial_square_avg" not in found
    assert "decoupled_weight_decay" not in found
    assert "amsgrad, amsgrad_corrected" in variants.variants_of("adam")


@pytest.mark.parametrize("kind", FAMILY)
def test_every_option_that_is_off_is_a_variant(kind):
    plain = work.dialect(kind)
    turned_on = {name for changes in variants.variants_of(kind).values() for name in changes}
    assert set(variants.turned_on(kind, plain)) - turned_on <= {"decoupled_weight_decay"}


def is_subnormal(array):
    return (array != 0) & (np.abs(array) < np.finfo(array.dtype).smallest_normal)


def update_of(given, steps):
    """What NumPy, which keeps subnormal numbers, takes off a parameter in the last of so many steps."""
    formula = formulas.FORMULAS[given.kind]
    states = [state.copy() for (state,) in given.states.values()]
    for t in range(1, steps + 1):
        coefficients = formula.coefficients(t, *formula.options(given.options.values()))
        update, *states = formula.element(np.zeros_like(given.grads[0]), given.grads[0], *states, *coefficients)
    return update


@pytest.mark.parametrize("kind", FAMILY)
def test_the_arrays_hold_what_is_said(kind, dtype):
    found = {what: values.holding(kind, what, np.dtype(dtype).type) for what in values.held(dtype)}
    without = [what for what, given in found.items() if given is None]
    assert without == ([values.UPDATES] if kind in ("lion", "rprop") else [])
    for what, given in found.items():
        if given is not None:
            grad, states = given.grads[0], [state for (state,) in given.states.values()]
            assert is_subnormal(grad).all() == (what == "subnormal gradients")
            assert is_subnormal(grad * grad).all() == (what == "subnormal squares")
            assert all(is_subnormal(state).all() == (what == "subnormal states") for state in states)
            assert np.isnan(grad).all() == (what == "NaN")
            assert np.isinf(grad).all() == (what == "infinity")
            dead = (grad == 0).mean()
            assert dead == {"zeros": 1, "subnormal states": 1, values.DEAD: pytest.approx(0.1, abs=1e-3)}.get(what, 0)
            if what == values.UPDATES and dtype == "float32":
                assert all(is_subnormal(update_of(given, steps)).all() for steps in (1, 2, 100))


def test_the_slowest_value_is_judged(result):
    slow = json.loads(json.dumps(result))
    rows = claims.rows_of(slow, "values", FAMILY[0])
    assert {row["dtype"] for row in rows} == {"float32", "float64"}
    for row in rows:
        slow_one = (row["title"], row["dtype"]) == ("NaN", "float64")
        row["over_normal"] = dict.fromkeys(row["over_normal"], 3 if slow_one else 1)
    (claim,) = claims.of_values(slow, FAMILY[0])
    assert (claim.measured, claim.holds) == ("3.00x (NaN, float64)", False)
    assert "| NaN | 1.0x | 3.0x | 1.0x |" in report.markdown_values(slow)
    assert report.markdown_values({"rules": FAMILY, "values": []}) == "The last run did not measure it.\n"


def test_values_are_stepped_in_the_same_arrays():
    """No contender has luckier pages; each finds what its row is of, whoever had the arrays before."""
    normal, zeros = (values.holding("adam", what, np.float32) for what in (values.NORMAL, "zeros"))
    shared = normal.copy()
    first, second = (suite.refilled(peers.BOUND_STEP, held, shared, "") for held in (normal, zeros))
    for contender, held in ((first, normal), (second, zeros), (first, normal)):
        contender.prepare()
        for array, wanted in zip(shared.of_each[0], held.of_each[0], strict=True):
            np.testing.assert_array_equal(array, wanted)
        assert contender.seconds(2) > 0
        assert (shared.params[0] != held.params[0]).any() == (held is normal)


def test_values_are_judged_within_a_round():
    """A machine that gets slower from round to round makes none of them slow."""
    normal = [1.0, 2.0, 3.0, 4.0]
    assert suite.over_rounds([1.1 * seconds for seconds in normal], normal) == pytest.approx(1.1)
    assert suite.over_rounds([1.0, 2.0, 3.0, 40.0], normal) == 1


def test_what_is_around_a_step_is_judged_and_shown(result):
    slow = json.loads(json.dumps(result))
    for row in (*slow["around"], *slow["passes"]):
        for time in row["times"]:
            time["median"] = 2e-6 if "scaled" in time["name"] else 1e-6
    for row in slow["rows"]:
        for time in row["times"]:
            time["median"] = 1e-7 * row["elements"] / around.TABLE[1]
    found = {claim.what: (claim.measured, claim.holds) for claim in claims.of_what_is_around(slow, FAMILY[0])}
    assert found["scaled, in memory, over a plain step"] == ("2.00x", False)
    assert found["clipped by value, in memory, over a plain step"] == ("1.00x", True)
    assert found["256 rows of 50 000 x 64"] == ("25.60 us", True)
    assert found["a row of 4 096 over a row of 256"] == ("1.00x", True)
    text = report.markdown_around(slow)
    assert "| scaled | **2.00x** | 1.03x | 2.0x |  | 2.00x |  | 2.0x |  |\n" in text
    assert "| instep, Rows | 6.4 us | 25.6 us | 102 us | 410 us |\n" in text
    assert report.markdown_around({"rules": FAMILY}) == "The last run did not measure it.\n"


def test_the_readme_shows_what_is_around_a_step(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "bench")
    saved = json.loads(next(ROOT.glob("bench/results/around/*.json")).read_text())
    text = (ROOT / "bench" / "README.md").read_text()
    again = importlib.import_module("write_readme").with_around(text, saved)
    assert again == text, "run bench/write_readme.py --around with the result that bench/README.md shows"


def test_every_condition_is_there_for_every_size(result):
    rows = claims.rows_of(result, "between", FAMILY[0])
    titles = [condition.title for condition in between.conditions()]
    assert titles[:4] == ["back to back", "0.2 ms apart", "1 ms apart", "10 ms apart"]
    assert [(row["elements"], row["title"]) for row in rows] == [
        (size, title) for size in suite.tiny_scale().apart for title in titles
    ]


def test_what_comes_between_steps_is_not_in_their_time():
    calls = []

    def between_steps():
        calls.append("between")
        between.compute(0.05)

    seconds = between.steps_after(between_steps, lambda: calls.append("prepare"), lambda: calls.append("step"), 3)
    assert calls == ["between", "prepare", "step"] * 3
    assert 0 < seconds < 0.05


def test_a_sample_counts_what_comes_between():
    contender = measure.Contender("a", 1, lambda n: n * 1e-3, apart=9e-3)
    assert measure.enough_repeats(contender, 0.1) == 10


def test_busy_processes_end(monkeypatch):
    started = []

    def popen(*args, **kwargs):
        started.append(subprocess.Popen(*args, **kwargs))
        return started[-1]

    monkeypatch.setattr(between, "subprocess", SimpleNamespace(Popen=popen, PIPE=subprocess.PIPE))
    with between.busy_processes():
        assert len(started) == instep.get_num_threads()
        assert all(process.poll() is None for process in started)
    assert all(process.poll() is not None for process in started)


def test_the_worst_size_and_the_worst_condition_are_judged(result):
    slow = json.loads(json.dumps(result))
    slow["machine"]["threads"] = most = 2
    of_two = [{"name": peers.BOUND, "threads": n, "median": 1e-4, "low": 1e-4, "high": 1e-4} for n in (1, most)]
    rows = claims.rows_of(slow, "between", FAMILY[0])
    for row in rows:
        row["times"] = [*(time.copy() for time in of_two), of_two[1] | {"name": "peer", "median": 2e-4}]
    rows[-1]["times"][1]["median"] = 4e-4
    found = {claim.what: (claim.measured, claim.holds) for claim in claims.of_conditions(slow, FAMILY[0])}
    title = rows[-1]["title"]
    assert found.pop(f"steps {title}, 2 threads against one") == ("4.00x (at 100 000)", False)
    assert found.pop("one array between other work, against the best peer") == (f"0.50x (100 000, {title})", False)
    assert set(found.values()) == {("1.00x (at 1 000)", True)}
    assert f"| 100 000 | {title} | 100 us | 400 us | 200 us: peer, 2 |" in report.markdown_conditions(slow)
    assert report.markdown_conditions({"rules": FAMILY}) == "The last run did not measure it.\n"


def test_few_bits_are_trained_alike(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(ROOT / "bench")
    few_bits = importlib.import_module("few_bits")
    for task in few_bits.TASKS:
        monkeypatch.setattr(task, "epochs", 6)
    monkeypatch.setattr(few_bits, "SEEDS", (0,))
    monkeypatch.setattr(sys, "argv", ["few_bits.py", str(tmp_path / "picture.png")])
    few_bits.main()
    rows = re.findall(r"^\| (.+?) \| [\d.]+, ([+-][\d.]+)% \| [\d.]+, ([+-][\d.]+)% \|$", capsys.readouterr().out, re.M)
    assert [name for name, *_ in rows] == [*few_bits.FORMATS][1:]
    assert all(abs(float(value)) < 10 for _, *values in rows for value in values)
    assert (tmp_path / "picture.png").stat().st_size > 10_000


def test_an_array_beyond_the_memory_is_not_made(monkeypatch):
    monkeypatch.setattr(suite.machine, "free_memory", lambda: 10**9)
    assert suite.full_scale().large == max(suite.full_scale().sizes) == 10**7


def test_a_machine_with_a_huge_cache_does_not_take_forever(monkeypatch):
    monkeypatch.setattr(suite.machine, "free_memory", lambda: 10**12)
    monkeypatch.setattr(suite.machine, "last_level_cache", lambda: 480 << 20)
    monkeypatch.setattr(suite, "installed", lambda kinds: {kind: [] for kind in kinds})  # others take what they take
    assert suite.full_scale().large == 64_000_000
    assert suite.quick_scale().large == 12_000_000
    assert suite.expected_seconds(suite.quick_scale(), FAMILY) < 4 * 60
    assert suite.expected_seconds(suite.full_scale(), FAMILY) < 18 * 60


def test_a_walk_leaves_the_settings_alone():
    _core.set_isa(None)
    highest = _core.active_isa()
    instep.set_num_threads(2)
    walk, _ = make_walk("rmsprop", {}, (10,), "float32", "baseline")
    for loop in ("bare", "roof", "divider"):
        walk.seconds(loop, 3, 1)
    assert _core.active_isa() == highest
    assert instep.get_num_threads() == 2
    with pytest.raises(ValueError, match="'sse9' is not one that runs here"):
        make_walk("rmsprop", {}, (10,), "float32", "sse9")
    with pytest.raises(ValueError, match="from 1 to 256"):
        walk.seconds("roof", 257, 1)


def test_a_walk_has_the_states_of_its_options():
    arrays = [np.ones(3, np.float32)]
    with pytest.raises(ValueError, match=r"states must be \['square_avg'\], not \['grad_avg'\]"):
        Walk(Options("rmsprop"), arrays, arrays, {"grad_avg": arrays})


# ---- tables, picture, command -----------------------------------------------------------------------------------


def test_write_readme_replaces_what_is_between_the_markers(result, tmp_path):
    saved, readme = tmp_path / "result.json", tmp_path / "README.md"
    saved.write_text(json.dumps(result))
    readme.write_text(
        "before\n<!-- benchmark -->\nold\n<!-- /benchmark -->\nbetween\n<!-- claims -->\n<!-- /claims -->\nafter\n"
    )
    script = [sys.executable, ROOT / "bench" / "write_readme.py", saved, "--into", readme]
    subprocess.run(script, check=True)
    once = readme.read_text()
    assert once == (
        f"before\n<!-- benchmark -->\n{report.markdown(result)}<!-- /benchmark -->\nbetween\n"
        f"<!-- claims -->\n{report.markdown_claims(result)}<!-- /claims -->\nafter\n"
    )
    subprocess.run(script, check=True)
    assert readme.read_text() == once
    assert (tmp_path / "result.svg").read_text().startswith("<?xml")


def test_the_table_shows_losses(result):
    lost = json.loads(json.dumps(result))
    rows = claims.rows_of(lost, "workloads", FAMILY[0])
    for row in rows:
        for time in row["times"]:
            if time["name"] == peers.TUTORIAL:
                time["median"] = claims.median(row, peers.INSTEP, lost["machine"]["threads"]) / 2
    (line,) = [line for line in report.markdown(lost).splitlines() if line.startswith(f"| {peers.TUTORIAL}")]
    assert line.count("0.50x") == len(rows)
    (line,) = [line for line in report.markdown_family(lost).splitlines() if line.startswith(f"| {FAMILY[0]}")]
    assert line.count(f"{peers.TUTORIAL} 0.50x") == len(rows)


@pytest.mark.parametrize(
    "text",
    ["no place", "<!-- claims -->\nno end", "<!-- claims -->\n<!-- /claims -->\n<!-- claims -->\n<!-- /claims -->\n"],
)
def test_a_readme_without_its_places_is_refused(result, text):
    with pytest.raises(ValueError, match="line"):
        report.write_tables(text, result)


def test_every_table_has_a_place_in_the_bench_readme():
    text = (ROOT / "bench" / "README.md").read_text()
    assert all(f"<!-- {name} -->\n" in text and f"<!-- /{name} -->" in text for name in report.TABLES)


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_a_picture(result, tmp_path, suffix):
    path = tmp_path / f"picture{suffix}"
    picture.draw(result, path)
    assert path.stat().st_size > 10_000


def test_the_command_shows_a_result(result, tmp_path):
    saved = tmp_path / "result.json"
    saved.write_text(json.dumps(result))
    shown = subprocess.run(
        [sys.executable, "-m", "instep", "bench", "--show", saved],
        capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "160"},
    ).stdout  # fmt: skip
    for name in (*walls.WALLS, peers.INSTEP, peers.TUTORIAL, "GB/s", "left out: x", *result["rules"]):
        assert name in shown


def test_the_command_fails_before_it_measures(tmp_path):
    failed = subprocess.run(
        [sys.executable, "-m", "instep", "bench", "--output", tmp_path / "absent" / "result.json"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert failed.returncode == 1
    assert failed.stderr.startswith("instep bench: error: ")
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize("saved", [True, False])
def test_eighty_columns_are_enough(saved, result):
    console = rich.console.Console(width=80, file=io.StringIO())
    report.show(json.loads(next(ROOT.glob("bench/results/*.json")).read_text()) if saved else result, console)
    printed = console.file.getvalue()
    assert "the roof" in printed
    assert "…" not in printed


@pytest.mark.parametrize("text", ["", "{}", "[1]", "# README", '{"format": 3, "workloads": []}', "\xff"])
def test_what_is_no_result_is_not_shown(text, tmp_path, capsys):
    path = tmp_path / "result.json"
    path.write_text(text, encoding="latin-1")
    assert main(["bench", "--show", str(path)]) == 1
    assert "is not a result of instep bench" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nosuch", "'nosuch'; there are rmsprop, "),
        ("rmsporp", "'rmsporp': did you mean rmsprop? There are rmsprop, "),
        ("RMSprop", "'RMSprop': did you mean rmsprop? There are rmsprop, "),
        ("al", "'al': did you mean all? There are rmsprop, "),
    ],
)
def test_a_rule_that_is_not_there_is_named(capsys, name, words):
    with pytest.raises(SystemExit) as stop:
        main(["bench", "--rule", name])
    assert stop.value.code == 2
    assert f"instep bench: error: argument --rule: there is no rule {words}" in capsys.readouterr().err


def test_the_picture_does_not_take_the_place_of_the_result(tmp_path, capsys):
    assert main(["bench", "--output", str(tmp_path / "result.png")]) == 2
    assert "where the picture goes" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_interrupted_run_leaves_nothing(tmp_path, capsys, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(suite, "run", interrupted)
    assert main(["bench", "--quick", "--output", str(tmp_path / "result.json")]) == 130
    out, err = capsys.readouterr()
    assert re.fullmatch(r"expected to take .*\n", out)
    assert err == "instep bench: interrupted, nothing is written\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("page", ["README.md", "bench/README.md"])
def test_the_figures_are_those_of_the_result(page):
    result = json.loads(next(ROOT.glob("bench/results/*.json")).read_text())
    text = (ROOT / page).read_text()
    assert report.write_tables(text, result) == text, f"run bench/write_readme.py with the result that {page} shows"
