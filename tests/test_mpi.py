"""`instep.mpi` on 1, 2 and 4 ranks, which `ranks.py` is run on.  More ranks than processors only take longer."""

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from another_process import python
from peers import peer

PROGRAM = Path(__file__).with_name("ranks.py")
TRAINER = Path(__file__).with_name("embed") / "mpi" / "trainer.py"
several = pytest.mark.parametrize("ranks", [2, 4])


@pytest.fixture(autouse=True)
def _mpi():
    peer("mpi4py")


def mpiexec(ranks, *arguments, program=PROGRAM, folder=None, timeout=120):
    """The ended job."""
    command = shutil.which("mpiexec", path=os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]))
    assert command, "there is no mpiexec"
    python = [sys.executable, "-W", "error", "-m", "mpi4py", program]
    return subprocess.run(
        [command, "-n", str(ranks), *python, *map(str, arguments)],
        cwd=folder,
        env=os.environ | {"INSTEP_NUM_THREADS": "1", "PYTHONPATH": str(PROGRAM.parent)},
        stdin=subprocess.DEVNULL,
        timeout=timeout,
        capture_output=True,
        text=True,
    )


def run(ranks, *arguments, folder=None):
    """What the program returns on each rank."""
    ended = mpiexec(ranks, *arguments, folder=folder)
    assert ended.returncode == 0, f"exit status {ended.returncode}\n{ended.stdout[-5000:]}\n{ended.stderr[-5000:]}"
    return json.loads(ended.stdout)


# ---- bits -------------------------------------------------------------------------------------------------------


@cache
def unsharded():
    return run(1, "unsharded")[0]


@pytest.mark.parametrize("bucket", [1 << 22, 1000], ids=["one bucket", "many buckets"])
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_any_number_of_ranks_has_the_bits_of_one_optimizer(ranks, bucket):
    """Every rule, with the fewest and the most states; and the state is shared out."""
    found = run(ranks, "every_rule", bucket)
    for each in found:
        assert {situation: digest for situation, (digest, _) in each.items()} == unsharded()
    for situation, (_, sizes) in found[0].items():
        assert max(sizes) - min(sizes) <= 5 * 2 * 64, f"{situation}: the state is shared out as {sizes}"


@several
def test_groups_averages_and_clipped_values_go_with_shards(ranks):
    for found, expected in run(ranks, "around_the_rule"):
        assert found == expected


@several
def test_an_option_is_refused_or_has_the_bits_of_one_process(ranks):
    """One that looks at more than an element cannot be left to each shard."""
    for each in run(ranks, "every_option"):
        assert each, "there is no such option"
        for name, found in each.items():
            assert found is True or found.startswith(f"{name}=") or name == "grow_every", (name, found)
        assert {name for name, found in each.items() if found is True} >= {
            "grad_scale",
            "clip_value",
            "zero_grads",
            "average_decay",
        }


@several
def test_gradients_may_be_written_in_place_and_have_any_layout(ranks, tmp_path):
    found = run(ranks, "written_in_place", folder=tmp_path)
    assert len({digest for each in found for digest in each}) == 1


@several
def test_gradients_are_zeroed_for_a_trainer_that_adds_to_them(ranks):
    for digests, left, said in run(ranks, "zeroed"):
        assert len(set(digests)) == 1
        assert set(left) == {0.0}
        assert "grads['w'] of micro-batch" in said
        assert "is read-only, and zero_grads is to set it to 0" in said


@several
def test_a_step_that_raises_leaves_no_gradients_to_the_next_one(ranks):
    """Where a trainer adds to them: also on the ranks that had added theirs by then."""
    for each in run(ranks, "zeroed_after_a_step_that_raised"):
        assert each == [[-2.0 * ranks] * 3, [0.0] * 3, [-4.0 * ranks] * 3]


def test_micro_batches_in_blocks_of_powers_of_two():
    numbers = 1, 2, 3, 4, 6, 12
    one, two, three, four = (run(ranks, "blocks", *numbers)[0] for ranks in (1, 2, 3, 4))
    assert None not in one.values()
    assert two == one | {"1": None, "3": None, "6": None, "12": None}
    assert three == one | {"1": None, "2": None, "4": None}
    assert four == one | {"1": None, "2": None, "3": None, "6": None, "12": None}


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_all_arrays_of_a_dtype_may_be_empty(ranks, tmp_path):
    assert run(ranks, "nothing_in_a_dtype", tmp_path) == [[[[], [-2.0 * ranks] * 3], 2]] * ranks


@several
def test_one_micro_batch_a_rank_by_default(ranks):
    found = run(ranks, "default")
    assert [micro_batches for _, micro_batches, _ in found] == [[rank] for rank in range(ranks)]
    assert len({str(params) for params, _, _ in found}) == 1
    (first, second), _, preset = found[0]
    assert preset is True
    assert all(-0.51 < x < -0.49 for x in first)
    assert all(0.49 < x < 0.51 for row in second for x in row)


def test_the_trainer_of_the_documentation(tmp_path):
    """It says that every number of ranks prints the same loss."""
    ended = [mpiexec(ranks, tmp_path, program=TRAINER) for ranks in (1, 2, 4)]
    assert all(each.returncode == 0 for each in ended), ended[-1].stderr
    assert len({each.stdout for each in ended}) == 1
    assert 0 < float(ended[0].stdout.split()[1]) < 0.2


# ---- failures ---------------------------------------------------------------------------------------------------

SAID_OF_GRADS = {
    "shape": ("ValueError", "['w'] of micro-batch"),
    "dtype": ("TypeError", "has dtype float32, expected float64"),
    "byte order": ("TypeError", "has dtype >f8"),
    "integers": ("TypeError", "has dtype int64"),
    "a list": ("ValueError", "there is no grads['w']"),
    "masked": ("TypeError", "must be a numpy.ndarray, not a value of type MaskedArray"),
    "a scalar": ("TypeError", "must be a numpy.ndarray, not a value of type float64"),
    "lacking": ("ValueError", "there is no grads['w'] of micro-batch"),
    "too many": ("ValueError", "grads['v'] of micro-batch"),
    "another nesting": ("ValueError", "there is no grads"),
    "no iterable": ("TypeError", "not iterable"),
    "not in a list": ("ValueError", "step takes an iterable, one item a micro-batch"),
    "another array's place": ("ValueError", "overlaps opt.grads in memory"),
    "None in the last one": ("ValueError", "grads['w'] is None in some micro-batches only"),
    "one micro-batch less": ("ValueError", "the gradients of 1 of 2 micro-batches"),
    "one micro-batch more": ("ValueError", "more than 2 micro-batches"),
    "none at all": ("ValueError", "the gradients of 0 of 2 micro-batches"),
    "an exception of the trainer": ("ZeroDivisionError", "the trainer's own"),
    "a key": ("KeyError", "'w'"),
    "a step within": ("RuntimeError", "step was called while a step on the same ranks waits for its gradients"),
    "a save within": ("RuntimeError", "save was called while a step"),
    "a load within": ("RuntimeError", "load was called while a step"),
    "averages within": ("RuntimeError", "averaged was called while a step"),
    "a step of another within": ("RuntimeError", "step was called while a step"),
    "a save of another within": ("RuntimeError", "save was called while a step"),
    "another made within": ("RuntimeError", "Sharded was called while a step"),
}
# They cannot be made of one string, so the other ranks raise a RuntimeError that names them.
MADE_OF_MORE = {
    "one that cannot be pickled": ("Unpicklable", "made of two"),
    "several": ("ExceptionGroup", "two (2 sub-exceptions)"),
    "a key that is a number": ("KeyError", "3"),
}


@several
@pytest.mark.parametrize("bad", ["first", "last", "all"])
def test_a_bad_gradient_on_one_rank_raises_on_all_and_changes_nothing(ranks, bad):
    bad = {"first": 0, "last": ranks - 1, "all": -1}[bad]
    found = run(ranks, "bad_gradients", bad)
    for rank, each in enumerate(found):
        note = [] if bad in (rank, -1) else [f"raised on rank {bad}"]
        for kind, (name, words) in SAID_OF_GRADS.items():
            assert each[kind] is not None, f"rank {rank} has stepped {kind}"
            assert each[kind][0] == name, (kind, each[kind])
            assert words in each[kind][1], (kind, each[kind])
            assert each[kind][2] == note, (kind, each[kind])
        assert each["a key"][1] == "'w'"
        for kind, (name, words) in MADE_OF_MORE.items():
            own = bad in (rank, -1)
            told = [name, words] if own else ["RuntimeError", f"{name}: {words}"]
            assert each[kind] == [*told, note]
        if bad == -1:
            assert each["None here only"] is None  # it is None everywhere
        else:
            assert each["None here only"][0] == "ValueError"
            assert "the ranks differ in which gradients are None" in each["None here only"][1]


@several
@pytest.mark.parametrize("bad", ["second", "last"])
def test_ranks_that_differ_raise_on_all(ranks, bad, tmp_path):
    bad = {"second": 1, "last": ranks - 1}[bad]
    for each in run(ranks, "differing", bad, folder=tmp_path):
        assert each["lr"] == [
            "ValueError",
            f"the ranks differ in the option lr: 0.001 on rank 0, 0.7 on rank {bad}",
            [],
        ]
        assert "the ranks differ in the option amsgrad" in each["structure"][1]
        assert each["count"][1] == f"the ranks differ in step_count: 0 on rank 0, 1 on rank {bad}"
        assert "the ranks differ in the values of params['layers'][0]['b']: " in each["params"][1]
        assert "the ranks differ in the groups" in each["groups"][1]
        assert each["beyond_an_element"][:2] == [
            "ValueError",
            "clip_global_norm=1.0 is not for shards, each of which has its own elements only",
        ]
        assert each["calls"][1] == f"the ranks differ in the call: 'step' on rank 0, 'save' on rank {bad}"


@several
@pytest.mark.parametrize("how", ["exception", "exit"])
def test_averages_that_are_left_by_an_exception_on_one_rank(ranks, how):
    """All ranks leave, also those in another call by then; the parameters are back, and training goes on."""
    found = run(ranks, "leaves_averaged", how)
    for rank, (told, before, averaged, after, stepped) in enumerate(found):
        assert averaged != before
        assert after == before
        assert stepped == found[0][4] != after
        if rank == ranks - 1:
            assert told == [{"exception": "ZeroDivisionError", "exit": "SystemExit"}[how], "mine", []]
        elif how == "exception":
            assert told == ["ZeroDivisionError", "mine", [f"raised on rank {ranks - 1}"]]
        else:
            assert told[0] in {"ValueError", "RuntimeError"}
    assert len({str(each[1]) for each in found}) == 1


SAID_OF_ARGUMENTS = {
    "a bad option": ("ValueError", "beta1=1.5"),
    "an unknown option": ("TypeError", "momentum"),
    "micro_batches of another type": ("TypeError", "micro_batches must be an int, not 2.0"),
    "no micro-batches": ("ValueError", "micro_batches=0 must be"),
    "integers": ("TypeError", "params[0] must be float32 or float64"),
    "swapped": ("TypeError", "params[0] must be float32 or float64 in the machine's byte order"),
    "a list": ("TypeError", "params[0][0] must be a numpy.ndarray"),
    "nothing": ("ValueError", "params holds no array"),
    "tied": ("ValueError", "params[1] overlaps params[0] in memory"),
    "overlapping": ("ValueError", "params[1] overlaps params[0] in memory"),
    "no optimizer": ("TypeError", "make must return an Optimizer"),
    "a norm": ("ValueError", "clip_norm=1.0 is not for shards"),
    "a norm in a group": ("ValueError", "clip_norm=1.0 is not for shards"),
    "a storage": ("ValueError", "state_dtype and master are not for shards"),
}
DIFFER = {
    "another lr": "the option lr",
    "other micro_batches": "micro_batches",
    "another shape": "params[0]",
    "another dtype": "params[0]",
    "other places": "params[",
    "another rule": "the rule",
    "other groups": "the groups",
}


@several
@pytest.mark.parametrize("bad", ["first", "last", "all"])
def test_what_cannot_be_made_on_one_rank_is_made_on_none(ranks, bad):
    bad = {"first": 0, "last": ranks - 1, "all": -1}[bad]
    for each in run(ranks, "made_badly", bad):
        for kind, (name, words) in SAID_OF_ARGUMENTS.items():
            assert each[kind][0] == name, (kind, each[kind])
            assert words in each[kind][1], (kind, each[kind])
        assert each["interleaved"] is None
        for kind, what in DIFFER.items():
            if bad == -1:
                assert each[kind] is None
            else:
                assert each[kind][0] == "ValueError"
                assert f"the ranks differ in {what}" in each[kind][1]


@several
@pytest.mark.parametrize("how", ["killed", "exception", "Ctrl-C", "exit", "exit without an error"])
def test_a_rank_that_dies_ends_the_job(ranks, how):
    ended = mpiexec(ranks, "dies", how)  # within the time limit
    assert ended.returncode != 0
    assert ended.stdout == "" or "KILLED" in ended.stdout or "TERMINATED" in ended.stdout
    if how == "exit without an error":
        assert "SystemExit: 0" in ended.stderr


# ---- checkpoints ------------------------------------------------------------------------------------------------


def test_any_number_of_ranks_goes_on_from_any_other(tmp_path):
    """Every rule, to the bit."""
    for saving in (1, 2, 4):
        folder = tmp_path / str(saving)
        folder.mkdir()
        expected = run(saving, "saves", folder)[0]
        for loading in {1, 2, 4} - {saving}:
            for each in run(loading, "loads", folder):
                assert each == expected, (saving, loading)


def test_four_three_two_one_four(tmp_path):
    found = run(4, "reshards", tmp_path / "folder")
    assert len(found[0]) == 5
    assert all(state == found[0][0] for each in found for state in each)


DAMAGE = {
    "manifest is absent": "no save was completed there",
    "manifest is cut": "it is damaged",
    "manifest is empty": "it is damaged",
    "manifest is longer": "it is damaged",
    "manifest bit 0": "not as instep writes it|sound manifest",
    **{f"manifest bit {at}": "it is damaged" for at in (0.1, 0.5, 0.9, 1)},
    "manifest names a file elsewhere": "which is not the name of a shard",
    "manifest moves a cut": "has another part of",
    "manifest turns cuts round": "its cuts of float64",
    "manifest moves an array": "has another part of",
    "manifest lacks a shard": "its cuts of float32",
    "manifest lacks an option": "another options|options lacks",
    "manifest has another option": "another options",
    "manifest has another count": "another step_count",
    "manifest has a negative size": "is not described as one",
    "manifest is no dict": "not a sound manifest",
    "shard is absent": "which the manifest names, is not there",
    "shard is cut": "is not the file that the manifest was written for",
    "shard is empty": "is not the file that the manifest was written for",
    "shard is longer": "is not the file that the manifest was written for",
    "shard is another's": "is not the file that the manifest was written for",
    "shard bit 0": "is not a sound checkpoint",
    **{f"shard bit {at}": "sound checkpoint|was written for" for at in (0.01, 0.1, 0.5, 1)},
}
OTHERS = {
    "another rule": ("ValueError", "the state is of adam, the optimizer of sgd"),
    "another shape": ("ValueError", "the state of 'w' is of float64 (37, 11), the parameter float64 (11, 37)"),
    "another dtype": ("ValueError", "the state of 'layers/0/b' is of float32"),
    "another place": ("ValueError", "the state is of other params"),
    "no folder": ("CheckpointError", "no save was completed there"),
}


@several
def test_damage_is_noticed_by_all_and_nothing_changes(ranks, tmp_path):
    for each in run(ranks, "damaged", tmp_path / "folder", ",".join(DAMAGE)):
        for kind, words in DAMAGE.items():
            assert each[kind] is not None, f"{kind}: it was loaded"
            assert each[kind][0] == "CheckpointError", (kind, each[kind])
            assert any(word in each[kind][1] for word in words.split("|")), (kind, each[kind])
        for kind, (name, words) in OTHERS.items():
            assert each[kind][0] == name, (kind, each[kind])
            assert words in each[kind][1], (kind, each[kind])


@several
def test_a_save_that_fails_leaves_the_old_checkpoint(ranks, tmp_path):
    for each in run(ranks, "save_is_disturbed", tmp_path / "folder", ranks - 1):
        for where in ("a shard", "the manifest"):
            assert each[where][0] == "OSError"
            assert "No space left on device" in each[where][1]


def test_a_save_that_is_killed_leaves_the_old_checkpoint_or_the_new_one(tmp_path):
    folder = tmp_path / "folder"
    assert run(2, "killed_in_a_save", folder, 0) == ["saved"] * 2
    count, call, kills = 1, 0, 0
    while True:
        ended = mpiexec(2, "killed_in_a_save", folder, call)
        call += 1
        if ended.returncode == 0:
            break
        kills += 1
        assert "Error" not in ended.stderr, ended.stderr
    assert kills > 10
    assert json.loads(ended.stdout)[0] >= count
    left = [path.name for path in folder.iterdir() if not path.name.startswith(".instep-")]
    assert len(left) == 3


# ---- without MPI ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["mpi4py", "mpi4py.MPI"])
def test_the_extra_is_named_where_it_is_missing(missing):
    script = f"""
        import sys
        sys.modules["{missing}"] = None
        try:
            import instep.mpi
        except ImportError as error:
            print(error)
    """
    assert "pip install mpi4py mpich (the extra mpi): " in python(script)


def test_the_message_of_an_absent_library_has_one_line():
    """mpi4py adds where it has looked, a line for each name."""
    script = """
        import sys
        class Finder:
            def find_spec(self, name, path=None, target=None):
                if name == "mpi4py.MPI":
                    raise RuntimeError("cannot load MPI library\\nlibmpi.so: no such file\\nlibmpi.so.12: no such file")
        sys.meta_path.insert(0, Finder())
        try:
            import instep.mpi
        except ImportError as error:
            print(error)
    """
    assert python(script).splitlines() == [
        "instep.mpi needs mpi4py and an MPI library: pip install mpi4py mpich (the extra mpi): cannot load MPI library"
    ]


def test_examples():
    assert "0 failed" in python("import doctest, instep.mpi; print(doctest.testmod(instep.mpi).failed, 'failed')")
