"""The desk, jobs, a session's history, batches: what the page stands on, without a page."""

from __future__ import annotations

import copy
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from lib_refonly.errors import BadModel, BadSettings, CannotWrite, Interrupted, OutOfMemory
from lib_refonly.refonly.settings import RefOnlySettings
from lib_refonly.studio import jobs
from lib_refonly.studio.batch import Batch, run_batch, zip_files
from lib_refonly.studio.desk import Desk
from lib_refonly.studio.groups import Failure
from lib_refonly.studio.jobs import Waiting, colour_job
from lib_refonly.studio.requests import ColorRequest, ColorResult, OnProgress, Prepared, Progress, Reference
from lib_refonly.studio.session_history import InputFiles, Session, safe_stem
from tests.ui.fakes import FlatEngine, character


def request(**settings: object) -> ColorRequest:
    return ColorRequest((Reference(character(False, 64)),), character(True, 64), RefOnlySettings(steps=4, **settings))  # type: ignore[arg-type]


@pytest.fixture
def files(tmp_path: Path) -> InputFiles:
    character(False, 64).save(tmp_path / "r.png")
    character(True, 64).save(tmp_path / "l.png")
    return InputFiles((tmp_path / "r.png", None), (None, None), (1.0, 1.0), tmp_path / "l.png")


def results(events: Iterator[object]) -> list[ColorResult]:
    return [event for event in events if isinstance(event, ColorResult)]


def test_a_job_gives_its_results_in_order() -> None:
    assert [r.seed for r in results(colour_job(FlatEngine(), request(count=3, seed=5), Desk(), threading.Event()))] == [5, 6, 7]


def test_an_error_reaches_the_reader() -> None:
    class Broken(FlatEngine):
        def color(self, request: ColorRequest, on_progress: OnProgress) -> Iterator[ColorResult]:
            raise BadSettings("no")

    with pytest.raises(BadSettings, match="no"):
        list(colour_job(Broken(), request(), Desk(), threading.Event()))


def test_stop_ends_a_job_at_its_next_step() -> None:
    stop, engine = threading.Event(), FlatEngine()
    events = colour_job(engine, request(count=16), Desk(), stop)
    next(events)
    stop.set()
    with pytest.raises(Interrupted):
        list(events)
    assert engine.ended.wait(5)


def test_leaving_ends_the_job_and_frees_the_desk() -> None:
    desk, engine = Desk(), FlatEngine(threading.Event())
    events = colour_job(engine, request(count=16), desk, threading.Event())
    next(events)
    events.close()
    assert engine.ended.wait(5)
    assert len(results(colour_job(FlatEngine(), request(), desk, threading.Event()))) == 1


def test_the_desk_serves_in_order_and_says_how_many_are_before() -> None:
    desk, gate, told, order = Desk(), threading.Event(), [], []

    def hold(name: str) -> None:
        with desk.turn(lambda: False, lambda ahead: told.append((name, ahead))):
            order.append(name)
            gate.wait(5)

    threads = []
    for name in "abc":
        threads.append(threading.Thread(target=hold, args=name))
        threads[-1].start()
        while len(desk._line) < len(threads):
            pass
    gate.set()
    for thread in threads:
        thread.join(5)
    assert order == ["a", "b", "c"]
    assert ("b", 1) in told


def test_a_waiting_job_can_be_stopped() -> None:
    desk, stop, slow = Desk(), threading.Event(), threading.Event()
    first = colour_job(FlatEngine(slow), request(count=16), desk, threading.Event())
    next(first)
    second = colour_job(FlatEngine(), request(), desk, stop)
    assert next(second) == Waiting(1)
    stop.set()
    with pytest.raises(Interrupted):
        list(second)
    first.close()


def test_sessions_are_not_shared() -> None:
    one = Session()
    assert copy.deepcopy(one) is not one
    assert copy.deepcopy(one).folder != one.folder


def saved(session: Session, files: InputFiles, **settings: object) -> None:
    run = session.begin(files, RefOnlySettings(steps=1, **settings), "m")  # type: ignore[arg-type]
    for result in results(colour_job(FlatEngine(), request(**settings), Desk(), session.stop)):
        session.save(run, result)


def test_history_is_bounded_and_cleans_up(files: InputFiles) -> None:
    session = Session(keep=2)
    folders = []
    for _ in range(3):
        saved(session, files)
        folders.append(session.runs[0].folder)
    assert [run.folder for run in session.runs] == folders[:0:-1]
    assert [folder.exists() for folder in folders] == [False, True, True]


def test_a_run_keeps_its_own_copies(files: InputFiles) -> None:
    session = Session()
    saved(session, files, count=2)
    files.lines.unlink()
    run = session.runs[0]
    assert run.inputs.lines.is_file()
    assert run.inputs.references[0] is not None
    assert run.inputs.references[1] is None
    assert len({one.picture for one in run.results}) == 2
    with Image.open(run.results[0].colour_layer) as layer:
        assert "parameters" in layer.info


def test_a_run_without_results_is_forgotten(files: InputFiles) -> None:
    session = Session()
    run = session.begin(files, RefOnlySettings(), "m")
    session.discard_empty(run)
    assert session.runs == []
    assert session.shown is None
    assert not run.folder.exists()


def test_a_session_leaves_nothing_behind(files: InputFiles) -> None:
    session = Session()
    folder = session.folder
    saved(session, files)
    del session
    assert not folder.exists()


@pytest.mark.parametrize(
    ("name", "stem"),
    [("my drawing.png", "my drawing"), ("..", "picture"), ("a<b>.png", "a_b"), ("-rf.png", "rf"), ("絵.png", "絵"), ("a" * 200 + ".png", "a" * 60)],
)
def test_names_are_made_harmless(name: str, stem: str) -> None:
    assert safe_stem(name) == stem


def batch(tmp_path: Path, *names: str, **settings: object) -> Batch:
    out = tmp_path / "out"
    out.mkdir()
    for name in names:
        character(True, 64).save(tmp_path / name)
    return Batch(Reference(character(False, 64)), [tmp_path / n for n in names], RefOnlySettings(steps=1, **settings), "m", out)  # type: ignore[arg-type]


def test_a_batch_keeps_one_seed_and_overwrites_nothing(tmp_path: Path) -> None:
    job, engine = batch(tmp_path, "a.png", "b.png"), FlatEngine()
    (job.folder / "a.png").write_text("mine")
    list(run_batch(job, engine, Desk(), threading.Event()))
    assert [path.name for path in job.written] == ["a-2.png", "b.png"]
    assert (job.folder / "a.png").read_text() == "mine"
    seeds = {r.settings.seed for r in engine.requests}
    assert len(seeds) == 1
    assert seeds != {-1}


def test_a_batch_lists_what_it_left_out(tmp_path: Path) -> None:
    job = batch(tmp_path, "a.png", "b.png")
    (tmp_path / "a.png").write_bytes(b"")
    list(run_batch(job, FlatEngine(), Desk(), threading.Event()))
    assert [name for name, _ in job.errors] == ["a.png"]
    assert [path.name for path in job.written] == ["b.png"]
    assert job.done == 2


def test_a_stopped_batch_keeps_what_is_done(tmp_path: Path) -> None:
    job, stop = batch(tmp_path, "a.png", "b.png", "c.png"), threading.Event()
    events = run_batch(job, FlatEngine(threading.Event()), Desk(), stop)  # 0.2 s a step
    while not isinstance(next(events), ColorResult):
        pass
    stop.set()
    with pytest.raises(Interrupted):
        list(events)
    assert [path.name for path in job.written] == ["a.png"]


def many(tmp_path: Path, count: int) -> Batch:
    return batch(tmp_path, *(f"{number:02}.png" for number in range(count)))


class EveryEvent(queue.Queue[Any]):
    """A reader who is told everything, however late: a busy machine leaves out what it is behind with."""

    def empty(self) -> bool:
        return True


class Unhurried(threading.Event):
    """Lets the reader keep up: one that is behind is not told every step."""

    def wait(self, timeout: float | None = None) -> bool:
        time.sleep(0.01)
        return True


def test_a_batch_goes_in_groups_and_its_progress_counts_drawings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "queue", SimpleNamespace(SimpleQueue=EveryEvent))
    job, engine = many(tmp_path, 19), FlatEngine(Unhurried())
    told = [event for event in run_batch(job, engine, Desk(), threading.Event()) if isinstance(event, Progress)]
    assert engine.groups == [8, 8, 3]
    assert [path.name for path in job.written] == [f"{number:02}.png" for number in range(19)]
    assert {event.count for event in told} == {19}
    indices = [event.index for event in told]
    assert indices == sorted(indices)
    assert 16 <= indices[-1] <= 18, "those of the last group"


class OneIsBad(FlatEngine):
    """What is drawn from the third request on the first time, and from that drawing ever after, goes wrong."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
        self.bad: object = None

    def color(self, request: ColorRequest, on_progress: OnProgress) -> Iterator[ColorResult]:
        if len(self.requests) == 2:
            self.bad = request.lines
        if request.lines is self.bad:
            self.requests.append(request)
            raise self.error
        yield from super().color(request, on_progress)


@pytest.mark.parametrize(("error", "says"), [(OutOfMemory("Too large."), "Too large."), (ZeroDivisionError("a bug"), "terminal says more")])
def test_one_bad_drawing_of_a_group_is_listed_and_the_rest_is_coloured(tmp_path: Path, error: Exception, says: str) -> None:
    job = many(tmp_path, 6)
    failures = [event for event in run_batch(job, OneIsBad(error), Desk(), threading.Event()) if isinstance(event, Failure)]
    assert [name for name, _ in job.errors] == ["02.png"]
    assert says in job.errors[0][1]
    assert [path.name for path in job.written] == [f"{number:02}.png" for number in (0, 1, 3, 4, 5)]
    assert [failure.error for failure in failures] == [error]


def test_what_would_befall_all_ends_the_batch(tmp_path: Path) -> None:
    job, engine = many(tmp_path, 12), OneIsBad(BadModel("The model is gone."))
    with pytest.raises(BadModel):
        list(run_batch(job, engine, Desk(), threading.Event()))
    assert len(engine.requests) == 3
    assert len(job.written) == 2


def test_other_jobs_have_their_turn_between_two_groups(tmp_path: Path) -> None:
    job, desk, slow = many(tmp_path, 17), Desk(), threading.Event()
    order: list[str] = []
    events = run_batch(job, FlatEngine(slow), desk, threading.Event())
    next(events)

    def colour() -> None:
        list(colour_job(FlatEngine(), request(), desk, threading.Event()))
        order.append("other")

    other = threading.Thread(target=colour)
    other.start()
    while len(desk._line) < 2:
        time.sleep(0.001)
    slow.set()
    for event in events:
        if isinstance(event, ColorResult) and len(job.written) == 17:
            order.append("batch")
    other.join(5)
    assert order == ["other", "batch"]


def test_a_full_disk_ends_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise CannotWrite("the disk is full")

    monkeypatch.setattr("lib_refonly.studio.batch.save_png", full)
    job, engine = many(tmp_path, 12), FlatEngine(threading.Event())  # 0.2 s a step
    with pytest.raises(CannotWrite):
        list(run_batch(job, engine, Desk(), threading.Event()))
    assert engine.groups == [8]
    assert len(engine.requests) <= 2


def test_a_zip_that_can_not_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(CannotWrite):
        zip_files([tmp_path / "missing.png"], tmp_path / "x.zip")
    assert list(tmp_path.iterdir()) == []


def test_late_readers_skip_progress_but_no_result() -> None:
    class Fast(FlatEngine):
        def color(self, request: ColorRequest, on_progress: OnProgress) -> Iterator[ColorResult]:
            for step in range(1000):
                on_progress(Progress(step, 1000, 0, 1))
            picture = request.lines
            yield ColorResult(picture, picture, picture, Prepared((), picture), 1, "")

    events = colour_job(Fast(), request(), Desk(), threading.Event())
    seen = [next(events)]
    threading.Event().wait(0.3)
    seen += list(events)
    assert len(seen) < 1000
    assert isinstance(seen[-1], ColorResult)
