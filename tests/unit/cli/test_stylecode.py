"""`studio.py stylecode`: what each action says, as text and as JSON, and how it fails."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lib_refonly.errors import BadModel
from lib_refonly.imaging.infotext import read_infotext, read_png_infotext
from lib_refonly.studio import cli, style_engine
from lib_refonly.studio.commands import stylecode
from lib_refonly.studio.style_engine import StylePaintSettings
from lib_refonly.stylecode import shelf
from lib_refonly.stylecode.card import make_card, read_card
from lib_refonly.stylecode.codes import RELEASED, TINY, Code, CodeModel, blend, read, write_long, write_v1
from lib_refonly.stylecode.codes.levels import latent_of, remainder
from lib_refonly.stylecode.codes.v1 import latent_of_steps, steps_of
from lib_refonly.stylecode.library import Library
from tests.unit.cli.conftest import Run
from tests.unit.cli.fakes import draw

ONE, TWO = (read(write_long(blend.random_style(number), TINY)) for number in (1, 2))
MINE = CodeModel("mine")


class FakeEngine:
    """Codes by the colour of the first picture's corner; paints the latent's first number as grey."""

    calls: list[tuple[Any, ...]] = []

    def __init__(self, device: str = "auto") -> None:
        self.calls.append(("engine", device))

    def code_of(self, pictures: Sequence[Image.Image], model: CodeModel | None = None) -> Code:
        self.calls.append(("code_of", [picture.size for picture in pictures], model))
        return ONE

    def paint(self, latent: Sequence[float], prompt: str, settings: StylePaintSettings | None = None, model: CodeModel | None = None) -> Image.Image:
        assert settings is not None
        self.calls.append(("paint", tuple(latent), prompt, settings, model))
        return Image.new("RGB", (settings.width // 8 * 8, settings.height // 8 * 8), "teal")


@pytest.fixture(autouse=True)
def _no_ones_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REFONLY_STYLES", str(tmp_path / "styles.sqlite"))
    monkeypatch.setattr(shelf, "known", lambda: (TINY, RELEASED))
    monkeypatch.setattr(style_engine, "StyleEngine", FakeEngine)
    FakeEngine.calls = []


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "styles.sqlite", lambda: (TINY, RELEASED))


def test_read_says_what_a_code_says(run: Run) -> None:
    ran = run("stylecode", "read", ONE.long)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == f"short  {ONE.short}\nlong   {ONE.long}\nmodel  {TINY}\n"


@pytest.mark.parametrize(("text", "form", "version"), [(ONE.long, "long", 2), (ONE.short, "short", 2)])
def test_read_as_json(run: Run, text: str, form: str, version: int) -> None:
    (told,) = run("stylecode", "read", text, "--json").rows
    assert told == {
        "format": form,
        "version": version,
        "model": TINY.name,
        "short": ONE.short,
        "long": ONE.long,
        "latent": list(ONE.latent),
        "corrections": [],
    }


def test_read_a_code_of_the_first_version(run: Run) -> None:
    text = write_v1(ONE.latent)
    (told,) = run("stylecode", "read", "--json", text).rows
    assert (told["format"], told["version"], told["model"]) == ("v1", 1, RELEASED.name)
    steps = steps_of(text)
    assert steps is not None
    assert told["latent"] == list(latent_of_steps(steps))


def test_a_slip_is_corrected_and_told(run: Run) -> None:
    typed = ("T" if ONE.long[3] != "T" else "U").join((ONE.long[:3], ONE.long[4:]))
    ran = run("stylecode", "read", typed)
    assert (ran.code, ONE.long in ran.out) == (0, True)
    assert "Symbol 4" in ran.err
    (told,) = run("stylecode", "read", "--json", typed).rows
    assert (told["long"], len(told["corrections"])) == (ONE.long, 1)


def test_a_code_whose_numbers_have_no_short_form(run: Run) -> None:
    flat = write_long(latent_of([40] * 20), TINY)
    ran = run("stylecode", "read", flat)
    assert (ran.code, "short  none" in ran.out) == (0, True)
    assert run("stylecode", "read", flat, "--json").rows[0]["short"] is None


@pytest.mark.parametrize("name", ["card.png", "card.jpg"])
def test_read_a_card(run: Run, name: str) -> None:
    Path("card.png").write_bytes(make_card(Image.new("RGB", (9, 9)), ONE))
    if name == "card.jpg":
        Image.open("card.png").convert("RGB").save(name, quality=70)
    assert run("stylecode", "read", name, "--json").rows[0]["long"] == ONE.long


def test_pictures_that_say_nothing(run: Run) -> None:
    draw(Path("plain.png"), 99)
    ran = run("stylecode", "read", "plain.png")
    assert (ran.code, ran.out) == (3, "")
    assert "plain.png holds no stylecode" in ran.err
    assert run("stylecode", "read", "gone.png").code == 3
    Path("text.png").write_text("no picture")
    assert run("stylecode", "read", "text.png").code == 3


def test_read_a_style_of_the_library(run: Run, library: Library) -> None:
    library.save("Quiet harbour", ONE)
    assert run("stylecode", "read", "quiet harbour", "--json").rows[0]["long"] == ONE.long
    ran = run("stylecode", "read", "quite harbour")
    assert ran.code == 2
    assert "Near it: Quiet harbour." in ran.err


@pytest.mark.parametrize("text", ["", "harbour", ONE.long[:-1], "a" * 300, write_long(ONE.latent, MINE), "a/b\0"])
def test_what_is_no_code(run: Run, text: str, tmp_path: Path) -> None:
    ran = run("stylecode", "read", text, "--json")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("studio.py: ")
    assert len(ran.err.splitlines()) == 1
    assert not (tmp_path / "styles.sqlite").exists()


def test_a_broken_library_is_told_and_codes_are_read_nevertheless(run: Run, tmp_path: Path) -> None:
    (tmp_path / "styles.sqlite").write_text("no database at all" * 99)
    assert (run("stylecode", "read", ONE.long).code, run("stylecode", "read", ONE.long).err) == (0, "")
    ran = run("stylecode", "read", "harbour")
    assert ran.code == 2
    assert "styles.broken-" in ran.err


def test_a_short_code_that_begins_with_a_hyphen(run: Run) -> None:
    levels = next(levels for last in range(64) if not remainder(levels := [62, 1, *[i * 3 + 2 for i in range(17)], last]))
    code = Code(latent_of(levels), RELEASED, "short")
    assert code.short.startswith("-")
    assert run("stylecode", "read", code.short, "--json").rows[0]["long"] == code.long
    told = run("stylecode", "mix", f"{code.short}:2", code.long, "--json").rows[0]
    assert blend.distance(told["latent"], blend.normalised(code.latent)) < 0.01


def test_options_are_never_taken_for_codes() -> None:
    options = [option for action in cli.build_parser()._subparsers._group_actions for option in _options(action.choices["stylecode"])]  # type: ignore[union-attr]
    assert "--negative" in options
    assert stylecode.shielded(options) == options


def _options(parser: Any) -> list[str]:
    own = [option for action in parser._actions for option in action.option_strings]
    inner = [one for action in parser._actions if isinstance(action.choices, dict) for one in action.choices.values()]
    return own + [option for one in inner for option in _options(one)]


def test_mix(run: Run, library: Library) -> None:
    library.save("harbour", TWO)
    (told,) = run("stylecode", "mix", f"{ONE.short}:2", "harbour:-0.5", "--json").rows
    wanted = blend.mix([ONE.latent, TWO.latent], [2, -0.5])
    assert blend.distance(told["latent"], wanted) < 0.005
    assert list(read(told["long"]).latent) == told["latent"]
    assert (told["format"], told["model"], read(told["short"]).latent) == ("long", TINY.name, tuple(told["latent"]))
    (even,) = run("stylecode", "mix", ONE.long, "harbour", "--json").rows
    assert blend.distance(even["latent"], blend.mix([ONE.latent, TWO.latent], [1, 1])) < 0.005
    ran = run("stylecode", "mix", ONE.long, "harbour")
    assert ran.out.splitlines()[1] == f"long   {even['long']}"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((f"{ONE.long}:x",), "'x' is no number"),
        ((f"{ONE.long}:",), "'' is no number"),
        ((f"{ONE.long}:inf",), "'inf' is no number"),
        ((f"{ONE.long}:1", f"{ONE.long}:-1"), "cancel each other out"),
        ((ONE.long, write_long(ONE.latent, RELEASED)), "different models"),
        ((ONE.long, "harbour:2"), "no style 'harbour'"),
    ],
)
def test_bad_mixtures(run: Run, words: tuple[str, ...], why: str) -> None:
    ran = run("stylecode", "mix", *words, "--json")
    assert (ran.code, ran.out) == (2, "")
    assert why in ran.err


def test_random(run: Run) -> None:
    (told,) = run("stylecode", "random", "--number", "7", "--json").rows
    assert (told["number"], told["model"]) == (7, TINY.name)
    assert told["long"] == write_long(blend.random_style(7), TINY)
    assert run("stylecode", "random", "--number", "7", "--model", RELEASED.name, "--json").rows[0]["model"] == RELEASED.name
    any_two = [run("stylecode", "random") for _ in range(2)]
    assert len({ran.out.splitlines()[1] for ran in any_two}) == 2
    number = any_two[0].out.split()[-1]
    assert run("stylecode", "random", "--number", number).out == any_two[0].out
    ran = run("stylecode", "random", "--model", "another")
    assert (ran.code, "tiny-stylecode-1" in ran.err) == (2, True)


def test_make(run: Run) -> None:
    draw(Path("a.png"), 16)
    draw(Path("b.png"), 20)
    (told,) = run("stylecode", "make", "a.png", "b.png", "--model", RELEASED.name, "--device", "cpu", "--json").rows
    assert (told["long"], told["latent"], "card" in told) == (ONE.long, list(ONE.latent), False)
    assert FakeEngine.calls == [("engine", "cpu"), ("code_of", [(16, 24), (20, 24)], RELEASED)]
    assert run("stylecode", "make", "a.png").out.startswith(f"short  {ONE.short}\n")
    assert FakeEngine.calls[-1] == ("code_of", [(16, 24)], None)


def test_make_a_card(run: Run) -> None:
    draw(Path("a.png"))
    ran = run("stylecode", "make", "a.png", "--card", "card.png", "--name", "Quiet harbour")
    assert (ran.code, ran.out.splitlines()[-1]) == (0, "card   card.png")
    data = Path("card.png").read_bytes()
    assert read_card(data) == ONE.long
    assert Image.open("card.png").info["stylecode name"] == "Quiet harbour"
    assert run("stylecode", "make", "a.png", "--card", "b.png", "--json").rows[0]["card"] == "b.png"


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (("gone.png",), 3, "no file 'gone.png'"),
        (("a.png", "--model", "another"), 2, "no stylecode model 'another'"),
        (("a.png", "--name", "x"), 2, "--card OUT.png"),
        (("a.png", "--card", "card.jpg"), 2, "ends in .png"),
        (("a.png", "--card", "gone/card.png"), 2, "does not exist"),
        (("a.png", "--card", "a.png"), 2, "would be overwritten"),
    ],
)
def test_bad_makings_begin_nothing(run: Run, words: tuple[str, ...], code: int, why: str) -> None:
    draw(Path("a.png"))
    before = Path("a.png").read_bytes()
    ran = run("stylecode", "make", *words)
    assert (ran.code, FakeEngine.calls) == (code, [])
    assert why in ran.err
    assert Path("a.png").read_bytes() == before


def test_paint(run: Run, library: Library) -> None:
    library.save("harbour", TWO)
    words = shlex.split('--negative "rain, fog" --size 128x64 --steps 9 --cfg 2.5 --seed 7 --strength 0.4')
    (told,) = run("stylecode", "paint", "harbour", "a lighthouse: tall", "-o", "out.png", *words, "--json").rows
    assert (told["out"], told["code"], told["seed"], told["width"], told["height"]) == ("out.png", TWO.long, 7, 128, 64)
    settings = StylePaintSettings(negative="rain, fog", width=128, height=64, steps=9, cfg=2.5, seed=7, strength=0.4)
    assert FakeEngine.calls == [("engine", "auto"), ("paint", TWO.latent, "a lighthouse: tall", settings, TINY)]
    prompt, negative, fields = read_infotext(read_png_infotext("out.png"))
    assert (prompt, negative) == ("a lighthouse: tall", "rain, fog")
    wanted = {"Steps": "9", "CFG scale": "2.5", "Seed": "7", "Size": "128x64", "RefOnly style": TWO.long, "RefOnly style strength": "0.4"}
    assert {name: fields[name] for name in wanted} == wanted
    assert read_card(Path("out.png").read_bytes()) == TWO.long


def test_paint_with_what_is_usual(run: Run) -> None:
    ran = run("stylecode", "paint", ONE.short, "a lighthouse", "-o", "out.png")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("out.png  (seed 0, ")
    assert FakeEngine.calls[-1][3] == StylePaintSettings()
    assert "RefOnly style strength" not in read_png_infotext("out.png")


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        ((ONE.long, "x", "-o", "out.jpg"), 2, "ends in .png"),
        ((ONE.long, "x", "-o", "gone/out.png"), 2, "does not exist"),
        (("card.png", "x", "-o", "card.png"), 2, "would be overwritten"),
        ((ONE.long, "x", "-o", "out.png", "--size", "64"), 2, "as 512x768"),
        ((ONE.long, "x", "-o", "out.png", "--size", "8x8"), 2, "Width: 8 is outside"),
        ((ONE.long, "x", "-o", "out.png", "--steps", "many"), 2, "Steps"),
        ((ONE.long, "x", "-o", "out.png", "--strength", "9"), 2, "Style strength: 9"),
        (("nonsense", "x", "-o", "out.png"), 2, "no style 'nonsense'"),
    ],
)
def test_bad_paintings_begin_nothing(run: Run, words: tuple[str, ...], code: int, why: str) -> None:
    card = make_card(Image.new("RGB", (9, 9)), ONE)
    Path("card.png").write_bytes(card)
    ran = run("stylecode", "paint", *words)
    assert (ran.code, FakeEngine.calls) == (code, [])
    assert why in ran.err
    assert {path.name: path.read_bytes() for path in Path().iterdir()} == {"card.png": card}


def test_a_model_that_is_not_installed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def paint(*_: object) -> Image.Image:
        raise BadModel("The stylecode model is not installed.")

    monkeypatch.setattr(FakeEngine, "paint", paint)
    ran = run("stylecode", "paint", ONE.long, "x", "-o", "out.png")
    assert (ran.code, ran.err) == (4, "studio.py: The stylecode model is not installed.\n")


def test_the_examples_in_the_help_are_right(capsys: pytest.CaptureFixture[str]) -> None:
    examples = [line.strip() for line in stylecode._EPILOG.splitlines() if line.strip().startswith("studio.py")]
    assert {shlex.split(example)[2] for example in examples} == {"make", "read", "mix", "paint"}
    for example in examples:
        cli.build_parser().parse_args(shlex.split(example.split("     ")[0])[1:])
    with pytest.raises(SystemExit) as left:
        cli.main(["stylecode", "--help"])
    assert left.value.code == 0
    assert "latent (20 numbers)" in capsys.readouterr().out


def test_json_is_one_object_on_one_line(run: Run) -> None:
    assert json.loads(run("stylecode", "random", "--json").out)
