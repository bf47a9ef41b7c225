"""The commands that are not colouring: each reads its arguments, calls the one function that does the work, and prints what came of it."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from lib_refonly.errors import BadSettings, PainterError
from lib_refonly.studio.commands.bar import Bar

if TYPE_CHECKING:
    from lib_refonly.models.download import Progress
    from lib_refonly.models.pack import Row
    from lib_refonly.models.registry import ModelEntry


def verify(arguments: argparse.Namespace) -> int:
    """Check a golden pack: one line a tensor. 0 when all are within their tolerance, else 1."""
    from lib_refonly.models.weights import read_json
    from lib_refonly.refonly import golden as refonly
    from lib_refonly.stylecode import golden as stylecode

    method = stylecode if read_json(arguments.pack / "golden.json").get("format") == "stylecodes_golden" else refonly
    print(f"{'tensor':40} {'largest difference':>18} {'allowed':>10}")
    rows = method.verify_pack(arguments.pack, lambda row: print(golden_line(row), flush=True))
    failed = sum(not row.ok for row in rows)
    print(f"{failed} of {len(rows)} differ." if failed else f"All {len(rows)} agree.")
    return 1 if failed or not rows else 0


def golden_line(row: Row) -> str:
    """One line of the table."""
    return f"{row.tensor:40} {row.difference:18.3g} {row.tolerance:10.1g}{'' if row.ok else '  DIFFERS'}"


def convert(arguments: argparse.Namespace) -> int:
    """A model folder into one file that a WebUI lists as a checkpoint."""
    from lib_refonly.refonly.convert import to_ldm

    if (arguments.onto is None) != (arguments.base is None):
        raise BadSettings("--onto and --base belong together: the checkpoint whose style is wanted, and what the model was trained from.")
    written = to_ldm(arguments.folder, arguments.out, (arguments.base, arguments.onto) if arguments.onto else None)
    print(f"{written} and {written.with_suffix('.yaml').name} beside it")
    return 0


def list_models(arguments: argparse.Namespace) -> int:
    """The model list, with what each needs, and the models that help."""
    from lib_refonly.models.offers import SEGMENTER, TAGGER, place_of
    from lib_refonly.models.registry import ModelStore

    store = ModelStore()
    for entry in store.entries():
        print(model_line(entry))
    print(f"{SEGMENTER.name}: {SEGMENTER.title}\n    {store.segmenter() or _how_to_get(SEGMENTER.name)}")
    print(f"{TAGGER.name}: {TAGGER.title}\n    {place_of(TAGGER) if TAGGER.installed else _how_to_get(TAGGER.name)}")
    return 0


def model_line(entry: ModelEntry) -> str:
    """One model: name, size, memory, and where it is or why it cannot be used."""
    needs = f"{entry.native_size} px, {entry.memory / 1e9:.1f} GB of memory"
    if entry.problem:
        return f"{entry.name}: cannot be used. {entry.problem}"
    where = str(entry.path) if entry.installed else _how_to_get(entry.name)
    return f"{entry.name}: {entry.title} ({needs})\n    {where}"


def _how_to_get(name: str) -> str:
    return f"not installed: studio.py models download {name}"


def download_model(arguments: argparse.Namespace) -> int:
    """Fetch a model that is offered. Nothing leaves the machine before the answer is yes."""
    from lib_refonly.models.offers import fetch, find_offer, place_of

    offer = find_offer(arguments.name)
    if not (arguments.yes or _consents(f"{offer.remote.about} It goes to {place_of(offer)}. Download it?")):
        raise BadSettings("Nothing was downloaded. Answer y, or give --yes, when you agree.")
    bar = Bar(sys.stderr, sys.stderr.isatty(), 1)

    def on_progress(progress: Progress) -> None:
        bar.show(progress.done / max(progress.total, 1), f"{progress.done / 1e9:.2f} of {progress.total / 1e9:.2f} GB, {progress.file}")

    try:
        fetch(offer, on_progress, consent=True)
    finally:
        bar.clear()
    print(f"{offer.name} is in {place_of(offer)}")
    return 0


def _consents(question: str) -> bool:
    if not sys.stdin.isatty():
        return False
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def train(arguments: argparse.Namespace) -> int:
    """Train what a configuration file describes, or go on training it."""
    from lib_refonly.studio.commands import saved_settings

    return saved_settings.train(arguments) if saved_settings.is_saved(arguments) else train_recipe(arguments)


def train_recipe(arguments: argparse.Namespace) -> int:
    """The same for a file of this project's own trainers."""
    from lib_refonly.training.cli import main
    from lib_refonly.training.jobs.process import JOB_FOLDER

    elsewhere = {} if arguments.folder is None else {"folder": arguments.folder}
    try:
        return main(arguments.config, arguments.minutes, arguments.steps, arguments.export, **elsewhere)
    except Exception as error:
        if os.environ.get(JOB_FOLDER) and not isinstance(error, PainterError):
            traceback.print_exc()  # nobody sits at a job's terminal: what is explained on the page is read from its log
        raise


def build_data(arguments: argparse.Namespace) -> int:
    """Draw the data set that the small models are trained on, or go on drawing it.

    Raises:
        BadSettings: the folder holds another data set. PainterError: node is missing, or the generator failed.
    """
    from lib_refonly.training.drawings.build import build
    from lib_refonly.training.drawings.packages import DrawingToolsMissing

    try:
        build(arguments.out, arguments.seed, arguments.count, arguments.size, arguments.split, arguments.workers)
    except DrawingToolsMissing as error:
        raise PainterError(str(error)) from error
    except ValueError as error:
        raise BadSettings(f"{error}.".replace("..", ".")) from error
    except subprocess.CalledProcessError as error:
        raise PainterError(f"The generator of drawings failed ({error}).") from error
    print(f"{arguments.count} records in {arguments.out}")
    return 0


def build_styles(arguments: argparse.Namespace) -> int:
    """Paint a drawing set in random styles. Raises: BadSettings: the folder holds another set."""
    from lib_refonly.training.styles.build import build

    bar = Bar(sys.stderr, sys.stderr.isatty(), 1)
    build(
        arguments.data, arguments.out, arguments.seed, arguments.count, arguments.views, arguments.split, lambda done, count: bar.show(done / count, f"{done}")
    )
    bar.clear()
    print(f"{arguments.count} styles in {arguments.out}")
    return 0


def build_panels(arguments: argparse.Namespace) -> int:
    """Make ONE-PIC's panels from a drawing set. Raises: BadSettings: no such set, or the folder is not empty."""
    from lib_refonly.training.panels import build

    print(f"{build(arguments.data, arguments.out, arguments.size, arguments.count, arguments.seed)} characters in {arguments.out}")
    return 0


def build_canvases(arguments: argparse.Namespace) -> int:
    """Make ONE-PIC's training set from the painter's own pictures. Raises: BadSettings: all that can't be trained from. CannotWrite."""
    from lib_refonly.training.kohya.canvases import Canvases
    from lib_refonly.training.panel_files import build

    size = re.fullmatch(r"(\d{1,5})x(\d{1,5})", arguments.size)
    if size is None:
        raise BadSettings(f"--size {arguments.size}: say width and height, as 512x768.")
    canvases = Canvases.named(arguments.panels, int(size[1]), int(size[2]), arguments.task, arguments.title)
    count, notes = build(arguments.source, canvases, arguments.out, arguments.own)
    for note in notes:
        print(note, file=sys.stderr)
    print(f"{count} canvases in {arguments.out}")
    return 0


def from_set(arguments: argparse.Namespace) -> int:
    """From a set of pairs to a drawing set. Raises: BadSettings: it can't be trained on, or the folder holds another set. CannotWrite."""
    from lib_refonly.training.own.pairs import from_set as make

    bar = Bar(sys.stderr, sys.stderr.isatty(), 1)
    told = make(arguments.source, arguments.out, arguments.size, arguments.captions, tell=bar.show)
    bar.clear()
    print("\n".join([*told.notes, told.sentence()]))
    return 0


def from_styles(arguments: argparse.Namespace) -> int:
    """From subfolders to a styled set. Raises: BadSettings: they can't be trained on, or the folder holds another set. CannotWrite."""
    from lib_refonly.training.own.styles import from_folders

    bar = Bar(sys.stderr, sys.stderr.isatty(), 1)
    told = from_folders(arguments.source.resolve(), arguments.out, arguments.size, tell=bar.show)
    bar.clear()
    print("\n".join([*told.notes, told.sentence("styles")]))
    return 0


def encode_data(arguments: argparse.Namespace) -> int:
    """Encode a data set by a VAE."""
    from lib_refonly.training.latents import encode_all

    print(encode_all(arguments.vae, arguments.data, arguments.size, limit=arguments.limit))
    return 0


def evaluate(arguments: argparse.Namespace) -> int:
    """Score a model on held-out drawings, or a base model on its prompts. 0 when every gate holds, else 1."""
    if (Path(arguments.model) / "text_encoder").is_dir():
        return _evaluate_training(arguments) if arguments.styles else _evaluate_base(arguments)
    from lib_refonly.imaging.infotext import save_png, write_atomically
    from lib_refonly.models.registry import ModelStore
    from lib_refonly.refonly.loader import load_refonly
    from lib_refonly.studio.devices import pick
    from lib_refonly.training import evaluate as scoring

    device, dtype = pick()
    given = Path(arguments.model)
    if given.is_file() and arguments.drawings:
        return _evaluate_styles(arguments)
    if given.is_dir() and arguments.base:
        return _evaluate_onepic(arguments)
    if given.is_file() and arguments.base:
        from lib_refonly.training.evaluate_adapter import AdapterPainter

        name, painter = given.stem, AdapterPainter(given, arguments.base, device)
    else:
        store = ModelStore()
        entry = store.point_to(given) if given.exists() else store.get(arguments.model)
        if entry.path is None:
            raise BadSettings(f"{entry.name} is not installed.")
        name, painter = entry.name, scoring.FullPainter(load_refonly(entry.path, device=device, dtype=dtype))
    bar = Bar(sys.stderr, sys.stderr.isatty(), 1)

    def tell(done: int, count: int) -> None:
        bar.show(done / count, scoring.WAYS[done - 1])

    scores, sheet = scoring.evaluate(painter, arguments.data, arguments.seed, arguments.limit, tell)
    bar.clear()
    limit = f" --limit {arguments.limit}" if arguments.limit else ""
    command = f"studio.py evaluate {arguments.data} -o {arguments.out} --model {arguments.model} --seed {arguments.seed}{limit}"
    command += f" --base {arguments.base}" if arguments.base else ""
    text = scoring.report(name, painter.size, scores, command)
    write_atomically(arguments.out, text.encode())
    save_png(arguments.out.with_suffix(".png"), sheet)
    print(text)
    return 0 if all(gate.holds for gate in scoring.gates(scores)) else 1


def _evaluate_styles(arguments: argparse.Namespace) -> int:
    from lib_refonly.imaging.infotext import save_png, write_atomically
    from lib_refonly.models.registry import EMBEDDED
    from lib_refonly.training import evaluate_style as scoring
    from lib_refonly.training.styles.build import StyledSet
    from lib_refonly.training.styles.judge import trained

    bar = Bar(sys.stderr, sys.stderr.isatty(), 1)
    judge = trained(arguments.drawings, arguments.data, arguments.seed, lambda done, count: bar.show(done / count, "teaching the judge"))
    painter = scoring.StylePainter(Path(arguments.model), arguments.base or EMBEDDED / "tiny-base")
    codes, painted, sheet = scoring.evaluate(painter, judge, arguments.data, arguments.limit, seed=arguments.seed, on_way=lambda way: bar.show(0, way))
    bar.clear()
    shown = StyledSet(arguments.data)
    limit = f" --limit {arguments.limit}" if arguments.limit else ""
    command = f"studio.py evaluate {arguments.data} -o {arguments.out} --model {arguments.model} --drawings {arguments.drawings} --seed {arguments.seed}{limit}"
    text = scoring.report(str(painter.model.info.code), codes, painted, arguments.limit or len(shown), shown.pictures.shape[1], command)
    write_atomically(arguments.out, text.encode())
    save_png(arguments.out.with_suffix(".png"), sheet)
    print(text)
    return 0 if scoring.holds(codes, painted) else 1


def _evaluate_onepic(arguments: argparse.Namespace) -> int:
    from lib_refonly.imaging.infotext import save_png, write_atomically
    from lib_refonly.refonly.text_to_image import TextToImage
    from lib_refonly.training import evaluate_onepic as scoring

    bar = Bar(sys.stderr, sys.stderr.isatty(), 1)
    loras = [scoring.Trained.read(path) for path in sorted(Path(arguments.model).glob("*.safetensors"))]
    if not loras:
        raise BadSettings(f"{arguments.model} holds no LoRA.")
    base = TextToImage(arguments.base)
    scores, sheet = scoring.evaluate(base, loras, arguments.data, arguments.limit, arguments.seed, lambda way: bar.show(0, way))
    bar.clear()
    limit = f" --limit {arguments.limit}" if arguments.limit else ""
    command = f"studio.py evaluate {arguments.data} -o {arguments.out} --model {arguments.model} --base {arguments.base} --seed {arguments.seed}{limit}"
    text = scoring.report(arguments.base.name, scores, command)
    write_atomically(arguments.out, text.encode())
    save_png(arguments.out.with_suffix(".png"), sheet)
    print(text)
    return 0


def _evaluate_training(arguments: argparse.Namespace) -> int:
    import tempfile

    from lib_refonly.imaging.infotext import save_png, write_atomically
    from lib_refonly.training import evaluate_training as scoring

    base, pictures = Path(arguments.model), Path("pictures") / arguments.out.stem.removeprefix("scores-")
    bar = Bar(sys.stderr, sys.stderr.isatty(), 1)
    with tempfile.TemporaryDirectory() as folder:
        scores, sheets = scoring.evaluate(arguments.data, arguments.styles, base, Path(folder), arguments.seed, say=lambda what: bar.show(0, what))
    bar.clear()
    command = f"studio.py evaluate {arguments.data} -o {arguments.out} --model {base} --styles {arguments.styles} --seed {arguments.seed}"
    text = scoring.report(base.name, scores, pictures.as_posix(), command)
    (arguments.out.parent / pictures.parent).mkdir(parents=True, exist_ok=True)
    write_atomically(arguments.out, text.encode())
    for task, sheet in sheets.items():
        save_png(arguments.out.parent / f"{pictures}-{task}.png", sheet)
    print(text)
    return 0 if scoring.holds(scores) else 1


def _evaluate_base(arguments: argparse.Namespace) -> int:
    from lib_refonly.imaging.infotext import save_png, write_atomically
    from lib_refonly.training import evaluate_base as scoring

    responses, sheet = scoring.evaluate_base(Path(arguments.model), seed=arguments.seed)
    command = f"studio.py evaluate {arguments.data} -o {arguments.out} --model {arguments.model} --seed {arguments.seed}"
    text = scoring.report_base(Path(arguments.model).name, responses, command)
    write_atomically(arguments.out, text.encode())
    save_png(arguments.out.with_suffix(".png"), sheet)
    print(text)
    return 0 if scoring.holds(responses) else 1
