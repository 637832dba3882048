"""Every rule on three surfaces, from one start: the way it takes and how soon it is there.

The learning rate decides how fast a rule is, so each rule has its own on each surface: of `LEARNING_RATES`, the one
that brings it within `NEAR` of the goal in the fewest steps, to stay there, on a way that does not leave the picture.
Everything else is as the rule has it by default.  So each rule is seen at its best, with whole gradients and a constant
learning rate on surfaces without noise; training a network is another matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import hypot
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from .._core import rules
from ..optimizers import Optimizer
from ..tables import Table
from .picture import canvas, save, strokes

DTYPE = np.float64
STEPS = 200
NEAR = 0.2
LEARNING_RATES = tuple(float(f"{digit}e{power}") for power in range(-4, 3) for digit in (1, 2, 5))
LOST = 1e3  # so far out that no gradient is asked for any more
FLOOR = 1e-5  # as near as the picture shows

Array = NDArray[np.float64]
Point = tuple[float, float]


class Surface(NamedTuple):
    """A function of x and y with its gradient, where the way begins, where it may end, and what is drawn of it."""

    title: str
    formula: str
    height: Callable[[Any, Any], Any]
    gradient: Callable[[float, float], Point]
    start: Point
    goals: tuple[Point, ...]
    window: tuple[Point, Point]


class Run(NamedTuple):
    """Where a rule was after each step with its best learning rate, and how far from the nearest goal."""

    name: str
    lr: float
    path: Array
    distance: Array

    @property
    def ahead(self) -> Array:
        """How far from the goal it is at most from each step on, which a step onto the goal and off again is not."""
        return np.asarray(np.maximum.accumulate(self.distance[::-1])[::-1])

    @property
    def arrival(self) -> int | None:
        """The step from which on it was near the goal, if there is one."""
        far = np.flatnonzero(self.distance > NEAR)
        step = int(far[-1]) + 1 if far.size else 0
        return step if step <= STEPS else None


def beale(x: Any, y: Any) -> Any:
    """Beale's function: steep walls about a curved and nearly flat floor."""
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def gradient_of_beale(x: float, y: float) -> Point:
    """By x and by y."""
    a, b, c = 1.5 - x + x * y, 2.25 - x + x * y * y, 2.625 - x + x * y * y * y
    return (
        2 * (a * (y - 1) + b * (y * y - 1) + c * (y * y * y - 1)),
        2 * x * (a + 2 * b * y + 3 * c * y * y),
    )


SURFACES = (
    Surface(
        "A narrow valley",
        "$x^2/2 + 25\\,y^2$",
        lambda x, y: x**2 / 2 + 25 * y**2,
        lambda x, y: (x, 50 * y),
        start=(-4.1, 0.93),
        goals=((0, 0),),
        window=((-4.7, 1.6), (-1.5, 1.5)),
    ),
    Surface(
        "A saddle",
        "$x^2 - y^2 + y^4/4$",
        lambda x, y: x**2 - y**2 + y**4 / 4,
        lambda x, y: (2 * x, y * (y * y - 2)),
        start=(1.47, 0.01),
        goals=((0, 2**0.5), (0, -(2**0.5))),
        window=((-1.1, 2), (-0.9, 2.1)),
    ),
    Surface(
        "Beale's function",
        "$\\Sigma_k\\,(c_k - x + xy^k)^2$",
        beale,
        gradient_of_beale,
        start=(0.7, 1.4),
        goals=((3, 0.5),),
        window=((-0.5, 4.2), (-1.5, 2)),
    ),
)


def run(animate: bool, output: Path) -> None:
    """Find each rule's learning rate on each surface, say how soon it is there, draw the ways."""
    console = Console(highlight=False)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        races = [
            [best(rule, surface) for rule in progress.track(rules(), description=surface.title)] for surface in SURFACES
        ]
    for surface, race in zip(SURFACES, races, strict=True):
        table(surface, race).show(console)
        console.print()
    console.print(
        f"steps: until it stays within {NEAR} of the goal\n"
        f"lr: the quickest of 1, 2 and 5 times the powers of ten, {LEARNING_RATES[0]:g} to {LEARNING_RATES[-1]:g}"
    )
    with canvas(10, 6.4) as figure:
        curves = draw(figure, races)
        if animate:
            with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
                film(figure, curves, progress.track(frames(), description="draw"), output)
        else:
            save(figure, output)
    console.print(f"picture: {output}", markup=False, soft_wrap=True)


def best(rule: str, surface: Surface) -> Run:
    """The rule with the learning rate that suits it best."""
    cls = Optimizer.of_rule(rule)
    low, high = np.transpose(surface.window)

    def rank(run: Run) -> tuple[bool, float, float]:
        leaves = not bool(((low <= run.path) & (run.path <= high)).all())
        return leaves, STEPS + 1 if run.arrival is None else run.arrival, float(run.distance[-1])

    return min((walk(cls, lr, surface) for lr in LEARNING_RATES), key=rank)


def walk(cls: type[Optimizer], lr: float, surface: Surface) -> Run:
    """So many steps from the start; whoever is lost stays there."""
    position, grad = np.array(surface.start, DTYPE), np.empty(2, DTYPE)
    opt = cls(position, lr=lr)
    path = np.empty((STEPS + 1, 2), DTYPE)
    path[0] = position
    for step in range(1, STEPS + 1):
        x, y = position.tolist()
        if hypot(x, y) < LOST:
            grad[:] = surface.gradient(x, y)
            opt.step(grad)
        path[step] = position
    distance = np.min([np.hypot(*(path - goal).T) for goal in surface.goals], axis=0)
    return Run(cls.__name__, lr, path, distance)


def table(surface: Surface, race: list[Run]) -> Table:
    """When each rule was there, the first one first, and where it was in the end."""
    made = Table(surface.title, "", "lr", "steps", "ends at x", "y", "distance")
    for run in sorted(race, key=lambda run: STEPS + 1 if run.arrival is None else run.arrival):
        x, y = run.path[-1]
        steps = f"over {STEPS}" if run.arrival is None else str(run.arrival)
        made.add(run.name, f"{run.lr:g}", steps, f"{x:z.3f}", f"{y:z.3f}", f"{run.distance[-1]:.1g}")
    return made


def draw(figure: Figure, races: list[list[Run]]) -> list[Line2D]:
    """The ways on the surfaces, above how far the goal is from each step on; returns the curves, a point a step."""
    curves = []
    maps, distances = figure.subplots(2, len(SURFACES), height_ratios=(1.25, 1))
    for surface, race, above, below in zip(SURFACES, races, maps, distances, strict=True):
        contours(above, surface)
        for run, stroke in zip(race, strokes(), strict=False):
            curves += above.plot(*run.path.T, **stroke)
            curves += below.plot(np.maximum(run.ahead, FLOOR), label=run.name, **stroke)
        above.plot(*surface.start, "o", color="k", markersize=6, zorder=5)
        above.plot(*np.transpose(surface.goals), "*", color="k", markersize=11, zorder=5, linestyle="none")
        below.axhline(NEAR, color="0.5", linewidth=0.8, zorder=1)
        below.set(yscale="log", ylim=(FLOOR, 10), xlim=(0, STEPS), xlabel="step")
    distances[0].set_ylabel("distance to the goal,\nat most, from here on")
    figure.suptitle("From the dot to the star: every rule with the learning rate that suits it best")
    figure.legend(*distances[0].get_legend_handles_labels(), loc="outside lower center", ncols=8, handlelength=3)
    return curves


def contours(axes: Axes, surface: Surface) -> None:
    """The surface in grey, darker where it is lower, in levels that are as close at its foot as higher up."""
    (left, right), (bottom, top) = surface.window
    x, y = np.meshgrid(np.linspace(left, right, 300), np.linspace(bottom, top, 300))
    height = surface.height(x, y)
    height = np.sqrt(height - surface.height(*surface.goals[0]))
    axes.contourf(x, y, height, levels=14, cmap="Greys_r", vmin=-1.5 * height.max(), vmax=height.max())
    axes.contour(x, y, height, levels=14, colors="white", linewidths=0.5)
    axes.set(
        title=f"{surface.title}\n{surface.formula}", xlim=(left, right), ylim=(bottom, top), xlabel="x", ylabel="y"
    )
    axes.grid(False)


def frames() -> list[int]:
    """The steps that are shown: all at first, then fewer, where less happens."""
    return [*range(40), *range(40, 80, 2), *range(80, STEPS, 4), STEPS]


def film(figure: Figure, curves: list[Line2D], steps: Iterable[int], output: Path) -> None:
    """The same picture as it comes about; what does not move is drawn once."""
    whole: list[Any] = [curve.get_data() for curve in curves]
    figure.set_dpi(90)
    agg: Any = FigureCanvasAgg(figure)
    for curve in curves:
        curve.set_animated(True)
    agg.draw()
    still = agg.copy_from_bbox(figure.bbox)
    images, colors = [], palette(curves)
    for step in steps:
        agg.restore_region(still)
        for curve, (x, y) in zip(curves, whole, strict=True):
            curve.set_data(x[: step + 1], y[: step + 1])
            curve.draw(agg.get_renderer())
        image = Image.fromarray(np.asarray(agg.buffer_rgba())).convert("RGB")
        images.append(image.quantize(palette=colors, dither=Image.Dither.NONE))
    durations = [70] * (len(images) - 1) + [3000]  # milliseconds
    with output.open("wb") as file:
        images[0].save(file, "gif", save_all=True, append_images=images[1:], duration=durations, loop=0)


def palette(curves: list[Line2D]) -> Image.Image:
    """The 256 colours of a GIF: greys, and those of the curves as they fade into the grey of a surface."""
    greys = np.linspace(0, 255, 96)[:, np.newaxis].repeat(3, axis=1)
    strong = np.unique([to_rgb(curve.get_color()) for curve in curves], axis=0) * 255
    share = np.linspace(0, 1, 160 // len(strong), endpoint=False)[:, np.newaxis, np.newaxis]
    faded = (1 - share) * strong + share * 220
    holder = Image.new("P", (1, 1))
    holder.putpalette(np.concatenate([greys, faded.reshape(-1, 3)]).astype(np.uint8).tobytes())
    return holder
