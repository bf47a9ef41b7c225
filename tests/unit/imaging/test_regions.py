"""Closed regions: every enclosed area its own label, small gaps bridged, no line crossed."""

import cv2
import numpy as np
import pytest

from lib_refonly.imaging.regions import border_sides, closed_regions


def box_with_gap(gap: int, size: int = 120) -> np.ndarray:
    lines = np.zeros((size, size), bool)
    lines[30, 30:90] = lines[89, 30:90] = lines[30:90, 30] = lines[30:90, 89] = True
    lines[60 : 60 + gap, 89] = False
    return lines


@pytest.mark.parametrize("gap", [0, 1, 3, 6])
def test_gaps_are_bridged(gap):
    labels = closed_regions(box_with_gap(gap), gap=8)
    assert labels[60, 60] != labels[5, 5]
    assert len(np.unique(labels)) == 3  # lines, outside, inside
    assert (labels[32:88, 32:86] == labels[60, 60]).all()
    assert (labels[:29] == labels[5, 5]).all()


def test_wide_openings_are_not():
    labels = closed_regions(box_with_gap(30), gap=8)
    assert labels[60, 60] == labels[5, 5]


def test_closed_outlines_match_plain_connected_components():
    rng = np.random.default_rng(0)
    canvas = np.zeros((200, 260), np.uint8)
    for _ in range(12):
        cv2.circle(canvas, (int(rng.integers(20, 240)), int(rng.integers(20, 180))), int(rng.integers(8, 50)), 255, 2)
    lines = canvas > 0
    _, plain = cv2.connectedComponents((~lines).astype(np.uint8), connectivity=4)
    labels = closed_regions(lines, gap=3)
    assert ((labels == 0) == lines).all()
    # Never one label on both sides of a line:
    assert all(len(np.unique(plain[labels == label])) == 1 for label in range(1, labels.max() + 1))
    assert set(np.unique(labels)) == set(range(labels.max() + 1))


@pytest.mark.parametrize(("lines", "regions"), [(np.zeros((9, 9), bool), 1), (np.ones((9, 9), bool), 0), (np.eye(9, dtype=bool), 2)])
def test_extremes(lines, regions):
    assert closed_regions(lines, gap=3).max() == regions


def test_border_sides():
    labels = np.zeros((4, 5), np.int32)
    labels[0, :], labels[2, 0], labels[3, 3] = 1, 2, 3
    assert border_sides(labels).tolist() == [[False] * 4, [True, True, False, True], [False, False, False, True], [False, False, True, False]]
