"""A drawing's layers painted in a style."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lib_refonly.training.styles.style import RGB, Style

Bytes = NDArray[np.uint8]
Floats = NDArray[np.floating[Any]]
_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)


def paint(style: Style, picture: Bytes, alpha: Bytes, blueprint: Bytes, seed: int = 0) -> Bytes:
    """picture [S,S,3] on black, alpha [S,S], blueprint [S,S] (white lines) -> [S,S,3]. `seed`: of what is random in a texture."""
    size = len(alpha)
    cover = alpha.astype(np.float32)[..., None] / 255
    figure = np.clip(picture.astype(np.float32) / 255 / np.maximum(cover, 1e-3), 0, 1)
    figure = _palette(style, figure)
    figure = figure * _shade(style, alpha)[..., None]
    figure = _with_texture(style, figure, seed)
    lines = _lines(style, blueprint)[..., None] * cover
    figure = figure * (1 - lines) + _unit(style.line) * lines
    out = figure * cover + _ground(style, size) * (1 - cover)
    return np.round(255 * np.clip(out, 0, 1)).astype(np.uint8)


def _unit(colour: RGB) -> Floats:
    return np.array(colour, np.float32) / 255


def _ramp(level: Floats, colours: tuple[RGB, ...]) -> Floats:
    """Levels in [0, 1] -> colours between those given."""
    stops = np.linspace(0, 1, len(colours))
    return np.stack([np.interp(level, stops, [c[i] / 255 for c in colours]) for i in range(3)], -1).astype(np.float32)


def _palette(style: Style, figure: Floats) -> Floats:
    level = figure @ _WEIGHTS
    dark, middle, light = style.colours
    if style.palette == "duotone":
        return _ramp(level, (dark, light))
    if style.palette == "tritone":
        return _ramp(level, (dark, middle, light))
    if style.palette == "poster":
        return _ramp(np.floor(level * 3.999) / 3, (dark, middle, light))
    if style.palette == "pastel":
        return 0.45 * figure + 0.55 * (0.8 + 0.2 * _unit(light))
    if style.palette == "tinted":
        return 0.4 * figure + 0.6 * level[..., None] * (0.3 + 0.7 * _unit(middle))
    return figure


def _directions(size: int, angle: float) -> tuple[Floats, Floats]:
    """Coordinates along and across `angle`, in shares of the side, from -0.5."""
    y, x = (np.mgrid[:size, :size].astype(np.float32) + 0.5) / size - 0.5
    turn = np.deg2rad(angle)
    return x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)


def _shade(style: Style, alpha: Bytes) -> Floats:
    if style.shading == "flat":
        return np.ones(alpha.shape, np.float32)
    if style.shading == "side":
        along, _ = _directions(len(alpha), style.angle)
        return (1 - style.depth * np.clip(along + 0.4, 0, 1)).astype(np.float32)
    inside = cv2.distanceTransform((alpha > 127).astype(np.uint8), cv2.DIST_L2, 3) / len(alpha)
    near = np.exp(-inside / 0.06).astype(np.float32)
    return 1 - style.depth * near if style.shading == "round" else 1 - style.depth * (1 - near)


def _with_texture(style: Style, figure: Floats, seed: int) -> Floats:
    if style.texture == "none":
        return figure
    if style.texture == "grain":
        noise = np.random.default_rng(seed).standard_normal(figure.shape[:2]).astype(np.float32)
        return figure * (1 + 0.6 * style.depth * cv2.GaussianBlur(noise, (0, 0), 1.0)[..., None] * 2)
    strength = style.depth * _TEXTURES[style.texture](style, len(figure))
    return figure * (1 - strength[..., None])


def _halftone(style: Style, size: int) -> Floats:
    along, across = _directions(size, style.angle)
    wave = np.cos(2 * np.pi * along / style.scale) + np.cos(2 * np.pi * across / style.scale)
    return np.clip(wave * 2 - 0.5, 0, 1).astype(np.float32)


def _hatch(style: Style, size: int) -> Floats:
    along, _ = _directions(size, style.angle)
    return np.clip(np.cos(2 * np.pi * along / style.scale) * 2 - 0.8, 0, 1).astype(np.float32)


def _cross(style: Style, size: int) -> Floats:
    along, across = _directions(size, style.angle)
    waves = (np.cos(2 * np.pi * one / style.scale) * 2 - 0.8 for one in (along, across))
    return np.clip(np.maximum(*waves), 0, 1).astype(np.float32)


_TEXTURES: dict[str, Callable[[Style, int], Floats]] = {"halftone": _halftone, "hatch": _hatch, "cross": _cross}


def _lines(style: Style, blueprint: Bytes) -> Floats:
    width = round(style.line_width * len(blueprint))
    thick = cv2.dilate(blueprint, np.ones((width + 1, width + 1), np.uint8)) if width else blueprint
    return thick.astype(np.float32) / 255


def _ground(style: Style, size: int) -> Floats:
    first, second = (_unit(colour) for colour in style.ground_colours)
    return first + _pattern(style, size)[..., None] * (second - first)


def _pattern(style: Style, size: int) -> Floats:
    """How much of the second colour, [S, S] in [0, 1]."""
    along, across = _directions(size, style.angle)
    wide = 2.2 * style.scale
    if style.ground == "gradient":
        return np.clip(along + 0.5, 0, 1)
    if style.ground == "stripes":
        return np.clip(0.5 + 4 * np.cos(2 * np.pi * along / wide), 0, 1)
    if style.ground == "dots":
        return np.clip(4 * (np.cos(2 * np.pi * along / wide) + np.cos(2 * np.pi * across / wide)) - 3, 0, 1)
    if style.ground == "checks":
        return np.clip(0.5 + 6 * np.cos(np.pi * along / wide) * np.cos(np.pi * across / wide), 0, 1)
    if style.ground == "frame":
        y, x = (np.mgrid[:size, :size].astype(np.float32) + 0.5) / size - 0.5
        return np.clip((np.maximum(np.abs(x), np.abs(y)) - 0.5 + style.scale) * size, 0, 1)
    return np.zeros((size, size), np.float32)
