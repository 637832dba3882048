"""When workers are woken and how long they stay awake: decided from times alone, which are made up here."""

import ctypes

import pytest

from compiled import shared_library

MICROSECOND, MILLISECOND = 1_000, 1_000_000
GRAIN = 3 * MICROSECOND  # what a thread takes for one, until it is known better
PIECES = 4096  # of a grain

pytestmark = pytest.mark.compiler


class State(ctypes.Structure):
    _fields_ = [
        ("last_end", ctypes.c_int64), ("longest_gap", ctypes.c_int64), ("price", ctypes.c_int64),
        ("grain_time", ctypes.c_double), ("missed", ctypes.c_double),
        ("alone_until", ctypes.c_int64),
        ("interrupted", ctypes.c_uint), ("absent", ctypes.c_uint), ("held_up", ctypes.c_uint),
    ]  # fmt: skip


class Program:
    """Jobs that follow each other, on workers that sleep when they are told to, and what took part in each."""

    def __init__(self, library, threads=2, price=50 * MICROSECOND):
        self.library, self.threads, self.price = library, threads, price
        self.state = State(longest_gap=8 * MILLISECOND, price=50 * MICROSECOND, grain_time=GRAIN)
        self.now, self.awake, self.stay = 1000 * MILLISECOND, 1, 0

    def job(self, grains, gap, waited=0, interrupted=False, absent=False):
        self.now += gap
        if gap > self.stay and not absent:
            self.awake = 1
        took_part = self.library.instep_pace_begin(
            ctypes.byref(self.state), ctypes.c_int64(self.now), ctypes.c_size_t(grains * PIECES),
            ctypes.c_size_t(PIECES), self.threads, self.awake, int(interrupted),
        )  # fmt: skip
        self.stay = self.library.instep_pace_stay(ctypes.byref(self.state))
        absent = absent and took_part > 1 and self.awake > 1
        if took_part > self.awake:
            self.library.instep_pace_woke(ctypes.byref(self.state), ctypes.c_int64(self.price))
            self.awake = took_part
        did = grains if absent else grains / took_part
        begin, done = self.now, self.now + int(did * GRAIN)
        self.now = done + (waited if took_part > 1 else 0)
        self.library.instep_pace_end(
            ctypes.byref(self.state), *map(ctypes.c_int64, (begin, done, self.now)),
            ctypes.c_size_t(int(did * PIECES)), ctypes.c_size_t(PIECES), int(absent),
        )  # fmt: skip
        return took_part

    def jobs(self, count, *arguments, **named):
        return [self.job(*arguments, **named) for _ in range(count)]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    library = shared_library(tmp_path_factory.mktemp("pace"), "pace.c")
    library.instep_pace_stay.restype = ctypes.c_int64
    return library


def test_a_long_job_wakes_workers_at_once(library):
    assert Program(library).job(100, 50 * MILLISECOND) == 2


def test_a_short_one_far_from_others_never_does(library):
    assert set(Program(library).jobs(1000, 10, 10 * MILLISECOND)) == {1}


@pytest.mark.parametrize("gap", [1 * MICROSECOND, 200 * MICROSECOND, 1 * MILLISECOND])
def test_short_ones_close_to_each_other_do_in_the_end(library, gap):
    took_part = Program(library).jobs(300, 10, gap)
    first = took_part.index(2)
    assert first >= 5 * 50 // 30, "before much was missed"
    assert set(took_part[:first]) == {1}
    assert set(took_part[first:]) == {2}, "workers that are awake stay so"


def test_to_wake_is_a_fraction_of_what_was_missed(library):
    """Bursts of short jobs, between which workers fall asleep: waking costs little of the time of the jobs."""
    program = Program(library)
    woken = 0
    for _ in range(100):
        before = program.awake
        for took_part in (program.job(10, 100 * MILLISECOND), *program.jobs(40, 10, 100 * MICROSECOND)):
            woken += took_part > before
            before = took_part
    assert woken * program.price < 0.1 * 100 * 41 * 10 * GRAIN


def test_what_waking_takes_is_learned(library):
    slow, fast = Program(library, price=140 * MICROSECOND), Program(library, price=5 * MICROSECOND)
    for program in (slow, fast):
        program.jobs(60, 100, 50 * MILLISECOND)
    assert slow.job(60, 50 * MILLISECOND) == 1
    assert fast.job(60, 50 * MILLISECOND) == 2
    assert fast.job(4, 50 * MILLISECOND) == 2


def test_what_waking_takes_after_a_pause_does_not_keep_jobs_alone(library):
    """Bursts of jobs of 90 us: waking takes 20, and ten times as long the first time of each."""
    program = Program(library, price=20 * MICROSECOND)
    program.jobs(60, 100, 50 * MILLISECOND)
    for _ in range(30):
        program.price = 200 * MICROSECOND
        program.job(100, 50 * MILLISECOND)
        program.price = 20 * MICROSECOND
        assert program.jobs(2, 30, 5 * MILLISECOND) == [2, 2]


def test_the_longest_price_does_not_keep_large_jobs_alone(library):
    program = Program(library, price=1000 * MILLISECOND)
    program.jobs(100, 1000, 50 * MILLISECOND)
    assert program.job(110, 50 * MILLISECOND) == 2


def test_workers_sleep_soon_where_jobs_are_far_apart(library):
    program = Program(library)
    program.jobs(100, 1000, 10 * MILLISECOND)
    assert program.stay <= 50 * MICROSECOND
    program.jobs(100, 1000, 1 * MILLISECOND)
    assert 1 * MILLISECOND < program.stay < 5 * MILLISECOND
    program.job(1000, 10 * MILLISECOND)
    assert program.stay <= 50 * MICROSECOND


def test_one_long_pause_is_soon_forgotten(library):
    program = Program(library)
    program.jobs(100, 100, 100 * MICROSECOND)
    program.job(100, 10_000 * MILLISECOND)
    program.jobs(10, 100, 100 * MICROSECOND)
    assert program.stay > 100 * MICROSECOND


def test_workers_that_are_interrupted_stop_to_stay_awake(library):
    program = Program(library)
    program.jobs(100, 10, 1 * MILLISECOND)
    assert program.stay > 1 * MILLISECOND
    program.job(10, 1 * MILLISECOND, interrupted=True)
    assert program.stay > 1 * MILLISECOND, "once is no reason"
    program.jobs(3, 10, 1 * MILLISECOND, interrupted=True)
    assert program.stay <= 50 * MICROSECOND
    program.jobs(300, 10, 1 * MILLISECOND)
    assert program.stay > 1 * MILLISECOND, "nor for ever"


def test_who_waits_for_workers_again_and_again_goes_alone(library):
    """Where each job would wait for 3 ms: two find that out, and trying again costs a twentieth of the time alone."""
    program = Program(library)
    took_part = program.jobs(1000, 100, 100 * MICROSECOND, waited=3 * MILLISECOND)
    alone = took_part.count(1) * (100 * GRAIN + 100 * MICROSECOND)
    assert 0 < (took_part.count(2) - 2) * 3 * MILLISECOND <= alone / 20 + 3 * MILLISECOND
    assert program.jobs(300, 1000, 100 * MICROSECOND)[-1] == 2


def test_workers_that_are_kept_from_their_core_sleep_at_once(library):
    """One that is awake and comes to no job is not counted on until it is woken."""
    program = Program(library)
    program.jobs(100, 100, 100 * MICROSECOND)
    program.job(100, 100 * MICROSECOND, absent=True)
    assert program.stay > 100 * MICROSECOND, "once is no reason"
    program.jobs(2, 100, 100 * MICROSECOND, absent=True)
    assert program.job(100, 100 * MICROSECOND) == 2
    assert program.stay == 0
    took_part = program.jobs(400, 100, 100 * MICROSECOND)
    assert set(took_part) == {2}, "woken for each"
    assert program.stay > 100 * MICROSECOND, "not for ever"


def test_to_be_absent_for_long_is_remembered_for_longer(library):
    """A thread that spins keeps the core for some twenty jobs: trying again costs one in thirty."""
    program = Program(library)
    program.jobs(10, 100, 100 * MICROSECOND)
    program.jobs(25, 100, 100 * MICROSECOND, absent=True)
    program.jobs(25 * 30, 100, 100 * MICROSECOND)
    assert program.stay == 0


def test_what_waking_costs_is_found_out_where_workers_sleep_at_once(library):
    """Jobs that take less than twice what waking was thought to."""
    program = Program(library)
    program.jobs(10, 100, 100 * MICROSECOND)
    program.price = 10 * MICROSECOND
    program.jobs(25, 20, 100 * MICROSECOND, absent=True)
    took_part = program.jobs(600, 20, 100 * MICROSECOND)
    assert set(took_part[-100:]) == {2}
    assert took_part[:50].count(2) <= 5


def test_one_wait_changes_nothing(library):
    program = Program(library)
    program.job(1000, 100 * MICROSECOND, waited=3 * MILLISECOND)
    assert set(program.jobs(100, 1000, 100 * MICROSECOND)) == {2}


def test_many_threads(library):
    program = Program(library, threads=64)
    assert program.job(1000, 50 * MILLISECOND) == 64
    assert set(program.jobs(100, 1000, 100 * MICROSECOND)) == {64}
