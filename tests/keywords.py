"""Which keyword of an optimizer goes with what: one table, for the documentation, made by trying each of them.

python tests/keywords.py        prints it as Markdown
"""

import tempfile
from functools import partial
from itertools import combinations
from pathlib import Path

import ml_dtypes
import numpy as np

import instep
from instep._core import Options

# Every option that is not of the formula, and the keywords beside the options, each with a value that turns it on.
KEYWORDS = {
    "grad_scale": dict(grad_scale=0.5),
    "clip_value": dict(clip_value=0.5),
    "clip_norm": dict(clip_norm=0.5),
    "clip_global_norm": dict(clip_global_norm=0.5),
    "skip_nonfinite": dict(skip_nonfinite=True),
    "grow_every": dict(grow_every=2),
    "statistics": dict(statistics=True),
    "zero_grads": dict(zero_grads=True),
    "average_decay": dict(average_decay=0.5),
    "exact_rows": dict(exact_rows=True),
    "seed": dict(seed=1),
    "groups": dict(groups={"b": {"lr": 0.5}}),
    'state_dtype="bfloat16"': dict(state_dtype="bfloat16"),
    'state_dtype="8bit"': dict(state_dtype="8bit"),
    'master="split"': dict(master="split"),
    'master="float32"': dict(master="float32"),
}
AROUND = [name for name in Options("rmsprop").values() if name not in Options("rmsprop").of_formula]
DTYPES = {"float64": np.float64, "float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}
SHAPE = (4, 300)


def start(dtype):
    return {"a": np.ones(SHAPE, dtype), "b": np.ones(SHAPE, dtype)}


def grads_of(params, dtype=None):
    return {key: np.ones(SHAPE, dtype or param.dtype) for key, param in params.items()}


def rows_of(params):
    return grads_of(params) | {"a": instep.Rows(np.array([0, 2]), np.ones((2, SHAPE[1]), params["a"].dtype))}


def bound(optimizer, params):
    optimizer.bind(grads_of(params))
    optimizer.step()


def accumulated(optimizer, params):
    optimizer.accumulate(grads_of(params))
    optimizer.accumulate(grads_of(params))
    optimizer.step()


def saved(optimizer, params):
    optimizer.step(grads_of(params))
    with tempfile.TemporaryDirectory() as folder:
        optimizer.save(Path(folder) / "checkpoint")
        instep.load(Path(folder) / "checkpoint", params)


WAYS = {
    "gradients of fewer bits": lambda optimizer, params: optimizer.step(grads_of(params, np.float16)),
    "gradients of another layout": lambda optimizer, params: optimizer.step(
        {key: np.asfortranarray(grad) for key, grad in grads_of(params).items()}
    ),
    "`Rows`": lambda optimizer, params: optimizer.step(rows_of(params)),
    "gradients of None": lambda optimizer, params: optimizer.step(grads_of(params) | {"a": None}),
    "`step_one`": lambda optimizer, params: optimizer.step_one("a", grads_of(params)["a"]),
    "`bind`": bound,
    "`accumulate`": accumulated,
    "`save`": saved,
}


def outcome(action):
    """As the cell of the table has it."""
    try:
        action()
    except (TypeError, ValueError) as error:
        return type(error).__name__
    return "yes"


def make(keywords, dtype=None):
    """An optimizer with several states; of bfloat16 where that is what the keyword is about."""
    options = {name: value for keyword in keywords for name, value in KEYWORDS[keyword].items()}
    params = start(dtype or (ml_dtypes.bfloat16 if "master" in options else np.float32))
    return instep.RMSprop(params, centered=True, **options), params


def step(keywords, dtype):
    optimizer, params = make(keywords, dtype)
    optimizer.step(grads_of(params))


def go(keywords, way):
    way(*make(keywords))


def in_a_group(keyword):
    """Another value for some of the arrays than for the others."""
    ((name, value),) = KEYWORDS[keyword].items()
    if name not in AROUND:
        return "no"
    other = {name: value / 2 if isinstance(value, float) else 0 if type(value) is int else not value}
    return outcome(lambda: instep.RMSprop(start(np.float32), **KEYWORDS[keyword], groups={"b": other}))


def table():
    """The head and a row for each keyword: what it is refused with, of everything."""
    yield ["keyword", "in a group", "ValueError with"]
    contradictions = [pair for pair in combinations(KEYWORDS, 2) if contradict(*pair)]
    for keyword in KEYWORDS:
        tried = {name: outcome(partial(step, [keyword], dtype)) for name, dtype in DTYPES.items()}
        tried |= {name: outcome(partial(go, [keyword], way)) for name, way in WAYS.items()}
        assert set(tried.values()) <= {"yes", "ValueError"}
        refused = [name for name, found in tried.items() if found != "yes"]
        refused += [f"`{other}`" for pair in contradictions if keyword in pair for other in pair if other != keyword]
        yield [f"`{keyword}`", in_a_group(keyword), ", ".join(refused)]


def contradict(*pair):
    """Whether two keywords do not go together; two values of one are no pair."""
    names = [name for keyword in pair for name in KEYWORDS[keyword]]
    return len(set(names)) == 2 and outcome(partial(step, pair, None)) != "yes"


def main():
    head, *rows = table()
    for cells in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(cells)} |")
    print(f"\nEach was tried with all others, and with {', '.join([*DTYPES, *WAYS])}.")


if __name__ == "__main__":
    main()
