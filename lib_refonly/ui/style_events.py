"""The Styles page: what happens. The layout is in `style_panel`; the library has a module of its own."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from lib_refonly.errors import BadPicture, BadSettings
from lib_refonly.imaging.decode import open_picture
from lib_refonly.studio.desk import Desk
from lib_refonly.studio.style_jobs import Painted, StylePainter
from lib_refonly.stylecode import shelf
from lib_refonly.stylecode.asked import Style
from lib_refonly.stylecode.codes import Code, CodeModel, blend
from lib_refonly.stylecode.library import Library
from lib_refonly.ui import markup, shim
from lib_refonly.ui.style_library_events import StyleLibraryEvents
from lib_refonly.ui.style_panel import FIRST_ROWS, ROWS, ExplorePart, MixPart, StylePanel, Work
from lib_refonly.ui.style_recipes import Cell, apart, from_the_middle, like_cells, mix_cells, mix_of, random_cells, rounded, shortest
from lib_refonly.ui.style_session import Grid, Job, StyleSession
from lib_refonly.ui.style_work import Asked, StyleShop, Updates, card_code, infotext, must_have_code, picture_of, stop, working
from lib_refonly.ui.troubles import explain, guarded

_NUMBERS = 1_000_000


class StyleEvents:
    """Handlers of one page. They return {component: update}; what belongs to one tab is in its `StyleSession`, so tabs don't meet.

    Args:
        library: the painter's; asked for at each use, so that a file that can't be used is told where it is needed.
        known: whose codes can be read here.
    """

    def __init__(
        self, panel: StylePanel, painter: StylePainter, library: Callable[[], Library], desk: Desk, known: Callable[[], Sequence[CodeModel]] = shelf.known
    ) -> None:
        self.panel, self.shop = panel, StyleShop(painter, library, desk, known)
        self._library_events = StyleLibraryEvents(panel, self.shop)

    # --- wiring ---------------------------------------------------------------------------------------------------------------------------------------

    def wire(self, opened: Any) -> None:
        """Connect every event of the page; `opened` is that of the page or the tab being opened."""
        self._wire_current()
        self._wire_pictures()
        self._wire_mix()
        self._wire_explore()
        self._wire_compare()
        self._library_events.wire(opened)

    def _stops(self, work: Work, part: str) -> None:
        shim.on(work.stop.click, lambda session: stop(session, part), [self.panel.session], [work.stop], now=True)

    def _wire_current(self) -> None:
        p, c = self.panel, self.panel.current
        shim.on(c.code.change, self.look, [p.session, c.code], [c.said, c.short, c.long, c.make_card], live=True)
        shim.on(c.work.go.click, self.preview, [p.session, c.code, *c.painted], [*c.work.all, *self._shown])
        shim.on(c.code.submit, self.preview, [p.session, c.code, *c.painted], [*c.work.all, *self._shown])
        self._stops(c.work, "preview")
        shim.on(c.read_zone.upload, self.read_zone, [c.read_zone], [c.read_zone, c.work.message, c.code])
        shim.on(c.make_card.click, guarded(c.work.message)(self.make_card), [p.session, c.code], [c.work.message, c.card, c.save_card])

    @property
    def _shown(self) -> list[Any]:
        """What shows the current style's picture."""
        c = self.panel.current
        return [c.blank, c.picture, c.make_card, c.card, c.save_card]

    def _wire_pictures(self) -> None:
        p, part = self.panel, self.panel.pictures
        for zone in part.zones:
            shim.on(zone.upload, partial(self.given, zone), [zone], [zone, part.work.message, p.current.code])
        shim.on(part.work.go.click, self.make, [p.session, *part.zones], [*part.work.all, p.current.code])
        self._stops(part.work, "make")

    def _wire_mix(self) -> None:
        p, part = self.panel, self.panel.mix
        painted = [p.session, part.live, *part.asked, *p.current.painted]
        outputs = [*part.work.all, part.grid]
        for _, code, weight, current in part.rows:
            shim.on(code.change, self.look_mix, part.asked, [part.said, part.code], live=True)
            shim.on(weight.change, self.look_mix, part.asked, [part.said, part.code], live=True)
            shim.on(current.click, lambda text: text, [p.current.code], [code])
        for slider in (*(weight for _, _, weight, _ in part.rows), part.amount):
            shim.on(slider.release, self.mix_moved, painted, None, now=True)
            shim.on(slider.release, self.mix_live, painted, outputs, live=True)
        shim.on(part.more.click, self.more_rows, [p.session], [part.more, *(row for row, _, _, _ in part.rows)])
        shim.on(part.take.click, lambda code: code or shim.update(), [part.code], [p.current.code])
        shim.on(part.work.go.click, self.mix, painted, outputs)
        shim.on(part.grid.select, guarded(part.work.message)(self.pick_mix), [p.session], [part.work.message, p.current.code, *self._shown])
        self._stops(part.work, "mix")

    def _wire_explore(self) -> None:
        p, part = self.panel, self.panel.explore
        outputs = [*part.work.all, part.random, part.grid]
        shim.on(part.new_number.click, lambda: random.randrange(_NUMBERS), None, [part.number])
        shim.on(part.take.click, guarded(part.work.message)(self.take_number), [part.number, p.current.code], [part.work.message, p.current.code])
        shim.on(part.random.click, self.random, [p.session, part.number, p.current.code, *p.current.painted], outputs)
        shim.on(part.work.go.click, self.more_like, [p.session, part.number, part.amount, p.current.code, *p.current.painted], outputs)
        shim.on(part.grid.select, guarded(part.work.message)(self.pick_explored), [p.session], [part.work.message, p.current.code, *self._shown])
        self._stops(part.work, "explore")

    def _wire_compare(self) -> None:
        p, part = self.panel, self.panel.compare
        for code, current in zip(part.codes, part.current, strict=True):
            shim.on(code.change, self.look_compare, part.codes, [part.said], live=True)
            shim.on(current.click, lambda text: text, [p.current.code], [code])
        shim.on(part.work.go.click, self.compare, [p.session, *part.codes, *p.current.painted], [*part.work.all, *part.pictures])
        self._stops(part.work, "compare")

    # --- the current style ----------------------------------------------------------------------------------------------------------------------------

    def look(self, session: StyleSession, text: str) -> Updates:
        """What is in the code box: whose code it is, what was corrected, or what is wrong."""
        c = self.panel.current
        hidden = {box: shim.update(value="", visible=False) for box in (c.short, c.long)} | {c.make_card: shim.update(visible=False)}
        if not text.strip():
            return hidden | {c.said: ""}
        try:
            style = self.shop.read(text)
        except Exception as error:
            return hidden | {c.said: explain(error, loud=False)}
        short, model = shortest(style), f"A style of {style.model}."
        return {
            c.said: markup.message(" ".join(style.notes), "warning") if style.notes else markup.hint(model),
            c.short: shim.update(value=short, visible=short not in (text.strip(), style.code)),
            c.long: shim.update(value=style.code, visible=True),
            c.make_card: shim.update(visible=session.picture_of(style.code) is not None),
        }

    def preview(self, session: StyleSession, text: str, *values: Any) -> Iterator[Updates]:
        """The Preview button."""
        c, job = self.panel.current, session.begin("preview")
        style: Style | None = None
        asked: Asked | None = None

        def events() -> Iterator[Any]:
            nonlocal style, asked
            style, asked = self._style(text), Asked.of(values, c.form)
            return self.shop.paint(asked.wish([style]), job)

        def done(event: Painted | Code) -> Updates:
            assert isinstance(event, Painted)
            assert style is not None
            assert asked is not None
            session.preview = (style.code, event.picture)
            return self._picture(session.keep(event.picture, "style", infotext(asked.wish([style]), style)))

        yield from working(c.work, job, events, done)

    def _style(self, text: str) -> Style:
        if not text.strip():
            raise BadSettings("Give a code first: paste one, drop a share card, or make one from a picture.")
        return self.shop.read(text)

    def _picture(self, path: Path) -> Updates:
        """A picture of the current style on show; the card of the one before goes."""
        c = self.panel.current
        shown = {c.blank: shim.update(visible=False), c.picture: shim.update(value=str(path), visible=True), c.make_card: shim.update(visible=True)}
        return shown | {c.card: shim.update(visible=False), c.save_card: shim.update(visible=False)}

    def read_zone(self, given: Path | str | None) -> Updates:
        """The zone for share cards: the code comes out, the zone is free again."""
        c = self.panel.current
        if given is None:
            return {}
        try:
            return {c.read_zone: None, c.code: must_have_code(given), c.work.message: markup.message("The code inside that picture is in the box.", "done")}
        except Exception as error:
            return {c.read_zone: None, c.work.message: explain(error)}

    def make_card(self, session: StyleSession, text: str) -> Updates:
        """A card of the style and its preview, to look at and to save."""
        from lib_refonly.stylecode.card import make_card

        c, style = self.panel.current, self._style(text)
        picture = session.picture_of(style.code)
        if picture is None:
            raise BadSettings("Press Preview first: the card shows a picture of this style.")
        name = text.strip() if self.shop.named(text.strip()) else ""
        path = session.write("stylecode.png", make_card(picture, Code(style.latent, style.model, "long"), name))
        return {c.work.message: "", c.card: shim.update(value=str(path), visible=True), c.save_card: shim.update(value=str(path), visible=True)}

    # --- from pictures --------------------------------------------------------------------------------------------------------------------------------

    def given(self, zone: Any, given: Path | str | None) -> Updates:
        """A file was put into a zone: refuse what is no picture at once, and take the code of one that has it inside."""
        p, message = self.panel, self.panel.pictures.work.message
        if given is None:
            return {}
        try:
            code = card_code(given)
        except Exception as error:
            return {zone: None, message: explain(error)}
        if code is None:
            return {message: ""}
        said = "This picture has its style's code inside. It is in the code box now; nothing has to be made."
        return {zone: None, message: markup.message(said, "done"), p.current.code: code}

    def make(self, session: StyleSession, *zones: Path | str | None) -> Iterator[Updates]:
        """The button that makes a code of the pictures."""
        p, work, job = self.panel, self.panel.pictures.work, session.begin("make")
        made = [one for one in zones if one]

        def events() -> Iterator[Any]:
            if not made:
                raise BadPicture("Add a picture first: its style becomes the code.")
            return self.shop.make([picture_of(one) for one in made], job)

        def done(event: Painted | Code) -> Updates:
            assert isinstance(event, Code)
            code = shortest(Style(event.latent, event.model))
            what = "the picture's style" if len(made) == 1 else f"what the {len(made)} pictures have in common"
            return {p.current.code: code, work.message: markup.message(f"{code} is {what}. It is in the code box; Preview there shows it.", "done")}

        yield from working(work, job, events, done)

    # --- mix ------------------------------------------------------------------------------------------------------------------------------------------

    def look_mix(self, *asked: Any) -> Updates:
        """The mixture's code, as weights and codes are now."""
        part = self.panel.mix
        if _filled(asked) < 2:
            return {part.said: "", part.code: ""}
        try:
            mixture, parts = self._mixture(asked)
        except Exception as error:
            return {part.said: explain(error, loud=False), part.code: ""}
        notes = [note for style in parts for note in style.notes]
        return {part.said: markup.message(" ".join(notes), "warning"), part.code: shortest(mixture)}

    def _mixture(self, asked: Sequence[Any]) -> tuple[Style, list[Style]]:
        return mix_of(list(zip(asked[:ROWS], asked[ROWS : 2 * ROWS], strict=True)), self.shop.known(), self.shop.named)

    def more_rows(self, session: StyleSession) -> Updates:
        """Show the next row."""
        part = self.panel.mix
        session.rows = min(session.rows + 1, ROWS - FIRST_ROWS)
        shown = FIRST_ROWS + session.rows
        rows = {row: shim.update(visible=number < shown) for number, (row, _, _, _) in enumerate(part.rows)}
        return rows | {part.more: shim.update(visible=shown < ROWS)}

    def mix_moved(self, session: StyleSession, live: bool, *values: Any) -> None:
        """A slider was let go: a grid that is being painted for other weights ends at once, out of turn."""
        if live and _filled(values) > 1:
            session.move_on("mix", _wish(values))

    def mix_live(self, session: StyleSession, live: bool, *values: Any) -> Iterator[Updates]:
        """A slider was let go: the grid follows, if that is wanted and there is something to mix."""
        if live and _filled(values) > 1:
            yield from self.mix(session, live, *values)

    def mix(self, session: StyleSession, live: bool, *values: Any) -> Iterator[Updates]:
        """Nine pictures: the mixture and what is around it."""
        part, size = self.panel.mix, len(self.panel.mix.asked)
        job = session.begin("mix", _wish(values))

        def cells() -> list[Cell]:
            mixture, parts = self._mixture(values)
            return mix_cells(mixture, parts, values[size - 1])

        yield from self._grid(session, session.mix, job, part, cells, values[size:])

    def pick_mix(self, session: StyleSession, event: gr.SelectData) -> Updates:
        """A click in the grid."""
        return self._pick(session, session.mix, int(event.index))

    # --- explore --------------------------------------------------------------------------------------------------------------------------------------

    def take_number(self, number: float | None, text: str) -> Updates:
        """The style of a number becomes the current one."""
        style = rounded(blend.random_style(_number(number)), self._model(text))
        return {self.panel.current.code: shortest(style), self.panel.explore.work.message: ""}

    def random(self, session: StyleSession, number: float | None, text: str, *values: Any) -> Iterator[Updates]:
        """Nine styles by number."""
        yield from self._explored(session, lambda: random_cells(_number(number), self._model(text)), values)

    def more_like(self, session: StyleSession, number: float | None, amount: float, text: str, *values: Any) -> Iterator[Updates]:
        """Eight styles around the current one."""
        yield from self._explored(session, lambda: like_cells(self._style(text), amount, _number(number)), values)

    def _explored(self, session: StyleSession, cells: Callable[[], list[Cell]], values: Sequence[Any]) -> Iterator[Updates]:
        part, job = self.panel.explore, session.begin("explore")
        yield from self._grid(session, session.explore, job, part, cells, values, also=[part.random])

    def pick_explored(self, session: StyleSession, event: gr.SelectData) -> Updates:
        """A click in the grid."""
        return self._pick(session, session.explore, int(event.index))

    def _model(self, text: str) -> CodeModel:
        """Whose styles random ones are: the current style's model, else the first whose styles are made like random ones."""
        try:
            return self.shop.read(text).model
        except BadSettings:
            known = self.shop.known()
            return next((model for model in known if model.normalised), known[0])

    # --- grids ----------------------------------------------------------------------------------------------------------------------------------------

    def _grid(
        self,
        session: StyleSession,
        grid: Grid,
        job: Job,
        part: MixPart | ExplorePart,
        cells: Callable[[], list[Cell]],
        values: Sequence[Any],
        also: Sequence[Any] = (),
    ) -> Iterator[Updates]:
        """Paint nine, the middle first; what is not painted yet can be clicked too."""
        order = from_the_middle()
        wish: Any = None

        def events() -> Iterator[Any]:
            nonlocal wish
            new, asked = cells(), Asked.of(values, self.panel.current.form)
            grid.show(new, session.empty_tile())
            wish = asked.wish([new[place].style for place in order], draft=True)
            return self.shop.paint(wish, job)

        def done(event: Painted | Code) -> Updates:
            assert isinstance(event, Painted)
            place = order[event.number]
            grid.files[place] = session.keep(event.picture, "style", infotext(wish, grid.cells[place].style))
            return {part.grid: grid.shown}

        yield from working(part.work, job, events, done, also)

    def _pick(self, session: StyleSession, grid: Grid, index: int) -> Updates:
        """A click takes the cell's style, and its picture where there is one."""
        if index >= len(grid.cells):
            return {}
        cell, path = grid.cells[index], grid.painted(index)
        taken: Updates = {self.panel.current.code: cell.code}
        if path is None:
            return taken
        session.preview = (cell.style.code, open_picture(path))
        return taken | self._picture(path)

    # --- compare --------------------------------------------------------------------------------------------------------------------------------------

    def look_compare(self, *texts: str) -> str:
        """How far two styles are apart, as soon as there are two."""
        if not all((text or "").strip() for text in texts):
            return ""
        try:
            styles = self._pair(texts)
            far, words = apart(*styles)
        except Exception as error:
            return explain(error, loud=False)
        notes = [note for style in styles for note in style.notes]
        return markup.message(" ".join([f"Distance {far:.2f}: {words}. (0 is the same style, 1 one that has nothing to do with it.)", *notes]), "note")

    def _pair(self, texts: Sequence[str]) -> tuple[Style, Style]:
        styles = []
        for letter, text in zip("AB", texts, strict=True):
            if not (text or "").strip():
                raise BadSettings(f"Give style {letter} first: a code, or a name from your library.")
            try:
                styles.append(self.shop.read(text))
            except BadSettings as error:
                raise BadSettings(f"Style {letter}: {error}") from None
        return styles[0], styles[1]

    def compare(self, session: StyleSession, one: str, other: str, *values: Any) -> Iterator[Updates]:
        """Both styles with the same prompt and seed."""
        part, job = self.panel.compare, session.begin("compare")
        styles: list[Style] = []
        asked: Any = None

        def events() -> Iterator[Any]:
            nonlocal asked
            styles.extend(self._pair((one, other)))
            asked = Asked.of(values, self.panel.current.form)
            for number, style in enumerate(styles):  # each with its own model
                for event in self.shop.paint(asked.wish([style]), job):
                    yield Painted(number, event.picture) if isinstance(event, Painted) else event

        def done(event: Painted | Code) -> Updates:
            assert isinstance(event, Painted)
            style = styles[event.number]
            path = session.keep(event.picture, f"style-{'ab'[event.number]}", infotext(asked.wish([style]), style))
            return {part.pictures[event.number]: shim.update(value=str(path), visible=True)}

        yield from working(part.work, job, events, done)


def _number(number: float | None) -> int:
    if number is None or number < 0:
        raise BadSettings("Give a number first, 0 or larger; or press New number.")
    return int(number)


def _filled(asked: Sequence[Any]) -> int:
    """Rows of the mixture that say something."""
    return sum(bool((text or "").strip()) for text in asked[:ROWS])


def _wish(values: Sequence[Any]) -> tuple[str, ...]:
    """To compare: what a grid was asked for."""
    return tuple(map(repr, values))
