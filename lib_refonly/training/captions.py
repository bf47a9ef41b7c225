"""Captions for the pictures of a folder, written one by one by whoever can describe a picture: a tagger, a WebUI's interrogator, BLIP."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from lib_refonly.errors import BadPicture, BadSettings
from lib_refonly.models import taggers
from lib_refonly.training.pictures import PictureFolder, same_tag, trigger_word

Describe = Callable[[Image.Image], str]
"""A caption for one picture. What it raises ends the whole run; a picture that can't be opened is never given to it."""


@dataclass(frozen=True)
class Captioner:
    """Who can write captions. begin: called once a run; its model is given back when the run ends. downloads: what its first picture downloads, in words, with
    the size; "" when everything is on this machine."""

    name: str
    title: str
    begin: Callable[[], Describe]
    downloads: str = ""


@dataclass(frozen=True)
class How:
    """again: also for pictures that have a caption; the old one is kept as .txt.bak. word: the trigger word, which begins each caption; "" is none.
    left_out: tags that no caption gets."""

    again: bool = False
    word: str = ""
    left_out: tuple[str, ...] = ()

    @classmethod
    def of(cls, again: bool, word: str, left_out: str) -> How:
        """From texts, tags separated by commas. Raises: BadSettings: no trigger word."""
        return cls(again, trigger_word(word) if word.strip() else "", tuple(tag.strip() for tag in left_out.split(",") if tag.strip()))


@dataclass(frozen=True)
class Told:
    """After each picture. old: its caption before. problem: why it got none."""

    number: int
    count: int
    name: str
    old: str = ""
    problem: str = ""


def by_tagger(folder: Path) -> Captioner:
    """A tagger of the models folder."""

    def begin() -> Describe:
        from lib_refonly.imaging.tagger import Tagger  # OpenCV is not needed before

        tagger = Tagger(folder)
        return lambda picture: ", ".join(tagger.tags(picture))

    return Captioner(f"tagger/{folder.name}", f"Tagger {folder.name}", begin)


def by_taggers() -> list[Captioner]:
    """All that are installed."""
    return [by_tagger(folder) for folder in taggers.installed()]


def write_captions(folder: PictureFolder, captioner: Captioner, how: How) -> Generator[Told, None, None]:
    """Describe one picture after the other and write each caption at once. Closing the iterator stops; what is written stays.

    Raises:
        BadSettings: no pictures, or all have captions. PainterError: whatever `captioner` can't do; CannotWrite.
    """
    names = list({Path(name).stem: name for name in reversed(folder.names())}.values())[::-1]  # girl.png and girl.jpg share one caption
    if not names:
        raise BadSettings(f"There are no pictures in {folder.path}. PNG, JPEG, WebP and BMP are looked for.")
    wanted = [(name, *_old(folder, name)) for name in names]
    wanted = [one for one in wanted if how.again or not one[1]]
    if not wanted:
        raise BadSettings("Every picture has a caption. Tick the box below to have them all written anew.")
    describe = captioner.begin()
    for number, (name, old, problem) in enumerate(wanted, 1):
        yield Told(number, len(wanted), name, old, problem or _write(folder, name, old, describe, how))


def _old(folder: PictureFolder, name: str) -> tuple[str, str]:
    """A picture's caption, and why that can't be read."""
    try:
        return folder.caption(name), ""
    except BadSettings as error:
        return "", str(error)


def _write(folder: PictureFolder, name: str, old: str, describe: Describe, how: How) -> str:
    """What went wrong, or ""."""
    try:
        picture = folder.open(name)
    except BadPicture as error:
        return str(error)
    caption = composed(describe(picture), how)
    if not caption:
        return "Nothing was recognised in it."
    if old:
        folder.keep(name)
    try:
        folder.write(name, caption)
    except BadSettings as error:
        return str(error)
    return ""


def composed(text: str, how: How) -> str:
    """The caption of what was described: the trigger word first, each tag once, without those that are left out."""
    kept: list[str] = [how.word] if how.word else []
    for part in text.split(","):
        tag = " ".join(part.split())
        if tag and not _among(tag, how.left_out) and not _among(tag, kept):
            kept.append(tag)
    return ", ".join(kept)


def _among(tag: str, others: Sequence[str]) -> bool:
    return any(same_tag(tag, one) for one in others)


def unescaped(text: str) -> str:
    r"""Without the backslashes and weights that prompts need and captions don't: "miho \(idol\)", "(red hair:0.874)"."""
    return re.sub(r"\\([\\()])", r"\1", re.sub(r"\(([^()]+):\d+(?:\.\d+)?\)", r"\1", text))
