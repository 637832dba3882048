"""Word vectors from a text that comes with Python: every step moves the rows of some words, and looks at no others.

Skip-gram with negative sampling (Mikolov et al., arXiv:1310.4546) over the paragraphs of ``pydoc_data.topics``, which
``help()`` shows.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics
from time import perf_counter_ns
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from threadpoolctl import threadpool_limits

from .._core import Rows
from ..rules.rmsprop import RMSprop
from ..schedules import polynomial
from ..tables import Table
from ..threads import num_threads
from .picture import canvas, save, strokes

DTYPE = np.float32
SIZE = 64  # numbers in a vector
WINDOW = 5  # words on either side that may be context
NEGATIVES = 5  # words that are not, for each that is
BATCH = 256  # pairs of a word and a context
LR = 0.01
LEAST = 5  # times that a word must occur
FREQUENT = 1e-3  # words that are more of the text than this are left out now and then
WORDS = ("float", "string", "iterator", "exception", "import", "async", "slice", "dictionary")
NEIGHBOURS = 5
TABLES, TOUCHED = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000), 256
TIMED_STEPS = 100

Array = NDArray[Any]


class Text(NamedTuple):
    """Words by number, the most frequent first; which of them occur one after another, and in which paragraph."""

    words: list[str]
    counts: Array
    occurring: Array
    paragraph: Array


class Times(NamedTuple):
    """Microseconds of a step of some rows and of one of all rows."""

    rows: float
    dense: float


def run(epochs: int, output: Path) -> None:
    """Learn, print the neighbours of some words and the time of steps, draw both."""
    console = Console(highlight=False)
    rng = np.random.default_rng(0)
    text = read()
    console.print(f"{len(text.occurring)} words of pydoc_data.topics, {len(text.words)} of them different")
    params = vectors(rng, len(text.words))
    columns = TextColumn("{task.description}"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.fields[loss]}")
    with Progress(*columns, console=console) as progress, threadpool_limits(1, user_api="blas"):
        task = progress.add_task("epochs", total=epochs, loss="")
        for loss in learn(params, text, epochs, rng):
            progress.update(task, advance=1, loss=f"loss {loss:.4f}")
        task = progress.add_task("tables", total=len(TABLES), loss="")
        times = {}
        for size in TABLES:
            times[size] = time_steps(size, rng)
            progress.advance(task)

    near = neighbours(params["words"], text)
    table = Table("nearest by angle", "", "", words=(0, 1))
    for word, others in near.items():
        table.add(word, ", ".join(others))
    table.show(console)
    console.print()
    headings = "rows", f"{TOUCHED} of them", "all of them", "all / some"
    table = Table(f"a step of RMSprop, {SIZE} numbers a row", *headings, words=())
    for size, (rows, dense) in times.items():
        table.add(f"{size}", f"{rows:.0f} us", f"{dense:.0f} us", f"{dense / rows:.1f}x")
    table.show(console)
    with canvas(10, 5) as figure:
        draw(figure, near, times)
        save(figure, output)
    console.print(f"picture: {output}", markup=False, soft_wrap=True)


def read() -> Text:
    """The words of all topics but the rare ones, in lower case."""
    paragraphs = [
        re.findall(r"[a-z]+(?:_[a-z]+)*", paragraph.lower())
        for topic in topics.values()
        for paragraph in re.split(r"\n\s*\n", topic)
    ]
    counted = Counter(word for paragraph in paragraphs for word in paragraph)
    words = [word for word, count in counted.most_common() if count >= LEAST]
    number = {word: k for k, word in enumerate(words)}
    known = [[number[word] for word in paragraph if word in number] for paragraph in paragraphs]
    return Text(
        words,
        np.array([counted[word] for word in words]),
        np.concatenate([np.array(paragraph, np.int64) for paragraph in known]),
        np.repeat(np.arange(len(known)), [len(paragraph) for paragraph in known]),
    )


def vectors(rng: np.random.Generator, count: int) -> dict[str, Array]:
    """Those of words, small and random, and those of contexts, 0."""
    words = (rng.random((count, SIZE)) - 0.5) / SIZE
    return {"words": words.astype(DTYPE), "contexts": np.zeros((count, SIZE), DTYPE)}


def learn(params: dict[str, Array], text: Text, epochs: int, rng: np.random.Generator) -> Iterator[float]:
    """Train in place, with an lr that falls to 0; the mean loss of a pair in each epoch."""
    opt = RMSprop(params, lr=LR)
    noise = np.cumsum(text.counts**0.75)
    lr = None
    for _ in range(epochs):
        words, contexts = pairs(text, rng)
        lr = lr or polynomial(LR, 0.0, round(1.05 * epochs * len(words) / BATCH))  # epochs differ a little
        losses = 0.0
        for begin in range(0, len(words), BATCH):
            word, context = words[begin : begin + BATCH], contexts[begin : begin + BATCH]
            others = np.searchsorted(noise, noise[-1] * rng.random((len(word), NEGATIVES)))
            grads, loss = gradients(params, word, np.column_stack([context, others]))
            opt.lr = lr(opt.step_count)
            opt.step(grads)
            losses += loss
        yield losses / len(words)


def pairs(text: Text, rng: np.random.Generator) -> tuple[Array, Array]:
    """Words and contexts near them in their paragraph, in no order; frequent words are left out now and then."""
    share = text.counts / text.counts.sum()
    kept = rng.random(len(text.occurring)) < np.sqrt(FREQUENT / share)[text.occurring]
    occurring, paragraph = text.occurring[kept], text.paragraph[kept]
    reach = rng.integers(1, WINDOW + 1, len(occurring))
    words, contexts = [], []
    for distance in range(1, WINDOW + 1):
        before, after = occurring[:-distance], occurring[distance:]
        together = paragraph[:-distance] == paragraph[distance:]
        for word, context, of_word in ((before, after, reach[:-distance]), (after, before, reach[distance:])):
            chosen = together & (of_word >= distance)
            words.append(word[chosen])
            contexts.append(context[chosen])
    order = rng.permutation(sum(map(len, words)))
    return np.concatenate(words)[order], np.concatenate(contexts)[order]


def gradients(params: dict[str, Array], word: Array, contexts: Array) -> tuple[dict[str, Rows], float]:
    """Of the summed loss of these words, where the first of each word's contexts is one and the others are not."""
    of_word, of_contexts = params["words"][word], params["contexts"][contexts]
    scores = (of_contexts @ of_word[:, :, np.newaxis])[..., 0]
    scores[:, 1:] *= -1
    loss = np.logaddexp(0, -scores)
    off = np.exp(-scores - loss)  # 1 - sigmoid(score), without an overflow
    off[:, 0] *= -1
    return {
        "words": Rows(word, (off[:, np.newaxis] @ of_contexts)[:, 0]),
        "contexts": Rows(contexts.ravel(), (off[..., np.newaxis] * of_word[:, np.newaxis]).reshape(-1, SIZE)),
    }, float(loss.sum())


def neighbours(vectors: Array, text: Text) -> dict[str, dict[str, float]]:
    """The nearest to each of some words that the text has, with the cosine of the angle between them."""
    directions = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = {}
    for word in WORDS:
        if word in text.words:
            itself = text.words.index(word)
            cosines = directions @ directions[itself]
            cosines[itself] = -np.inf
            nearest = np.argsort(-cosines, kind="stable")[:NEIGHBOURS]
            found[word] = {text.words[k]: float(cosines[k]) for k in nearest}
    return found


def time_steps(size: int, rng: np.random.Generator) -> Times:
    """The quickest of some steps of some rows of a table, and of all of them with a gradient that is 0 elsewhere."""
    table, dense = np.zeros((size, SIZE), DTYPE), np.zeros((size, SIZE), DTYPE)
    indices = rng.permutation(size)[:TOUCHED]
    dense[indices] = 1
    opt = RMSprop([table])
    taken = []
    with num_threads(1):
        for grad in (Rows(indices, dense[indices]), dense):
            times = []
            for _ in range(TIMED_STEPS):
                begin = perf_counter_ns()
                opt.step([grad])
                times.append(perf_counter_ns() - begin)
            taken.append(min(times) / 1000)
    return Times(*taken)


def draw(figure: Figure, near: dict[str, dict[str, float]], times: dict[int, Times]) -> None:
    """The neighbours of each word, and the time of a step against the rows of a table."""
    ((left, right),) = figure.subfigures(1, 2, squeeze=False, width_ratios=(1.9, 1), wspace=0.04)
    panels = left.subplots(2, -(-len(near) // 2), squeeze=False, sharex=True).flat
    for axes, (word, cosines), stroke in zip(panels, near.items(), strokes(), strict=False):
        axes.barh(list(cosines), list(cosines.values()), color=stroke["color"], alpha=0.35, height=0.8)
        for other in cosines:
            axes.annotate(other, (0, other), (3, 0), textcoords="offset points", va="center", fontsize=8)
        axes.set(title=word, yticks=[], xlim=(0, 1))
        axes.invert_yaxis()
        axes.grid(visible=False)
    for axes in panels:
        axes.set_axis_off()
    left.supxlabel("cosine of the angle to the word", fontsize=8)

    clock = right.subplots()
    rows, dense = zip(*times.values(), strict=True)
    for values, label in ((dense, "all rows, zeros for most"), (rows, f"{TOUCHED} rows")):
        clock.plot(list(times), values, "o-", markersize=4, label=label)
    clock.set(title="Microseconds a step", xlabel="rows of the table", xscale="log", yscale="log")
    for axis in (clock.xaxis, clock.yaxis):
        axis.set_major_formatter("{x:,g}")
    clock.legend()
    figure.suptitle("Word vectors from the topics of Python's help(): a step looks at the rows that have a gradient")
