"""What can be downloaded, and where it goes. Nothing here asks the network before the painter has agreed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lib_refonly.errors import BadSettings
from lib_refonly.models import download as hub
from lib_refonly.models import registry


@dataclass(frozen=True)
class Offer:
    """`name` is that of its folder inside the painter's models folder, too. `title` is shown in lists."""

    name: str
    title: str
    remote: hub.Remote


SEGMENTER = Offer(registry.SEGMENTER.parent.name, "Character cut-out (ISNet, about 180 MB)", hub.SEGMENTER)
"""Tells a reference's character from the scene behind it."""
OFFERS = (Offer(registry.RELEASED.name, registry.RELEASED.title, hub.RELEASED), SEGMENTER)


def find_offer(name: str) -> Offer:
    """Raises: BadSettings: nothing of that name can be downloaded; the text says what can."""
    for offer in OFFERS:
        if offer.name == name:
            return offer
    raise BadSettings(f"{name!r} cannot be downloaded. There is: {', '.join(offer.name for offer in OFFERS)}.")


def place_of(offer: Offer) -> Path:
    """The folder that it is fetched into."""
    return registry.user_folder() / offer.name


def fetch(offer: Offer, on_progress: hub.OnProgress | None = None, *, consent: bool = False) -> Path:
    """Download it, or go on downloading it. Returns its folder. Raises: as `download.download`."""
    return hub.download(offer.remote.repo_id, place_of(offer), files=offer.remote.files, on_progress=on_progress, consent=consent)
