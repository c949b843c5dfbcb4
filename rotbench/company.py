"""What hand-ins have in common: runs that came out the same to the bit, starting weights, and the code of plugins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from rotbench import __version__
from rotbench.entry import Entry, PluginUsed
from rotbench.findings import Finding
from rotbench.imprints import Likeness, likenesses
from rotbench.plugin_file import read_plugin_file
from rotbench.resources import plugins_folder
from rotbench.spoken import counted
from rotbench.wording import enumerated

#: What so many hand-ins have, and more than half of those that use it, is what the class was given.
_FEW = 3


def in_company(entries: Sequence[Entry]) -> tuple[list[Entry], list[str]]:
    """The entries with what is to be said of them beside the others, and what holds for many of them."""
    shared = likenesses([entry.imprints for entry in entries])
    plugins, notes = plugin_findings(entries, shipped_plugins())
    holders = Counter(mark for entry in entries for mark in {mark for own in entry.imprints for mark in own.marks})
    return [
        replace(
            entry,
            findings=(*entry.findings, *likeness_findings(entry, alike, entries), *found),
            equal_runs=sum(any(holders[mark] > 1 for mark in own.marks) for own in entry.imprints),
            equal_to=tuple(entries[one.other].name for one in alike if one.pretext or one.downstream),
            one_training_with=tuple(entries[one.other].name for one in alike if one.one_training),
        )
        for entry, alike, found in zip(entries, shared, plugins, strict=True)
    ], notes


def likeness_findings(entry: Entry, shared: Sequence[Likeness], entries: Sequence[Entry]) -> list[Finding]:
    """What runs are those of other hand-ins; others that are alike in all of it are told together."""
    groups: dict[tuple[Likeness, bool], list[str]] = {}
    for likeness in shared:
        other = entries[likeness.other]
        groups.setdefault((replace(likeness, other=-1), other.study == entry.study), []).append(other.name)
    found: list[Finding] = []
    for (likeness, same_study), names in groups.items():
        others = enumerated(names)
        if likeness.pretext or likeness.downstream:
            found.append(_came_out_alike(entry, likeness, others, same_study=same_study))
        if likeness.taken:
            starts = "1 run starts" if likeness.taken == 1 else f"{likeness.taken} runs start"
            text = f"{starts} from weights that were trained in {others} and in no run of its own"
            found.append(Finding("taken", f"starts from {others}", text))
    return sorted(found, key=lambda finding: not finding.grave)


def _came_out_alike(entry: Entry, likeness: Likeness, others: str, *, same_study: bool) -> Finding:
    count = likeness.pretext + likeness.downstream
    kinds = f" ({likeness.pretext if likeness.downstream else 'all'} of them pretext runs)" if likeness.pretext else ""
    told = [f"{count} of {counted(entry.runs)}{kinds} came out the same to the bit as in {others}"]
    files = "study files are equal" if same_study else "study files differ"
    apart = f" but for {', '.join(likeness.surroundings)}" if likeness.surroundings else ""
    told.append(files if likeness.contradicting else f"settings are equal in effect{apart}, {files}")
    copied = likeness.one_training or 0
    if copied:
        many = "all" if copied == count else copied
        told.append(f"{many} of them took the same time to the last digit: one and the same training")
    if likeness.contradicting:
        many = "all" if likeness.contradicting == count else likeness.contradicting
        what = f"{many} of them were made otherwise, which cannot be, so one side is not what it says"
        told.append(f"{what}: {likeness.contradictions}")
        return Finding("impossible", "impossible run", "; ".join(told), likeness.contradicting)
    if copied:
        return Finding("one training", f"one training with {others}", "; ".join(told))
    if likeness.one_training is not None:
        told.append("none took the same time: trained anew, since equal studies come out the same on equal machines")
    return Finding("equal", f"equal to {others}", "; ".join(told), grave=False)


# Plugins


def shipped_plugins() -> frozenset[str]:
    """The identities of the plugin files that ship with this rotbench."""
    return frozenset(read_plugin_file(path).sha256 for path in plugins_folder().glob("*.py"))


def plugin_findings(entries: Sequence[Entry], shipped: frozenset[str]) -> tuple[list[list[Finding]], list[str]]:
    """Of each entry the plugins whose code is not what the class has, and what is to be said of the whole class.

    What the class has is the shipped code, or else what most of those have who use the plugin.
    """
    users: dict[tuple[str, str], list[tuple[Entry, PluginUsed]]] = {}
    for entry in entries:
        for plugin in entry.plugins:
            users.setdefault((plugin.kind, plugin.name), []).append((entry, plugin))
    common = {key: _common([plugin.sha256 for _, plugin in used]) for key, used in users.items()}
    told = []
    for entry in entries:
        found = []
        for plugin in entry.plugins:
            key = (plugin.kind, plugin.name)
            if plugin.sha256 not in shipped and plugin.sha256 != common[key]:
                found.append(_plugin_finding(entry, plugin, users[key], shipped, common[key]))
        told.append(found)
    notes = []
    for (kind, name), sha256 in common.items():
        if sha256 is not None and sha256 not in shipped:
            used = users[kind, name]
            count = sum(plugin.sha256 == sha256 for _, plugin in used)
            here = "ships with this rotbench" if any(plugin.origin == "shipped" for _, plugin in used) else "ships"
            notes.append(
                f"{kind} {name}: {count} of {counted(len(used), 'hand-in')} that use it have one code, "
                f"{sha256[:12]}, which is not one that {here}"
            )
    versions = Counter(entry.rotbench for entry in entries if entry.rotbench != __version__)
    for version, count in versions.items():
        made = "was made" if count == 1 else "were made"
        notes.append(f"{counted(count, 'hand-in')} {made} with rotbench {version}; this is {__version__}")
    return told, notes


def _common(hashes: Sequence[str]) -> str | None:
    """The hash that a class was given, if it was given one."""
    (sha256, count), *_ = Counter(hashes).most_common(1)
    return sha256 if count >= _FEW and 2 * count > len(hashes) else None


def _plugin_finding(
    entry: Entry,
    plugin: PluginUsed,
    used: Sequence[tuple[Entry, PluginUsed]],
    shipped: frozenset[str],
    common: str | None,
) -> Finding:
    what = f"{plugin.kind} {plugin.name} ({plugin.origin}, {plugin.sha256[:12]})"
    same = [other.name for other, theirs in used if other is not entry and theirs.sha256 == plugin.sha256]
    also = f"; {enumerated(same)} {'has' if len(same) == 1 else 'have'} the very same code" if same else ""
    ships = plugin.origin == "shipped" or any(theirs.sha256 in shipped for _, theirs in used)
    if common is not None:
        text = f"{what} is not the code that most hand-ins have ({common[:12]}){also}"
    elif ships:
        text = f"{what} is not the code that ships with this rotbench{also}"
    else:
        return Finding("plugin", f"own {plugin.name}", f"{what} does not ship{also}", grave=False)
    return Finding("plugin", f"{plugin.name} changed", text)
