"""The drawings: what they contain, and that they can stand together in one page."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree

import matplotlib
import pytest

from rotbench import canvas, figures
from rotbench.inference import mean_interval

SVG = "{http://www.w3.org/2000/svg}"


def line(seed: int, *values: float, finished: bool = True) -> figures.Line:
    return figures.Line(seed, values, finished)


def panel(label: str = "rotation", title: str = "", first: int = 0) -> figures.Panel:
    series = (
        figures.Series(f"v{first}", label, 0, (line(0, 0.2, 0.4, 0.5), line(1, 0.22, 0.41, 0.52))),
        figures.Series(f"v{first + 1}", "random", 1, (line(0, 0.1, 0.2, 0.3), line(1, 0.15, 0.25, finished=False))),
    )
    return figures.Panel(title, series, ((0.1, "chance"),), "test accuracy", per_cent=True)


def row(key: str, label: str, *values: float) -> figures.Row:
    return figures.Row(key, label, 0, values, mean_interval(values), references=((0.64, "a paper"),))


def all_drawings(label: str = "rotation") -> dict[str, canvas.Drawing]:
    return {
        "curves": figures.curves("curves", "Curves", [panel(label, label), panel("other", "second", first=2)]),
        "pretexts": figures.curves("pretexts", "Scores", [panel(label)], alone=True),
        "finals": figures.dots("finals", "Finals", [row("v0", label, 0.6, 0.62), row("v1", "random", 0.4)], 0.1),
        "differences": figures.differences("differences", "Differences", [row("v0", label, 0.2, 0.18)], 0.01),
    }


def all_figures(label: str = "rotation") -> dict[str, str]:
    return {name: canvas.page_svg(drawing) for name, drawing in all_drawings(label).items()}


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)  # noqa: S314 -- drawn here


def texts(svg: str) -> list[str]:
    return ["".join(node.itertext()) for node in parsed(svg).iter(f"{SVG}text")]


def ids(svg: str) -> list[str]:
    return [node.attrib["id"] for node in parsed(svg).iter() if "id" in node.attrib]


def test_every_id_is_unique_in_a_page_that_holds_all_figures_and_every_reference_has_its_target() -> None:
    drawn = all_figures()
    found = [name for svg in drawn.values() for name in ids(svg)]
    assert len(found) == len(set(found))
    for name, svg in drawn.items():
        assert all(own.startswith(f"{name}-") for own in ids(svg))
        targets = re.findall(r'(?:href="#|url\(#)([^")]+)', svg)
        assert targets
        assert set(targets) <= set(ids(svg))


def test_each_series_is_a_group_with_a_title() -> None:
    svg = all_figures()["curves"]
    groups = {node.get("id"): node for node in parsed(svg).iter(f"{SVG}g")}
    for key in ("v0-seed0", "v0-seed1", "v0-mean", "v0-band", "v1-seed1", "v1-mean"):
        assert groups[f"curves-{key}"].findtext(f"{SVG}title")
    assert "curves-v1-band" not in groups, "one finished seed has no interval"


def test_a_figure_is_an_image_with_a_title_and_takes_the_pages_colour() -> None:
    for svg in all_figures().values():
        root = parsed(svg)
        assert (root.get("role"), root.get("fill")) == ("img", "currentColor")
        assert root[0].tag == f"{SVG}title"
        assert root.get("aria-labelledby") == root[0].get("id")
        assert "#000000" not in svg
        assert "<style" not in svg
        assert "#ffffff" not in svg, "the background is the page's"


def test_the_same_input_gives_the_same_bytes_whatever_settings_a_user_has() -> None:
    first = all_figures()
    with matplotlib.rc_context({"font.size": 20, "lines.linewidth": 9, "svg.fonttype": "path"}):
        again = all_figures()
    assert first == again


@pytest.mark.parametrize("label", ["$x^2$ and $y$", "_hidden", "<script>&", "名前"])
def test_a_name_is_drawn_as_text(label: str) -> None:
    drawn = all_figures(label)
    for name in ("curves", "finals", "differences"):
        assert label in texts(drawn[name])


def test_a_long_name_is_cut_where_it_would_push_the_axes_aside() -> None:
    drawn = all_figures("rotation with a great many options, all of them written out in full")
    cut = "rotation with a gr… them written out in full"
    assert len(cut) == canvas.LONGEST_LABEL
    assert cut in texts(drawn["curves"])
    assert {"rotation with a great …, all", "of them written out in full"} <= set(texts(drawn["finals"]))


def test_labels_that_are_cut_stay_apart() -> None:
    """Rows of many axes differ in their middle, their end, or in both; none may look like another."""
    labels = [
        f"rotation / below / lr {lr} / labels_per_class {k} / stem imagenet" for lr in (0.1, 0.01) for k in (9, 99)
    ]
    for longest in (20, 28, 44):
        told = canvas.all_short([*labels, labels[0]], longest)
        assert len(set(told)) == len(labels)
        assert told[0] == told[-1]
        assert all(len(word.partition(" (")[0]) <= longest for word in told)
    assert canvas.all_short(["random", "rotation"]) == ["random", "rotation"]


def test_the_mean_ends_where_the_first_finished_seed_stopped() -> None:
    lines = [line(0, 0.1, 0.2, 0.3), line(1, 0.3, 0.4), line(2, 0.9, finished=False)]
    assert [point.mean for point in figures.mean_curve(lines)] == [pytest.approx(0.2), pytest.approx(0.3)]
    assert figures.mean_curve([line(0, 0.5, finished=False)]) == []


def test_many_seeds_are_drawn_as_mean_and_band_alone() -> None:
    lines = tuple(line(seed, 0.2, 0.3 + seed / 1000) for seed in range(101))
    crowd = figures.Panel("", (figures.Series("v0", "rotation", 0, lines),), (), "test accuracy", per_cent=True)
    found = ids(canvas.page_svg(figures.curves("curves", "Curves", [crowd])))
    assert "curves-v0-mean" in found
    assert not [name for name in found if "seed" in name]


def test_styles_differ_in_more_than_colour() -> None:
    dashes, markers = canvas.dash_of, canvas.marker_of
    for style in range(len(canvas.COLOURS)):
        others = [other for other in range(len(canvas.COLOURS)) if other != style]
        assert all(dashes(style) != dashes(other) and markers(style) != markers(other) for other in others)
    assert dashes(0) != dashes(len(canvas.COLOURS))


def test_numbers_in_labels_are_not_rounded() -> None:
    """Coordinates are; a learning rate of 0.001 that is drawn as 0.00 would be another study."""
    drawn = all_figures("lr 0.00125")
    for name in ("curves", "finals", "differences"):
        assert "lr 0.00125" in texts(drawn[name])
        assert not re.search(r'd="[^"]*\d\.\d{3}', drawn[name])


def test_the_axis_of_accuracies_ends_where_accuracies_do() -> None:
    """Two seeds forty points apart have a t interval of plus and minus 254 points."""
    row = figures.Row("a", "a", 0, (0.3, 0.7), mean_interval([0.3, 0.7]))
    drawn = canvas.page_svg(figures.dots("finals", "Finals", [row], 0.1))
    ticks = {int(number) for number in re.findall(r">(-?\d+) %<", drawn.replace("\u2212", "-").replace("\u00a0", " "))}
    assert ticks
    assert min(ticks) >= 0
    assert max(ticks) <= 100


@pytest.mark.thorough
def test_a_figure_is_saved_the_same_in_any_order_and_under_any_settings() -> None:
    savers = (canvas.page_svg, canvas.svg_file, canvas.pdf_file)
    first = {save: {name: save(drawing) for name, drawing in all_drawings().items()} for save in savers}
    again = all_drawings()
    for order in (savers, savers[::-1], savers):
        for save in order:
            with matplotlib.rc_context({"font.size": 20, "svg.fonttype": "path", "pdf.fonttype": 3}):
                assert {name: save(drawing) for name, drawing in again.items()} == first[save]


def test_a_file_stands_alone_in_black_with_its_text_as_text_and_without_a_date() -> None:
    for drawing in all_drawings().values():
        svg = canvas.svg_file(drawing).decode()
        assert svg.startswith("<?xml version='1.0' encoding='utf-8'?>")
        root = ElementTree.fromstring(svg.encode())  # noqa: S314 -- drawn here
        assert root.tag == f"{SVG}svg"
        assert re.fullmatch(r"[\d.]+pt", root.attrib["width"])
        assert "currentColor" not in svg
        assert "var(" not in svg
        assert "<metadata" not in svg
        assert "Matplotlib" not in svg
        assert {"rotation", "random"} & set(texts(canvas.page_svg(drawing))) <= set(texts(svg.partition("?>")[2]))
        pdf = canvas.pdf_file(drawing)
        assert pdf.startswith(b"%PDF")
        assert b"/FontFile2" in pdf
        assert b"/Type3" not in pdf
        assert not re.search(rb"CreationDate|Matplotlib|Producer", pdf)


def test_a_long_straight_mean_keeps_a_vertex_an_epoch() -> None:
    """Matplotlib would drop what lies on a straight line, from 128 vertices on."""
    values = [0.2 + 0.001 * epoch for epoch in range(300)]
    straight = figures.Panel("", (figures.Series("v0", "rotation", 0, (line(0, *values),)),), (), "accuracy", True)
    svg = canvas.page_svg(figures.curves("curves", "Curves", [straight]))
    mean = next(node for node in parsed(svg).iter(f"{SVG}g") if node.get("id") == "curves-v0-mean")
    assert len(re.findall("[ML]", next(mean.iter(f"{SVG}path")).get("d", ""))) == 300


def test_labels_at_line_ends_keep_their_distance_and_their_order() -> None:
    wanted = [0.5, 0.5, 0.51, 0.9, 0.99]
    places = figures._apart(wanted, 0.06, 0.0, 1.0)
    assert all(after - before >= 0.06 - 1e-12 for before, after in itertools.pairwise(places))
    assert places[3:] == pytest.approx([0.9, 0.99])
    assert max(figures._apart([1.0] * 5, 0.06, 0.0, 1.0)) <= 1.0 + 1e-12


@pytest.mark.parametrize(
    ("ticks", "told"),
    [([0.2, 0.4], ["20 %", "40 %"]), ([0.8, 0.805, 0.81], ["80.0 %", "80.5 %", "81.0 %"])],
)
def test_ticks_have_the_digits_that_tell_them_apart(ticks: list[float], told: list[str]) -> None:
    assert canvas.Percent().format_ticks(ticks) == told


@pytest.mark.parametrize(
    ("x", "last", "words", "numbers"),
    [
        ("images", 2000.0, "training images seen", {"500", "1000"}),
        ("images", 1_000_000.0, "training images seen, thousands", {"200", "400"}),
        ("images", 2_250_000.0, "training images seen, millions", {"0.5", "1"}),
        ("seconds", 225.0, "seconds of training and scoring", {"50", "100"}),
        ("seconds", 506.0, "minutes of training and scoring", {"2", "4"}),
        ("seconds", 90_000.0, "hours of training and scoring", {"5", "10"}),
    ],
)
def test_images_and_seconds_are_counted_in_units_that_keep_ticks_round(
    x: str, last: float, words: str, numbers: set[str]
) -> None:
    series = figures.Series("v0", "rotation", 0, (figures.Line(0, (0.2, 0.4), True, (last / 2, last)),))
    one = figures.Panel("", (series,), (), "test accuracy", True)
    svg = canvas.page_svg(figures.curves("curves", "Curves", [one], seeds=False, x=x))
    assert {words, *numbers} <= set(texts(svg))
