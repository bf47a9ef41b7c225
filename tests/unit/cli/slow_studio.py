"""The command line with a slow engine: a program of its own, to be interrupted."""

import sys

from lib_refonly.studio.cli import main
from tests.unit.cli.fakes import FakeEngine

sys.exit(main(sys.argv[1:], FakeEngine(seconds_a_step=0.02)))
