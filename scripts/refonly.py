"""Reference Only in txt2img and img2img. The WebUI loads this file and looks for the script's class in it; everything else is in lib_refonly."""

from lib_refonly.webui.register import register
from lib_refonly.webui.script import RefOnlyScript

register()

__all__ = ["RefOnlyScript"]
