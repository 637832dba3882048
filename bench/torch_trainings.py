"""What `instep.torch` saves of whole trainings: the same programs with torch's class and with ours.

    pip install ".[bench,torch]" scikit-learn accelerate stable-baselines3 gymnasium
    python bench/torch_trainings.py bench/results/torch/NAME.json

Every way trains from the same seeds, and they take turns, an epoch each, with one thread.  Times are the processor's,
which others on the machine disturb less: that of a training is the median of its epochs times their number, that of a
step the median over the epochs too.  What has been learned is the mean over the last quarter of the epochs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, median
from time import process_time
from typing import Any

import torch
from torch import nn

import instep
import instep.torch
from instep.benchmark import machine
from torch_table import OURS, THEIRS, markdown

SEEDS = (0, 1, 2)
Epoch = Callable[[], float]  # trains, and says what has been learned


@dataclass(frozen=True)
class Program:
    """`start` gets the class of the optimizer, its options and a seed."""

    title: str
    rule: str
    learned: str
    epochs: int
    start: Callable[[type[torch.optim.Optimizer], dict[str, Any], int], Epoch]


# ---- the programs -----------------------------------------------------------------------------------------------


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """The 1797 images of scikit-learn, 8 x 8."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    images = torch.tensor(loaded.images, dtype=torch.float32).unsqueeze(1) / 16
    return images, torch.tensor(loaded.target)


def convolutions() -> nn.Module:
    """16 486 weights in 8 arrays."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(128, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def batches(images: torch.Tensor, labels: torch.Tensor, size: int) -> torch.utils.data.DataLoader[Any]:
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, labels), size, shuffle=True)


def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    with torch.no_grad():
        return (model(images).argmax(1) == labels).float().mean().item()


def convolutional(cls: type[torch.optim.Optimizer], options: dict[str, Any], seed: int) -> Epoch:
    """A network on digits, in a loop of its own."""
    images, labels = digits()
    model = convolutions()
    optimizer = cls(model.parameters(), lr=1e-3, **options)
    loader = batches(images[:1437], labels[:1437], 32)

    def epoch() -> float:
        for chosen, right in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(chosen), right).backward()
            optimizer.step()
        return accuracy(model, images[1437:], labels[1437:])

    return epoch


def accelerated(cls: type[torch.optim.Optimizer], options: dict[str, Any], seed: int) -> Epoch:
    """The same network, trained through accelerate."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    images, labels = digits()
    model = convolutions()
    optimizer = cls(model.parameters(), lr=1e-3, **options)
    model, optimizer, loader = accelerator.prepare(model, optimizer, batches(images[:1437], labels[:1437], 32))

    def epoch() -> float:
        for chosen, right in loader:
            optimizer.zero_grad()
            accelerator.backward(nn.functional.cross_entropy(model(chosen), right))
            optimizer.step()
        return accuracy(model, images[1437:], labels[1437:])

    return epoch


def pole(cls: type[torch.optim.Optimizer], options: dict[str, Any], seed: int) -> Epoch:
    """stable-baselines3's A2C, with what it gives to its own RMSprop; 500 steps of the environment an epoch."""
    from stable_baselines3 import A2C

    policy = dict(optimizer_class=cls, optimizer_kwargs=dict(alpha=0.99, eps=1e-5, weight_decay=0) | options)
    model = A2C("MlpPolicy", "CartPole-v1", seed=seed, device="cpu", policy_kwargs=policy)

    def epoch() -> float:
        model.learn(500, reset_num_timesteps=False, log_interval=1_000_000)
        episodes = model.ep_info_buffer or [{"r": 0.0}]
        return fmean(episode["r"] for episode in episodes)

    return epoch


PROGRAMS = (
    Program("a convolutional network on digits, batch 32", "Adam", "accuracy", 12, convolutional),
    Program("the same through accelerate", "RMSprop", "accuracy", 12, accelerated),
    Program("A2C of stable-baselines3 on CartPole", "RMSprop", "return", 16, pole),
)
WAYS: dict[str, dict[str, Any]] = {THEIRS: {}, "foreach": {"foreach": True}, "fused": {"fused": True}, OURS: {}}


# ---- measuring --------------------------------------------------------------------------------------------------


def timed(cls: type[torch.optim.Optimizer]) -> Any:
    """The class, with the seconds that its steps take."""
    cls([nn.Parameter(torch.zeros(()))])  # torch wraps the step of a class when it is first made

    class Timed(cls):  # type: ignore[misc, valid-type]
        seconds: list[float]

        def step(self, closure: Any = None) -> Any:
            begin = process_time()
            result = super().step(closure)
            Timed.seconds.append(process_time() - begin)
            return result

        step.hooked = True  # type: ignore[attr-defined]  # what is inside is wrapped already

    Timed.seconds = []
    return Timed


class Trainee:
    """A training, its random numbers apart from those of the others."""

    def __init__(self, program: Program, way: str, seed: int):
        self.cls = timed(getattr(instep.torch if way == OURS else torch.optim, program.rule))
        torch.manual_seed(seed)
        self.epoch = program.start(self.cls, WAYS[way], seed)
        self.random = torch.get_rng_state()
        self.seconds: list[float] = []
        self.steps: list[float] = []
        self.learned: list[float] = []

    def train(self) -> None:
        """One epoch."""
        self.cls.seconds.clear()
        torch.set_rng_state(self.random)
        begin = process_time()
        self.learned.append(self.epoch())
        self.seconds.append(process_time() - begin)
        self.random = torch.get_rng_state()
        self.steps.append(median(self.cls.seconds))
        self.steps_an_epoch = len(self.cls.seconds)


def run_program(program: Program) -> Iterator[dict[str, Any] | None]:
    """None after every epoch, and then the row."""
    ways = [way for way in WAYS if way != "fused" or program.rule == "Adam"]
    trainees: dict[str, list[Trainee]] = {way: [] for way in ways}
    for seed in SEEDS:
        order = list(ways)
        for way in ways:
            trainees[way].append(Trainee(program, way, seed))
        for _ in range(program.epochs):
            for way in order:
                trainees[way][-1].train()
            order.append(order.pop(0))
            yield None
    times = {}
    for way, ones in trainees.items():
        last = [fmean(one.learned[-(program.epochs // 4) :]) for one in ones]
        times[way] = {
            "training": median(second for one in ones for second in one.seconds) * program.epochs,
            "step": median(second for one in ones for second in one.steps),
            "learned": last,
        }
    theirs, ours = times[THEIRS]["learned"], times[OURS]["learned"]
    if abs(fmean(theirs) - fmean(ours)) > max(theirs) - min(theirs):
        raise ArithmeticError(f"{program.title}: the trainings end apart, {theirs} and {ours}")
    steps = ones[0].steps_an_epoch * program.epochs
    what = {"title": program.title, "rule": program.rule, "learned": program.learned}
    yield {**what, "epochs": program.epochs, "steps": steps, "times": times}


def run(on_progress: Callable[[str, float], None]) -> dict[str, Any]:
    """Every program, one after the other."""
    torch.set_num_threads(1)
    rows = []
    total = sum(program.epochs for program in PROGRAMS) * len(SEEDS)
    done = 0
    for program in PROGRAMS:
        for row in run_program(program):
            if row is None:
                done += 1
                on_progress(program.title, done / total)
            else:
                rows.append(row)
    libraries = ("torch", "stable-baselines3", "gymnasium", "accelerate")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "versions": {name: version(name) for name in libraries},
        "trainings": rows,
    }


# ---- the run ---------------------------------------------------------------------------------------------------


def main() -> None:
    from rich.progress import Progress

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("result", type=Path, help="where to write it, as .json")
    arguments = parser.parse_args()
    with Progress(transient=True) as progress:
        task = progress.add_task("", total=1.0)
        result = run(lambda title, done: progress.update(task, description=title, completed=done))
    arguments.result.parent.mkdir(parents=True, exist_ok=True)
    arguments.result.write_text(json.dumps(result, indent=1) + "\n")
    print(markdown(result))


if __name__ == "__main__":
    main()
