"""The WebUI's command-line flags of this extension."""

from __future__ import annotations

import argparse


def preload(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--refonly-models-dir", type=str, default=None, help="folder with Reference Only models, besides .refonly/models in your home folder")
