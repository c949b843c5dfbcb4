"""The page of two studies and its command: complete, safe, the same every time, and nobody's file lost."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from rotbench import report
from rotbench.comparison import as_json, render
from rotbench.embedded import tidied
from rotbench.outcome import Outcome, outcome
from tests import simulated
from tests.program import command
from tests.stored import write_store
from tests.test_layout import loaded_by
from tests.test_report import HOSTILE, Page, hostile
from tests.two_studies import NAMES, Results, again, from_nothing, study

A = {name: [level, level + 0.004, level - 0.002] for name, level in zip(NAMES, (0.80, 0.45, 0.81, 0.64), strict=True)}
B = {name: [value + 0.013 + 0.001 * seed for seed, value in enumerate(values)] for name, values in A.items()}


def two() -> tuple[Results, Results]:
    """The second study has another learning rate, other heads under one policy, and a variant more."""
    a, b = study(A), study(B, second=8.0)
    for run in b["runs"]:
        run["settings"]["train"]["lr"] = 0.003
        if isinstance(run["variant"].get("freeze"), dict):
            run["provenance"]["start"]["head_sha256"] = "another"
    b["runs"] += [from_nothing("kaiming", seed) for seed in range(3)]
    return a, b


def compared(a: Results, b: Results) -> Outcome:
    return outcome(tidied(a), tidied(b), ("results", "results-lr"))


@functools.cache
def finished() -> tuple[str, dict[str, Any]]:
    found = compared(*two())
    return render(found), as_json(found)


def test_the_page_says_the_numbers_of_the_json() -> None:
    html, said = finished()
    page = Page(html)
    assert page.open == []
    rows: dict[str, list[dict[str, str | None]]] = {}
    for tag, attrs in page.elements:
        if tag == "tr" and "data-variant" in attrs:
            cells = rows.setdefault(attrs["data-variant"] or "", [])
        elif tag in ("td", "small") and rows and len(cells) < 13:
            cells.append(attrs)
    assert [json.loads(variant) for variant in rows] == [item["a"]["variant"] for item in said["contrasts"]]
    for cells, item in zip(rows.values(), said["contrasts"], strict=True):
        told = [float(cell["data-value"] or "") for cell in cells if "data-value" in cell]
        a, b = item["a"], item["b"]
        assert told == [a["n"], a["mean"], b["n"], b["mean"], item["difference"], item["p_holm"]]
        spans = [
            [float(cell["data-low"] or ""), float(cell["data-high"] or "")] for cell in cells if "data-low" in cell
        ]
        assert spans == [a["interval"], b["interval"], item["interval"]]
        assert item["sentence"].replace("\N{NO-BREAK SPACE}", " ") in page.text.replace("\N{NO-BREAK SPACE}", " ")
        assert item["verdict"] in page.text
    assert [item["method"] for item in said["contrasts"]] == ["paired", "Welch", "paired", "Welch"]


def test_json_has_what_was_compared() -> None:
    _, said = finished()
    first = said["contrasts"][0]
    assert [one["label"] for one in said["studies"]] == ["A: results", "B: results-lr"]
    assert (said["margin"], said["family"]) == (0.01, 4)
    assert first["differs_in"] == [{"setting": "lr", "a": "0.01", "b": "0.003", "seeds": []}]
    assert [row["difference"] for row in first["differences"]] == pytest.approx([0.013, 0.014, 0.015])
    assert {(row["setting"], row["where"]) for row in said["differences"]} == {("lr", "all variants, pretext rotation")}
    assert said["unmatched"] == {"variants": [[], [{"init": "kaiming", "freeze": "none"}]], "pretexts": [[], []]}
    assert [item["label"] for item in said["pretexts"]] == ["rotation"]
    carried = finished()[0].partition('<script type="application/json" id="comparison">')[2].partition("</script>")[0]
    assert json.loads(carried) == said


def test_the_answer_comes_first_then_what_differs_and_everything_is_there() -> None:
    page = Page(finished()[0])
    assert [attrs["id"] for attrs in page.all("section")] == [
        "answer", "differing", "finals", "curves", "pretexts", "unmatched", "made",
    ]  # fmt: skip
    text = page.text
    assert "Of 4 variants in both studies: " in text
    assert "Variants of B: kaiming / none." in text
    assert "Seeds are not paired: at seed 0 the head is not the same." in text
    assert len(page.all("table")) == len(page.all("caption")) == 5
    assert all(attrs.get("scope") in ("col", "row") for attrs in page.all("th"))
    identities = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(identities) == len(set(identities))
    targets = [(attrs.get("href") or "")[1:] for attrs in page.all("a")]
    assert targets
    assert set(targets) <= set(identities)


def test_the_page_loads_nothing_and_lets_its_own_script_run_and_no_other() -> None:
    html, _ = finished()
    page = Page(html)
    (policy,) = [attrs["content"] or "" for attrs in page.all("meta") if "http-equiv" in attrs]
    script = html.rpartition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'")
    assert f"script-src 'sha256-{digest}'" in policy
    links = [v or "" for _, attrs in page.elements for k, v in attrs.items() if k in ("src", "href", "xlink:href")]
    assert links
    assert all(link.startswith(("#", "data:")) for link in links)


def test_the_same_studies_give_the_same_bytes_and_are_left_as_they_are() -> None:
    a, b = two()
    untouched = deepcopy((a, b))
    assert render(compared(a, b)) == finished()[0]
    assert (a, b) == untouched


def drawing(html: str, name: str) -> ElementTree.Element:
    svg = next(svg for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL) if f'aria-labelledby="{name}-title"' in svg)
    return ElementTree.fromstring(svg)  # noqa: S314 -- drawn here


def test_differences_are_drawn_and_curves_of_both_are_overlaid_solid_and_dashed() -> None:
    html, _ = finished()
    svg = "{http://www.w3.org/2000/svg}"
    groups = {node.get("id"): node for node in drawing(html, "differences").iter(f"{svg}g")}
    assert {f"differences-v{place}-mean" for place in range(4)} <= set(groups)
    # Single seeds are drawn where they are pairs.
    assert [f"differences-v{place}-seeds" in groups for place in range(4)] == [True, False, True, False]
    lines = {node.get("id"): node for node in drawing(html, "curves").iter(f"{svg}g")}
    for place in range(8):
        style = next(lines[f"curves-v{place}-mean"].iter(f"{svg}path")).get("style") or ""
        assert ("dasharray" in style) == (place % 2 == 1)
    table = html.partition('data-figure="curves"')[2].partition("</table>")[0]
    heads = re.findall(r'data-series="(v\d)">([^<]*)<', table)
    assert heads == [
        (f"v{2 * place + side}", f"{name}, {'AB'[side]}") for place, name in enumerate(NAMES) for side in (0, 1)
    ]


def test_many_variants_have_no_curves_and_curves_of_two_kinds_are_not_overlaid() -> None:
    a, b = two()
    for results in (a, b):
        results["runs"] += [from_nothing(f"other{number}", 0) for number in range(5)]
    text = Page(render(compared(a, b))).text
    assert "There are more than 8 variants, so their curves are left to the pages of the studies." in text
    a, b = two()
    for run in b["runs"]:
        run["settings"]["train"]["validation"] = 0.1
        for entry in run["history"]:
            entry |= {"validation_accuracy": 0.5, "test_accuracy": None}
    assert "There are no curves of one kind in both studies." in Page(render(compared(a, b))).text


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_are_text(text: str) -> None:
    a, b = hostile(text), hostile(text)
    for run in b["runs"]:
        run["settings"]["train"] |= {"optimizer": text, "lr": text}
        run["versions"] = {text: text, "torch": f"{text} 2", "rotbench": text}
        run["train_seconds"] = 1.0
    for run in a["runs"]:
        run["settings"]["train"] |= {"optimizer": "adam", "lr": 0.01}
        run["versions"] = {"torch": text, "rotbench": "1"}
    b["study"]["title"] = f"{text} again"
    b["runs"] += [simulated.run("downstream", {"init": f"{text}!", "freeze": text}, 0, 0.5, 0.4, 2)]
    html = render(outcome(tidied(a), tidied(b), (text, text)))
    page = Page(html)
    assert page.open == []
    assert not page.all("img")
    assert not page.all("b")
    assert len(page.all("script")) == 2
    assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on")]
    assert page.text.count(text) > 15


# The command


@pytest.fixture
def stores(tmp_path: Path) -> Path:
    for name, results in zip(("results", "results-lr"), two(), strict=True):
        write_store(tmp_path / name, results)
    return tmp_path


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_compare_writes_a_page_and_prints_its_link_last(stores: Path) -> None:
    before = files(stores)
    done = command(stores, "compare", "results", "results-lr")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == (stores / "comparison.html").as_uri()
    html = (stores / "comparison.html").read_text()
    assert "A against B" in Page(html).text
    assert str(stores) not in html
    after = files(stores)
    assert {name: content for name, content in after.items() if name != "comparison.html"} == before
    # An earlier comparison is written over, and is the same.
    assert command(stores, "compare", "results", "results-lr").returncode == 0
    assert files(stores) == after


def test_json_is_all_that_is_printed(stores: Path) -> None:
    done = command(stores, "compare", "results", "results-lr", "--json", "--to", "new/page.html")
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    html = (stores / "new" / "page.html").read_text()
    assert json.loads(html.partition('id="comparison">')[2].partition("</script>")[0]) == said
    assert [item["verdict"] for item in said["contrasts"]] == ["higher", "higher", "higher", "higher"]


def test_pages_and_json_files_are_compared_as_the_stores_are(stores: Path) -> None:
    command(stores, "compare", "results", "results-lr", "--to", "of-stores.html")
    for name in ("results", "results-lr"):
        assert command(stores, "report", "--out", name).returncode == 0
    (stores / "mailed").mkdir()
    (stores / "results" / "report.html").rename(stores / "mailed" / "results")
    (stores / "results-lr" / "results.json").rename(stores / "mailed" / "results-lr")
    done = command(stores, "compare", "mailed/results", "mailed/results-lr", "--to", "of-files.html")
    assert (done.returncode, done.stderr) == (0, "")
    assert (stores / "of-files.html").read_bytes() == (stores / "of-stores.html").read_bytes()


def test_bad_input_is_told_in_two_lines_and_nothing_is_written(stores: Path) -> None:
    _, b = two()
    for run in b["runs"]:
        run["variant"] = {"lr" if key == "init" else f"{key}2": value for key, value in run["variant"].items()}
        run["needs"], run["provenance"]["start"]["parent"] = [], None
    b["runs"] = [run for run in b["runs"] if run["kind"] == "downstream"]
    write_store(stores / "strange", b)
    assert command(stores, "report").returncode == 0
    (stores / "copy.json").write_bytes((stores / "results" / "results.json").read_bytes())
    (stores / "notes.html").write_text("<p>mine</p>")
    (stores / "broken.json").write_text('{"format": 1, "study": {}, "runs": 3}')
    (stores / "newer.json").write_text('{"format": 99, "study": {}, "runs": []}')
    assert command(stores, "compare", "results", "results-lr").returncode == 0
    before = files(stores)
    cases: dict[tuple[str, ...], tuple[int, str, str]] = {
        ("gone", "results"): (2, "there is no file gone", "Give a report.html"),
        ("results", "gone.html"): (2, "there is no file gone.html", "Give a report.html"),
        ("results", "notes.html"): (2, "notes.html is not rotbench's", "Give a report.html"),
        ("results", "broken.json"): (2, "broken.json is damaged", "Give a report.html"),
        ("results", "newer.json"): (3, "newer.json was written by a newer rotbench", "Upgrade"),
        ("results", "comparison.html"): (2, "comparison.html is a comparison of two studies", "Give a report.html"),
        ("results", "."): (2, ". holds no study and no results", "Give a folder"),
        ("results", "results"): (2, "results and results are the same results", "two studies"),
        ("results", "results/report.html"): (2, "are the same results", "two studies"),
        ("results", "copy.json"): (2, "results and copy.json hold the same results", "two studies"),
        ("results", "strange"): (
            2,
            "results and strange have no variant in common: results has random / none, random / below, rotation / none,"
            " rotation / below; strange has lr random / freeze2 none,",
            "the same keys",
        ),
        ("results", "results-lr", "--to", "notes.html"): (2, "notes.html is there already", "--to"),
        ("results", "results-lr", "--to", "results/report.html"): (2, "report.html is there already", "--to"),
        ("results", "results-lr", "--to", "results"): (2, "results is a folder", "--to"),
        ("results", "results-lr", "--to", "notes.html/page.html"): (4, "cannot be written", "--to"),
    }
    for arguments, (code, what, todo) in cases.items():
        done = command(stores, "compare", *arguments)
        told = done.stderr.splitlines()
        assert (done.returncode, len(told), done.stdout) == (code, 2, ""), (arguments, done.stderr)
        assert what in told[0]
        assert todo in told[1]
    assert files(stores) == before
    assert len(cases) == 15
    assert command(stores, "compare", "results").returncode == 2
    told = json.loads(command(stores, "compare", "gone", "results", "--json").stdout)
    assert told["error"]["exit_code"] == 2


@pytest.mark.thorough
def test_comparing_loads_no_torch(stores: Path) -> None:
    loaded = loaded_by(["compare", "results", "results-lr"], stores)
    assert "matplotlib" in loaded
    assert not loaded & {"torch", "torchvision", "sklearn"}


def test_an_older_page_of_a_study_that_went_on_is_compared_with_it(tmp_path: Path) -> None:
    """The same runs are read from two places: they are told as that, and not as a repetition."""
    whole = study({NAMES[0]: [0.80, 0.81, 0.79, 0.80, 0.82]})
    earlier = deepcopy(whole)
    earlier["study"]["seeds"] = [0, 1, 2]
    earlier["runs"] = [run for run in earlier["runs"] if run["seed"] < 3]
    (tmp_path / "before.html").write_text(report.render(earlier))
    (tmp_path / "now.html").write_text(report.render(whole))
    done = command(tmp_path, "compare", "before.html", "now.html")
    assert (done.returncode, done.stderr) == (0, "")
    text = Page((tmp_path / "comparison.html").read_text()).text
    assert "random: the same to the last digit in 3 of 3 seeds" in text
    assert "seeds 3 and 4 of B" in text
    assert "Nothing was trained anew: these runs are the same trainings, read from two places." in text


@pytest.mark.parametrize("state", ["empty", "failed", "half", "pretext only", "old"])
def test_studies_in_any_state_have_a_page(tmp_path: Path, state: str) -> None:
    a, b = two()
    for number, run in enumerate(b["runs"]):
        if state == "empty" or (state == "half" and number % 2):
            run |= {"status": "missing", "history": [], "final": None, "provenance": {}, "train_seconds": None}
        elif state == "failed":
            run |= {"status": "failed", "error": "out of memory", "final": None}
        elif state == "old":
            del (
                run["provenance"]["data"]["subset_sha256"],
                run["provenance"]["backbone_sha256"],
                run["versions"]["torch"],
            )
    if state == "pretext only":
        b["runs"] = [run for run in b["runs"] if run["kind"] == "pretext"]
    write_store(tmp_path / "a", a)
    write_store(tmp_path / "b", b)
    done = command(tmp_path, "compare", "a", "b", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    verdicts = {item["verdict"] for item in said["contrasts"]}
    assert verdicts == {"old": {"higher"}, "pretext only": set()}.get(state, {None})
    assert Page((tmp_path / "comparison.html").read_text()).open == []


def test_a_second_training_that_gives_the_same_is_no_copy(tmp_path: Path) -> None:
    a = study(A)
    write_store(tmp_path / "a", a)
    write_store(tmp_path / "b", again(a))
    done = command(tmp_path, "compare", "a", "b")
    assert (done.returncode, done.stderr) == (0, "")
    page = Page((tmp_path / "comparison.html").read_text())
    assert page.text.count("the same to the last digit in 3 of 3 seeds, and so are the trained backbones.") == 4
    assert "Nothing was trained anew" not in page.text
