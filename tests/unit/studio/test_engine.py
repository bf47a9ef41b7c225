"""The engine on tiny random models: what it gives, what it computes once, and that nothing leaves it broken."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lib_refonly.errors import BadModel, BadSettings, Interrupted, OutOfMemory
from lib_refonly.imaging.infotext import read_infotext
from lib_refonly.models.registry import ModelStore
from lib_refonly.refonly import loader, pipeline
from lib_refonly.refonly.loader import save_refonly
from lib_refonly.refonly.settings import SAMPLERS, RefOnlySettings
from lib_refonly.settings import from_mapping, specs
from lib_refonly.studio import engine as engine_module
from lib_refonly.studio import frames
from lib_refonly.studio.engine import WEIGHTS, Engine, infotext
from lib_refonly.studio.requests import ColorRequest, ColorResult, Progress, Reference
from tests.unit.refonly.painting import Calls, colours, differ, drawing, hooks, lively_model

REFERENCE = Reference(colours())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    """Two models, `one` and `two`."""
    root = tmp_path_factory.mktemp("models")
    save_refonly(lively_model(0), root / "one")
    save_refonly(lively_model(9), root / "two")
    return ModelStore([root])


@pytest.fixture(scope="module")
def shared(store: ModelStore) -> Engine:
    """For tests that leave it as it was."""
    return Engine(store, "cpu")


@pytest.fixture
def engine(store: ModelStore) -> Engine:
    return Engine(store, "cpu")


def request(*references: Reference, lines: Image.Image | None = None, model: str = "one", **settings: Any) -> ColorRequest:
    chosen: dict[str, Any] = {"seed": 1, "steps": 2, "size": 64} | settings
    return ColorRequest(references or (REFERENCE,), lines or drawing(), RefOnlySettings(**chosen), model)


def only(engine: Engine, asked: ColorRequest) -> ColorResult:
    (result,) = engine.color(asked)
    return result


def same_painting(one: ColorResult, other: ColorResult) -> bool:
    return one.painting.size == other.painting.size and differ(one.painting, other.painting) <= 1


def alike(one: ColorResult, other: ColorResult, within: int = 1) -> bool:
    """The pictures, but for the rounding of a batch. (Their edges against the paper follow the painting, so a level may be a whole pixel.)"""
    return one.seed == other.seed and one.infotext == other.infotext and differ(one.painting, other.painting) <= within


def test_variations_have_seeds_that_follow_each_other(shared: Engine) -> None:
    results = list(shared.color(request(count=3, seed=2**32 - 2)))
    assert [result.seed for result in results] == [2**32 - 2, 2**32 - 1, 0]
    assert differ(results[0].painting, results[1].painting) > 10
    for result in results:
        assert alike(only(shared, request(seed=result.seed)), result)


def test_a_drawn_seed_is_told_and_gives_the_picture_again(shared: Engine) -> None:
    results = list(shared.color(request(count=2, seed=-1)))
    assert results[1].seed == (results[0].seed + 1) % 2**32
    assert alike(only(shared, request(seed=results[0].seed)), results[0])
    assert only(shared, request(seed=-1)).seed not in (results[0].seed, results[1].seed)


def test_many_drawings_equal_single_runs(shared: Engine) -> None:
    """Sizes, references, weights, masks, samplers and models in any order; the results keep it."""
    small, tall, wide = drawing((96, 128)), drawing((50, 120)), drawing((300, 200))
    other, mask = Reference(colours(5)), Image.new("L", (96, 128))
    mask.paste(255, (0, 0, 48, 128))
    asked = [
        request(lines=small),
        request(lines=drawing((96, 128), shift=4), seed=2),
        request(other, lines=small, seed=3),
        request(lines=tall),
        request(REFERENCE, other, lines=tall),
        request(REFERENCE, replace(other, weight=0.5), lines=tall),
        request(Reference(colours(), mask=mask), lines=small),
        request(Reference(colours(), mask=mask), lines=small, seed=4),
        request(lines=wide, sampler="Euler a"),
        request(lines=wide, sampler="Euler a", seed=5),
        request(lines=wide, model="two", guidance=2.0, blueprint_guidance=2.0),
        request(lines=small, count=2),
    ]
    together = list(shared.color_all(asked))
    alone = [result for one in asked for result in shared.color(one)]
    assert len(together) == len(alone) == 13
    assert all(alike(a, b) for a, b in zip(together, alone, strict=True))
    equals = [(a, b) for a in range(13) for b in range(a) if same_painting(together[a], together[b])]
    assert equals == [(11, 0)], "what was asked for twice"


def test_what_fits_together_is_painted_together(shared: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    paint = pipeline.paint

    def counting(model: Any, jobs: Any, *rest: Any) -> Any:
        sizes.append(len(jobs))
        return paint(model, jobs, *rest)

    monkeypatch.setattr(pipeline, "paint", counting)
    mask = Image.new("L", (96, 128), 255)
    masked = [request(Reference(colours(), mask=mask), seed=seed) for seed in range(3)]
    list(shared.color_all([request(count=2), request(Reference(colours(5)), seed=8), *masked, request(steps=3)]))
    assert sizes == [3, 3, 1]
    sizes.clear()
    list(shared.color_all([request(lines=drawing((128, 128)), size=256, seed=seed, steps=1) for seed in range(9)]))
    assert sizes == [8, 1]


def test_the_same_request_gives_the_same_picture(shared: Engine) -> None:
    first, again = only(shared, request()), only(shared, request())
    assert [differ(getattr(first, part), getattr(again, part)) for part in ("picture", "painting", "colour_layer")] == [0, 0, 0]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler(shared: Engine, sampler: str) -> None:
    told: list[Progress] = []
    list(shared.color(request(sampler=sampler, steps=5), told.append))
    assert (told[0].step, told[-1].step, told[-1].steps) == (0, 4, 5)


def test_pictures_are_read_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = {"lines": 0, "reference": 0}
    counted = {"lines": frames.prepare_lines, "reference": engine_module.prepare_reference}

    def counting(what: str) -> Any:
        def count(*arguments: Any) -> Any:
            prepared[what] += 1
            return counted[what](*arguments)

        return count

    monkeypatch.setattr(frames, "prepare_lines", counting("lines"))
    monkeypatch.setattr(engine_module, "prepare_reference", counting("reference"))
    model = engine._model("one")
    with Calls(model.image_encoder) as encoder, Calls(model.blueprint) as blueprint:
        list(engine.color(request(count=3)))
        assert (prepared, encoder.rows, blueprint.rows) == ({"lines": 1, "reference": 1}, [1], [1])
        list(engine.color_all([request(lines=drawing(shift=shift)) for shift in (1, 2)]))
        assert (prepared, encoder.rows, blueprint.rows) == ({"lines": 3, "reference": 2}, [1], [1, 2])
        list(engine.color(request(Reference(colours()))))
        assert encoder.rows == [1], "an equal picture from another file"
        list(engine.color(request(fit="crop")))
        list(engine.color(request(background="white")))
        list(engine.color(request(Reference(colours(3)))))
        assert len(encoder.rows) >= 3


@pytest.mark.parametrize("size", [(333, 517), (517, 333), (40, 900), (900, 40), (3, 700), (1, 1)])
def test_results_have_the_drawings_own_size(shared: Engine, size: tuple[int, int]) -> None:
    result = only(shared, request(lines=drawing(size), size=0))
    assert [one.size for one in (result.picture, result.painting, result.colour_layer)] == [size] * 3
    assert (result.picture.mode, result.painting.mode, result.colour_layer.mode) == ("RGB", "RGB", "RGBA")
    assert max(result.prepared.blueprint.size) == 128
    assert f"Size: {result.prepared.blueprint.width}x{result.prepared.blueprint.height}" in result.infotext


@pytest.mark.parametrize("mode", ["RGBA", "L", "1", "LA", "P", "CMYK"])
def test_pictures_of_any_mode(shared: Engine, mode: str) -> None:
    asked = request(Reference(colours().convert("RGB").convert(mode)), lines=drawing().convert("RGB").convert(mode if mode != "LA" else "L"))
    assert only(shared, asked).picture.size == (96, 128)


@pytest.mark.parametrize(("paper", "mode"), [("white", "RGB"), ("black", "RGB"), ("transparent", "RGBA"), ("as painted", "RGB")])
def test_papers(shared: Engine, paper: str, mode: str) -> None:
    first, other = (only(shared, request(paper=paper, lines_back=back)) for back in (0.0, 1.0))
    assert first.picture.mode == other.picture.mode == mode
    assert differ(first.painting, other.painting) == 0
    assert differ(first.picture, other.picture) > 50


def test_preparing_shows_what_is_painted_from_and_loads_nothing(engine: Engine) -> None:
    asked = request(REFERENCE, Reference(drawing()))
    seen = engine.prepare(asked)
    assert engine._loaded is None
    used = only(engine, asked).prepared
    assert used.notes == seen.notes
    assert len(seen.notes) == len(set(seen.notes)) >= 2
    pairs = zip((*seen.references, seen.blueprint), (*used.references, used.blueprint), strict=True)
    assert [differ(a, b) for a, b in pairs] == [0, 0, 0]


def test_without_references_only_the_lines_are_prepared(shared: Engine) -> None:
    bare = replace(request(), references=())
    assert shared.prepare(bare).references == ()
    with pytest.raises(BadSettings, match="Add a reference first"):
        list(shared.color(bare))


@pytest.mark.parametrize("wrong", ["three", "../one", ""])
def test_an_unknown_model(shared: Engine, wrong: str) -> None:
    with pytest.raises(BadModel):
        list(shared.color(request(model=wrong)))


def test_progress(shared: Engine) -> None:
    told: list[Progress] = []
    list(shared.color_all([request(count=3, steps=4), request(lines=drawing((200, 100)), steps=4)], told.append))
    assert {(one.steps, one.count) for one in told} == {(4, 4)}
    done = [one.index * 4 + one.step + 1 for one in told]
    assert done == [3, 6, 9, 12, 13, 14, 15, 16]
    previews = [one.preview for one in told if one.preview is not None]
    assert len(previews) == 8
    assert {picture.mode for picture in previews} == {"RGB"}
    assert [previews[0].size, previews[-1].size] == [(48, 64), (64, 32)], "at the size that is painted at, however large the drawing"


@pytest.mark.parametrize("at", [0, 1, 2])
def test_stopping_leaves_it_usable(engine: Engine, at: int) -> None:
    def stop(progress: Progress) -> None:
        if progress.step == at:
            raise Interrupted("Stopped.")

    before = only(engine, request(steps=3, guidance=2.0))
    model = engine._model("one")
    with pytest.raises(Interrupted):
        list(engine.color(request(steps=3, guidance=2.0), stop))
    assert hooks(model.unet) == 0
    after = only(engine, request(steps=3, guidance=2.0))
    assert engine._model("one") is model
    assert differ(before.picture, after.picture) == 0


def test_a_model_switch_frees_the_old_one_first(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    load, alive = loader.load_refonly, []
    first = only(engine, request())
    old = weakref.ref(engine._model("one").unet)

    def loading(*arguments: Any, **more: Any) -> Any:
        alive.append(old() is not None)
        return load(*arguments, **more)

    monkeypatch.setattr(loader, "load_refonly", loading)
    second = only(engine, request(model="two"))
    assert alive == [False]
    assert differ(first.painting, second.painting) > 10
    assert differ(only(engine, request()).painting, first.painting) == 0, "its image tokens are not the other model's"
    only(engine, request())
    assert len(alive) == 2, "kept in memory while it is used"


def test_a_model_that_cannot_be_loaded_is_told_and_can_be_mended(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise BadModel("one is damaged.")

    with monkeypatch.context() as patch:
        patch.setattr(loader, "load_refonly", refuse)
        with pytest.raises(BadModel, match="damaged"):
            list(engine.color(request()))
    assert only(engine, request()).seed == 1


NO_MEMORY = (
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("MPS backend out of memory (MPS allocated: 18 GB)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes."),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes."),
)


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: str(error)[:20])
def test_no_memory_is_said_plainly(engine: Engine, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "denoise", full)
        with pytest.raises(OutOfMemory, match="smaller size"):
            list(engine.color(request()))
    assert only(engine, request()).seed == 1


def test_other_errors_are_not_taken_for_it(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: Any, **__: Any) -> Any:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(pipeline, "denoise", bug)
    with pytest.raises(RuntimeError, match="shapes"):
        list(engine.color(request()))


def test_a_batch_that_the_memory_does_not_hold_is_painted_in_parts(shared: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, told = list(shared.color(request(count=5))), []
    denoise = pipeline.denoise

    def small(unet: Any, plan: Any, scheduler: Any, noise: torch.Tensor, *rest: Any) -> Any:
        if len(noise) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return denoise(unet, plan, scheduler, noise, *rest)

    monkeypatch.setattr(pipeline, "denoise", small)
    results = list(shared.color(request(count=5), lambda progress: told.append(progress.index)))
    assert all(alike(a, b) for a, b in zip(results, wanted, strict=True))
    assert told == sorted(told)
    assert set(told) >= {1, 2, 4}


def test_two_threads(engine: Engine) -> None:
    asked = [request(seed=seed, model=model, count=2) for seed, model in ((1, "one"), (20, "two"))]
    wanted = [list(engine.color(one)) for one in asked]
    found: list[list[ColorResult]] = [[], []]

    def run(place: int) -> None:
        for _ in range(2):
            found[place] += engine.color(asked[place])
            engine.prepare(asked[place])

    threads = [threading.Thread(target=run, args=(place,)) for place in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for results, single in zip(found, wanted, strict=True):
        assert len(results) == 4
        assert all(alike(a, b, 0) for a, b in zip(results, single * 2, strict=True))


def test_a_reader_who_stops_reading_keeps_nobody_waiting(engine: Engine) -> None:
    left: Iterator[ColorResult] = engine.color_all([request(), request(steps=3)])
    next(left)
    other = threading.Thread(target=lambda: only(engine, request()), daemon=True)
    other.start()
    other.join(30)
    assert not other.is_alive()
    assert next(left).seed == 1


def settings() -> st.SearchStrategy[RefOnlySettings]:
    def values(name: str) -> st.SearchStrategy[Any]:
        spec = specs(RefOnlySettings)[name]
        if spec.choices is not None:
            return st.sampled_from(spec.choices)
        low, high = spec.minimum, spec.maximum
        assert low is not None
        assert high is not None
        if name == "size":
            return st.just(0) | st.integers(64, int(high))
        return st.integers(int(low), int(high)) if isinstance(getattr(RefOnlySettings(), name), int) else st.floats(low, high)

    return st.builds(RefOnlySettings, **{name: values(name) for name in specs(RefOnlySettings) if name != "count"})


@given(settings(), st.sampled_from(["tiny-refonly", "my, model: 2", "絵"]))
def test_the_infotext_gives_the_settings_back(made: RefOnlySettings, model: str) -> None:
    fields = read_infotext(infotext(made, model, (128, 96), 1.5))[2]
    known = {name: fields[spec.infotext] for name, spec in specs(RefOnlySettings).items() if spec.infotext in fields}
    assert from_mapping(RefOnlySettings, known) == made
    assert (fields["Model"], fields["Size"], fields["CFG scale"]) == (model, "128x96", "1.5")


def test_the_infotext_of_a_result_makes_it_again(shared: Engine) -> None:
    result = only(shared, request(seed=-1, sampler="DDIM", guidance=2.5, lines_back=0.35, paper="black"))
    fields = read_infotext(result.infotext)[2]
    known = {name: fields[spec.infotext] for name, spec in specs(RefOnlySettings).items() if spec.infotext in fields}
    again = only(shared, replace(request(), settings=from_mapping(RefOnlySettings, known), model=fields["Model"]))
    assert differ(again.picture, result.picture) == 0
    assert again.infotext == result.infotext
    assert fields["CFG scale"] == "2.5"


def test_the_infotext_tells_the_models_own_guidance(shared: Engine) -> None:
    fields = read_infotext(only(shared, request()).infotext)[2]
    assert fields["CFG scale"] == "1.5"
    assert "RefOnly guidance" not in fields


def test_weights_are_told_unless_they_are_all_1(shared: Engine) -> None:
    def told(*weights: float) -> str | None:
        references = (Reference(colours(place), weight) for place, weight in enumerate(weights))
        return read_infotext(only(shared, request(*references)).infotext)[2].get(WEIGHTS)

    assert told(1.0, 1.0) is None
    assert told(1.0, 0.35) == "1 0.35"
    assert told(0.5) == "0.5"


def test_models_folder_is_given(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="There is: none"):
        Engine(ModelStore([tmp_path])).prepare(request())
