"""The page in a real browser: what it does, that it does nothing else, and what is left of it without a script."""

from __future__ import annotations

import functools
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, expect

from rotbench import report
from rotbench.gradebook import gradebook, gradebook_page
from tests import simulated
from tests.browser import SEEN, Seen, axe, chromium, context, opened, opened_again, started
from tests.classroom import write_class
from tests.program import thorough
from tests.test_comparison import finished as page_of_two_studies
from tests.test_report import blank, everything, hostile

Results = dict[str, Any]
Tab = Callable[..., Seen]

ROOT = Path(__file__).parent.parent
#: What a cell without a number says.
NOTHING = "\N{EN DASH}"
WORST = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>{{7*7}}</style></title> $a$ & 名"
OPEN_DETAILS = "document.querySelectorAll('details').forEach((one) => { one.open = true; })"


def empty() -> Results:
    results = simulated.results()
    results["runs"] = []
    return results


def failed() -> Results:
    results = simulated.results(epochs=1, pretext_epochs=1)
    for run in results["runs"]:
        blank(run, status="failed", error="RuntimeError: out of memory\n  in a line of its own")
    return results


def half_done() -> Results:
    """Of three runs one is missing, some failed, and the proof of the last one fails."""
    results = simulated.results(epochs=6, pretext_epochs=6)
    for place, run in enumerate(results["runs"]):
        if place % 3 == 1:
            blank(run)
        elif place % 5 == 2:
            blank(run, status="failed", error="RuntimeError: out of memory")
    results["runs"][-1]["provenance"]["start"]["equals_parent"] = False
    return results


def in_panels() -> Results:
    """So many variants that their curves are drawn in several panels."""
    results = simulated.results(seeds=1, epochs=4, pretext_epochs=4)
    results["runs"] += [
        simulated.run("downstream", {"init": init, "freeze": freeze, "lr": lr}, 0, 0.5 + lr, 0.3, 4)
        for init in ("random", "rotation")
        for freeze in ("none", simulated.FREEZE_BELOW)
        for lr in (0.1, 0.05)
    ]
    return results


def odd_numbers() -> Results:
    """Numbers that Python and a browser write differently, and an id that CSV has to quote."""
    results = simulated.results(seeds=1, epochs=6, pretext_epochs=6)
    odd = (1.0, 1e-05, 123456789012345680.0, 1e16, 0.0001, 5e-324)
    for run in results["runs"]:
        run["log"] = ""
        for entry, number in zip(run["history"], odd, strict=True):
            entry |= {"test_loss": number, "lr": number, "seconds": 12.0}
    results["runs"][0]["id"] += ', "quoted"\n'
    return results


STATES: dict[str, Callable[[], Results]] = {
    "finished": lambda: simulated.results(epochs=8, pretext_epochs=8),
    "everything": everything,
    "half-done": half_done,
    "failed": failed,
    "empty": empty,
    "in panels": in_panels,
    "odd numbers": odd_numbers,
    "hostile": lambda: hostile(WORST),
    "long words": lambda: hostile("averylongnamewithoutanyspace" * 6),
}


@functools.cache
def html(state: str) -> str:
    return report.render(STATES[state]())


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started() as browser:
        yield browser


#: The settings of a window of which nothing else is said.
USUAL = {"java_script_enabled": True, "color_scheme": "light"}


@pytest.fixture(scope="module")
def windows(browser: Browser) -> dict[str, BrowserContext]:
    """One for each kind of settings."""
    return {}


@pytest.fixture(scope="module")
def idle() -> dict[str, list[Seen]]:
    """Tabs of each kind of window that no test looks at."""
    return {}


@pytest.fixture
def tab(
    browser: Browser, windows: dict[str, BrowserContext], idle: dict[str, list[Seen]], tmp_path: Path
) -> Iterator[Tab]:
    """Opens a page in a tab of its own. Whatever is done with it, it stays silent and asks for nothing."""
    path = tmp_path / "page.html"
    tabs: list[tuple[str, Seen]] = []

    def open_tab(state: str, fragment: str = "", **settings: Any) -> Seen:
        path.write_text(html(state), encoding="utf-8")
        kind = json.dumps({key: value for key, value in settings.items() if USUAL.get(key) != value}, sort_keys=True)
        if kind not in windows:
            windows[kind] = context(browser, **settings)
        if waiting := idle.setdefault(kind, []):
            seen = waiting.pop()
            opened_again(seen, path, fragment, {**USUAL, **settings}["color_scheme"])
        else:
            seen = opened(windows[kind], path, fragment)
        tabs.append((kind, seen))
        return seen

    yield open_tab
    for kind, seen in tabs:
        seen.page.evaluate("0")  # what was said until now has arrived
        assert_silent(seen, path)
        idle[kind].append(seen)


def assert_silent(seen: Seen, path: Path) -> None:
    assert seen.complaints == []
    assert [address.partition("#")[0] for address in seen.requests] == [path.as_uri()]


#: What a reader can have chosen, and what the page makes of it.
CHOSEN = """() => ({
  theme: document.documentElement.dataset.theme ?? "",
  sorted: [...document.querySelectorAll("[aria-sort]")].map((cell) => [cell.textContent, cell.ariaSort]),
  order: [...document.querySelectorAll("tbody tr")].map((row) => row.textContent),
  filters: [...document.querySelectorAll("input[type=search]")].map((input) => input.value),
  rows: [...document.querySelectorAll("tbody tr")].filter((row) => getComputedStyle(row).display !== "none").length,
  hidden: [...document.querySelectorAll("[aria-pressed=false]")].map((button) => button.textContent),
  drawn: [...document.querySelectorAll("svg g")].filter((group) => getComputedStyle(group).display !== "none").length,
  view: document.querySelector("[name=view]:checked")?.value,
  elements: document.querySelectorAll("*").length,
})"""


def linked(seen: Seen, *keys: str) -> dict[str, list[str]]:
    """What the link keeps, once it keeps ``keys`` and nothing else."""
    seen.page.wait_for_function(
        "keys => [...new Set(new URLSearchParams(location.hash.split('?')[1]).keys())].sort().join() === keys",
        arg=",".join(sorted(keys)),
    )
    return urllib.parse.parse_qs(seen.run("location.hash.split('?')[1] ?? ''"))


# ---- Nothing but the file


@pytest.mark.parametrize("state", ["hostile", *thorough("finished", "half-done", "failed", "empty")])
def test_a_page_asks_for_nothing_and_says_nothing_whatever_is_pressed(tab: Tab, state: str, tmp_path: Path) -> None:
    seen = tab(state)
    assert_silent(seen, tmp_path / "page.html")
    seen.run(OPEN_DETAILS)
    pressed = seen.run("[...document.querySelectorAll('button, input[type=radio]')].map((one) => one.click()).length")
    assert pressed >= 3
    seen.press("Escape", "a", "t", "n", "n", "p", "1", "2", "/")
    seen.page.keyboard.type("a<b>")
    seen.press("Escape")
    for region in seen.page.locator(".drawing").all():
        if region.is_visible():
            region.focus()
            seen.press("ArrowRight", "End", "Escape")
    assert_silent(seen, tmp_path / "page.html")


@pytest.mark.thorough
def test_hostile_names_stay_text_where_a_script_copies_them(tab: Tab) -> None:
    seen = tab("hostile")
    assert seen.exist("script") == 2
    assert seen.exist("img") == 1
    assert seen.exist("b, main style, main title:not(svg title)") == seen.exist("p.reading > b")
    names = seen.run("[...document.querySelectorAll('*')].flatMap((one) => one.getAttributeNames())")
    assert not [name for name in names if name.startswith("on")]
    said = " ".join(WORST.split())
    assert any(said in text for text in seen.texts("ul.series button"))
    seen.page.locator(".drawing[aria-label*=epoch]").first.focus()
    seen.press("Home")
    assert said in seen.texts("p.reading")[0]


def test_what_is_smuggled_into_a_page_neither_runs_nor_loads(tab: Tab) -> None:
    seen = tab("finished")
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        seen.run(
            """(there) => {
              window.blocked = [];
              document.addEventListener("securitypolicyviolation", (event) => blocked.push(event.effectiveDirective));
              document.body.insertAdjacentHTML("beforeend", `<img src="${there}/a.png"><video src="${there}/b.mp4">
                </video><link rel="stylesheet" href="${there}/c.css"><p onclick="window.ran = 1" id="smuggled">`);
              for (const what of [{ src: `${there}/d.js` }, { textContent: "window.ran = 2" }])
                document.body.append(Object.assign(document.createElement("script"), what));
              fetch(`${there}/e`).catch(() => {});
              document.getElementById("smuggled").click();
            }""",
            f"http://127.0.0.1:{elsewhere.getsockname()[1]}",
        )
        seen.page.wait_for_function("blocked.length >= 7")
        elsewhere.settimeout(0.2)
        with pytest.raises(TimeoutError):
            elsewhere.accept()
    assert seen.run("blocked.sort()") == [
        *("connect-src", "img-src", "media-src"),
        *("script-src-attr", "script-src-elem", "script-src-elem", "style-src-elem"),
    ]
    assert seen.run("typeof window.ran") == "undefined"
    assert len(seen.complaints) >= 7
    assert all("Content Security Policy" in said for said in seen.complaints)
    seen.complaints.clear()
    del seen.requests[1:]  # those that were blocked


def test_the_script_is_small() -> None:
    script = html("finished").rpartition("<script>")[2].partition("</script>")[0]
    assert "aria-sort" in script
    assert len(script.encode()) < 20_000


# ---- Tables


@pytest.mark.parametrize("state", ["everything", *thorough("finished", "half-done")])
def test_columns_sort_by_their_numbers_with_what_has_none_at_the_end(tab: Tab, state: str) -> None:
    seen = tab(state)
    sizes = seen.run(
        "[...document.querySelectorAll('table.sortable')].map((table) => [...table.tHead.rows].at(-1).cells.length)"
    )
    of_numbers = without = 0
    for place, size in enumerate(sizes):
        for column, wanted in itertools.product(range(size), ("ascending", "descending")):
            marks, cells = seen.run(
                """([place, column]) => {
                  const table = document.querySelectorAll("table.sortable")[place];
                  const headers = [...[...table.tHead.rows].at(-1).cells];
                  headers[column].querySelector("button").click();
                  const cells = [...table.tBodies[0].rows].map((row) => row.cells[column]);
                  return [headers.map((one) => one.ariaSort), cells.map((one) => one.dataset.value ?? null)];
                }""",
                [place, column],
            )
            assert marks == [wanted if place == column else None for place in range(size)]
            numbers = [float(cell) for cell in cells if cell is not None]
            assert [cell is None for cell in cells] == [False] * len(numbers) + [True] * (len(cells) - len(numbers))
            assert numbers == sorted(numbers, reverse=wanted == "descending")
            of_numbers += len(numbers) > 1
            without += 0 < len(numbers) < len(cells)
    assert of_numbers >= 20
    assert without >= 2


def header_of_means(seen: Seen) -> Locator:
    """The header of the column of mean accuracies."""
    column = seen.run("document.querySelector('#table-finals .mean').cellIndex")
    return seen.page.locator("#table-finals thead th").nth(column)


@pytest.mark.thorough
def test_a_header_that_is_pressed_sorts_what_is_read(tab: Tab) -> None:
    seen = tab("finished")
    column = "#table-finals tbody .mean"
    as_made = seen.texts("#table-finals tbody tr")
    header = header_of_means(seen)
    header.get_by_role("button").click()
    expect(header).to_have_attribute("aria-sort", "ascending")
    upwards = [float(text.split()[0]) for text in seen.texts(column)]
    assert upwards == sorted(upwards)
    assert len(set(upwards)) == 4
    header.get_by_role("button").press("Enter")
    expect(header).to_have_attribute("aria-sort", "descending")
    assert [float(text.split()[0]) for text in seen.texts(column)] == upwards[::-1]
    assert sorted(seen.texts("#table-finals tbody tr")) == sorted(as_made)  # rows go whole
    names = seen.page.locator("#table-plugins thead th").first
    names.get_by_role("button").click()
    assert seen.texts("#table-plugins tbody th") == ["below", "rotation"]
    names.get_by_role("button").click()
    assert seen.texts("#table-plugins tbody th") == ["rotation", "below"]


def test_a_filter_hides_the_rows_that_lack_a_word_and_tells_how_many_are_left(tab: Tab) -> None:
    seen = tab("finished")
    rows = "#table-finals tbody tr"
    seen.page.locator("#finals .filter input").click()
    told = seen.page.locator("#finals").get_by_role("status").first
    whole = seen.texts(rows)
    cases = [
        ("Rotation", [text for text in whole if "rotation" in text]),
        ("below rotation", [text for text in whole if "rotation" in text and "below" in text]),
        ("no such thing", []),
    ]
    for typed, left in cases:
        seen.press("Control+a")
        seen.page.keyboard.type(typed)
        assert seen.texts(rows) == left
        assert told.inner_text() == f"{len(left)} of 4 rows"
    assert [len(left) for _, left in cases] == [2, 1, 0]
    seen.press("Control+a", "Delete")
    assert seen.texts(rows) == whole
    assert told.inner_text() == ""
    assert seen.count("tbody tr") == seen.count("tbody tr:not(.filtered-out)")


# ---- Series


def drawn(seen: Seen) -> dict[str, list[bool]]:
    """By variant, whether each of the groups that belong to it can be seen, in the figures that can."""
    groups: list[tuple[str, bool]] = seen.run(f"""() => {{
      const visible = (selector) => {SEEN};
      const groups = visible("svg.figure").flatMap((figure) => [...figure.querySelectorAll("g[id]")]);
      const there = new Set(visible("svg.figure g[id]"));
      return groups.map((group) => [group.id, there.has(group)]);
    }}""")
    found: dict[str, list[bool]] = {}
    for identity, visible in groups:
        if of := re.search(r"-(v\d+)-", identity):
            found.setdefault(of[1], []).append(visible)
    return found


def shown(seen: Seen) -> set[str]:
    """The variants that are drawn; each is drawn in every figure or in none."""
    groups = drawn(seen)
    assert sorted(groups) == ["v0", "v1", "v2", "v3"]
    assert all(len(parts) >= 8 and len(set(parts)) == 1 for parts in groups.values())
    pressed = {
        f"v{place}"
        for place in range(4)
        for button in seen.page.locator(f"ul.series button[data-series=v{place}]").all()
        if button.get_attribute("aria-pressed") == "true"
    }
    visible = {key for key, parts in groups.items() if parts[0]}
    assert pressed == visible
    columns = seen.run(
        "[...document.querySelectorAll('[data-figure=curves] th[data-series]')].map((th) => [th.dataset."
        "series, getComputedStyle(th).display !== 'none'])"
    )
    assert {key for key, there in columns if there} == visible
    return visible


def test_series_are_hidden_in_all_figures_and_come_back(tab: Tab) -> None:
    seen = tab("finished")
    button = "#{} ul.series button[data-series={}]".format
    everyone = {"v0", "v1", "v2", "v3"}
    assert shown(seen) == everyone
    seen.page.click(button("finals", "v1"))
    assert shown(seen) == everyone - {"v1"}
    seen.page.click(button("curves", "v3"))
    assert shown(seen) == everyone - {"v1", "v3"}
    seen.page.click(button("curves", "v1"))
    assert shown(seen) == everyone - {"v3"}
    seen.page.click(button("finals", "v2"), modifiers=["Shift"])
    assert shown(seen) == {"v2"}
    seen.page.click("#curves ul.series .all")
    assert shown(seen) == everyone
    seen.page.dblclick(button("finals", "v0"))
    assert shown(seen) == {"v0"}
    seen.press("a")
    assert shown(seen) == everyone
    seen.press("2")
    assert shown(seen) == everyone - {"v1"}


def opacities(seen: Seen) -> dict[str, float]:
    told: dict[str, float] = seen.run("""Object.fromEntries(["v0", "v1", "v2", "v3"].map((key) =>
      [key, Number(getComputedStyle(document.querySelector(`[id="curves-${key}-mean"]`)).opacity)]))""")
    return told


@pytest.mark.parametrize("how", ["button", *thorough("row", "focus", "curve")])
def test_what_is_pointed_at_stands_out_from_the_others(tab: Tab, how: str) -> None:
    seen = tab("finished")
    assert set(opacities(seen).values()) == {1}
    if how == "button":
        seen.page.hover("#curves ul.series button[data-series=v2]")
    elif how == "row":
        seen.page.hover("#table-finals tbody tr[data-series=v2] th")
    elif how == "focus":
        seen.page.focus("#finals ul.series button[data-series=v2]")
    else:
        seen.page.mouse.move(*place_on_curve(seen, "curves", "v2", 1.0))
    told = opacities(seen)
    assert told.pop("v2") == 1
    assert max(told.values()) < 0.5
    if how == "focus":
        seen.run("document.activeElement.blur()")
    else:
        seen.page.mouse.move(5, 5)
    assert set(opacities(seen).values()) == {1}


# ---- Reading curves


def place_on_curve(seen: Seen, figure: str, key: str, share: float) -> tuple[float, float]:
    """Where in the window the mean of a series is, ``share`` of the way between its first and its last epoch."""
    seen.page.locator(f'.drawing:has([id="{figure}-{key}-mean"])').scroll_into_view_if_needed()
    x, y = seen.run(
        """([id, share]) => {
          const path = document.getElementById(id).querySelector("path");
          const whole = path.getTotalLength();
          const [first, last] = [0, whole].map((at) => path.getPointAtLength(at));
          const x = first.x + share * (last.x - first.x);
          let [low, high] = [0, whole];  // a curve by epoch goes to the right all along
          while (high - low > 0.01) {
            const at = (low + high) / 2;
            if (path.getPointAtLength(at).x < x) low = at; else high = at;
          }
          const point = path.getPointAtLength(high).matrixTransform(path.getScreenCTM());
          return [point.x, point.y];
        }""",
        [f"{figure}-{key}-mean", share],
    )
    return x, y


def to_be_read(seen: Seen, figure: str, *, without: str = "") -> list[str]:
    """What is to be read off a figure by epoch: the numbers of the table below it."""
    headers, rows = seen.run(
        """(name) => {
          const table = document.querySelector(`table[data-figure~="${name}"]`);
          const headers = [...table.tHead.rows[0].cells].map((cell) => [cell.dataset.series ?? "", cell.textContent]);
          return [headers, [...table.tBodies[0].rows].map((row) => [...row.cells].map((cell) => cell.textContent))];
        }""",
        figure,
    )
    told = []
    for row in rows:
        read = [
            f"{label} {cell.strip()}"
            for (key, label), cell in zip(headers, row, strict=True)
            if key and key != without and cell.strip() != NOTHING
        ]
        told.append(" ".join(f"epoch {row[0].strip()} {'; '.join(read)}".split()))
    return told


FIGURES = (
    "curves",
    "curves-images",
    "curves-seconds",
    "curves-test-loss",
    "curves-train-accuracy",
    "curves-train-loss",
)


@pytest.mark.parametrize("state", ["everything", *thorough("half-done")])
def test_arrow_keys_read_the_numbers_of_the_table_off_a_figure(tab: Tab, state: str) -> None:
    seen = tab(state)
    assert set(FIGURES) <= set(seen.run("[...document.querySelectorAll('[name=view]')].map((view) => view.value)"))
    read = 0
    for figure in (*FIGURES, "pretexts"):
        if figure != "pretexts":
            seen.page.locator(f'input[value="{figure}"]').check()
        region = f'.drawing:has([id^="{figure}-axes_"])'
        expected = to_be_read(seen, figure)
        seen.page.focus(region)
        for text in expected:
            seen.press("ArrowRight")
            assert seen.texts(f"{region} + .reading") == [text]
            read += 1
        seen.press("ArrowRight")
        assert seen.texts(f"{region} + .reading") == [expected[-1]]  # there is nothing beyond it
        for key, text in [("ArrowLeft", expected[-2]), ("Home", expected[0]), ("End", expected[-1])]:
            seen.press(key)
            assert seen.texts(f"{region} + .reading") == [text]
        assert seen.count(f"{region} .marks circle") == expected[-1].count(";") + 1
        seen.press("Escape")
        assert "epoch 1 " not in seen.texts(f"{region} + .reading")[0]
        assert seen.exist(f"{region} .marks circle") == 0
    assert read >= 7 * 4


@pytest.mark.thorough
def test_a_hidden_series_is_not_read(tab: Tab) -> None:
    seen = tab("finished")
    seen.press("1")
    seen.page.focus('.drawing:has([id^="curves-axes_"])')
    seen.press("End")
    assert seen.texts(".view[data-view=curves] .reading") == [to_be_read(seen, "curves", without="v0")[-1]]


def test_the_pointer_reads_the_epoch_that_it_is_at(tab: Tab) -> None:
    seen = tab("finished")
    reading = ".view[data-view=curves] .reading"
    expected = to_be_read(seen, "curves")
    epochs = len(expected)
    assert epochs == 8
    for epoch in range(1, epochs + 1):
        x, y = place_on_curve(seen, "curves", "v0", (epoch - 1) / (epochs - 1))
        seen.page.mouse.move(x, y)
        assert seen.texts(reading) == [expected[epoch - 1]]
        seen.page.mouse.move(x, y + 30)  # the epoch counts, not the height
        assert seen.texts(reading) == [expected[epoch - 1]]
    seen.page.mouse.move(5, 5)
    assert not set(seen.texts(reading)) & set(expected)


@pytest.mark.thorough
def test_the_pointer_reads_in_each_of_several_panels(tab: Tab) -> None:
    seen = tab("in panels")
    expected = to_be_read(seen, "curves")
    panels = seen.run("""[...document.querySelectorAll('[id^="curves-axes_"]')].map((axes) =>
      /-(v\\d+)-mean/.exec([...axes.querySelectorAll("g")].map((group) => group.id).join(" "))?.[1]).filter(Boolean)""")
    assert len(set(panels)) >= 2
    for key, (epoch, share) in itertools.product(panels, [(1, 0.0), (3, 2 / 3), (4, 1.0)]):
        seen.page.mouse.move(*place_on_curve(seen, "curves", key, share))
        assert seen.texts(".view[data-view=curves] .reading") == [expected[epoch - 1]]


@pytest.mark.parametrize("script", [True, *thorough(False)], ids=["with a script", "without a script"])
def test_kinds_of_curves_take_turns(tab: Tab, script: bool) -> None:
    seen = tab("finished", java_script_enabled=script)
    assert seen.exist(".view") == len(FIGURES)
    for figure in (*FIGURES[1:], FIGURES[0]):
        seen.page.locator(f'input[value="{figure}"]').check()
        assert seen.count(".view") == 1
        assert seen.count(f'.view[data-view="{figure}"] svg.figure [id="{figure}-v0-mean"]') == 1


# ---- The link


def test_what_is_chosen_is_in_the_link_and_a_new_tab_that_opens_it_shows_the_same(tab: Tab) -> None:
    seen = tab("finished")
    untouched = seen.run(CHOSEN)
    assert seen.run("location.hash") == ""
    header = header_of_means(seen)
    header.get_by_role("button").click()
    header.get_by_role("button").click()
    seen.page.locator("#made .filter input").fill("a.b=c&d ü")
    seen.page.locator("#finals .filter input").fill("rotation")
    seen.page.click("#curves ul.series button[data-series=v1]")
    seen.page.click("#curves ul.series button[data-series=v3]")
    seen.page.locator("input[value=curves-seconds]").check()
    seen.page.click("#theme")
    kept = linked(seen, "sort", "filter", "hide", "view", "theme")
    assert kept["sort"] == [f"table-finals.{header.evaluate('(header) => header.cellIndex')}.descending"]
    assert sorted(kept["filter"]) == ["table-finals.rotation", "table-settings.a.b=c&d ü"]
    assert (kept["hide"], kept["view"], kept["theme"]) == (["v1,v3"], ["curves-seconds"], ["dark"])
    chosen = seen.run(CHOSEN)
    assert all(chosen[part] != untouched[part] for part in untouched if part != "elements")
    other = tab("finished", seen.run("location.hash"))
    assert other.run(CHOSEN) == chosen
    assert linked(other, *kept) == kept

    other.run("location.hash = '#answer?hide=v0'")
    other.page.wait_for_selector("#finals [data-series=v0][aria-pressed=false]")
    assert other.run(CHOSEN) == tab("finished", "#answer?hide=v0").run(CHOSEN)


def test_a_link_opens_at_its_section(tab: Tab) -> None:
    seen = tab("finished", "#comparability?theme=dark")
    assert 0 <= seen.run("document.getElementById('comparability').getBoundingClientRect().top") < 200
    seen.page.click("nav a[href='#curves']")
    linked(seen, "theme")
    seen.page.wait_for_function("location.hash.startsWith('#curves?')")


@pytest.mark.thorough
def test_a_link_to_a_section_stays_as_it_is_while_nothing_is_chosen(tab: Tab) -> None:
    seen = tab("finished", "#proof")
    seen.page.wait_for_timeout(400)  # the link is written a little later than it is opened
    assert seen.page.url.endswith("#proof")


HOSTILE_FRAGMENTS = [
    "#?",
    "#%",
    "#%E0%A4%A?%&%=%",
    "#<img src=x onerror=alert(1)>?theme=<script>alert(1)</script>",
    "#constructor?theme=constructor&view=__proto__&hide=__proto__,constructor,toString",
    "#answer?sort=table-finals.99.ascending&sort=table-seeds.0.ascending&sort=__proto__.0.ascending",
    "#answer?sort=table-finals.-1.ascending&sort=table-finals.1.sideways&sort=table-finals&sort=...",
    "#answer?sort=table-finals.1e0.ascending&sort=nothing.0.descending&filter=nothing.text&filter=table-proof&filter=.",
    "#answer?filter=__proto__.x&filter=table-references.x&hide=v99&hide=p0&view=curves-nothing&unknown=1",
    "#answer?view=%22%5D%2C*%2C%5B%22&hide=%22%5D&theme=light%20dark",
    "#" + "?hide=" * 2000,
]


@pytest.mark.thorough
def test_a_hostile_fragment_changes_nothing(tab: Tab) -> None:
    seen = tab("finished")
    untouched = seen.run(CHOSEN)
    for fragment in HOSTILE_FRAGMENTS:
        told = seen.run(
            """(fragment) => new Promise((done) => {
              addEventListener("hashchange", () => done(location.hash), { once: true });
              location.hash = fragment;
            })""",
            fragment,
        )
        assert told != ""
        assert seen.run(CHOSEN) == untouched, fragment
    for fragment in HOSTILE_FRAGMENTS[2:5]:
        assert tab("finished", fragment).run(CHOSEN) == untouched, fragment


@pytest.mark.thorough
def test_a_filter_in_a_link_is_text(tab: Tab) -> None:
    seen = tab("finished", f"#finals?{urllib.parse.urlencode({'filter': f'table-finals.{WORST}'})}")
    assert seen.page.locator("#finals .filter input").input_value() == WORST
    assert seen.texts("#finals .filter [role=status]") == ["0 of 4 rows"]
    assert seen.exist("script") == 2


# ---- Keys


def test_keys_do_what_the_help_says(tab: Tab) -> None:
    seen = tab("finished", color_scheme="light")
    assert seen.count("dialog") == 0
    seen.press("?")
    assert seen.page.get_by_role("dialog", name="Keys").is_visible()
    seen.press("t")  # the dialog is modal
    assert seen.run("document.documentElement.dataset.theme") is None
    seen.press("Escape")
    assert seen.count("dialog") == 0
    seen.press("t")
    assert seen.run("document.documentElement.dataset.theme") == "dark"
    seen.press("t")
    assert seen.run("document.documentElement.dataset.theme") == "light"

    sections = seen.run("[...document.querySelectorAll('main > section')].map((section) => section.id)")
    assert len(sections) == 10
    tops = "document.activeElement.getBoundingClientRect().top"
    for section in sections[1:]:
        seen.press("n")
        assert seen.run("document.activeElement.id") == section
        assert seen.run(tops) < 900
    seen.press("n")
    assert seen.run("document.activeElement.id") == sections[-1]
    seen.page.goto(seen.page.url.partition("#")[0] + "#proof")
    seen.press("p")
    assert seen.run("document.activeElement.id") == sections[sections.index("proof") - 1]
    assert 0 <= seen.run(tops) < 200

    seen.press("n", "/")
    assert seen.run("document.activeElement.closest('section').id") == "proof"
    assert seen.run("document.activeElement.type") == "search"
    seen.press("Escape")
    assert seen.run("document.activeElement === document.body")
    seen.press("3")
    assert seen.texts("#finals [aria-pressed=false]") == seen.texts("#finals [data-series=v2][aria-pressed]")
    seen.press("a")
    assert seen.count("#finals [aria-pressed=false]") == 0


@pytest.mark.thorough
def test_keys_are_letters_while_a_filter_is_typed(tab: Tab) -> None:
    seen = tab("finished")
    untouched = seen.run(CHOSEN)
    seen.page.locator("#made .filter input").click()
    seen.page.keyboard.type("tnp1a?/")
    after = seen.run(CHOSEN)
    assert "tnp1a?/" in after["filters"]
    assert seen.count("dialog") == 0
    for part in ("theme", "hidden", "drawn", "view"):
        assert after[part] == untouched[part]
    assert seen.run("document.activeElement.type") == "search"


@pytest.mark.parametrize("modifier", ["Control", *thorough("Alt", "Meta")])
def test_keys_of_the_browser_are_left_to_it(tab: Tab, modifier: str) -> None:
    seen = tab("finished")
    seen.run("""addEventListener("keydown", (event) => { window.taken = event.defaultPrevented; })""")
    for key in ("t", "1"):
        untouched = seen.run(CHOSEN)
        seen.run(
            "([key, modifier]) => document.body.dispatchEvent(new KeyboardEvent('keydown', "
            "{ key, [modifier]: true, bubbles: true, cancelable: true }))",
            [key, {"Control": "ctrlKey", "Alt": "altKey", "Meta": "metaKey"}[modifier]],
        )
        assert seen.run("taken") is False
        assert seen.run(CHOSEN) == untouched


@pytest.mark.thorough
def test_keys_can_be_turned_off(tab: Tab) -> None:
    seen = tab("finished")
    untouched = seen.run(CHOSEN)
    seen.page.get_by_role("button", name="Keys").click()
    seen.page.get_by_label("Use these keys").uncheck()
    seen.page.get_by_role("button", name="Close").click()
    assert seen.count("dialog") == 0
    seen.press("?", "t", "1", "n", "/")
    assert seen.count("dialog") == 0
    assert seen.run(CHOSEN) == untouched
    assert seen.run("document.activeElement.id") == "keys-button"
    seen.page.get_by_role("button", name="Keys").click()
    seen.page.get_by_label("Use these keys").check()
    seen.press("Escape", "t")
    assert seen.run(CHOSEN)["theme"]


# ---- Downloads and copies


@pytest.mark.parametrize("state", ["everything", *thorough("finished", "odd numbers", "hostile", "empty")])
def test_downloads_are_the_results(tab: Tab, state: str) -> None:
    seen = tab(state)
    results = report.tidied(STATES[state]())
    saved = {}
    for name in ("csv", "json"):
        with seen.page.expect_download() as download:
            seen.page.click(f"#{name}-link")
        assert download.value.suggested_filename == f"results.{name}"
        kind, _, content = seen.run("(id) => document.getElementById(id).href", f"{name}-link").partition(",")
        saved[name] = download.value.path().read_bytes()
        assert saved[name] == urllib.parse.unquote_to_bytes(content)
        assert kind == f"data:{'text/csv' if name == 'csv' else 'application/json'};charset=utf-8"
    assert saved["csv"] == report.results_csv(results).encode()
    assert saved["csv"].count(b"\n") >= 1 + sum(len(run["history"]) for run in results["runs"])
    assert json.loads(saved["json"]) == results


@pytest.mark.parametrize("clipboard", thorough(True, False), ids=["clipboard", "no clipboard"])
def test_copies_are_what_is_read(tab: Tab, clipboard: bool) -> None:
    seen = tab("finished", permissions=["clipboard-read", "clipboard-write"])
    seen.run("window.board = navigator.clipboard")
    if not clipboard:
        seen.run("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    seen.page.locator("details.copies > summary").click()
    texts = seen.page.locator("pre[data-copy]").all()
    assert len(texts) == 10
    for pre in texts:
        name = pre.get_attribute("aria-label")
        button = seen.page.get_by_role("button", name=f"Copy as {name}")
        button.click()
        expect(button.locator("xpath=following-sibling::*[@role='status']")).to_have_text("copied")
        assert len(text := pre.text_content() or "") > 100
        copied = seen.run("board.readText()")
        if clipboard:
            assert copied == text
        else:  # the browser's own way of copying makes spaces of no-break spaces
            assert seen.run("String(getSelection())") == text.removesuffix("\n")
            assert copied.split("\n") == text.replace("\N{NO-BREAK SPACE}", " ").removesuffix("\n").split("\n")


# ---- Without a script, and on paper


TABLES = "[...document.querySelectorAll('table')].map((table) => table.textContent)"


@pytest.mark.parametrize("state", ["finished", *thorough("half-done")])
def test_without_a_script_everything_is_there_and_nothing_that_is_dead(tab: Tab, state: str) -> None:
    whole, bare = tab(state), tab(state, java_script_enabled=False)
    assert bare.run("document.querySelectorAll('.filter, .reading').length") == 0  # the script did not run
    assert bare.count("button, input:not([type=radio]), select, textarea, dialog, [role=status], #data a") == 0
    assert bare.count("noscript p") == 1
    assert bare.run(TABLES) == whole.run(TABLES)
    for part in ("main > section", "h2", "h3", "nav a", "svg.figure", "table", "img"):
        assert bare.count(part) == whole.count(part)
        assert bare.exist(part) >= bare.count(part) > 0 or part == "img"
    assert bare.run("[...document.querySelectorAll('nav a')].every((link) => document.querySelector(link.hash))")
    seen = json.loads(bare.run("document.getElementById('results').textContent"))
    assert [run["id"] for run in seen["runs"]] == [run["id"] for run in STATES[state]()["runs"]]
    assert report.results_of_page(bare.page.content()) == report.tidied(STATES[state]())
    bare.page.locator("#finals details summary").first.click()
    assert bare.count("#table-references") == 1


@pytest.mark.parametrize("script", [*thorough(True), False], ids=["with a script", "without a script"])
def test_paper_has_all_of_the_page_in_light_colours(tab: Tab, script: bool) -> None:
    fragment = "#finals?theme=dark&filter=table-finals.below&hide=v0,v1&view=curves-seconds" if script else ""
    seen = tab("finished", fragment, java_script_enabled=script)
    on_screen = seen.count("#finals tbody tr")
    seen.page.emulate_media(media="print", color_scheme="dark")
    assert seen.count("nav, .switches, .series, .filter, .reading, .marks, .copying, .views, .downloads") == 0
    assert seen.count("button:not(th button), input") == 0
    assert seen.count("svg.figure") == seen.exist("svg.figure") >= 10
    assert seen.count('svg.figure g[id*="-v0-"]') == seen.exist('svg.figure g[id*="-v0-"]') > 10
    assert seen.count("#table-finals tbody tr") == 4
    assert on_screen == (2 if script else 4)
    assert seen.count(".confusions .matrix td") == 4 * 10 * 10
    assert len(seen.texts("#table-finals thead th")) > 8
    assert all(seen.texts("#table-finals thead th"))
    assert seen.run("getComputedStyle(document.querySelector('#table-finals th'), '::after').content") == "none"
    assert brightness(seen, "backgroundColor") > 0.9
    assert brightness(seen, "color") < 0.2


def brightness(seen: Seen, property_: str, selector: str = "body") -> float:
    """From 0, black, to 1, white."""
    colour = seen.run("([at, name]) => getComputedStyle(document.querySelector(at))[name]", [selector, property_])
    red, green, blue = map(int, re.fullmatch(r"rgb\((\d+), (\d+), (\d+)\)", colour).groups())  # type: ignore[union-attr]
    return (red + green + blue) / 3 / 255


@pytest.mark.parametrize("state", ["finished", *thorough("failed")])
def test_a_page_can_be_printed(tab: Tab, state: str) -> None:
    paper = tab(state, color_scheme="dark").page.pdf(prefer_css_page_size=True)
    assert paper.startswith(b"%PDF-")
    boxes = re.findall(rb"/MediaBox \[([^]]*)\]", paper)
    assert {tuple(round(float(side)) for side in box.split()) for box in boxes} == {(0, 0, 595, 842)}  # A4
    pages = len(re.findall(rb"/Type /Page\b", paper))
    assert (6 if state == "finished" else 2) <= pages <= 25


# ---- Light and dark, narrow, and for everybody


def test_light_and_dark_follow_the_system_until_they_are_switched(tab: Tab) -> None:
    for scheme, other in itertools.permutations(("light", "dark")):
        seen = tab("finished", color_scheme=scheme)
        switch = seen.page.locator("#theme")

        def is_dark(seen: Seen = seen, switch: Any = switch) -> bool:
            dark = brightness(seen, "backgroundColor") < 0.2
            assert brightness(seen, "color") > 0.8 if dark else brightness(seen, "color") < 0.2
            assert switch.get_attribute("aria-pressed") == str(dark).lower()
            return dark

        assert is_dark() == (scheme == "dark")
        seen.page.emulate_media(color_scheme=other)  # type: ignore[arg-type]
        assert is_dark() == (other == "dark")
        switch.click()
        assert is_dark() == (scheme == "dark")
        seen.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        assert is_dark() == (scheme == "dark")


@pytest.mark.parametrize("state", ["finished", *thorough(*sorted(STATES.keys() - {"finished", "odd numbers"}))])
def test_a_telephone_is_never_scrolled_sideways(tab: Tab, state: str) -> None:
    for script in (True, False) if state in ("finished", "long words") else (True,):
        telephone = {"viewport": {"width": 375, "height": 700}, "is_mobile": True, "has_touch": True}
        seen = tab(state, java_script_enabled=script, **telephone)
        seen.run(OPEN_DETAILS)
        for width in (375, 320):
            seen.page.set_viewport_size({"width": width, "height": 700})
            assert seen.run("document.documentElement.scrollWidth") <= width
            assert seen.run("innerWidth") == width  # what is too wide would make the telephone show all of it, smaller
            too_wide = seen.run("""[...document.querySelectorAll("header, main > *, main > section > *, footer")]
              .filter((part) => part.getBoundingClientRect().right > innerWidth).map((part) => part.outerHTML)""")
            assert too_wide == []


#: The rules of axe-core that depend on colours.
COLOURS = ("color-contrast", "link-in-text-block")


def barriers(seen: Seen, within: str = "html", rules: Sequence[str] = ()) -> list[str]:
    """What axe-core calls serious or critical by all of its rules or some, with the elements that it is about."""
    if seen.run("typeof axe") == "undefined":
        seen.run(f"void (() => {{ {axe()} }})()")
    options = {"resultTypes": ["violations"]} | ({"runOnly": {"type": "rule", "values": rules}} if rules else {})
    told = seen.run("([within, options]) => axe.run(within, options)", [within, options])
    assert "color-contrast" in {rule["id"] for rule in told["passes"]}  # it looked at something that can be seen
    return [
        f"{rule['id']}: {node['html']}"
        for rule in told["violations"]
        for node in rule["nodes"]
        if rule["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("state", ["finished", *thorough("half-done")])
@pytest.mark.parametrize(
    ("scheme", "width", "rules"),
    [*thorough(("light", 1280, ()), ("dark", 1280, COLOURS)), ("light", 375, ())],
    ids=["light", "dark", "narrow"],
)
def test_axe_finds_no_barrier(tab: Tab, state: str, scheme: str, width: int, rules: Sequence[str]) -> None:
    seen = tab(state, color_scheme=scheme)
    seen.page.set_viewport_size({"width": width, "height": 900})
    seen.run(OPEN_DETAILS)
    assert barriers(seen, "html", rules) == []
    seen.page.locator("#table-finals thead button").first.click()
    seen.page.locator("#finals .filter input").fill("rotation")
    seen.page.focus('.drawing:has([id^="curves-axes_"])')
    seen.press("End", "1")
    assert barriers(seen, "#finals, #curves", COLOURS) == []
    seen.press("?")
    assert barriers(seen, "#keys", rules) == []


@pytest.mark.parametrize("state", ["empty", "failed"])
@pytest.mark.thorough
def test_axe_finds_no_barrier_where_nothing_is_done(tab: Tab, state: str) -> None:
    seen = tab(state)
    seen.run(OPEN_DETAILS)
    assert barriers(seen) == []


def page_of_a_class(folder: Path) -> str:
    """Hand-ins in order, with each of the planted mistakes, and damaged."""
    return gradebook_page(gradebook([write_class(folder)]))


OTHER_PAGES: dict[str, Callable[[Path], str]] = {
    "two studies": lambda _: page_of_two_studies()[0],
    "a class": page_of_a_class,
}


@pytest.mark.parametrize("name", OTHER_PAGES)
@pytest.mark.thorough
def test_pages_of_several_studies_are_silent_narrow_and_without_barriers(
    browser: Browser, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "page.html"
    path.write_text(OTHER_PAGES[name](tmp_path / "hand-ins"), encoding="utf-8")
    seen = opened(context(browser), path)
    assert (seen.complaints, seen.requests) == ([], [path.as_uri()])
    seen.run(OPEN_DETAILS)
    assert barriers(seen) == []
    first = seen.page.locator("table.sortable").first
    first.locator("thead button").first.click()
    assert first.locator("thead th").first.get_attribute("aria-sort") == "ascending"
    for width in (375, 320):
        seen.page.set_viewport_size({"width": width, "height": 700})
        assert seen.run("document.documentElement.scrollWidth <= innerWidth")
    seen.page.emulate_media(color_scheme="dark")
    assert barriers(seen, "html", COLOURS) == []


# ---- The browser itself


def alive(folder: Path) -> list[str]:
    """The programs that work in a folder, whoever their parent is by now."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == folder:
                found.append((process / "comm").read_text().strip())
        except OSError:  # it has ended, or is another user's
            continue
    return found


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short name, since Chromium binds sockets below it, whose names have a hundred letters at most."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder).resolve()


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("end", [*thorough("in order", "with an error"), "killed"])
@pytest.mark.thorough
def test_a_browser_leaves_no_process_behind(short: Path, end: str) -> None:
    chromium()
    program = (
        "import sys\nfrom tests.browser import started\n"
        "with started() as browser:\n browser.new_page()\n print(browser.version, flush=True)\n"
        " if 'error' in sys.stdin.readline():\n  raise SystemExit(3)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=short,
        env={**os.environ, "TMPDIR": str(short), "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as test:
        assert test.stdin
        assert test.stdout
        assert re.match(r"\d+\.", test.stdout.readline())
        assert sum("chrom" in name for name in alive(short)) >= 3
        if end == "killed":
            test.kill()
        else:
            test.stdin.write(f"{end}\n")
            test.stdin.flush()
    assert test.returncode == {"in order": 0, "with an error": 3, "killed": -signal.SIGKILL}[end]
    patience = time.monotonic() + 60
    while (left := alive(short)) and time.monotonic() < patience:
        time.sleep(0.05)
    assert left == []
    if end != "killed":
        assert list(short.iterdir()) == []  # nor a profile
