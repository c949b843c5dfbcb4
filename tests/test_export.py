"""What a paper takes: the numbers of the page, escaped, cited, the same bytes anywhere, and nobody's file lost."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rotbench import compare
from rotbench.bibliography import OWN, Bibliography, parsed
from rotbench.errors import BadInput
from rotbench.export import exported, write_export
from rotbench.registry import load_registry
from rotbench.report import render, results_of_page
from rotbench.summary import summary
from tests import simulated
from tests.program import ROOT, command
from tests.stored import write_store
from tests.test_report import HOSTILE, Page, blank, hostile

pytestmark = pytest.mark.usefixtures("undrawn")

Results = dict[str, Any]


def texts(results: Results) -> dict[str, str]:
    """The exported files that are text."""
    return {name: content.decode() for name, content in exported(results).items() if not name.endswith(".pdf")}


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def number(cell: str) -> float | None:
    return float(cell) if cell else None


def markdown_cells(text: str) -> list[list[str]]:
    """The cells of a pipe table, as a reader of Markdown would have them."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    split = [re.split(r"(?<!\\)\|", row)[1:-1] for row in rows]
    return [[re.sub(r"\\(.)", r"\1", cell.strip()) for cell in row] for row in split[:1] + split[2:]]


def latex_rows(text: str) -> list[list[str]]:
    """The cells of a tabular as they are written, head first."""
    inner = text.partition("\\toprule\n")[2].partition("\\bottomrule")[0].replace("\\midrule\n", "")
    return [re.split(r"(?<!\\)&", line.removesuffix(" \\\\")) for line in inner.splitlines()]


def test_csv_has_the_numbers_of_the_summary_to_the_last_digit() -> None:
    results = simulated.results()
    files, said = texts(results), summary(results)
    rows = table(files["final.csv"])
    assert len(rows) == len(said["variants"]) == 4
    for row, item in zip(rows, said["variants"], strict=True):
        assert number(row["mean"]) == item["mean"]
        assert [number(row["low"]), number(row["high"])] == item["interval"]
        assert (row["n"], row["planned"]) == (str(item["n"]), str(item["planned"]))
        assert number(row["first_epoch"]) == item["first_epoch"]
        assert number(row["trainable_parameters"]) == item["trainable_parameters"]
    rows = table(files["contrasts.csv"])
    assert len(rows) == len(said["contrasts"]) == 2
    for row, item in zip(rows, said["contrasts"], strict=True):
        for column, key in (("difference", "difference"), ("p_t", "p_t"), ("p_holm", "p_holm"), ("p_sign_flip", "p")):
            assert number(row[column]) == item[key]
        assert [number(row["difference_low"]), number(row["difference_high"])] == item["interval"]
        assert row["verdict"] == item["verdict"]


def test_markdown_and_latex_say_what_the_page_says() -> None:
    results = simulated.results()
    files, page = texts(results), Page(render(results)).text.replace("\N{NO-BREAK SPACE}", " ")
    said = {"md": markdown_cells(files["final.md"]), "tex": latex_rows(files["final.tex"])}
    last = {kind: dict(zip(rows[0], rows[-1], strict=True)) for kind, rows in said.items()}
    assert last["md"]["accuracy (%)"] == "63.7 (63.0 to 64.3)"
    assert last["md"]["difference (points)"] == "+18.1 (17.2 to 18.9)"
    assert last["md"]["verdict"] == "higher\N{DAGGER}"
    assert "\N{DAGGER}: assuming normal differences" in files["final.md"]
    assert "higher$\\dagger$" in files["final.tex"]
    assert "63.7 % 63.0 to 64.3" in page
    assert "+18.1 17.2 to 18.9" in page
    assert [cell.strip() for cell in said["tex"][-1]][:5] == [
        "rotation", "below", "3 of 3", "63.7 (63.0 to 64.3)", "+18.1 (17.2 to 18.9)",
    ]  # fmt: skip
    assert "$-$0.9 to 1.8" in files["contrasts.tex"]  # the usual fonts have no minus sign
    assert "$<$~0.001" in files["contrasts.tex"]
    assert not re.search("[\N{MINUS SIGN}\N{NO-BREAK SPACE}]", files["contrasts.tex"])
    assert "booktabs" in files["final.tex"]


def test_the_page_carries_the_very_texts_of_the_export() -> None:
    results = simulated.results()
    files, html = texts(results), render(results)
    blocks = dict(re.findall(r'<pre data-copy="\w+" id="copy-([\w-]+)"[^>]*>(.*?)</pre>', html, re.DOTALL))
    endings = {"markdown": "md", "latex": "tex", "csv": "csv"}
    assert len(blocks) == 10
    for name, text in blocks.items():
        which, _, language = name.partition("-")
        plain = text.replace("&lt;", "<").replace("&gt;", ">").replace("&#39;", "'").replace("&#34;", '"')
        assert plain.replace("&amp;", "&") == files[f"{which}.{endings[language]}"]


NASTY = "a|b & 50% of $x_1$ #1 ~\\end{table} {^} <b>\nnext [@key]"


def test_names_are_escaped_in_markdown_and_latex() -> None:
    results = simulated.results()
    for run in results["runs"]:
        if run["variant"].get("init") == "rotation":
            run["variant"]["init"] = NASTY
    files = texts(results)
    one_line = NASTY.replace("\n", " ")
    rows = markdown_cells(files["final.md"])
    assert rows[-1][0] == one_line
    assert {len(row) for row in rows} == {len(rows[0])}
    rows = latex_rows(files["final.tex"])
    assert {len(row) for row in rows} == {len(rows[0])}
    assert rows[-1][0].strip() == (
        r"a|b \& 50\% of \$x\_1\$ \#1 \textasciitilde \textbackslash end\{table\} \{\textasciicircum \} $<$b$>$ "
        "next [@key]"
    )
    assert table(files["final.csv"])[-1]["init"] == NASTY
    for name in ("final.tex", "contrasts.tex"):
        body = re.sub(r"\\[&%$#_{}]", "", re.sub(r"(?m)^%.*$", "", files[name]))
        assert body.count("{") == body.count("}")
        assert re.findall(r"\\(begin|end)\{(\w+)\}", body) == [
            ("begin", "table"), ("begin", "tabular"), ("end", "tabular"), ("end", "table"),
        ]  # fmt: skip
        assert not re.search(r"[%#_^]", body.replace("\\label{tab:", ""))
        assert body.count("$") % 2 == 0


def test_a_row_of_latex_never_begins_with_what_the_row_before_would_take_for_its_argument() -> None:
    results = simulated.results()
    for run in results["runs"]:
        if run["kind"] == "downstream":
            run["variant"] = {**run["variant"], "init": "[2pt]" if run["variant"]["init"] == "random" else "*"}
    starts = [row[0].strip() for row in latex_rows(texts(results)["final.tex"])[1:]]
    assert starts == ["{[}2pt]", "{[}2pt]", "{*}", "{*}"]


@pytest.mark.parametrize("text", HOSTILE)
def test_whatever_things_are_called_there_is_an_export(text: str) -> None:
    files = texts(hostile(text))
    assert {"final.md", "final.tex", "contrasts.csv", "methods.md", "references.bib"} <= set(files)


def keys(bibtex: str) -> list[str]:
    return re.findall(r"^@\w+\{([^,]+),$", bibtex, re.MULTILINE)


def test_every_paper_of_a_shipped_plugin_is_a_whole_entry() -> None:
    cites = [cite for plugin in load_registry(shipped_only=True).plugins if (cite := getattr(plugin.cls, "cite", ""))]
    entries = [parsed(cite) for cite in (*cites, *OWN.values())]
    assert len(cites) == 8 + 9 + 4 + 4
    assert all(entry and {"title", "author", "year"} <= {name for name, _ in entry[2]} for entry in entries)
    # One key is one paper, wherever it stands.
    by_key: dict[str, Any] = {}
    assert all(by_key.setdefault(entry[1], entry) == entry for entry in entries if entry)


def test_a_bibliography_has_each_paper_once_and_each_key_for_one_paper() -> None:
    made = Bibliography()
    assert made.add("@misc{a, title = {One, two}, year = 2000}") == "a"
    assert made.add("@misc{a,\n  title = {One, two},\n  year = 2000,\n}") == "a"
    assert made.add("@misc{a, title = {Another}, year = 2001}") == "a-2"
    assert made.add("@misc{a, title = {Another}, year = 2001}") == "a-2"
    for wrong in (
        "",
        "no entry",
        "@misc{}",
        "@misc{b}",
        "@misc{b, title = {open}",
        "@misc{b, title}",
        "@misc{b, x = }}",
    ):
        assert made.add(wrong) == "", wrong
    assert keys(made.text()) == ["a", "a-2"]
    assert "  title = {One, two},\n  year = 2000,\n}" in made.text()


def with_cites(results: Results) -> Results:
    registry = load_registry(shipped_only=True)
    for plugin in results["study"]["plugins"]:
        found = registry.find(plugin["kind"], plugin["name"])
        plugin["cite"] = getattr(found.cls, "cite", "") if found else ""
    return results


@pytest.mark.parametrize("seeds", [1, 3])
def test_what_is_cited_is_in_the_bibliography_and_only_where_it_was_used(seeds: int) -> None:
    files = texts(with_cites(simulated.results(seeds=seeds)))
    cited = re.findall(r"\[@([^\]]+)\]", files["methods.md"])
    listed = keys(files["references.bib"])
    assert set(cited) == set(listed)
    assert len(listed) == len(set(listed))
    assert {"he2016deep", "gidaris2018rotation", "kingma2015adam"} <= set(listed)
    assert ("holm1979simple" in listed) == (seeds > 1)
    assert ("mcnemar1947note" in listed) == (seeds == 1)


def test_the_methods_tell_the_recipe_and_the_statistics() -> None:
    text = texts(simulated.results())["methods.md"]
    for words in (
        "The data set is cifar10",
        "10,000 test images in 10 classes",
        "torchvision's resnet18 [@he2016deep] with torchvision's own stem",
        "for 45 epochs (17,595 updates, 2,250,000 training images seen) with Adam",
        "for 20 epochs (7,820 updates, 1,000,000 training images seen) with Adam",
        "layer4 and fc, 8,398,858 parameters",
        "normalises by each batch and goes on updating its running statistics",
        "3 seeds (0, 1, 2)",
        "not the test images",
        "adjusted after Holm [@holm1979simple] over 2 contrasts",
        "within ±1.0 points",
        "it cannot fall below 0.25 here",
        "on cpu in fp32, with 1 thread a run",
        "Of 15 runs it was recorded",
    ):
        assert words in text, words
    assert "Runs that are not simply done" not in text
    assert "the draws of the augmentation" not in text  # these settings name none
    assert "choice of labelled images" not in text
    assert all(line == line.strip() for line in text.splitlines())


def test_the_methods_claim_nothing_that_a_run_did_not_record() -> None:
    results = simulated.results()
    runs = results["runs"]
    for run in runs:
        run["settings"]["train"] |= {"augment": ["crop"], "labels_per_class": 10, "validation": 0.1}
    blank(runs[-1], status="failed", error="RuntimeError: out of memory")
    runs[3]["provenance"]["start"]["changed"] = 0
    runs[3]["provenance"]["start"]["claimed"] = 1
    text = texts(results)["methods.md"]
    assert "14 of 15 runs are done" in text
    assert "Failed (RuntimeError: out of memory): rotation / below, seed 2." in text
    assert "the draws of the augmentation, the choice of labelled images and the choice of validation images" in text
    assert "every check holds" not in text
    assert "fail for random / none, seed 0: do not use these numbers" in text
    assert "2 of 3 seeds" in text  # why there is no verdict
    for run in runs:
        blank(run)
    text = texts(results)["methods.md"]
    assert "0 of 15 runs are done" in text
    for claim in (
        "updates",
        "images seen",
        "every check holds",
        "torch 2",
        "by their hashes",
        "Holm",
    ):
        assert claim not in text.replace("goes on updating", ""), claim


@pytest.mark.parametrize("state", ["empty", "failed", "half", "pretext only"])
def test_a_store_in_any_state_is_rendered_and_exported(tmp_path: Path, state: str) -> None:
    results = simulated.results(epochs=3, pretext_epochs=2)
    if state == "pretext only":
        results["runs"] = [run for run in results["runs"] if run["kind"] == "pretext"]
    for number, run in enumerate(results["runs"]):
        if state == "empty" or (state == "half" and number % 2):
            blank(run)
        elif state == "failed":
            blank(run, status="failed", error="RuntimeError: out of memory")
    write_store(tmp_path / "results", results)
    assert command(tmp_path, "report").returncode == 0
    done = command(tmp_path, "export", "--to", "paper")
    assert (done.returncode, done.stderr) == (0, "")
    names = {path.name for path in (tmp_path / "paper").iterdir()}
    tables = {"final.tex", "contrasts.md"} if state != "pretext only" else set()  # an empty tabular is an error
    assert {*tables, "methods.md", "references.bib", "export.json"} <= names
    page = (tmp_path / "results" / "report.html").read_text()
    assert render(results_of_page(page)) == page


def test_an_export_goes_over_its_own_files_and_over_no_others(tmp_path: Path) -> None:
    folder = tmp_path / "paper"
    write_export({"a.md": b"one", "figures/b.svg": b"two"}, folder)
    (folder / "thesis.tex").write_text("mine")
    write_export({"a.md": b"three"}, folder)
    assert {path.name for path in folder.rglob("*") if path.is_file()} == {"a.md", "thesis.tex", "export.json"}
    assert (folder / "a.md").read_text() == "three"
    assert (folder / "thesis.tex").read_text() == "mine"

    def refused(files: dict[str, bytes], words: str, where: Path = folder) -> None:
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        with pytest.raises(BadInput, match=words):
            write_export(files, where)
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before

    refused({"new.md": b"", "thesis.tex": b"theirs"}, "thesis.tex was not written by export")
    (folder / "a.md").write_text("three, corrected by hand")
    refused({"new.md": b"", "a.md": b"four"}, "a.md was changed after export wrote it")
    refused({"new.md": b""}, "a.md was changed after export wrote it")
    (folder / "export.json").write_text('{"files": {"../thesis.tex": "0"}}')
    refused({"new.md": b""}, "export.json was not written by export")
    refused({"new.md": b""}, "is not a folder", folder / "thesis.tex")


def test_an_export_that_a_crash_broke_off_goes_on(tmp_path: Path) -> None:
    files = {"a.md": b"one", "b.md": b"two"}
    (tmp_path / "a.md").write_bytes(b"one")  # written, but not yet listed
    write_export(files, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.md", "b.md", "export.json"]


@pytest.mark.drawn
@pytest.mark.thorough
def test_export_from_a_file_is_that_from_its_store(tmp_path: Path) -> None:
    write_store(tmp_path / "results", simulated.results(epochs=4, pretext_epochs=3))
    assert command(tmp_path, "report").returncode == 0
    assert command(tmp_path, "export", "--to", "one").returncode == 0
    done = command(tmp_path, "export", "--from", "results/results.json", "--to", "two")
    assert (done.returncode, done.stdout[:9]) == (0, "two holds")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert len(contents(tmp_path / "one")) > 15


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def decimal_comma(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a locale with a decimal comma; without one where none can be had."""
    folder = tmp_path_factory.mktemp("locales")
    localedef = shutil.which("localedef")
    if localedef is not None:
        made = [localedef, "-i", "de_DE", "-f", "UTF-8", str(folder / "de_DE.UTF-8")]
        if subprocess.run(made, capture_output=True, check=False).returncode == 0:
            return {"LOCPATH": str(folder), "LC_ALL": "de_DE.UTF-8"}
    known = subprocess.run(["locale", "-a"], capture_output=True, text=True, check=False).stdout
    return {"LC_ALL": "de_DE.UTF-8"} if "de_DE.utf8" in known else {}


@pytest.mark.thorough
def test_report_and_export_are_the_same_bytes_on_another_day_in_another_place(
    tmp_path: Path, decimal_comma: dict[str, str]
) -> None:
    """Two folders, 400 days, time zones, hash seeds and, where there is one, a locale with a decimal comma."""
    write_store(tmp_path / "here" / "results", simulated.results(epochs=4, pretext_epochs=3), predictions=True)
    there = tmp_path / "far away" / "on another disk"
    shutil.copytree(tmp_path / "here", there)
    places = (
        (tmp_path / "here", "0", {"TZ": "UTC", "PYTHONHASHSEED": "1", "LC_ALL": "C"}),
        (there, "400.3", {"TZ": "Pacific/Apia", "PYTHONHASHSEED": "2", **decimal_comma}),
    )
    for folder, days, environment in places:
        words = decimal_comma.get("LC_ALL", "") if folder == there else ""
        for words_given in (["report"], ["export", "--to", "paper"]):
            done = subprocess.run(
                [sys.executable, str(ROOT / "tests" / "elsewhere.py"), days, words, *words_given],
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            )
            assert (done.returncode, done.stderr) == (0, "")
    for made in ("paper", "results"):
        one, other = contents(places[0][0] / made), contents(there / made)
        assert one.keys() == other.keys()
        assert [name for name in one if one[name] != other[name]] == []
    assert {"report.html", "results.json", "results.csv"} <= contents(there / "results").keys()
    assert b"rror_images" in contents(there / "results")["report.html"]
    assert json.loads(contents(there / "results")["results.json"])["runs"][-1]["by_class"]


def test_summaries_and_tables_agree_on_what_is_missing() -> None:
    results = simulated.results()
    blank(results["runs"][-1])
    row = table(texts(results)["final.csv"])[-1]
    item = compare.variants(results)[-1]
    assert (row["n"], row["planned"], row["reason"]) == ("2", "3", "2 of 3 seeds")
    assert item.n == 2
