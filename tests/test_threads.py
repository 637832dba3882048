"""Threads: how many there are, when they wake and sleep, and that nobody can tell from the bits."""

import ctypes
import os
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import instep
from another_process import python
from compiled import CSRC, shared_library
from trials import CLASSES, Options, situations, states_of, structural, structures, widest
from walker import LARGE, Walker

# ---- the same bits


@pytest.mark.parametrize("threads", [2, 3, 4, 8, 256])
@pytest.mark.parametrize(("rule", "options"), situations().values(), ids=situations())
def test_bits_do_not_depend_on_the_number_of_threads(rule, options, threads, dtype):
    sizes = [LARGE, 0, 1, *[1001] * 200, 17, LARGE // 3]
    rng = np.random.default_rng(3)
    grads = [rng.standard_normal(size).astype(dtype) for size in sizes]
    grads[5] = None
    found = []
    for number in (1, threads):
        instep.set_num_threads(number)
        params = [np.ones(size, dtype) for size in sizes]
        optimizer = CLASSES[rule](params, **options)
        for _ in range(3):
            optimizer.step(grads)
        arrays = params + [array for state in optimizer.state.values() for array in state]
        found.append([array.tobytes() for array in arrays])
    assert found[0] == found[1]


@pytest.mark.parametrize("size", [100, pytest.param(LARGE, id="large")])
def test_steps_on_one_optimizer_follow_one_another(rule, size):
    walker = Walker(size, CLASSES[rule], **widest(rule))
    instep.set_num_threads(4)
    in_threads(lambda: [walker.step() for _ in range(50)], 8)
    assert walker.is_whole(400)


def test_steps_on_different_optimizers_do_not_meet():
    walkers = [Walker(LARGE + k, optimizer) for k, optimizer in enumerate(CLASSES.values())]
    instep.set_num_threads(4)
    waiting = iter(walkers)

    def walk():
        walker = next(waiting)
        for _ in range(100):
            walker.step()

    in_threads(walk, len(walkers))
    assert all(walker.is_whole(100) for walker in walkers)


def test_the_number_may_change_while_steps_are_taken():
    walker = Walker()
    numbers = iter(range(1, 1 + 4 * 50))

    def walk():
        for _ in range(50):
            instep.set_num_threads(next(numbers) % 9 + 1)
            walker.step()

    in_threads(walk, 4)
    assert walker.is_whole(200)


def in_threads(work, count):
    errors = []

    def guarded():
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)  # minutes under the thread sanitizer
        assert not thread.is_alive()
    assert not errors


# ---- options changed beside steps


def test_options_changed_beside_steps_are_whole(rule):
    """Options and the state that they need change as one, and no step is lost in between."""
    param, grad = np.ones(100_000, np.float32), np.ones(100_000, np.float32)
    optimizer = CLASSES[rule](param, **structures(rule)[0] | dict(lr=0.25, weight_decay=0.0))
    switches = [name for name in structural(rule) if Options(rule).ranges[name] in ("flag", "decay")]
    todo = iter([None, ("lr", [0.25, 0.5]), *((name, [0.5, 0.0]) for name in switches)])

    def work():
        mine = next(todo)
        for k in range(100):
            if mine is None:
                optimizer.step(grad)
                continue
            name, values = mine
            with suppress(ValueError):  # another thread has just changed what this one goes with
                setattr(optimizer, name, type(getattr(optimizer, name))(values[k % 2]))
            now = optimizer.state_dict()
            assert set(now["state"]) == set(states_of(rule, now["options"]))
            for arrays in now["state"].values():
                assert (arrays[""] == arrays[""][0]).all()

    in_threads(work, 2 + len(switches))
    assert optimizer.step_count == 100


# ---- how many


def test_default_is_what_affinity_leaves():
    script = """
        import os, sys
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:int(sys.argv[1])])
        import instep
        print(instep.get_num_threads())
    """
    for count in {1, len(os.sched_getaffinity(0))}:
        assert 1 <= int(python(script, count)) <= count


def test_environment_variable():
    show = "import instep; print(instep.get_num_threads())"
    assert python(show, INSTEP_NUM_THREADS="7") == "7\n"
    assert python(show, INSTEP_NUM_THREADS="") == python(show)


@pytest.mark.parametrize("value", ["0", "257", "two", "1.5", "-1"])
def test_environment_variable_is_checked(value):
    script = """
        import sys
        try:
            import instep
        except ValueError as error:
            sys.exit(not str(error).startswith(f"INSTEP_NUM_THREADS={sys.argv[1]!r} "))
        sys.exit("accepted")
    """
    python(script, value, INSTEP_NUM_THREADS=value)


@pytest.mark.parametrize("number", [0, 257, -1, 2**70])
def test_number_out_of_range(number):
    before = instep.get_num_threads()
    with pytest.raises(ValueError, match="from 1 to 256"):
        instep.set_num_threads(number)
    assert instep.get_num_threads() == before


@pytest.mark.parametrize("number", [True, 2.0, "2", [2]])
def test_number_of_another_type(number):
    with pytest.raises(TypeError, match="integer or None"):
        instep.set_num_threads(number)


def test_context_puts_back_what_was_before():
    instep.set_num_threads(5)
    with instep.num_threads(2), instep.num_threads(3):
        assert instep.get_num_threads() == 3
    with pytest.raises(KeyError), instep.num_threads(2):
        raise KeyError
    assert instep.get_num_threads() == 5
    instep.set_num_threads(None)
    assert 1 <= instep.get_num_threads() <= os.cpu_count()


@pytest.fixture(scope="module")
def groups_reader(tmp_path_factory):
    return shared_library(tmp_path_factory.mktemp("cpu"), "cpu.c")


@pytest.mark.compiler
@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        ("0::/a/b", {"a/b/cpu.max": "150000 100000"}, 2),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, 3),
        ("0::/a/b", {"a/b/cpu.max": "400000 100000", "a/cpu.max": "100000 100000", "cpu.max": "max 100000"}, 1),
        ("0::/not/seen/in/here", {"cpu.max": "250000 100000"}, 3),
        ("0::/", {"cpu.max": "1000 100000"}, 1),
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/", {"cpu.max": "9000000000000000000 1000"}, None),
        ("0::/", {"cpu.max": ""}, None),
        ("0::/", {"cpu.max": "nonsense"}, None),
        ("0::/", {"cpu.max": "100000 0"}, None),
        ("0::/", {}, None),
        ("", {}, None),
        (None, {}, None),
        ("3:cpu,cpuacct:/d\n1:memory:/m", {"cpu/d/cpu.cfs_quota_us": "210000", "cpu/d/cpu.cfs_period_us": "100000"}, 3),
        ("3:cpuacct,cpu:/d", {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ("3:cpu:/d", {"cpu/d/cpu.cfs_quota_us": "-1", "cpu/d/cpu.cfs_period_us": "100000"}, None),
        ("3:cpu:/d", {"cpu/d/cpu.cfs_quota_us": "200000"}, None),
        ("3:cpuset:/d\n4:cpu:/e", {"cpu/d/cpu.cfs_quota_us": "1000", "cpu/d/cpu.cfs_period_us": "100000"}, None),
        (
            "0::/a\n3:cpu:/d",
            {"a/cpu.max": "800000 100000", "cpu/cpu.cfs_quota_us": "6", "cpu/cpu.cfs_period_us": "2"},
            3,
        ),
    ],
)
def test_quota_of_control_groups(groups, files, quota, tmp_path, groups_reader):
    no_limit = groups_reader.instep_cpu_quota(os.fsencode(tmp_path / "nowhere"))
    assert no_limit > 10_000
    if groups is not None:
        files = files | {"../../../proc/self/cgroup": groups + "\n"}
    for name, content in files.items():
        path = Path(os.path.normpath(tmp_path / "sys/fs/cgroup" / name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    assert groups_reader.instep_cpu_quota(os.fsencode(tmp_path)) == (quota or no_limit)


# ---- when they wake and sleep

COUNT_THREADS = "import os; count_threads = lambda: len(os.listdir('/proc/self/task'))"


def test_threads_are_made_when_a_step_is_large_enough():
    script = f"""
        {COUNT_THREADS}
        import instep
        from walker import Walker
        small, large = Walker(10_000), Walker()
        before = count_threads()
        for number, made in [(1, 0), (4, 0), (2, 1), (4, 3), (3, 3), (4, 3)]:
            instep.set_num_threads(number)
            (small if made == 0 and number > 1 else large).step()
            assert count_threads() - before == made, (number, count_threads() - before)
        assert small.is_whole() and large.is_whole()
    """
    python(script)


def test_a_small_step_wakes_no_thread():
    script = """
        import os, time, instep
        from pathlib import Path
        from walker import Walker

        def switches():
            # the caller's own are in /proc/self/task/<pid>
            lines = [line for task in Path("/proc/self/task").iterdir() if task.name != str(os.getpid())
                     for line in (task / "status").read_text().splitlines()]
            return [line for line in lines if "ctxt_switches" in line]

        instep.set_num_threads(4)
        small, large = Walker(10_000), Walker()
        large.step()
        time.sleep(0.3)
        asleep = switches()
        assert len(asleep) >= 6
        for _ in range(100):
            small.step()
        time.sleep(0.1)
        assert switches() == asleep
        large.step()
        time.sleep(0.1)
        assert switches() != asleep
    """
    python(script)


def test_many_small_arrays_are_stepped_by_one_thread():
    """Another core would fetch more than it computes."""
    script = """
        import os, numpy as np, instep

        def step(count, size):
            params = [np.ones(size, np.float32) for _ in range(count)]
            optimizer = instep.RMSprop(params)
            optimizer.bind([np.ones(size, np.float32) for _ in range(count)])
            for _ in range(500):
                optimizer.step()
            return len(os.listdir("/proc/self/task"))

        instep.set_num_threads(2)
        before = step(1, 1)
        assert step(1000, 10) == before
        assert step(300, 64) == before
        assert step(1000, 300) == before + 1
    """
    python(script)


def test_idle_workers_sleep():
    script = """
        import time, instep
        from walker import Walker
        instep.set_num_threads(8)
        walker = Walker()
        for _ in range(10):
            walker.step()
        time.sleep(0.2)
        used = time.process_time()
        time.sleep(1)
        assert time.process_time() - used < 0.05, time.process_time() - used
    """
    python(script)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="threads cannot be sent to a core")
def test_a_worker_that_was_sent_to_other_cores_may_come_back():
    """It is sent away where it sleeps on the core of its waker, which here takes its turn on each of them."""
    script = """
        import os, time, instep
        from walker import Walker

        cores = os.sched_getaffinity(0)
        instep.set_num_threads(4)
        walker = Walker()
        walker.step()
        mine = int(os.readlink("/proc/thread-self").split("/")[-1])
        for core in [*cores] * 10:
            os.sched_setaffinity(mine, {core})
            for threads in (2, 2, 4):  # the first wake one of three, and send all away
                instep.set_num_threads(threads)
                walker.step()
                time.sleep(0.02)
            for thread in os.listdir("/proc/self/task"):
                if int(thread) != mine:
                    assert os.sched_getaffinity(int(thread)) == cores, (thread, core)
    """
    python(script, OPENBLAS_NUM_THREADS="1")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="threads cannot be sent to a core")
def test_a_worker_stays_where_it_was_put_while_it_slept():
    """As `taskset -ap` puts every thread of a process, which leaves none another core to be sent to."""
    script = """
        import os, time, instep
        from walker import Walker

        def put(cores):
            for thread in os.listdir("/proc/self/task"):
                os.sched_setaffinity(int(thread), cores)

        cores = os.sched_getaffinity(0)
        instep.set_num_threads(4)
        walker = Walker()
        for core in [*cores][:4] * 10:
            put(cores)
            for _ in range(3):
                walker.step()
            time.sleep(0.02)
            put({core})
            for _ in range(3):
                walker.step()
                time.sleep(0.01)
            found = {thread: os.sched_getaffinity(int(thread)) for thread in os.listdir("/proc/self/task")}
            assert set(map(tuple, found.values())) == {(core,)}, (core, found)
    """
    python(script, OPENBLAS_NUM_THREADS="1")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="threads cannot be sent to a core")
def test_a_worker_stays_where_it_was_put_once_it_was_sent_away():
    """Two of three that sleep on the core of the caller, who wakes the other for a step on two threads."""
    script = """
        import os, time, instep
        from walker import Walker

        mine = os.readlink("/proc/thread-self").split("/")[-1]

        def step(threads):
            instep.set_num_threads(threads)
            walker.step()
            time.sleep(0.02)

        def workers():
            return {int(thread) for thread in os.listdir("/proc/self/task")} - {int(mine)}

        cores = os.sched_getaffinity(0)
        walker = Walker()
        step(4)
        for core in [*cores][:4] * 5:
            os.sched_setaffinity(0, {core})
            for put, threads in (({core}, 4), (cores, 2), ({core}, 4)):
                for worker in workers():
                    os.sched_setaffinity(worker, put)
                step(threads)
            found = {worker: os.sched_getaffinity(worker) for worker in workers()}
            assert set(map(tuple, found.values())) == {(core,)}, (core, found)
    """
    python(script, OPENBLAS_NUM_THREADS="1")


def make_pool(folder):
    """The pool alone, with tasks in Python: called as pool(task, total, grain)."""
    library = shared_library(folder, "pool.c", "pace.c", "threads.c", "cpu.c")
    task_type = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)
    kept = []

    def run(task, total, grain, threads=4):
        kept.append(task_type(lambda _, begin, end: task(begin, end)))
        library.instep_set_threads(threads)
        library.instep_pool_run(kept[-1], None, ctypes.c_size_t(total), ctypes.c_size_t(grain))

    return run


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return make_pool(tmp_path_factory.mktemp("pool"))


@pytest.mark.compiler
@pytest.mark.parametrize("total", [1, 7, 1000, 4097])
@pytest.mark.parametrize("grain", [1, 100])
@pytest.mark.parametrize("threads", [1, 2, 5, 256])
def test_every_piece_is_run_once(pool, total, grain, threads):
    pieces = []
    pool(lambda begin, end: pieces.append((begin, end)), total, grain, threads)
    pieces.sort()
    assert all(begin < end for begin, end in pieces)
    assert [begin for begin, _ in pieces] + [total] == [0] + [end for _, end in pieces]


@pytest.mark.compiler
def test_a_second_caller_works_alone_and_does_not_wait(pool):
    alone = []

    def second():
        pool(lambda begin, end: alone.append((begin, end, threading.get_ident())), 1000, 1)

    def first(begin, end):
        if begin == 0:
            thread = threading.Thread(target=second)
            thread.start()
            thread.join(30)
            alone.append((thread.is_alive(), thread.ident))

    pool(first, 1000, 1)
    (begin, end, where), (waits, second_thread) = alone
    assert (begin, end) == (0, 1000)
    assert where == second_thread
    assert not waits


@pytest.mark.compiler
def test_many_workers_share_one_job(tmp_path):
    """In the first job they are new; in the second they sleep: the caller wakes two of three, who wake the other."""
    pool = make_pool(tmp_path)  # which has not learned from other jobs that this one may be short
    for _ in range(2):
        meeting = threading.Barrier(4, timeout=30)
        met = set()

        def meet(begin, end, meeting=meeting, met=met):
            if threading.get_ident() not in met:
                met.add(threading.get_ident())
                meeting.wait()

        pool(meet, 1000, 1)
        assert len(met) == 4
        time.sleep(0.3)


# ---- threadpoolctl

LIST_POOL = """
    import threadpoolctl
    listed = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "instep"]
    assert len(listed) == 1, listed
    assert listed[0]["num_threads"] == instep.get_num_threads() == 5
    assert listed[0]["version"] == instep.__version__
    for limits in (1, {"instep": 1}, 300):
        with threadpoolctl.threadpool_limits(limits):
            assert instep.get_num_threads() == (256 if limits == 300 else 1)
        assert instep.get_num_threads() == 5
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        assert instep.get_num_threads() == 5
"""


@pytest.mark.parametrize(
    "imports",
    [
        "import threadpoolctl, instep",
        "import instep; instep.threads.register_threadpoolctl()",
        "import threadpoolctl, instep; instep.threads.register_threadpoolctl()",
        "import instep, threadpoolctl; [instep.threads.register_threadpoolctl() for _ in range(3)]",
    ],
)
def test_threadpoolctl_lists_and_limits_the_pool(imports):
    python(imports + LIST_POOL.replace("\n    ", "\n"), INSTEP_NUM_THREADS="5")


def test_threadpoolctl_is_not_imported():
    python("import sys, instep; assert 'threadpoolctl' not in sys.modules")


# ---- everything at once


def test_import_leaves_the_gil_as_it_is():
    script = """
        import sys, numpy
        gil = getattr(sys, "_is_gil_enabled", lambda: True)
        before = gil()
        import instep
        assert gil() is before
    """
    python(script)


@pytest.mark.compiler
def test_stress(tmp_path, soak):
    program = tmp_path / "stress_pool"
    (tmp_path / "isas.def").write_text("ISA(baseline, 0, baseline)\n")
    flags = ["-std=c11", "-O2", "-ffp-contract=off", "-fno-math-errno", "-pthread", f"-I{CSRC}", f"-I{tmp_path}"]
    objects = []
    by_type = [CSRC / "kernels.c", CSRC / "blocks.c"]
    for type_, dtype in (("float", "f32"), ("double", "f64")):
        which = ["-DINSTEP_ISA=baseline", f"-DINSTEP_TYPE={type_}", f"-DINSTEP_DTYPE={dtype}"]
        for source in by_type:
            objects.append(tmp_path / f"{source.stem}_{dtype}.o")
            subprocess.run(["cc", *flags, *which, "-c", source, "-o", objects[-1]], check=True, timeout=60)
    sources = sorted({*CSRC.glob("*.c")} - {*by_type, CSRC / "pool_none.c"})
    stress = Path(__file__).parent / "c/stress_pool.c"
    subprocess.run(["cc", *flags, stress, *sources, *objects, "-lm", "-o", program], check=True, timeout=60)
    steps, forks = (1000, 1000) if soak else (30, 20)
    done = subprocess.run([program, str(steps), str(forks)], timeout=1800, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "every step was whole\n"), done.stderr
