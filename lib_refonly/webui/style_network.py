"""`<sref:CODE:0.8>` and `<sref:name:0.8>` in the prompt, and the library as a page of the host's extra networks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from modules import extra_networks, ui_extra_networks

from lib_refonly.errors import PainterError
from lib_refonly.stylecode.saved import SavedStyle
from lib_refonly.webui.context import context
from lib_refonly.webui.script import RefOnlyScript
from lib_refonly.webui.styles import NETWORK

_DEFAULT = 1.0


class StyleNetwork(extra_networks.ExtraNetwork):
    """The host calls `activate` before each batch and before a hires pass, with what stands in that prompt."""

    def __init__(self) -> None:
        super().__init__(NETWORK)

    def activate(self, p: Any, params_list: Sequence[Any]) -> None:
        RefOnlyScript.prompted(p, [weighted(params.items) for params in params_list])

    def deactivate(self, p: Any) -> None:
        pass


def weighted(items: Sequence[str]) -> tuple[str, float]:
    """["CODE", "0.8"] -> the code and its weight. What is no number stays with the code, which is then refused by name."""
    code, *rest = [*items] or [""]
    if not rest:
        return code, _DEFAULT
    try:
        return ":".join([code, *rest[:-1]]), float(rest[-1])
    except ValueError:
        return ":".join(items), _DEFAULT


class StylesPage(ui_extra_networks.ExtraNetworksPage):
    """Thumbnails lie in a folder of their own, which is all that the host may show of ours."""

    def __init__(self) -> None:
        super().__init__("Stylecodes")
        self._folder = context().library.path.with_name("style-thumbnails")

    def refresh(self) -> None:
        pass

    def create_item(self, name: str, index: int | None = None, enable_filter: bool = True) -> dict[str, Any] | None:
        try:
            return self._item(context().library.get(name), index or 0)
        except PainterError:
            return None

    def list_items(self) -> Iterator[dict[str, Any]]:
        try:
            styles = context().library.search(order="name")
        except PainterError:  # the tab says what is wrong with the library
            return
        for index, style in enumerate(styles):
            yield self._item(style, index)

    def _item(self, style: SavedStyle, index: int) -> dict[str, Any]:
        shown = self._thumbnail(style)
        weight = getattr(ui_extra_networks.shared.opts, "extra_networks_default_multiplier", _DEFAULT)
        return {
            "name": style.name,
            "filename": str(shown or self._folder / "none.png"),
            "shorthash": None,
            "preview": self.link_preview(str(shown)) if shown else None,
            "description": ", ".join(style.tags),
            "search_terms": [" ".join((style.name, *style.tags))],
            "prompt": json.dumps(f"<{NETWORK}:{style.name}:{weight:g}>"),
            "local_preview": str(shown or self._folder / "none.png"),
            "sort_keys": {"default": index, "date_created": style.created, "date_modified": style.used, "name": style.name.lower(), "path": style.name.lower()},
        }

    def _thumbnail(self, style: SavedStyle) -> Path | None:
        if not style.thumbnail:
            return None
        path = self._folder / f"{hashlib.sha256(style.thumbnail).hexdigest()[:24]}.png"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                path.write_bytes(style.thumbnail)
        except OSError:
            return None
        return path

    def allowed_directories_for_previews(self) -> list[str]:
        return [str(self._folder)]


def register_network() -> None:
    """For the host's on_before_ui: it has cleared its list by then."""
    if NETWORK not in extra_networks.extra_network_registry:
        extra_networks.register_extra_network(StyleNetwork())
    if not any(isinstance(page, StylesPage) for page in ui_extra_networks.extra_pages):
        ui_extra_networks.register_page(StylesPage())
