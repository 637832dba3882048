"""Two processes on this machine, joined by gloo: data parallel, sharded states, sharded parameters, checkpoints."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from drop_ins import assert_close, torch

if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
    pytest.skip("this torch has no gloo", allow_module_level=True)

SCRIPT = Path(__file__).with_name("two_ranks.py")
PROGRAMS = re.findall(r"^@program\ndef (\w+)", SCRIPT.read_text(), re.M)  # importing it warns of what torch deprecates
BY_TORCH = {"a_gradient_distributed_otherwise": ["its gradient is not distributed as the parameter is"]}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What both have found, by program."""
    folder = tmp_path_factory.mktemp("ranks")
    logs = [(folder / f"rank-{rank}.log").open("w+") for rank in range(2)]
    workers = [
        subprocess.Popen([sys.executable, SCRIPT, str(rank), folder], stderr=log) for rank, log in enumerate(logs)
    ]
    try:
        codes = [worker.wait(timeout=300) for worker in workers]
    finally:
        for worker, log in zip(workers, logs, strict=True):
            worker.kill()
            worker.wait()
            log.close()
    assert codes == [0, 0], (folder / "rank-0.log").read_text() + (folder / "rank-1.log").read_text()
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in range(2)]


def losses(program):
    """What it prints on two ranks.  With torch's own optimizer too, gloo has aborted after that."""
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", program]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(run, capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == 0 or "terminate called without an active exception" in done.stderr, done.stderr
    return done.stdout


def test_the_program_that_is_documented(tmp_path):
    """By its one changed import: its loss is torch's."""
    program = Path(__file__).parents[1] / "embed/torch/trainer.py"
    text = program.read_text()
    assert text.count("instep.torch") == 1
    theirs = tmp_path / "trainer.py"
    theirs.write_text(text.replace("instep.torch", "torch.optim"))
    (mine,), (other,) = (re.findall(r"^loss (\S+)$", losses(path), re.M) for path in (program, theirs))
    assert float(mine) < 0.002
    assert abs(float(mine) - float(other)) < 1e-5


@pytest.mark.parametrize("rank", range(2))
@pytest.mark.parametrize("name", PROGRAMS)
def test_program(ranks, name, rank):
    if name not in ranks[rank]:
        pytest.skip("this torch has not what it takes")
    (mine, reasons), (theirs, _) = ranks[rank][name]
    if name == "sharded_state_of_an_overlapping_step":
        assert "no supported functional optimizer equivalent" in reasons[0]
        return
    assert_close(mine, theirs)
    assert reasons == BY_TORCH.get(name, [])
