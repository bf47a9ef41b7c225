"""What the Train page shows, as HTML. Titles, names, captions and lines of logs are anybody's text: everything is escaped."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from html import escape

from lib_refonly.training.jobs.progress import Point, Progress
from lib_refonly.training.jobs.record import ACTIVE, FAILED, LOST, Job
from lib_refonly.training.pictures import FLAWS, Seen, facts, tags
from lib_refonly.ui import markup

MOST_SHOWN = 60
_MOST_NAMED = 8
_LAST_LINES = 8
_LOG_LINES = 200
_CURVES = 3
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 640, 200, 52, 22
_STATES = {"waiting": "Waiting", "running": "Running", "stopping": "Stopping", "paused": "Paused", "done": "Done", "failed": "Failed", "lost": "Lost"}

_EDITED = """
const box = event.target;
if (!box.matches('.refonly-train-caption')) return;
if (this.look !== this.dataset.look) { this.look = this.dataset.look; this.held = {}; }
this.held[box.dataset.name] = box.value;
const wire = this.getRootNode().querySelector('#refonly-train-edits :is(textarea, input)');
wire.value = JSON.stringify({ look: this.look, captions: this.held });
wire.dispatchEvent(new Event('input', { bubbles: true }));
"""
"""Every caption that was edited since the look goes with each edit: gradio may skip events that come fast."""


# --- pictures -----------------------------------------------------------------------------------------------------------------------------------------


def picture_grid(pictures: Sequence[Seen], look: int) -> str:
    """Thumbnails with their captions, which can be edited; `look` is what edits name."""
    tag = "section" if look % 2 else "div"  # gradio 6 changes only what differs, and what was typed would stay in the boxes; another tag is made anew
    cards = "".join(_card(one) for one in pictures[:MOST_SHOWN])
    more = markup.hint(f"The first {MOST_SHOWN} of {len(pictures)} are shown. All are trained on.") if len(pictures) > MOST_SHOWN else ""
    return f'<{tag} class="refonly-train-grid" data-look="{look}" onchange="{escape(" ".join(_EDITED.split()))}">{cards}</{tag}>{more}' if cards else ""


def _card(one: Seen) -> str:
    name = escape(one.name)
    shown = f'<img src="{markup.data_uri(one.thumbnail, 224)}" alt="">' if one.thumbnail else '<div class="refonly-train-none">can\'t be opened</div>'
    size = f"{one.size[0]} × {one.size[1]}" if one.size[0] else ""
    flaws = "".join(f"<li>{escape(flaw)}</li>" for flaw in one.flaws)
    box = f'<textarea class="refonly-train-caption" rows="3" data-name="{name}" aria-label="Caption of {name}" placeholder="No caption">{escape(one.caption)}'
    about = f'<figcaption title="{name}"><b>{name}</b><span>{size}</span></figcaption>'
    return f'<figure>{shown}{about}<ul class="refonly-train-flaws">{flaws}</ul>{box}</textarea></figure>'


def picture_facts(pictures: Sequence[Seen]) -> str:
    """The sentence, which ones are meant, and the most frequent tags."""
    if not pictures:
        return markup.message("There are no pictures in this folder. PNG, JPEG, WebP and BMP are looked for.", "note")
    lines = [_named(flaw, [one for one in pictures if flaw in one.flaws]) for flaw in FLAWS]
    rows = "".join(f"<li>{line}</li>" for line in lines if line)
    counted = tags([one.caption for one in pictures])
    chips = "".join(f"<li>{escape(tag)} <b>{count}</b></li>" for tag, count in counted)
    tagged = f'<p class="refonly-subheading">Most frequent tags</p><ul class="refonly-tags">{chips}</ul>' if counted else ""
    listed = f'<ul class="refonly-notes">{rows}</ul>' if rows else ""
    return f'<p class="refonly-train-facts">{escape(facts(pictures))}</p>{listed}{tagged}'


def _named(flaw: str, pictures: Sequence[Seen]) -> str:
    if not pictures:
        return ""
    more = f" and {len(pictures) - _MOST_NAMED} more" if len(pictures) > _MOST_NAMED else ""
    names = ", ".join(f'<span title="{escape(one.problem)}">{escape(one.name)}</span>' for one in pictures[:_MOST_NAMED])
    return f"<b>{escape(flaw[:1].upper() + flaw[1:])}:</b> {names}{more}"


# --- jobs ---------------------------------------------------------------------------------------------------------------------------------------------


def job_list(jobs: Sequence[Job], progress: Mapping[str, Progress], problems: Mapping[str, str], chosen: str) -> str:
    """All jobs, the newest first."""
    if not jobs and not problems:
        return markup.hint("There are no jobs yet. What you start is listed here, also after this page was closed.")
    rows = "".join(_row(job, progress.get(job.id), job.id == chosen) for job in reversed(jobs))
    wrong = "".join(f"<li>{escape(one)}</li>" for one in problems.values())
    return f'<ul class="refonly-train-jobs">{rows}</ul>' + (f'<ul class="refonly-notes">{wrong}</ul>' if wrong else "")


def _row(job: Job, progress: Progress | None, chosen: bool) -> str:
    told = course(progress) if progress is not None else ""
    when = time.strftime("%d %b %H:%M", time.localtime(job.created))
    return (
        f'<li data-state="{job.state}"{" aria-current=true" if chosen else ""}><b>{escape(job.title or job.id)}</b>{chip(job.state)}'
        f"<span>{escape(told or f'{job.kind}, {when}')}</span></li>"
    )


def chip(state: str) -> str:
    """A state, as a coloured word."""
    return f'<em class="refonly-train-state" data-state="{escape(state)}">{_STATES.get(state, escape(state))}</em>'


def course(progress: Progress, runs: bool = True) -> str:
    """How far and how fast, in one line; of a job that does not run not how long yet."""
    if progress.stage:
        return f"Getting ready: {progress.stage}, {progress.stage_done:.0%}"
    if not progress.step and progress.seconds is None:
        return "Getting ready"
    parts = [f"step {progress.step}" + (f" of {progress.steps}" if progress.steps else "")]
    parts += [f"{duration(progress.left)} left"] if progress.left and runs else []
    parts += [f"{progress.seconds:.3g} s a step"] if progress.seconds else []
    parts += [f"memory {progress.memory / 1e9:.1f} GB"] if progress.memory else []
    parts += [f"graphics card {progress.memory_gpu / 1e9:.1f} GB"] if progress.memory_gpu else []
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """In words: 45 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{round(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


def job_card(job: Job, progress: Progress, sample: str, lines: Sequence[str], folder: str) -> str:
    """The job that is looked at. sample: a picture as data, or "". lines: the end of its log."""
    done = progress.stage_done if progress.stage else progress.step / progress.steps if progress.steps else 0.0
    head = f'<div class="refonly-train-head"><h3>{escape(job.title or job.id)}</h3>{chip(job.state)}</div>'
    bar = markup.progress_line(course(progress, job.state in ACTIVE), done) if job.state in ACTIVE or progress.step else ""
    return f'<div class="refonly-train-job">{head}{bar}{_trouble(job, progress, lines)}{_report(progress)}{_seen(progress, sample)}{_where(folder)}</div>'


def _trouble(job: Job, progress: Progress, lines: Sequence[str]) -> str:
    bad = job.state in (FAILED, LOST)
    told = markup.message(job.explanation, "error" if bad else "note")
    if bad and lines:
        told += f'<p class="refonly-subheading">Its last lines</p><pre class="refonly-train-log">{escape(chr(10).join(lines[-_LAST_LINES:]))}</pre>'
    return told + (markup.message(f"This did not work, and training went on: {progress.problem}", "warning") if progress.problem else "")


def _seen(progress: Progress, sample: str) -> str:
    curves = "".join(curve_figure(name, progress.curve(name)) for name in list(progress.curves)[:_CURVES])
    rate = f"Learning rate {progress.lr:.3g}" if progress.lr is not None else ""
    saved = f"Saved at step {progress.saved}" if progress.saved is not None else ""
    told = markup.hint(". ".join(one for one in (rate, saved) if one))
    caption = f"Newest sample picture. {escape(progress.sample_shows)}".strip()
    picture = f'<figure><img src="{sample}" alt="The newest sample picture"><figcaption>{caption}</figcaption></figure>' if sample else ""
    return f'<div class="refonly-train-seen"><div>{curves}{told}</div>{picture}</div>' if curves or told or picture else ""


def _report(progress: Progress) -> str:
    """What came of the pictures."""
    rows = "".join(f"<li>{escape(line)}</li>" for line in progress.report)
    return f'<p class="refonly-subheading">The pictures</p><ul class="refonly-notes refonly-train-report">{rows}</ul>' if rows else ""


def _where(folder: str) -> str:
    return f'<p class="refonly-hint">Everything of this job is in <code>{escape(folder)}</code></p>'


def log_view(lines: Sequence[str]) -> str:
    """The end of a log."""
    return f'<pre class="refonly-train-log">{escape(chr(10).join(lines[-_LOG_LINES:]))}</pre>' if lines else markup.hint("It has not printed anything.")


# --- a curve ------------------------------------------------------------------------------------------------------------------------------------------


def curve_figure(name: str, points: Sequence[Point]) -> str:
    """A loss by step: what was told, thin, and its running mean. Fewer than two points are no curve."""
    if len(points) < 2:
        return ""
    (first, last), (low, high) = (points[0][0], points[-1][0]), _range([value for _, value in points])

    def place(point: Point) -> str:
        x = _LEFT + (point[0] - first) / max(1, last - first) * (_WIDTH - _LEFT - 8)
        y = 8 + (high - point[1]) / (high - low) * (_HEIGHT - _BOTTOM - 8)
        return f"{x:.1f},{min(max(y, 8.0), _HEIGHT - _BOTTOM):.1f}"

    raw, mean = (" ".join(map(place, line)) for line in (points, _smooth(points)))
    told = f"{name} {points[-1][1]:.4g} at step {last}"
    return (
        f'<figure class="refonly-train-curve"><figcaption>{escape(name)}<b>{points[-1][1]:.4g}</b></figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(told)}" data-points="{len(points)}" data-last="{last}">'
        f'{_axes(first, last, low, high)}<polyline class="refonly-train-raw" points="{raw}"/><polyline points="{mean}"/></svg></figure>'
    )


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Without the highest hundredth: one peak at the beginning would press everything else flat."""
    ordered = sorted(values)
    low, high = ordered[0], ordered[max(0, math.ceil(len(ordered) * 0.99) - 1)]
    return (low, high) if high > low else (low - max(abs(low), 1e-6) / 2, low + max(abs(low), 1e-6) / 2)


def _smooth(points: Sequence[Point]) -> list[Point]:
    kept, mean, weight = [], 0.0, 2 / (1 + max(3, len(points) // 20))
    for number, (step, value) in enumerate(points):
        mean = value if not number else mean + weight * (value - mean)
        kept.append((step, mean))
    return kept


def _axes(first: int, last: int, low: float, high: float) -> str:
    right, bottom = _WIDTH - 8, _HEIGHT - _BOTTOM
    parts = []
    for share in (0.0, 0.5, 1.0):
        y = 8 + share * (bottom - 8)
        parts.append(f'<line x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{high + share * (low - high):.3g}</text>')
    parts.append(f'<text x="{_LEFT}" y="{_HEIGHT - 4}">{first}</text><text x="{right}" y="{_HEIGHT - 4}" text-anchor="end">step {last}</text>')
    return "".join(parts)
