"""What a study cannot say: the questions that its readers will ask of it, and what would answer them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rotbench.compare import Results, Run, as_written
from rotbench.contrast import Contrast, VariantSummary
from rotbench.looks import looked
from rotbench.recipe import part
from rotbench.wording import points


def limits(results: Results, summaries: Sequence[VariantSummary], contrasts: Sequence[Contrast]) -> tuple[str, ...]:
    """One sentence each, the gravest first; none for a study without contrasts."""
    if not contrasts:
        return ()
    told = (_more_training(results, contrasts), _one_recipe(results, contrasts), _test_images(results, summaries))
    return tuple(sentence for sentence in told if sentence)


def changes_of_seeds(results: Results) -> list[str]:
    """Seeds that were added or left out once results could be seen, a sentence a look."""
    seeds = results["study"]["seeds"]
    followed = [look for look in results["study"].get("looks", []) if set(look) != set(seeds)]
    return [
        f"{looked(look, seeds).capitalize()} could be seen. Intervals, p values and verdicts hold for a number of "
        "seeds that was settled beforehand; with a look in between, false differences are more frequent than they say."
        for look in followed
    ]


def _more_training(results: Results, contrasts: Sequence[Contrast]) -> str:
    """Whether a side without pretraining would have caught up, had it trained as long as both together."""
    if any(contrast.comparison == "compute-matched" for contrast in contrasts):
        return ""
    runs = results["runs"]
    by_id = {run["id"]: run for run in runs}
    first = {as_written(run["variant"]): run for run in reversed(runs) if run["kind"] == "downstream"}
    totals = set()
    for contrast in contrasts:
        sides = [first[as_written(side)] for side in (contrast.variant, contrast.baseline)]
        pretrained = [side for side in sides if side["needs"]]
        if len(pretrained) == 1:
            totals.add(_epochs_in_all(pretrained[0], by_id))
    told = sorted(epochs for epochs in totals if epochs is not None)
    if not told:
        return ""
    total = f"{told[0]}" if len(told) == 1 else f"{told[0]} to {told[-1]}"
    return (
        "Whether a start without pretraining would catch up with more training: none was trained for the epochs of "
        f"pretraining and training together ({total}). compute_matched = true under [report] adds these runs."
    )


def _epochs_in_all(run: Run, by_id: Mapping[str, Run]) -> int | None:
    """The epochs that a run and the pretext runs that it rests on are set to train; None where one is not known."""
    epochs = 0
    while True:
        if "epochs" not in part(run, "train"):
            return None
        epochs += int(part(run, "train")["epochs"])
        if not run["needs"]:
            return epochs
        parent = by_id.get(run["needs"][0])
        if parent is None:
            return None
        run = parent


def _one_recipe(results: Results, contrasts: Sequence[Contrast]) -> str:
    """Whether another learning rate would favour the other side."""
    if results["study"].get("tune"):
        return ""
    inits = {as_written(side.get("init")) for item in contrasts for side in (item.variant, item.baseline)}
    done = [run for run in results["runs"] if run["kind"] == "downstream" and run["status"] == "done"]
    rates = {part(run, "train").get("lr") for run in done}
    if len(inits) < 2 or len(rates) != 1 or None in rates:
        return ""
    return (
        f"Whether another learning rate would favour another start: all were trained at lr {rates.pop():g}. An "
        'axis lr with validation images and tune = ["lr"] under [report] lets each side have its own best.'
    )


def _test_images(results: Results, summaries: Sequence[VariantSummary]) -> str:
    """What other test images would change."""
    errors = [summary.standard_error for summary in summaries if summary.standard_error is not None]
    images = results["study"]["test_images"]
    if not errors or not images:
        return ""
    return (
        f"How far the numbers hold for other images: intervals cover new seeds on these {images:,} test images, on "
        f"which an accuracy has a binomial standard error of up to {points(max(errors), sign=False)} points. Nothing "
        "here is about other data or other networks."
    )
