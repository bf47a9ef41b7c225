"""Sizes: fit a picture of any aspect to what the model paints at, and back, without moving anything by a fraction of a pixel."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from lib_refonly.errors import BadSettings

Size = tuple[int, int]


@dataclass(frozen=True)
class Letterbox:
    """Where a picture of size `source` lies on a canvas of size `canvas`: scaled to `inner`, its corner at `offset`. All (width, height) px.

    Both ways map the whole picture's box onto the whole inner box, so a point at fraction f of the picture is at fraction f of the box and
    comes back to where it was.
    """

    source: Size
    inner: Size
    canvas: Size
    offset: Size

    @classmethod
    def of(cls, size: Size, longer: int, multiple: int = 8) -> Letterbox:
        """Scale so that the longer side is `longer` px; pad both sides evenly up to multiples of `multiple`.

        Raises:
            BadSettings: a size, `longer` or `multiple` below 1.
        """
        if min(*size, longer, multiple) < 1:
            raise BadSettings(f"A picture of {size[0]} x {size[1]} cannot be fitted to {longer} px in steps of {multiple}.")
        scale = longer / max(size)
        width, height = (max(1, round(side * scale)) for side in size)
        canvas = (_up(width, multiple), _up(height, multiple))
        return cls(size, (width, height), canvas, ((canvas[0] - width) // 2, (canvas[1] - height) // 2))

    def apply(self, image: Image.Image, fill: int | tuple[int, ...] = 0, resample: Image.Resampling = Image.Resampling.LANCZOS) -> Image.Image:
        """`image` (of size `source`, or another of the same aspect, such as a mask) scaled and laid on a canvas of `fill`; the mode stays."""
        canvas = Image.new(image.mode, self.canvas, fill)
        canvas.paste(_resize(image, self.inner, resample), self.offset)
        return canvas

    def undo(self, image: Image.Image, size: Size | None = None, resample: Image.Resampling = Image.Resampling.LANCZOS) -> Image.Image:
        """Cut the inner box out of a canvas and scale it to `size` (default: `source`). A canvas at another scale is read in proportion."""
        kx, ky = image.width / self.canvas[0], image.height / self.canvas[1]
        x, y = self.offset
        box = (x * kx, y * ky, (x + self.inner[0]) * kx, (y + self.inner[1]) * ky)
        return image.resize(size or self.source, resample, box=box)


def multiples_of_8(image: Image.Image) -> Image.Image:
    """The released pipeline's sizing: Lanczos to the size rounded down to multiples of 8 (at least 8)."""
    return _resize(image, (max(8, image.width // 8 * 8), max(8, image.height // 8 * 8)), Image.Resampling.LANCZOS)


def _up(side: int, multiple: int) -> int:
    return -(-side // multiple) * multiple


def _resize(image: Image.Image, size: Size, resample: Image.Resampling) -> Image.Image:
    return image.copy() if image.size == size else image.resize(size, resample)
