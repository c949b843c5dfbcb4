"""What two studies differ in, and what is said of it: one thing is named, of several none."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from rotbench.changes import Change, causes, change_rows, changes
from rotbench.joined import shared
from rotbench.outcome import Outcome, Said, cautions, counted, limits, outcome, sentences
from rotbench.versus import pretexts, versus
from tests import simulated
from tests.two_studies import NAMES, Results, Run, again, runs_of, study, unpair

BOTH = {name: [0.80, 0.81, 0.79] for name in (NAMES[0], NAMES[2])}
RANDOM, ROTATION = 0, 1  # the places of the two variants


def found(a: Results, b: Results) -> list[tuple[Change, ...]]:
    return changes(a, b, versus(a, b, shared(a, b)))


def words(of: tuple[Change, ...]) -> list[tuple[str, str, str]]:
    return [(change.setting, change.a, change.b) for change in of]


def shifted(results: Results, by: float = 0.02) -> Results:
    """The same study a second time, every run more accurate, by a little more at each seed."""
    other = again(results)
    for run in other["runs"]:
        run["final"]["test_accuracy"] += by * (1 + 0.01 * run["seed"])
    return other


def setting(key: str, value: Any, part: str = "train") -> Callable[[Run], None]:
    return lambda run: run["settings"][part].update({key: value})


def recorded(**values: Any) -> Callable[[Run], None]:
    return lambda run: run.update(values)


def version(name: str, value: str) -> Callable[[Run], None]:
    return lambda run: run["versions"].update({name: value})


def proved(part: str, key: str, value: Any) -> Callable[[Run], None]:
    return lambda run: run["provenance"][part].update({key: value})


ALL: dict[str, tuple[Callable[[Run], None], str, str]] = {
    "lr": (setting("lr", 0.001), "0.01", "0.001"),
    "epochs": (setting("epochs", 30), "2", "30"),
    "batch_size": (setting("batch_size", 64), "128", "64"),
    "optimizer": (setting("optimizer", "adamw"), "adam", "adamw"),
    "schedule": (setting("schedule", "cosine"), "step", "cosine"),
    "stem": (setting("stem", "cifar", "model"), "imagenet", "cifar"),
    "model": (setting("name", "resnet34", "model"), "resnet18", "resnet34"),
    "device": (recorded(device="cuda:1"), "cpu", "cuda"),
    "precision": (recorded(precision="bf16"), "fp32", "bf16"),
    "torch": (version("torch", "2.15.0"), "2.14.1", "2.15.0"),
    "torchvision": (version("torchvision", "0.30.0"), "0.29.1", "0.30.0"),
    "rotbench": (version("rotbench", "0.2.0"), "0.1.0", "0.2.0"),
    "threads": (lambda run: run["provenance"].update(threads=4), "1", "4"),
    "code or data": (
        recorded(stale="pretext task rotation changed"),
        "current",
        "stale: pretext task rotation changed",
    ),
}


@pytest.mark.parametrize(("name", "case"), ALL.items())
def test_each_thing_that_differs_is_found_and_is_one_cause(
    name: str, case: tuple[Callable[[Run], None], str, str]
) -> None:
    change, of_a, of_b = case
    a = study(BOTH)
    assert found(a, again(a)) == [(), ()]
    b = again(a)
    for run in b["runs"]:
        change(run)
    of = found(a, b)
    assert words(of[RANDOM]) == [(name, of_a, of_b)]
    assert words(of[ROTATION])[0] == (name, of_a, of_b)
    assert len(causes(of[ROTATION])) == 1, "in training and pretraining it is one change"
    assert found(b, a)[RANDOM] == (Change(name, of[RANDOM][0].of, of_b, of_a),)


def test_what_pretraining_alone_differs_in_is_a_cause_of_what_starts_from_it() -> None:
    a, b = study(BOTH), again(study(BOTH))
    for run in b["runs"]:
        if run["kind"] == "pretext":
            run["settings"]["train"]["epochs"] = 90
    of = found(a, b)
    assert of[RANDOM] == ()
    assert words(causes(of[ROTATION])) == [("pretraining epochs", "2", "90")]
    (row,) = change_rows(a, b, of, changes(a, b, pretexts(a, b, shared(a, b))))
    assert (row.change.setting, row.variants, row.pretexts) == ("epochs", (), (0,))


def test_the_same_change_of_all_runs_is_one_row_of_the_table() -> None:
    a, b = study(BOTH), again(study(BOTH))
    for run in b["runs"]:
        run["settings"]["train"]["lr"] = 0.1
    (row,) = change_rows(a, b, found(a, b), changes(a, b, pretexts(a, b, shared(a, b))))
    assert (words((row.change,)), row.variants, row.pretexts) == ([("lr", "0.01", "0.1")], (0, 1), (0,))


def test_a_change_in_some_seeds_is_told_with_them() -> None:
    a, b = study(BOTH), again(study(BOTH))
    runs_of(b, NAMES[0])[1]["device"] = "cuda"
    assert found(a, b)[RANDOM] == (Change("device", "machine", "cpu", "cuda", seeds=(1,)),)
    # Where seeds are no pairs, theirs are not told apart, and every run of either side counts.
    b = again(study(BOTH, (0, 1, 5)))
    runs_of(b, NAMES[0])[2]["device"] = "cuda"
    assert found(a, b)[RANDOM] == (Change("device", "machine", "cpu", "cuda", some=True),)
    b = again(study(BOTH, (7, 8, 9)))
    for run in (*a["runs"], *b["runs"]):
        run["provenance"]["data"]["subset_sha256"] = simulated.digest("subset", run["seed"])
    of = found(a, b) + changes(a, b, pretexts(a, b, shared(a, b)))
    assert of == [(), (), ()], "the draws of other seeds are no change"


def test_code_of_plugins_is_compared_by_hash_for_the_runs_that_use_it() -> None:
    accuracies = {name: [0.8, 0.81] for name in NAMES}
    a, b = study(accuracies), again(study(accuracies))
    for run in (*a["runs"], *b["runs"]):
        if run["kind"] == "pretext":
            run["settings"]["task"] = {"name": "rotation"}
    b["study"]["plugins"][0]["sha256"] = "1" * 64
    b["study"]["plugins"][1]["sha256"] = "2" * 64
    task = ("code of pretext task rotation", simulated.digest("rotation.py")[:12], "1" * 12)
    policy = ("code of freeze policy below", simulated.digest("freeze.py")[:12], "2" * 12)
    assert [words(of) for of in found(a, b)] == [[], [policy], [task], [policy, task]]
    # Plugins of one file are one change.
    for results, digest in ((a, "3"), (b, "4")):
        for plugin in results["study"]["plugins"]:
            plugin["sha256"] = digest * 64
    merged = "code of freeze policy below and pretext task rotation"
    assert words(causes(found(a, b)[3])) == [(merged, "3" * 12, "4" * 12)]


def test_the_version_of_python_is_told_and_is_no_cause() -> None:
    a, b = study(BOTH), shifted(study(BOTH))
    for run in b["runs"]:
        run["versions"]["python"] = "3.13.0"
    of = found(a, b)
    assert words(of[RANDOM]) == [("python", "3.11.7", "3.13.0")]
    assert causes(of[RANDOM]) == ()
    said = said_of(a, b)[RANDOM]
    assert said.notes == (
        "Nothing that is recorded differs but python, which changes no number, so what made the difference is not "
        "known.",
    )


def test_study_files_are_compared_by_what_runs_do_not_tell() -> None:
    a, b = study(BOTH), again(study(BOTH, (0, 1, 2)))
    b["study"] |= {"title": "Another", "file": "other.toml", "seeds": [0, 1, 2, 4], "repeats": 2, "margin": 0.005}
    b["study"]["changed"] = ["train.lr=0.1"]
    rows = change_rows(a, b, found(a, b), [])
    assert {row.change.of for row in rows} == {"study"}
    assert words(tuple(row.change for row in rows)) == [
        ("title", "Rotation pretraining on CIFAR-10", "Another"),
        ("file", "experiments.toml", "other.toml"),
        ("changed on the command line", "nothing", "train.lr=0.1"),
        ("seeds", "0 to 2", "0, 1, 2 and 4"),
        ("repeats", "1", "2"),
        ("margin", "1 point", "0.5 points"),
    ]


# Sentences


def compared(a: Results, b: Results) -> Outcome:
    return outcome(a, b, ("one", "two"))


def said_of(a: Results, b: Results) -> list[Said]:
    return sentences(compared(a, b))


def plain(said: Said) -> str:
    return said.text.replace("\N{NO-BREAK SPACE}", " ")


def test_one_change_is_named_and_several_are_not_given_the_credit() -> None:
    a, b = study(BOTH), shifted(study(BOTH))
    for run in b["runs"]:
        run["settings"]["train"]["lr"] = 0.001
    random, rotation = said_of(a, b)
    assert (random.tone, random.mark, random.notes) == ("higher", "higher", ())
    assert plain(random) == (
        "random: B is 2.0 points above A, with lr 0.001 instead of 0.01 (95 % t interval of paired differences 2.0 to "
        "2.1, n = 3 seeds, p < 0.001 after Holm over 2 variants; assuming normal differences)."
    )
    assert "with lr 0.001 instead of 0.01 in training and pretraining (" in rotation.text
    for run in b["runs"]:
        run["device"] = "cuda"
    for said in said_of(a, b):
        assert not any(word in said.text for word in ("with", "because", "lr", "cuda"))
        assert said.notes == ("2 things differ, so what each of them does cannot be told: lr and device.",)
    assert "What each of several changes did." in limits(compared(a, b))[0]


def test_nothing_that_differs_is_said() -> None:
    a = study(BOTH)
    assert said_of(a, shifted(a))[0].notes == (
        "Nothing that is recorded differs, so what made the difference is not known.",
    )
    same = said_of(a, again(a))[0]
    assert plain(same) == "random: the same to the last digit in 3 of 3 seeds, and so are the trained backbones."
    assert (same.tone, same.mark, same.notes) == ("equivalent", "the same", ("Nothing that is recorded differs.",))
    assert counted(compared(a, again(a))) == "Of 2 variants in both studies: 2 the same to the last digit."


def test_what_is_the_same_though_something_changed_names_it() -> None:
    a, b = study(BOTH), again(study(BOTH))
    for run in b["runs"]:
        run["versions"]["torch"] = "2.15.0"
        run["provenance"].pop("backbone_sha256")
    assert plain(said_of(a, b)[0]) == (
        "random: the same to the last digit in 3 of 3 seeds, with torch 2.15.0 instead of 2.14.1."
    )
    one = [study({NAMES[0]: [0.8]}, second=second) for second in (1.0, 2.0)]
    assert plain(said_of(*one)[0]) == (
        "random: the same to the last digit in 1 of 1 seed, and so are the trained backbones; no verdict: one seed in "
        "A and B, which tells nothing of others."
    )


def test_every_kind_of_result_has_its_words() -> None:
    a = study({NAMES[0]: [0.80, 0.81, 0.79]})
    b = study({NAMES[0]: [0.803, 0.809, 0.80]})
    assert plain(said_of(a, b)[0]).startswith(
        "random: +0.4 points (95 % t interval of paired differences \N{MINUS SIGN}1.0 to 1.8, n = 3 seeds, p = 0.34); "
        "to see a difference of 1.0 points with 80 % power: about "
    )
    near = study({NAMES[0]: [0.8005, 0.8101, 0.7902]})
    assert plain(said_of(a, near)[0]).startswith(
        "random: B and A differ by less than the margin of 1.0 points: +0.03 points (90 % t interval of paired "
        "differences \N{MINUS SIGN}0.008 to "
    )
    welch = said_of(a, unpair(study({NAMES[0]: [0.9, 0.91, 0.89, 0.9, 0.9]})))[0]
    assert "95 % t interval of Welch's t" in welch.text
    assert "n = 3 and 5 seeds" in welch.text
    assert "; assuming normal accuracies)." in welch.text
    assert welch.notes[-1] == "Seeds are not paired: at seed 0 the head is not the same."
    more = said_of(a, study({NAMES[0]: [0.85, 0.861, 0.84, 0.9, 0.9]}))[0]
    assert more.notes[-1] == "Left out of the difference, for want of a partner: seeds 3 and 4 of B."
    equal = said_of(a, study({NAMES[0]: [0.85, 0.86, 0.84]}, second=8.0))[0]
    assert plain(equal) == (
        "random: +5.0 points (n = 3 seeds); no verdict: all seeds differ by the same amount, which leaves no spread to "
        "judge it by."
    )
    copied = said_of(a, deepcopy(a))[0]
    assert copied.notes[-1] == ("Nothing was trained anew: these runs are the same trainings, read from two places.")
    other = study({NAMES[0]: [0.85, 0.86, 0.84]})
    for run in other["runs"]:
        run["provenance"]["data"]["fingerprint"] = "another"
    assert "no verdict: the two were scored on other images" in said_of(a, other)[0].text
    assert "no verdict: 2 of 3 seeds in B." in said_of(a, missing(study({NAMES[0]: [0.8, 0.81, 0.79]})))[0].text
    nothing = study({NAMES[0]: [0.8]})
    assert said_of(a, missing(nothing))[0].text == "random: nothing to compare yet (0 of 1 seeds in B)."


def missing(results: Results) -> Results:
    runs_of(results, NAMES[0])[-1].update({"status": "missing", "final": None, "history": [], "provenance": {}})
    return results


def test_what_must_be_known_first_is_said_first() -> None:
    a, b = study(BOTH), again(study(BOTH))
    assert cautions(compared(a, b)) == []
    b["study"] |= {"margin": 0.02, "looks": [[0, 1]], "rehearsal": True}
    runs_of(b, NAMES[2])[0]["provenance"]["start"]["equals_parent"] = False
    told = cautions(compared(a, b))
    assert [text.partition(":")[0] for text in told] == [
        "Do not use the numbers of B",
        "B is a rehearsal",
        "B",
        "The margin of A, 1 point, is used for all verdicts; that of B is 2 points.",
    ]
    assert "were added after the results of" in told[2] or "was added after the results of" in told[2]


def test_labels_are_titles_with_names_and_letters_where_the_titles_are_one() -> None:
    a, b = study(BOTH), again(study(BOTH))
    assert compared(a, b).study_labels == ("A: one", "B: two")
    b["study"]["title"] = "Another"
    assert compared(a, b).study_labels == ("Rotation pretraining on CIFAR-10 (one)", "Another (two)")
