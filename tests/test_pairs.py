"""Every pair of calls on one optimizer, in two threads at once: nothing crashes, and nobody sees half of anything.

The gradient is 1 everywhere and always, so that every array is of equal elements, and the average of its squares says
how many steps its array has taken.  An interpreter without the GIL shows the most (`nox -s free_threaded`).
"""

import copy
import sys
import threading

import numpy as np
import pytest

import instep
from trials import states_of

SIZES = {"a": 40, "b": 70_000}  # a step of the larger gives the GIL away
OPTIONS = dict(momentum=0.9, average_decay=0.5, statistics=True)
LEGAL = [  # what a call may say of what the other one has done
    (RuntimeError, "the parameters are their averages"),
    (TypeError, "gradients were accumulated: step() takes them"),
    (TypeError, "step() without gradients needs bind(grads) first"),
    (ValueError, "grads has other keys than the params"),
    (ValueError, "grads changed while it was looked at"),
]


def ones():
    return {name: np.ones(size, np.float32) for name, size in SIZES.items()}


class Shared:
    """One optimizer, the dicts that are given to it, and calls that two threads make."""

    def __init__(self, folder):
        self.grads = ones()
        self.fresh = ones()
        self.params = {name: np.zeros_like(grad) for name, grad in self.grads.items()}
        self.optimizer = instep.RMSprop(self.params, groups={"b": {"lr": 0.5}}, **OPTIONS)
        for _ in range(3):
            self.optimizer.step(self.grads)
        self.saved = self.optimizer.state_dict()
        self.folder = folder
        self.optimizer.save(folder / "start")
        self.squares = [np.float32(0)]
        self.alone = instep.RMSprop(np.zeros(1, np.float32), **OPTIONS)
        self.determined = True  # the average of the squares, by the counts

    # -- calls

    def step(self):
        self.optimizer.step(self.grads)

    def step_one(self):
        self.optimizer.step_one("a", self.fresh["a"])

    def bind(self):
        self.optimizer.bind(self.grads)
        self.optimizer.step()
        self.optimizer.bind(None)

    def accumulate(self):
        self.optimizer.accumulate(self.grads)
        self.optimizer.step()

    def accumulate_nothing(self):
        self.optimizer.accumulate(None)

    def averaged(self):
        with self.optimizer.averaged() as params:
            assert uniform(*params.values())

    def state_dict(self):
        self.check(self.optimizer.state_dict())

    def load_state_dict(self):
        self.optimizer.load_state_dict(self.saved)

    def save(self):
        path = self.folder / str(threading.get_ident())
        self.optimizer.save(path)
        self.check(instep.load(path, ones()).state_dict())

    def load(self):
        self.optimizer.load(self.folder / "start")

    def assign(self):
        self.optimizer.lr = 0.25
        assert self.optimizer.lr in (0.25, 0.001)
        self.optimizer.lr = 0.001

    def assign_structure(self):
        self.optimizer.centered = not self.optimizer.centered

    def assign_to_a_group(self):
        group = self.optimizer.groups["b"]
        group.lr = 0.125
        assert group.lr in (0.125, 0.5)
        group.lr = 0.5

    def state(self):
        found = self.optimizer.state
        assert set(found) in [set(states_of("rmsprop", OPTIONS | {"centered": centered})) for centered in (False, True)]
        for arrays in found.values():
            assert {name: array.size for name, array in arrays.items()} == SIZES

    def options(self):
        assert self.optimizer.options["momentum"] == 0.9
        assert self.optimizer.params["a"] is self.params["a"]
        assert "RMSprop" in repr(self.optimizer)

    def counts(self):
        assert self.optimizer.step_count >= 3
        assert self.optimizer.skipped_steps == 0
        assert set(self.optimizer.norms) == {"grad", "update", "param"}
        assert self.optimizer.grad_norm >= 0

    def copy(self):
        with pytest.raises(TypeError, match="neither copied nor pickled"):
            copy.copy(self.optimizer)

    def make_again(self):
        with pytest.raises(TypeError, match="made once"):
            self.optimizer.__init__(self.params)

    def make_another(self):
        made = instep.SGD(self.fresh)
        for name, param in made.params.items():
            assert param.size == SIZES[name[0]]

    def change_the_dicts(self):
        for name in SIZES:
            self.grads[name] = np.ones(SIZES[name], np.float32)
            self.fresh[name] = np.ones(SIZES[name], np.float32)
        self.grads["c"] = self.fresh["bc"] = np.ones(SIZES["b"], np.float32)
        del self.grads["c"], self.fresh["bc"]

    # -- what must hold

    def check(self, now):
        assert set(now["state"]) == set(states_of("rmsprop", now["options"]))
        counts = now["step_counts"]
        assert now["step_count"] == counts["a"] >= counts["b"] >= 3
        for name, arrays in now["state"].items():
            assert uniform(*arrays.values()), name
        if self.determined:
            for place, count in counts.items():
                assert now["state"]["square_avg"][place][0] == self.square(count)

    def square(self, count):
        """The average of the squares after so many steps."""
        with LOCK:
            while len(self.squares) <= count:
                self.alone.step(np.ones(1, np.float32))
                self.squares.append(self.alone.state["square_avg"][0])
        return self.squares[count]

    def check_end(self):
        assert uniform(*self.params.values())
        self.check(self.optimizer.state_dict())
        before = self.optimizer.step_count
        self.optimizer.accumulate(None)
        self.optimizer.step(ones())
        assert self.optimizer.step_count == before + 1
        assert uniform(*self.params.values())


LOCK = threading.Lock()
CALLS = [name for name, call in vars(Shared).items() if callable(call) and name[0] != "_"]
CALLS = CALLS[: CALLS.index("check")]


def uniform(*arrays):
    return all((array == array[0]).all() and np.isfinite(array[0]) for array in arrays)


def repeat(call, times, start, errors):
    start.wait()
    try:
        for _ in range(times):
            try:
                call()
            except (RuntimeError, TypeError, ValueError) as error:
                if not any(isinstance(error, kind) and str(error).startswith(words) for kind, words in LEGAL):
                    raise
    except BaseException as error:
        errors.append(error)


@pytest.fixture
def in_turns():
    """Threads that hold the GIL give it away after a microsecond."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("first", CALLS)
def test_every_pair(first, soak, tmp_path, in_turns):
    for second in CALLS[CALLS.index(first) :]:
        shared = Shared(tmp_path)
        shared.determined = not {"accumulate", "assign_structure"} & {first, second}
        start, errors = threading.Barrier(2), []
        times = 300 if soak else 10
        threads = [
            threading.Thread(target=repeat, args=(getattr(shared, name), times, start, errors))
            for name in (first, second)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
            assert not thread.is_alive(), (first, second)
        try:
            if errors:
                raise errors[0]
            shared.check_end()
        except BaseException as error:
            error.add_note(f"{first} beside {second}")
            raise
