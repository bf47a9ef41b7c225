"""A painter's own pictures on their way to a trainer: the bridge from a set, styles from subfolders, and the chain of stages that goes on where it ended."""

from __future__ import annotations

import json
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lib_refonly.errors import BadModel, BadSettings
from lib_refonly.models.registry import EMBEDDED
from lib_refonly.training import cli
from lib_refonly.training.adapter import AdapterConfig, AdapterTask
from lib_refonly.training.dataset.build import BuildSettings, build
from lib_refonly.training.dataset.pairs import PairSettings
from lib_refonly.training.dataset.samples import MANIFEST
from lib_refonly.training.dataset.window import Window
from lib_refonly.training.drawings.dataset import DrawingSet
from lib_refonly.training.jobs import events
from lib_refonly.training.jobs.asks import ask
from lib_refonly.training.jobs.progress import Progress
from lib_refonly.training.kohya import toml_text
from lib_refonly.training.latents import LatentSet, encode_all
from lib_refonly.training.own import pairs, prepare, recipe, records, styles
from lib_refonly.training.own.pairs import HELDOUT, from_set
from lib_refonly.training.own.recipe import ADAPTER, OwnModel, OwnRefOnly, OwnStyle
from lib_refonly.training.own.styles import from_folders
from lib_refonly.training.refonly import PairTask
from lib_refonly.training.styles.build import StyledSet
from tests.unit.training.test_dataset_build import COLOURS, character

SIZE = 64
WINDOW = Window(0.3, 0.9999, 3)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four characters four times each, some with captions; one picture is broken."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, colour in enumerate(COLOURS):
        for lean in (-9, -3, 4, 12):
            path = folder / f"{number % 2}" / f"{number}{lean:+}.png"
            path.parent.mkdir(exist_ok=True)
            tall = Image.new("RGB", (96, 120))
            tall.paste(character(colour, lean), (0, 12))
            tall.save(path)
            if lean > 0:
                path.with_suffix(".txt").write_text(f"hat {number}, leaning {lean}")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def built(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("set")
    build(pictures, out, BuildSettings(side=120, smallest=32, chunk=4, shard=7, pairs=PairSettings(WINDOW)))
    return out


class Stop(Exception):
    """As a kill would end it, in the middle."""


def stopping(at: int) -> Callable[[float, str], None]:
    calls = iter(range(at))

    def tell(share: float, what: str) -> None:
        if next(calls, None) is None:
            raise Stop

    return tell


def arrays(folder: Path) -> list[np.ndarray]:
    return [np.array(getattr(DrawingSet(place), name)) for place in (folder, folder / HELDOUT) for name in ("pictures", "alpha", "blueprints")]


def test_a_set_becomes_what_the_trainers_read(built: Path, pictures: Path, tmp_path: Path) -> None:
    told = from_set(built, tmp_path / "mine", SIZE, pictures)
    train, held = DrawingSet(tmp_path / "mine"), DrawingSet(tmp_path / "mine" / HELDOUT)
    assert (len(train), len(held)) == (told.records, told.heldout)
    assert len(train) >= pairs.LEAST
    assert len(held) == 1
    both = [frozenset(meta["files"]) for meta in train.meta]
    assert len(set(both)) == len(both), "a pair stands in it once, whichever is whose reference"
    away = held.meta[0]["files"][0]
    assert not any(away in one for one in both), "what is held out is not trained on"
    for drawings in (train, held):
        for i, meta in enumerate(drawings.meta):
            for view, name in enumerate(meta["files"]):
                with Image.open(pictures / name) as one:
                    own = records.padded(np.asarray(one.convert("RGB")), SIZE)
                assert np.array_equal(drawings.pictures[i, view], own), (name, view)
            caption = pictures / Path(meta["files"][0]).with_suffix(".txt")
            assert meta["caption"] == (caption.read_text() if caption.exists() else "")
        assert drawings.pictures[:, :, :, 0].max() == 0, "a tall picture stands in the middle of a black square"
        assert drawings.alpha[:, :, 0, 0].max() == 0
        middle = drawings.alpha[:, :, SIZE // 2, SIZE // 2]
        assert middle.min() == 255
        lines = drawings.blueprints.astype(int)
        assert lines.max() > 128
        assert (lines > 64).mean() < 0.3
    texts = {n: t for d in (train, held) for m in d.meta for n, t in zip(m["files"], (m["caption"], m["captionB"]), strict=True)}
    assert told.captions == sum(map(bool, texts.values()))
    assert told.captions > 0


def test_the_bridge_goes_on_where_it_was_killed(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_CHECKPOINT", 3)
    from_set(built, tmp_path / "whole", SIZE)
    with pytest.raises(Stop):
        from_set(built, tmp_path / "cut", SIZE, tell=stopping(8))
    assert 0 < len(DrawingSet(tmp_path / "cut")) < len(DrawingSet(tmp_path / "whole"))
    with (tmp_path / "cut" / "meta.jsonl").open("a") as file:
        file.write('{"half a li')  # what a kill leaves
    from_set(built, tmp_path / "cut", SIZE)
    for one, other in zip(arrays(tmp_path / "cut"), arrays(tmp_path / "whole"), strict=True):
        assert np.array_equal(one, other)
    assert DrawingSet(tmp_path / "cut").meta == DrawingSet(tmp_path / "whole").meta


def test_a_folder_with_something_else_is_left_alone(built: Path, tmp_path: Path) -> None:
    from_set(built, tmp_path / "mine", SIZE)
    with pytest.raises(BadSettings, match="another data set"):
        from_set(built, tmp_path / "mine", 2 * SIZE)
    assert DrawingSet(tmp_path / "mine").size == SIZE
    from_set(built, tmp_path / "mine", 2 * SIZE, anew=True)
    assert DrawingSet(tmp_path / "mine").pictures.shape[2] == 2 * SIZE


def test_what_is_wrong_with_a_set_is_said(built: Path, pictures: Path, tmp_path: Path) -> None:
    def wrong(source: Path, size: int = SIZE) -> str:
        with pytest.raises(BadSettings) as caught:
            from_set(source, tmp_path / "out", size)
        return str(caught.value)

    assert "is no data set" in wrong(pictures)
    assert "multiple of 64" in wrong(built, 100)
    assert "enlarged more than twice" in wrong(built, 320)
    unfinished = shutil.copytree(built, tmp_path / "unfinished", ignore=shutil.ignore_patterns(MANIFEST))
    assert "is not finished" in wrong(unfinished)
    damaged = shutil.copytree(built, tmp_path / "damaged")
    shard = damaged / "shards" / "00000.tar"
    shard.write_bytes(shard.read_bytes()[:-2000])
    assert "damaged" in wrong(damaged)
    swapped = shutil.copytree(built, tmp_path / "swapped")
    shard = swapped / "shards" / "00000.tar"
    shard.write_bytes(b"x" * shard.stat().st_size)
    assert "damaged" in wrong(swapped)
    few = tmp_path / "few"
    build(pictures, few, BuildSettings(side=120, smallest=32, pairs=PairSettings(Window(0.9998, 0.9999, 1))))
    assert f"at least {pairs.LEAST} are needed" in wrong(few)
    assert not (tmp_path / "out").exists()


def test_with_few_pairs_nothing_is_held_out(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built: Path) -> None:
    monkeypatch.setattr(pairs, "LEAST", from_set(built, tmp_path / "a", SIZE).records + 1)
    told = from_set(built, tmp_path / "b", SIZE)
    assert told.heldout == 0
    assert told.notes
    assert not (tmp_path / "b" / HELDOUT).exists()


# --- styles -------------------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def styled(tmp_path: Path) -> Path:
    """Nine styles with two to four pictures of their own colour; one subfolder has a single picture, one a broken one."""
    folder = tmp_path / "styles"
    for number in range(9):
        place = folder / f"style {number}"
        place.mkdir(parents=True)
        for view in range(2 + number % 3):
            Image.new("RGB", (90, 70), (20 + 20 * number, 200, 10 * view)).save(place / f"{view}.png")
        (place / "0.txt").write_text(f"picture of {number}")
    (folder / "style 4" / "z.png").write_bytes(b"no picture")
    (folder / "one").mkdir()
    Image.new("RGB", (80, 80)).save(folder / "one" / "a.png")
    return folder


def test_subfolders_become_styles(styled: Path, tmp_path: Path) -> None:
    told = from_folders(styled, tmp_path / "mine", SIZE)
    train, held = StyledSet(tmp_path / "mine"), StyledSet(tmp_path / "mine" / HELDOUT)
    assert (len(train), len(held), told.records, told.heldout, told.captions) == (8, 1, 8, 1, 9)
    assert any("could not be opened" in note and "style 4/z.png" in note for note in told.notes)
    assert any(note.startswith("one:") for note in told.notes)
    for drawings in (train, held):
        for i, meta in enumerate(drawings.meta):
            number = int(meta["style"][-1])
            assert len(meta["captions"]) == 2 + number % 3
            assert meta["captions"][0] == f"picture of {number}"
            for view in range(len(meta["captions"])):
                assert tuple(drawings.pictures[i, view, 5, 5]) == (20 + 20 * number, 200, 10 * view)


def test_styles_go_on_where_they_were_killed(styled: Path, tmp_path: Path) -> None:
    from_folders(styled, tmp_path / "whole", SIZE)
    with pytest.raises(Stop):
        from_folders(styled, tmp_path / "cut", SIZE, tell=stopping(4))
    from_folders(styled, tmp_path / "cut", SIZE)
    for part in ("", HELDOUT):
        one, other = StyledSet(tmp_path / "cut" / part), StyledSet(tmp_path / "whole" / part)
        assert one.meta == other.meta
        assert np.array_equal(one.pictures, other.pictures)
    Image.new("RGB", (90, 70), "red").save(styled / "style 1" / "new.png")
    with pytest.raises(BadSettings, match="another data set"):
        from_folders(styled, tmp_path / "cut", SIZE)
    assert from_folders(styled, tmp_path / "cut", SIZE, anew=True).records == 8


def test_too_few_styles_are_refused(tmp_path: Path, styled: Path) -> None:
    with pytest.raises(BadSettings, match=f"at least {styles.LEAST_STYLES} are needed"):
        from_folders(styled / "style 1", tmp_path / "mine", SIZE)


def test_a_style_is_read_from_its_own_pictures_alone(styled: Path, tmp_path: Path) -> None:
    """Styles have different numbers of pictures; what fills the array's room is no picture."""
    from lib_refonly.training.stylecode import StyleConfig, StyleTask

    from_folders(styled, tmp_path / "mine", 128)
    encode_all(EMBEDDED / "tiny-base" / "vae", tmp_path / "mine", 128)
    told = recipe.recipe(OwnStyle(size=128), styled, tmp_path)
    config = cli.build(StyleConfig, told["stylecode"], "stylecode")
    task = StyleTask(config, tmp_path / "mine", EMBEDDED / "tiny-base", EMBEDDED / "tiny-stylecode.safetensors")
    batch = task.draw(np.random.default_rng(0), 64)
    assert int(batch["picture"].amax(dim=(1, 2, 3)).min()) == 200
    assert task._pairs(np.random.default_rng(0)).amax(dim=(1, 2, 3)).min() == 200


# --- recipes ------------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        (OwnRefOnly(), "refonly"),
        (OwnRefOnly(form=ADAPTER), "adapter"),
        (OwnRefOnly(form=ADAPTER, start="adapters/tiny-refonly-adapter"), "adapter"),
        (OwnStyle(), "stylecode"),
    ],
)
def test_a_recipe_is_one_that_the_trainer_takes(settings: OwnModel, kind: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(toml_text.written(recipe.recipe(settings, tmp_path, tmp_path)), encoding="utf-8")
    tables = cli.read(tmp_path / "mine.toml")
    assert tables["run"]["kind"] == kind
    cli.build(prepare.Prepare, tables["prepare"], "prepare")
    for name in ("start", "base", "vae"):
        assert Path(tables["run"].get(name, tmp_path)).exists()


def test_what_can_not_be_trained_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadSettings, match="start from an adapter"):
        recipe.recipe(OwnRefOnly(start="adapters/tiny-refonly-adapter"), tmp_path, tmp_path)
    with pytest.raises(BadModel, match="no model"):
        recipe.recipe(OwnRefOnly(start="nothing"), tmp_path, tmp_path)
    with pytest.raises(BadModel, match="not installed"):
        recipe.recipe(OwnRefOnly(start="adapters/../x", form=ADAPTER), tmp_path, tmp_path)
    with pytest.raises(BadSettings, match="lies above"):
        recipe.recipe(OwnRefOnly(low=0.9, high=0.8), tmp_path, tmp_path)
    with pytest.raises(BadSettings, match="128, 256 or 512"):
        recipe.recipe(OwnStyle(size=192), tmp_path, tmp_path)
    monkeypatch.setenv("REFONLY_MODELS_DIR", str(tmp_path))
    other = shutil.copytree(EMBEDDED / "tiny-refonly", tmp_path / "other")
    told = json.loads((other / "scheduler" / "scheduler_config.json").read_text())
    (other / "scheduler" / "scheduler_config.json").write_text(json.dumps(told | {"prediction_type": "epsilon"}))
    assert ("Tiny Reference Only (256 px)", "other") in recipe.refonly_starts()
    with pytest.raises(BadModel, match="predicts otherwise"):
        recipe.recipe(OwnRefOnly(start="other"), tmp_path, tmp_path)


def test_an_adapter_goes_on_from_an_adapter(built: Path, tmp_path: Path) -> None:
    from_set(built, tmp_path / "mine", SIZE)
    encode_all(EMBEDDED / "tiny-base" / "vae", tmp_path / "mine", SIZE)
    start = EMBEDDED / "tiny-refonly-adapter.safetensors"
    task = AdapterTask(AdapterConfig(size=SIZE), tmp_path / "mine", EMBEDDED / "tiny-base", start)
    assert all(float(v.detach().abs().max()) > 0 for v in task.to_v), "V goes on; it does not begin at nought"
    assert {name for name, p in task.named_parameters() if p.requires_grad} >= {"to_k.0", "to_v.0", "to_tokens.proj.weight"}
    from lib_refonly.adapters.refonly_adapter import read_adapter

    task.export(tmp_path / "export")
    before, after = (read_adapter(path) for path in (start, tmp_path / "export" / "adapter.safetensors"))
    for site, pair in before.adapter.to_kv.items():
        assert np.allclose(pair.to_v.numpy(), after.adapter.to_kv[site].to_v.numpy())


# --- the chain ----------------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_sheets(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take longer than all the rest."""
    monkeypatch.setattr(PairTask, "sample", lambda *_: Image.new("RGB", (8, 8)))


def config(folder: Path, pictures: Path, **more: Any) -> Path:
    tables = recipe.recipe(OwnRefOnly(size=SIZE, steps=2, batch=2, low=0.3, high=0.9999, smallest=32, cut=False), pictures, folder)
    tables["prepare"] |= more
    tables["loop"] |= {"precision": "no", "threads": 1}
    path = folder.with_suffix(".toml")
    path.write_text(toml_text.written(tables), encoding="utf-8")
    return path


def told(folder: Path) -> list[dict[str, Any]]:
    return events.read_all(folder / events.FILE).events


def seen(folder: Path) -> Progress:
    progress = Progress()
    progress.add(told(folder))
    return progress


def test_a_folder_becomes_a_model_that_loads(pictures: Path, tmp_path: Path) -> None:
    from lib_refonly.models.registry import ModelStore
    from lib_refonly.refonly.loader import load_refonly

    run = tmp_path / "run"
    assert cli.main(config(run, pictures)) == 0
    kinds = [event["event"] for event in told(run)]
    assert kinds.index("report") < kinds.index("start") < kinds.index("done")
    assert {event["stage"] for event in told(run) if event["event"] == "stage"} == {"set", "data", "latents"}
    progress = seen(run)
    assert (progress.stage, progress.step, progress.ended) == ("", 2, "done")
    assert progress.report[0] == "16 of 17 pictures are kept."
    assert "1 went: broken." in progress.report
    assert any("pairs to train on" in line for line in progress.report)
    assert progress.samples[0] == "set/report.png"
    assert (run / "set" / "report.png").is_file()
    assert load_refonly(run / "export").card.native_size == SIZE
    store = ModelStore([run])
    assert store.get("export").native_size == SIZE
    before = (run / "set" / MANIFEST).stat().st_mtime_ns
    cli.main(config(run, pictures), steps=3)
    assert seen(run).step == 3
    assert (run / "set" / MANIFEST).stat().st_mtime_ns == before, "what is finished is not made again"


def test_an_ask_is_heard_in_every_stage_and_the_next_run_goes_on(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    for stage, why in (("set", "stop"), ("data", "pause"), ("latents", "stop")):
        original = prepare._Run.log

        def log(self: Any, event: str, where: str = stage, wanted: str = why, original: Any = original, **values: Any) -> None:
            original(self, event, **values)
            if event == "stage" and values["stage"] == where:
                ask(run, wanted)

        monkeypatch.setattr(prepare._Run, "log", log)
        assert cli.main(config(run, pictures)) == 0
        monkeypatch.setattr(prepare._Run, "log", original)
        last = told(run)[-1]
        assert (last["event"], last["why"]) == ("stopped", why), stage
        assert last["what"]
        done = json.loads((run / prepare.FILE).read_text())["done"] if (run / prepare.FILE).exists() else []
        assert stage not in done
        assert not (run / "checkpoint").exists()
    assert cli.main(config(run, pictures)) == 0
    assert told(run)[-1]["event"] == "done"
    whole = tmp_path / "whole"
    cli.main(config(whole, pictures))
    for one, other in zip(arrays(run / "data"), arrays(whole / "data"), strict=True):
        assert np.array_equal(one, other)
    assert np.array_equal(LatentSet(run / "data", SIZE).latents, LatentSet(whole / "data", SIZE).latents)


def test_a_signal_ends_it_between_two_pieces_of_work(pictures: Path, tmp_path: Path) -> None:
    assert threading.current_thread() is threading.main_thread()
    run, before = tmp_path / "run", signal.getsignal(signal.SIGTERM)
    original = prepare._Run.tell

    def tell(self: Any, share: float, what: str) -> None:
        signal.raise_signal(signal.SIGTERM)
        original(self, share, what)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare._Run, "tell", tell)
        cli.main(config(run, pictures))
    assert told(run)[-1] | {"time": 0} == {"event": "stopped", "step": 0, "why": "signal", "what": "opening, cutting out and cleaning", "time": 0}
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_set_alone_is_made_and_can_be_trained_on(pictures: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    cli.main(config(run, pictures, only=True))
    assert [event["event"] for event in told(run)][-2:] == ["result", "done"]
    assert pairs.is_set(run / "set")
    assert not (run / "data").exists()
    other = tmp_path / "other"
    assert cli.main(config(other, run / "set")) == 0
    assert told(other)[-1]["event"] == "done"
    assert not (other / "set").exists()


def test_what_can_not_be_prepared_is_said(pictures: Path, styled: Path, tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="There is no folder"):
        cli.main(config(tmp_path / "a", tmp_path / "nowhere"))
    with pytest.raises(BadSettings, match="does not know cutt"):
        cli.main(config(tmp_path / "b", pictures, cutt=True))
    with pytest.raises(BadSettings, match="pairs of similar pictures"):
        cli.main(config(tmp_path / "c", pictures, low=0.9998))
    assert seen(tmp_path / "c").report, "what the set came to is told all the same"
    path = config(tmp_path / "d", pictures)
    path.write_text(path.read_text().replace('kind = "refonly"', 'kind = "base"').replace("start =", "# start ="))
    with pytest.raises(BadSettings, match=r"goes with the kinds|needs a size"):
        cli.main(path)


def test_data_that_lies_elsewhere_is_never_thrown_away(pictures: Path, built: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    from_set(built, elsewhere, 2 * SIZE)
    path = config(tmp_path / "run", built)
    path.write_text(path.read_text().replace(str(tmp_path / "run" / "data"), str(elsewhere)))
    with pytest.raises(BadSettings, match="another data set"):
        cli.main(path)
    assert DrawingSet(elsewhere).size == 2 * SIZE
