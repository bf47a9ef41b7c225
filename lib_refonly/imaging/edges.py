"""Lines out of colour pictures, in the ways painters know from ControlNet: canny and scribble. White on black."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lib_refonly.imaging.lineart import grey


def canny(picture: Image.Image, spread: float = 0.33) -> Image.Image:
    """Canny's edges, with both thresholds `spread` around the median brightness. Mode L, the picture's size."""
    smooth = cv2.GaussianBlur(_grey(picture), (0, 0), 1.0)
    middle = float(np.median(smooth))
    # A white or a black ground takes the median to an end; the usual 100 and 200 stay within reach of it.
    low, high = (float(np.clip(middle * factor, *bounds)) for factor, bounds in ((1 - spread, (50, 120)), (1 + spread, (120, 240))))
    return Image.fromarray(np.asarray(cv2.Canny(smooth, low, high), np.uint8))


def scribble(picture: Image.Image, sigma: float = 1.4, ratio: float = 1.6, sharpness: float = 20.0) -> Image.Image:
    """Broad strokes by extended differences of Gaussians (Winnemoeller et al. 2012), thickened as a marker's. Mode L, the picture's size."""
    shade = _grey(picture).astype(np.float32) / 255
    sigma *= max(picture.size) / 512
    narrow, wide = (cv2.GaussianBlur(shade, (0, 0), s) for s in (sigma, sigma * ratio))
    ink = (1 + sharpness) * narrow - sharpness * wide < 0.5 * wide
    width = max(1, round(sigma)) | 1
    strokes = cv2.dilate(ink.astype(np.uint8) * 255, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)))
    return Image.fromarray(np.asarray(strokes, np.uint8))


def _grey(picture: Image.Image) -> NDArray[np.uint8]:
    rgba = picture.convert("RGBA")
    return grey(np.asarray(Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")))
