"""The one command of all benchmarks: `.venv/bin/python -m benchmarks`."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import results
from lib_refonly.errors import PainterError
from lib_refonly.imaging.infotext import write_atomically
from lib_refonly.studio.bootstrap.handover import ROOT

PARTS = ("imports", "unet", "onepic", "studio", "pairs")
SIZES = ("sd15", "sd21")
_ABOUT = "Measure, and write docs/benchmarks.md. Parts that are not run keep their section. Exit code 1: a limit is missed."
_EPILOG = """examples:
  python -m benchmarks                                everything
  python -m benchmarks imports studio --rounds 3      two parts, quickly
  python -m benchmarks unet --sizes sd21 --threads 1  one thread: processor time is measured, other load matters less
  python -m benchmarks pairs --sizes 10000,1000000    pairs among so many pictures

Stable Diffusion 2.1's UNet with its ControlNet and encoders needs 7 GB of memory in float32.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the parts that were asked for. Returns the exit code: 0, 1 when a limit is missed, or a `PainterError`'s."""
    argv = sys.argv[1:] if argv is None else list(argv)
    arguments = _parser().parse_args(argv)
    if arguments.threads:  # before torch is imported, and for the processes that are started
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    try:
        held = run(arguments, _command(arguments))
    except PainterError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return error.exit_code
    return 0 if held else 1


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=_ABOUT, epilog=_EPILOG, formatter_class=raw)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--rounds", type=_whole, default=5, metavar="N", help="rounds of each part (default 5)")
    parser.add_argument("--threads", type=_whole, metavar="N", help="processor threads (default: torch's own choice)")
    parser.add_argument("--sizes", nargs="+", type=_size, default=[], metavar="SIZE", help="UNets of the unet part (default: sd15 sd21), pictures of pairs")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="for all parts but imports (default cpu)")
    parser.add_argument("--model", default="tiny-refonly", help="of the studio part: a name of the model list, or a model folder")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results", metavar="FOLDER", help="where the JSON files go")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks.md", metavar="FILE", help="the report")
    return parser


def _whole(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: 1 or more")
    return number


def _size(text: str) -> str:
    if text not in SIZES and not all(number.isdecimal() and int(number) > 1 for number in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text}: {', '.join(SIZES)}, or numbers of pictures, as 10000,30000")
    return text


def _command(arguments: argparse.Namespace) -> str:
    """What was run, without this machine's paths."""
    parser = _parser()
    words = ["python", "-m", "benchmarks", *arguments.parts]
    for name in ("rounds", "threads", "sizes", "device", "model"):
        value = getattr(arguments, name)
        if value != parser.get_default(name):
            shown = value if isinstance(value, list) else [Path(value).name if name == "model" else str(value)]
            words += [f"--{name}", *shown]
    return shlex.join(words)


def run(arguments: argparse.Namespace, command: str) -> bool:
    """Measure, keep, and write the report after every part. True: every limit that was checked holds.

    Raises:
        PainterError: a part is unknown or can't run here.
    """
    import torch

    unknown = [part for part in arguments.parts if part not in PARTS]
    if unknown:
        raise PainterError(f"There is no part {unknown[0]!r}. There is: {', '.join(PARTS)}.")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise PainterError("There is no CUDA device here.")
    machine, held = results.machine(arguments.device, torch.get_num_threads()), True
    for result in _measured(arguments):
        found = replace(result, command=command, machine=machine)
        print(found.markdown(), end="\n\n", flush=True)
        results.save(found, arguments.results)
        write_atomically(arguments.out, results.report(results.load_all(arguments.results)).encode())
        held &= all(gate.holds for gate in found.gates)
    return held


def _measured(arguments: argparse.Namespace) -> Iterator[results.Result]:
    for part in arguments.parts or PARTS:
        if part == "imports":
            from benchmarks import imports

            _tell("imports")
            yield imports.measure(arguments.rounds)
        elif part == "unet":
            from benchmarks import unet_step

            for size in [size for size in arguments.sizes if size in SIZES] or SIZES:
                _tell(f"UNet step, {size}")
                yield unet_step.measure(size, arguments.device, arguments.rounds)
        elif part == "pairs":
            from benchmarks import pairs

            _tell("pairs")
            yield pairs.measure([int(number) for size in arguments.sizes if size not in SIZES for number in size.split(",")] or pairs.SIZES)
        else:
            import torch

            from benchmarks.measure import Clock

            _tell(part)
            clock = Clock.fitting(arguments.device, torch.get_num_threads())
            if part == "onepic":
                from benchmarks import context_reuse

                yield context_reuse.measure(arguments.device, arguments.rounds, clock)
            else:
                from benchmarks import studio

                yield studio.measure(arguments.model, arguments.device, arguments.rounds, clock.name)


def _tell(what: str) -> None:
    print(f"measuring: {what} ...", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
