"""The closed regions of a line drawing, found as a painter's bucket tool with "close gaps" would: lines may have small gaps."""

from __future__ import annotations

from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)
Labels = NDArray[np.int32]
Mask = NDArray[np.bool_]

_LINE = 80
"""Ink (0..255) from which a pixel belongs to a line: fainter is the anti-aliased rim."""

_LEAK = 0.35
"""A leftover whose contact with a region is longer than this share of its own size (square root of its area) is that region's corner."""


def line_mask(blueprint: NDArray[np.uint8]) -> Mask:
    """uint8 [H, W], white lines on black -> True where there is a line."""
    return blueprint >= _LINE


def default_gap(size: tuple[int, ...]) -> int:
    """The gap in an outline that is taken for a slip of the pen: 1 % of the longer side, at least 3 px."""
    return max(3, round(max(size[:2]) / 100))


def closed_regions(lines: Mask, gap: int) -> Labels:
    """Label what the lines enclose. bool [H, W] -> int32 [H, W]: 0 on lines, 1, 2, ... the regions, numbered without holes.

    The idea of trapped balls (Zhang et al., "Vectorizing Cartoon Animations", 2009): a ball wider than `gap` px can't slip through a gap.
    Regions begin where the largest ball fits; smaller balls then find what is too narrow for it, and either join what they touch along a
    wide front (corners) or begin a region of their own (behind a gap, contact is short). No ball ever crosses a line.
    """
    free = ~lines
    depth = depth_of(free)
    labels = np.zeros(lines.shape, np.int32)
    for radius in _radii(gap):
        core = (depth > radius) & (labels == 0)
        if core.any():
            labels = _add(labels, core, radius, free, may_found=True)
    rest = free & (labels == 0)
    return _add(labels, rest, 0, free, may_found=False) if rest.any() else labels


def _radii(gap: int) -> list[float]:
    radii = []
    radius = gap / 2
    while radius >= 1:
        radii.append(radius)
        radius /= 2
    return [*radii, 0.0]


def _add(labels: Labels, core: Mask, radius: float, free: Mask, *, may_found: bool) -> Labels:
    """Give every connected piece of `core` the region it touches widely, or a new one; then let it grow back by the ball's radius."""
    pieces, area = pieces_of(core, connectivity=4)
    touched, contact = _contacts(labels, pieces, len(area))
    joins = (contact > _LEAK * np.sqrt(area)) | ((contact > 0) & (not may_found))
    joins[0] = False
    name = np.where(joins, touched, 0)
    founds = ~joins
    founds[0] = False
    name[founds] = labels.max() + 1 + np.arange(int(founds.sum()), dtype=np.int32)
    labels = np.where(core, name[pieces].astype(np.int32), labels)
    return _grow(labels, radius, free) if radius >= 1 else labels


def _contacts(labels: Labels, pieces: Labels, count: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """For every piece: the region it touches along the longest front, and the length of that front in pixels. Index 0 is no piece."""
    touched, length = np.zeros(count, np.int32), np.zeros(count, np.int64)
    if not labels.any():
        return touched, length
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    beside = cv2.dilate(labels.astype(np.float32), cross).astype(np.int64)  # float32: exact up to 16 million regions
    front = (pieces > 0) & (beside > 0) & (labels == 0)
    pairs, lengths = np.unique(pieces[front].astype(np.int64) << 32 | beside[front], return_counts=True)
    for pair, pixels in zip(pairs.tolist(), lengths.tolist(), strict=True):
        piece = pair >> 32
        if pixels > length[piece]:
            touched[piece], length[piece] = pair & 0xFFFFFFFF, pixels
    return touched, length


def _grow(labels: Labels, radius: float, free: Mask) -> Labels:
    """Every pixel within the ball around a labelled centre lies free of lines, so the nearest label within `radius` is on its side."""
    nearest, distance = nearest_label(labels)
    return np.where((labels == 0) & free & (distance <= radius), nearest, labels)


def nearest_label(labels: Labels) -> tuple[Labels, NDArray[np.float32]]:
    """For every pixel the label of the nearest labelled (non-zero) pixel, and how far it is in px."""
    return from_nearest(labels, labels != 0)


def from_nearest(values: NDArray[T], known: Mask) -> tuple[NDArray[T], NDArray[np.float32]]:
    """Give every pixel the value of the nearest known one ([H, W] or [H, W, C]; zeros when none is known), and say how far it is in px."""
    if not known.any():
        return np.zeros_like(values), np.full(known.shape, np.inf, np.float32)
    unknown = (~known).astype(np.uint8)
    distance, index = cv2.distanceTransformWithLabels(unknown, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL)
    # OpenCV numbers the known pixels in raster order, from 1: the order of boolean indexing.
    return np.take(values[known], index - 1, axis=0), np.asarray(distance, np.float32)


def depth_of(mask: Mask) -> NDArray[np.float32]:
    """How far inside the mask a pixel lies, in px; 0 outside."""
    return np.asarray(cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5), np.float32)


def pieces_of(mask: Mask, connectivity: int) -> tuple[Labels, NDArray[np.int64]]:
    """The connected pieces of a mask, numbered from 1 (0 is what is not in it), and the area of each number in px."""
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=connectivity, ltype=cv2.CV_32S)
    return np.asarray(pieces, np.int32), np.asarray(stats[:, cv2.CC_STAT_AREA], np.int64)


def border_sides(labels: Labels) -> NDArray[np.bool_]:
    """bool [regions + 1, 4]: which regions reach the top, right, bottom and left edge of the picture."""
    touches = np.zeros((int(labels.max()) + 1, 4), bool)
    for side, edge in enumerate((labels[0], labels[:, -1], labels[-1], labels[:, 0])):
        touches[edge, side] = True
    touches[0] = False
    return touches
