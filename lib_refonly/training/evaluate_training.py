"""What does training the built-in small model teach it? `studio.py evaluate HELDOUT -o OUT.md --model BASE --styles STYLED`: all is trained for it anew.

Two held-out characters, as a LoRA and as an embedding each, and two held-out styles, as a LoRA each, with the settings that the Train page begins with. Then
the same seeds are painted in each of the ways:

- **with it**; **without**: the base alone, for the same prompt; **another's**: with what was trained on the other character or style; **in words**: the
  base alone, told by the drawings' own caption (a character's hair, skin and clothes; given once, with the LoRA).

A character is trained on twelve pictures: two drawings, transparent, scaled and shifted, with captions that leave out what the drawings have in common. Its
prompt is the trigger word. A style is trained on eight of its twelve pictures; the prompts are the word and the captions of the other four.

- **Colours**: CIE76 distance of palettes of eight colours, each colour to its nearest in the other palette, weighted by its share, both ways; of the figure
  (what is not the ground's colour), or of the whole picture in a style.
- **Mean**: CIE76 distance of the figure's mean colour; in a style of the frame's, an eighth of the picture wide, which is mostly ground.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from lib_refonly.imaging.infotext import save_png, write_atomically
from lib_refonly.training import builtin_settings as builtin
from lib_refonly.training.cli import build, make_task
from lib_refonly.training.drawings.dataset import DrawingSet
from lib_refonly.training.evaluate import lab
from lib_refonly.training.loop import LoopConfig, Run
from lib_refonly.training.own_pictures import FromPictures
from lib_refonly.training.sheets import sheet
from lib_refonly.training.styles.build import StyledSet

CHARACTERS, STYLES = ("micah", "adventurer"), (9, 4)
"""Of which groups the first character is taken; which styles."""
WORDS = ("zibo", "kelu")
WAYS = ("with it", "without", "another's", "in words")
_SEEDS, _SHOWN, _TRAINED_VIEWS, _COPIES = 4, 3, 8, 6
_COLOURS, _APART = 8, 16.0
Picture = NDArray[np.uint8]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Subject:
    """What is trained, and what it is compared with. `truth`: one for each prompt, or one list for all of them."""

    title: str
    word: str
    folder: Path
    prompts: tuple[str, ...]
    in_words: tuple[str, ...]
    truth: tuple[tuple[Picture, ...], ...]
    styled: bool


@dataclass(frozen=True)
class Score:
    task: str
    subject: str
    way: str
    colours: float
    mean: float


def write_character(drawings: DrawingSet, record: int, word: str, folder: Path, seed: int = 0) -> tuple[str, ...]:
    """Twelve transparent pictures of a record with captions, into `folder`; returns the tags that its drawings have in common."""
    rng, meta = np.random.default_rng(seed), drawings.meta[record]
    tags = [str(meta[name]).split(", ") for name in ("caption", "captionB")]
    common = tuple(tag for tag in tags[0] if tag in tags[1])
    folder.mkdir(parents=True, exist_ok=True)
    for view in range(2):
        whole = Image.fromarray(np.dstack([drawings.pictures[record, view], drawings.alpha[record, view]]))
        caption = ", ".join([word, *(tag for tag in tags[view] if tag not in common)])
        for copy in range(_COPIES):
            scale, x, y = (rng.uniform(0.8, 1.2), *rng.uniform(-0.08, 0.08, 2)) if copy else (1.0, 0.0, 0.0)
            write_picture(folder / f"{'ab'[view]}{copy}.png", _moved(whole, scale, x, y), caption)
    return common


def _moved(picture: Image.Image, scale: float, x: float, y: float) -> Image.Image:
    side = picture.width
    corner = [side * (0.5 - 0.5 / scale + part) for part in (x, y)]
    return picture.transform(picture.size, Image.Transform.EXTENT, (*corner, *(one + side / scale for one in corner)), Image.Resampling.BICUBIC)


def write_style(styled: StyledSet, number: int, word: str, folder: Path) -> None:
    """The first pictures of a series with captions, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for view in range(_TRAINED_VIEWS):
        write_picture(folder / f"{view}.png", Image.fromarray(styled.pictures[number, view]), f"{word}, {styled.meta[number]['captions'][view]}")


def write_picture(path: Path, picture: Image.Image, caption: str) -> None:
    """A picture and, beside it, its caption."""
    save_png(path, picture)
    write_atomically(path.with_suffix(".txt"), f"{caption}\n".encode())


def subjects(heldout: Path, styles: Path, folder: Path) -> dict[str, list[Subject]]:
    """For each task its two subjects, with their pictures written below `folder`."""
    drawings, styled = DrawingSet(heldout), StyledSet(styles)
    groups = [meta["group"] for meta in drawings.meta]
    characters, looks = list[Subject](), list[Subject]()
    for word, group in zip(WORDS, CHARACTERS, strict=True):
        record, place = groups.index(group), folder / f"character-{word}"
        common = write_character(drawings, record, word, place)
        truth = (tuple(drawings.pictures[record]),) * _SEEDS
        characters.append(Subject(f"{word}: {', '.join(common)}", word, place, (word,) * _SEEDS, (", ".join(common),) * _SEEDS, truth, styled=False))
    for word, number in zip(WORDS, STYLES, strict=True):
        place, captions = folder / f"style-{word}", styled.meta[number]["captions"][_TRAINED_VIEWS:]
        write_style(styled, number, word, place)
        truth = tuple((picture,) for picture in styled.pictures[number, _TRAINED_VIEWS:])
        title = f"{word}: style {number}, {styled.meta[number]['style']['ground']} ground"
        looks.append(Subject(title, word, place, tuple(f"{word}, {text}" for text in captions), (), truth, styled=True))
    return {"character": characters, "style": looks, "embedding": [replace(one, in_words=()) for one in characters]}


def trained(task: str, subject: Subject, base: Path, folder: Path, steps: int = 0) -> FromPictures:
    """Taught with the settings that the Train page begins with; its averaged weights are in place."""
    kind, first = builtin.TASKS[task]
    settings = builtin.worded(kind, replace(first, name=subject.word, **({"steps": steps} if steps else {})), subject.word)
    tables = builtin.tables(kind, settings, subject.folder, base)
    torch.manual_seed(settings.seed)
    made: Any = make_task(kind, tables[kind], subject.folder, {"base": str(base)})
    run = Run(made, build(LoopConfig, tables["loop"] | {"sample_every": 10**6, "save_every": 10**6}, "loop"), folder)
    run.train(export=True)
    run.ema.copy_to(run.weights)
    return made.eval()


def evaluate(
    heldout: Path, styles: Path, base: Path, folder: Path, seed: int = 0, steps: int = 0, say: Say = lambda _: None
) -> tuple[list[Score], dict[str, Image.Image]]:
    """Train all below `folder`, paint, compare. A sheet for each task: three pictures of each subject, the truth and each of the ways side by side.

    steps: of each training; 0 is what the Train page begins with.
    """
    scores, sheets = list[Score](), dict[str, Image.Image]()
    for task, pair in subjects(heldout, styles, folder).items():
        made = list[FromPictures]()
        for subject in pair:
            say(f"{task}: {subject.word}")
            made.append(trained(task, subject, base, folder / f"{task}-{subject.word}-run", steps))
        rows = list[list[Picture]]()
        for number, subject in enumerate(pair):
            columns = [[truth[i % len(truth)] for i, truth in enumerate(subject.truth)]]
            for way, painted in _painted(subject, made[number], made[1 - number], pair[1 - number].word, seed):
                scores.append(Score(task, subject.title, way, *_compared(painted, subject)))
                columns.append(list(painted))
            rows += [list(row) for row in zip(*columns, strict=True)][:_SHOWN]
        sheets[task] = sheet(rows, cell=96).quantize(256)  # a fifth of the size
    return scores, sheets


def _painted(subject: Subject, own: FromPictures, other: FromPictures, others_word: str, seed: int) -> Iterator[tuple[str, Picture]]:
    side, prompts = own.shape.size // 8, subject.prompts
    noise = torch.stack([torch.randn(4, side, side, generator=torch.Generator().manual_seed(seed + i)) for i in range(len(prompts))])
    yield WAYS[0], own.paint(prompts, noise)
    yield WAYS[1], own.without(prompts, noise)
    yield WAYS[2], other.paint([prompt.replace(subject.word, others_word) for prompt in prompts], noise)
    if subject.in_words:
        yield WAYS[3], own.without(subject.in_words, noise)


def _compared(painted: Picture, subject: Subject) -> tuple[float, float]:
    """Colours and mean, over the prompts; each against the nearest of its truths."""
    rows = []
    for picture, truths in zip(painted, subject.truth, strict=True):
        rows.append(np.min([_pair(picture, truth, subject.styled) for truth in truths], 0))
    colours, mean = np.mean(rows, 0)
    return float(colours), float(mean)


def _pair(painted: Picture, true: Picture, styled: bool) -> tuple[float, float]:
    parts = [_frame(one) if styled else _figure(one) for one in (painted, true)]
    whole = [one.reshape(-1, 3) if styled else part for one, part in zip((painted, true), parts, strict=True)]
    means = [lab(part[None])[0].mean(0) for part in parts]
    return palette_distance(*whole), float(np.linalg.norm(means[0] - means[1]))


def _figure(picture: Picture) -> Picture:
    """The pixels [n, 3] that are not of the colour of the two upper corners; all, where there are none."""
    colours = lab(picture)
    ground = np.median(np.concatenate([colours[:8, :8].reshape(-1, 3), colours[:8, -8:].reshape(-1, 3)]), 0)
    inside = np.linalg.norm(colours - ground, axis=-1) > _APART
    return picture[inside] if inside.any() else picture.reshape(-1, 3)


def _frame(picture: Picture) -> Picture:
    wide, edge = len(picture) // 8, np.ones(picture.shape[:2], bool)
    edge[wide:-wide, wide:-wide] = False
    return picture[edge]


def palette_distance(one: Picture, other: Picture) -> float:
    """CIE76, of two sets of pixels [n, 3]: each colour of a palette to its nearest in the other, weighted by its share, both ways."""
    (here, shares), (there, others) = _palette(one), _palette(other)
    away = np.linalg.norm(here[:, None] - there[None], axis=-1)
    return float(((away.min(1) * shares).sum() + (away.min(0) * others).sum()) / 2)


def _palette(pixels: Picture) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Colours [k, 3] in CIE Lab, and their shares."""
    few = Image.fromarray(pixels[None]).quantize(_COLOURS, Image.Quantize.MEDIANCUT)
    counts = np.bincount(np.asarray(few).ravel(), minlength=_COLOURS)
    colours = np.array(few.getpalette() or [], np.uint8)[: 3 * _COLOURS].reshape(-1, 3)
    counts = counts[: len(colours)]
    return lab(colours[None])[0][counts > 0], counts[counts > 0] / counts.sum()


def holds(scores: Sequence[Score]) -> bool:
    """What was trained comes nearer in its colours than the base alone and than what was trained on another."""
    by = {(s.task, s.subject, s.way): s.colours for s in scores}
    return all(value < min(by[task, subject, WAYS[1]], by[task, subject, WAYS[2]]) for (task, subject, way), value in by.items() if way == WAYS[0])


def report(base: str, scores: Sequence[Score], pictures: str, command: str) -> str:
    """The scores as Markdown. pictures: where the sheets are, without `-TASK.png`."""
    first = builtin.TASKS
    lines = [f"# What training teaches {base}", "", f"Made by `{command}`.", *(__doc__ or "").split("\n")[1:-1], ""]
    told = [f"{task}: {s.steps} steps of {s.batch} at {s.size} px, learning rate {s.lr:g}" for task, (_, s) in first.items()]
    lines += [f"Settings: {'; '.join(told)}."]
    for task in dict.fromkeys(s.task for s in scores):
        own = [s for s in scores if s.task == task]
        lines += ["", f"## {task.capitalize()}", "", *(f"- {subject}" for subject in dict.fromkeys(s.subject for s in own)), ""]
        lines += ["| of | painted | colours | mean |", "| --- | --- | --- | --- |"]
        lines += [f"| {s.subject.partition(':')[0]} | {s.way} | {s.colours:.1f} | {s.mean:.1f} |" for s in own]
        lines += ["", f"The truth, then {', '.join(dict.fromkeys(s.way for s in own))}:", "", f"![{task.capitalize()}]({pictures}-{task}.png)"]
    return "\n".join(lines) + "\n"
