"""After the painting: lines laid back crisp, regions evened out, and the colours as a layer of their own without lines.

Paintings are RGB and blueprints L (white lines on black), both of the same size; anything else is a `ValueError`.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lib_refonly.imaging.background import outside_of_lines
from lib_refonly.imaging.regions import Labels, Mask, closed_regions, default_gap, depth_of, from_nearest, line_mask, nearest_label, pieces_of

Unit = NDArray[np.float32]

_SPILL = 1 / 48
"""How far paint may lie beside its line, as a share of the longer side: a good latent pixel (8 px) of a 512 px painting."""
_PAINTED_LINE = 1 / 80
"""How far a painted line reaches beside the drawn one."""
_WIDEST_STROKE = 1 / 40
"""Width of ink that is still a line, as a share of the longer side."""
_SHADING = 14.0
"""Levels (0..255) by which shading may leave a plane before it counts as drawn and is kept."""
_NEXT_TO_NOTHING = np.float32(1e-4)
"""Weight of pixels that are not trusted: they hold their region's mean, which shows through where nothing better is in reach."""
_EDGE = 24.0
"""Levels a pixel from which a change of colour inside a region is an edge that was meant."""


def lines_on_top(painting: Image.Image, blueprint: Image.Image, strength: float = 1.0, polarity: str = "dark on light") -> Image.Image:
    """Lay the lines over the painting: dark ones multiply, light ones ("light on dark") screen. Strength 0..1. Returns RGB."""
    rgb, ink = _arrays(painting, blueprint)
    cover = ink.astype(np.float32)[..., None] * np.float32(strength / 255)
    inked = rgb + (255 - rgb) * cover if polarity == "light on dark" else rgb * (1 - cover)
    return _picture(inked)


def even_regions(painting: Image.Image, blueprint: Image.Image, strength: float = 1.0, *, gap: int | None = None) -> Image.Image:
    """Clean flats: pull every closed region towards its own colour, measured away from the lines, so nothing spills over them. Returns RGB.

    Even shading (a plane) is kept as such, and what clearly differs inside a region without a line (a blush, a gleam) stays. What is painted
    under the lines stays too. Outlines may have gaps of up to `gap` px (default: 1 % of the longer side). Strength 0..1.
    """
    if strength == 0:
        return painting.convert("RGB")
    rgb, ink = _arrays(painting, blueprint)
    labels = _regions(ink, gap)
    if not labels.any():
        return painting.convert("RGB")
    spill = max(2.0, max(ink.shape) * _SPILL)
    trust = _trust(labels, spill) * _unlined(rgb, labels, max(ink.shape) * _PAINTED_LINE)
    smooth = _spread(rgb, trust, labels, sigma=2 * spill, edges=True)
    plane = _planes(rgb, trust, labels)
    alike = np.exp(-np.square(_largest(np.abs(smooth - plane)) / _SHADING))[..., None]
    even = _under_lines(smooth + alike * (plane - smooth), labels != 0)
    cover = ink.astype(np.float32)[..., None] / 255
    even += cover * (rgb - even)
    return _picture(rgb + strength * (even - rgb))


def colour_layer(painting: Image.Image, blueprint: Image.Image, outside: Image.Image | None = None, *, gap: int | None = None) -> Image.Image:
    """The colours without the lines, RGBA: they reach under the lines from both sides, and the outside of the character is transparent.

    Solid blacks of the drawing (hair, pupils) are colours, not lines, and stay.

    outside: mode L, 255 outside, as `outside_of_lines` gives it (the default, with this painting, on black).
    """
    rgb, ink = _arrays(painting, blueprint)
    around = np.asarray((outside or outside_of_lines(blueprint, gap, painting)).convert("L")) > 127
    labels, solid = _regions(ink, gap), _solids(ink)
    labels = np.where(solid > 0, solid + labels.max(), np.where(around, 0, labels)).astype(np.int32)
    lines = line_mask(ink) & (solid == 0)
    side, _ = nearest_label(np.where(lines, 0, np.where(around, 1, 2)).astype(np.int32))
    alpha = cv2.GaussianBlur(np.where(side == 1, 0, 255).astype(np.uint8), (0, 0), 0.7)
    if labels.any():
        reach = max(2.0, max(ink.shape) * _PAINTED_LINE)
        trust = _trust(labels, reach) * _unlined(rgb, labels, reach)
        spread = _spread(rgb, trust, labels, sigma=2 * reach)
        rgb = _under_lines(spread + trust[..., None] * (rgb - spread), labels != 0)
    layer = _picture(rgb)
    layer.putalpha(Image.fromarray(alpha))
    return layer


def _arrays(painting: Image.Image, blueprint: Image.Image) -> tuple[Unit, NDArray[np.uint8]]:
    if painting.size != blueprint.size:
        raise ValueError(f"painting {painting.size} and blueprint {blueprint.size} differ in size")
    return np.asarray(painting.convert("RGB"), np.float32), np.asarray(blueprint.convert("L"))


def _largest(rgb: Unit) -> Unit:
    """Over the channels. Much faster than max(axis=2) on so short an axis."""
    return np.maximum(np.maximum(rgb[..., 0], rgb[..., 1]), rgb[..., 2])


def _picture(rgb: NDArray) -> Image.Image:
    return Image.fromarray(np.rint(rgb).clip(0, 255).astype(np.uint8))


def _regions(ink: NDArray[np.uint8], gap: int | None) -> Labels:
    """Closed regions; crumbs between strokes are left to their neighbours (0)."""
    labels = closed_regions(line_mask(ink), default_gap(ink.shape) if gap is None else gap)
    crumb = max(4.0, (max(ink.shape) / 200) ** 2)
    return np.where((np.bincount(labels.ravel()) < crumb)[labels], 0, labels).astype(np.int32)


def _solids(ink: NDArray[np.uint8]) -> Labels:
    """The areas of ink that are wider than a stroke, numbered from 1."""
    width = max(9, round(max(ink.shape) * _WIDEST_STROKE))
    ball = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    return pieces_of(cv2.morphologyEx(line_mask(ink).astype(np.uint8), cv2.MORPH_OPEN, ball) > 0, connectivity=8)[0]


def _trust(labels: Labels, reach: float) -> Unit:
    """0..1: how surely a pixel shows its region's own colour. It grows with the distance from the lines; narrow regions trust their middle."""
    depth = depth_of(labels > 0)
    deepest = np.zeros(int(labels.max()) + 1, np.float32)
    np.maximum.at(deepest, labels.ravel(), depth.ravel())
    full = np.minimum(reach, 0.7 * deepest)[labels]
    return np.square(np.clip(depth / np.maximum(full, 0.5), 0, 1)) * (labels > 0)


def _unlined(rgb: Unit, labels: Labels, reach: float) -> Unit:
    """0..1: beside lines, a pixel darker than the lightest of its region has some of the painted line in it; further in it is as it is."""
    light = cv2.blur(_largest(rgb), (3, 3))
    lightest = np.zeros(int(labels.max()) + 1, np.float32)
    np.maximum.at(lightest, labels.ravel(), light.ravel())
    depth = depth_of(labels > 0)
    clean = (np.minimum(light / np.maximum(lightest[labels], 1), 1)) ** 4
    return np.where(depth > reach, 1, clean).astype(np.float32)


def _spread(rgb: Unit, trust: Unit, labels: Labels, sigma: float, *, edges: bool = False) -> Unit:
    """Smooth inside every region, trusted pixels first, never across a line (the recursive domain transform of Gastal and Oliveira, 2011).

    float32 [H, W, 3]. With `edges`, colours that change sharply away from the lines are kept apart as well.
    """
    weight = np.maximum(trust, _NEXT_TO_NOTHING)
    known = np.where(trust[..., None] > _NEXT_TO_NOTHING, rgb, _means(rgb, trust, labels))
    planes = [known[..., channel] * weight for channel in range(3)] + [weight]
    down, across = _ties(labels, rgb, trust, sigma if edges else 0)
    for width in (sigma, sigma / 2):
        pace = np.float32(-np.sqrt(2) / width)
        planes = _turned(_swept(planes, np.exp(pace * down)))
        planes = _turned(_swept(planes, np.exp(pace * across)))
    return _merged([plane / planes[3] for plane in planes[:3]])


def _ties(labels: Labels, rgb: Unit, trust: Unit, edge: float) -> tuple[Unit, Unit]:
    """Length of the step from the pixel above [H, W] and, turned, from the one to the left [W, H]: 1 inside a region, endless out of it.

    `edge` > 0 makes steps longer where colours change between trusted pixels.
    """
    calm = [np.asarray(cv2.GaussianBlur(rgb[..., channel], (0, 0), 1.2), np.float32) for channel in range(3)] if edge else []
    names = labels.astype(np.float32)  # exact up to 16 million regions; OpenCV turns float32 fast
    ties = []
    for turn in (lambda plane: plane, _transposed):
        name = turn(names)
        step = np.full(name.shape, np.inf, np.float32)
        inside = (name[1:] == name[:-1]) & (name[1:] > 0)
        length = np.ones(inside.shape, np.float32)
        if edge:
            red, green, blue = (np.abs(plane[1:] - plane[:-1]) for plane in map(turn, calm))
            length += np.float32(edge / _EDGE) * turn(trust)[1:] * np.maximum(np.maximum(red, green), blue)
        step[1:][inside] = length[inside]
        ties.append(step)
    return ties[0], ties[1]


def _swept(planes: list[Unit], pull: Unit) -> list[Unit]:
    """Recursive smoothing down the rows and back up, in place: `pull` (0..1) ties a row to the one above it."""
    for plane in planes:
        for row in range(1, len(plane)):
            plane[row] += pull[row] * (plane[row - 1] - plane[row])
        for row in range(len(plane) - 2, -1, -1):
            plane[row] += pull[row + 1] * (plane[row + 1] - plane[row])
    return planes


def _turned(planes: list[Unit]) -> list[Unit]:
    return [_transposed(plane) for plane in planes]


def _transposed(plane: Unit) -> Unit:
    """OpenCV's copy is several times faster than numpy's."""
    return np.asarray(cv2.transpose(plane), np.float32)


def _merged(planes: list[NDArray]) -> Unit:
    return np.asarray(cv2.merge(planes), np.float32)


def _means(rgb: Unit, trust: Unit, labels: Labels) -> Unit:
    flat, weight = labels.ravel(), trust.ravel() + np.float32(1e-6)
    total = np.bincount(flat, weight)
    sums = np.stack([np.bincount(flat, weight * rgb[..., channel].ravel()) for channel in range(3)], axis=1)
    return (sums / np.maximum(total, 1e-9)[:, None]).astype(np.float32)[labels]


def _planes(rgb: Unit, trust: Unit, labels: Labels, samples: int = 40_000) -> Unit:
    """Per region the plane colour = a + b x + c y, fitted robustly (Tukey weights, three rounds) to its trusted pixels. float32 [H, W, 3]."""
    height, width = labels.shape
    y, x = np.nonzero(trust > 0.25)
    step = max(1, len(y) // samples)
    order = np.random.default_rng(0).permutation(len(y))[: len(y) // step] if step > 1 else slice(None)
    y, x = y[order], x[order]
    count, name, colour = int(labels.max()) + 1, labels[y, x], rgb[y, x].astype(np.float64)
    basis = np.stack([np.ones(len(y)), 2 * x / width - 1, 2 * y / height - 1], axis=1)
    weight = trust[y, x].astype(np.float64)
    plane = np.zeros((count, 3, 3))
    for sharpness in (80.0, 40.0, 25.0):
        plane = _fit(basis, colour, weight, name, count)
        error = np.abs(np.einsum("nb,nbc->nc", basis, plane[name]) - colour).max(axis=1)
        weight = trust[y, x] * np.square(np.clip(1 - np.square(error / sharpness), 0.001, 1))
    down, across = np.linspace(-1, 1, height, endpoint=False), np.linspace(-1, 1, width, endpoint=False)
    across, down = across.astype(np.float32)[None], down.astype(np.float32)[:, None]
    terms = plane.astype(np.float32)
    return _merged([terms[:, 0, i][labels] + terms[:, 1, i][labels] * across + terms[:, 2, i][labels] * down for i in range(3)])


def _fit(basis: NDArray, colour: NDArray, weight: NDArray, name: NDArray, count: int) -> NDArray:
    """Weighted least squares for all regions at once: [regions, 3 terms, 3 channels]. Slopes of small regions are held near zero."""
    normal, right = np.zeros((count, 3, 3)), np.zeros((count, 3, 3))
    for i in range(3):
        for j in range(3):
            normal[:, i, j] = np.bincount(name, weight * basis[:, i] * basis[:, j], count)
            right[:, i, j] = np.bincount(name, weight * basis[:, i] * colour[:, j], count)
    mass = normal[:, :1, 0]
    normal /= np.maximum(mass, 1e-9)[..., None]
    right /= np.maximum(mass, 1e-9)[..., None]
    centre = normal[:, 0, :].copy()
    centre[:, 0] = 1
    # Slopes are penalised about the region's own middle, not the picture's: basis functions are taken relative to it.
    covariance = normal[:, 1:, 1:] - centre[:, 1:, None] * centre[:, None, 1:]
    cross = right[:, 1:] - centre[:, 1:, None] * right[:, :1]
    slope = np.linalg.solve(covariance + 1e-4 * np.eye(2), cross)
    level = right[:, 0] - np.einsum("nk,nkc->nc", centre[:, 1:], slope)
    return np.concatenate([level[:, None], slope], axis=1)


def _under_lines(rgb: NDArray, known: Mask) -> Unit:
    """Every pixel that is in no region takes the colour of the nearest one that is: colours meet in the middle of a line."""
    return from_nearest(rgb.astype(np.float32, copy=False), known)[0]
