"""What can be downloaded, and where it goes. Nothing here asks the network before the painter has agreed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lib_refonly.errors import BadSettings
from lib_refonly.models import download as hub
from lib_refonly.models import registry, taggers


@dataclass(frozen=True)
class Offer:
    """`name` is that of its folder inside the painter's models folder, too, unless `folder` names one. `title` is shown in lists."""

    name: str
    title: str
    remote: hub.Remote
    folder: str = ""

    @property
    def installed(self) -> bool:
        """Whether its files are there, by their names alone."""
        place = place_of(self)
        return all(any((place / name).is_file() for name in hub.choices(file)) for file in self.remote.files)


def _ip_adapter(name: str, title: str, size: str, folder: str = "models", encoder: str = "models") -> Offer:
    files = (f"{folder}/{name}.safetensors", f"{encoder}/image_encoder/model.safetensors")
    return Offer(name, f"IP-Adapter {title}", hub.Remote("h94/IP-Adapter", files, f"{title}: {size} from huggingface.co."), IP_ADAPTERS)


IP_ADAPTERS = "ip-adapter"
"""All public IP-Adapters share one folder: most of them read the same image encoder, which is fetched once."""
_VIT_H, _VIT_G = "and its image encoder (2.5 GB, shared by most of them)", "and its image encoder (3.7 GB)"
ADAPTERS = (
    _ip_adapter("ip-adapter_sd15", "for SD 1.5", f"45 MB {_VIT_H}"),
    _ip_adapter("ip-adapter_sd15_light", "light, for SD 1.5", f"45 MB {_VIT_H}"),
    _ip_adapter("ip-adapter-plus_sd15", "plus, for SD 1.5", f"100 MB {_VIT_H}"),
    _ip_adapter("ip-adapter-plus-face_sd15", "plus face, for SD 1.5", f"100 MB {_VIT_H}"),
    _ip_adapter("ip-adapter_sdxl", "for SDXL", f"700 MB {_VIT_G}", "sdxl_models", "sdxl_models"),
    _ip_adapter("ip-adapter-plus_sdxl_vit-h", "plus, for SDXL", f"850 MB {_VIT_H}", "sdxl_models"),
)
SEGMENTER = Offer(registry.SEGMENTER.parent.name, "Character cut-out (ISNet, about 180 MB)", hub.SEGMENTER)
"""Tells a reference's character from the scene behind it."""
TAGGER = Offer(
    "wd-vit-tagger-v3",
    "Captions: WD tagger (about 380 MB)",
    hub.Remote("SmilingWolf/wd-vit-tagger-v3", taggers.FILES, "Names what is in a picture, as tags: about 380 MB from huggingface.co."),
)
"""Writes captions on the Train page."""
OFFERS = (Offer(registry.RELEASED.name, registry.RELEASED.title, hub.RELEASED), SEGMENTER, TAGGER, *ADAPTERS)


def find_offer(name: str) -> Offer:
    """Raises: BadSettings: nothing of that name can be downloaded; the text says what can."""
    for offer in OFFERS:
        if offer.name == name:
            return offer
    raise BadSettings(f"{name!r} cannot be downloaded. There is: {', '.join(offer.name for offer in OFFERS)}.")


def place_of(offer: Offer) -> Path:
    """The folder that it is fetched into."""
    return registry.user_folder() / (offer.folder or offer.name)


def fetch(offer: Offer, on_progress: hub.OnProgress | None = None, *, consent: bool = False, mirror: str | None = None) -> Path:
    """Download it, or go on downloading it. Returns its folder. Raises: as `download.download`."""
    return hub.download(offer.remote.repo_id, place_of(offer), files=offer.remote.files, on_progress=on_progress, consent=consent, mirror=mirror)
