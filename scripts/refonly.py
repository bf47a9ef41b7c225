"""Reference Only in txt2img and img2img: the WebUI loads this file; everything else is in lib_refonly."""

from modules import script_callbacks

from lib_refonly.webui.register import register
from lib_refonly.webui.script import RefOnlyScript

register(script_callbacks)

__all__ = ["RefOnlyScript"]
