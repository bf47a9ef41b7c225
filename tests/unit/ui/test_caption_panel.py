"""Captions on the Train page, without a browser: consent to what a WebUI would download, and what a failure leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

gr = pytest.importorskip("gradio")

from lib_refonly.errors import BadModel  # noqa: E402
from lib_refonly.training.captions import Captioner  # noqa: E402
from lib_refonly.training.pictures import duplicates  # noqa: E402
from lib_refonly.ui import caption_panel  # noqa: E402
from lib_refonly.ui.caption_panel import BLIP, CaptionEvents, build_caption_part  # noqa: E402
from lib_refonly.ui.training_session import TrainingSession  # noqa: E402


@pytest.fixture
def girl(tmp_path: Path) -> Path:
    for name in "ab":
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    return tmp_path


@pytest.fixture
def begun() -> list[str]:
    """Which captioners began."""
    return []


@pytest.fixture
def events(begun: list[str], monkeypatch: pytest.MonkeyPatch) -> CaptionEvents:
    def fails_at_the_second() -> Any:
        seen: list[Any] = []
        begun.append("fails")

        def describe(picture: Image.Image) -> str:
            seen.append(picture)
            if len(seen) > 1:
                raise BadModel("Its model is gone.")
            return "a girl"

        return describe

    def look(session: TrainingSession, folder: Any, resolution: str) -> Any:
        session.looked(folder, duplicates(list(folder.look())))
        yield {}

    monkeypatch.setattr(caption_panel, "by_taggers", list)
    host = [
        Captioner("host/big", "Big", lambda: begun.append("big"), "BLIP, 0.9 GB"),  # type: ignore[arg-type,return-value]
        Captioner("host/fails", "Fails", fails_at_the_second),
    ]
    with gr.Blocks():
        return CaptionEvents(build_caption_part(), lambda: host, look, lambda *_: [])


def last(updates: Any) -> dict[Any, Any]:
    whole: dict[Any, Any] = {}
    for one in updates:
        whole |= one
    return whole


def write(events: CaptionEvents, session: TrainingSession, folder: Path, who: str, consent: bool = False, again: bool = False) -> dict[Any, Any]:
    return last(events.write(session, "", str(folder), "", who, "", consent, "", again, "512,512"))


def test_nothing_is_downloaded_without_consent(events: CaptionEvents, girl: Path, begun: list[str]) -> None:
    shown = events.choose("host/big")[events.part.consent]
    assert (shown["visible"], shown["value"], "BLIP, 0.9 GB" in shown["label"]) == (True, False, True)
    assert events.choose("host/fails")[events.part.consent]["visible"] is False
    said = write(events, TrainingSession(), girl, "host/big")[events.part.message]
    assert "BLIP, 0.9 GB would be downloaded" in said
    assert begun == []


def test_a_host_s_are_offered_when_the_page_is_opened(events: CaptionEvents) -> None:
    made = events.refresh(BLIP)[events.part.who]
    assert [name for _, name in made["choices"]] == ["host/big", "host/fails", BLIP]
    assert made["value"] == "host/big"
    assert events.refresh("host/fails")[events.part.who]["value"] == "host/fails"


def test_a_failure_keeps_and_shows_what_was_written(events: CaptionEvents, girl: Path) -> None:
    session = TrainingSession()
    made = write(events, session, girl, "host/fails")
    assert "1 caption is written." in made[events.part.message]
    assert "Its model is gone." in made[events.part.message]
    assert [one.caption for one in session.seen] == ["a girl", ""]
    assert made[events.part.write]["interactive"] is True
    assert made[events.part.back]["visible"] is True
    assert "1 caption is as before" in last(events.take_back(session, "512,512"))[events.part.message]
    assert [one.caption for one in session.seen] == ["", ""]
    assert "nothing to take back" in last(events.take_back(session, "512,512"))[events.part.message]


def test_what_is_missing_is_said(events: CaptionEvents, girl: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder, who, why in (("nowhere", "host/fails", "whole path"), (str(tmp_path / "empty"), "host/fails", "no pictures"), (str(girl), "other", "Choose")):
        assert why in last(events.write(TrainingSession(), "", folder, "", who, "", False, "", False, "512,512"))[events.part.message]
    assert "Look at a folder first" in last(events.replace(TrainingSession(), "", "x", "y", "512,512"))[events.part.message]
