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
_CORNER = re.compile(r"([ML])(-?[\d.]+) (-?[\d.]+)")
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
    _without_empty(root)
    _joined(root)
    for node in root.iter():
        if _COARSE.fullmatch(node.get("id", "").removeprefix(prefix)):
            for path in node.iter(PATH):
                path.set("d", _steps(path.get("d", "")))


def _without_empty(root: ElementTree.Element) -> None:
    """Without style sheets, groups that say nothing of what is in them, and lists of nothing."""
    for parent in list(root.iter())[::-1]:
        for place, child in reversed(list(enumerate(parent))):
            if child.tag == STYLE:  # it would apply to the whole page
                parent.remove(child)
            elif child.tag == GROUP and not child.attrib:
                parent[place : place + 1] = list(child)
            elif child.tag == DEFS and not len(child):
                parent.remove(child)


def _joined(root: ElementTree.Element) -> None:
    """Lines of one parent that look the same, such as those of a grid, as one path at the place of the first."""
    for parent in root.iter(GROUP):
        first: dict[tuple[tuple[str, str], ...], ElementTree.Element] = {}
        for path in [child for child in parent if child.tag == PATH]:
            look = {key: value for key, value in path.items() if key != "d"}
            # What is drawn last lies on top, so only what is drawn in one colour can be moved; and a title is of one.
            if "id" in look or len(path) or "fill:none" not in look.get("style", ""):
                continue
            before = first.setdefault(tuple(sorted(look.items())), path)
            if before is not path:
                before.set("d", before.get("d", "") + path.get("d", ""))
                parent.remove(path)


def _steps(d: str) -> str:
    """A path of straight lines by its steps from corner to corner, in tenths of a point; rounding does not add up."""
    corners = _CORNER.findall(d)
    if "".join(f"{letter}{x} {y}" for letter, x, y in corners) != d.rstrip("Zz"):
        return d
    told, at, before = [], (0, 0), ""
    for letter, *numbers in corners:
        x, y = (round(10 * float(number)) for number in numbers)
        across, down = (x, y) if letter == "M" else (x - at[0], y - at[1])
        # A step after a step needs no letter, and a minus sign parts numbers by itself.
        between = "M" if letter == "M" else "l" if before == "M" else "" if across < 0 else " "
        told.append(f"{between}{across / 10:g}{'' if down < 0 else ' '}{down / 10:g}")
        at, before = (x, y), letter
    return "".join(told) + ("Z" if d[-1:] in "Zz" else "")


def _unnamed(root: ElementTree.Element, prefix: str) -> None:
    """Without spaces between elements and names that matplotlib gave."""
    for node in list(root.iter()):
        if node.tag not in TEXTS:
            node.text = None
        node.tail = None
        if _UNASKED.fullmatch(node.get("id", "").removeprefix(prefix)):
            del node.attrib["id"]


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
