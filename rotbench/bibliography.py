"""The papers behind a study, as BibTeX: those of its plugins and those of what rotbench itself does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Papers that a text of the methods may cite, by key.
OWN = {
    "he2016deep": (
        "@inproceedings{he2016deep, title = {Deep Residual Learning for Image Recognition}, author = {He, Kaiming and "
        "Zhang, Xiangyu and Ren, Shaoqing and Sun, Jian}, booktitle = {CVPR}, year = {2016}}"
    ),
    "xie2017aggregated": (
        "@inproceedings{xie2017aggregated, title = {Aggregated Residual Transformations for Deep Neural Networks}, "
        "author = {Xie, Saining and Girshick, Ross and Doll{\\'a}r, Piotr and Tu, Zhuowen and He, Kaiming}, "
        "booktitle = {CVPR}, year = {2017}}"
    ),
    "zagoruyko2016wide": (
        "@inproceedings{zagoruyko2016wide, title = {Wide Residual Networks}, author = {Zagoruyko, Sergey and "
        "Komodakis, Nikos}, booktitle = {BMVC}, year = {2016}}"
    ),
    "ioffe2015batch": (
        "@inproceedings{ioffe2015batch, title = {Batch Normalization: Accelerating Deep Network Training by Reducing "
        "Internal Covariate Shift}, author = {Ioffe, Sergey and Szegedy, Christian}, booktitle = {ICML}, "
        "year = {2015}}"
    ),
    "kingma2015adam": (
        "@inproceedings{kingma2015adam, title = {Adam: A Method for Stochastic Optimization}, author = {Kingma, "
        "Diederik P. and Ba, Jimmy}, booktitle = {ICLR}, year = {2015}}"
    ),
    "loshchilov2019decoupled": (
        "@inproceedings{loshchilov2019decoupled, title = {Decoupled Weight Decay Regularization}, author = "
        "{Loshchilov, Ilya and Hutter, Frank}, booktitle = {ICLR}, year = {2019}}"
    ),
    "holm1979simple": (
        "@article{holm1979simple, title = {A Simple Sequentially Rejective Multiple Test Procedure}, author = {Holm, "
        "Sture}, journal = {Scandinavian Journal of Statistics}, volume = {6}, number = {2}, pages = {65--70}, "
        "year = {1979}}"
    ),
    "pedregosa2011scikit": (
        "@article{pedregosa2011scikit, title = {Scikit-learn: Machine Learning in Python}, author = {Pedregosa, Fabian "
        "and others}, journal = {Journal of Machine Learning Research}, volume = {12}, pages = {2825--2830}, "
        "year = {2011}}"
    ),
    "mcnemar1947note": (
        "@article{mcnemar1947note, title = {Note on the Sampling Error of the Difference between Correlated "
        "Proportions or Percentages}, author = {McNemar, Quinn}, journal = {Psychometrika}, volume = {12}, "
        "number = {2}, pages = {153--157}, year = {1947}}"
    ),
}

_BEGINNING = re.compile(r"@(\w+)\s*\{\s*([^\s,{}\\\"#%~]+)\s*,")


@dataclass
class Bibliography:
    """Entries in the order in which they are cited, each once, under keys that no two share."""

    entries: dict[str, str] = field(default_factory=dict)

    def own(self, key: str) -> str:
        """Cite one of :data:`OWN`; returns its key, which a plugin may have taken for another paper."""
        return self.add(OWN[key])

    def add(self, cite: str) -> str:
        """Cite what a plugin names; returns its key, or "" for what is no single BibTeX entry."""
        parts = parsed(cite)
        if parts is None:
            return ""
        kind, key, fields = parts
        for number in range(len(self.entries) + 1):
            free = key if not number else f"{key}-{number + 1}"
            text = written(kind, free, fields)
            if self.entries.setdefault(free, text) == text:
                return free
        raise AssertionError("of so many keys one is free")

    def text(self) -> str:
        """What a .bib file holds: the entries in the order of their keys."""
        return "\n".join(self.entries[key] for key in sorted(self.entries))


def cited(bibliography: Bibliography, plugins: list[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    """Cite the paper of each plugin that names one; returns their keys by kind and name."""
    keys = {(plugin["kind"], plugin["name"]): bibliography.add(plugin.get("cite", "")) for plugin in plugins}
    return {plugin: key for plugin, key in keys.items() if key}


def parsed(cite: str) -> tuple[str, str, tuple[tuple[str, str], ...]] | None:
    """Type, key and fields of one BibTeX entry; None for anything else."""
    text = " ".join(cite.split())
    beginning = _BEGINNING.match(text)
    if beginning is None or not text.endswith("}"):
        return None
    fields = []
    for part in _apart(text[beginning.end() : -1]):
        name, equals, value = part.partition("=")
        if not equals or not name.strip().isidentifier() or not value.strip():
            return None
        fields.append((name.strip().lower(), value.strip()))
    return (beginning[1].lower(), beginning[2], tuple(fields)) if fields else None


def _apart(text: str) -> list[str]:
    """The parts between commas outside of braces; none where braces do not match."""
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(text):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if depth < 0:
            return []
        if letter == "," and not depth:
            parts.append(text[start:place])
            start = place + 1
    parts.append(text[start:])
    return [part for part in parts if part.strip()] if not depth else []


def written(kind: str, key: str, fields: tuple[tuple[str, str], ...]) -> str:
    """An entry with a line a field."""
    lines = [f"@{kind}{{{key},", *(f"  {name} = {value}," for name, value in fields), "}"]
    return "\n".join(lines) + "\n"
