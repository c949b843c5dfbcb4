"""What all figures share: colours and marks, the canvas, and how one is saved: in a page, as an SVG or PDF file.

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
from matplotlib.ticker import Formatter

from rotbench.slim import HREF, SVG, slim

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
LONGEST_LABEL = 44
LONGEST_ROW_LINE = 28
GREY = "#8a8a8a"
#: Text stays text, and a name with two dollar signs is no formula.
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "font.sans-serif": ["DejaVu Sans"],
    "text.parse_math": False,
    "path.simplify": False,  # a line keeps a vertex an epoch
}
_EXACT = re.compile(r"\d+\.\d+")
P = ParamSpec("P")


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


@contextmanager
def _resolution_kept(figure: Figure) -> Iterator[None]:
    """Undo that a format sets its own resolution."""
    resolution = figure.dpi
    try:
        yield
    finally:
        figure.dpi = resolution


def laid_out(draw: Callable[P, Drawing]) -> Callable[P, Drawing]:
    """Draw with :func:`_own_settings`, and lay out once: other formats measure letters otherwise."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Drawing:
        with _own_settings():
            drawing = draw(*args, **kwargs)
            engine = drawing.figure.get_layout_engine()
            if engine is not None:
                engine.execute(drawing.figure)
            drawing.figure.set_layout_engine("none")
            for patch in (drawing.figure.patch, *(axes.patch for axes in drawing.figure.axes)):
                patch.set(facecolor="none", edgecolor="none")  # the page's colour shows through
            return drawing

    return drawn


def note(
    axes: Axes,
    text: str,
    at: tuple[float, float],
    frame: Any,
    offset: tuple[float, float],
    *,
    va: str,
    ha: str = "left",
    size: float = 7.5,
) -> None:
    axes.annotate(
        text,
        at,
        xycoords=frame,
        xytext=offset,
        textcoords="offset points",
        va=va,
        ha=ha,
        fontsize=size,
        annotation_clip=False,
    )


def new_figure(width: float, height: float, words: Sequence[str], keys: Sequence[Line2D]) -> Figure:
    """A figure in inches with a legend of ``words`` below the axes, which adds to the height.

    The legend's texts are set afterwards: matplotlib drops labels that begin with an underscore.
    """
    labels = all_short(words)
    # Of 8.5 points a letter is about 5 wide; a key and its spaces take 50.
    columns = max(1, min(4, len(labels), int(72 * width / (5 * max(map(len, labels), default=1) + 50))))
    height += 0.2 * math.ceil(len(labels) / columns)
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    if labels:
        legend: Legend = figure.legend(
            keys,
            ["label"] * len(labels),
            loc="outside lower center",
            ncols=columns,
            frameon=False,
            fontsize=8.5,
            handlelength=3.2 if any(key.get_linestyle() != "None" for key in keys) else 1.2,
        )
        for text, label in zip(legend.get_texts(), labels, strict=True):
            text.set_text(label)
    return figure


def plain_axes(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, color="black", alpha=0.12, linewidth=0.6, clip_on=False)
    axes.set_axisbelow(True)


class Percent(Formatter):
    """Fractions as per cent, with as many digits as tell the ticks apart."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return percent(x, 0)

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        digits = next((d for d in range(4) if all(abs(round(100 * v, d) - 100 * v) < 1e-6 for v in values)), 4)
        return [percent(value, digits) for value in values]


def colour_of(style: int) -> str:
    return COLOURS[style % len(COLOURS)]


def dash_of(style: int) -> Any:
    return DASHES[(style + style // len(COLOURS)) % len(DASHES)]


def dash_words(style: int) -> str:
    """The dash of a style as an SVG's ``stroke-dasharray`` has it, at a stroke of 2; empty for a solid line."""
    dash = dash_of(style)
    return "" if dash == "solid" else " ".join(f"{2 * length:g}" for length in dash[1])


def marker_of(style: int) -> str:
    return MARKERS[(style + style // len(COLOURS)) % len(MARKERS)]


def percent(value: float, digits: int) -> str:
    return f"{100 * value:.{digits}f} %"


def in_points(value: float, digits: int | None = None) -> str:
    text = f"{100 * value:+.1f}" if digits is None else f"{100 * value:+.{digits}g}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "\N{MINUS SIGN}")


def short(label: str, longest: int = LONGEST_LABEL) -> str:
    """A label of at most ``longest`` letters. What sets labels apart often stands last, so the middle is left out."""
    if len(label) <= longest:
        return label
    tail = (longest - 1) * 3 // 5
    return f"{label[: longest - 1 - tail]}…{label[-tail:]}"


def all_short(labels: Sequence[str], longest: int = LONGEST_LABEL) -> list[str]:
    """:func:`short` of each; labels that differ stay different, numbered where they must be."""
    told = [short(label, longest) for label in labels]
    alike: dict[str, list[str]] = {}
    for label, word in zip(labels, told, strict=True):
        if label not in alike.setdefault(word, []):
            alike[word].append(label)
    return [
        f"{word} ({alike[word].index(label) + 1})" if len(alike[word]) > 1 else word
        for label, word in zip(labels, told, strict=True)
    ]


def on_lines(label: str) -> str:
    """A label on lines of the length that a row has room for."""
    return "\n".join(textwrap.wrap(label, LONGEST_ROW_LINE))


def page_svg(drawing: Drawing) -> str:
    """An ``<svg>`` element to be put into a page as it is: its colours are the page's."""
    root = _drawn(drawing)
    width = float(root.attrib.pop("width").removesuffix("pt"))
    root.attrib.pop("height")
    root.attrib.pop("version", None)
    slim(root, f"{drawing.name}-")
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
    from matplotlib.backends.backend_pdf import FigureCanvasPdf  # late: a page does without

    stream = io.BytesIO()
    unsaid = dict.fromkeys(("Creator", "Producer", "CreationDate"))
    with _own_settings(), _resolution_kept(drawing.figure):
        FigureCanvasPdf(drawing.figure).print_pdf(stream, metadata={**unsaid, "Title": drawing.title})  # type: ignore[no-untyped-call]
    return stream.getvalue()


def _drawn(drawing: Drawing) -> ElementTree.Element:
    """The drawing as SVG without metadata, its ids prefixed, its series titled."""
    stream = io.StringIO()
    with _own_settings({"svg.hashsalt": drawing.name}), _resolution_kept(drawing.figure):
        # Not savefig, which draws everything twice in case the layout changes; here it is done.
        FigureCanvasSVG(drawing.figure).print_svg(stream, metadata={"Date": None})  # type: ignore[no-untyped-call]
    root = ElementTree.fromstring(stream.getvalue())  # noqa: S314 -- matplotlib's own drawing, a line above
    for child in root.findall(f"{{{SVG}}}metadata"):  # it names the drawing program
        root.remove(child)
    for node in root.iter():
        for key, value in node.attrib.items():
            # Of coordinates a hundredth of a point is enough; what labels say is text and stays as it is.
            node.set(key, _EXACT.sub(lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), value))
        if node.get("transform", "").startswith("rotate(-0 "):
            del node.attrib["transform"]
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
