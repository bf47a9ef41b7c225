"""A look at a folder of pictures before they are trained on: what is there, what is wrong with it, and its captions, which can be written."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image, ImageStat

from lib_refonly.errors import BadPicture, BadSettings, CannotWrite
from lib_refonly.imaging.decode import decode, read_source
from lib_refonly.imaging.infotext import write_atomically

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
CAPTION = ".txt"
MOST = 5000
"""Pictures of one folder that are looked at."""
LONGEST_CAPTION = 20_000
"""Characters."""
SMALLEST = 256
"""px; what is shorter on its shorter side is blur when it is enlarged to what is usual."""
THUMBNAIL = 224
_EMPTY = 2.0
"""Standard deviation of the channels, of 255, below which a picture shows nothing."""
_LONGEST_WORD = 100
_MOST_COPIES = 1000

TOO_SMALL, BROKEN, EMPTY, SILENT, TWICE = "too small", "broken", "empty", "without a caption", "twice"
UNREADABLE = "with a caption that can't be read"
FLAWS = (TOO_SMALL, BROKEN, EMPTY, SILENT, TWICE, UNREADABLE)


@dataclass(frozen=True)
class Seen:
    """One picture. size: px, (0, 0) for a broken one. digest: of the file's bytes. problem: why it, or its caption, can't be used. thumbnail: small, RGB."""

    name: str
    caption: str = ""
    size: tuple[int, int] = (0, 0)
    digest: str = ""
    flaws: tuple[str, ...] = ()
    problem: str = ""
    thumbnail: Image.Image | None = None


class PictureFolder:
    """The pictures that lie in `folder` itself. Links are neither followed nor replaced.

    Raises:
        BadSettings: no whole path, or no folder.
    """

    def __init__(self, folder: str | Path) -> None:
        given = str(folder).strip().strip('"')
        path = Path(given).expanduser() if given else None
        if path is None or not path.is_absolute():
            raise BadSettings("Give the folder's whole path, as the file manager shows it.")
        if not path.is_dir():
            raise BadSettings(f"{given} is no folder on this machine. Look at its path again.")
        self.path = path.resolve()

    def names(self) -> list[str]:
        """Of the pictures, at most MOST, sorted. Raises: BadSettings: the folder can't be read."""
        try:
            with os.scandir(self.path) as entries:
                found = sorted(one.name for one in entries if one.name.lower().endswith(ENDINGS) and one.is_file(follow_symlinks=False))
        except OSError as error:
            raise BadSettings(f"{self.path} can't be read: {error.strerror or error}.") from error
        return [name for name in found if not name.startswith(".")][:MOST]

    def look(self, smallest: int = SMALLEST, thumbnails: int = 0) -> Iterator[Seen]:
        """Open one picture after the other; the first `thumbnails` keep a small copy. Which are there twice only `duplicates` can tell.

        Raises:
            BadSettings: the folder can't be read.
        """
        for number, name in enumerate(self.names()):
            yield self._seen(name, smallest, number < thumbnails)

    def caption(self, name: str) -> str:
        """What is written beside a picture; "" when nothing is.

        Raises:
            BadSettings: it is no plain text, too long, or a link.
        """
        path = self._beside(name)
        try:
            info = path.lstat()
            if not stat.S_ISREG(info.st_mode) or info.st_size > 4 * LONGEST_CAPTION:
                raise BadSettings(f"{path.name} is no plain text file of a caption's length. Replace it by one.")
            return path.read_text(encoding="utf-8-sig").strip()
        except FileNotFoundError:
            return ""
        except UnicodeError:
            raise BadSettings(f"{path.name} is not UTF-8. Save it as UTF-8 text.") from None
        except OSError as error:
            raise BadSettings(f"{path.name} can't be read: {error.strerror or error}.") from error

    def write(self, name: str, caption: str) -> str:
        """Write a picture's caption, whole or not at all; returns it as it is written. An empty one is no file.

        Raises:
            BadSettings: no such picture, a caption that is too long, or a link in the caption's place. CannotWrite.
        """
        text = " ".join(caption.split())
        if len(text) > LONGEST_CAPTION:
            raise BadSettings(f"The caption of {name} is too long. Write at most {LONGEST_CAPTION} characters.")
        if not self._is_picture(name):
            raise BadSettings(f"{name[:80]!r} is no picture in {self.path.name} (any more). Look at the folder again.")
        path = self._beside(name)
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise BadSettings(f"{path.name} is a link or a folder, and is left alone. Put a plain text file in its place.")
        if text or path.exists():
            write_atomically(path, (text + "\n").encode("utf-8", "replace") if text else b"")
        return text

    def add_word(self, word: str) -> int:
        """Put a trigger word before every caption that does not begin with it; returns how many were changed.

        Raises:
            BadSettings: no word, or a caption that can't be read: nothing is changed then. CannotWrite: those before are changed.
        """
        tidy = trigger_word(word)
        changed = [(name, text) for name, text in self._captions() if _first(text) != tidy]
        for name, text in changed:
            self.write(name, f"{tidy}, {text}" if text else tidy)
        return len(changed)

    def replace_tag(self, tag: str, other: str) -> dict[str, str]:
        """Write `other` for a tag in every caption that has it, or nothing when `other` is "". Returns the captions as they were, by the pictures' names.

        Raises:
            BadSettings: no tag, or a caption that can't be read: nothing is changed then. CannotWrite: those before are changed.
        """
        if not tag.strip(" ,") or "," in tag.strip(" ,"):
            raise BadSettings("Give one tag, as it stands in the captions, without commas.")
        changed = {name: text for name, text in self._captions() if any(same_tag(one, tag.strip(" ,")) for one in text.split(","))}
        for name, text in changed.items():
            new = [other if same_tag(one, tag.strip(" ,")) else one for one in text.split(",")]
            self.write(name, ", ".join(dict.fromkeys(" ".join(one.split()) for one in new if one.strip())))
        return changed

    def keep(self, name: str) -> None:
        """A copy of a picture's caption beside it, as .txt.bak, or .txt.bak2 and so on: no earlier copy is lost. Raises: CannotWrite."""
        path = self._beside(name)
        for number in range(1, _MOST_COPIES):
            copy = path.with_name(f"{path.name}.bak{number if number > 1 else ''}")
            if not os.path.lexists(copy):
                write_atomically(copy, path.read_bytes())
                return
        raise CannotWrite(f"There are too many copies of {path.name} (.bak). Move some away.")

    def open(self, name: str) -> Image.Image:
        """One picture, upright. Raises: BadPicture: it can't be used, or is a link now."""
        return decode(self._bytes(name))

    def _bytes(self, name: str) -> bytes:
        if (self.path / name).is_symlink():  # it was swapped since the folder was listed
            raise BadPicture(f"{name} is a link, and is not followed.")
        return read_source(self.path / name)

    def _captions(self) -> list[tuple[str, str]]:
        """(name, caption), each caption once: girl.png and girl.jpg share one."""
        return list({self._beside(name): (name, self.caption(name)) for name in self.names()}.values())

    def _is_picture(self, name: str) -> bool:
        try:
            plain = os.path.basename(name) == name and name.lower().endswith(ENDINGS) and not name.startswith(".")
            return plain and "\\" not in name and stat.S_ISREG((self.path / name).lstat().st_mode)
        except (OSError, ValueError):
            return False

    def _beside(self, name: str) -> Path:
        return self.path / (os.path.splitext(os.path.basename(name))[0] + CAPTION)

    def _seen(self, name: str, smallest: int, with_thumbnail: bool) -> Seen:
        caption, problem, flaws = "", "", []
        try:
            caption = self.caption(name)
            flaws += [SILENT] * (not caption)
        except BadSettings as error:
            problem, flaws = str(error), [UNREADABLE]
        try:
            data = self._bytes(name)
            picture = decode(data)
        except BadPicture as error:
            return Seen(name, caption, flaws=(BROKEN, *flaws), problem=str(error))
        flaws = [TOO_SMALL] * (min(picture.size) < smallest) + [EMPTY] * _is_empty(picture) + flaws
        return Seen(name, caption, picture.size, hashlib.sha256(data).hexdigest(), tuple(flaws), problem, _small(picture) if with_thumbnail else None)


def duplicates(pictures: Sequence[Seen]) -> list[Seen]:
    """The same pictures, of which those that are the same file as an earlier one say so."""
    first: set[str] = set()
    told = []
    for one in pictures:
        again = bool(one.digest) and one.digest in first
        first.add(one.digest)
        told.append(replace(one, flaws=(TWICE, *one.flaws)) if again else one)
    return told


def facts(pictures: Sequence[Seen]) -> str:
    """ "34 pictures, 2 too small, 1 broken"."""
    counts = Counter(flaw for one in pictures for flaw in one.flaws)
    number = "1 picture" if len(pictures) == 1 else f"{len(pictures)} pictures"
    return ", ".join([number, *(f"{counts[flaw]} {flaw}" for flaw in FLAWS if counts[flaw])])


def tags(captions: Sequence[str], most: int = 40) -> list[tuple[str, int]]:
    """The most frequent tags, that is what stands between commas, with the number of captions that have them."""
    counts = Counter(tag for caption in captions for tag in dict.fromkeys(part.strip() for part in caption.split(",")) if tag)
    return counts.most_common(most)


def trigger_word(text: str) -> str:
    """A trigger word, tidied. Raises: BadSettings: it is none."""
    tidy = " ".join(text.split()).strip(", ")
    if not tidy or len(tidy) > _LONGEST_WORD or "," in tidy:
        raise BadSettings(f"A trigger word is a word or two without commas, at most {_LONGEST_WORD} characters.")
    return tidy


def same_tag(one: str, other: str) -> bool:
    """Whether two tags mean the same: capitals don't count, and underscores are spaces."""
    first, second = (" ".join(tag.replace("_", " ").split()).casefold() for tag in (one, other))
    return first == second


def _first(caption: str) -> str:
    return caption.partition(",")[0].strip()


def _is_empty(picture: Image.Image) -> bool:
    """One colour all over, or nothing but transparency."""
    small = picture.copy()
    small.thumbnail((64, 64))
    if "A" in small.getbands() and not small.getchannel("A").getextrema()[1]:
        return True
    return max(ImageStat.Stat(small).stddev) < _EMPTY


def _small(picture: Image.Image) -> Image.Image:
    small = picture.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    return small
