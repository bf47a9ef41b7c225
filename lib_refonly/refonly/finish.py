"""From the model's painting to what the painter takes away."""

from __future__ import annotations

import numpy as np
from PIL import Image

from lib_refonly.imaging.background import outside_of_lines
from lib_refonly.imaging.layers import colour_layer, even_regions, lines_on_top
from lib_refonly.refonly.prepare import PreparedLines
from lib_refonly.refonly.settings import RefOnlySettings

_PAPER = {"white": (255, 255, 255), "black": (0, 0, 0)}


def finish(painting: Image.Image, lines: PreparedLines, settings: RefOnlySettings) -> tuple[Image.Image, Image.Image, Image.Image]:
    """The model's painting on its canvas -> (picture, painting, colour layer), all at the drawing's own size.

    picture: RGB, or RGBA on transparent paper. painting: RGB, the model's own. colour layer: RGBA without lines.
    """
    own = lines.box.undo(painting)
    even = even_regions(own, lines.full, settings.flats)
    # The model paints on black, which tells an open drawing's inside from its outside where the lines alone can't.
    outside = outside_of_lines(lines.full, painting=own)
    layer = colour_layer(even, lines.full, outside)
    picture = _on_paper(even, layer, outside, lines, settings)
    return picture, own, layer


def _on_paper(painting: Image.Image, layer: Image.Image, outside: Image.Image, lines: PreparedLines, settings: RefOnlySettings) -> Image.Image:
    paper, lines_back = settings.paper, settings.lines_back
    if paper == "as painted":
        return lines_on_top(painting, lines.full, lines_back, lines.polarity)
    # With the lines laid on top the colours must run clean beneath them; without, the painted lines are all there is.
    colours = Image.blend(painting, layer.convert("RGB"), lines_back)
    inside = Image.fromarray(255 - np.asarray(outside))
    if paper == "transparent":
        picture = lines_on_top(colours, lines.full, lines_back, lines.polarity)
        picture.putalpha(inside)
        return picture
    ground = Image.new("RGB", painting.size, _PAPER[paper])
    ground.paste(colours, mask=layer.getchannel("A") if lines_back else inside)
    return lines_on_top(ground, lines.full, lines_back, lines.polarity)
