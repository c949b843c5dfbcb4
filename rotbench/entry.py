"""One hand-in as a row tells it: what its study found, whether it met what it should, what is to be looked at."""

from __future__ import annotations

from dataclasses import dataclass

from rotbench import compare
from rotbench.answer import KINDS, comparability_rows, sentences
from rotbench.compare import Results, as_written
from rotbench.contrast import Contrast, Variant
from rotbench.findings import Finding, findings, in_short, shortened
from rotbench.imprints import Imprint, contradictions, equal_within, imprints
from rotbench.partner import alike, filled
from rotbench.references import reference_rows
from rotbench.spoken import counted
from rotbench.wording import percent, variant_labels


@dataclass(frozen=True)
class Accuracy:
    """The final test accuracy of one variant: the mean over ``n`` of ``planned`` seeds, a fraction, None without any.

    ``variant`` is told by ``label`` within its study, and has its init and freeze policy even where it sets none.
    """

    variant: Variant
    label: str
    n: int
    planned: int
    mean: float | None
    interval: tuple[float, float] | None

    @property
    def key(self) -> str:
        """The same text for what means the same in two studies."""
        return alike(self.variant)


@dataclass(frozen=True)
class Verdict:
    """What became of one contrast: ``mark`` is the verdict or says why there is none, ``tone`` its style.

    ``kind`` is empty for a contrast at the same settings. ``sentence`` is what the page of the hand-in says.
    """

    variant: Variant
    label: str
    baseline: str
    kind: str
    tone: str
    mark: str
    sentence: str

    @property
    def key(self) -> str:
        """That of the variant's :class:`Accuracy`."""
        return alike(self.variant)

    @property
    def text(self) -> str:
        """``rotation / none against random / none: higher``."""
        kind = f" ({self.kind})" if self.kind else ""
        return f"{self.label} against {self.baseline}{kind}: {self.mark}"


@dataclass(frozen=True)
class Threshold:
    """A number that a variant or pretext run should reach: met where every finished seed reaches it."""

    label: str
    accuracy: float
    source: str
    values: tuple[float, ...]

    @property
    def reached(self) -> int:
        """How many of the values reach it."""
        return sum(value >= self.accuracy for value in self.values)

    @property
    def met(self) -> bool:
        return bool(self.values) and self.reached == len(self.values)

    @property
    def text(self) -> str:
        """``rotation / below, at least 60.00 %: met, 3 of 3 seeds``."""
        told = f"{self.reached} of {counted(len(self.values), 'seed')}" if self.values else "not measured yet"
        return f"{self.label}, at least {percent(self.accuracy, 2)}: {'met' if self.met else 'not met'}, {told}"


@dataclass(frozen=True)
class PluginUsed:
    """A plugin as a hand-in names it."""

    kind: str
    name: str
    origin: str
    sha256: str


@dataclass(frozen=True)
class Entry:
    """One hand-in that was read: what its row says. ``study`` is its study file, ``imprints`` are its finished runs.

    ``equal_runs`` came out the same to the bit in other hand-ins, whose names are ``equal_to``; those of
    ``one_training_with`` also share the time of some of them.
    """

    name: str
    title: str
    dataset: str
    rotbench: str
    seeds: tuple[int, ...]
    runs: int
    done: int
    accuracies: tuple[Accuracy, ...]
    verdicts: tuple[Verdict, ...]
    thresholds: tuple[Threshold, ...]
    plugins: tuple[PluginUsed, ...]
    findings: tuple[Finding, ...]
    study: str
    imprints: tuple[Imprint, ...]
    equal_runs: int = 0
    equal_to: tuple[str, ...] = ()
    one_training_with: tuple[str, ...] = ()

    @property
    def by_variant(self) -> dict[str, tuple[Accuracy, Verdict | None]]:
        """The accuracy of each variant with its verdict at the same settings, by their key."""
        verdicts = {verdict.key: verdict for verdict in self.verdicts if not verdict.kind}
        return {accuracy.key: (accuracy, verdicts.get(accuracy.key)) for accuracy in self.accuracies}

    @property
    def met(self) -> int:
        """How many thresholds are met."""
        return sum(threshold.met for threshold in self.thresholds)

    @property
    def to_look_at(self) -> bool:
        """Whether something is to be looked at before its numbers are believed."""
        return any(finding.grave for finding in self.findings)

    @property
    def in_short(self) -> list[tuple[str, bool]]:
        """Its findings in a few words each, and whether they are grave."""
        return in_short(self.findings)

    def count(self, kind: str) -> int:
        """How many runs, seeds or contrasts its findings of one kind are about."""
        return sum(finding.count or 0 for finding in self.findings if finding.kind == kind)


def entry_of(name: str, results: Results) -> Entry:
    """The row of one study by itself; raises whatever results raise that are not what they seem."""
    study = results["study"]
    summaries, contrasts = compare.variants(results), compare.contrasts(results)
    labels = variant_labels([summary.variant for summary in summaries])
    comparability = comparability_rows(results, contrasts)
    own = imprints(results)
    found = [*findings(results, comparability, labels)]
    impossible = equal_within(own)
    if impossible:
        what = "runs of its own came out the same to the bit though they were made otherwise, which cannot be"
        text = f"{what}: {contradictions(impossible)}"
        found.append(Finding("impossible", "impossible run", text, len(impossible)))
    return Entry(
        name=name,
        title=shortened(study["title"]),
        dataset=study["dataset"]["name"],
        rotbench=results["rotbench"],
        seeds=tuple(study["seeds"]),
        runs=len(results["runs"]),
        done=sum(run["status"] == "done" for run in results["runs"]),
        accuracies=tuple(
            Accuracy(
                variant=filled(summary.variant),
                label=labels[as_written(summary.variant)],
                n=summary.n,
                planned=summary.planned,
                mean=summary.estimate.mean if summary.estimate else None,
                interval=summary.estimate.interval if summary.estimate else None,
            )
            for summary in summaries
        ),
        verdicts=tuple(
            Verdict(
                variant=filled(said.contrast.variant),
                label=labels[as_written(said.contrast.variant)],
                baseline=labels[as_written(said.contrast.baseline)],
                kind=_kind(said.contrast),
                tone=said.tone,
                mark=said.contrast.verdict or said.contrast.reason or said.mark,
                sentence=said.text,
            )
            for said in sentences(results, contrasts)
        ),
        thresholds=tuple(
            Threshold(row.label, row.accuracy, row.source, row.values)
            for row in reference_rows(results, summaries, labels)
            if row.at_least
        ),
        plugins=tuple(
            PluginUsed(plugin["kind"], plugin["name"], plugin["origin"], plugin["sha256"])
            for plugin in study["plugins"]
        ),
        findings=tuple(found),
        study=as_written([study["text"], study.get("changed", [])]),
        imprints=own,
    )


def _kind(contrast: Contrast) -> str:
    """What is compared, where that is not two variants of equal settings."""
    if contrast.condition is not None:
        return f"minus the same at another {contrast.condition.axis}"
    return KINDS[contrast.comparison]
