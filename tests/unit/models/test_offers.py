"""What can be downloaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from lib_refonly.errors import BadSettings, Offline
from lib_refonly.models import download, registry
from lib_refonly.models.offers import ADAPTERS, OFFERS, SEGMENTER, fetch, find_offer, place_of
from lib_refonly.models.registry import ModelStore


def test_each_has_a_place_of_its_own() -> None:
    """But the IP-Adapters, which share their image encoder."""
    alone = [offer for offer in OFFERS if offer not in ADAPTERS]
    assert len({place_of(offer) for offer in OFFERS}) == len(alone) + 1
    assert {place_of(offer).parent for offer in OFFERS} == {registry.user_folder()}
    assert not any(offer.installed for offer in OFFERS)
    for offer in OFFERS:
        assert registry.check_name(offer.name)
        assert find_offer(offer.name) is offer


@pytest.mark.parametrize("name", ["another", "", "../segmentation"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(BadSettings, match="cannot be downloaded"):
        find_offer(name)


def test_nothing_is_fetched_without_consent() -> None:
    with pytest.raises(Offline):
        fetch(SEGMENTER)


def test_the_segmentation_model_is_found_where_it_is_put(monkeypatch: pytest.MonkeyPatch) -> None:
    def put(repo_id: str, to: Path, *, files: Any, consent: bool, on_progress: Any, mirror: str | None) -> Path:
        assert (repo_id, consent) == ("skytnt/anime-seg", True)
        to.mkdir(parents=True)
        for name in files:
            (to / name).write_bytes(b"x")
        on_progress(download.Progress("isnetis.onnx", 1, 1))
        return to

    monkeypatch.setattr(download, "download", put)
    store, told = ModelStore(), []
    assert store.segmenter() is None
    folder = fetch(SEGMENTER, told.append, consent=True)
    assert store.segmenter() == folder / "isnetis.onnx"
    assert len(told) == 1
    assert SEGMENTER.name not in [entry.name for entry in store.entries()], "it is no model that paints"


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_a_link_that_leads_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "isnetis.onnx").write_bytes(b"x")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "segmentation").symlink_to(tmp_path / "outside")
    assert ModelStore([tmp_path / "models"]).segmenter() is None
