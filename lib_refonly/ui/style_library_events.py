"""The library's part of the Styles page: what happens. The layout is in `style_library_panel`."""

from __future__ import annotations

import colorsys
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from lib_refonly.errors import BadSettings
from lib_refonly.imaging.infotext import png_bytes, write_atomically
from lib_refonly.stylecode import library_json
from lib_refonly.stylecode.codes import Code, CodeModel
from lib_refonly.stylecode.library import Imported
from lib_refonly.stylecode.saved import SavedStyle
from lib_refonly.ui import markup, shim
from lib_refonly.ui.style_library_panel import ORDERS
from lib_refonly.ui.style_panel import StylePanel
from lib_refonly.ui.style_session import StyleSession
from lib_refonly.ui.style_work import StyleShop, Updates
from lib_refonly.ui.troubles import guarded

MOST_SHOWN = 120
_NEAREST = 8
_DELETE = "Delete"
_STAR = "★ "


class StyleLibraryEvents:
    """Handlers of the library's part. What a painter changes here, every tab of this machine's page sees when it looks again."""

    def __init__(self, panel: StylePanel, shop: StyleShop) -> None:
        self.panel, self.part, self.shop = panel, panel.library, shop
        self._thumbnails: tempfile.TemporaryDirectory[str] | None = None

    def wire(self, opened: Any) -> None:
        """Connect the part's events; `opened` is that of the page or the tab being opened."""
        p, part = self.panel, self.part
        lists = [part.message, part.gallery, part.listed, part.everything]
        listing = guarded(part.message)(self.refresh)
        shim.on(opened, listing, [p.session, *part.asked], lists)
        for asked in part.asked:
            shim.on(asked.change, listing, [p.session, *part.asked], lists, live=True)
        shim.on(part.everything.click, listing, [p.session, *part.asked], lists)
        self._wire_chosen([p.session, *part.asked], lists)
        keep = [p.session, p.current.code, part.name, part.tags, part.is_favourite, *part.asked]
        shim.on(part.save.click, guarded(part.message)(self.save), keep, [*lists, part.name, part.tags, part.save, *part.card])
        shim.on(part.export.click, guarded(part.message)(self.export), [p.session], [part.message, part.file])
        shim.on(part.take_in.upload, guarded(part.message)(self.take_in), [p.session, part.take_in, *part.asked], lists)

    def _wire_chosen(self, listing: list[Any], lists: list[Any]) -> None:
        p, part = self.panel, self.part
        shown = [*lists, *part.card]
        on: list[tuple[Any, Callable[..., Updates], list[Any], list[Any]]] = [
            (part.gallery.select, self.pick, [p.session], [part.message, *part.card]),
            (part.use.click, self.use, [p.session], [part.message, p.current.code]),
            (part.favourite.click, self.favourite, listing, shown),
            (part.rename.click, self.rename, [*listing, part.new_name], shown),
            (part.retag.click, self.retag, [*listing, part.new_tags], shown),
            (part.delete.click, self.delete, listing, shown),
            (part.nearest.click, self.nearest, [p.session], lists),
        ]
        for event, handler, inputs, outputs in on:
            shim.on(event, guarded(part.message)(handler), inputs, outputs)

    # --- the list -------------------------------------------------------------------------------------------------------------------------------------

    def refresh(self, session: StyleSession, text: str, favourites: bool, order: str) -> Updates:
        """The gallery as it is now."""
        library, part = self.shop.library(), self.part
        orders: dict[str, Any] = dict(ORDERS)
        found = library.search(text or "", favourites_only=bool(favourites), order=orders.get(order, "recent"))
        shown = found[:MOST_SHOWN]
        narrowed = bool((text or "").strip() or favourites)
        return {
            part.message: markup.message(library.problem, "warning"),
            part.gallery: self._gallery(session, [(style, _title(style)) for style in shown]),
            part.listed: markup.hint(_counted(len(found), narrowed)),
            part.everything: shim.update(visible=False),
        }

    def _gallery(self, session: StyleSession, styles: Sequence[tuple[SavedStyle, str]]) -> Any:
        session.listed = [style.name for style, _ in styles]
        return shim.update(value=[(str(self._thumbnail(style)), title) for style, title in styles])

    def _thumbnail(self, style: SavedStyle) -> Path:
        """As a file: named by what is in it, so each is written once."""
        data = style.thumbnail or _pattern(style)
        if self._thumbnails is None:
            self._thumbnails = tempfile.TemporaryDirectory(prefix="refonly-thumbnails-", ignore_cleanup_errors=True)
        path = Path(self._thumbnails.name) / f"{hashlib.blake2b(data, digest_size=16).hexdigest()}.png"
        if not path.exists():
            write_atomically(path, data)
        return path

    def nearest(self, session: StyleSession) -> Updates:
        """The gallery shows those that are like the chosen one."""
        part, style = self.part, self._chosen(session)
        near = self.shop.library().nearest(style.latent, CodeModel(style.model, normalised=False), _NEAREST + 1)
        others = [(one, far) for one, far in near if one.name != style.name][:_NEAREST]
        if not others:
            raise BadSettings("There is no other style of this model in the library yet.")
        return {
            part.message: "",
            part.gallery: self._gallery(session, [(one, f"{_title(one)} · {max(0.0, far):.2f}") for one, far in others]),
            part.listed: markup.hint(f"Nearest to {style.name}, with their distance: 0 is the same style, 1 one that has nothing to do with it."),
            part.everything: shim.update(visible=True),
        }

    # --- one style ------------------------------------------------------------------------------------------------------------------------------------

    def pick(self, session: StyleSession, event: gr.SelectData) -> Updates:
        """A click in the gallery."""
        if int(event.index) >= len(session.listed):
            return {}
        return {self.part.message: ""} | self._card(session, self.shop.library().get(session.listed[int(event.index)]))

    def _chosen(self, session: StyleSession) -> SavedStyle:
        if not session.chosen:
            raise BadSettings("Choose a style in the gallery first.")
        return self.shop.library().get(session.chosen)

    def _card(self, session: StyleSession, style: SavedStyle | None) -> Updates:
        """The chosen style's part; None: nothing is chosen."""
        part = self.part
        session.chosen, session.sure = style.name if style else "", ""
        if style is None:
            return {part.shown: shim.update(visible=False)}
        return {
            part.shown: shim.update(visible=True),
            part.about: _about(style, next((str(model) for model in self.shop.known() if model.name == style.model), style.model)),
            part.favourite: shim.update(value="No favourite" if style.favourite else "Favourite"),
            part.delete: shim.update(value=_DELETE, variant="secondary"),
            part.new_name: style.name,
            part.new_tags: ", ".join(style.tags),
        }

    def use(self, session: StyleSession) -> Updates:
        """It becomes the current style."""
        style = self._chosen(session)
        self.shop.library().touch(style.name)
        return {self.part.message: markup.message(f"{style.name} is in the code box now.", "done"), self.panel.current.code: style.code}

    def favourite(self, session: StyleSession, *asked: Any) -> Updates:
        style = self._chosen(session)
        return self._changed(session, self.shop.library().set_favourite(style.name, not style.favourite), asked, "")

    def rename(self, session: StyleSession, text: str, favourites: bool, order: str, name: str) -> Updates:
        style = self.shop.library().rename(self._chosen(session).name, name)
        return self._changed(session, style, (text, favourites, order), f"It is called {style.name} now.")

    def retag(self, session: StyleSession, text: str, favourites: bool, order: str, tags: str) -> Updates:
        style = self.shop.library().set_tags(self._chosen(session).name, tags.split(","))
        return self._changed(session, style, (text, favourites, order), "Its tags are set.")

    def delete(self, session: StyleSession, *asked: Any) -> Updates:
        """The first click asks, the second does it."""
        style = self._chosen(session)
        if session.sure != f"delete {style.name}":
            session.sure = f"delete {style.name}"
            return {self.part.delete: shim.update(value="Really delete?", variant="stop")}
        self.shop.library().delete(style.name)
        return self.refresh(session, *asked) | {self.part.message: markup.message(f"{style.name} is deleted.", "done")} | self._card(session, None)

    def _changed(self, session: StyleSession, style: SavedStyle, asked: Sequence[Any], said: str) -> Updates:
        listed = self.refresh(session, asked[0], asked[1], asked[2])
        return listed | ({self.part.message: markup.message(said, "done")} if said else {}) | self._card(session, style)

    # --- in and out -----------------------------------------------------------------------------------------------------------------------------------

    def save(self, session: StyleSession, code: str, name: str, tags: str, favourite: bool, *asked: Any) -> Updates:
        """Keep the current style. Where the name is taken, the first click asks, the second replaces."""
        part, library = self.part, self.shop.library()
        if not code.strip():
            raise BadSettings("There is no current style: give a code on the left first.")
        style = self.shop.read(code)
        sure = f"replace {name.strip()}"
        taken = self.shop.named(name) is not None
        if taken and session.sure != sure:
            session.sure = sure
            said = markup.message(f"There is a style {name.strip()} already. Press the button again to replace it.", "warning")
            return {part.message: said, part.save: shim.update(value="Replace it")}
        told = {"tags": tags.split(",")} if tags.strip() or not taken else {}
        held = Code(style.latent, style.model, "long")
        saved = library.save(name, held, session.picture_of(style.code), favourite=bool(favourite) or None, replace=taken, **told)
        done = {part.name: "", part.tags: "", part.save: shim.update(value="Save")}
        return self._changed(session, saved, asked, f"{saved.name} is in the library.") | done

    def export(self, session: StyleSession) -> Updates:
        """All styles as one file."""
        path = session.write(f"styles-{time.strftime('%Y-%m-%d')}.json", self.shop.library().export_json().encode("utf-8"))
        return {self.part.message: "", self.part.file: shim.update(value=str(path), visible=True)}

    def take_in(self, session: StyleSession, file: Any, *asked: Any) -> Updates:
        """A file of styles."""
        if not file:
            return {}
        done = self.shop.library().import_json(_text_of(file))
        return self.refresh(session, *asked) | {self.part.message: markup.message(summary(done), "done")}


def summary(done: Imported) -> str:
    """What an import did, in words."""
    said = [f"{_styles(done.added)} added" + (f", {done.same} here already." if done.same else ".")]
    said += [f"{before} is called {now} here, since its name was taken." for before, now in done.renamed[:5]]
    said += [f"{len(done.renamed) - 5} more were renamed."] if len(done.renamed) > 5 else []
    said += [f"The model of {', '.join(done.unknown[:5])}{' and others' if len(done.unknown) > 5 else ''} is not here."] if done.unknown else []
    return " ".join(said)


def _text_of(file: Any) -> str:
    path = getattr(file, "name", file)  # gradio 3 hands over an open file
    try:
        if os.path.getsize(path) > 4 * library_json.LONGEST:
            raise BadSettings(f"The file is larger than {library_json.LONGEST // 1_000_000} MB.")
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise BadSettings("This is no file of styles that was exported here.") from None
    except OSError as error:
        raise BadSettings(f"The file can't be read: {error.strerror or error}.") from error


def _about(style: SavedStyle, model: str) -> str:
    tags = "".join(f"<li>{escape(tag)}</li>" for tag in style.tags)
    missing = "" if style.known else " It is not here, so the code can't be painted."
    return (
        f'<h3 class="refonly-subheading">{_STAR if style.favourite else ""}{escape(style.name)}</h3>'
        f'<p class="refonly-styles-code"><code>{escape(style.code)}</code></p>'
        f'<p class="refonly-hint">Model: {escape(model)}.{missing}</p>' + (f'<ul class="refonly-tags">{tags}</ul>' if tags else "")
    )


def _title(style: SavedStyle) -> str:
    return (_STAR if style.favourite else "") + style.name


def _counted(found: int, narrowed: bool) -> str:
    if not found:
        return "No style in the library is like that." if narrowed else "Nothing here yet. Save the current style, or import a file."
    if found > MOST_SHOWN:
        return f"The first {MOST_SHOWN} of {found} styles. Search to see the others."
    return f"{_styles(found)}."


def _styles(count: int) -> str:
    return "1 style" if count == 1 else f"{count} styles"


def _pattern(style: SavedStyle) -> bytes:
    """What stands for a style without a picture: its 20 numbers as colours."""
    try:
        numbers = style.latent
    except BadSettings:
        numbers = (0.0,) * 20
    colours = [colorsys.hsv_to_rgb((0.6 + 0.12 * x) % 1, 0.32, min(0.95, max(0.45, 0.75 + 0.12 * x))) for x in numbers]
    small = Image.new("RGB", (5, 4))
    small.putdata([(int(255 * r), int(255 * g), int(255 * b)) for r, g, b in colours])
    return png_bytes(small.resize((160, 160), Image.Resampling.NEAREST))
