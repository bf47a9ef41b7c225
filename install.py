"""The WebUI's installer hook: installs what is missing, which is segno (QR codes, pure Python) in every WebUI that this extension was tried in.

It never touches what the WebUI came with: a package goes in without its dependencies, so that torch, numpy, gradio and transformers stay as they are.
Offline, and under --skip-install, it says what is missing and lets the WebUI start.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

WANTED = {
    "cv2": "opencv-python-headless==4.11.0.86",
    "PIL": "pillow",
    "psutil": "psutil",
    "safetensors": "safetensors",
    "segno": "segno==1.6.6",
    **({"tomli": "tomli"} if sys.version_info < (3, 11) else {}),
}
"""Import name -> what pip calls it. The OpenCV is the last that works with numpy 1 as well as 2."""
_PATIENCE = 180


def missing() -> list[str]:
    return [package for module, package in WANTED.items() if importlib.util.find_spec(module) is None]


def may_install() -> bool:
    """Whether the WebUI's flags allow it. They stand in the command line of the process that runs this file, or in its environment."""
    flags = " ".join((*sys.argv, os.environ.get("COMMANDLINE_ARGS", "")))
    try:
        from launch import args  # type: ignore[import-not-found]
    except (ImportError, AttributeError):
        return "--skip-install" not in flags
    return not getattr(args, "skip_install", False) and "--skip-install" not in flags


def main() -> None:
    wanted = missing()
    if not wanted:
        return
    if may_install():
        command = [sys.executable, "-m", "pip", "install", "--no-deps", "--disable-pip-version-check", "--retries", "1", *wanted]
        try:
            if subprocess.run(command, timeout=_PATIENCE, check=False).returncode == 0:
                return
        except subprocess.TimeoutExpired:
            pass
    print(f"Reference Only: {', '.join(wanted)} is missing. Install it into the WebUI's Python with: pip install --no-deps {' '.join(wanted)}")


main()
