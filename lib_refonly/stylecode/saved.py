"""A style that is kept: what belongs to it, and what its name, its tags and its small picture may be."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image

from lib_refonly.errors import BadSettings
from lib_refonly.imaging.infotext import png_bytes
from lib_refonly.stylecode.codes import CodeModel, read

LONGEST_NAME, LONGEST_TAG, MOST_TAGS = 64, 40, 20
THUMBNAIL = 256
"""Pixels, the longer side at most."""
_JOINERS = "\u200c\u200d"  # Persian and Indic words need them; they are the only signs without a shape of their own that a name may have
_OF_PROMPTS = ":<>"  # <sref:NAME:0.8>


@dataclass(frozen=True)
class SavedStyle:
    """`code` in its long form; `model` by its lasting name. `created` and `used`: seconds since 1970. `thumbnail`: a PNG, or nothing.

    `known`: whether the model is among those whose codes can be read here; a style of another is kept, and waits for it.
    """

    name: str
    code: str
    model: str
    tags: tuple[str, ...]
    favourite: bool
    created: float
    used: float
    thumbnail: bytes
    known: bool = True

    @property
    def latent(self) -> tuple[float, ...]:
        """20 numbers. Raises: BadSettings: the code is damaged."""
        return latent_of(self.code, self.model)


@lru_cache(maxsize=4096)
def latent_of(code: str, model: str) -> tuple[float, ...]:
    """20 numbers of a long code, whether its model is here or not: its name alone says whether the code belongs to it.

    Raises:
        BadSettings: it is damaged, of another form, or another model's.
    """
    found = read(code, (CodeModel(model, normalised=False),))
    if found.form != "long":
        raise BadSettings("The library keeps codes in their long form.")
    return found.latent


def folded(text: str) -> str:
    """Equal for names that people take for the same: capitals, and the forms that a letter can be stored in, say nothing."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def check_name(name: str, models: Iterable[CodeModel] = ()) -> str:
    """A style's name, with single spaces. `models`: whose codes it must not be mistaken for.

    Raises:
        BadSettings: it could not stand in a prompt, has signs that can't be seen, or is a code itself.
    """
    tidy = _plain(name, "name", LONGEST_NAME)
    if set(tidy) & set(_OF_PROMPTS):
        raise BadSettings(f"A style's name can't have any of {' '.join(_OF_PROMPTS)}, since prompts say <sref:NAME:0.8>.")
    try:
        read(tidy, models)
    except BadSettings:
        return tidy
    raise BadSettings("This name is a stylecode itself. Give the style another one.")


def check_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Without empty ones and without repetitions, in their order.

    Raises:
        BadSettings: too many, too long, or with a comma or signs that can't be seen.
    """
    out: dict[str, str] = {}
    for tag in tags:
        if tag.strip():
            tidy = _plain(tag, "tag", LONGEST_TAG)
            if "," in tidy:
                raise BadSettings("A tag can't have a comma; commas stand between tags.")
            out.setdefault(folded(tidy), tidy)
    if len(out) > MOST_TAGS:
        raise BadSettings(f"A style can have {MOST_TAGS} tags; these are {len(out)}.")
    return tuple(out.values())


def _plain(text: str, what: str, longest: int) -> str:
    # Unusual spaces (Japanese keyboards have one) become plain ones; line breaks and tabs are control characters, and refused with them.
    spaced = "".join(" " if unicodedata.category(sign) == "Zs" else sign for sign in text)
    tidy = " ".join(word for word in spaced.split(" ") if word)
    if not 0 < len(tidy) <= longest:
        raise BadSettings(f"A style's {what} has 1 to {longest} characters; this one has {len(tidy)}.")
    if not all(sign.isprintable() or sign in _JOINERS for sign in tidy) or not tidy.strip(_JOINERS):
        raise BadSettings(f"A style's {what} can't have line breaks or other signs that can't be seen.")
    return tidy


def thumbnail_of(picture: Image.Image) -> bytes:
    """A PNG of at most 256 pixels a side, without any of the picture's metadata."""
    clear = picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info
    small = picture.convert("RGBA" if clear else "RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    bare = Image.frombytes(small.mode, small.size, small.tobytes())
    return png_bytes(bare)
