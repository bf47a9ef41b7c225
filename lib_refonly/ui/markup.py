"""The page's small pieces of HTML. Every text that comes from outside is escaped here; pictures travel inside the page as data."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import Literal

from PIL import Image

from lib_refonly.studio.requests import Prepared, Progress

Kind = Literal["error", "warning", "done", "note"]


def message(text: str, kind: Kind = "error") -> str:
    """A visible message box; screen readers are told. Empty text gives an empty string."""
    role = "alert" if kind == "error" else "status"
    return f'<div class="refonly-message" data-kind="{kind}" role="{role}"><p>{escape(text)}</p></div>' if text else ""


def hint(text: str) -> str:
    """A quiet line of explanation. Empty text gives an empty string."""
    return f'<p class="refonly-hint">{escape(text)}</p>' if text else ""


def heading(text: str, hint: str = "") -> str:
    """A section's heading, with a line of explanation under it."""
    return f'<h2 class="refonly-heading">{escape(text)}</h2>' + (f'<p class="refonly-hint">{escape(hint)}</p>' if hint else "")


def data_uri(picture: Image.Image, longest: int, lossless: bool = False) -> str:
    """The picture, at most `longest` pixels on its longer side, as a data: address (PNG, or JPEG at quality 88 on white)."""
    small = picture.copy()
    small.thumbnail((longest, longest))
    held = io.BytesIO()
    if lossless:
        small.save(held, "PNG")
    else:
        _on_white(small).save(held, "JPEG", quality=88)
    return f"data:image/{'png' if lossless else 'jpeg'};base64,{base64.b64encode(held.getvalue()).decode()}"


def _on_white(picture: Image.Image) -> Image.Image:
    if "A" not in picture.getbands():
        return picture.convert("RGB")
    ground = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(ground, picture.convert("RGBA")).convert("RGB")


def model_view(prepared: Prepared | None) -> str:
    """What the model will see: blueprint, references, and what was found by itself."""
    if prepared is None:
        return '<p class="refonly-hint">Add a reference and a drawing, and what the model will see appears here.</p>'
    pictures = [_figure(prepared.blueprint, "Lines", True)]
    pictures += [_figure(one, f"Reference {i}" if len(prepared.references) > 1 else "Reference") for i, one in enumerate(prepared.references, 1)]
    notes = "".join(f"<li>{escape(note)}</li>" for note in prepared.notes)
    return f'<div class="refonly-sees">{"".join(pictures)}</div>' + (f'<ul class="refonly-notes">{notes}</ul>' if notes else "")


def _figure(picture: Image.Image, caption: str, lossless: bool = False) -> str:
    image = f'<img src="{data_uri(picture, 384, lossless)}" alt="{escape(caption)}, as the model sees it">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def waiting(ahead: int) -> str:
    """The stage while other jobs come first."""
    jobs = "1 other job comes first" if ahead == 1 else f"{ahead} other jobs come first"
    return _stage("", f"Waiting: {jobs}.", 0)


def starting() -> str:
    """The stage before the first step."""
    return _stage("", "Getting the model ready", 0)


def running(progress: Progress, last_preview: Image.Image | None) -> str:
    """The stage while a picture is being painted; between two previews the last one stays."""
    of_all = f"Picture {progress.index + 1} of {progress.count}, step" if progress.count > 1 else "Step"
    done = (progress.index * progress.steps + progress.step + 1) / max(1, progress.count * progress.steps)
    preview = "" if last_preview is None else f'<img src="{data_uri(last_preview, 640)}" alt="The painting so far">'
    return _stage(preview, f"{of_all} {progress.step + 1} of {progress.steps}", done)


def _stage(preview: str, text: str, done: float) -> str:
    percent = round(100 * min(1.0, done))
    return (
        f'<div class="refonly-stage"><div class="refonly-easel">{preview}</div>'
        f'<div class="refonly-bar" role="progressbar" aria-label="Progress" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{percent}">'
        f'<span style="width:{percent}%"></span></div><p aria-live="polite">{escape(text)}</p></div>'
    )


def progress_line(text: str, done: float | None) -> str:
    """A bar with a text, for downloads and batches. `done` is 0..1, or None when the length is not known."""
    percent = 0 if done is None else round(100 * min(1.0, done))
    state = "" if done is None else f' aria-valuenow="{percent}"'
    return (
        f'<div class="refonly-line"><div class="refonly-bar" role="progressbar" aria-label="{escape(text)}" aria-valuemin="0" aria-valuemax="100"{state}>'
        f'<span style="width:{percent}%"></span></div><p aria-live="polite">{escape(text)}</p></div>'
    )


def before_after(before: Image.Image, after: Image.Image) -> str:
    """Two pictures on top of each other with a slider between them (the page script moves it; arrow keys work)."""
    sizes = f'width="{after.width}" height="{after.height}"'
    return (
        '<div class="refonly-compare" style="--cut: 50%">'
        f'<img src="{data_uri(after, 1280)}" alt="After: the coloured picture" {sizes}>'
        f'<img class="refonly-before" src="{data_uri(before.resize(after.size), 1280)}" alt="Before: the line art" {sizes}>'
        '<input type="range" min="0" max="100" value="50" aria-label="How much of the line art is shown"></div>'
    )


def listed_errors(heading: str, errors: Sequence[tuple[str, str]]) -> str:
    """File names with what was wrong with each."""
    if not errors:
        return ""
    rows = "".join(f"<li><b>{escape(name)}</b> {escape(text)}</li>" for name, text in errors)
    return f'<div class="refonly-message" data-kind="error" role="alert"><p>{escape(heading)}</p><ul>{rows}</ul></div>'
