"""The report's figures: curves by epoch, dots with intervals, paired differences, clouds of points."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator
from scipy.optimize import isotonic_regression

from rotbench.canvas import (
    GREY,
    LONGEST_ROW_LINE,
    MARKERS,
    Drawing,
    Percent,
    all_short,
    colour_of,
    dash_of,
    in_points,
    laid_out,
    marker_of,
    new_figure,
    note,
    on_lines,
    percent,
    plain_axes,
    short,
)
from rotbench.inference import Estimate, mean_interval

#: Above this many lines of single seeds a figure draws means and bands alone.
MOST_SEED_LINES = 100
#: Labels at the ends of lines are drawn where a panel has at most this many lines and letters in each label.
MOST_DIRECT_LABELS = 8
LONGEST_DIRECT_LABEL = 22
#: From so many rows on a dot plot is set closer, its labels on one line.
MANY_ROWS = 13
#: Diamonds of so many sources are told apart by how they are filled.
FILLS = ("none", "full", "left", "bottom")
#: What an axis of curves counts in, by the least value at its end: divisor and words.
IMAGES = ((2e6, 1e6, "training images seen, millions"), (1e4, 1e3, "training images seen, thousands"))
SECONDS = ((18000.0, 3600.0, "hours"), (300.0, 60.0, "minutes"))


@dataclass(frozen=True)
class Line:
    """One seed's values by epoch, from epoch 1, one or more; ``finished`` seeds enter the mean.

    ``xs`` are where they are drawn: images seen or seconds; empty for the epochs themselves.
    """

    seed: int
    values: tuple[float, ...]
    finished: bool
    xs: tuple[float, ...] = ()


@dataclass(frozen=True)
class Series:
    """The curves of one variant; ``style`` chooses colour, dash and marker, ``key`` its ids.

    ``end``, a mark of its own, is measured after the last epoch in another way than the curve, as ``end_words`` says.
    """

    key: str
    label: str
    style: int
    lines: tuple[Line, ...]
    end: Estimate | None = None
    end_words: str = ""

    @functools.cached_property
    def mean(self) -> list[Estimate]:
        """:func:`mean_curve` of the lines."""
        return mean_curve(self.lines)

    @functools.cached_property
    def places(self) -> list[float]:
        """Where the mean is drawn, see :func:`mean_places`."""
        return mean_places(self.lines)


@dataclass(frozen=True)
class Panel:
    """One set of axes of a curve figure; ``levels`` are horizontal lines, such as chance, with their labels."""

    title: str
    series: tuple[Series, ...]
    levels: tuple[tuple[float, str], ...]
    label: str
    per_cent: bool


@dataclass(frozen=True)
class Row:
    """One row of a dot plot: an estimate, the seeds behind it, and published numbers beside it.

    ``faint`` rows are drawn grey: one of their runs diverged or is missing. ``baseline`` is the mean that the row is
    compared with; ``is_baseline`` rows are what others are compared with. ``predicted`` is where one more run would
    lie, to hold published numbers against; ``thresholds`` are numbers that were asked for, with who asked.
    """

    key: str
    label: str
    style: int
    values: tuple[float, ...]
    estimate: Estimate
    references: tuple[tuple[float, str], ...] = ()
    faint: bool = False
    baseline: float | None = None
    is_baseline: bool = False
    predicted: tuple[float, float] | None = None
    thresholds: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True)
class Cloud:
    """The points of one variant, (x, y) a run; ``style`` chooses the colour, ``kind`` the mark."""

    key: str
    label: str
    style: int
    kind: int
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class CloudPanel:
    """One set of axes of a point plot, with an x axis of its own."""

    title: str
    clouds: tuple[Cloud, ...]
    label: str
    per_cent: bool


def mean_curve(lines: Sequence[Line]) -> list[Estimate]:
    """Mean and 95 % t interval by epoch over finished runs, up to the epoch where the first of them stopped."""
    finished = [line.values for line in lines if line.finished]
    if not finished:
        return []
    return [mean_interval(values) for values in zip(*finished, strict=False)]


def mean_places(lines: Sequence[Line]) -> list[float]:
    """Where :func:`mean_curve` is drawn: the epochs, or the mean over finished seeds of where each stood."""
    finished = [line.xs or tuple(map(float, range(1, len(line.values) + 1))) for line in lines if line.finished]
    return [sum(xs) / len(xs) for xs in zip(*finished, strict=False)]


@laid_out
def curves(
    name: str,
    title: str,
    panels: Sequence[Panel],
    *,
    alone: bool = False,
    seeds: bool = True,
    bands: bool = True,
    x: str = "epoch",
) -> Drawing:
    """The mean over seeds, where ``bands`` its 95 % t band; where ``seeds``, and these are not too many, a line a seed.

    ``alone`` says that each panel has a scale of its own; otherwise all share one. ``x`` is what the lines' places
    are: ``"epoch"``, ``"images"`` or ``"seconds"``.
    """
    columns = min(len(panels), 2)
    rows = math.ceil(len(panels) / columns)
    seeds = seeds and draws_seeds(panels)
    entries = {series.label: series.style for panel in panels for series in panel.series}
    labelled = all(_has_direct_labels(panel) for panel in panels)
    handles = [
        Line2D([], [], color=colour_of(s), linestyle=dash_of(s), marker=marker_of(s), linewidth=1.8, markersize=4)
        for s in entries.values()
    ]
    figure = new_figure(5.2 if columns == 1 else 8.0, 0.5 + 2.7 * rows, [] if labelled else list(entries), handles)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=not alone, sharex=not alone)
    titles: dict[str, str] = {}
    for axes in list(grid.flat)[len(panels) :]:
        axes.remove()
    for place, (axes, panel) in enumerate(zip(grid.flat, panels, strict=False)):
        _curve_panel(axes, panel, seeds, bands, titles)
        _scale(axes, [panel] if alone else panels, seeds)
        _run_of(axes, [panel] if alone else panels, x)
        if place % columns == 0 or alone:
            axes.set_ylabel(panel.label)
        axes.tick_params(labelbottom=True)  # shared axes have numbers in the last row alone, which may be shorter
    for axes, panel in zip(grid.flat, panels, strict=False):
        _direct_labels(axes, panel)
    return Drawing(name, title, figure, titles)


def draws_seeds(panels: Sequence[Panel]) -> bool:
    """Whether the lines of single seeds are few enough to be drawn."""
    return sum(len(series.lines) for panel in panels for series in panel.series) <= MOST_SEED_LINES


def _curve_panel(axes: Axes, panel: Panel, seeds: bool, bands: bool, titles: dict[str, str]) -> None:
    def said(value: float) -> str:
        return percent(value, 1) if panel.per_cent else f"{value:.4g}"

    axes.set_title(short(panel.title), fontsize=9.5, loc="left")
    plain_axes(axes)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10]))
    if panel.per_cent:
        axes.yaxis.set_major_formatter(Percent())
    for level, label in panel.levels:
        axes.axhline(level, color="black", linestyle=(0, (1, 2)), linewidth=1.0)
        if label:
            note(axes, short(label), (1, level), ("axes fraction", "data"), (-3, 2.5), va="bottom", ha="right")
    for series in panel.series:
        colour, dash = colour_of(series.style), dash_of(series.style)
        for line in series.lines if seeds else ():
            epochs = range(1, len(line.values) + 1)
            gid = f"{series.key}-seed{line.seed}"
            axes.plot(line.xs or epochs, line.values, color=colour, linestyle=dash, linewidth=0.7, alpha=0.45, gid=gid)
            titles[gid] = f"{series.label}, seed {line.seed}, {said(line.values[-1])} at epoch {len(line.values)}"
        mean, places = series.mean, series.places
        if not mean:
            continue
        gid = f"{series.key}-mean"
        means = [point.mean for point in mean]
        every = max(1, len(mean) // 8)
        (main,) = axes.plot(places, means, color=colour, linestyle=dash, linewidth=1.8, gid=gid)
        if bands:
            main.set(marker=marker_of(series.style), markersize=3.5, markevery=((len(mean) - 1) % every, every))
        titles[gid] = f"{series.label}, mean of {mean[-1].n}, {said(means[-1])} at epoch {len(mean)}"
        if series.end is not None:
            gid, at = f"{series.key}-end", said(series.end.mean)
            axes.plot(places[-1:], [series.end.mean], "D", color=colour, markersize=6, fillstyle="none", gid=gid)
            titles[gid] = f"{series.label}, mean of {series.end.n}, {series.end_words}, {at} at epoch {len(mean)}"
        if bands and mean[0].n > 1:
            gid = f"{series.key}-band"
            lows, highs = zip(*(point.interval or (point.mean, point.mean) for point in mean), strict=True)
            axes.fill_between(places, lows, highs, color=colour, alpha=0.14, linewidth=0, gid=gid)
            titles[gid] = f"{series.label}, 95 % t interval of the mean"


def _scale(axes: Axes, panels: Sequence[Panel], seeds: bool) -> None:
    """Limits from what was measured: the band of two seeds may be wider than all of it."""
    values = [level for panel in panels for level, _ in panel.levels]
    for series in (series for panel in panels for series in panel.series):
        values += [series.end.mean] if series.end is not None else []
        if seeds:
            values += [value for line in series.lines for value in line.values]
            continue
        for point, measured in zip(
            series.mean,
            zip(*(line.values for line in series.lines if line.finished), strict=False),
            strict=True,
        ):
            low, high = point.interval or (point.mean, point.mean)
            values += [max(low, min(measured)), min(high, max(measured))]
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = 0.06 * (high - low) or 0.05
    axes.set_ylim(low - room, high + room)


def _run_of(axes: Axes, panels: Sequence[Panel], x: str) -> None:
    """The x axis of curves: whole epochs, or images and seconds from zero in units that keep numbers short."""
    lines = [line for panel in panels for series in panel.series for line in series.lines]
    last = max(max(line.xs, default=float(len(line.values))) for line in lines)
    if x == "epoch":
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
        if last < 2:  # a single epoch has no width of its own
            axes.set_xlim(0.5, 1.5)
        return
    units, plain = (IMAGES, "training images seen") if x == "images" else (SECONDS, "seconds")
    divisor, words = next(((by, words) for least, by, words in units if last >= least), (1.0, plain))
    axes.set_xlabel(words if x == "images" else f"{words} of training and scoring")
    axes.set_xlim(0, 1.05 * last)
    # Ticks at round numbers of the unit: a round number of seconds is none of minutes.
    base = divisor * _round_step(last / divisor / 6)
    axes.xaxis.set_major_locator(MultipleLocator(base))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / divisor:g}"))


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is at least ``least``."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= least * (1 - 1e-9))


def _has_direct_labels(panel: Panel) -> bool:
    named = [series for series in panel.series if any(line.finished for line in series.lines)]
    return (
        len(named) == len(panel.series) <= MOST_DIRECT_LABELS
        and max(len(series.label) for series in named) <= LONGEST_DIRECT_LABEL
    )


def _direct_labels(axes: Axes, panel: Panel) -> None:
    """The name of each mean at its line's end, moved apart where two would overlap; nothing where they do not fit."""
    if not _has_direct_labels(panel):
        return
    ends = [(series.places[-1], series.mean[-1].mean, series) for series in panel.series]
    ends = sorted(ends, key=lambda end: end[1])
    low, high = axes.get_ylim()
    step = 0.062 * (high - low)
    places = _apart([y for _, y, _ in ends], step, low, high)
    moved = any(abs(at - y) > 0.3 * step for at, (_, y, _) in zip(places, ends, strict=True))
    for at, (x, y, series) in zip(places, ends, strict=True):
        leader = {"arrowstyle": "-", "color": colour_of(series.style), "linewidth": 0.7, "shrinkA": 0, "shrinkB": 2}
        told = axes.annotate(
            series.label,
            (x, y),
            xytext=(18 if moved else 6 if series.end is None else 9, at),
            textcoords=("offset points", "data"),
            va="center",
            fontsize=8,
            annotation_clip=False,
            gid=f"{series.key}-label",
            arrowprops=leader | {"relpos": (0, 0.5)} if moved else None,
        )
        if told.arrow_patch is not None:
            told.arrow_patch.set_gid(f"{series.key}-leader")


def _apart(wanted: Sequence[float], step: float, low: float, high: float) -> list[float]:
    """Places at least ``step`` apart, between ``low`` and ``high``, as near to the ascending ``wanted`` as can be."""
    offsets = [step * place for place in range(len(wanted))]
    fitted = isotonic_regression([y - offset for y, offset in zip(wanted, offsets, strict=True)]).x
    top = high - offsets[-1]
    return [max(low, min(float(y), top)) + offset for y, offset in zip(fitted, offsets, strict=True)]


@laid_out
def dots(name: str, title: str, rows: Sequence[Row], chance: float | None) -> Drawing:
    """Final accuracies, best on top: mean, 95 % t interval, single seeds as small dots, published ones as diamonds,
    thresholds as triangles.

    The mean that rows are compared with is a line where all have the same, else a stroke in each row.
    """
    ordered = sorted(rows, key=lambda row: row.estimate.mean)
    sources = list(dict.fromkeys(source for row in ordered for _, source in row.references))
    fills = dict(zip(sources, FILLS, strict=False)) if len(sources) <= len(FILLS) else {}
    baselines = {row.baseline for row in ordered if row.baseline is not None}
    words = [*fills] if fills else ["published"] if sources else []
    keys = [_diamond([], [], fills.get(source, "none")) for source in (fills or sources[:1])]
    if any(row.predicted for row in ordered):
        words.append("where one more run here would lie")
        keys.append(_reach([], []))
    if any(row.thresholds for row in ordered):
        words.append("at least this was asked for")
        keys.append(_threshold([], []))
    if len(baselines) > 1:
        words.append("what a row is compared with")
        keys.append(_stroke([], []))
    means = [percent(row.estimate.mean, 1) for row in ordered]
    figure, axes, titles = _row_figure(ordered, means, words, keys)
    above = []
    if chance is not None:
        axes.axvline(chance, color="black", linestyle=(0, (1, 2)), linewidth=1.0, gid="chance")
        above.append((chance, "chance"))
    if len(baselines) == 1:
        (only,) = baselines
        axes.axvline(only, color=GREY, linewidth=1.0, zorder=1, gid="baseline")
        titles["baseline"] = f"baseline, {percent(only, 1)}"
        above.append((only, "baseline"))
    for place, row in enumerate(ordered):
        if row.baseline is not None and len(baselines) > 1:
            gid = f"{row.key}-baseline"
            axes.add_line(_stroke([row.baseline], [place], gid=gid))
            titles[gid] = f"{row.label} is compared with {percent(row.baseline, 1)}"
        for number, (accuracy, source) in enumerate(row.references):
            gid = f"{row.key}-reference{number}"
            axes.add_line(_diamond([accuracy], [place - 0.27], fills.get(source, "none"), gid=gid))
            axes.update_datalim([(accuracy, place)])
            titles[gid] = f"{source}: {percent(accuracy, 2)}"
        if row.predicted is not None:
            gid = f"{row.key}-predicted"
            axes.add_line(_reach(row.predicted, [place - 0.27] * 2, gid=gid))
            ends = " and ".join(percent(end, 1) for end in row.predicted)
            titles[gid] = f"{row.label}: one more run would lie between {ends}"
        for number, (accuracy, source) in enumerate(row.thresholds):
            gid = f"{row.key}-threshold{number}"
            axes.add_line(_threshold([accuracy], [place - 0.27], gid=gid))
            axes.update_datalim([(accuracy, place)])
            titles[gid] = f"{source}: at least {percent(accuracy, 2)}"
    axes.autoscale_view(scaley=False)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(Percent())
    axes.set_xlabel("test accuracy after the last epoch")
    # The t interval of two seeds may reach far beyond what an accuracy can be; the table has its numbers.
    low, high = axes.get_xlim()
    axes.set_xlim(max(low, -0.02), min(high, 1.02))
    for x, word in above:
        note(axes, word, (x, 1), ("data", "axes fraction"), (0, 3), va="bottom", ha="center")
    return Drawing(name, title, figure, titles)


@laid_out
def differences(name: str, title: str, rows: Sequence[Row], margin: float) -> Drawing:
    """Paired differences to the baseline with 95 % t intervals, a line at zero and the band of the margin."""
    ordered = list(reversed(rows))
    figure, axes, titles = _row_figure(ordered, [in_points(row.estimate.mean) for row in ordered])
    axes.axvspan(-margin, margin, color="black", alpha=0.09, linewidth=0, gid="margin")
    titles["margin"] = f"differences below the margin of {100 * margin:g} points"
    axes.axvline(0, color="black", linewidth=1.0, zorder=1)
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, -1.5 * margin), max(high, 1.5 * margin))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: in_points(value, digits=3) if value else "0"))
    axes.set_xlabel("difference, percentage points")
    return Drawing(name, title, figure, titles)


def _row_figure(
    rows: Sequence[Row], means: Sequence[str], words: Sequence[str] = (), keys: Sequence[Line2D] = ()
) -> tuple[Figure, Axes, dict[str, str]]:
    """The marks of each row from the bottom up, and right of the axes its mean in figures; a legend of ``words``."""
    close = len(rows) >= MANY_ROWS
    told = all_short([row.label for row in rows], 2 * LONGEST_ROW_LINE)
    labels = told if close else [on_lines(label) for label in told]
    # Long labels take their room beside the axes and not from them: a letter is about 0.075 inches wide.
    longest = max((len(line) for label in labels for line in label.split("\n")), default=0)
    width = 5.2 + 0.075 * max(0, longest - 18)
    figure = new_figure(width, 0.9 + (0.28 if close else 0.4) * len(rows), words, keys)
    axes = figure.subplots()
    plain_axes(axes)
    axes.grid(axis="y", linewidth=0.5, alpha=0.09)
    axes.margins(x=0.06)
    titles = {}
    for place, (row, mean) in enumerate(zip(rows, means, strict=True)):
        colour = GREY if row.faint else colour_of(row.style)
        if len(row.values) > 1:
            _marks(
                axes,
                row.values,
                place + (0.3 if close else 0.24),
                "o",
                2 if close else 2.6,
                colour,
                gid=f"{row.key}-seeds",
            )
            titles[f"{row.key}-seeds"] = f"{row.label}: single seeds"
        if row.estimate.interval is not None:
            ends = row.estimate.interval
            axes.plot(
                ends, [place] * 2, color=colour, marker="|", markersize=5, linewidth=1.5, gid=f"{row.key}-interval"
            )
        face = "none" if row.faint or row.estimate.n < 2 else colour
        _marks(
            axes,
            [row.estimate.mean],
            place,
            marker_of(row.style),
            4.5 if close else 5,
            colour,
            face=face,
            gid=f"{row.key}-mean",
        )
        titles[f"{row.key}-mean"] = f"{row.label}: mean of {row.estimate.n}, {mean}"
        note(axes, mean, (1, place), ("axes fraction", "data"), (8, 0), va="center", size=8.5 if close else 9)
    axes.set_yticks(range(len(rows)), labels=labels, fontsize=8.5 if close else 9.5)
    for text, row in zip(axes.get_yticklabels(), rows, strict=True):
        text.set_fontweight("bold" if row.is_baseline else "normal")
    axes.set_ylim(-0.7, len(rows) - 0.4)
    axes.tick_params(axis="y", length=0)
    return figure, axes, titles


def _stroke(xs: Sequence[float], ys: Sequence[float], gid: str | None = None) -> Line2D:
    return Line2D(xs, ys, marker="|", markersize=11, markeredgewidth=1.2, color=GREY, linestyle="none", gid=gid)


def _reach(xs: Sequence[float], ys: Sequence[float], gid: str | None = None) -> Line2D:
    return Line2D(xs, ys, color=GREY, linewidth=3.0, alpha=0.4, solid_capstyle="butt", zorder=1, gid=gid)


def _threshold(xs: Sequence[float], ys: Sequence[float], gid: str | None = None) -> Line2D:
    return Line2D(xs, ys, marker=">", markersize=4.5, color="black", linestyle="none", gid=gid)


def _diamond(xs: Sequence[float], ys: Sequence[float], fill: Any, gid: str | None = None) -> Line2D:
    return Line2D(
        xs,
        ys,
        marker="D",
        markersize=4.5,
        fillstyle=fill,
        markerfacecoloralt="none",
        color="black",
        linestyle="none",
        gid=gid,
    )


@laid_out
def clouds(name: str, title: str, panels: Sequence[CloudPanel], label: str) -> Drawing:
    """Points, a panel each with its own x axis and all with one y axis, accuracies under ``label``; a mark a kind."""
    columns = min(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    kinds = {cloud.label: cloud.kind for panel in panels for cloud in panel.clouds}
    told = list(kinds) if len(kinds) > 1 else []
    keys = [_cloud_marks([], [], kinds[words], "black") for words in told]
    figure = new_figure((4.2, 6.6, 8.0)[columns - 1], 0.5 + 2.3 * rows, told, keys)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in list(grid.flat)[len(panels) :]:
        axes.remove()
    titles = {}
    for place, (axes, panel) in enumerate(zip(grid.flat, panels, strict=False)):
        plain_axes(axes)
        axes.set_title(short(panel.title), fontsize=9.5, loc="left")
        for cloud in panel.clouds:
            gid = f"{cloud.key}-seeds"
            xs, ys = zip(*cloud.points, strict=True)
            axes.add_line(_cloud_marks(xs, ys, cloud.kind, colour_of(cloud.style), gid=gid))
            axes.update_datalim(cloud.points)
            titles[gid] = f"{panel.title}: {cloud.label}, {len(cloud.points)} runs"
        axes.autoscale_view()
        axes.margins(0.1)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
        if panel.per_cent:
            axes.xaxis.set_major_formatter(Percent())
        axes.yaxis.set_major_formatter(Percent())
        axes.set_xlabel(short(panel.label))
        if place % columns == 0:
            axes.set_ylabel(label)
    return Drawing(name, title, figure, titles)


def _cloud_marks(xs: Sequence[float], ys: Sequence[float], kind: int, colour: str, gid: str | None = None) -> Line2D:
    """Marks of one kind: after the six shapes the same ones hollow."""
    hollow = kind // len(MARKERS) % 2 == 1
    shape = MARKERS[kind % len(MARKERS)]
    face = "none" if hollow else colour
    return Line2D(xs, ys, marker=shape, markersize=5, color=colour, markerfacecolor=face, linestyle="none", gid=gid)


def _marks(
    axes: Axes,
    xs: Sequence[float],
    y: float,
    marker: str,
    size: float,
    colour: str,
    *,
    gid: str,
    face: str | None = None,
) -> None:
    line = Line2D(xs, [y] * len(xs), marker=marker, markersize=size, color=colour, linestyle="none", gid=gid)
    line.set_markerfacecolor(face or colour)
    axes.add_line(line)
    axes.update_datalim([(x, y) for x in xs])
    axes.autoscale_view()
