"""A class of hand-ins: who made which mistake, what several have alike, and that nobody's page stops the others."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from rotbench import __version__, compare
from rotbench.cli import cli, main
from rotbench.embedded import tidied
from rotbench.entry import Entry, entry_of
from rotbench.gradebook import CSV_COLUMNS, LEGEND, Gradebook, gradebook, gradebook_page, gradebook_table
from rotbench.handins import Unread, hand_ins, one_line, read_hand_in
from rotbench.partner import alike, filled
from tests.browser import context, opened, started
from tests.classroom import NAMES, Results, chosen, hand_in, timed_anew, write_class, write_json, write_page
from tests.program import command
from tests.simulated import digest
from tests.stored import write_store
from tests.test_layout import loaded_by
from tests.test_report import HOSTILE, Page

#: Of each mistake what the table says in short, and what is said of it below.
SAID = {
    "ben": (
        "3 failed proofs",
        "proof fails for 3 of 15 runs (rotation / below, seeds 0, 1, 2): the starting weights are not those of the run "
        "it was to start from; the init claims to have set weights, but none changed",
    ),
    "cleo": (
        "1 confounded",
        "rotation / none against random / none also differs in lr (0.001 and 0.01): what makes the difference cannot "
        "be told",
    ),
    "dora": (
        "seeds after a look",
        "seed 2 was added after the results of seeds 0 and 1 could be seen: p values and verdicts claim too much",
    ),
    "emil": ("not read", "is cut off: the results that a page carries at its end are missing"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pages, of which three have a mistake each and one is cut off."""
    return write_class(tmp_path_factory.mktemp("class") / "handins")


@pytest.fixture(scope="module")
def book(folder: Path) -> Gradebook:
    return gradebook([folder])


def collate(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["collate", *map(str, arguments)])


def entry(book: Gradebook, name: str) -> Entry:
    (found,) = [row for row in book.entries if row.name.partition(".")[0] == name]
    return found


def texts(entry: Entry, kind: str) -> list[str]:
    return [finding.text for finding in entry.findings if finding.kind == kind]


def written(folder: Path, **results: Results) -> Gradebook:
    """The gradebook of some hand-ins as JSON."""
    for name, one in results.items():
        write_json(folder, name, one)
    return gradebook([folder])


# The mistakes


def test_of_ten_hand_ins_the_three_mistakes_and_the_damaged_one_are_named_and_six_are_in_order(folder: Path) -> None:
    done = collate(folder)
    assert done.exit_code == 0
    table, _, below = done.stdout.partition(LEGEND)
    lines = {line.split()[0].removesuffix(".html"): line for line in table.splitlines() if ".html" in line}
    assert list(lines) == list(NAMES)  # one row each, by name
    for name, (short, said) in SAID.items():
        assert short in lines[name]
        assert said in below
    in_order = set(NAMES) - set(SAID)
    assert len(in_order) == 6
    for name in in_order:
        assert f"{name}.html" not in below
        assert lines[name].rstrip().endswith(" 1/1")
    assert done.stdout.splitlines()[0] == "Rotation pretraining on CIFAR-10"
    assert done.stdout.splitlines()[-1] == "10 hand-ins: 6 in order, 3 to look at, 1 not read"


def test_the_row_of_a_hand_in_has_the_numbers_and_verdicts_of_its_study(folder: Path, book: Gradebook) -> None:
    assert len(book.rows) == 10
    for row in book.entries:
        results = tidied(
            json.loads(json.dumps(read_hand_in(next(h for h in hand_ins([folder]) if h.name == row.name))))
        )
        summaries = compare.variants(results)
        told = [(one.variant, one.n, one.planned, one.mean, one.interval) for one in row.accuracies]
        expected = [
            (filled(s.variant), s.n, s.planned, s.estimate.mean, s.estimate.interval) for s in summaries if s.estimate
        ]
        assert told == expected
        assert len(told) == 4
        contrasts = compare.contrasts(results)
        assert [verdict.mark for verdict in row.verdicts] == [c.verdict or c.reason for c in contrasts]
        assert row.seeds == (0, 1, 2)
        assert (row.runs, row.done) == (15, 15)
    assert {verdict.mark for row in book.entries for verdict in row.verdicts} >= {"higher", "confounded", "same start"}


def test_differences_of_differences_are_told_among_the_verdicts(tmp_path: Path) -> None:
    results = hand_in("ann")
    results["study"]["interactions"] = True
    (tmp_path / "ann.json").write_text(json.dumps(results))
    entry = entry_of("ann.json", results)
    assert [verdict.kind for verdict in entry.verdicts] == ["", "", "minus the same at another freeze"]
    assert entry.verdicts[-1].text == (
        "rotation / below against random / below (minus the same at another freeze): higher"
    )
    assert collate(tmp_path, "ann.json").exit_code == 0


def test_labels_that_were_ignored_and_subsets_that_are_none_are_failed_proofs(tmp_path: Path) -> None:
    ignored, unlike = hand_in("ignored"), hand_in("unlike")
    for run in chosen(ignored, init="random", freeze="none"):
        run["settings"]["train"]["labels_per_class"] = 20
        run["provenance"]["data"] |= {"classes": list("0123456789"), "seen_images": 5000}
    row = {"seed": 1, "labels_per_class": 20, "images": 190, "runs": 4, "same": True, "nested": None, "own": None}
    unlike["subsets"] = [{**row, "balanced": False}]
    unlike["runs"][5]["provenance"]["start"]["seed_backbone_sha256"] = digest("of another seed")
    book = written(tmp_path, ignored=ignored, unlike=unlike)
    assert texts(entry(book, "ignored"), "proof") == [
        "proof fails for 3 of 15 runs (random / none, seeds 0, 1, 2): labels_per_class 20 promises 200 labelled "
        "images; 5,000 were trained on"
    ]
    assert texts(entry(book, "unlike"), "proof") == [
        "proof fails: runs were not built on the same random weights (seed 2)",
        "proof fails: the images of labels_per_class 20 are not as many of each class (seed 1)",
    ]


def test_runs_that_failed_are_missing_or_stale_and_rehearsals_are_told(tmp_path: Path) -> None:
    results = hand_in("ann")
    for run, status in zip(
        chosen(results, init="rotation", freeze="none"), ("failed", "skipped", "missing"), strict=True
    ):
        error = "init mine was given the weights and left the backbone at its random weights"
        run |= {"status": status, "error": error, "final": None, "history": [], "provenance": {}}
    (stale, *_) = chosen(results, init="random", freeze="none")
    stale["stale"] = "plugin freeze.py changed"
    results["study"]["rehearsal"] = True
    row = entry(written(tmp_path, ann=results), "ann")
    assert texts(row, "not done") == [
        "1 of 15 runs failed (rotation / none, seed 0): "
        "init mine was given the weights and left the backbone at its random weights",
        "1 of 15 runs is skipped, since what they start from failed (rotation / none, seed 1)",
        "1 of 15 runs is not done (rotation / none, seed 2)",
    ]
    assert texts(row, "stale") == ["1 of 15 runs is stale: plugin freeze.py changed"]
    assert texts(row, "rehearsal") == ["a rehearsal: no number in it means anything"]
    assert row.done == 12


# Equal weights


def test_a_copy_with_another_title_is_one_training_and_a_repetition_is_none(tmp_path: Path) -> None:
    first, copy, again = hand_in("ann"), hand_in("ann"), hand_in("ann")
    copy["study"] |= {"title": "My own work", "text": first["study"]["text"].replace("Rotation", "My own rotation")}
    for run in again["runs"]:
        timed_anew(run, "again")
    book = written(tmp_path, ann=first, copy=copy, again=again, fay=hand_in("fay"))
    same = "15 of 15 runs (3 of them pretext runs) came out the same to the bit as in"
    copied = "all of them took the same time to the last digit: one and the same training"
    anew = "none took the same time: trained anew, since equal studies come out the same on equal machines"
    assert texts(entry(book, "copy"), "one training") == [
        f"{same} ann.json; settings are equal in effect, study files differ; {copied}"
    ]
    assert texts(entry(book, "ann"), "one training") == [
        f"{same} copy.json; settings are equal in effect, study files differ; {copied}"
    ]
    assert texts(entry(book, "ann"), "equal") == [
        f"{same} again.json; settings are equal in effect, study files are equal; {anew}"
    ]
    assert [entry(book, name).to_look_at for name in ("ann", "copy", "again", "fay")] == [True, True, False, False]
    assert entry(book, "again").equal_to == ("ann.json", "copy.json")
    assert entry(book, "again").one_training_with == ()
    assert entry(book, "ann").one_training_with == ("copy.json",)
    assert [entry(book, name).equal_runs for name in ("ann", "copy", "again", "fay")] == [15, 15, 15, 0]
    assert entry(book, "fay").findings == ()


#: What is done to some runs of a copy, whose weights stay as they are, and what is said of it.
FORBIDDEN: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda run: run["settings"]["train"].update(lr=0.1), "lr (0.01 against 0.1)"),
    (lambda run: run["settings"]["train"].update(epochs=40), "epochs (4 against 40)"),
    (lambda run: run["settings"]["train"].update(optimizer="sgd"), "optimizer (adam against sgd)"),
    (lambda run: run["settings"]["train"].update(optimizer="sgd", momentum=0.5), "optimizer (adam against sgd)"),
    (lambda run: run["settings"]["model"].update(name="resnet34"), "model (resnet18 against resnet34)"),
    (lambda run: run.update(seed=run["seed"] + 7), "seed (0 against 7)"),
    (lambda run: run.update(device="cuda"), "device (cpu against cuda)"),
    (lambda run: run.update(precision="bf16"), "precision (fp32 against bf16)"),
    (lambda run: run["provenance"].update(updates=9), "updates made (1,564 against 9)"),
    (lambda run: run["provenance"]["data"].update(fingerprint="f" * 64), "data (cifar10 "),
    (lambda run: run["provenance"]["data"].update(subset_sha256="f" * 64), "labelled images"),
    (lambda run: run["provenance"]["start"].update(backbone_sha256="f" * 64), "starting weights"),
    (lambda run: run["provenance"]["freeze"]["phases"][0].update(parts=["layer4"]), "what is trained"),
    (lambda run: run["final"].update(test_accuracy=0.99), "final score (80."),
    (lambda run: [entry.update(lr=0.5) for entry in run["history"]], "learning rate by epoch"),
]
#: The same where it need not change a bit, or has no effect.
ALLOWED: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda run: run["provenance"].update(threads=4), " but for threads (4 against 1)"),
    (lambda run: run["versions"].update(torch="2.15.0"), " but for torch (2.15.0 against 2.14.1)"),
    (lambda run: run["settings"]["train"].update(deterministic=True), " but for deterministic (true against false)"),
    (lambda run: run["settings"]["train"].update(labels_per_class=5000, validation=0.001), ""),
    (lambda run: run["settings"]["train"].update(schedule="step", step_epochs=30), ""),
    (lambda run: run["settings"].update(freeze={"name": "of another name"}), ""),
    (lambda run: run["provenance"]["freeze"].update(phases=[]), ""),
]


def copied(tmp_path: Path, edit: Callable[[dict[str, Any]], Any]) -> Gradebook:
    """Ann's study, and Ben's that is hers with three runs edited: their curves are others, their weights are not."""
    first = hand_in("ann")
    for run in first["runs"]:
        run["settings"]["train"] |= {"deterministic": False, "labels_per_class": None, "validation": 0.0}
    second = deepcopy(first)
    for run in chosen(second, init="random", freeze="none"):
        edit(run)
        run["history"][0]["train_loss"] += 0.5
    return written(tmp_path, ann=first, ben=second)


@pytest.mark.parametrize(("edit", "said"), FORBIDDEN)
def test_equal_weights_of_runs_that_were_made_otherwise_cannot_be(
    tmp_path: Path, edit: Callable[[dict[str, Any]], Any], said: str
) -> None:
    book = copied(tmp_path, edit)
    (text,) = texts(entry(book, "ann"), "impossible")
    assert text.startswith("15 of 15 runs (3 of them pretext runs) came out the same to the bit as in ben.json;")
    assert "; 3 of them were made otherwise, which cannot be, so one side is not what it says: random / none" in text
    assert said in text
    assert len(texts(entry(book, "ben"), "impossible")) == 1
    assert [row.count("impossible") for row in book.entries] == [3, 3]


@pytest.mark.parametrize(("edit", "said"), ALLOWED)
def test_equal_weights_are_told_and_no_more_where_the_difference_may_have_no_effect(
    tmp_path: Path, edit: Callable[[dict[str, Any]], Any], said: str
) -> None:
    book = copied(tmp_path, edit)
    assert [texts(row, "impossible") for row in book.entries] == [[], []]
    (text,) = texts(entry(book, "ben"), "one training")
    assert text.startswith(
        "15 of 15 runs (3 of them pretext runs) came out the same to the bit as in ann.json; "
        f"settings are equal in effect{said}, study files are equal; all of them took the same time"
    )


def test_a_frozen_backbone_is_everybodys_and_is_known_by_its_losses(tmp_path: Path) -> None:
    """Head-only runs end with the weights that they started with, whatever their learning rate."""
    results = {name: hand_in(name) for name in ("ann", "ben", "copy")}
    for one in results.values():
        for run in chosen(one, init="random", freeze="below"):
            made = run["provenance"]
            made["backbone_sha256"] = made["start"]["backbone_sha256"]
            made["freeze"]["trainable_by_stage"] = dict.fromkeys(made["freeze"]["trainable_by_stage"], 0) | {"fc": 5130}
    for run in results["ben"]["runs"]:
        run["settings"]["train"]["lr"] = 0.1
    originals = chosen(results["ben"], init="random", freeze="below")
    for run, original in zip(chosen(results["copy"], init="random", freeze="below"), originals, strict=True):
        run |= {"history": deepcopy(original["history"]), "final": deepcopy(original["final"])}
    book = written(tmp_path, **results)
    assert entry(book, "ann").findings == ()
    (text,) = texts(entry(book, "copy"), "impossible")
    assert text.startswith("3 of 15 runs came out the same to the bit as in ben.json; study files are equal;")
    assert text.endswith("random / below, seeds 0, 1, 2: lr (0.01 against 0.1)")


def test_statistics_that_moved_below_a_trained_head_make_no_trained_backbone(tmp_path: Path) -> None:
    """With batchnorm = "train" they depend on the images alone, and two learning rates give the same."""
    results = {name: hand_in(name) for name in ("ann", "ben")}
    for one in results.values():
        for run in chosen(one, init="random", freeze="below"):
            run["provenance"]["backbone_sha256"] = digest("statistics of the images", run["seed"])
            run["provenance"]["freeze"]["trainable_by_stage"] = {"stem": 0, "layer4": 0, "fc": 5130}
    for run in results["ben"]["runs"]:
        run["settings"]["train"]["lr"] = 0.1
    book = written(tmp_path, **results)
    assert [row.findings for row in book.entries] == [(), ()]


def test_one_page_whose_own_runs_are_copies_of_one_another_is_told(tmp_path: Path) -> None:
    results = hand_in("ann")
    first, second, _ = chosen(results, init="random", freeze="none")
    second["provenance"]["backbone_sha256"] = first["provenance"]["backbone_sha256"]
    (text,) = texts(entry(written(tmp_path, ann=results), "ann"), "impossible")
    assert "random / none, seed 0 and random / none, seed 1: " in text
    assert "seed (0 against 1)" in text


def test_weights_that_were_trained_by_somebody_else_are_told(tmp_path: Path) -> None:
    """Ben starts from Ann's pretext weights, and has no pretext run of his own."""
    first, second = hand_in("ann"), hand_in("ben")
    second["runs"] = [run for run in second["runs"] if run["kind"] == "downstream"]
    weights = {run["seed"]: run["provenance"]["backbone_sha256"] for run in first["runs"] if run["kind"] == "pretext"}
    for run in chosen(second, init="rotation"):
        run["provenance"]["start"] |= {"backbone_sha256": weights[run["seed"]], "parent_backbone_sha256": None}
        run["needs"] = []
    book = written(tmp_path, ann=first, ben=second)
    assert texts(entry(book, "ben"), "taken") == [
        "6 runs start from weights that were trained in ann.json and in no run of its own"
    ]
    assert entry(book, "ann").findings == ()


def test_many_equal_hand_ins_are_told_in_one_line_each(tmp_path: Path) -> None:
    """A class in one room, with one study file: nothing to look at, and no list of pairs."""
    results = {name: hand_in("ann") for name in NAMES}
    for name, one in results.items():
        for run in one["runs"]:
            timed_anew(run, name)
    book = written(tmp_path, **results)
    for row in book.entries:
        assert [finding.kind for finding in row.findings] == ["equal"]
        assert not row.to_look_at
        assert len(row.equal_to) == 9
    assert "as in ben.json, cleo.json, dora.json and 6 more; settings" in book.entries[0].findings[0].text
    assert book.in_sum == "10 hand-ins: 10 in order, 0 to look at"


# Thresholds and plugins


def test_thresholds_are_met_by_all_seeds_or_not(tmp_path: Path) -> None:
    met, short, undone = hand_in("met"), hand_in("short"), hand_in("undone")
    chosen(short, init="rotation", freeze="below")[1]["final"]["test_accuracy"] = 0.59
    for run in chosen(undone, init="rotation", freeze="below"):
        run |= {"status": "missing", "final": None, "history": [], "provenance": {}}
    met["study"]["references"].append(
        {"pretext": "rotation", "test_accuracy": 0.7, "source": "the assignment", "at_least": True}
    )
    book = written(tmp_path, met=met, short=short, undone=undone)
    told = {row.name: [threshold.text for threshold in row.thresholds] for row in book.entries}
    limit = "rotation / below, at least 60.00\N{NO-BREAK SPACE}%"
    assert told == {
        "met.json": [
            f"{limit}: met, 3 of 3 seeds",
            "pretext rotation, at least 70.00\N{NO-BREAK SPACE}%: met, 3 of 3 seeds",
        ],
        "short.json": [f"{limit}: not met, 2 of 3 seeds"],
        "undone.json": [f"{limit}: not met, not measured yet"],
    }
    assert [row.met for row in book.entries] == [2, 0, 0]
    assert book.in_sum.endswith("; 2 miss a threshold")


def use(results: Results, name: str, code: str, origin: str = "file mine.py") -> Results:
    results["study"]["plugins"].append(
        {"kind": "pretext task", "name": name, "summary": "", "origin": origin, "sha256": digest(code)}
    )
    return results


def test_plugins_that_are_not_what_the_class_has_are_told(tmp_path: Path) -> None:
    results = {name: use(hand_in(name), "vflip", "as given") for name in NAMES[:5]}
    results["ben"]["study"]["plugins"][0]["sha256"] = digest("a rotation that cheats")
    results["cleo"]["study"]["plugins"][-1]["sha256"] = digest("another vflip")
    use(results["dora"], "mine", "dora's own")
    use(results["emil"], "ours", "shared")
    results["fay"] = use(hand_in("fay"), "ours", "shared")
    book = written(tmp_path, **results)
    told = {row.name: [(finding.text, finding.grave) for finding in row.findings] for row in book.entries}
    most, cheats = book.entries[0].plugins[0].sha256[:12], digest("a rotation that cheats")[:12]
    given, another = digest("as given")[:12], digest("another vflip")[:12]
    own, shared = digest("dora's own")[:12], f"ours (file mine.py, {digest('shared')[:12]})"
    assert told == {
        "ann.json": [],
        "ben.json": [
            (f"pretext task rotation (shipped, {cheats}) is not the code that most hand-ins have ({most})", True)
        ],
        "cleo.json": [
            (f"pretext task vflip (file mine.py, {another}) is not the code that most hand-ins have ({given})", True)
        ],
        "dora.json": [(f"pretext task mine (file mine.py, {own}) does not ship", False)],
        "emil.json": [(f"pretext task {shared} does not ship; fay.json has the very same code", False)],
        "fay.json": [(f"pretext task {shared} does not ship; emil.json has the very same code", False)],
    }
    (note,) = book.notes
    assert note.startswith("pretext task vflip: 4 of 5 hand-ins that use it have one code")
    # Alone it is held against what ships.
    alone = gradebook([tmp_path / "ben.json"])
    assert "is not the code that ships with this rotbench" in alone.entries[0].findings[0].text


def test_a_class_with_another_rotbench_is_told_once(tmp_path: Path) -> None:
    results = {name: hand_in(name) for name in NAMES[:4]}
    for one in results.values():
        one["rotbench"] = "0.0.9"
        one["study"]["plugins"][0]["sha256"] = digest("rotation.py of 0.0.9")
    book = written(tmp_path, **results)
    assert [row.findings for row in book.entries] == [()] * 4
    assert book.notes == (
        f"pretext task rotation: 4 of 4 hand-ins that use it have one code, {digest('rotation.py of 0.0.9')[:12]}, "
        "which is not one that ships with this rotbench",
        f"4 hand-ins were made with rotbench 0.0.9; this is {__version__}",
    )


# What is read


def test_pages_json_stores_and_folders_of_them_are_one_row_each(tmp_path: Path) -> None:
    whole = hand_in("ann")
    write_page(tmp_path / "in", "page", whole)
    write_json(tmp_path / "in", "saved", whole)
    write_store(tmp_path / "in" / "store", whole)
    write_store(tmp_path / "in" / "with-study" / "results", whole)
    (tmp_path / "in" / "with-study" / "plugins").mkdir()
    (tmp_path / "in" / "with-study" / "study.toml").write_text("")
    (tmp_path / "in" / "rotbench.schema.json").write_text("{}")
    (tmp_path / "in" / ".hidden.html").write_text("")
    (tmp_path / "in" / "nothing").mkdir()
    (tmp_path / "in" / "essay.html").write_text("<p>My essay</p>")
    redrawn = tmp_path / "in" / "redrawn"
    write_json(redrawn, "results", whole)
    write_page(redrawn, "report", whole)
    copied = write_store(tmp_path / "in" / "without-runs", whole).folder
    (copied / "report.html").write_bytes((redrawn / "report.html").read_bytes())
    shutil.rmtree(copied / "runs")
    book = gradebook([tmp_path / "in", tmp_path / "in" / "page.html"])
    names = (
        "essay.html",
        "nothing",
        "page.html",
        "redrawn",
        "saved.json",
        "store",
        "with-study/results",
        "without-runs",
    )
    assert tuple(row.name for row in book.rows) == names
    assert {row.name: row.reason for row in book.unread} == {
        "essay.html": "is not rotbench's",
        "nothing": "holds no study and no results",
    }
    assert len({tuple((one.key, one.n, one.mean) for one in row.accuracies) for row in book.entries}) == 1
    # Whatever it is read from, it is one training.
    assert all(len(row.one_training_with) == 5 for row in book.entries)


def test_browsers_number_what_they_download_and_none_of_it_is_lost(tmp_path: Path) -> None:
    for name, file in (("ann", "report"), ("ben", "report (1)"), ("cleo", "report (2)")):
        write_page(tmp_path, file, hand_in(name))
    assert [row.name for row in gradebook([tmp_path]).entries] == ["report (1).html", "report (2).html", "report.html"]


def test_studies_that_were_never_run_half_done_or_failed_are_rows(tmp_path: Path) -> None:
    never, half, failed, empty = (hand_in(name) for name in NAMES[:4])
    for run in never["runs"]:
        run |= {"status": "missing", "final": None, "history": [], "provenance": {}, "train_seconds": None}
    for run in failed["runs"]:
        run |= {"status": "failed", "error": "no", "final": None, "history": [], "provenance": {}}
    for run in [run for run in half["runs"] if run["seed"] == 2]:
        run |= {"status": "missing", "final": None, "history": [], "provenance": {}}
    empty["runs"] = []
    book = written(tmp_path, never=never, half=half, failed=failed, empty=empty)
    rows = {
        row.name: (row.done, [one.n for one in row.accuracies], [v.mark for v in row.verdicts]) for row in book.entries
    }
    assert rows == {
        "empty.json": (0, [], []),
        "failed.json": (0, [0] * 4, ["nothing to compare yet"] * 2),
        "half.json": (10, [2] * 4, ["2 of 3 seeds"] * 2),
        "never.json": (0, [0] * 4, ["nothing to compare yet"] * 2),
    }
    assert all(row.to_look_at for row in book.entries)
    assert Page(gradebook_page(book)).open == []


def test_what_cannot_be_read_says_why_and_stops_nobody(tmp_path: Path) -> None:
    whole = hand_in("ann")
    write_json(tmp_path, "good", whole)
    newer, odd, deep, strange = (deepcopy(whole) for _ in range(4))
    newer["format"] = 99
    for run in strange["runs"]:
        run["provenance"]["backbone_sha256"] = run["provenance"]["start"]["backbone_sha256"] = [1]
        run["settings"]["train"] |= {"momentum": "much", "optimizer": "sgd" if run["seed"] else {}}
    odd["runs"][0]["provenance"]["start"] = {}
    inner: list[Any] = []
    for _ in range(400):
        inner = [inner]
    deep["runs"][0]["provenance"]["deep"] = inner
    for name, one in (("newer", newer), ("odd", odd), ("deep", deep), ("strange", strange)):
        write_json(tmp_path, name, one)
    (tmp_path / "torn.json").write_text((tmp_path / "good.json").read_text()[:1000])
    (tmp_path / "picture.html").write_bytes(b"\xff\xfe\x00\x9b")
    changed = deepcopy(whole)
    changed["runs"][3]["device"] = 3
    write_store(tmp_path / "changed", changed)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "study.json").write_text('{"format": 1}')
    book = gradebook([tmp_path, tmp_path / "gone.html"])
    reasons = {row.name: row.reason for row in book.unread}
    expected = {
        "newer.json": "was written by a newer rotbench (format 99",
        "odd.json": "holds results that cannot be summed up: KeyError: 'equals_parent'",
        "torn.json": "is damaged: no JSON at line 1",
        "picture.html": "holds no text",
        "store": "store/study.json is damaged",
        "changed": "is damaged: runs.3.device: input should be a valid string",
        "gone.html": "there is no file gone.html",
    }
    for name, words in expected.items():
        assert reasons.pop(name).startswith(words), name
    # How deep is too deep is Python's affair; and what is strange is read or not, and harms nobody.
    assert reasons.keys() <= {"deep.json", "strange.json"}
    assert "good.json" in [row.name for row in book.entries]
    assert not any(str(tmp_path) in row.reason for row in book.unread)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_told(tmp_path: Path) -> None:
    path = write_json(tmp_path, "secret", hand_in("ann"))
    path.chmod(0)
    assert "cannot be read" in gradebook([path]).unread[0].reason


# What is shown


def test_csv_is_the_summaries_numbers_and_nothing_else(folder: Path, book: Gradebook) -> None:
    done = collate(folder, "--csv")
    assert (done.exit_code, done.stderr) == (0, "")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert tuple(rows[0])[: len(CSV_COLUMNS)] == CSV_COLUMNS
    assert [row["file"] for row in rows] == [f"{name}.html" for name in NAMES]
    checked = 0
    for told, row in zip(rows, book.rows, strict=True):
        if isinstance(row, Unread):
            assert (told["file"], told["error"]) == (row.name, row.reason)
            assert {value for name, value in told.items() if name not in ("file", "error")} == {""}
            continue
        for one in row.accuracies:
            label = book.columns[alike(one.variant)]
            assert float(told[f"mean: {label}"]) == one.mean
            assert int(told[f"n: {label}"]) == one.n
            checked += 1
        assert told["seeds"] == "0 1 2"
        assert (int(told["runs"]), int(told["done"])) == (15, 15)
        assert (int(told["thresholds"]), int(told["thresholds_met"])) == (1, 1)
        assert told["verdicts"].startswith("rotation / none against random / none: ")
    assert checked == 9 * 4
    problems = {row["file"]: (row["failed_proofs"], row["confounded"], row["to_look_at"]) for row in rows}
    assert problems["ben.html"] == ("3", "0", "2")  # and its contrast compares nothing
    assert problems["cleo.html"] == ("0", "1", "1")
    assert problems["dora.html"] == ("0", "0", "1")
    assert problems["ann.html"] == ("0", "0", "0")


def test_a_text_that_a_spreadsheet_would_compute_is_text(tmp_path: Path) -> None:
    results = hand_in("ann")
    results["study"]["title"] = '=HYPERLINK("http://x","y")'
    write_json(tmp_path, "=1+1", results)
    (row,) = csv.DictReader(io.StringIO(collate(tmp_path, "--csv").stdout))
    assert (row["file"], row["title"]) == ("'=1+1.json", '\'=HYPERLINK("http://x","y")')


@pytest.mark.parametrize("text", [*HOSTILE, "\x1b[2J\x9b31m\r\n\t\x07\u202e[red]x[/red]"])
def test_hostile_names_are_text_on_a_terminal_and_on_the_page(tmp_path: Path, text: str) -> None:
    results = hand_in("ann")
    results["study"]["title"] = results["study"]["dataset"]["name"] = text
    results["study"]["plugins"][0] |= {"name": text, "origin": text, "kind": text, "sha256": "0" * 64}
    results["study"]["references"][-1]["source"] = text
    for run in chosen(results, init="rotation"):
        run["variant"]["init"] = text
        run |= {"status": "failed", "error": text}
    write_json(tmp_path, "ann", results)
    write_json(tmp_path, "ben", hand_in("ben"))
    (tmp_path / "na\x1b[31mme.html").write_text("no")
    done = collate(tmp_path, "--to", tmp_path / "all.html")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert all(letter.isprintable() or letter == "\N{NO-BREAK SPACE}" for line in lines for letter in line)
    plain = " ".join(one_line(text).split())
    assert plain in " ".join(done.stdout.split())
    page = Page((tmp_path / "all.html").read_text())
    assert page.open == []
    assert [len(page.all(tag)) for tag in ("script", "img", "b")] == [1, 0, 0]
    assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on")]
    assert plain in page.text
    assert not set("\x1b\x9b\x07\u202e") & set((tmp_path / "all.html").read_text())
    assert collate(tmp_path, "--csv").exit_code == 0


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_a_terminal_also_where_every_study_is_another(tmp_path: Path, width: int) -> None:
    results = {name: hand_in(name) for name in NAMES[:3]}
    for place, one in enumerate(results.values()):
        for run in one["runs"]:
            if run["kind"] == "downstream":
                run["variant"]["lr"] = 10.0**-place
    for many in (results, {name: hand_in(name) for name in NAMES}):
        file = io.StringIO()
        book = written(tmp_path / str(len(many)), **many)
        Console(file=file, width=width).print(gradebook_table(book, width))
        lines = file.getvalue().splitlines()
        assert max(map(len, lines)) <= width
        assert "…" not in file.getvalue()
        for row in book.entries:
            (line,) = [line for line in lines if line.startswith(row.name)]
            assert f"{row.accuracies[0].mean:.1%}".replace("%", "\N{NO-BREAK SPACE}%") in line
    assert len(lines) == 2 + 10  # variants that a class shares have a column each, and a hand-in has one line


def test_the_page_says_what_the_table_says_and_loads_nothing(folder: Path, book: Gradebook, tmp_path: Path) -> None:
    target = tmp_path / "new" / "class.html"
    done = collate(folder, "--to", target)
    assert done.stdout.splitlines()[-1] == target.as_uri()
    html = target.read_text()
    page = Page(html)
    assert page.open == []
    for _, said in SAID.values():
        assert said in page.text
    for row in book.entries:
        for verdict in row.verdicts:
            assert " ".join(verdict.sentence.split()) in page.text
    values = [float(attrs["data-value"] or "") for attrs in page.all("td") if "data-value" in attrs]
    assert [value for value in values if 0 < value < 1] == [
        row.by_variant[key][0].mean for row in book.entries for key in book.columns
    ]
    assert str(folder.parent) not in html
    linked = [value or "" for _, attrs in page.elements for name, value in attrs.items() if name in ("src", "href")]
    assert len(linked) == 4 + 10
    assert all(value.startswith("#") for value in linked)
    # The same hand-ins from another place give the same bytes.
    moved = tmp_path / "elsewhere"
    folder.rename(moved)
    try:
        assert collate(moved, "--to", tmp_path / "again.html").exit_code == 0
    finally:
        moved.rename(folder)
    assert (tmp_path / "again.html").read_bytes() == target.read_bytes()


def test_the_page_lies_among_the_hand_ins_and_is_none_of_them(tmp_path: Path) -> None:
    for name in NAMES[:2]:
        write_json(tmp_path, name, hand_in(name))
    target = tmp_path / "class.html"
    assert collate(tmp_path, "--to", target).exit_code == 0
    first = target.read_bytes()
    assert collate(*sorted(tmp_path.iterdir()), "--to", target).exit_code == 0
    assert target.read_bytes() == first
    # A hand-in is not written over, nor anything else that is not such a page.
    page = write_page(tmp_path, "cleo", hand_in("cleo"))
    before = page.read_bytes()
    for there in (page, tmp_path):
        done = command(tmp_path, "collate", "ann.json", "--to", str(there))
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.splitlines() == [
            f"error: {there} is there and was not written by collate",
            "Give another file with --to.",
        ]
    assert page.read_bytes() == before


@pytest.mark.thorough
def test_the_page_sorts_and_filters_in_a_browser(folder: Path, tmp_path: Path) -> None:
    assert collate(folder, "--to", tmp_path / "class.html").exit_code == 0
    with started() as browser:
        seen = opened(context(browser), tmp_path / "class.html")
        names = (
            "[...document.querySelectorAll('#table-hand-ins tbody tr:not(.filtered-out) th')].map(x => x.textContent)"
        )
        assert seen.run(names) == [f"{name}.html" for name in NAMES]
        proofs = seen.page.locator("#table-hand-ins th button", has_text="failed proofs")
        proofs.click()
        proofs.click()
        assert seen.run(names)[0] == "ben.html"
        assert seen.run(names)[-1] == "emil.html"  # what has no number stands last
        seen.page.fill(".filter input", "confounded")
        assert seen.run(names) == ["cleo.html"]
        assert seen.complaints == []
        assert seen.requests == [(tmp_path / "class.html").as_uri()]


# The command


def test_the_command_without_a_readable_hand_in_ends_with_code_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()

    def ended(*arguments: str) -> tuple[str, list[str]]:
        with pytest.raises(SystemExit) as end:
            main(["collate", *arguments])
        assert end.value.code == 2
        assert [path.name for path in tmp_path.iterdir()] == ["empty"]
        told = capsys.readouterr()
        return told.out, told.err.splitlines()

    assert ended() == (
        "",
        ["error: no hand-ins are given", "Give pages, results folders, or a folder that holds them."],
    )
    none = "Give pages or results that rotbench wrote."
    out, err = ended("gone.html", "--to", "class.html")
    assert "there is no file gone.html" in out
    assert err == ["error: none of 1 hand-in can be read", none]
    out, err = ended("empty", "gone.html", "--csv")
    assert [(row["file"], row["error"]) for row in csv.DictReader(io.StringIO(out))] == [
        ("empty", "holds no study and no results"),
        ("gone.html", "there is no file gone.html"),
    ]
    assert err == ["error: none of 2 hand-ins can be read", none]


def test_the_command_in_a_process_of_its_own(folder: Path) -> None:
    done = command(folder, "collate", *(f"{name}.html" for name in NAMES))
    assert (done.returncode, done.stderr) == (0, "")
    assert "10 hand-ins: 6 in order, 3 to look at, 1 not read" in done.stdout
    for _, said in SAID.values():
        assert said in done.stdout
    assert "FILES are pages" in collate("--help").stdout


def test_reading_a_class_loads_no_torch_and_draws_nothing(folder: Path) -> None:
    assert not loaded_by(["collate", "ann.html", "ben.html"], folder) & {
        "torch",
        "torchvision",
        "sklearn",
        "matplotlib",
    }
