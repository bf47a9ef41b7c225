"""The command line of `studio.py`: what there is to say, and which module does it.

Reading `--help` imports neither torch nor any other big package; a command imports what it needs when it runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lib_refonly import __version__
from lib_refonly.errors import Interrupted, PainterError
from lib_refonly.refonly.settings import RefOnlySettings
from lib_refonly.studio.commands import color, dataset, failures, jobs, model_choice, onepic, stylecode, tools, trainers
from lib_refonly.studio.commands.options import add_settings

if TYPE_CHECKING:
    from lib_refonly.studio.groups import Painter

DEFAULT_MODEL = "tiny-refonly"
ALIASES = {"count": "--variations", "reference_strength": "--strength"}

_USAGE = "studio.py [--port N] [--no-browser] [--listen] | studio.py COMMAND ..."
_TOP = """Colour line drawings like a reference picture. Without a command, the studio opens in the browser."""

_TOP_EPILOG = """examples:
  studio.py                                        open the studio
  studio.py --port 8000 --no-browser               on another port, and open the page yourself
  studio.py color girl.png sketch.png -o done.png  colour one drawing
  studio.py color --help                           everything about colouring

exit codes:
  0 done   2 wrong setting   3 bad picture   4 bad model   5 cannot write   6 out of memory
  7 offline   8 partly failed   70 a fault of the program   130 stopped   1 anything else
"""

_TRAIN = """Train what CONFIG describes; started again, it goes on. CONFIG is a recipe, or settings that the Train page saved for sd-scripts: these are trained
in the folder of the file's name beside it."""

_COLOR = """Colour LINES like REFERENCE.

Both may be a file or a folder. Two folders are paired by name (sun.jpg with sun.png); one reference file colours a whole folder of
drawings. The results of a folder go to the folder OUT, under the drawings' names, as .png."""

_COLOR_EPILOG = """examples:
  studio.py color girl.png sketch.png -o done.png
  studio.py color girl.png frames/ -o coloured/ --seed 7 --resume
  studio.py color sheets/ drawings/ -o coloured/ --layer --json
  studio.py color girl.png sketch.png -o . --variations 4 --also-reference dress.png:0.5
  studio.py color -o=-done.png -- -girl.png -sketch.png      names that begin with a dash

Further pictures of one drawing are NAME.2.png, NAME.3.png ...; colour layers are NAME.layer.png.
--json prints one object a picture (file, reference, status, out, layer, seed, seconds, notes, error), and a last one with
"summary": true."""


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(prog="studio.py", usage=_USAGE, description=_TOP, epilog=_TOP_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", prog="studio.py", required=True)
    _add_color(commands)
    stylecode.add(commands)
    onepic.add(commands)
    _add_tools(commands)
    _add_training(commands)
    dataset.add(commands)
    jobs.add(commands)
    trainers.add(commands)
    commands.add_parser("page", help="open the studio: what happens without a command, too (studio.py page --help)", add_help=False)
    commands.add_parser("test", help="set up what the tests need and run them (studio.py test --help)", add_help=False)
    return parser


def _add_color(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    raw = argparse.RawDescriptionHelpFormatter
    usage = "studio.py color REFERENCE LINES -o OUT [options]"
    parser = commands.add_parser("color", help="colour drawings", usage=usage, description=_COLOR, epilog=_COLOR_EPILOG, formatter_class=raw)
    parser.add_argument("reference", type=Path, metavar="REFERENCE", help="coloured picture of the character, or a folder of them")
    parser.add_argument("lines", type=Path, metavar="LINES", help="line drawing (or a colour picture whose lines are found), or a folder of them")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help="the result: a name ending in .png, or a folder")
    parser.add_argument("--model", default=DEFAULT_MODEL, help=model_choice.HELP)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="where to compute (default auto)")
    parser.add_argument("--also-reference", action="append", default=[], metavar="FILE[:WEIGHT]", help="a further reference; may be repeated")
    parser.add_argument("--reference-weight", type=_weight, default=1.0, metavar="X", help="weight of REFERENCE beside the further ones (default 1)")
    parser.add_argument("--layer", action="store_true", help="also write the colours without the lines, transparent, as NAME.layer.png")
    parser.add_argument("--resume", action="store_true", help="skip what is finished with the same pictures, settings and model")
    parser.add_argument("--json", action="store_true", help="print JSON lines")
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, default=None, help="a progress bar (default: on a terminal)")
    add_settings(parser.add_argument_group("painting"), RefOnlySettings, ALIASES)


def _weight(text: str) -> float:
    weight = float(text)
    if not 0 <= weight < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: a weight is 0 or more")
    return weight


def _add_tools(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("verify", help="check this program against a golden pack", description="Compare with numbers that the authors' code produced.")
    parser.add_argument("pack", type=Path, metavar="PACK", help="folder of the pack")
    parser.set_defaults(run=tools.verify)

    parser = commands.add_parser("convert", help="make a checkpoint for A1111 or Forge", description="Write a model folder as one checkpoint file.")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="model folder (unet, vae, image_encoder, ...)")
    parser.add_argument("out", type=Path, metavar="OUT", help="the .safetensors to write, or a folder; a .yaml is written beside it")
    parser.add_argument("--onto", type=Path, metavar="CHECKPOINT", help="paint in the style of this checkpoint of the same network; needs --base")
    parser.add_argument("--base", type=Path, metavar="CHECKPOINT", help="what the model was trained from (for the authors' model: Stable Diffusion 2.1)")
    parser.set_defaults(run=tools.convert)

    parser = commands.add_parser("models", help="list the models, download one", description="List the models, or download one.")
    parser.set_defaults(run=tools.list_models)
    actions = parser.add_subparsers(metavar="ACTION")
    actions.add_parser("list", help="list them (what happens without an action, too)").set_defaults(run=tools.list_models)
    action = actions.add_parser("download", help="download one, with your consent; goes on where it was stopped")
    action.add_argument("name", metavar="NAME")
    action.add_argument("--yes", action="store_true", help="consent without being asked")
    action.set_defaults(run=tools.download_model)


def _add_training(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("train", help="train a model, or go on training it", description=_TRAIN)
    parser.add_argument("config", type=Path, metavar="CONFIG.toml")
    parser.add_argument("--minutes", type=float, metavar="N", help="stop after this time (started again, it goes on)")
    parser.add_argument("--steps", type=int, metavar="N", help="train up to this step instead of the file's")
    parser.add_argument("--folder", type=Path, metavar="RUN", help="train in this folder instead of the file's")
    parser.add_argument("--export", action="store_true", help="train nothing: write the averaged weights of the last checkpoint")
    jobs.add_places(parser)
    parser.set_defaults(run=tools.train)

    parser = commands.add_parser("data", help="draw the data set of the small models", description="Make training data.")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    action = actions.add_parser("build", help="draw it, or go on drawing it (needs node and npm)")
    action.add_argument("--out", type=Path, required=True, help="folder of the split")
    action.add_argument("--count", type=int, required=True, metavar="N", help="records (each has two drawings)")
    action.add_argument("--seed", type=int, default=0, metavar="N")
    action.add_argument("--split", choices=("train", "heldout"), default="train")
    action.add_argument("--size", type=int, default=256, metavar="N", help="side in pixels (default 256)")
    action.add_argument("--workers", type=int, default=1, metavar="N", help="rendering processes (default 1)")
    action.set_defaults(run=tools.build_data)
    action = actions.add_parser("styles", help="paint a drawing set in random styles, or go on painting it: what a stylecode model is trained on")
    action.add_argument("data", type=Path, metavar="DATA", help="folder of the drawing set's split")
    action.add_argument("--out", type=Path, required=True, help="folder of the styled set")
    action.add_argument("--count", type=int, required=True, metavar="N", help="styles")
    action.add_argument("--views", type=int, default=12, metavar="N", help="pictures in each style (default 12)")
    action.add_argument("--seed", type=int, default=0, metavar="N")
    action.add_argument("--split", choices=("train", "heldout"), default="train", help="some kinds of styles are held out")
    action.set_defaults(run=tools.build_styles)
    action = actions.add_parser("panels", help="make ONE-PIC's panels from a drawing set: what its LoRAs are trained on")
    action.add_argument("data", type=Path, metavar="DATA", help="folder of the drawing set's split")
    action.add_argument("--out", type=Path, required=True, help="folder of the panels")
    action.add_argument("--count", type=int, required=True, metavar="N", help="characters")
    action.add_argument("--size", type=int, default=128, metavar="N", help="side in pixels (default 128)")
    action.add_argument("--seed", type=int, default=0, metavar="N")
    action.set_defaults(run=tools.build_panels)
    action = actions.add_parser("canvases", help="check your own pictures and make ONE-PIC's canvases of them: what a LoRA of yours is trained on")
    action.add_argument("source", type=Path, metavar="SOURCE", help="a folder with a subfolder for each panel's name, or a manifest (.jsonl or .csv)")
    action.add_argument("--panels", required=True, metavar="ROWS", help="such as reference,lines/lines,target; or 2x2, for panels called 1, 2, 3 and target")
    action.add_argument("--out", type=Path, required=True, help="an empty folder")
    action.add_argument("--size", default="512x512", metavar="WxH", help="of a panel, in pixels (default 512x512)")
    action.add_argument("--task", default="", metavar="TASK", help="a name from `studio.py onepic tasks`: the studio takes the LoRA for it by itself")
    action.add_argument("--title", default="", metavar="TEXT", help="what lists of LoRAs show")
    action.add_argument("--own", action="store_true", help="for this project's trainer and small models, instead of sd-scripts")
    action.set_defaults(run=tools.build_canvases)
    action = actions.add_parser("from-set", help="make what the RefOnly and adapter trainers read of a set that `dataset build` made, or go on making it")
    action.add_argument("source", type=Path, metavar="SET", help="folder of the set")
    action.add_argument("--out", type=Path, required=True, help="an empty folder; what is held out goes into its subfolder heldout")
    action.add_argument("--size", type=int, default=256, metavar="N", help="side in pixels, a multiple of 64 (default 256)")
    action.add_argument("--captions", type=Path, metavar="PICTURES", help="the folder that the set was made of: NAME.txt beside a picture is its caption")
    action.set_defaults(run=tools.from_set)
    action = actions.add_parser("from-styles", help="make what the stylecode trainer reads of a folder with a subfolder for each style, or go on making it")
    action.add_argument("source", type=Path, metavar="PICTURES", help="the folder; NAME.txt beside a picture is its caption")
    action.add_argument("--out", type=Path, required=True, help="an empty folder; what is held out goes into its subfolder heldout")
    action.add_argument("--size", type=int, default=256, metavar="N", help="side in pixels, a multiple of 64 (default 256)")
    action.set_defaults(run=tools.from_styles)
    action = actions.add_parser("latents", help="encode it by a VAE, or go on encoding it: what a UNet is trained on")
    action.add_argument("vae", type=Path, metavar="VAE", help="folder of the VAE")
    action.add_argument("data", type=Path, metavar="DATA", help="folder of the split")
    action.add_argument("--size", type=int, default=128, metavar="N", help="side in pixels (default 128)")
    action.add_argument("--limit", type=int, default=0, metavar="N", help="only the first N records (default: all)")
    action.set_defaults(run=tools.encode_data)

    parser = commands.add_parser(
        "evaluate", help="score a model on the held-out drawings", description="Held-out scores and gates. Exit code 1: a gate is missed."
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="folder of the held-out split")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT.md", help="the report; a sheet of pictures is written beside it as OUT.png")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="a name from `studio.py models`, or a model folder")
    parser.add_argument("--base", type=Path, metavar="FOLDER", help="for an adapter or a stylecode model (a file): the text-to-image model that it is put on")
    parser.add_argument("--drawings", type=Path, metavar="DATA", help="for a stylecode model: the drawing set that its judge is taught on")
    parser.add_argument("--styles", type=Path, metavar="DATA", help="for a text-to-image model: a set of styles; LoRAs and embeddings are trained, and scored")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="at most N drawings a group (default: all)")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.set_defaults(run=tools.evaluate)


def main(argv: Sequence[str] | None = None, engine: Painter | None = None) -> int:
    """Run one command. Returns the exit code; what went wrong is one sentence on stderr. `engine` replaces the real one for colouring."""
    _make_streams_safe()
    argv = sys.argv[1:] if argv is None else argv
    try:
        return _run(argv, engine)
    except PainterError as error:
        print(f"studio.py: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("studio.py: stopped. What is finished is kept; --resume goes on with the rest.", file=sys.stderr)
        return Interrupted.exit_code
    except BrokenPipeError:  # the reader of our output has gone (| head): nobody to tell, and nothing more to print at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        print(f"studio.py: {failures.sentence(error, failures.write_log(error))}", file=sys.stderr)
        return failures.EXIT_CODE


def _run(argv: Sequence[str], engine: Painter | None) -> int:
    if argv[:1] == ["page"] or not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help", "--version")):
        from lib_refonly.studio.app import main as open_page

        return open_page(argv[1:] if argv[:1] == ["page"] else argv)
    arguments = build_parser().parse_args(stylecode.shielded(argv) if argv[0] == "stylecode" else argv)
    return color.run(arguments, engine) if arguments.command == "color" else arguments.run(arguments)


def _make_streams_safe() -> None:
    """A file name that the terminal's encoding cannot show must not stop a run."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
