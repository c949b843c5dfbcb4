"""The report's figures, and how they are saved: as an element of the page, as an SVG file, as a PDF file.

In the page a figure is one ``<svg>`` element. What matplotlib draws in black takes the page's text colour, so that it
also reads on a dark page; as a file it stays black. The ids of an SVG start with the figure's name, so that two
figures can stand in one page, and every series is a group with an id of its own and a title that a browser shows on
hovering. The same input gives the same bytes, whatever was saved before.
"""

from __future__ import annotations

import functools
import io
import math
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ParamSpec
from xml.etree import ElementTree

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from rotbench.inference import Estimate, mean_interval

SVG = "http://www.w3.org/2000/svg"
HREF = "{http://www.w3.org/1999/xlink}href"
ElementTree.register_namespace("", SVG)

#: Okabe and Ito's colours without black (the page's text) and yellow (unreadable on white); never without a dash.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
DASHES: tuple[Any, ...] = (
    "solid",
    (0, (5, 2)),
    (0, (1.5, 1.5)),
    (0, (6, 2, 1.5, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
    (0, (9, 3)),
)
MARKERS = ("o", "s", "^", "D", "v", "P")
#: Above this many lines of single seeds a figure draws means and bands alone.
MOST_SEED_LINES = 100
#: Labels at the ends of lines are drawn where a panel has at most this many lines and letters in each label.
MOST_DIRECT_LABELS = 6
LONGEST_DIRECT_LABEL = 16
LONGEST_LABEL = 44
LONGEST_ROW_LINE = 28
GREY = "#8a8a8a"
#: Text stays text, and a name with two dollar signs is no formula.
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "text.parse_math": False,
    "path.simplify": False,  # a line keeps a vertex an epoch
}

P = ParamSpec("P")


@dataclass(frozen=True)
class Line:
    """One run's values by epoch, from epoch 1, one or more; ``finished`` runs enter the mean."""

    seed: int
    values: tuple[float, ...]
    finished: bool


@dataclass(frozen=True)
class Series:
    """The curves of one variant; ``style`` chooses colour, dash and marker, ``key`` its ids."""

    key: str
    label: str
    style: int
    lines: tuple[Line, ...]


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

    ``faint`` rows are drawn grey: one of their runs diverged or is missing.
    """

    key: str
    label: str
    style: int
    values: tuple[float, ...]
    estimate: Estimate
    references: tuple[tuple[float, str], ...] = ()
    faint: bool = False


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure, its name and title, and by id the words that a browser shows on hovering over a series.

    It is laid out: saving it does not change it.
    """

    name: str
    title: str
    figure: Figure
    titles: Mapping[str, str]


@contextmanager
def _own_settings(further: dict[Any, Any] | None = None) -> Iterator[None]:
    """Matplotlib's defaults and ours, whatever settings a user or a caller has."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        matplotlib.rcParams.update(further or {})
        # Who reads the drawing may have glyphs that the font matplotlib measures with has not.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def _with_own_settings(draw: Callable[P, Drawing]) -> Callable[P, Drawing]:
    """Draw with :func:`_own_settings`, and lay out once: other formats measure letters otherwise."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Drawing:
        with _own_settings():
            drawing = draw(*args, **kwargs)
            drawing.figure.draw_without_rendering()
            drawing.figure.set_layout_engine("none")
            return drawing

    return drawn


def mean_curve(lines: Sequence[Line]) -> list[Estimate]:
    """Mean and 95 % t interval by epoch over finished runs, up to the epoch where the first of them stopped."""
    finished = [line.values for line in lines if line.finished]
    if not finished:
        return []
    return [mean_interval(values) for values in zip(*finished, strict=False)]


@_with_own_settings
def curves(name: str, title: str, panels: Sequence[Panel], alone: bool = False) -> Drawing:
    """Values by epoch: a thin line a seed, the mean over seeds and its 95 % t band.

    ``alone`` says that each panel has a scale of its own; otherwise all share one.
    """
    columns = min(len(panels), 2)
    rows = math.ceil(len(panels) / columns)
    figure = _figure(5.0 if columns == 1 else 8.0, 0.5 + 2.8 * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=not alone, sharex=not alone)
    seed_lines = sum(len(series.lines) for panel in panels for series in panel.series) <= MOST_SEED_LINES
    titles: dict[str, str] = {}
    for axes in list(grid.flat)[len(panels) :]:
        axes.remove()
    for place, (axes, panel) in enumerate(zip(grid.flat, panels, strict=False)):
        _curve_panel(axes, panel, seed_lines, titles)
        axes.set_xlabel("epoch")
        if place % columns == 0 or alone:
            axes.set_ylabel(panel.label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        axes.tick_params(labelbottom=True)  # shared axes have numbers in the last row alone, which may be shorter
        if axes.get_xlim()[1] < 2:  # a single epoch has no width of its own
            axes.set_xlim(0.5, 1.5)
        _scale(axes, [panel] if alone else panels)
    for axes, panel in zip(grid.flat, panels, strict=False):
        _direct_labels(axes, panel)
    entries = {series.label: series.style for panel in panels for series in panel.series}
    handles = [
        Line2D([], [], color=_colour(s), linestyle=_dash(s), marker=_marker(s), linewidth=1.8, markersize=4)
        for s in entries.values()
    ]
    _legend(figure, handles, list(entries), columns=min(4, len(entries)))
    return Drawing(name, title, figure, titles)


def _curve_panel(axes: Axes, panel: Panel, seed_lines: bool, titles: dict[str, str]) -> None:
    unit = _percent if panel.per_cent else _number
    axes.set_title(_short(panel.title), fontsize=9.5, loc="left")
    _plain_axes(axes)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: unit(value, 0)))
    for level, label in panel.levels:
        axes.axhline(level, color="black", linestyle=(0, (1, 2)), linewidth=1.0)
        if label:
            _note(axes, _short(label), (0, level), ("axes fraction", "data"), (4, 2.5), va="bottom")
    for series in panel.series:
        colour, dash = _colour(series.style), _dash(series.style)
        for line in series.lines if seed_lines else ():
            epochs = range(1, len(line.values) + 1)
            gid = f"{series.key}-seed{line.seed}"
            axes.plot(epochs, line.values, color=colour, linestyle=dash, linewidth=0.7, alpha=0.45, gid=gid)
            titles[gid] = f"{series.label}, seed {line.seed}, {unit(line.values[-1], 1)} at epoch {len(line.values)}"
        mean = mean_curve(series.lines)
        if not mean:
            continue
        epochs = range(1, len(mean) + 1)
        gid = f"{series.key}-mean"
        means = [point.mean for point in mean]
        every = max(1, len(mean) // 8)
        (main,) = axes.plot(epochs, means, color=colour, linestyle=dash, linewidth=1.8, gid=gid)
        main.set(marker=_marker(series.style), markersize=3.5, markevery=((len(mean) - 1) % every, every))
        titles[gid] = f"{series.label}, mean of {mean[-1].n}, {unit(means[-1], 1)} at epoch {len(mean)}"
        if mean[0].n > 1:
            gid = f"{series.key}-band"
            lows = [point.low if point.low is not None else point.mean for point in mean]
            highs = [point.high if point.high is not None else point.mean for point in mean]
            axes.fill_between(epochs, lows, highs, color=colour, alpha=0.14, linewidth=0, gid=gid)
            titles[gid] = f"{series.label}, 95 % t interval of the mean"


def _scale(axes: Axes, panels: Sequence[Panel]) -> None:
    """Limits from lines and levels alone: the band of two seeds may be wider than everything that was measured."""
    values = [value for panel in panels for series in panel.series for line in series.lines for value in line.values]
    values += [level for panel in panels for level, _ in panel.levels]
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = 0.06 * (high - low) or 0.05
    axes.set_ylim(low - room, high + room)


def _direct_labels(axes: Axes, panel: Panel) -> None:
    """The name of each mean at its line's end, moved apart where two would overlap; nothing where they do not fit."""
    ends = [(mean_curve(series.lines), series) for series in panel.series]
    ends = sorted(((mean, series) for mean, series in ends if mean), key=lambda end: end[0][-1].mean)
    if len(ends) > MOST_DIRECT_LABELS or any(len(series.label) > LONGEST_DIRECT_LABEL for _, series in ends):
        return
    low, high = axes.get_ylim()
    step = 0.055 * (high - low)
    at = -math.inf
    for mean, series in ends:
        at = max(mean[-1].mean, at + step)
        _note(axes, series.label, (len(mean), at), "data", (5, 0), va="center", size=8)


@_with_own_settings
def dots(name: str, title: str, rows: Sequence[Row], chance: float | None) -> Drawing:
    """Final accuracies, best on top: mean, 95 % t interval, single seeds as small dots, published ones as diamonds."""
    ordered = sorted(rows, key=lambda row: row.estimate.mean)
    figure, axes, titles = _row_figure(ordered, [_percent(row.estimate.mean, 1) for row in ordered])
    if chance is not None:
        axes.axvline(chance, color="black", linestyle=(0, (1, 2)), linewidth=1.0)
        _note(axes, "chance", (chance, 1), ("data", "axes fraction"), (3, -2), va="top")
    for place, row in enumerate(ordered):
        for number, (accuracy, source) in enumerate(row.references):
            gid = f"{row.key}-reference{number}"
            _marks(axes, [accuracy], place - 0.26, "D", 4.5, "black", face="none", gid=gid)
            titles[gid] = f"{source}: {_percent(accuracy, 2)}"
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _percent(value, 0)))
    axes.set_xlabel("test accuracy after the last epoch")
    # The t interval of two seeds may reach far beyond what an accuracy can be; the table has its numbers.
    low, high = axes.get_xlim()
    axes.set_xlim(max(low, -0.02), min(high, 1.02))
    if any(row.references for row in ordered):
        diamond = Line2D([], [], marker="D", markersize=4.5, markerfacecolor="none", color="black", linestyle="none")
        _legend(figure, [diamond], ["published"], columns=1)
    return Drawing(name, title, figure, titles)


@_with_own_settings
def differences(name: str, title: str, rows: Sequence[Row], margin: float) -> Drawing:
    """Paired differences to the baseline with 95 % t intervals, a line at zero and the band of the margin."""
    ordered = list(reversed(rows))
    figure, axes, titles = _row_figure(ordered, [_points(row.estimate.mean) for row in ordered])
    axes.axvspan(-margin, margin, color="black", alpha=0.09, linewidth=0, gid="margin")
    titles["margin"] = f"differences below the margin of {100 * margin:g} points"
    axes.axvline(0, color="black", linewidth=1.0)
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, -1.5 * margin), max(high, 1.5 * margin))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _points(value, digits=3) if value else "0"))
    axes.set_xlabel("difference, percentage points")
    return Drawing(name, title, figure, titles)


def _row_figure(rows: Sequence[Row], means: Sequence[str]) -> tuple[Figure, Axes, dict[str, str]]:
    """The marks of each row from the bottom up, and right of the axes its mean in figures."""
    figure = _figure(5.0, 0.9 + 0.4 * len(rows))
    axes = figure.subplots()
    _plain_axes(axes)
    axes.grid(axis="y", visible=False)
    titles = {}
    for place, (row, mean) in enumerate(zip(rows, means, strict=True)):
        colour = GREY if row.faint else _colour(row.style)
        _marks(axes, row.values, place + 0.24, "o", 2.6, colour, gid=f"{row.key}-seeds")
        titles[f"{row.key}-seeds"] = f"{row.label}: single seeds"
        if row.estimate.interval is not None:
            ends = row.estimate.interval
            axes.plot(ends, [place] * 2, color=colour, marker="|", linewidth=1.6, gid=f"{row.key}-interval")
        face = "none" if row.faint or row.estimate.n < 2 else colour
        _marks(axes, [row.estimate.mean], place, _marker(row.style), 5, colour, face=face, gid=f"{row.key}-mean")
        titles[f"{row.key}-mean"] = f"{row.label}: mean of {row.estimate.n}, {mean}"
        _note(axes, mean, (1, place), ("axes fraction", "data"), (8, 0), va="center", size=9)
    axes.set_yticks(range(len(rows)), labels=[_two_lines(row.label) for row in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.tick_params(axis="y", length=0)
    return figure, axes, titles


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


def _note(
    axes: Axes,
    text: str,
    at: tuple[float, float],
    frame: Any,
    offset: tuple[float, float],
    *,
    va: str,
    size: float = 7.5,
) -> None:
    axes.annotate(
        text, at, xycoords=frame, xytext=offset, textcoords="offset points", va=va, fontsize=size, annotation_clip=False
    )


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure


def _plain_axes(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, color="black", alpha=0.12, linewidth=0.6)
    axes.set_axisbelow(True)


def _legend(figure: Figure, handles: Sequence[Line2D], labels: Sequence[str], columns: int) -> None:
    """A legend below the axes; its texts are set afterwards: matplotlib drops labels that begin with an underscore."""
    if not handles:
        return
    legend: Legend = figure.legend(
        handles,
        ["label"] * len(labels),
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=8.5,
        handlelength=3.2,
    )
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_text(_short(label))


def _colour(style: int) -> str:
    return COLOURS[style % len(COLOURS)]


def _dash(style: int) -> Any:
    return DASHES[(style + style // len(COLOURS)) % len(DASHES)]


def _marker(style: int) -> str:
    return MARKERS[(style + style // len(COLOURS)) % len(MARKERS)]


def _percent(value: float, digits: int) -> str:
    return f"{100 * value:.{digits}f} %"


def _points(value: float, digits: int | None = None) -> str:
    text = f"{100 * value:+.1f}" if digits is None else f"{100 * value:+.{digits}g}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "\N{MINUS SIGN}")


def _number(value: float, digits: int) -> str:
    return f"{value:.4g}"


def _short(label: str) -> str:
    return label if len(label) <= LONGEST_LABEL else label[: LONGEST_LABEL - 1] + "…"


def _two_lines(label: str) -> str:
    lines = textwrap.wrap(label, LONGEST_ROW_LINE, max_lines=2, placeholder="…")
    return "\n".join(lines)


def page_svg(drawing: Drawing) -> str:
    """An ``<svg>`` element to be put into a page as it is: its colours are the page's."""
    root = _drawn(drawing)
    width = float(root.attrib.pop("width").removesuffix("pt"))
    root.attrib.pop("height")
    root.attrib.pop("version", None)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == f"{{{SVG}}}style":  # it would apply to the whole page
                parent.remove(child)
    for node in root.iter():
        for key in ("clip-path", "style"):
            if key in node.attrib:
                node.set(key, _adaptable(node.attrib[key]))
    root.set("style", f"--natural: {width / 72:.2f}in")
    root.set("class", "figure")
    root.set("fill", "currentColor")
    root.set("stroke-linejoin", "round")
    return ElementTree.tostring(root, encoding="unicode")


def svg_file(drawing: Drawing) -> bytes:
    """An SVG file that stands alone: black on nothing, text as text."""
    made: bytes = ElementTree.tostring(_drawn(drawing), encoding="utf-8", xml_declaration=True)
    return made + b"\n"


def pdf_file(drawing: Drawing) -> bytes:
    """A PDF file of one page as large as the figure, its fonts embedded, without a date or a program's name."""
    stream = io.BytesIO()
    unsaid = dict.fromkeys(("Creator", "Producer", "CreationDate"))
    with _own_settings():
        drawing.figure.savefig(stream, format="pdf", transparent=True, metadata={**unsaid, "Title": drawing.title})
    return stream.getvalue()


def _drawn(drawing: Drawing) -> ElementTree.Element:
    """The drawing as SVG without metadata, its ids prefixed, its series titled."""
    stream = io.StringIO()
    with _own_settings({"svg.hashsalt": drawing.name}):
        drawing.figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(stream.getvalue())  # noqa: S314 -- matplotlib's own drawing, a line above
    for child in root.findall(f"{{{SVG}}}metadata"):  # it names the drawing program
        root.remove(child)
    for node in root.iter():
        for key, value in node.attrib.items():
            # Of coordinates a hundredth of a point is enough; what labels say is text and stays as it is.
            node.set(key, re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", value))
        own = node.get("id")
        if own is not None:
            if own in drawing.titles:
                _add_title(node, drawing.titles[own])
            node.set("id", f"{drawing.name}-{own}")
        if HREF in node.attrib:
            node.set("href", f"#{drawing.name}-{node.attrib.pop(HREF)[1:]}")
        for key in ("clip-path", "style"):
            if key in node.attrib:
                node.set(key, node.attrib[key].replace("url(#", f"url(#{drawing.name}-"))
    root.set("role", "img")
    root.set("aria-labelledby", f"{drawing.name}-title")
    _add_title(root, drawing.title).set("id", f"{drawing.name}-title")
    return root


def _adaptable(style: str) -> str:
    """Black as the page's text colour, and the series' colours under names that a dark page can redefine."""
    style = style.replace("#000000", "currentColor")
    for place, colour in enumerate(COLOURS):
        style = style.replace(colour, f"var(--series-{place}, {colour})")
    return style


def _add_title(node: ElementTree.Element, words: str) -> ElementTree.Element:
    title = ElementTree.Element(f"{{{SVG}}}title")
    title.text = words
    node.insert(0, title)
    return title
