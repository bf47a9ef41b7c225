"""The studio's colours and type: calm neutral surfaces, one accent (ultramarine), the system's own fonts. Nothing is fetched."""

from __future__ import annotations

from typing import Any

from gradio.themes import Base
from gradio.themes.utils.colors import Color

_FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "Liberation Sans", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Liberation Mono", "monospace")

ULTRAMARINE = Color(
    name="ultramarine", c50="#eef1fd", c100="#dfe4fb", c200="#c3ccf7", c300="#9eacf1", c400="#7b8cea", c500="#5468dd", c600="#3d50c8",
    c700="#3240a3", c800="#2b3782", c900="#262f67", c950="#181d40",
)  # fmt: skip
PAPER = Color(
    name="paper", c50="#faf9f7", c100="#f4f2ef", c200="#e8e5e0", c300="#d6d2cb", c400="#a9a49b", c500="#7d7870", c600="#5c5852",
    c700="#3f3c38", c800="#2a2826", c900="#1d1c1a", c950="#131211",
)  # fmt: skip

# name -> (light, dark). Gradio's own variables, so that panels written against them look right in any host.
_COLOURS = {
    "body_background_fill": ("#f4f2ef", "#161514"),
    "body_text_color": ("#22201d", "#ece9e4"),
    "body_text_color_subdued": ("#6a655d", "#a49e95"),
    "background_fill_primary": ("#ffffff", "#201e1c"),
    "background_fill_secondary": ("#faf9f7", "#1b1a18"),
    "block_background_fill": ("#ffffff", "#201e1c"),
    "block_label_background_fill": ("#ffffff", "#201e1c"),
    "block_label_text_color": ("#5c5852", "#b9b3aa"),
    "block_title_text_color": ("#22201d", "#ece9e4"),
    "block_info_text_color": ("#6a655d", "#a49e95"),
    "block_border_color": ("#e4e1db", "#34312e"),
    "border_color_primary": ("#e4e1db", "#34312e"),
    "border_color_accent": ("#3d50c8", "#8f9ff2"),
    "color_accent_soft": ("#eef1fd", "#262a44"),
    "input_background_fill": ("#faf9f7", "#292623"),
    "input_border_color": ("#dcd8d1", "#3d3a36"),
    "input_border_color_focus": ("#3d50c8", "#8f9ff2"),
    "slider_color": ("#3d50c8", "#8f9ff2"),
    "button_primary_background_fill": ("#3d50c8", "#5468dd"),
    "button_primary_background_fill_hover": ("#3240a3", "#6577e4"),
    "button_primary_text_color": ("#ffffff", "#ffffff"),
    "button_secondary_background_fill": ("#ffffff", "#292623"),
    "button_secondary_background_fill_hover": ("#f4f2ef", "#34312e"),
    "button_secondary_border_color": ("#dcd8d1", "#3d3a36"),
    "button_secondary_text_color": ("#22201d", "#ece9e4"),
    "checkbox_background_color": ("#ffffff", "#292623"),
    "checkbox_background_color_selected": ("#3d50c8", "#5468dd"),
    "checkbox_border_color": ("#bdb8af", "#57534d"),
    "checkbox_border_color_selected": ("#3d50c8", "#5468dd"),
    "checkbox_label_background_fill": ("#faf9f7", "#292623"),
    "checkbox_label_background_fill_selected": ("#eef1fd", "#262a44"),
    "checkbox_label_border_color": ("#dcd8d1", "#3d3a36"),
    "checkbox_label_border_color_selected": ("#3d50c8", "#8f9ff2"),
    "checkbox_label_text_color": ("#22201d", "#ece9e4"),
    "checkbox_label_text_color_selected": ("#22201d", "#ece9e4"),
    "error_background_fill": ("#fdf1ef", "#35201d"),
    "error_border_color": ("#e9b4ab", "#7a3d34"),
    "error_text_color": ("#8f2a1b", "#f2b3a8"),
    "link_text_color": ("#3d50c8", "#a5b1f6"),
}
_PLAIN = {
    "color_accent": "#5468dd",  # gradio keeps one for light and dark
    "block_radius": "14px",
    "block_border_width": "1px",
    "block_label_radius": "8px",
    "block_shadow": "none",
    "block_title_text_weight": "500",
    "block_info_text_size": "12.5px",
    "block_label_text_size": "13px",
    "button_large_radius": "10px",
    "button_medium_radius": "10px",
    "button_small_radius": "8px",
    "button_primary_shadow": "none",
    "button_secondary_shadow": "none",
    "button_transform_hover": "none",
    "checkbox_label_border_width": "1px",
    "container_radius": "14px",
    "input_radius": "8px",
    "input_border_width": "1px",
    "input_shadow": "none",
    "layout_gap": "14px",
}


def theme() -> Any:
    """The theme, light and dark."""
    base = Base(primary_hue=ULTRAMARINE, secondary_hue=PAPER, neutral_hue=PAPER, font=list(_FONT), font_mono=list(_MONO))
    both = {name: light for name, (light, _) in _COLOURS.items()} | {f"{name}_dark": dark for name, (_, dark) in _COLOURS.items()}
    return base.set(**both, **_PLAIN)
