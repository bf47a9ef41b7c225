"""`studio.py dataset`: a training set from a folder of pictures, and similar pairs alone."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lib_refonly.errors import BadSettings
from lib_refonly.studio.commands import tools
from lib_refonly.studio.commands.bar import Bar

if TYPE_CHECKING:
    from lib_refonly.training.dataset.pairs import PairSettings

T = TypeVar("T")

_BUILD = """Make a training set of the pictures in SOURCE and its subfolders, or go on making it: they are opened safely, cut out, cleaned of empty and
dirty ones and of near-duplicates, embedded, paired by similarity, given blueprints, and packed into shards (WebDataset).

A picture is cut out by its transparency, else by the segmentation model where one is installed (studio.py models), else not at all. Started
again with the same OUT, it goes on; with other settings or pictures, only what they change is made anew.

--ray has pictures opened, cut out, cleaned, embedded and packed by the workers of a Ray cluster, with the same result; near-duplicates and pairs are
found where the command runs. All machines have to see SOURCE, OUT, the models and this project under the same paths."""

_BUILD_EPILOG = """examples:
  studio.py dataset build pictures/ --out set/
  studio.py dataset build pictures/ --out set/ --encoder clip-vit-large-patch14/ --per-picture 8 --device cuda
  studio.py dataset build /shared/pictures --out /shared/set --ray 192.168.1.10:6379

OUT holds shards/NNNNN.tar with manifest.json, pictures.jsonl, embeddings.npy, pairs.parquet, and report.md with report.png. A sample
of a shard has reference.png, target.png, blueprint.png and json."""

_TRAIN = """All of it, or going on with it: the set, what the trainer reads of it, its latents, the training. It is `studio.py train`, and installs what
sets need.

CONFIG is a training file with a table [prepare], whose `pictures` is a folder of pictures, a finished set, or (for stylecodes) a folder with a
subfolder for each style; docs/training.md has an example."""

_PAIRS = """Find pairs of similar pictures by their embeddings (float32 or float16 [pictures, width], one row a picture), or go on finding them.

PAIRS gets the columns a, b (row numbers) and cosine: b is one of a's best partners. Many pictures are sorted into lists first; how many
lists are searched is chosen so that a sample's pairs are found to the share --recall. A report lies beside it as PAIRS.json."""

_PAIRS_EPILOG = """examples:
  studio.py dataset pairs embeddings.npy -o pairs.parquet
  studio.py dataset pairs embeddings.npy -o pairs.csv --min 0.92 --max 0.97 --per-picture 10 --exact"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `dataset` to the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser("dataset", help="make a training set of a folder of pictures", description="Make a training set of your own pictures.")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    action = actions.add_parser("build", help="from a folder to shards", description=_BUILD, epilog=_BUILD_EPILOG, formatter_class=raw)
    action.add_argument("source", type=Path, metavar="SOURCE", help="the folder of the pictures")
    action.add_argument("--out", type=Path, required=True, metavar="OUT", help="an empty folder outside it, or one that is to be gone on with")
    action.add_argument("--side", type=int, default=1024, metavar="N", help="longer pictures are brought down to this, px (default 1024)")
    action.add_argument("--smallest", type=int, default=128, metavar="N", help="pictures with a shorter side go, px (default 128)")
    action.add_argument("--segmenter", default="auto", metavar="FILE.onnx", help="segmentation model; auto: the installed one; none (default auto)")
    action.add_argument("--encoder", type=Path, metavar="FOLDER", help="CLIP vision model in transformers' layout (default: the small one that ships)")
    action.add_argument("--device", choices=("cpu", "cuda", "mps"), default="cpu", help="where to embed (default cpu)")
    action.add_argument("--shard", type=int, default=1000, metavar="N", help="samples in a shard (default 1000)")
    action.add_argument("--chunk", type=int, default=256, metavar="N", help="pictures that are finished together (default 256)")
    action.add_argument("--ray", default="", metavar="ADDRESS", help="spread the work by Ray: local, auto, or a cluster's HOST:PORT (default: do it here)")
    _add_pair_options(action)
    action.set_defaults(run=build)
    action = actions.add_parser("train", help="from a folder to a trained model", description=_TRAIN, formatter_class=raw)
    action.add_argument("config", type=Path, metavar="CONFIG.toml")
    action.add_argument("--folder", type=Path, metavar="RUN", help="train in this folder instead of the file's")
    action.set_defaults(run=tools.train_recipe, minutes=None, steps=None, export=False)
    action = actions.add_parser("pairs", help="similar pairs of embeddings", description=_PAIRS, epilog=_PAIRS_EPILOG, formatter_class=raw)
    action.add_argument("embeddings", type=Path, metavar="EMBEDDINGS.npy")
    action.add_argument("-o", "--out", type=Path, required=True, metavar="PAIRS", help="a .parquet or a .csv")
    _add_pair_options(action)
    action.set_defaults(run=pairs)


def _add_pair_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--min", type=float, default=0.90, metavar="X", help="least cosine of a pair (default 0.90, as in the paper)")
    parser.add_argument("--max", type=float, default=0.98, metavar="X", help="greatest: what is above shows the same thing twice (default 0.98)")
    parser.add_argument("--per-picture", type=int, default=4, metavar="K", help="partners of a picture at most, the nearest ones (default 4)")
    parser.add_argument("--exact", action="store_true", help="compare everything with everything")
    parser.add_argument("--lists", type=int, default=0, metavar="N", help="lists to sort into (default: by the number of pictures)")
    parser.add_argument("--recall", type=float, default=0.99, metavar="X", help="share of the exact pairs to find, on a sample (default 0.99)")
    parser.add_argument("--seed", type=int, default=0, metavar="N")


def _pair_settings(arguments: argparse.Namespace) -> PairSettings:
    from lib_refonly.training.dataset.pairs import PairSettings
    from lib_refonly.training.dataset.window import Window

    window = Window(arguments.min, arguments.max, arguments.per_picture)
    return PairSettings(window, arguments.exact, arguments.lists, arguments.recall, seed=arguments.seed)


def build(arguments: argparse.Namespace) -> int:
    """A folder into shards. Raises: PainterError: as `training.dataset.build.build`."""
    from lib_refonly.training.dataset.build import BuildSettings
    from lib_refonly.training.dataset.build import build as build_set
    from lib_refonly.training.dataset.embed import SHIPPED

    segmenter = _segmenter(arguments.segmenter)
    if segmenter is None:
        print("No segmentation model is used: pictures without transparency keep their background.", file=sys.stderr)
    settings = BuildSettings(
        arguments.side, arguments.smallest, segmenter, arguments.encoder or SHIPPED, arguments.device,
        pairs=_pair_settings(arguments), chunk=arguments.chunk, shard=arguments.shard,
    )  # fmt: skip
    summary = _shown(lambda tell: build_set(arguments.source, arguments.out, settings, tell, arguments.ray))
    print(summary.sentence() + summary.note)
    print(f"{arguments.out / 'report.md'}")
    return 0


def _segmenter(given: str) -> Path | None:
    """Raises: BadSettings: there is no such file."""
    if given == "none":
        return None
    if given == "auto":
        from lib_refonly.models.registry import ModelStore

        return ModelStore().segmenter()
    if not Path(given).is_file():
        raise BadSettings(f"There is no segmentation model {given}.")
    return Path(given)


def pairs(arguments: argparse.Namespace) -> int:
    """Embeddings into a table of pairs. Raises: PainterError: as `training.dataset.pairs.find_pairs`."""
    from lib_refonly.training.dataset.pairs import find_pairs

    settings = _pair_settings(arguments)
    report = _shown(lambda tell: find_pairs(arguments.embeddings, arguments.out, settings, tell))
    print(report.sentence())
    print(f"{arguments.out}")
    return 0


def _shown(work: Callable[[Callable[[float, str], None]], T]) -> T:
    """Do the work with a bar for each of its steps."""
    shown: dict[str, Bar] = {}

    def tell(share: float, what: str) -> None:
        if what not in shown:
            for bar in shown.values():
                bar.clear()
            shown[what] = Bar(sys.stderr, sys.stderr.isatty(), 1)
        shown[what].show(share, what)

    try:
        return work(tell)
    finally:
        for bar in shown.values():
            bar.clear()
