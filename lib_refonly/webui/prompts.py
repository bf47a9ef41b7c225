"""What the WebUI keeps of the last prompts: their conditionings, so that the same words are not read again."""

from __future__ import annotations


def forget_prompts() -> None:
    """The next picture reads its prompts anew, whatever they are."""
    from modules.processing import StableDiffusionProcessing, StableDiffusionProcessingTxt2Img

    for owner in (StableDiffusionProcessing, StableDiffusionProcessingTxt2Img):
        for name, kept in list(vars(owner).items()):
            if name.startswith("cached_") and isinstance(kept, list):
                setattr(owner, name, [None] * len(kept))
