from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from lib_refonly.errors import BadModel, CannotWrite, Interrupted, Offline
from lib_refonly.models import download as module
from lib_refonly.models.download import MANIFEST, RELEASED, SEGMENTER, Progress, damaged, download
from tests.unit.models.hub import COMMIT, Hub

REPO = "someone/some-model_0.1.2"
LARGE = bytes(range(256)) * 2000
FILES = {"config.json": b'{"x": 1}', "unet/model.bin": LARGE}
WANTED = ("config.json", ("unet/model.safetensors", "unet/model.bin"))


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 50_000)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("time.sleep", lambda _: None)  # the hub client's pause between tries


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub({REPO: dict(FILES)}).running() as running:
        yield running


def fetch(hub: Hub, to: Path, **more: object) -> Path:
    return download(REPO, to, files=WANTED, consent=True, mirror=hub.url, **more)  # type: ignore[arg-type]


def stop_after(bytes_done: int) -> object:
    def on_progress(progress: Progress) -> None:
        if progress.done > bytes_done:
            raise Interrupted("stopped")

    return on_progress


def leftovers(to: Path) -> list[str]:
    return [path.name for path in to.rglob("*.part")]


def test_fetched_checked_and_noted(hub: Hub, tmp_path: Path) -> None:
    seen: list[Progress] = []
    to = fetch(hub, tmp_path / "a model", on_progress=seen.append)
    assert {name: (to / name).read_bytes() for name in FILES} == FILES
    manifest = json.loads((to / MANIFEST).read_text("utf-8"))
    assert (manifest["repo"], manifest["revision"]) == (REPO, COMMIT)
    assert manifest["files"]["unet/model.bin"]["size"] == len(LARGE)
    assert damaged(to) == []
    assert leftovers(to) == []
    assert {p.total for p in seen} == {len(LARGE) + 8}
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert seen[-1] == Progress("unet/model.bin", len(LARGE) + 8, len(LARGE) + 8)
    assert len(seen) > 5


def test_no_token_is_sent(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetch(hub, tmp_path)
    assert hub.headers
    assert not any("authorization" in {name.lower() for name in headers} for headers in hub.headers)


def test_what_is_there_needs_no_network(hub: Hub, tmp_path: Path) -> None:
    fetch(hub, tmp_path)
    hub.requests.clear()
    assert download(REPO, tmp_path, files=WANTED, offline=True) == tmp_path
    assert hub.requests == []


def test_without_consent_nothing_is_asked(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(Offline, match="agree to the download"):
        download(REPO, tmp_path / "m", files=WANTED, mirror=hub.url)
    with pytest.raises(Offline, match="stay offline"):
        download(REPO, tmp_path / "m", files=WANTED, mirror=hub.url, consent=True, offline=True)
    assert hub.requests == []
    assert not (tmp_path / "m").exists()


def test_hub_offline_mode_is_kept(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(Offline, match="stay offline"):
        fetch(hub, tmp_path)
    assert hub.requests == []


def test_stopped_and_taken_up_again(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        fetch(hub, tmp_path, on_progress=stop_after(200_000))
    (part,) = (tmp_path / "unet").glob(".*.part")
    there = part.stat().st_size
    assert 0 < there < len(LARGE)
    assert not (tmp_path / "unet" / "model.bin").exists()
    hub.requests.clear()
    fetch(hub, tmp_path)
    assert (tmp_path / "unet" / "model.bin").read_bytes() == LARGE
    assert hub.gets() == [f"GET /blob/{REPO}/unet/model.bin bytes={there}-"]  # and config.json is not fetched again
    assert leftovers(tmp_path) == []


def test_a_server_that_cannot_go_on_starts_over(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        fetch(hub, tmp_path, on_progress=stop_after(200_000))
    hub.ranges = False
    fetch(hub, tmp_path)
    assert (tmp_path / "unet" / "model.bin").read_bytes() == LARGE


def test_a_cut_connection_goes_on_by_itself(hub: Hub, tmp_path: Path) -> None:
    hub.files[REPO] = {"config.json": LARGE, "unet/model.bin": LARGE}
    hub.cut = [120_000, 60_000]
    fetch(hub, tmp_path)
    assert (tmp_path / "config.json").read_bytes() == LARGE
    assert any("bytes=" in request for request in hub.gets())


def test_a_connection_that_stays_cut_keeps_what_came(hub: Hub, tmp_path: Path) -> None:
    hub.cut = [1000, 120_000, *[0] * 20]
    with pytest.raises(Offline, match="try again to go on"):
        fetch(hub, tmp_path)
    (part,) = (tmp_path / "unet").glob(".*.part")
    assert part.stat().st_size == 100_000
    hub.cut = []
    assert (fetch(hub, tmp_path) / "unet" / "model.bin").read_bytes() == LARGE


def test_another_version_is_not_glued_to_the_old_part(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        fetch(hub, tmp_path, on_progress=stop_after(200_000))
    hub.files[REPO]["unet/model.bin"] = LARGE[::-1]
    fetch(hub, tmp_path)
    assert (tmp_path / "unet" / "model.bin").read_bytes() == LARGE[::-1]


@pytest.mark.parametrize("etag", ["0" * 64, "0" * 40])
def test_a_wrong_hash_is_refused_and_removed(hub: Hub, tmp_path: Path, etag: str) -> None:
    hub.etag = etag
    with pytest.raises(BadModel, match="not the announced one"):
        fetch(hub, tmp_path)
    assert not (tmp_path / "config.json").exists()
    assert leftovers(tmp_path) == []


def test_changed_files_are_found_and_mended(hub: Hub, tmp_path: Path) -> None:
    fetch(hub, tmp_path)
    (tmp_path / "unet" / "model.bin").write_bytes(LARGE[:-1] + b"!")
    assert damaged(tmp_path) == ["unet/model.bin"]
    hub.requests.clear()
    fetch(hub, tmp_path)
    assert damaged(tmp_path) == []
    assert len(hub.gets()) == 1


def test_missing_files(hub: Hub, tmp_path: Path) -> None:
    del hub.files[REPO]["unet/model.bin"]
    with pytest.raises(BadModel, match="does not have all the files"):
        fetch(hub, tmp_path)


@pytest.mark.parametrize(("status", "said"), [(401, "not open to everybody"), (403, "not open to everybody"), (500, "has a problem"), (503, "has a problem")])
def test_refusals(hub: Hub, tmp_path: Path, status: int, said: str) -> None:
    hub.status = status
    with pytest.raises(Offline, match=said):
        fetch(hub, tmp_path)


def test_unknown_repository(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(Offline, match=r"is not there.*404"):
        download("someone/else", tmp_path, files=WANTED, consent=True, mirror=hub.url)


def test_no_server(tmp_path: Path) -> None:
    with Hub().running() as hub:
        url = hub.url
    with pytest.raises(Offline, match="connection failed"):
        download(REPO, tmp_path, files=WANTED, consent=True, mirror=url)


def test_no_room(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(CannotWrite, match="Make room"):
        fetch(hub, tmp_path)
    assert hub.gets() == []


def test_two_at_once(hub: Hub, tmp_path: Path) -> None:
    def second(_: Progress) -> None:
        fetch(hub, tmp_path)

    with pytest.raises(CannotWrite, match="Another download"):
        fetch(hub, tmp_path, on_progress=second)


@pytest.mark.parametrize("mirror", ["http://example.org", "ftp://127.0.0.1", "file:///etc", "https://", "https://me:pw@host", "127.0.0.1:80"])
def test_mirrors_that_are_none(tmp_path: Path, mirror: str) -> None:
    with pytest.raises(Offline, match="no address of a mirror"):
        download(REPO, tmp_path, files=WANTED, consent=True, mirror=mirror)


@pytest.mark.parametrize("repo", ["model", "../x", "a/b/c", "a/..", "http://x/y", "a/b?c", ""])
def test_repositories_that_are_none(tmp_path: Path, repo: str) -> None:
    with pytest.raises(BadModel, match="owner/name"):
        download(repo, tmp_path, files=WANTED, consent=True)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "a//b", "", "C:\\x", "a\\..\\x", ".hidden", "a/./b", "%2e%2e/x"])
def test_file_names_that_leave_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadModel, match="no file name"):
        download(REPO, tmp_path, files=(name,), consent=True)


def test_what_is_known_to_download() -> None:
    assert RELEASED.repo_id == "AisingioroHao0/stable-diffusion-reference-only-automatic-coloring-0.1.2"
    assert (SEGMENTER.repo_id, SEGMENTER.files) == ("skytnt/anime-seg", ("isnetis.onnx",))


def test_the_released_layout_is_fetched_and_loads(tmp_path: Path) -> None:
    from lib_refonly.refonly.loader import load_refonly, save_refonly
    from tests.tiny_models import tiny_model

    source = save_refonly(tiny_model(), tmp_path / "source")
    (source / "refonly.json").unlink()
    content = {path.relative_to(source).as_posix(): path.read_bytes() for path in source.rglob("*") if path.is_file()}
    with Hub({RELEASED.repo_id: content}).running() as hub:
        to = download(RELEASED.repo_id, tmp_path / "to", files=RELEASED.files, consent=True, mirror=hub.url)
    assert load_refonly(to).card.native_size == 128
    shutil.rmtree(source)
