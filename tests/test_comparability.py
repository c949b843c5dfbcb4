"""What two sides differ in: each kind of difference alone, on finished runs and on planned ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from rotbench import comparability, compare, recipe, report
from rotbench.answer import comparability_rows, sentences
from rotbench.comparability import AS_BUILT, Difference, also_differs
from rotbench.contrast import Contrast
from rotbench.plan import make_plan
from rotbench.preview import incomparable
from rotbench.registry import load_registry
from rotbench.settings import TrainSettings
from rotbench.source import parse_source
from rotbench.store import run_record
from rotbench.study import understand
from rotbench.summary import summary
from tests import simulated

Results = dict[str, Any]
Run = dict[str, Any]

TRAIN = {**asdict(TrainSettings()), "milestones": [], "augment": ["crop", "flip"], "test_each_epoch": True}
RANDOM, ROTATION = {"init": "random", "freeze": "none"}, {"init": "rotation", "freeze": "none"}
BELOW = {"name": "below", "stage": "layer4", "batchnorm": "eval"}


def study(seeds: int = 3, second: str = "", freeze: Any = "none") -> Results:
    """Random weights against a pretext run, or two pretext runs (the second is the baseline), everything resolved."""
    results = simulated.results(seeds=seeds)
    first = [run for run in results["runs"] if run["variant"].get("freeze", "none") == "none"]
    if second:
        others = []
        for run in first:
            variant = run["variant"]
            if variant.get("pretext") == "rotation" or variant.get("init") == "random":
                name = {"pretext": second} if run["kind"] == "pretext" else {"init": second, "freeze": "none"}
                level = run["final"]["test_accuracy"]
                others.append(
                    simulated.run(run["kind"], name, run["seed"], level, 0.3, 45 if "pretext" in name else 20)
                )
        first = [run for run in first if run["variant"].get("init") != "random"] + others
        results["study"]["pretexts"][second] = {**results["study"]["pretexts"]["rotation"], "task": second}
        results["study"]["baseline"] = {"init": second}
    results["runs"] = first
    for run in results["runs"]:
        run["variant"] = dict(run["variant"])
        run["settings"]["train"] = {**deepcopy(TRAIN), "epochs": run["settings"]["train"]["epochs"]}
        if run["kind"] == "pretext":
            run["settings"] |= {"task": {"name": run["variant"]["pretext"]}, "init": {"name": "random"}}
        else:
            run["variant"]["freeze"] = freeze
            run["settings"]["freeze"] = freeze if isinstance(freeze, dict) else {"name": freeze}
    return results


def side(results: Results, init: str = "rotation") -> list[Run]:
    return [run for run in results["runs"] if run["variant"].get("init") == init]


def pretext(results: Results, name: str = "rotation") -> list[Run]:
    return [run for run in results["runs"] if run["variant"].get("pretext") == name]


def only(results: Results) -> Contrast:
    (contrast,) = compare.contrasts(results)
    return contrast


def told(contrast: Contrast, role: str) -> list[tuple[str, str, str]]:
    return [(item.setting, item.variant, item.baseline) for item in contrast.comparability if item.role == role]


def setting(table: str, **values: Any) -> Callable[[Run], None]:
    def change(run: Run) -> None:
        run["settings"][table] |= values

    return change


def kept(**values: Any) -> Callable[[Run], None]:
    def change(run: Run) -> None:
        run["provenance"] |= values

    return change


def field(**values: Any) -> Callable[[Run], None]:
    def change(run: Run) -> None:
        run |= values

    return change


def data(**values: Any) -> Callable[[Run], None]:
    def change(run: Run) -> None:
        run["provenance"]["data"] |= values

    return change


def version(name: str, value: str) -> Callable[[Run], None]:
    def change(run: Run) -> None:
        run["versions"][name] = value

    return change


def train(**values: Any) -> Callable[[Run], None]:
    return setting("train", **values)


SGD, FEW = train(optimizer="sgd"), train(labels_per_class=10)

#: Name of the confound, what is done to the pretrained side, both values, and what is done to all runs before.
CONFOUNDS: list[tuple[str, Callable[[Run], None], str, str, Callable[[Run], None] | None]] = [
    ("epochs", train(epochs=30), "30", "20", None),
    ("batch_size", train(batch_size=64), "64", "128", None),
    ("lr", train(lr=0.001), "0.001", "0.01", None),
    ("schedule", train(schedule="cosine"), "cosine", "step by 0.1 every 10 epochs", None),
    ("schedule", train(step_epochs=5), "step by 0.1 every 5 epochs", "step by 0.1 every 10 epochs", None),
    ("schedule", train(gamma=0.5), "step by 0.5 every 10 epochs", "step by 0.1 every 10 epochs", None),
    ("schedule", train(milestones=[8, 9]), "step by 0.1 after epochs 8 and 9", "step by 0.1 every 10 epochs", None),
    (
        "schedule",
        train(warmup_epochs=2),
        "step by 0.1 every 10 epochs after a warm-up of 2",
        "step by 0.1 every 10 epochs",
        None,
    ),
    ("optimizer", SGD, "sgd with momentum 0.9", "adam", None),
    ("optimizer", train(momentum=0.5), "sgd with momentum 0.5", "sgd with momentum 0.9", SGD),
    ("optimizer", train(nesterov=True), "sgd with Nesterov momentum 0.9", "sgd with momentum 0.9", SGD),
    ("weight_decay", train(weight_decay=0.0005), "0.0005", "0", None),
    ("augment", train(augment=["crop"]), "crop", "crop and flip", None),
    ("augment", train(augment=[]), "none", "crop and flip", None),
    ("updates", train(updates="epochs"), "epochs", "constant", FEW),
    ("updates made", kept(updates=11), "11", "7,820", None),
    ("labels_per_class", FEW, "10", "all", None),
    ("validation", train(validation=0.1), "0.1", "0", None),
    ("deterministic", train(deterministic=True), "true", "false", None),
    ("skip_padding", train(skip_padding=False), "false", "true", None),
    ("model", setting("model", name="resnet34"), "resnet34", "resnet18", None),
    ("stem", setting("model", stem="cifar"), "cifar", "imagenet", None),
    ("freeze", setting("freeze", name="head-only"), "head-only", "none", None),
    ("labelled images", data(subset_sha256="0"), "one choice", "another", None),
    (
        "data",
        data(fingerprint="0123456789abcdef"),
        "cifar10 0123456789ab",
        "cifar10 " + simulated.digest("data")[:12],
        None,
    ),
    ("device", field(device="cuda:1"), "cuda", "cpu", None),
    ("precision", field(precision="bf16"), "bf16", "fp32", None),
    ("threads", kept(threads=4), "4", "1", None),
    ("torch", version("torch", "2.15.0"), "2.15.0", "2.14.1", None),
    ("torchvision", version("torchvision", "0.30.0"), "0.30.0", "0.29.1", None),
    ("code or data", field(stale="plugin freeze.py changed"), "stale: plugin freeze.py changed", "current", None),
]


@pytest.mark.parametrize(("name", "change", "variant", "baseline", "before"), CONFOUNDS)
def test_each_thing_that_a_contrast_does_not_name_is_a_confound(
    name: str, change: Callable[[Run], None], variant: str, baseline: str, before: Callable[[Run], None] | None
) -> None:
    results = study()
    for run in side(results) + side(results, "random"):
        if before:
            before(run)
    assert only(results).verdict == "not resolved"
    quiet = only(results)
    for run in side(results):
        change(run)
    contrast = only(results)
    assert told(contrast, "confound") == [(name, variant, baseline)]
    assert (contrast.verdict, contrast.reason) == (None, "confounded")
    assert (contrast.interval, contrast.p_t, contrast.p_holm) == (quiet.interval, quiet.p_t, quiet.p_holm)
    (said,) = sentences(results, [contrast])
    link = "against" if " " in variant + baseline else "and"
    assert f"; no verdict, since they also differ in {name} ({variant} {link} {baseline})." in said.text
    assert not any(word in said.text for word in (" above ", " below ", " beats ", "level with"))
    (row,) = summary(results)["contrasts"]
    assert row["comparability"]["confounds"] == [
        {"setting": name, "variant": variant, "baseline": baseline, "seeds": []}
    ]
    # What both sides have is no difference.
    for run in side(results, "random"):
        change(run)
    assert only(results).comparability == quiet.comparability


def test_every_setting_and_surrounding_has_been_a_confound() -> None:
    tried = {name for name, *_ in CONFOUNDS}
    everything = {*recipe.PLAIN, *recipe.JOINT, *recipe.SURROUNDINGS}
    assert everything | {"stem", "updates", "freeze", "precision", "code or data"} == tried
    assert (len(tried), len(CONFOUNDS)) == (24, 31)


def test_sides_that_differ_in_the_axis_alone_are_quiet() -> None:
    contrast = only(study())
    assert told(contrast, "axis") == [("init", "rotation", "random")]
    assert told(contrast, "consequence") == [("pretraining", "rotation: task rotation, 45 epochs", "none")]
    assert told(contrast, "confound") == []
    results = simulated.results()
    assert [item.confounds for item in compare.contrasts(results)] == [()] * 2
    (said, _) = sentences(results, compare.contrasts(results))
    assert "also differ" not in said.text


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (train(test_each_epoch=False), "when the test images are looked at"),
        (version("python", "3.14.0"), "Python computes nothing"),
        (version("rotbench", "9.9"), "results_version says what changed"),
        (field(device="cpu:0"), "another device of one kind"),
        (train(momentum=0.5, nesterov=True), "Adam has no momentum of this kind"),
        (train(lr=0.010), "a number written in another way"),
    ],
)
def test_what_changes_no_result_is_no_confound(change: Callable[[Run], None], why: str) -> None:
    results = study()
    for run in side(results):
        change(run)
    assert only(results).confounds == (), why


def test_what_one_side_does_not_know_is_no_difference() -> None:
    """Stores of an earlier version lack fields, here one after the other those of the whole record of one side."""
    paths = [
        ("provenance", "data", "subset_sha256"),
        ("provenance", "data", "fingerprint"),
        ("provenance", "data"),
        ("provenance", "threads"),
        ("provenance", "updates"),
        ("provenance", "freeze", "phases"),
        ("provenance",),
        ("versions", "torch"),
        ("versions",),
        ("device",),
        ("precision",),
        ("stale",),
        ("needs",),
        *[("settings", "train", key) for key in TRAIN],
        ("settings", "train"),
        ("settings", "model"),
    ]
    for path in paths:
        results = study()
        for run in side(results):
            table = run
            for key in path[:-1]:
                table = table[key]
            del table[path[-1]]
        runs = comparability.known(results["runs"], results["study"]["pretexts"], ["init"])
        found = comparability.differences(ROTATION, RANDOM, runs)
        assert comparability.confounds(found) == (), path
    assert len(paths) > 30


def test_what_changed_between_two_seeds_for_both_sides_is_no_confound() -> None:
    results = study(seeds=4)
    for run in side(results) + side(results, "random"):
        if run["seed"] > 1:
            run["versions"]["torch"] = "2.15.0"
    assert only(results).confounds == ()
    side(results)[0]["versions"]["torch"] = "2.15.0"
    side(results)[3]["versions"]["torch"] = "2.14.1"
    assert only(results).confounds == (
        Difference("torch", "confound", "2.15.0", "2.14.1", (0,)),
        Difference("torch", "confound", "2.14.1", "2.15.0", (3,)),
    )
    (said,) = sentences(results, compare.contrasts(results))
    assert "torch (2.15.0 and 2.14.1, in seed 0) and torch (2.14.1 and 2.15.0, in seed 3)" in said.text


def test_what_differs_in_all_seeds_that_are_done_is_told_without_their_numbers() -> None:
    results = study()
    for run in side(results):
        run["versions"]["torch"] = "2.15.0"
    side(results)[1] |= {"status": "missing", "final": None, "history": [], "provenance": {}, "versions": {}}
    assert only(results).confounds == (Difference("torch", "confound", "2.15.0", "2.14.1"),)


def test_repeats_are_paired_too() -> None:
    results = study()
    results["study"]["repeats"] = 2
    results["runs"] += [
        {**deepcopy(run), "id": f"{run['id']}r1", "repeat": 1, "device": "cuda:0"}
        for run in side(results) + side(results, "random")
    ]
    assert only(results).confounds == ()
    next(run for run in results["runs"] if run.get("repeat") and run["seed"] == 1)["device"] = "cpu"
    assert only(results).confounds == (Difference("device", "confound", "cpu", "cuda", (1,)),)


@pytest.mark.parametrize("what", ["one seed", "incomplete", "one of three", "diverged", "nothing", "exploratory"])
def test_confounds_are_told_whatever_else_keeps_a_contrast_from_a_verdict(what: str) -> None:
    results = study(seeds=1 if what == "one seed" else 3)
    for run in side(results):
        run["settings"]["train"]["batch_size"] = 64
        missing = {"incomplete": (0,), "one of three": (0, 1), "nothing": (0, 1, 2)}.get(what, ())
        if run["seed"] in missing:
            run |= {"status": "missing", "final": None, "history": [], "provenance": {}, "versions": {}, "device": None}
    if what == "diverged":
        side(results)[0] |= {"status": "failed", "diverged": True, "final": None}
    if what == "exploratory":
        results["study"]["primary"] = {"init": "other"}
    contrast = only(results)
    reasons = {
        "incomplete": "2 of 3 seeds",
        "one of three": "1 of 3 seeds",
        "nothing": "nothing to compare yet",
        "exploratory": "confounded",
    }
    assert (contrast.verdict, contrast.reason) == (None, reasons.get(what, what))
    assert told(contrast, "confound") == [("batch_size", "64", "128")]
    (said,) = sentences(results, [contrast])
    assert "they also differ in batch_size (64 and 128)" in said.text
    assert not any(word in said.text for word in (" above ", " below ", "level with"))
    assert ("no verdict, since" in said.text) == (what == "exploratory")
    if what == "one seed":
        assert "points, from one seed; they also differ in batch_size (64 and 128). The test set's" in said.text


# Consequences


def test_a_pretraining_of_one_side_is_what_the_init_names_and_of_nothing_else() -> None:
    results = study()
    assert told(only(results), "consequence")[0][0] == "pretraining"
    results["study"]["baseline"] = {"freeze": "none"}
    for run in side(results):
        run["variant"]["init"] = "random"  # a variant that is not what its settings are
        run["variant"]["freeze"] = "head-only"
    # A twin in all but its init's settings, which no axis names.
    for run in results["runs"]:
        if run["kind"] == "downstream":
            run["settings"]["freeze"] = {"name": run["variant"]["freeze"]}
    names = [name for name, _, _ in told(only(results), "confound")]
    assert names == ["init", "pretraining"]


def test_what_is_trained_follows_from_the_freeze_policy_and_from_no_init_of_one_network() -> None:
    results = simulated.results()
    results["study"]["baseline"] = {"freeze": "none"}
    for contrast in compare.contrasts(results):
        assert told(contrast, "consequence") == [
            ("trained", "layer4 and fc, 8,398,858 parameters", "everything, 11,181,642 parameters")
        ]
        assert contrast.confounds == ()
        assert told(contrast, "axis") == [("freeze", "below", "none")]
    results["study"]["baseline"] = {"labels_per_class": 10}
    for run in results["runs"]:
        if run["kind"] == "downstream":
            run["variant"] = {"init": run["variant"]["init"], "freeze": "none", "labels_per_class": 10}
    results["runs"] = [run for run in results["runs"] if run["kind"] == "downstream"]
    for run in results["runs"]:
        if run["settings"]["freeze"]["name"] == "below":
            run["variant"]["labels_per_class"] = 20
    assert [[item.setting for item in contrast.confounds] for contrast in compare.contrasts(results)] == [
        ["freeze"],
        ["freeze"],
    ]
    for run in results["runs"]:
        run["settings"]["freeze"] = {"name": "none"}
    for contrast in compare.contrasts(results):
        assert [item.setting for item in contrast.confounds] == ["trained"]


def test_the_number_of_updates_follows_from_an_axis_that_changes_it() -> None:
    results = study()
    results["study"]["baseline"] = {"batch_size": 128}
    results["runs"] = side(results) + side(results, "random")
    for run in results["runs"]:
        size = 64 if run["variant"]["init"] == "rotation" else 128
        run["variant"] = {"init": "random", "freeze": "none", "batch_size": size}
        run["settings"] |= {"init": {"name": "random"}}
        run["settings"]["train"]["batch_size"] = size
        run["needs"] = []
        run["provenance"]["updates"] = 50048 // size * 20
    contrast = only(results)
    assert told(contrast, "axis") == [("batch_size", "64", "128")]
    assert told(contrast, "consequence") == [("updates made", "15,640", "7,820")]
    assert contrast.confounds == ()


def test_labels_that_are_the_axis_explain_other_labelled_images() -> None:
    results = study()
    results["study"]["baseline"] = {"labels_per_class": 10}
    for run in side(results) + side(results, "random"):
        few = 100 if run["variant"]["init"] == "rotation" else 10
        run["variant"] = {"init": "random", "freeze": "none", "labels_per_class": few}
        run["settings"]["init"] = {"name": "random"}
        run["settings"]["train"]["labels_per_class"] = few
        run["provenance"]["data"]["subset_sha256"] = str(few)
        run["needs"] = []
    contrast = only(results)
    assert told(contrast, "axis") == [("labels_per_class", "100", "10")]
    assert contrast.confounds == ()


def test_tuned_settings_are_each_sides_own_best_and_no_confound() -> None:
    results = study()
    runs = []
    for run in side(results) + side(results, "random"):
        for lr in (0.1, 0.01):
            copy = deepcopy(run)
            copy["variant"]["lr"] = copy["settings"]["train"]["lr"] = lr
            best = 0.1 if run["variant"]["init"] == "rotation" else 0.01
            copy["final"]["validation_accuracy"] = 0.8 if lr == best else 0.7
            runs.append(copy)
    results["runs"] = pretext(results) + runs
    results["study"]["tune"] = ["lr"]
    *same, tuned = compare.contrasts(results)
    assert [item.comparison for item in same] == ["same settings"] * 2
    assert all(("lr", "0.1", "0.01") not in told(item, "consequence") for item in same)
    assert (tuned.comparison, tuned.confounds) == ("tuned", ())
    assert ("lr", "0.1", "0.01") in told(tuned, "consequence")
    assert tuned.verdict is not None


@pytest.mark.parametrize(
    ("stretched", "confounded"),
    [
        ({"step_epochs": 32}, False),
        ({"step_epochs": 10}, False),
        ({"step_epochs": 20}, True),
        ({"step_epochs": 32, "gamma": 0.5}, True),
        ({"step_epochs": 32, "batch_size": 64}, True),
    ],
)
def test_epochs_and_their_schedule_follow_from_matched_compute(stretched: dict[str, Any], confounded: bool) -> None:
    results = study()
    partner = {**RANDOM, "compute_matched": 65}
    for run in side(results, "random"):
        copy = deepcopy(run) | {"variant": partner, "id": f"matched-{run['seed']}"}
        copy["settings"]["train"] |= {"epochs": 65, **stretched}
        copy["provenance"] |= {"epochs": 65, "updates": 391 * 65}
        results["runs"].append(copy)
    results["study"]["matched"] = [{"variant": ROTATION, "partner": partner}]
    _, matched = compare.contrasts(results)
    names = [name for name, _, _ in told(matched, "consequence")]
    assert ("epochs", "20", "65") in told(matched, "consequence")
    assert bool(matched.confounds) == confounded
    assert (matched.reason == "confounded") == confounded
    if stretched == {"step_epochs": 32}:
        assert names == ["epochs", "updates made", "schedule", "pretraining"]
        (_, said) = sentences(results, compare.contrasts(results))
        assert "also differ" not in said.text


# BatchNorm and labels


def frozen(statistics: str = "") -> Results:
    """The study with all but layer4 and the head frozen, BatchNorm in eval mode on both sides."""
    results = study(freeze=BELOW)
    for run in side(results) + side(results, "random"):
        below = {"stem": 0, "layer1": 0, "layer2": 0, "layer3": 0, "layer4": 8393728, "fc": 5130}
        run["provenance"]["freeze"] |= {
            "batchnorm": "eval",
            "phases": [{"first": 1, "parts": ["layer4", "fc"], "parameters": 8398858}],
            "trainable_by_stage": below,
        }
        if statistics == "origins":
            where = "parent" if run["variant"]["init"] == "rotation" else "random"
            run["provenance"]["start"]["origins"] = {where: ["stem", "layer1", "layer2", "layer3", "layer4"]}
        if statistics == "without phases":
            del run["provenance"]["freeze"]["phases"]
    return results


@pytest.mark.parametrize("statistics", ["", "origins", "without phases"])
def test_frozen_statistics_that_no_image_made_are_a_confound(statistics: str) -> None:
    contrast = only(frozen(statistics))
    assert told(contrast, "confound") == [("BatchNorm statistics", "of the pretraining", AS_BUILT)]
    (said,) = sentences(frozen(statistics), [contrast])
    assert 'batchnorm = "calibrated" or "train"' in " ".join(said.notes)
    for mode in ("calibrated", "train"):
        results = frozen(statistics)
        for run in side(results) + side(results, "random"):
            run["provenance"]["freeze"]["batchnorm"] = mode
        assert only(results).confounds == ()
    results = frozen(statistics)
    for run in side(results) + side(results, "random"):  # BatchNorm is trained, nothing else is
        run["provenance"]["freeze"] |= {
            "phases": [{"first": 1, "parts": ["BatchNorm", "fc"], "parameters": 14730}],
            "trainable_by_stage": dict.fromkeys(simulated.STAGES, 1),
        }
    assert only(results).confounds == ()


def test_an_init_that_leaves_statistics_as_built_is_told_by_where_its_tensors_are_from() -> None:
    results = frozen("origins")
    for run in side(results):
        run["provenance"]["start"]["origins"] = {"init": ["conv1.weight"], "random": ["bn1.running_mean"]}
    (difference,) = only(results).confounds
    assert difference.variant == f"set by the init, but {AS_BUILT} in stem"
    # Weights of a file and those of a pretext run are two starts, and both have statistics of images.
    everywhere = ["stem", "layer1", "layer2", "layer3", "layer4"]
    for run in side(results):
        run["provenance"]["start"]["origins"] = {"init": everywhere}
    assert told(only(results), "confound") == [("BatchNorm statistics", "set by the init", AS_BUILT)]
    for run in side(results, "random"):
        run["provenance"]["start"]["origins"] = {"parent": everywhere}
    assert only(results).confounds == ()
    for run in side(results, "random"):
        run["provenance"]["start"]["origins"] = {"random": everywhere}
    for run in side(results):
        names = [f"layer{number}.0.bn1.running_var" for number in (1, 2, 3)]
        run["provenance"]["start"]["origins"] = {"init": ["conv1.weight"], "random": ["bn1.running_mean", *names]}
    assert only(results).confounds == ()
    for run in side(results):  # an earlier store, an init that set convolutions alone: nobody knows
        del run["provenance"]["start"]["origins"]
        run["provenance"]["start"] |= {"claimed": 20, "tensors": 120, "equals_parent": None}
    assert only(results).confounds == ()


@pytest.mark.parametrize(
    ("policy", "mode", "confounded"),
    [("below", "train", False), ("only", "train", True), ("only", "eval", False)],
)
def test_another_mode_of_batchnorm_is_the_axis_alone_or_a_confound(policy: str, mode: str, confounded: bool) -> None:
    results = frozen()
    results["study"]["baseline"] = {"freeze": BELOW}
    results["runs"] = side(results) + side(results, "random")
    other = {**BELOW, "name": policy, "batchnorm": mode}
    for run in results["runs"]:
        if run["variant"]["init"] == "rotation":
            run["variant"]["freeze"] = run["settings"]["freeze"] = other
            run["provenance"]["freeze"]["batchnorm"] = mode
            run["provenance"]["start"] |= {"claimed": 0, "backbone_sha256": simulated.digest("backbone", run["seed"])}
        run["variant"]["init"] = "random"
        run["settings"]["init"], run["needs"] = {"name": "random"}, []
    contrast = only(results)
    assert told(contrast, "confound") == ([("BatchNorm mode", mode, "eval")] if confounded else [])
    assert [name for name, _, _ in told(contrast, "axis")] == ["freeze"]
    if policy == "only" and confounded:  # where one side freezes no BatchNorm, its mode says nothing
        for run in results["runs"]:
            if run["variant"]["freeze"] == other:
                run["provenance"]["freeze"]["phases"][0]["parts"] = ["BatchNorm", "fc"]
        assert only(results).confounds == ()


# The same weights on both sides


@pytest.mark.parametrize("seeds", [1, 3])
def test_sides_that_start_from_the_same_weights_compare_nothing(seeds: int) -> None:
    results = study(seeds=seeds)
    for run in side(results)[1:]:
        run["provenance"]["start"]["backbone_sha256"] = simulated.digest("backbone", run["seed"])
    assert only(results).same_start is False
    run = side(results)[0]
    run["provenance"]["start"]["backbone_sha256"] = simulated.digest("backbone", run["seed"])
    contrast = only(results)
    assert contrast.same_start
    assert (contrast.verdict, contrast.reason) == (None, "one seed" if seeds == 1 else "same start")
    (said,) = sentences(results, [contrast])
    assert "nothing is compared, since both start from the very same weights" in said.text
    assert not any(word in said.text for word in (" above ", " below ", "level with"))
    for run in side(results):  # a confound beside it is told, and the start is the reason
        run["settings"]["train"]["batch_size"] = 64
    assert only(results).reason == contrast.reason
    assert "they also differ in batch_size" in sentences(results, compare.contrasts(results))[0].text
    results["study"]["baseline"] = {"init": "random", "lr": 0.1}
    for run in results["runs"]:
        if run["kind"] == "downstream":
            run["variant"]["lr"] = 0.1 if run["variant"]["init"] == "random" else 0.2
    assert only(results).same_start is False


# Two pretrained sides, as planned

TWO = """
seeds = [0, 1]
[train]
epochs = 10
[pretext.one]
task = "rotation"
{one}
[pretext.two]
task = "{task}"
{two}
{more}
[[matrix]]
init = [{inits}]
[report]
baseline = {{ init = "two" }}
"""


def planned(
    one: str = "", two: str = "", task: str = "rotation", more: str = "", inits: str = '"one", "two"', **told: Any
) -> list[tuple[str, str, str, str]]:
    """What the first init differs in from "two", in a plan of this text: role, setting and both values."""
    text = TWO.format(one=one, two=two, task=task, more=more, inits=inits)
    read, faults = understand(parse_source(text, "e.toml"), Path())
    plan = make_plan(read, faults, load_registry([]), Path())
    pretexts = {"two": {"augments": task == "simclr"}, **told}
    runs = comparability.known([run_record(run) for run in plan.runs], pretexts, ["init"])
    variants = [dict(run.variant) for run in plan.runs if run.kind == "downstream"][:2]
    found = comparability.differences(variants[0], variants[1], runs)
    return [(item.role, item.setting, item.variant, item.baseline) for item in found if item.role != "axis"]


OTHER_TASK = ("consequence", "pretraining task", "rotation", "reconstruction")


@pytest.mark.parametrize(
    ("one", "two", "task", "expected"),
    [
        ("", "", "reconstruction", [OTHER_TASK]),
        ("", "epochs = 20", "rotation", [("consequence", "pretraining epochs", "10", "20")]),
        ("lr = 0.1", "", "rotation", [("consequence", "pretraining lr", "0.1", "0.01")]),
        ("", "epochs = 20", "reconstruction", [OTHER_TASK, ("confound", "pretraining epochs", "10", "20")]),
        ("lr = 0.1", "", "reconstruction", [OTHER_TASK, ("confound", "pretraining lr", "0.1", "0.01")]),
        ("batch_size = 32", "", "reconstruction", [OTHER_TASK, ("confound", "pretraining batch_size", "32", "128")]),
        (
            'optimizer = "sgd"',
            "",
            "reconstruction",
            [OTHER_TASK, ("confound", "pretraining optimizer", "sgd with momentum 0.9", "adam")],
        ),
        (
            "",
            'augment = ["crop", "flip"]',
            "reconstruction",
            [OTHER_TASK, ("confound", "pretraining augment", "crop", "crop and flip")],
        ),
        (
            'schedule = "cosine"',
            "",
            "reconstruction",
            [OTHER_TASK, ("confound", "pretraining schedule", "cosine", "step by 0.1 every 10 epochs")],
        ),
        (
            "lr = 0.1",
            "epochs = 20",
            "rotation",
            [("confound", "pretraining lr", "0.1", "0.01"), ("confound", "pretraining epochs", "10", "20")],
        ),
        # A schedule that is stretched with the epochs is no second difference.
        (
            "step_epochs = 5",
            "epochs = 20\nstep_epochs = 10",
            "rotation",
            [("consequence", "pretraining epochs", "10", "20")],
        ),
        (
            "step_epochs = 5",
            "epochs = 20\nstep_epochs = 6",
            "rotation",
            [
                ("confound", "pretraining epochs", "10", "20"),
                ("confound", "pretraining schedule", "step by 0.1 every 5 epochs", "step by 0.1 every 6 epochs"),
            ],
        ),
        (
            "milestones = [5, 8]\nwarmup_epochs = 1",
            "epochs = 20\nmilestones = [10, 16]\nwarmup_epochs = 2",
            "rotation",
            [("consequence", "pretraining epochs", "10", "20")],
        ),
        # A task that augments by itself brings its augmentation with it, whatever its settings say.
        (
            "",
            "",
            "simclr",
            [
                ("consequence", "pretraining task", "rotation", "simclr"),
                ("consequence", "pretraining augment", "crop", "by the task itself"),
            ],
        ),
        (
            "",
            "augment = []\nepochs = 20",
            "simclr",
            [
                ("consequence", "pretraining task", "rotation", "simclr"),
                ("consequence", "pretraining augment", "crop", "by the task itself"),
                ("confound", "pretraining epochs", "10", "20"),
            ],
        ),
        ("", "", "rotation", []),
    ],
)
def test_of_two_pretrainings_the_init_names_one_difference(
    one: str, two: str, task: str, expected: list[tuple[str, str, str, str]]
) -> None:
    found = planned(one, two, task)
    assert sorted(found) == sorted(expected)


def test_chains_of_pretext_runs_are_compared_step_by_step() -> None:
    more = '[pretext.first]\ntask = "reconstruction"\n[pretext.other]\ntask = "reconstruction"\nepochs = 30\n'
    chain = planned('init = "first"', 'init = "other"', more=more)
    assert chain == [("consequence", "earlier pretraining epochs", "10", "30")]
    chain = planned('init = "first"\nlr = 0.1', 'init = "other"', more=more)
    assert sorted(chain) == [
        ("confound", "earlier pretraining epochs", "10", "30"),
        ("confound", "pretraining lr", "0.1", "0.01"),
    ]
    chain = planned('init = "first"', 'init = "other"', "colourisation", more)
    assert sorted(chain) == [
        ("confound", "earlier pretraining epochs", "10", "30"),
        ("consequence", "pretraining task", "rotation", "colourisation"),
    ]
    chain = planned('init = "first"', "", more=more)
    assert chain == [("consequence", "earlier pretraining", "first: task reconstruction, 10 epochs", "none")]
    chain = planned('init = "first"', 'init = "first"', "reconstruction", more=more)
    assert chain == [OTHER_TASK]
    chain = planned('init = "kaiming"', "", more=more)
    assert [item[:2] for item in chain] == [("consequence", "pretraining init")]


@pytest.mark.parametrize("name", ["permuted", "partial"])
def test_an_init_that_treats_the_same_weights_in_another_way_is_the_axis_alone(name: str) -> None:
    assert planned(inits=f'{{ name = "{name}", pretext = "two" }}, "two"') == []
    # Other weights and another way to use them are two things.
    assert planned(task="reconstruction", inits=f'{{ name = "{name}", pretext = "one" }}, "two"') == [
        ("confound", "pretraining task", "rotation", "reconstruction")
    ]


def test_other_updates_follow_from_what_changes_them_in_pretraining_too() -> None:
    results = study(second="simclr")
    for run in pretext(results):
        run["settings"]["train"]["batch_size"] = 64
        run["provenance"]["updates"] *= 2
    assert told(only(results), "confound") == [("pretraining batch_size", "64", "128")]


@pytest.mark.parametrize(
    ("name", "change", "variant", "baseline"),
    [
        ("device", field(device="cuda:0"), "cuda", "cpu"),
        ("precision", field(precision="bf16"), "bf16", "fp32"),
        ("threads", kept(threads=4), "4", "1"),
        ("torch", version("torch", "2.15.0"), "2.15.0", "2.14.1"),
        ("torchvision", version("torchvision", "0.30.0"), "0.30.0", "0.29.1"),
        ("data", data(fingerprint="0" * 16), "cifar10 000000000000", "cifar10 " + simulated.digest("data")[:12]),
        ("labelled images", data(subset_sha256="0"), "one choice", "another"),
        ("updates made", kept(updates=11), "11", "17,595"),
    ],
)
def test_where_a_pretraining_was_made_is_never_what_an_init_names(
    name: str, change: Callable[[Run], None], variant: str, baseline: str
) -> None:
    results = study(second="simclr")
    quiet = only(results)
    assert told(quiet, "consequence") == [("pretraining task", "rotation", "simclr")]
    assert (quiet.confounds, quiet.reason) == ((), None)
    for same_task in (False, True):
        if same_task:
            for run in pretext(results, "simclr"):
                run["settings"]["task"] = {"name": "rotation"}
        for run in pretext(results):
            change(run)
        assert told(only(results), "confound") == [(f"pretraining {name}", variant, baseline)]


def test_the_pretraining_of_a_stale_run_is_known_by_its_settings_alone() -> None:
    results = study(second="simclr")
    for run in side(results) + side(results, "simclr"):
        run |= {"stale": "plugin rotation.py changed", "needs": ["gone"]}
        run["settings"]["init"] = {"name": "pretext", "pretext": run["variant"]["init"]}
    for run in pretext(results):
        run |= {"device": "cuda:0"}
    assert only(results).confounds == ()
    for run in pretext(results):
        run["settings"]["train"]["epochs"] = 100
    assert told(only(results), "confound") == [("pretraining epochs", "100", "45")]


# The page, JSON and the plan


def test_the_page_has_a_row_a_contrast_with_what_also_differs() -> None:
    results = simulated.results()
    for run in results["runs"]:
        if run["variant"].get("init") == "rotation" and run["variant"]["freeze"] == "none":
            run["versions"]["torch"] = "<b>2.15.0</b>"
    contrasts = compare.contrasts(results)
    rows = comparability_rows(results, contrasts)
    assert [(row.variant, row.baseline, bool(row.confounds)) for row in rows] == [
        ("rotation / none", "random / none", True),
        ("rotation / below", "random / below", False),
    ]
    template = report.environment().get_template("parts/comparability.html.j2")
    html = template.render(comparability=rows, counts={"done": 1})
    assert "1 of 2 contrasts differs in more than it names." in html
    assert "<strong>not comparable:</strong> torch (&lt;b&gt;2.15.0&lt;/b&gt; and 2.14.1)" in html
    assert html.count("<tr>") == 3
    assert html.count("<td>nothing</td>") == 1
    quiet = template.render(comparability=rows[1:], counts={"done": 1})
    assert "The sides of the one contrast differ in what the contrast names" in quiet
    assert "alarm" not in quiet
    assert "no contrast" in template.render(comparability=[], counts={"done": 1})


def test_the_summary_lists_axis_consequences_and_confounds_as_json() -> None:
    results = study()
    (row,) = json.loads(json.dumps(summary(results)))["contrasts"]
    assert row["comparability"] == {
        "axis": [{"setting": "init", "variant": "rotation", "baseline": "random", "seeds": []}],
        "consequences": [
            {"setting": "pretraining", "variant": "rotation: task rotation, 45 epochs", "baseline": "none", "seeds": []}
        ],
        "confounds": [],
    }


def test_confounded_contrasts_count_in_the_family() -> None:
    results = simulated.results()
    before = [item.p_holm for item in compare.contrasts(results)]
    for run in results["runs"]:
        if run["variant"].get("init") == "rotation" and run["variant"]["freeze"] == "none":
            run["device"] = "cuda:0"
    confounded, other = compare.contrasts(results)
    assert [confounded.p_holm, other.p_holm] == before
    assert (confounded.reason, other.verdict) == ("confounded", "higher")


def test_differences_are_listed_as_a_sentence_has_them() -> None:
    one = Difference("torch", "confound", "2.14.1", "2.15.0", (2,))
    two = Difference("pretraining epochs", "confound", "45", "100")
    three = Difference("device", "confound", "cpu", "cuda", (0, 1, 4))
    assert also_differs([two]) == "pretraining epochs (45 and 100)"
    assert also_differs([two, one, three]) == (
        "pretraining epochs (45 and 100), torch (2.14.1 and 2.15.0, in seed 2) and "
        "device (cpu and cuda, in seeds 0, 1 and 4)"
    )


def plan_lines(text: str, only: tuple[str, ...] = ()) -> list[str]:
    read, faults = understand(parse_source(text, "e.toml"), Path())
    return incomparable(make_plan(read, faults, load_registry([]), Path(), only))


def test_a_plan_says_what_will_not_compare_once_a_set_of_confounds() -> None:
    text = TWO.format(one="", two="epochs = 20", task="reconstruction", more="", inits='"one", "two"')
    line = "one against two also differs in pretraining epochs (10 and 20): no verdict"
    assert plan_lines(text) == [line]
    assert plan_lines(text.replace("[report]", 'freeze = ["none", "batchnorm-only"]\n[report]')) == [
        "one, none against two, none and 1 more contrast also differ in pretraining epochs (10 and 20): no verdict"
    ]
    assert plan_lines(text, ("init=one",)) == []
    for own in ("", "augment = []"):
        assert plan_lines(TWO.format(one="", two=own, task="simclr", more="", inits='"one", "two"')) == []
    assert (
        len(plan_lines(TWO.format(one="", two="augment = []", task="reconstruction", more="", inits='"one", "two"')))
        == 1
    )


@pytest.mark.parametrize(
    ("inits", "freeze", "batchnorm", "expected"),
    [
        ('"random", "rotation"', "head-only", "eval", True),
        ('"random", "rotation"', "head-only", "calibrated", False),
        ('"random", "rotation"', "head-only", "train", False),
        ('"random", "rotation"', "none", "eval", False),
        ('"random", "rotation"', "batchnorm-only", "eval", False),
        ('"random", "rotation"', "gradual", "eval", True),
        ('"random", "kaiming"', "head-only", "eval", False),
    ],
)
def test_a_plan_knows_statistics_that_no_image_will_have_made(
    inits: str, freeze: str, batchnorm: str, expected: bool
) -> None:
    text = f"""[pretext.rotation]\ntask = "rotation"\n[[matrix]]\ninit = [{inits}, "rotation"]
freeze = {{ name = "{freeze}", batchnorm = "{batchnorm}" }}\n[report]\nbaseline = {{ init = "random" }}""".replace(
        '"rotation", "rotation"', '"rotation"'
    )
    lines = [line for line in plan_lines(text) if "kaiming" in line or "kaiming" not in inits]
    assert [AS_BUILT in line and "calibrated" in line for line in lines] == [True] * expected


def test_a_plan_does_not_claim_to_know_what_an_init_leaves_as_built() -> None:
    """One that sets weights by the images sets running statistics too; that is recorded when it has done so."""
    text = """[pretext.rotation]\ntask = "rotation"\n[[matrix]]\ninit = ["rotation", "INIT"]\nfreeze = "head-only"
[report]\nbaseline = { init = "rotation" }"""
    assert plan_lines(text.replace("INIT", "data-dependent")) == []
    assert (
        plan_lines(
            text.replace('"rotation", "INIT"', '"random", "data-dependent"').replace('"rotation" }', '"random" }')
        )
        == []
    )
    assert len(plan_lines(text.replace("INIT", "random"))) == 1


def test_a_plan_knows_labels_and_matched_partners() -> None:
    text = """[train]\nepochs = 4\n[pretext.knows]\ntask = "supervised"\n[pretext.dealt]\ntask = "shuffled-labels"
[[matrix]]\ninit = ["random", "knows", "dealt"]{few}\n[report]\ncompute_matched = true"""
    assert plan_lines(text.format(few="")) == []
    both = text.replace('"random", "knows", "dealt"', '"knows", {{ name = "permuted", pretext = "knows" }}')
    baseline = '[report]\nbaseline = {{ init = "knows" }}\n'
    assert (
        plan_lines(
            both.replace("[report]", baseline)
            .replace("compute_matched = true", "")
            .format(few="\nlabels_per_class = 10")
        )
        == []
    )
    (line,) = plan_lines(text.format(few="\nlabels_per_class = 10"))
    assert line == (
        "knows against random and 1 more contrast also differ in labels (of all images against 10 a class): no verdict"
    )
