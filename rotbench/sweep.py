"""Figures of accuracy against something that was set or reached: a tuned value, labels, a stage, a pretext score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from rotbench.canvas import (
    Drawing,
    Percent,
    all_short,
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

#: Places along an axis have room for so many letters.
LONGEST_NAME = 10

#: Above and below the means at least so much of an interval is shown, a fraction.
LEAST_ROOM = 0.02


@dataclass(frozen=True)
class Point:
    """One place on a line, and the accuracy there over seeds; ``chosen`` ones are ringed.

    ``said`` is what it is called in words; by default its number.
    """

    x: float
    estimate: Estimate
    chosen: bool = False
    said: str = ""


@dataclass(frozen=True)
class SweepLine:
    """Points in the order in which they are joined; ``style`` chooses colour, dash and marker, ``key`` its ids.

    ``published`` lines are what others measured: thin, dashed, with open diamonds.
    """

    key: str
    label: str
    style: int
    points: tuple[Point, ...]
    published: bool = False


@dataclass(frozen=True)
class SweepPanel:
    """One set of axes; ``label`` names the axis of values, ``names`` what its places are called where not by numbers.

    ``per_cent`` says that the values are fractions, which have round ticks of their own.
    """

    title: str
    label: str
    lines: tuple[SweepLine, ...]
    names: tuple[str, ...] = ()
    per_cent: bool = False


@laid_out
def sweeps(
    name: str, title: str, panels: Sequence[SweepPanel], measured: str = "test accuracy", *, alone: bool = True
) -> Drawing:
    """Means and their 95 % t intervals, a panel a condition; ``alone`` gives each a scale of its own."""
    columns = min(len(panels), 2)
    rows = math.ceil(len(panels) / columns)
    lines = {line.label: line for panel in panels for line in panel.lines}
    words, keys = [*lines], [_mark(line) for line in lines.values()]
    if any(point.chosen for panel in panels for line in panel.lines for point in line.points):
        words.append("chosen on validation images")
        keys.append(_ring([], []))
    figure = new_figure(5.2 if columns == 1 else 8.0, 0.6 + 2.5 * rows, words, keys)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=not alone)
    for axes in list(grid.flat)[len(panels) :]:
        axes.remove()
    titles: dict[str, str] = {}
    for place, (axes, panel) in enumerate(zip(grid.flat, panels, strict=False)):
        plain_axes(axes)
        axes.set_title(short(panel.title), fontsize=9.5, loc="left")
        for line in panel.lines:
            _draw(axes, line, titles, panel)
        _places(axes, panel)
        _scale(axes, [panel] if alone else panels)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(Percent())
        axes.margins(x=0.08)
        axes.set_xlabel(panel.label)
        if place % columns == 0:
            axes.set_ylabel(measured)
    return Drawing(name, title, figure, titles)


def _draw(axes: Axes, line: SweepLine, titles: dict[str, str], panel: SweepPanel) -> None:
    xs = [point.x for point in line.points]
    means = [point.estimate.mean for point in line.points]
    for point in line.points:
        if point.estimate.interval is not None:
            axes.plot([point.x] * 2, point.estimate.interval, color=colour_of(line.style), linewidth=1.2, alpha=0.7)
    gid = f"{line.key}-mean"
    drawn = _mark(line)
    drawn.set_data(xs, means)
    drawn.set_gid(gid)
    axes.add_line(drawn)
    axes.update_datalim(list(zip(xs, means, strict=True)))
    told = ", ".join(f"{percent(point.estimate.mean, 1)} at {_said(point, panel)}" for point in line.points)
    titles[gid] = f"{line.label}: {told}"
    chosen = [point for point in line.points if point.chosen]
    if chosen:
        axes.add_line(_ring([point.x for point in chosen], [point.estimate.mean for point in chosen]))


def _scale(axes: Axes, panels: Sequence[SweepPanel]) -> None:
    """Limits from the means: the interval of two seeds may be wider than all that there is."""
    estimates = [point.estimate for panel in panels for line in panel.lines for point in line.points]
    means = [estimate.mean for estimate in estimates]
    room = max(0.5 * (max(means) - min(means)), LEAST_ROOM)
    lows = [end.interval[0] if end.interval else end.mean for end in estimates]
    highs = [end.interval[1] if end.interval else end.mean for end in estimates]
    edge = 0.06 * room
    axes.set_ylim(
        max(0.0, min(lows), min(means) - room) - edge, min(max(1.0, *means), max(highs), max(means) + room) + edge
    )


def _said(point: Point, panel: SweepPanel) -> str:
    return point.said or (panel.names[int(point.x)] if panel.names else f"{point.x:g}")


def _places(axes: Axes, panel: SweepPanel) -> None:
    """The ticks of the values: at each that was tried, by the logarithm where they span much."""
    if panel.per_cent:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter(Percent())
        return
    values = sorted({point.x for line in panel.lines for point in line.points})
    if not panel.names and values[0] > 0 and values[-1] / values[0] >= LOGARITHMIC:
        axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(values))
    axes.xaxis.set_minor_locator(NullLocator())
    names = all_short(panel.names, LONGEST_NAME)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: names[round(at)] if names else f"{at:g}"))


def _mark(line: SweepLine) -> Line2D:
    colour = colour_of(line.style)
    if line.published:
        return Line2D(
            [],
            [],
            color=colour,
            linestyle=(0, (1.5, 2.5)),
            marker="D",
            markerfacecolor="none",
            markersize=4,
            linewidth=1.0,
        )
    joined: Any = dash_of(line.style) if len(line.points) > 1 else "none"
    return Line2D([], [], color=colour, linestyle=joined, marker=marker_of(line.style), markersize=4, linewidth=1.6)


def _ring(xs: Sequence[float], ys: Sequence[float]) -> Line2D:
    return Line2D(xs, ys, marker="o", markersize=11, markerfacecolor="none", color="black", linestyle="none")
