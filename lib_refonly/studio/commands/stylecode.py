"""`studio.py stylecode`: codes from pictures, what a code says, mixtures, codes by chance, and pictures in the style of a code."""

from __future__ import annotations

import argparse
import json
import re
import secrets
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_refonly.errors import BadSettings
from lib_refonly.studio.commands.stylecode_given import code_given, model_named, weighted

if TYPE_CHECKING:
    from lib_refonly.studio.style_engine import StylePaintSettings
    from lib_refonly.stylecode.codes import Code, CodeModel

VERSIONS = {"v1": 1, "short": 2, "long": 2}
"""Of the forms of codes: the released code's, and the paper's with what was added to it here."""
_SIZE = re.compile(r"(\d{1,5})[xX×](\d{1,5})")
_LEADING_DASH = re.compile(r"-[A-Za-z0-9_][A-Za-z0-9_-]{19}(:\S*)?")
_CHANCES = 1_000_000_000

_EPILOG = """examples:
  studio.py stylecode make painting.png sketch.png     what the two have in common, as one code
  studio.py stylecode make painting.png --card card.png --name "Quiet harbour"
  studio.py stylecode read card.png --json
  studio.py stylecode mix CODE:2 harbour:1
  studio.py stylecode paint harbour "a lighthouse" -o out.png --seed 7

A CODE is a code, a card (or another picture that holds one), or the name of a style in your library.
--json prints one object: format, version, model, short, long, latent (20 numbers), corrections."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command and its actions."""
    raw = argparse.RawDescriptionHelpFormatter
    text = "Styles as short texts: read them off pictures, mix them, paint in them."
    parser = commands.add_parser("stylecode", help="styles as codes: make, read, mix, paint", description=text, epilog=_EPILOG, formatter_class=raw)
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    _add_codes(actions)
    _add_paint(actions)


def _add_codes(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    action = _action(actions, "make", make, "the code of a picture's style; of several pictures, what they have in common")
    action.add_argument("pictures", type=Path, nargs="+", metavar="PICTURE")
    action.add_argument("--model", metavar="NAME", help="the stylecode model that reads them (default: the first that is installed)")
    action.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="where to compute (default auto)")
    action.add_argument("--card", type=Path, metavar="OUT.png", help="also make a card to pass on: picture, code and QR code")
    action.add_argument("--name", default="", metavar="TEXT", help="what the card says above the code")

    action = _action(actions, "read", read, "what a code says, and whether it is right")
    action.add_argument("code", metavar="CODE")

    action = _action(actions, "mix", mix, "a style between others")
    action.add_argument("codes", nargs="+", metavar="CODE:WEIGHT", help="weights are shares (default 1); a negative one leads away from a style")

    action = _action(actions, "random", random, "a style by chance")
    action.add_argument("--number", type=int, metavar="N", help="which: the same number is the same style everywhere (default: any)")
    action.add_argument("--model", metavar="NAME", help="the stylecode model that it is for (default: the first that is here)")


def _add_paint(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    action = _action(actions, "paint", paint, "paint a prompt in a style")
    action.add_argument("code", metavar="CODE")
    action.add_argument("prompt", metavar="PROMPT")
    action.add_argument("-o", "--out", type=Path, required=True, metavar="OUT.png")
    action.add_argument("--negative", metavar="TEXT", help="what the picture must not show")
    action.add_argument("--size", metavar="WxH", help="in pixels (default 256x256)")
    action.add_argument("--steps", metavar="N", help="more take longer (default 20)")
    action.add_argument("--cfg", metavar="X", help="how closely the prompt is followed (default 4)")
    action.add_argument("--seed", metavar="N", help="the same number paints the same picture (default 0)")
    action.add_argument("--strength", metavar="X", help="how much of the style; 0 is none (default 0.9)")
    action.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="where to compute (default auto)")


def _action(actions: argparse._SubParsersAction[argparse.ArgumentParser], name: str, run: Any, text: str) -> argparse.ArgumentParser:
    action = actions.add_parser(name, help=text, description=f"{text[:1].upper()}{text[1:]}.")
    action.add_argument("--json", action="store_true", help="print one JSON object")
    action.set_defaults(run=run)
    return action


def shielded(argv: Sequence[str]) -> list[str]:
    """The words of a command, so that short codes which begin with a hyphen are not taken for options: argparse takes words with spaces as they are."""
    return [f" {word}" if _LEADING_DASH.fullmatch(word) else word for word in argv]


def make(arguments: argparse.Namespace) -> int:
    """Raises: BadPicture, BadModel (none is installed), BadSettings, CannotWrite (the card)."""
    from lib_refonly.imaging.decode import open_picture
    from lib_refonly.imaging.infotext import write_atomically
    from lib_refonly.studio.style_engine import StyleEngine

    if arguments.name and not arguments.card:
        raise BadSettings("--name is the card's; say where to write it (--card OUT.png).")
    if arguments.card:
        _check_target("--card", arguments.card, arguments.pictures)
    model = model_named(arguments.model) if arguments.model else None
    pictures = [open_picture(path) for path in arguments.pictures]
    code = StyleEngine(arguments.device).code_of(pictures, model)
    if arguments.card:
        from lib_refonly.stylecode.card import make_card

        write_atomically(arguments.card, make_card(pictures[0], code, arguments.name))
    return _tell(code, arguments.json, card=str(arguments.card)) if arguments.card else _tell(code, arguments.json)


def read(arguments: argparse.Namespace) -> int:
    """Raises: BadSettings: it is no code, or its model is not here. BadPicture: the picture can't be read, or holds none."""
    return _tell(code_given(arguments.code), arguments.json)


def mix(arguments: argparse.Namespace) -> int:
    """Raises: BadSettings: as `read`; codes of different models; styles that cancel each other out."""
    from lib_refonly.stylecode.codes import blend

    given = [weighted(text) for text in arguments.codes]
    models = {code.model.name: code.model for code, _ in given}
    if len(models) > 1:
        raise BadSettings(f"Codes of different models can't be mixed: {', '.join(map(str, models.values()))}.")
    latent = blend.mix([code.latent for code, _ in given], [weight for _, weight in given])
    notes = [note for code, _ in given for note in code.notes]
    return _tell(_written(latent, given[0][0].model), arguments.json, notes)


def random(arguments: argparse.Namespace) -> int:
    """Raises: BadSettings: the model is not known."""
    from lib_refonly.stylecode.codes import blend

    model = model_named(arguments.model)
    number = secrets.randbelow(_CHANCES) if arguments.number is None else arguments.number
    return _tell(_written(blend.random_style(number), model), arguments.json, number=number)


def paint(arguments: argparse.Namespace) -> int:
    """Raises: BadSettings, BadPicture (a card), BadModel, OutOfMemory, CannotWrite."""
    from lib_refonly.imaging.infotext import save_png
    from lib_refonly.studio.style_engine import StyleEngine

    _check_target("-o", arguments.out, [Path(arguments.code)])
    settings, code = _settings(arguments), code_given(arguments.code)
    begun = time.monotonic()
    picture = StyleEngine(arguments.device).paint(code.latent, arguments.prompt, settings, code.model)
    save_png(arguments.out, picture, infotext(arguments.prompt, settings, code, picture.size))
    seconds = time.monotonic() - begun
    if arguments.json:
        told = {"out": str(arguments.out), "code": code.long, "model": code.model.name, "seed": settings.seed, "corrections": list(code.notes)}
        print(json.dumps(told | {"width": picture.width, "height": picture.height, "seconds": round(seconds, 3)}))
        return 0
    print(f"{arguments.out}  (seed {settings.seed}, {seconds:.1f} s)")
    _say(code.notes)
    return 0


def infotext(prompt: str, settings: StylePaintSettings, code: Code, size: tuple[int, int]) -> str:
    """A1111's parameters text: its own fields first, then the style, and what of its settings is not the default."""
    from lib_refonly import __version__
    from lib_refonly.imaging.infotext import write_infotext
    from lib_refonly.settings import specs

    fields: dict[str, object] = {
        "Steps": settings.steps,
        "CFG scale": f"{settings.cfg:g}",
        "Seed": settings.seed,
        "Size": f"{size[0]}x{size[1]}",
        "RefOnly version": __version__,
        "RefOnly style": code.long,
    }
    defaults = type(settings)()
    for name, spec in specs(settings).items():
        if spec.infotext and getattr(settings, name) != getattr(defaults, name):
            value = getattr(settings, name)
            fields[spec.infotext] = f"{value:g}" if isinstance(value, float) else value
    return write_infotext(prompt, settings.negative, fields)


def _settings(arguments: argparse.Namespace) -> StylePaintSettings:
    from lib_refonly.settings import from_mapping
    from lib_refonly.studio.style_engine import StylePaintSettings

    given = {name: getattr(arguments, name) for name in ("negative", "steps", "cfg", "seed", "strength")}
    if arguments.size is not None:
        found = _SIZE.fullmatch(arguments.size)
        if found is None:
            raise BadSettings(f"--size {arguments.size}: say width and height, as 512x768.")
        given |= {"width": found[1], "height": found[2]}
    return from_mapping(StylePaintSettings, {name: value for name, value in given.items() if value is not None})


def _check_target(option: str, out: Path, inputs: Iterable[Path]) -> None:
    if out.suffix.lower() != ".png" or out.is_dir():
        raise BadSettings(f"{option} {out}: name a file that ends in .png.")
    if not out.parent.is_dir():
        raise BadSettings(f"{option} {out}: the folder {out.parent} does not exist.")
    if any(out.exists() and path.exists() and out.samefile(path) for path in inputs):
        raise BadSettings(f"{option} {out} is one of the pictures to read: it would be overwritten. Name another file.")


def _written(latent: Sequence[float], model: CodeModel) -> Code:
    """As whoever reads the code will have it."""
    from lib_refonly.stylecode.codes import read, write_long

    return read(write_long(latent, model), (model,))


def _tell(code: Code, as_json: bool, notes: Sequence[str] = (), **more: object) -> int:
    notes = [*code.notes, *notes]
    short = _short(code)
    if as_json:
        told = {"format": code.form, "version": VERSIONS[code.form], "model": code.model.name, "short": short, "long": code.long}
        print(json.dumps(told | {"latent": list(code.latent), "corrections": notes} | more))
        return 0
    print(f"short  {short or 'none: its numbers are no style that the model can have made'}\nlong   {code.long}\nmodel  {code.model}")
    for name, value in more.items():
        print(f"{name:6} {value}")
    _say(notes)
    return 0


def _short(code: Code) -> str | None:
    try:
        return code.short
    except BadSettings:
        return None


def _say(notes: Iterable[str]) -> None:
    for note in notes:
        print(f"  {note}", file=sys.stderr)
