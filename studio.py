#!/usr/bin/env python3
"""Reference Only, stand-alone.

    python3 studio.py                                   open the studio in the browser
    python3 studio.py color REFERENCE LINES -o OUT      colour drawings from the command line
    python3 studio.py --help                            everything else

The first start sets up a Python environment of its own in the folder .venv beside this file; later starts use it as it is and need no
network. This file and what it imports first stay readable for any Python from 3.6 on, so that an unfit one says what is wrong instead of
showing a SyntaxError.
"""

import sys

from lib_refonly.studio.bootstrap.handover import hand_over, is_fit


def main() -> int:
    if not is_fit(sys.version_info):
        return hand_over(sys.argv)
    from lib_refonly.studio.bootstrap.start import start

    return start(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
