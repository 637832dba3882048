"""A forked process can step, and sees whole steps; so can the one that forked."""

import textwrap
from pathlib import Path

import pytest

from another_process import python

FEW, MANY = 10, 1000
TESTS = Path(__file__).parent
FORKS_BESIDE_THREADS = pytest.mark.unemulated("version 7.2 aborts in a process forked while other threads run")

# Every forked process ends in time or is killed, which is a failure.  check() steps a walker and looks at its bits.
FORKS = textwrap.dedent("""
    import os, signal, sys, threading, time
    import instep
    from walker import Walker

    forks = int(sys.argv[1])
    instep.set_num_threads(4)

    def check(*walkers):
        for walker in walkers:
            assert walker.is_whole()
            before = walker.optimizer.step_count
            walker.step()
            assert walker.is_whole(before + 1)

    def in_child(work):
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            work()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
""")


@pytest.fixture
def forks(soak):
    return MANY if soak else FEW


def test_child_and_grandchild_step(forks):
    script = """
        for _ in range(forks):
            walker = Walker()
            check(walker)
            in_child(lambda: (check(walker), in_child(lambda: check(walker)), check(walker)))
            check(walker)
    """
    python(FORKS + textwrap.dedent(script), forks, timeout=1800)


@FORKS_BESIDE_THREADS
def test_fork_beside_steps_in_flight(forks):
    script = """
        walkers = [Walker(500_000), Walker()]
        done = threading.Event()

        def step_on(walker):
            while not done.is_set():
                walker.step()

        threads = [threading.Thread(target=step_on, args=[walker], daemon=True) for walker in walkers]
        for thread in threads:
            thread.start()
        for _ in range(forks):
            for walker in walkers:
                walker.catch_up()
            in_child(lambda: (check(*walkers), in_child(lambda: check(*walkers))))
        done.set()
        for thread in threads:
            thread.join()
        assert min(walker.optimizer.step_count for walker in walkers) > 0
        check(*walkers)
    """
    # that other threads run is this test's own doing
    python(FORKS + textwrap.dedent(script), forks, timeout=1800, options=("-W", "ignore::DeprecationWarning"))


@FORKS_BESIDE_THREADS
def test_forks_from_several_threads(forks):
    script = """
        walkers = [Walker() for _ in range(4)]
        def fork_often(walker):
            for _ in range(forks // 4):
                check(walker)
                in_child(lambda: check(walker))
        threads = [threading.Thread(target=fork_often, args=[walker]) for walker in walkers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        check(*walkers)
    """
    python(FORKS + textwrap.dedent(script), forks, timeout=1800, options=("-W", "ignore::DeprecationWarning"))


def test_optimizer_in_use_at_the_fork_is_free_in_the_child():
    """Even before the first step: a lock is taken while the gradients are looked at."""
    script = """
        import numpy as np
        inside, go_on = threading.Event(), threading.Event()

        class Key:
            slow = False
            def __hash__(self):
                if Key.slow and threading.current_thread() is not threading.main_thread():
                    inside.set()
                    go_on.wait()
                return 7

        key = Key()
        params, grads = {key: np.zeros(8)}, {key: np.ones(8)}
        optimizer = instep.RMSprop(params)
        Key.slow = True
        thread = threading.Thread(target=optimizer.step, args=[grads])
        thread.start()
        inside.wait()

        def step_in_child():
            optimizer.step(grads)
            assert optimizer.step_count == 1

        in_child(step_in_child)
        go_on.set()
        thread.join()
        assert optimizer.step_count == 1
    """
    python(FORKS + textwrap.dedent(script), 1, options=("-W", "ignore::DeprecationWarning"))


def test_child_that_ends_as_programs_do():
    script = """
        walker = Walker()
        check(walker)
        child = os.fork()
        check(walker)
        if child:
            assert os.waitpid(child, 0)[1] == 0
    """
    python(FORKS + textwrap.dedent(script), 1)


@pytest.mark.unemulated("a thread that was joined is still shown for a moment")
def test_the_forking_process_has_no_other_threads(forks):
    """Python 3.12 and later warn of any that it has right after the fork."""
    script = """
        walker = Walker()
        threads = lambda: len(os.listdir("/proc/self/task"))
        before = threads()
        os.register_at_fork(after_in_parent=lambda: left_over.append(threads() - before))
        left_over = []
        for _ in range(forks):
            while threads() - before < 3:  # on a busy machine some steps are taken alone
                walker.step()
            in_child(lambda: None)
        assert not any(left_over), left_over
    """
    python(FORKS + textwrap.dedent(script), forks, timeout=1800, OPENBLAS_NUM_THREADS="1")


@pytest.mark.parametrize("method", [pytest.param("fork", marks=FORKS_BESIDE_THREADS), "forkserver", "spawn"])
def test_multiprocessing(method, forks, tmp_path):
    (tmp_path / "program.py").write_text(
        textwrap.dedent("""
        import multiprocessing, sys
        import instep
        from walker import Walker

        def walk(steps):
            walker = Walker()
            for _ in range(steps):
                walker.step()
            assert walker.is_whole(steps)
            return walker.params[0].tobytes()

        def main(method, processes):
            context = multiprocessing.get_context(method)
            if method == "forkserver":
                context.set_forkserver_preload(["walker"])
            instep.set_num_threads(4)
            expected = walk(3)
            with context.Pool(2, maxtasksperchild=1) as pool:
                results = [pool.apply_async(walk, [3]) for _ in range(processes)]
                for result in results:
                    assert result.get(60) == expected
    """)
    )
    count = FEW // 2 if method == "spawn" and forks == FEW else forks
    python(
        f"import program; program.main({method!r}, {count})",
        timeout=1800,
        options=("-W", "ignore::DeprecationWarning"),  # a multiprocessing.Pool has threads of its own
        PYTHONPATH=f"{tmp_path}:{TESTS}",
        INSTEP_NUM_THREADS="4",
    )


def test_loky(forks, tmp_path):
    (tmp_path / "program.py").write_text(
        textwrap.dedent("""
        from joblib import Parallel, delayed
        import instep
        from walker import Walker

        def walk(steps):
            instep.set_num_threads(4)
            walker = Walker()
            for _ in range(steps):
                walker.step()
            assert walker.is_whole(steps)
            return walker.params[0].tobytes()

        def main(tasks):
            expected = walk(3)
            found = Parallel(n_jobs=2, backend="loky", timeout=60, batch_size=1)(delayed(walk)(3) for _ in range(tasks))
            assert found == [expected] * tasks
    """)
    )
    python(f"import program; program.main({forks})", timeout=1800, options=(), PYTHONPATH=f"{tmp_path}:{TESTS}")
