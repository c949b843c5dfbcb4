"""The figure of tuned settings: accuracy against the value that was tried, a line a side, the chosen value ringed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from rotbench.canvas import (
    Drawing,
    Percent,
    colour_of,
    dash_of,
    laid_out,
    marker_of,
    new_figure,
    percent,
    plain_axes,
    short,
)
from rotbench.inference import Estimate

#: From this ratio of the largest to the smallest value on they are drawn by their logarithm.
LOGARITHMIC = 5.0


@dataclass(frozen=True)
class Point:
    """One value that was tried, and the accuracy of its finished seeds; ``chosen`` ones are ringed."""

    x: float
    estimate: Estimate
    chosen: bool


@dataclass(frozen=True)
class SweepLine:
    """The values that one side tried, rising; ``style`` chooses colour, dash and marker, ``key`` its ids."""

    key: str
    label: str
    style: int
    points: tuple[Point, ...]


@dataclass(frozen=True)
class SweepPanel:
    """One set of axes; ``label`` names the axis of values."""

    title: str
    label: str
    lines: tuple[SweepLine, ...]


@laid_out
def sweeps(name: str, title: str, panels: Sequence[SweepPanel]) -> Drawing:
    """Mean test accuracy and its 95 % t interval over the values tried, a panel a condition, each on its own scale."""
    columns = min(len(panels), 2)
    rows = math.ceil(len(panels) / columns)
    styles = {line.label: line.style for panel in panels for line in panel.lines}
    words = [*styles, "chosen on validation images"]
    keys = [
        Line2D([], [], color=colour_of(s), linestyle=dash_of(s), marker=marker_of(s), markersize=4, linewidth=1.6)
        for s in styles.values()
    ]
    keys.append(_ring([], []))
    figure = new_figure(5.2 if columns == 1 else 8.0, 0.6 + 2.5 * rows, words, keys)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in list(grid.flat)[len(panels) :]:
        axes.remove()
    titles = {}
    for place, (axes, panel) in enumerate(zip(grid.flat, panels, strict=False)):
        plain_axes(axes)
        axes.set_title(short(panel.title), fontsize=9.5, loc="left")
        values = sorted({point.x for line in panel.lines for point in line.points})
        if values[0] > 0 and values[-1] / values[0] >= LOGARITHMIC:
            axes.set_xscale("log")
        for line in panel.lines:
            xs = [point.x for point in line.points]
            means = [point.estimate.mean for point in line.points]
            colour = colour_of(line.style)
            for point in line.points:
                if point.estimate.interval is not None:
                    axes.plot([point.x] * 2, point.estimate.interval, color=colour, linewidth=1.2, alpha=0.7)
            axes.plot(
                xs,
                means,
                color=colour,
                linestyle=dash_of(line.style),
                marker=marker_of(line.style),
                markersize=4,
                linewidth=1.6,
                gid=f"{line.key}-mean",
            )
            told = ", ".join(f"{percent(point.estimate.mean, 1)} at {point.x:g}" for point in line.points)
            titles[f"{line.key}-mean"] = f"{line.label}: {told}"
            chosen = [point for point in line.points if point.chosen]
            axes.add_line(_ring([point.x for point in chosen], [point.estimate.mean for point in chosen]))
        axes.xaxis.set_major_locator(FixedLocator(values))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(Percent())
        axes.margins(0.08)
        axes.set_xlabel(panel.label)
        if place % columns == 0:
            axes.set_ylabel("test accuracy")
    return Drawing(name, title, figure, titles)


def _ring(xs: Sequence[float], ys: Sequence[float]) -> Line2D:
    return Line2D(xs, ys, marker="o", markersize=11, markerfacecolor="none", color="black", linestyle="none")
