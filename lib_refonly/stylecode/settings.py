"""How a style acts: one typed object for page, API, infotext, X/Y/Z and schema."""

from __future__ import annotations

from dataclasses import dataclass

from lib_refonly.conditioning.window import Window
from lib_refonly.settings import check, setting

BOTH, PROMPT = "prompt and negative", "prompt only"
PASSES = ("both", "low", "high")


@dataclass(frozen=True)
class StyleSettings:
    """A panel's style. `code`: codes or names from the library, with weights: "CODE", "CODE:2 CODE:1"."""

    enabled: bool = setting(False, "Stylecode", "Paints in the style of a code.")
    code: str = setting("", "Style code", "One code, or several with weights: CODE:2 CODE:1. Names from your library will do.", infotext="RefOnly style")
    strength: float = setting(0.9, "Style strength", "0 is the checkpoint alone.", minimum=0.0, maximum=1.5, step=0.05, infotext="RefOnly style strength")
    start: float = setting(0.0, "Style start", "From which part of the run it acts.", minimum=0.0, maximum=1.0, step=0.01, infotext="RefOnly style start")
    end: float = setting(1.0, "Style end", "Until which part of the run it acts.", minimum=0.0, maximum=1.0, step=0.01, infotext="RefOnly style end")
    reach: str = setting(
        BOTH,
        "Style reaches",
        "Both, as in the released code; or the prompt alone. CFG then multiplies the style too: take a low one (1.5 with the built-in model).",
        choices=(BOTH, PROMPT),
        infotext="RefOnly style reach",
    )
    passes: str = setting("both", "Style in hires fix", "In which pass it acts.", choices=PASSES, infotext="RefOnly style passes")

    def __post_init__(self) -> None:
        check(self)
        Window(self.start, self.end)

    @property
    def window(self) -> Window:
        return Window(self.start, self.end)

    def acts_in(self, hires_pass: bool) -> bool:
        return self.passes == "both" or (self.passes == "high") == hires_pass
