"""The page: complete, safe, the same every time, and its numbers those of the results."""

from __future__ import annotations

import base64
import csv
import functools
import hashlib
import io
import itertools
import json
import math
import re
from copy import deepcopy
from html.parser import HTMLParser
from typing import Any

import pytest

from rotbench import drawings, embedded, evidence, report, tables
from rotbench.summary import summary
from tests import simulated

pytestmark = pytest.mark.usefixtures("undrawn")

Results = dict[str, Any]
VOID = {"meta", "link", "br", "input", "img", "hr"}


class Page(HTMLParser):
    """A page as elements and visible text; ``open`` must be empty at its end."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.cells: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.words.append(data)
            if {"td", "th"} & set(self.open):
                self.cells[-1] += data

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]


@functools.cache
def finished_page() -> str:
    """The page of a study that is done and in order."""
    return report.render(simulated.results())


def hostile(text: str) -> Results:
    """A study in which everything that a person or a plugin may name is ``text``."""
    results = simulated.results()
    study = results["study"]
    study |= {"title": text, "notice": text, "text": text, "command": text, "baseline": {"init": text}}
    study["dataset"]["name"] = text
    study["references"] = [{"match": {"init": text}, "test_accuracy": 0.6, "source": text}]
    about = {"task": text, "summary": text, "chance": 0.25, "score_name": "accuracy", "notice": text}
    study["pretexts"] = {text: {**about, "uses_labels": True}}
    for plugin in study["plugins"]:
        plugin |= {"name": text, "summary": text, "origin": text, "kind": text}
    for run in results["runs"]:
        run |= {"log": text, "error": text, "stale": text, "device": text, "precision": text, "versions": {text: text}}
        run["id"] += text
        run["settings"] = {text: text, "train": {text: text}}
        run["provenance"]["start"] |= {"init": text, "missing": [text], "unexpected": [text]}
        if run["kind"] == "pretext":
            run["variant"] = {"pretext": text}
            run |= {"pictures": [{"png": simulated.PNG, "caption": text}], "no_pictures": text}
        else:
            run["variant"] = {
                "init": text if run["variant"]["init"] == "random" else "other",
                text: run["variant"]["freeze"],
            }
    results["probes"] = simulated.probes(range(3))
    for number, probe in enumerate(results["probes"]):
        probe |= {"id": f"{text}{number}", "init": text, "error": text, "stale": text}
        probe["variant"] = {"probe": text, text: text, **({"epoch": probe["epoch"]} if probe["epoch"] else {})}
        probe["needs"] = [f"{one}{text}" for one in probe["needs"]]
        for stage in probe["stages"]:
            stage["stage"] += text
    return results


PICTURE = f"data:image/png;base64,{simulated.PNG}"

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{7*7}}",
    "' onmouseover='x",
    "</script><b>",
    "$a$ & 名",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_are_text(text: str) -> None:
    html = report.render(hostile(text))
    page = Page(html)
    assert page.open == []
    assert [(image["src"], image["alt"]) for image in page.all("img")] == [(PICTURE, text)]
    assert not page.all("b")
    assert len(page.all("script")) == 2
    assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on")]
    assert page.text.count(text) > 50
    assert report.results_of_page(html)["study"]["title"] == text


def test_numbers_in_the_page_are_those_of_the_results() -> None:
    results = simulated.results()
    page = Page(finished_page())
    said = summary(results)
    of = {json.dumps(item["variant"], sort_keys=True): item for item in said["variants"]}
    differences = {json.dumps(item["variant"], sort_keys=True): item for item in said["contrasts"]}
    rows: list[tuple[str, dict[str, dict[str, str | None]]]] = []
    for tag, attrs in page.elements:
        if tag == "tr" and "data-variant" in attrs:
            rows.append((json.dumps(json.loads(attrs["data-variant"] or ""), sort_keys=True), {}))
        elif tag in ("td", "small") and rows and attrs.get("class"):
            for name in (attrs["class"] or "").split():
                rows[-1][1].setdefault(name, attrs)
    assert {variant for variant, _ in rows} == set(of)
    for variant, cells in rows:
        assert float(cells["mean"]["data-value"] or "") == of[variant]["mean"]
        low, high = cells["interval"]["data-low"], cells["interval"]["data-high"]
        assert [float(low or ""), float(high or "")] == of[variant]["interval"]
        if variant in differences:
            assert float(cells["difference"]["data-value"] or "") == differences[variant]["difference"]
    assert "63.7\N{NO-BREAK SPACE}% 63.0 to 64.3" in page.cells


def test_the_answer_in_words() -> None:
    page = Page(finished_page())
    assert (
        "higher: rotation is 18.1 points above random when layer4 and fc are trained (95 % t interval 17.2 to 18.9, "
        "n = 3 seeds, p < 0.001 after Holm over 2 contrasts; assuming normal differences)."
    ) in page.text.replace("\N{NO-BREAK SPACE}", " ")
    assert "not resolved: rotation against random when everything is trained: +0.4 points" in page.text


def test_one_seed_gets_the_test_sets_error_and_no_verdict() -> None:
    results = simulated.results(seeds=1)
    page = Page(report.render(results))
    assert "no verdict: rotation is" in page.text
    for pair in results["pairs"]:
        apart, lead = pair["only_variant"] + pair["only_baseline"], pair["only_variant"] - pair["only_baseline"]
        error = f"{100 * math.sqrt(apart - lead**2 / 10_000) / 10_000:.2f}"
        said = f"The test set's binomial standard error of this difference is {error} points (10,000 images)"
        assert f"from one seed. {said}" in page.text
    assert len(results["pairs"]) == 2
    assert "it says nothing about other seeds" in page.text
    assert "t interval 1" not in page.text


def test_nothing_is_requested_from_anywhere() -> None:
    html = finished_page()
    page = Page(html)
    links = [
        attrs[name] or ""
        for _, attrs in page.elements
        for name in ("src", "href", "xlink:href", "data", "srcset")
        if name in attrs
    ]
    assert links
    assert all(link.startswith(("#", "data:")) for link in links)
    styles = re.findall(r"<style>(.*?)</style>", html, re.DOTALL) + [
        attrs.get("style") or "" for _, attrs in page.elements
    ]
    assert not [style for style in styles if "@import" in style or re.search(r"url\((?!#)", style)]
    (policy,) = [attrs["content"] or "" for attrs in page.all("meta") if "http-equiv" in attrs]
    assert policy.startswith("default-src 'none'")


def test_the_policy_lets_the_pages_own_script_run_and_no_other() -> None:
    html = finished_page()
    script = html.rpartition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in html


@pytest.mark.drawn
def test_the_same_results_give_the_same_page_and_a_page_can_be_drawn_from_itself() -> None:
    results = simulated.results()
    untouched = deepcopy(results)
    html = report.render(results)
    assert report.render(results) == html
    assert results == untouched
    assert report.render(report.results_of_page(html)) == html
    assert report.results_of_page(html) == report.tidied(results)


def everything() -> Results:
    """Results with all that a page can carry: validation, pictures, sure errors, what diverged, failed, is missing."""
    results = simulated.results(seeds=2, epochs=6, pretext_epochs=4)
    runs = results["runs"]
    for run in runs[2:]:
        for entry in run["history"]:
            entry |= {"validation_loss": 1.0 / 3, "validation_accuracy": 2.0 / 3}
    runs[1]["pictures"] = [{"png": simulated.PNG, "caption": "of the second seed, which no figure shows"}]
    runs[2]["pictures"] = []
    runs[3]["history"][1] = {"epoch": 2, "test_accuracy": 0.5}  # entries that differ in their keys
    runs[4] |= {"diverged": True, "status": "failed", "error": "loss is nan", "final": None}
    runs[4]["history"][-1] |= {"train_loss": math.nan, "test_loss": math.inf}
    runs[5]["log"] = "one\n  <two>\n\n# three &amp;\r\nfour\n"
    runs[6]["log"] = "epoch 1/3\nnot a line like it\nepoch 3/3\n"
    runs[7]["log"] = "no end of line, 1\nno end of line, 2"
    blank(runs[-1])
    blank(runs[-2], status="failed", error="RuntimeError: out of memory")
    results["probes"] = simulated.probes(range(2))
    results["probes"][-1] |= {"status": "failed", "error": "RuntimeError: out of memory", "stages": []}
    return results


@pytest.mark.drawn
def test_a_page_with_everything_gives_everything_back() -> None:
    results = everything()
    html = report.render(results)
    again = report.results_of_page(html)
    assert again == report.tidied(results)
    assert report.render(again) == html
    assert again["error_images"][0]["png"] == results["error_images"][0]["png"]


def old(results: Results) -> Results:
    """The same as a rotbench would have left that knew none of the later fields."""
    for key in ("pairs", "subsets", "seed_agreement", "seconds_shared_by", "error_images", "probes"):
        results.pop(key, None)
    for run in results["runs"]:
        for key in ("by_class", "errors", "pictures", "repeat", "no_pictures"):
            run.pop(key, None)
        run["provenance"].get("freeze", {}).pop("phases", None)
    return results


def test_a_page_of_old_results_gives_them_back() -> None:
    results = old(everything())
    html = report.render(results)
    assert report.results_of_page(html) == report.tidied(results)
    assert report.render(report.results_of_page(html)) == html


def test_histories_go_by_column_and_nothing_stands_in_the_page_twice() -> None:
    results = simulated.results(seeds=2, epochs=3, pretext_epochs=3)
    for place, image in enumerate(results["error_images"]):
        image["png"] = base64.b64encode(f"image {place}".encode()).decode()
    html = report.render(results)
    held = json.loads(html.partition('id="results">')[2].partition("</script>")[0])
    for run, whole in zip(held["runs"], results["runs"], strict=True):
        assert run["history"]["test_accuracy"] == [entry["test_accuracy"] for entry in whole["history"]]
        assert run["history"]["epoch"] == 3
        assert run["history"]["seconds"] == {"of": [11.25], "times": [3]}
        assert list(run["history"]) == list(whole["history"][0])
        assert not {"log", "pictures"} & set(run) - ({"pictures"} if not whole.get("pictures") else set())
    for image in results["error_images"]:
        assert html.count(image["png"]) == 1


@pytest.mark.parametrize(
    ("log", "shared"),
    [
        ("epoch 1/9  loss 2.5 lr 0.1\nepoch 2/9  loss 1e-05 lr 0.1\n", "epoch #/9  loss # lr 0.1"),
        ("a 1\na 22\na 3.5\n", "a #"),
        ("a 1\n", None),  # one line
        ("", None),
        ("a 1\nb 2\n", None),  # lines of two kinds
        ("a 1\na 2", None),  # no end of the last line
        ("a 1 #\na 2 #\n", None),  # what stands for numbers
        ("a 1\na nan\n", None),
        ("same\nsame\n", None),
        ("a 1\n\na 2\n", None),
    ],
)
def test_what_the_lines_of_a_log_share_is_told_once_where_they_can_be_made_again(log: str, shared: str | None) -> None:
    slim = embedded.slim_log(log)
    assert (slim.shared if slim else None) == shared
    if slim:
        assert embedded.whole_log(slim.text) == log
        assert len(slim.text) < len(log) + len(slim.shared)


def blank(run: dict[str, Any], **changes: Any) -> None:
    """Turn ``run`` into one that was never trained."""
    run |= {"status": "missing", "history": [], "final": None, "provenance": {}, "log": "", "train_seconds": None}
    run |= {"images_per_second": None, "device": None, "precision": None, "versions": {}} | changes


@pytest.mark.parametrize("state", ["empty", "missing", "failed", "half", "one epoch", "pretext only", "no baseline"])
def test_a_store_in_any_state_has_a_page(state: str) -> None:
    results = simulated.results()
    runs = results["runs"]
    if state == "empty":
        runs.clear()
    elif state == "pretext only":
        results["runs"] = [run for run in runs if run["kind"] == "pretext"]
    elif state == "no baseline":
        results["study"] |= {"baseline": {}, "chance": None, "test_images": None, "references": [], "pretexts": {}}
    for number, run in enumerate(runs):
        if state == "missing" or (state == "half" and number % 2):
            blank(run)
        elif state == "failed":
            blank(run, status="failed", error="RuntimeError: out of memory")
        elif state == "one epoch":
            run |= {"status": "missing", "final": None, "history": run["history"][:1]}
    page = Page(report.render(results))
    assert page.open == []
    assert results["study"]["title"] in page.text
    if state == "failed":
        assert page.text.count("RuntimeError: out of memory") == len(runs)
    if state == "half":
        assert "2 of 3 seeds" in page.text or "1 of 3 seeds" in page.text


def test_a_diverged_run_is_shown_and_its_nan_is_null_in_the_page() -> None:
    results = simulated.results()
    run = results["runs"][-1]
    run |= {"status": "failed", "diverged": True, "error": "loss is nan at epoch 3, step 12"}
    run["history"][2:] = [dict(run["history"][2], train_loss=math.nan, test_loss=math.inf)]
    run["final"] = None
    html = report.render(results)
    assert "loss is nan at epoch 3, step 12" in Page(html).text
    assert "no verdict: rotation against random when layer4 and fc are trained" in Page(html).text
    kept = report.results_of_page(html)["runs"][-1]["history"][-1]
    assert (kept["train_loss"], kept["test_loss"]) == (None, None)


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("start", {"equals_parent": False}, "the starting weights are not those of the run it was to start from"),
        (
            "start",
            {"missing": ["a", "b"]},
            "2 tensors of the backbone not found in the source and left at random values",
        ),
        ("start", {"changed": 0}, "the init claims to have set weights, but none changed"),
        ("freeze", {"largest_change_of_frozen_parameter": 1e-9}, "a frozen parameter changed"),
        ("freeze", {"batchnorm": "eval"}, "a running statistic of a frozen BatchNorm changed"),
    ],
)
def test_a_proof_that_fails_says_why(part: str, change: dict[str, Any], words: str) -> None:
    run = simulated.results()["runs"][-1]
    assert evidence.proof(run).failures == ()
    run["provenance"][part] |= change
    assert evidence.proof(run).failures == (words,)


def test_an_init_that_means_to_set_a_part_is_no_failed_proof_and_says_what_it_set() -> None:
    run = simulated.results()["runs"][-1]
    start = {"exact": False, "tensors": 120, "claimed": 60, "equals_parent": None, "tensors_of_parent": 60}
    run["provenance"]["start"] |= {**start, "changed": 60, "missing": []}
    row = evidence.proof(run)
    assert row.failures == ()
    assert row.remarks[:2] == (
        "sets 60 of 120 tensors, the others are random",
        "60 tensors are the parent's to the bit",
    )


def test_results_of_an_earlier_version_have_a_page() -> None:
    """What came later is left out: pictures, phases, labels and notices of tasks, and what an init meant to set."""
    results = simulated.results()
    for about in results["study"]["pretexts"].values():
        assert not {"uses_labels", "notice"} & set(about)
    for run in results["runs"]:
        run.pop("pictures", None)
        run.pop("by_class", None)
        del run["provenance"]["freeze"]["phases"]
        assert "exact" not in run["provenance"]["start"]
    page = Page(report.render(results))
    assert not page.all("img")
    assert "Every check holds." in page.text
    assert "when below is trained" not in page.text


def test_what_a_pretext_task_showed_and_says_of_itself_is_on_the_page() -> None:
    results = simulated.results()
    about = results["study"]["pretexts"]["rotation"]
    about |= {"uses_labels": True, "notice": "runs below the published recipe."}
    page = Page(report.render(results))
    assert [image["src"] for image in page.all("img") if "data-run" in image] == [PICTURE] * 2
    assert [image["alt"] for image in page.all("img") if "data-run" in image] == [
        "0° → predicted 0° (97 %)",
        "90° → predicted 90° (97 %)",
    ]
    assert "rotation runs below the published recipe." in page.text
    assert "Uses labels." in page.text
    results["runs"][0] |= {"pictures": [], "no_pictures": "ValueError: nothing to see"}
    page = Page(report.render(results))
    assert not [image for image in page.all("img") if "data-run" in image]
    assert "no pictures, since they raised ValueError: nothing to see" in page.text


@pytest.mark.parametrize(
    ("chances", "told"),
    [
        ((0.25,), ["chance"]),
        ((0.25, 0.25), ["chance"]),
        ((0.25, 0.1), ["chance: task0", "chance: task1"]),
        ((0.25, 0.1, 0.04), ["", "", ""]),
    ],
)
@pytest.mark.drawn
def test_guessing_is_named_in_the_figure_of_pretext_scores_where_names_fit(
    chances: tuple[float, ...], told: list[str]
) -> None:
    results = simulated.results(seeds=1, epochs=2, pretext_epochs=2)
    results["study"]["pretexts"] = {
        f"task{place}": {"task": "t", "summary": "", "score_name": "accuracy", "chance": chance}
        for place, chance in enumerate(chances)
    }
    results["runs"] = [simulated.run("pretext", {"pretext": f"task{n}"}, 0, 0.5, 0.3, 2) for n in range(len(chances))]
    (panel,) = drawings.pretext_panels(results, {})
    assert [label for _, label in panel.levels] == told


def test_a_proof_that_fails_is_a_red_row_and_an_alarm() -> None:
    results = simulated.results()
    assert "Every check holds." in finished_page()
    results["runs"][-1]["provenance"]["start"]["equals_parent"] = False
    page = Page(report.render(results))
    assert "fails: the starting weights are not those" in page.text
    assert "A proof fails." in page.text
    assert page.text.index("Do not use these numbers") < page.text.index("rotation is 18.1 points above")
    rows = [attrs for attrs in page.all("tr") if attrs.get("class") == "fails"]
    assert [attrs["data-run"] for attrs in rows] == 2 * [results["runs"][-1]["id"]]  # its start, its freezing


def test_runs_of_one_seed_that_were_built_on_other_weights_are_a_failed_proof() -> None:
    results = simulated.results()
    random = next(run for run in results["runs"] if run["variant"].get("init") == "random" and run["seed"] == 1)
    random["provenance"]["start"] |= {"seed_backbone_sha256": "0" * 64, "backbone_sha256": "0" * 64}
    rows = {row.seed: row for row in evidence.seed_rows(results["runs"])}
    assert (rows[0].same_backbone, rows[0].same_start) == (True, True)
    assert (rows[1].same_backbone, rows[1].same_start) == (False, False)
    assert "Runs of one seed were not built on the same random weights." in Page(report.render(results)).text


def test_csv_has_a_row_a_run_and_epoch() -> None:
    results = simulated.results(seeds=2, epochs=3, pretext_epochs=4)
    rows = list(csv.DictReader(io.StringIO(report.results_csv(results))))
    assert len(rows) == 2 * (4 + 4 * 3)
    assert list(rows[0]) == ["id", "kind", "seed", "repeat", "epoch", *tables.MEASURED]
    last = results["runs"][-1]
    assert float(rows[-1]["test_accuracy"]) == last["final"]["test_accuracy"]
    assert (rows[-1]["id"], rows[-1]["repeat"], rows[-1]["epoch"]) == (last["id"], "0", "3")


@pytest.mark.drawn
def test_tables_have_captions_and_scoped_headers_and_figures_names() -> None:
    page = Page(report.render(simulated.results()))
    assert len(page.all("table")) == len(page.all("caption")) >= 8
    assert all(attrs.get("scope") in ("col", "row") for attrs in page.all("th"))
    figures = [attrs for attrs in page.all("svg") if attrs.get("class") == "figure"]
    assert [attrs["role"] for attrs in figures] == ["img"] * (len(drawings.NAMES) - 4)  # no tuning, labels, probes
    assert all(attrs.get("aria-hidden") for attrs in page.all("svg") if attrs not in figures)
    identities = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(identities) == len(set(identities))
    headings = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(headings))
    targets = [(attrs.get("href") or "")[1:] for attrs in page.all("a") if (attrs.get("href") or "").startswith("#")]
    assert targets
    assert set(targets) <= set(identities)


def test_the_notice_of_a_data_set_opens_the_page() -> None:
    results = simulated.results()
    results["study"]["notice"] = "A demonstration, not a finding."
    text = Page(report.render(results)).text
    assert text.index("A demonstration, not a finding.") < text.index("rotation is 18.1 points above")


@pytest.mark.drawn
def test_sixty_runs_of_forty_five_epochs_stay_under_a_megabyte() -> None:
    results = simulated.results(seeds=12, epochs=45)
    assert len(results["runs"]) == 60
    assert len(report.render(results).encode()) < 1_000_000


@pytest.mark.drawn
@pytest.mark.thorough
def test_sixty_runs_of_twelve_variants_stay_under_a_megabyte_and_keep_every_view_and_table() -> None:
    results = simulated.results()
    inits, policies = ("random", "rotation", "jigsaw", "simclr"), ("none", simulated.FREEZE_BELOW, "head-only")
    runs = [
        simulated.run("pretext", {"pretext": name}, seed, 0.77, 0.36, 45) for name in inits[1:] for seed in range(4)
    ]
    for place, (init, freeze) in enumerate(itertools.product(inits, policies)):
        for seed in range(4):
            final = round(0.6 + 0.01 * place + 0.003 * seed, 4)
            runs.append(simulated.run("downstream", {"init": init, "freeze": freeze}, seed, final, 0.2, 45))
    results["study"] |= {"seeds": [0, 1, 2, 3], "references": []}
    results["study"]["pretexts"] = dict.fromkeys(inits[1:], results["study"]["pretexts"]["rotation"])
    results |= {"runs": runs, "pairs": simulated.pairs(runs), "error_images": []}
    results["seed_agreement"] = simulated.seed_agreement(runs)
    html = report.render(results)
    assert len(runs) == 60
    assert len(html.encode()) < 1_000_000
    assert html.count('<input type="radio" name="view"') == 6
    # Accuracies stand once, for their curves by epoch, by images and by time.
    (figures,) = re.findall(r'data-figure="(curves [^"]+)"', html)
    assert figures.split() == ["curves", "curves-images", "curves-seconds"]
    assert html.count("Where they stand, as a table") == 2
    assert report.render(report.results_of_page(html)) == html


def test_data_are_told_once_with_the_choice_of_each_seed() -> None:
    results = simulated.results()
    for run in results["runs"]:
        run["provenance"]["data"]["subset_sha256"] = simulated.digest("subset", run["seed"])
    page = Page(report.render(results))
    told = ", ".join(simulated.digest("subset", seed)[:12] for seed in range(3))
    assert f"training subsets {told};" in page.text
    assert page.text.count("50,000 training and 10,000 test images") == 1


@pytest.mark.drawn
def test_a_threshold_is_told_in_the_table_and_not_drawn_as_a_measurement() -> None:
    results = simulated.results(seeds=2, epochs=3, pretext_epochs=4)
    measured = results["study"]["references"]
    threshold = {"match": {"init": "rotation", "freeze": "below"}, "test_accuracy": 0.6, "source": "the threshold"}
    pages = []
    for extra in ({}, {"at_least": True}):
        results["study"]["references"] = [*measured, {**threshold, **extra}]
        pages.append(report.render(results))
    figures = [re.findall(r"<svg.*?</svg>", page, re.DOTALL) for page in pages]
    assert "<title>the threshold: 60.00" in "".join(figures[0])
    assert "<title>the threshold: 60.00" not in "".join(figures[1])
    assert "<title>the threshold: at least 60.00" in "".join(figures[1])
    assert "at least 60.00" in Page(pages[1]).text.replace("\N{NO-BREAK SPACE}", " ")
    assert "at least 60.00" not in Page(pages[0]).text.replace("\N{NO-BREAK SPACE}", " ")
