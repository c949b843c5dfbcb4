"""Matplotlib's SVG without what a page has no use for: half of its bytes."""

from __future__ import annotations

import re
from xml.etree import ElementTree

SVG = "http://www.w3.org/2000/svg"
HREF = "{http://www.w3.org/1999/xlink}href"

TEXTS = (f"{{{SVG}}}text", f"{{{SVG}}}tspan", f"{{{SVG}}}title")
GROUP, USE, PATH, DEFS, STYLE = (f"{{{SVG}}}{name}" for name in ("g", "use", "path", "defs", "style"))

#: Matplotlib's own names of parts, but for axes and patches, by which a page's script finds its way.
_UNASKED = re.compile(r"(figure|line2d|text|[xy]tick|legend|matplotlib\.axis|\w*Collection)_\d+")
#: Parts that no value is read off: a tenth of a point is enough.
_COARSE = re.compile(r"[vp]\d+-(band|seed\d+)")
_DECIMAL = re.compile(r"\d+\.\d+")
_AROUND = re.compile(r" ?([A-Za-z]) ?")


def slim(root: ElementTree.Element, prefix: str) -> None:
    """Take out spaces, fonts (a page has its own), style sheets, and groups that nobody asks for; ``root`` is changed.

    ``prefix`` is what every id starts with.
    """
    _unnamed(root, prefix)
    _styled_once(root)
    for node in root.iter():
        if "d" in node.attrib:
            node.set("d", _AROUND.sub(r"\1", " ".join(node.attrib["d"].split())))
        if "style" in node.attrib:
            parts = [part.strip() for part in node.attrib["style"].split(";")]
            kept = [re.sub(r"\s*:\s*", ":", part) for part in parts if not part.startswith("font-family")]
            node.set("style", ";".join(kept))
    for parent in list(root.iter())[::-1]:
        for place, child in reversed(list(enumerate(parent))):
            if child.tag == STYLE:  # it would apply to the whole page
                parent.remove(child)
            elif child.tag == GROUP and not child.attrib:
                parent[place : place + 1] = list(child)
            elif child.tag == DEFS and not len(child):
                parent.remove(child)


def _unnamed(root: ElementTree.Element, prefix: str) -> None:
    """Without spaces between elements and names that matplotlib gave; bands and single seeds in tenths of a point."""
    for node in list(root.iter()):
        if node.tag not in TEXTS:
            node.text = None
        node.tail = None
        own = node.get("id", "").removeprefix(prefix)
        if _UNASKED.fullmatch(own):
            del node.attrib["id"]
        for path in node.iter(PATH) if _COARSE.fullmatch(own) else ():
            path.set("d", _DECIMAL.sub(lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), path.get("d", "")))


def _styled_once(root: ElementTree.Element) -> None:
    """A mark has its style from the shape that it uses, and equal marks have it from their group."""
    styles = {node.get("id"): node.get("style") for node in root.iter(PATH)}
    for mark in root.iter(USE):
        if styles.get(mark.get("href", "")[1:]) == mark.get("style"):
            mark.attrib.pop("style", None)
    for group in root.iter(GROUP):
        inner = {mark.get("style") for mark in group}
        if "id" in group.attrib or len(inner) != 1 or any(mark.tag != USE for mark in group):
            continue
        style = inner.pop()
        if style is not None:
            group.set("style", style)
            for mark in group:
                del mark.attrib["style"]
