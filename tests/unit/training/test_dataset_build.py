"""From a folder of pictures to shards: what is thrown out and why, what a sample holds, and going on after an end in the middle."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from transformers import CLIPVisionConfig, CLIPVisionModel, CLIPVisionModelWithProjection
from webdataset.compat import WebDataset

from lib_refonly.errors import BadModel, BadSettings, CannotWrite
from lib_refonly.imaging import infotext
from lib_refonly.imaging.decode import Limits
from lib_refonly.imaging.lineart import adaptive_lines
from lib_refonly.refonly.image_encoder import ImagePromptSpec
from lib_refonly.training.dataset import build as building
from lib_refonly.training.dataset import stages
from lib_refonly.training.dataset.build import BuildSettings, build
from lib_refonly.training.dataset.clean import Clean
from lib_refonly.training.dataset.cut import Cut
from lib_refonly.training.dataset.decode import Decode, find_pictures
from lib_refonly.training.dataset.duplicates import BITS, LENGTH, LEVELS, duplicates, look
from lib_refonly.training.dataset.embed import SHIPPED, Encoder
from lib_refonly.training.dataset.pairs import PairSettings
from lib_refonly.training.dataset.shards import TarFiles, file_digest, write_tar
from lib_refonly.training.dataset.stages import Item, make_chunk
from lib_refonly.training.dataset.window import Window
from tests.unit.imaging.test_segment import network

ROOT = Path(__file__).resolve().parents[3]
RED_IS_CHARACTER = network((40, 0, -40), -20)
QUICK = BuildSettings(side=96, smallest=32, chunk=4, shard=5, pairs=PairSettings(Window(0.5, 0.9999, 2)))


def character(colour: tuple[int, int, int], lean: int, side: int = 96) -> Image.Image:
    """A face with a hat of that colour on black, leaning."""
    picture = Image.new("RGB", (side, side))
    pen = ImageDraw.Draw(picture)
    pen.ellipse((20 + lean, 30, 70 + lean, 90), fill=(230, 190, 150), outline=(10, 10, 10), width=2)
    pen.polygon(((14 + lean, 42), (76 + lean, 42), (45 + 2 * lean, 6)), fill=colour, outline=(10, 10, 10), width=2)
    pen.ellipse((34 + lean, 52, 40 + lean, 60), fill=(20, 20, 20))
    pen.ellipse((50 + lean, 52, 56 + lean, 60), fill=(20, 20, 20))
    return picture


COLOURS = [(220, 40, 40), (40, 200, 60), (60, 80, 230), (230, 220, 60)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Four characters three times each, in two folders, and one of everything that has to go."""
    folder = tmp_path / "pictures"
    for number, colour in enumerate(COLOURS):
        for lean in (-9, 0, 12):
            place = folder / f"{'a' if number % 2 else 'b'}" / f"{number}{lean:+}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            character(colour, lean).save(place)
    character(COLOURS[0], 0, 96).resize((192, 192)).save(folder / "larger.png")  # a duplicate of 0+0 that stays instead of it
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "cut.png").write_bytes((folder / "larger.png").read_bytes()[:900])
    Image.new("RGB", (64, 64), "white").save(folder / "white.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(folder / "noise.png")
    Image.new("RGB", (20, 64), "red").save(folder / "small.png")
    (folder / "notes.txt").write_text("no picture by its ending")
    return folder


def reasons(summary: Any) -> dict[str, str]:
    return {item.about["file"]: item.reason for item in summary.items if item.reason}


def read(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def samples(out: Path) -> list[dict[str, Any]]:
    """As a trainer reads them."""
    shards = sorted(str(path) for path in (out / "shards").glob("*.tar"))
    return list(WebDataset(shards, shardshuffle=False, empty_check=False))


def contents(out: Path) -> dict[str, str]:
    """Digests of everything that is not private to the build."""
    return {path.relative_to(out).as_posix(): file_digest(path) for path in sorted(out.rglob("*")) if path.is_file()}


def test_what_is_no_good_goes_with_its_reason(source: Path, tmp_path: Path) -> None:
    summary = build(source, tmp_path / "set", QUICK)
    found = reasons(summary)
    assert {name: reason.split(":")[0] for name, reason in found.items()} == {
        "broken.png": "broken", "cut.png": "broken", "white.png": "empty", "noise.png": "dirty", "small.png": "too small", "b/0+0.png": "near-duplicate",
    }  # fmt: skip
    assert summary.others == 1
    assert len(summary.kept) == 12
    report = (tmp_path / "set" / "report.md").read_text("utf-8")
    assert "12 of 18 pictures kept" in report
    assert "`noise.png`" in report
    assert "no segmentation model was used" in report
    with Image.open(tmp_path / "set" / "report.png") as sheet:
        assert min(sheet.size) >= 128


def test_a_sample_is_a_reference_a_target_and_its_lines(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    summary = build(source, out, QUICK)
    assert summary.pairs is not None
    found = samples(out)
    assert len(found) == summary.pairs.pairs == summary.shards[1] > 5
    for sample in found:
        known = json.loads(sample["json"])
        picture, lines = read(sample["target.png"]), read(sample["blueprint.png"])
        np.testing.assert_array_equal(lines, 255 - adaptive_lines(picture))
        with Image.open(source / known["target"]) as opened:
            original = opened.convert("RGB").resize(picture.shape[1::-1])
        assert np.abs(picture.astype(int) - np.asarray(original)).mean() < 1, "the target is the picture that is named"
        assert known["reference"] != known["target"]
        assert 0.5 <= known["cosine"] <= 0.9999
        assert read(sample["reference.png"]).shape[2] == 3
    targets = [json.loads(sample["json"])["target"] for sample in found]
    assert max(targets.count(name) for name in targets) <= 2
    assert targets != sorted(targets), "neighbours in a shard are not of one picture"


def test_the_manifest_names_every_shard(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    build(source, out, QUICK)
    manifest = json.loads((out / "manifest.json").read_text("utf-8"))
    assert [shard["file"] for shard in manifest["shards"]] == sorted(path.relative_to(out).as_posix() for path in (out / "shards").glob("*.tar"))
    for shard in manifest["shards"]:
        assert shard["sha256"] == hashlib.sha256((out / shard["file"]).read_bytes()).hexdigest()
        assert shard["bytes"] == (out / shard["file"]).stat().st_size
    assert [shard["samples"] for shard in manifest["shards"]][:-1] == [5] * (len(manifest["shards"]) - 1)
    assert sum(shard["samples"] for shard in manifest["shards"]) == manifest["samples"] == len(samples(out))
    rows = [json.loads(line) for line in (out / "pictures.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == len(np.load(out / "embeddings.npy")) == 12
    assert [row["row"] for row in rows] == list(range(12))


def test_ended_at_any_step_it_comes_to_the_same(source: Path, tmp_path: Path) -> None:
    """Every progress message in turn is where a run is ended, all on one folder."""
    whole, ended = tmp_path / "whole", tmp_path / "ended"
    steps: list[str] = []
    build(source, whole, QUICK, lambda _, what: steps.append(what))
    assert len(set(steps)) >= 5
    met: set[str] = set()
    for _ in range(len(steps)):
        told: list[str] = []

        def stop(_: float, what: str, told: list[str] = told) -> None:
            told.append(what)
            if what not in met and told.count(what) > 1 - (steps.count(what) == 1):
                met.add(what)
                raise KeyboardInterrupt

        try:
            build(source, ended, QUICK, stop)
            break
        except KeyboardInterrupt:
            assert not (ended / "manifest.json").exists()
    assert met == set(steps)
    assert contents(ended) == contents(whole)


def test_killed_by_the_system_it_goes_on_and_leaves_no_rubbish(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    code = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from lib_refonly.training.dataset.build import BuildSettings, build
build(Path({str(source)!r}), Path({str(out)!r}), BuildSettings(side=96, smallest=32, chunk=4, shard=5), lambda *_: time.sleep(0.3))
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    begun = time.monotonic()
    while not list(out.glob("work/pictures/*.tar.json")) and process.poll() is None and time.monotonic() - begun < 60:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)
    assert process.wait() != 0
    assert not (out / "manifest.json").exists()
    (out / "shards").mkdir(exist_ok=True)
    (out / "shards" / ".0123456789abcdef.part").write_bytes(b"half")
    build(source, out, QUICK)
    build(source, tmp_path / "whole", QUICK)
    assert contents(out) == contents(tmp_path / "whole")


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are opened."""
    opened: list[str] = []
    call = Decode.__call__

    def note(self: Decode, item: Item) -> Item:
        opened.append(item.about["file"])
        return call(self, item)

    monkeypatch.setattr(Decode, "__call__", note)
    return opened


def test_what_is_finished_is_not_done_again(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "set"
    build(source, out, QUICK)
    before, opened = contents(out), counted(monkeypatch)
    monkeypatch.setattr(Encoder, "__call__", lambda *_: pytest.fail("embedded again"))
    build(source, out, QUICK)
    assert opened == []
    assert contents(out) == before


def test_only_what_changed_is_made_anew(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "set"
    build(source, out, QUICK)
    opened = counted(monkeypatch)
    character((0, 230, 230), 5).save(source / "z.png")  # the last by name: a chunk of its own, or the last one's
    build(source, out, QUICK)
    assert 0 < len(opened) <= QUICK.chunk
    opened.clear()
    build(source, out, replace(QUICK, clean=Clean(most=0.3)))
    assert len(opened) == 19
    (source / "z.png").unlink()
    build(source, out, QUICK)
    build(source, tmp_path / "fresh", QUICK)
    assert contents(out) == contents(tmp_path / "fresh"), "shards and chunks of more pictures are gone"


def test_a_damaged_chunk_is_made_again(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    build(source, out, QUICK)
    before = contents(out)
    (out / "shards" / "00000.tar").write_bytes(b"cut off")
    (out / "work" / "pictures" / "000001.tar.json").write_text("{")
    build(source, out, QUICK)
    assert contents(out) == before


def test_a_full_disk_is_said_and_it_goes_on_later(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, calls = tmp_path / "set", []
    write = tarfile.TarFile.addfile

    def full(self: tarfile.TarFile, *arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 7:
            raise OSError(28, "No space left on device")
        write(self, *arguments)

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(CannotWrite, match="No space left"):
        build(source, out, QUICK)
    assert not list(out.rglob("*.part"))
    monkeypatch.undo()
    build(source, out, QUICK)
    build(source, tmp_path / "whole", QUICK)
    assert contents(out) == contents(tmp_path / "whole")


def test_the_folder_of_someone_else_is_left_alone(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(BadSettings, match="something else"):
        build(source, out, QUICK)
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]
    with pytest.raises(BadSettings, match="outside"):
        build(source, source / "set", QUICK)
    with pytest.raises(BadSettings, match="outside"):
        build(source, source, QUICK)


def test_a_source_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="no folder"):
        build(tmp_path / "missing", tmp_path / "set", QUICK)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadSettings, match="has no pictures"):
        build(tmp_path / "empty", tmp_path / "set", QUICK)


@pytest.mark.parametrize("kept", [0, 1])
def test_too_few_pictures_come_to_a_report_without_pairs(tmp_path: Path, kept: int) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (64, 64)).save(folder / "black.png")
    if kept:
        character(COLOURS[0], 0).save(folder / "face.png")
    summary = build(folder, tmp_path / "set", QUICK)
    assert (len(summary.kept), summary.pairs, summary.shards) == (kept, None, (0, 0))
    assert "no pairs" in (tmp_path / "set" / "report.md").read_text("utf-8")
    assert json.loads((tmp_path / "set" / "manifest.json").read_text("utf-8"))["shards"] == []


@pytest.mark.parametrize("values", [{"side": 0}, {"smallest": 4}, {"side": 64, "smallest": 65}, {"chunk": 0}, {"shard": 0}])
def test_wrong_settings_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(BadSettings):
        BuildSettings(**values)


# --- stages -------------------------------------------------------------------------------------------------------------------------------------------


def decoded(folder: Path, name: str, **settings_: Any) -> Item:
    return Decode(folder, **settings_)(Item("0", {"file": name}))


def test_pictures_are_turned_upright_and_brought_down(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (300, 200), "red").save(tmp_path / "turned.jpg", exif=exif)
    item = decoded(tmp_path, "turned.jpg", side=150)
    assert item.picture is not None
    assert item.picture.size == (100, 150)
    assert item.about["size"] == [200, 300]


def test_too_large_pictures_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    Image.new("L", (3000, 10)).save(tmp_path / "wide.png")
    assert "no side may be longer" in decoded(tmp_path, "wide.png", limits=Limits(side=1000)).reason
    assert "million" in decoded(tmp_path, "wide.png", limits=Limits(pixels=1000)).reason
    assert "larger than" in decoded(tmp_path, "wide.png", limits=Limits(bytes=10)).reason


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_out_of_the_folder_and_pipes_are_not_followed(tmp_path: Path) -> None:
    folder, secret = tmp_path / "pictures", tmp_path / "secret"
    folder.mkdir()
    secret.mkdir()
    character(COLOURS[0], 0).save(secret / "face.png")
    (folder / "link.png").symlink_to(secret / "face.png")
    (folder / "round.png").symlink_to(folder / "round.png")
    (folder / "folder").symlink_to(secret)
    os.mkfifo(folder / "pipe.png")
    (folder / ".hidden.png").write_bytes(b"")
    items, _ = find_pictures(folder)
    assert [item.about["file"] for item in items] == ["link.png", "pipe.png", "round.png"]
    assert all(Decode(folder)(item).reason.startswith("broken") for item in items)


@given(st.binary(max_size=200), st.integers(0, 2000), st.integers(0, 255))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hostile_bytes_are_broken_and_nothing_worse(tmp_path: Path, data: bytes, place: int, value: int) -> None:
    good = bytearray(infotext.png_bytes(character(COLOURS[1], 3)))
    good[place % len(good)] = value
    for name, content in (("raw.png", data), ("mutated.png", bytes(good))):
        (tmp_path / name).write_bytes(content)
        item = decoded(tmp_path, name, smallest=1)
        assert item.picture is not None or item.reason.startswith(("broken", "too small"))


def shown(picture: Image.Image) -> Item:
    return Item("0", {"file": "x.png", "size": list(picture.size)}, picture=picture)


def test_transparency_is_taken_for_the_cut(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (60, 60), (0, 255, 0, 0))
    picture.paste((200, 30, 30, 255), (20, 20, 40, 40))
    item = Cut()(shown(picture))
    assert item.picture is not None
    assert item.about["cut"] == "alpha"
    pixels = np.asarray(item.picture)
    assert pixels[30, 30].tolist() == [200, 30, 30]
    assert pixels[5, 5].tolist() == [0, 0, 0]


def test_a_picture_that_is_transparent_almost_everywhere_is_empty() -> None:
    picture = Image.new("RGBA", (60, 60), (0, 255, 0, 0))
    picture.paste((200, 30, 30, 255), (20, 20, 24, 24))
    assert Cut()(shown(picture)).reason.startswith("empty")


def test_the_model_cuts_a_character_out_of_a_scene(tmp_path: Path) -> None:
    model = tmp_path / "isnetis.onnx"
    model.write_bytes(RED_IS_CHARACTER)
    picture = Image.new("RGB", (80, 80), (20, 40, 200))
    picture.paste((230, 30, 20), (20, 20, 60, 60))
    cut = Cut(model)
    item = cut(shown(picture))
    assert item.picture is not None
    assert item.about["cut"] == "model"
    assert np.asarray(item.picture)[5, 5].max() == 0
    assert np.asarray(item.picture)[40, 40].tolist() == [230, 30, 20]
    assert cut(shown(Image.new("RGB", (80, 80), (20, 40, 200)))).reason.startswith("empty")
    assert Cut()(shown(picture)).picture == picture
    assert cut.settings != Cut().settings


def test_a_missing_or_damaged_model_is_said(source: Path, tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="cannot be read"):
        build(source, tmp_path / "set", replace(QUICK, segmenter=tmp_path / "missing.onnx"))
    (tmp_path / "bad.onnx").write_bytes(b"bad")
    with pytest.raises(BadModel, match="segmentation model"):
        build(source, tmp_path / "set", replace(QUICK, segmenter=tmp_path / "bad.onnx"))


def test_empty_is_what_has_no_line() -> None:
    clean = Clean()
    assert clean(shown(Image.new("RGB", (80, 80), (90, 120, 40)))).reason == "empty: there is no line in it"
    dot = Image.new("RGB", (200, 200), "white")
    dot.putpixel((50, 50), (0, 0, 0))
    assert clean(shown(dot)).reason == "empty: there are hardly any lines in it"
    item = clean(shown(character(COLOURS[2], 0)))
    assert not item.reason
    assert set(item.files) == {"png", "blueprint.png"}
    assert 0 < item.about["lines"] < 0.25
    with pytest.raises(BadSettings):
        Clean(0.5, 0.4)


def test_a_dress_of_another_colour_makes_no_duplicate() -> None:
    looks = [look(character(colour, 0)) for colour in COLOURS]
    assert duplicates(looks, [1] * 4) == [-1] * 4
    small = [look(character(COLOURS[0], 0).resize((side, side), Image.Resampling.LANCZOS)) for side in (96, 80, 150)]
    assert duplicates(small, [96, 80, 150]) == [2, 2, -1]


looks_strategy = st.lists(st.tuples(st.integers(0, 3), st.sets(st.integers(0, 63), max_size=5), st.integers(0, 30), st.integers(1, 5)), min_size=1, max_size=25)


@given(looks_strategy)
@settings(max_examples=80)
def test_duplicates_are_those_of_comparing_everything(raw: list[tuple[int, set[int], int, int]]) -> None:
    looks = []
    for base, turned, brighter, _ in raw:
        bits = np.random.default_rng(base).integers(0, 2, 64, np.uint8)
        bits[list(turned)] ^= 1
        looks.append(np.packbits(bits).tobytes() + bytes([100 + brighter] * (LENGTH - 8)))
    pixels = [size for *_, size in raw]
    instead = duplicates(looks, pixels)

    def alike(one: int, other: int) -> bool:
        bits = bin(int.from_bytes(looks[one][:8], "big") ^ int.from_bytes(looks[other][:8], "big")).count("1")
        return bits <= BITS and abs(looks[one][8] - looks[other][8]) <= LEVELS

    stays = [place for place, twin in enumerate(instead) if twin < 0]
    assert stays
    for place, twin in enumerate(instead):
        if twin >= 0:
            assert alike(place, twin)
            assert instead[twin] < 0
            assert pixels[twin] >= pixels[place]
    assert not any(alike(one, other) for one in stays for other in stays if one < other)


def test_many_identical_pictures_cost_little() -> None:
    begun = time.process_time()
    assert sum(twin < 0 for twin in duplicates([look(character(COLOURS[0], 0))] * 10_000, [1] * 10_000)) == 1
    assert time.process_time() - begun < 10


def test_a_chunk_is_whole_or_absent(tmp_path: Path) -> None:
    class Fails:
        settings = {"stage": "fails"}

        def __call__(self, item: Item) -> Item:
            if item.key == "2":
                raise BadModel("gone")
            return replace(item, files={"txt": item.key.encode()})

    items = [Item(str(number), {"file": str(number)}) for number in range(3)]
    with pytest.raises(BadModel):
        make_chunk(tmp_path / "0.tar", items, [Fails()])
    assert list(tmp_path.iterdir()) == []
    made = make_chunk(tmp_path / "0.tar", items[:2], [Fails()])
    assert stages.read_mark(tmp_path / "0.tar") is not None
    with TarFiles() as files:
        assert files.read(made.path, made.places["1.txt"]) == b"1"


@given(st.lists(st.dictionaries(st.sampled_from(["png", "blueprint.png", "json"]), st.binary(max_size=1500), min_size=1), max_size=8))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_shards_are_plain_tar_files_with_known_places(tmp_path: Path, files: list[dict[str, bytes]]) -> None:
    path = tmp_path / "shard.tar"
    places = write_tar(path, ((f"{number:03}", one) for number, one in enumerate(files)))
    wanted = {f"{number:03}.{ending}": data for number, one in enumerate(files) for ending, data in one.items()}
    with tarfile.open(path) as tar:
        members = {member.name: tar.extractfile(member) for member in tar}
        assert {name: file.read() for name, file in members.items() if file} == wanted
    with TarFiles() as reader:
        assert {name: reader.read(path, place) for name, place in places.items()} == wanted


# --- embeddings ---------------------------------------------------------------------------------------------------------------------------------------


def vision_model(folder: Path, projected: bool, size: int = 32) -> Path:
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, projection_dim=12, num_hidden_layers=2, num_attention_heads=2, image_size=size, patch_size=8
    )
    (CLIPVisionModelWithProjection if projected else CLIPVisionModel)(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(ImagePromptSpec(size).config), encoding="utf-8")
    return folder


def test_a_clip_model_embeds_as_transformers_has_it(tmp_path: Path) -> None:
    folder = vision_model(tmp_path / "clip", projected=True)
    encoder, picture = Encoder.read(folder), character(COLOURS[0], 0)
    assert (encoder.width, encoder.centred) == (12, False)
    from transformers import CLIPImageProcessor

    pixels = CLIPImageProcessor.from_pretrained(folder)(picture, return_tensors="pt")
    with torch.inference_mode():
        wanted = CLIPVisionModelWithProjection.from_pretrained(folder)(**pixels).image_embeds.numpy()
    np.testing.assert_allclose(encoder([picture]), wanted, atol=1e-2)


def test_a_model_without_a_projection_is_compared_relative_to_the_mean(source: Path, tmp_path: Path) -> None:
    encoder = Encoder.read(vision_model(tmp_path / "clip", projected=False))
    assert (encoder.width, encoder.centred) == (16, True)
    build(source, tmp_path / "set", replace(QUICK, encoder=tmp_path / "clip"))
    rows = np.load(tmp_path / "set" / "embeddings.npy")
    assert rows.shape == (12, 16)
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-5)
    assert "relative to their mean" in (tmp_path / "set" / "report.md").read_text("utf-8")


def test_the_shipped_encoder_tells_characters_apart() -> None:
    encoder = Encoder.read(SHIPPED)
    rows = encoder([character(colour, lean) for colour in COLOURS for lean in (-9, 0, 12)])
    rows = rows - rows.mean(axis=0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    np.fill_diagonal(cosines := rows @ rows.T, -1)
    assert (cosines.argmax(axis=1) // 3 == np.arange(12) // 3).mean() > 0.9


def spoil(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        change(config)
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")

    return apply


@pytest.mark.parametrize(
    "spoiled",
    [
        lambda folder: (folder / "config.json").unlink(),
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / "preprocessor_config.json").unlink(),
        lambda folder: (folder / "model.safetensors").write_bytes(b"bad"),
        lambda folder: (folder / "preprocessor_config.json").write_text(json.dumps(ImagePromptSpec(64).config)),
        spoil(lambda config: config.update(hidden_size=24)),
        spoil(lambda config: config.update(num_hidden_layers=10**6)),
        spoil(lambda config: config.update(hidden_size="wide")),
        spoil(lambda config: config.update(patch_size=0)),
    ],
)
@pytest.mark.parametrize("projected", [True, False])
def test_a_wrong_model_is_refused(tmp_path: Path, spoiled: Callable[[Path], None], projected: bool) -> None:
    folder = vision_model(tmp_path / "clip", projected)
    spoiled(folder)
    with pytest.raises(BadModel):
        Encoder.read(folder)


def test_another_model_embeds_anew(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    build(source, out, QUICK)
    building.build(source, out, replace(QUICK, encoder=vision_model(tmp_path / "clip", projected=True)))
    assert np.load(out / "embeddings.npy").shape == (12, 12)
