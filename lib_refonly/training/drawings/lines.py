"""Exact line drawings from the shapes of a colour drawing (SVG in, SVG out)."""

from __future__ import annotations

import re
from xml.etree import ElementTree

SVG = "http://www.w3.org/2000/svg"
SHAPES = frozenset({"path", "circle", "ellipse", "rect", "polygon", "polyline", "line"})
# A fill darker than this is a line or a solid the artist drew in ink; the generator keeps every other fill lighter.
INK = 0x30
# Shading is drawn as translucent shapes: it has no place in line art.
OPAQUE = 0.55
# Line width of drawings that have no outlines of their own, as a share of the view box: 2 px at 256 px.
EDGE = 1 / 128

ElementTree.register_namespace("", SVG)
ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")


def line_drawing(svg: str, *, outline: bool) -> str:
    """Turn a colour drawing into black lines on nothing.

    Every fill that is not black becomes white and every stroke black; translucent shading and blended layers go. With ``outline`` each
    opaque shape is also given a black edge, for styles that are drawn without outlines; shapes lie over one another as in the drawing, so
    the edges are those that are seen.

    Args:
        svg: an SVG document.
        outline: draw the edges of shapes.
    Returns:
        an SVG document of the same size.
    Raises:
        xml.etree.ElementTree.ParseError: not XML.
    """
    root = ElementTree.fromstring(svg)
    edge = EDGE * float(root.get("viewBox", "0 0 256 256").split()[2])
    for child in list(root):
        _convert(child, root, root.get("fill", "#000"), edge if outline else 0.0)
    return ElementTree.tostring(root, encoding="unicode")


def is_ink(colour: str) -> bool:
    """Whether a fill is black or near it. Names other than black, and gradients, are not."""
    colour = colour.strip().lower()
    if colour == "black":
        return True
    match = re.fullmatch(r"#([0-9a-f]{3}|[0-9a-f]{6})", colour)
    if not match:
        return False
    digits = match[1] if len(match[1]) == 6 else "".join(digit * 2 for digit in match[1])
    return max(int(digits[i : i + 2], 16) for i in (0, 2, 4)) < INK


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _is_shading(element: ElementTree.Element) -> bool:
    if "mix-blend-mode" in element.get("style", ""):
        return True
    fill = element.get("fill", "")
    if re.fullmatch(r"#[0-9a-fA-F]{8}", fill) and int(fill[7:], 16) < OPAQUE * 255:
        return True
    return any(float(element.get(name, "1")) < OPAQUE for name in ("opacity", "fill-opacity"))


def _give_edge(shape: ElementTree.Element, width: float) -> None:
    shape.set("stroke", "#000")
    shape.set("stroke-width", f"{max(width, float(shape.get('stroke-width', '0'))):.4g}")
    shape.set("stroke-linejoin", "round")


def _convert(element: ElementTree.Element, parent: ElementTree.Element, inherited: str, edge: float) -> None:
    """Convert an element in place, or take it out of its parent."""
    tag = _tag(element)
    if tag in {"mask", "clipPath", "defs"}:
        return
    if _is_shading(element):
        parent.remove(element)
        return
    fill = element.get("fill", inherited)
    if "stroke" in element.attrib and element.get("stroke") != "none":
        element.set("stroke", "#000")
        element.attrib.pop("stroke-opacity", None)
    if tag in SHAPES and fill != "none":
        element.set("fill", "#000" if is_ink(fill) else "#fff")
        if edge and not is_ink(fill):
            _give_edge(element, edge)
    for child in list(element):
        _convert(child, element, fill, edge)
