"""The parts of a job that need no process: record, events, asks, names, log, explanation, progress, results, checkpoint swap."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lib_refonly.errors import BadSettings, CannotWrite
from lib_refonly.locks import held
from lib_refonly.training.jobs import asks, events, log, names, record, results, swap
from lib_refonly.training.jobs.asks import Asks, ask
from lib_refonly.training.jobs.explain import explain
from lib_refonly.training.jobs.process import Identity
from lib_refonly.training.jobs.progress import Progress, thinned
from lib_refonly.training.jobs.record import Job

JOB = Job("one", "My “LoRA”", "base", ("python", "-c", "--x; rm -rf /"), os.path.abspath(os.sep), 1.5, 2.5, {"A": "b c"}, process=Identity(7, 1.25, "boot"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "one"
    made.mkdir()
    return made


# --- record -------------------------------------------------------------------------------------------------------------------------------------------


def test_a_record_reads_back_as_it_was_written(folder: Path) -> None:
    job = replace(JOB, state="failed", exit_code=-9, explanation="Ende – 終わり", results=("export", "a/b.safetensors"), worker=Identity(8, 2.0))
    assert record.problem(job) == ""
    record.save(job, folder)
    assert record.load(folder) == job
    assert os.listdir(folder) == ["job.json"]


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"format": "another"}, "no job's record"),
        ({"version": 2}, "another version"),
        ({"id": "two"}, "copy"),
        *(({name: value}, f"damaged ({name})") for name, values in {
            "argv": ["python x", [], [1], ["a\0b"], [""], None],
            "cwd": ["relative", 5],
            "env": [{"A=B": "x"}, {"": "x"}, {"A": 1}, ["A"]],
            "state": ["flying", None],
            "asked": ["kill"],
            "process": [{"pid": -1, "born": 0, "boot": ""}, {"pid": 1}, 7, {"pid": True, "born": 0, "boot": ""}],
            "created": [-1, "now", True],
            "exit_code": ["0", 1.5],
            "results": [["../out"], ["/etc/passwd"], ["a\\..\\b"], "export"],
            "events_from": [-1],
        }.items() for value in values),
    ],
)  # fmt: skip
def test_a_record_that_is_wrong_is_refused_by_a_sentence_and_left_alone(folder: Path, changed: dict[str, Any], word: str) -> None:
    text = json.dumps(json.loads(JOB.written()) | changed)
    (folder / "job.json").write_text(text, encoding="utf-8")
    with pytest.raises(BadSettings) as raised:
        record.load(folder)
    assert word in str(raised.value)
    assert str(raised.value).endswith(".")
    assert (folder / "job.json").read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff\xfe\x00", b"[]", b"null", b"[" * 100_000, b'{"format": "refonly-job", "version": 1}', b" " * (record.LARGEST + 1)]
)
def test_rubbish_is_no_record(folder: Path, data: bytes) -> None:
    (folder / "job.json").write_bytes(data)
    with pytest.raises(BadSettings):
        record.load(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no such things on Windows")
def test_records_that_are_links_or_pipes_or_anothers_are_not_read(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record.save(JOB, folder)
    os.rename(folder / "job.json", tmp_path / "elsewhere.json")
    (folder / "job.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(BadSettings, match="link"):
        record.load(folder)
    (folder / "job.json").unlink()
    os.mkfifo(folder / "job.json")
    with pytest.raises(BadSettings, match="no job's record"):
        record.load(folder)
    (folder / "job.json").unlink()
    record.save(JOB, folder)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(BadSettings, match="another user"):
        record.load(folder)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\\b", "/etc", "../x", "a..b", "-rf", ".hidden", "a\0", "a\n", "con", "NUL.txt", "a.", "ä", "a b", "%2e%2e", "x" * 81]
)
def test_names_that_lead_elsewhere(name: str) -> None:
    with pytest.raises(BadSettings):
        names.checked(name)


def test_every_title_gives_a_name() -> None:
    for title in ("", "日本", "../../etc", "My LoRA, v2!", "x" * 500, "-rf", "con"):
        assert names.checked(f"20260101-000000-{names.slug(title)}")


# --- events -------------------------------------------------------------------------------------------------------------------------------------------


def test_events_are_read_from_where_one_was(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    assert events.read(path, 99) == events.Batch([], 0)
    events.append(path, {"event": "start", "step": 0})
    first = events.read(path)
    assert first.events == [{"event": "start", "step": 0}]
    events.append(path, {"event": "step", "loss": float("nan"), "lr": float("inf"), "what": "Zeile\nzwei"})
    second = events.read(path, first.offset)
    assert second.events == [{"event": "step", "loss": None, "lr": None, "what": "Zeile\nzwei"}]
    assert events.read(path, second.offset).events == []
    assert events.read_all(path).events == first.events + second.events


def test_half_lines_and_garbage_cost_only_themselves(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    garbage = [b"\x00\xff\x1b[31m", b"[1, 2]", b'{"step": 3}', b'{"event": 5}', b"[" * 99_999, b"x" * (2 << 20)]
    path.write_bytes(b"\n".join(garbage) + b'\n\n{"event": "step", "st')
    batch = events.read(path)
    assert (batch.events, batch.skipped) == ([], len(garbage))
    events.append(path, {"event": "resume"})  # the killed writer's half line ends here
    after = events.read(path, batch.offset)
    assert (after.events, after.skipped) == ([{"event": "resume"}], 1)
    path.write_bytes(b'{"event": "anew"}\n')
    assert events.read(path, after.offset) == events.Batch([{"event": "anew"}], 18, 0, True)


def test_more_than_is_read_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "CHUNK", 100)
    path = tmp_path / "events.jsonl"
    for number in range(50):
        events.append(path, {"event": "step", "step": number})
    path.write_bytes(path.read_bytes() + b"y" * 250 + b'\n{"event": "done"}\n')
    batch = events.read_all(path)
    assert [event.get("step") for event in batch.events] == [*range(50), None]
    assert batch.skipped == 3
    assert batch.offset == path.stat().st_size


# --- asks ---------------------------------------------------------------------------------------------------------------------------------------------


def test_what_is_asked_is_heard_once(folder: Path) -> None:
    heard = Asks(folder)
    assert (heard.waiting(), heard.take("stop")) == (set(), False)
    for what in ("stop", "stop", "save"):
        ask(folder, what)
    (folder / "asks" / "nonsense").touch()
    assert heard.waiting() == {"stop", "save"}
    assert (heard.take("stop"), heard.take("stop")) == (True, False)
    ask(folder, "sample")
    assert heard.take_all() == {"save", "sample"}
    ask(folder, "pause")
    heard.clear()
    assert heard.take_all() == set()


def test_what_cannot_be_asked(folder: Path, tmp_path: Path) -> None:
    for what in ("", "../stop", "kill"):
        with pytest.raises(BadSettings):
            ask(folder, what)
    (tmp_path / "outside").mkdir()
    (folder / "asks").symlink_to(tmp_path / "outside")
    with pytest.raises(BadSettings, match="leads out"):
        ask(folder, "stop")
    assert os.listdir(tmp_path / "outside") == []
    with pytest.raises(CannotWrite):
        ask(tmp_path / "gone", "stop")


# --- what went wrong ----------------------------------------------------------------------------------------------------------------------------------

TRACEBACK = 'Traceback (most recent call last):\n  File "train.py", line 9, in <module>\n    step()\n'


@pytest.mark.parametrize(
    ("text", "code", "meaning", "advice"),
    [
        (f"{TRACEBACK}torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB.", 1, "graphics card's memory", "batch size"),
        ("[rank0]: torch.cuda.OutOfMemoryError: HIP out of memory.", 1, "graphics card's memory", "gradient checkpointing"),
        ("RuntimeError: [enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory", 1, "(RAM) is full", "batch size"),
        (f"{TRACEBACK}MemoryError", 1, "(RAM) is full", "cache latents on disk"),
        (f"{TRACEBACK}OSError: [Errno 28] No space left on device: '/x'", 1, "The disk is full", "Make room"),
        ("RuntimeError: [enforce fail at inline_container.cc:672] . unexpected pos 641600 vs 641488", 1, "The disk is full", "Make room"),
        (f"{TRACEBACK}FileNotFoundError: [Errno 2] No such file or directory: '/data/model.safetensors'", 1, "/data/model.safetensors", "Put it back"),
        (f"{TRACEBACK}ModuleNotFoundError: No module named 'bitsandbytes'", 1, "bitsandbytes is missing", "Install the trainer"),
        (f"{TRACEBACK}RuntimeError: NaN loss at step 5", 1, "no number", "learning rate"),
        (f"{TRACEBACK}RuntimeError: Found no NVIDIA driver on your system.", 1, "driver", "Update the driver"),
        (f"{TRACEBACK}RuntimeError: CUDA error: an illegal memory access was encountered", 1, "gave up", "Resume"),
        (f"{TRACEBACK}PermissionError: [Errno 13] Permission denied: '/root/x'", 1, "/root/x", "right to it"),
        (f"{TRACEBACK}KeyboardInterrupt", 1, "Ctrl-C", "Resume"),
        ("studio.py: The loss is no number any more at step 7. Lower the learning rate (0.1) and resume.", 2, "step 7", "Lower the learning rate (0.1)"),
        ("error: an old line\nstep 1", -9, "killed from outside", "Resume"),
        ("", 137, "(RAM) was full", "Resume"),
        ("", -11, "A library crashed", "Resume"),
        (f"{TRACEBACK}ZeroDivisionError: division by zero", 1, "ZeroDivisionError: division by zero", "mended"),
        ("", 3, "exit code 3", "by hand"),
        ("nothing special\nto see", None, "nothing special", "log"),
    ],
)  # fmt: skip
def test_what_an_ending_means(text: str, code: int | None, meaning: str, advice: str) -> None:
    told = explain(text.encode(), code)
    assert meaning in told.meaning
    assert advice in str(told)
    assert str(told).endswith(".")
    assert "{1}" not in str(told)


def test_the_error_counts_and_not_what_was_warned_of_or_failed_because_of_it() -> None:
    text = (
        "UserWarning: CUDA initialization: Found no NVIDIA driver on your system.\nerror: no module named 'xformers', which is not needed\n"
        f"{TRACEBACK}RuntimeError: CUDA out of memory.\n{TRACEBACK}subprocess.CalledProcessError: Command '['python']' returned non-zero exit status 1."
    )
    told = explain(text.encode(), 1)
    assert "memory is full" in told.meaning
    assert told.lines[0] == "RuntimeError: CUDA out of memory."


def test_logs_are_cleaned() -> None:
    bar = b"".join(b"\rsteps: %d%%" % n for n in range(100))
    data = b"\x1b[31mred\x1b[0m\n" + bar + b"\r\n" + bytes(range(128, 256)) * 9 + b"\nsame\nsame\n\x1b]0;title\x07end\x08\t!\n" + b"l" * 9999
    lines = log.cleaned(data)
    assert lines[:3] == ["red", "steps: 99%", "same"]
    assert lines[3].startswith("end")
    assert [len(line) for line in lines[4:]] == [log.LONGEST_LINE]
    assert all(line.isprintable() for line in lines)


def test_a_log_is_capped_and_goes_on(folder: Path) -> None:
    log.cap(folder)
    with open(folder / "log.txt", "ab", buffering=0) as job:
        job.write(b"a" * 900 + b"\nlast\n")
        log.cap(folder, 500)
        assert (folder / "log.txt").stat().st_size == 0
        assert (folder / "log.1.txt").stat().st_size == 500
        assert log.tail(folder)[-1] == "last"
        job.write(b"on it goes\n")
    assert log.tail(folder) == ["on it goes"]
    log.cap(folder, 500)
    assert (folder / "log.txt").read_bytes() == b"on it goes\n"


# --- how far ------------------------------------------------------------------------------------------------------------------------------------------


def test_progress_and_a_curve_that_goes_on_after_a_kill() -> None:
    progress = Progress()
    progress.add([{"event": "start", "step": 0, "steps": 100}, {"event": "later", "step": "x"}])
    assert (progress.seconds, progress.left, progress.curve()) == (None, None, [])
    progress.add({"event": "step", "step": n, "loss": n / 2, "loss_x": 1, "lr": 0.1, "seconds": 50.0 if n == 4 else 2.0, "memory": 5} for n in range(1, 9))
    assert (progress.seconds, progress.left) == (2.0, 92 * 2.0)
    progress.add([{"event": "save-failed", "step": 8, "why": "full"}])
    assert progress.problem == "full"
    progress.add([{"event": "resume", "step": 5, "steps": 100}])
    assert (progress.step, progress.problem) == (5, "")
    progress.add({"event": "step", "step": n, "loss": None if n == 7 else -n, "lr": 0.1, "seconds": 1.0} for n in range(6, 10))
    assert progress.curve() == [(1, 0.5), (2, 1.0), (3, 1.5), (4, 2.0), (5, 2.5), (6, -6.0), (8, -8.0), (9, -9.0)]
    assert progress.losses == {"loss": -9.0}
    progress.add([{"event": "sample", "files": ["a.png", 3]}, {"event": "sample", "file": "b.png", "shows": "it"}, {"event": "done", "step": 100}])
    assert (progress.ended, progress.samples, progress.left, progress.memory) == ("done", ["a.png", "b.png"], 0, 5)
    assert progress.sample_shows == "it"


def test_thinning_keeps_peaks_and_order() -> None:
    points = [(step, float(step % 7)) for step in range(10_000)]
    points[4321] = (4321, 1e6)
    points[77] = (77, -1e6)
    kept = thinned(points, 100)
    assert len(kept) <= 100
    assert kept == sorted(kept)
    assert {(4321, 1e6), (77, -1e6)} <= set(kept)
    assert thinned(points[:99], 100) == points[:99]


# --- results ------------------------------------------------------------------------------------------------------------------------------------------


def test_a_result_moves_with_its_picture_and_never_over_another(tmp_path: Path) -> None:
    target = tmp_path / "models" / "Lora"
    for number, wanted in enumerate(("girl", "girl-2", "girl-3"), 1):
        (tmp_path / "girl.safetensors").write_bytes(b"%d" % number)
        (tmp_path / "sample.png").write_bytes(b"png")
        placed = results.move_in(tmp_path / "girl.safetensors", target, [tmp_path], thumbnail=tmp_path / "sample.png")
        assert placed == target / f"{wanted}.safetensors"
        assert placed.read_bytes() == b"%d" % number
        assert (target / f"{wanted}.preview.png").read_bytes() == b"png"
        assert not (tmp_path / "girl.safetensors").exists()
    (tmp_path / "girl.safetensors").write_bytes(b"new")
    assert results.move_in(tmp_path / "girl.safetensors", target, [tmp_path], replace=True).read_bytes() == b"new"
    assert len(os.listdir(target)) == 6
    for wanted in ("plain", "plain-2"):
        (tmp_path / "plain.pt").write_bytes(wanted.encode())
        assert results.move_in(tmp_path / "plain.pt", target, [tmp_path]) == target / f"{wanted}.pt"
    assert (target / "plain.pt").read_bytes() == b"plain"


def test_a_result_on_a_full_disk_or_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "a.pt"
    source.write_bytes(b"x" * 5000)
    (tmp_path / "a.png").write_bytes(b"png")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(CannotWrite, match="still in"):
            results.move_in(source, tmp_path / "t", [tmp_path], thumbnail=tmp_path / "a.png")
    assert (source.exists(), os.listdir(tmp_path / "t")) == (True, [])
    monkeypatch.setattr(os, "link", full)
    (tmp_path / "t" / "a.pt").write_bytes(b"other")
    assert results.move_in(source, tmp_path / "t", [tmp_path]) == tmp_path / "t" / "a-2.pt"
    assert (tmp_path / "t" / "a.pt").read_bytes() == b"other"


def test_results_stay_in_their_roots(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "a.pt").write_bytes(b"x")
    (outside / "b.pt").write_bytes(b"x")
    (root / "link.pt").symlink_to(outside / "b.pt")
    (root / "out").symlink_to(outside)
    wrong: list[tuple[Path, Path, dict[str, Any]]] = [
        (root / "a.pt", outside, {}),
        (root / "a.pt", root / "out", {}),
        (root / "a.pt", root / ".." / "outside", {}),
        (root / "link.pt", root, {}),
        (outside / "b.pt", root, {}),
        (root / "a.pt", root, {"name": "../b"}),
        (root / "a.pt", root, {"name": "-x"}),
        (root / "a.pt", root, {"name": ".x"}),
        (root / "a.pt", root, {"thumbnail": outside / "b.pt"}),
        (root / "a.pt", root, {"ending": ".html"}),
        (root / "gone.pt", root, {}),
        (root, root, {}),
    ]
    for source, target, more in wrong:
        with pytest.raises(BadSettings):
            results.move_in(source, target, [root], **more)
    assert sorted(os.listdir(outside)) == ["b.pt"]
    assert sorted(os.listdir(root)) == ["a.pt", "link.pt", "out"]


# --- the checkpoint's swap ----------------------------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Nobody handles it, as nobody handles SIGKILL."""


def saved(folder: Path, step: int) -> None:
    fresh = swap.begin(folder)
    for name in ("model.bin", "optimizer.bin"):
        (fresh / name).write_text(str(step), encoding="utf-8")
    swap.commit(folder, step)


def test_a_kill_before_any_call_to_the_system_leaves_a_whole_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice in a row, at every pair of moments: what the second start finds may already be what a kill has left."""
    left = [10**9]

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **more: Any) -> Any:
            if left[0] <= 0:
                raise Killed
            left[0] -= 1
            return original(*given, **more)

        return call

    monkeypatch.setattr(os, "fsync", lambda _: None)  # a kill loses nothing that was written; only a power cut does
    for module, name in ((os, "replace"), (os, "fsync"), (os, "unlink"), (os, "rmdir"), (os, "open"), (shutil, "rmtree"), (Path, "mkdir")):
        monkeypatch.setattr(module, name, counted(getattr(module, name)))
    seen: set[tuple[int, int]] = set()
    for first in range(45):
        for second in range(0, 45, 4):
            folder = tmp_path / f"{first}-{second}"
            left[0] = 10**9
            saved(folder, 1)
            for moment in (first, second):
                before = _whole(folder)
                left[0] = moment
                try:
                    swap.settle(folder)
                    saved(folder, before + 1)
                except Killed:
                    pass
                assert _whole(folder) in (before, before + 1)
            seen.add((first, _whole(folder)))
    assert {step for _, step in seen} == {1, 2, 3}  # some were killed before anything was done, some not at all


def _whole(folder: Path) -> int:
    """The step of the newest checkpoint, which holds it in all its files."""
    newest = swap.newest(folder)
    assert newest is not None
    step = swap.step_of(newest)
    assert [(newest / name).read_text(encoding="utf-8") for name in ("model.bin", "optimizer.bin")] == [str(step)] * 2
    return step


# --- locks, processes ---------------------------------------------------------------------------------------------------------------------------------


def test_one_holds_a_lock(tmp_path: Path) -> None:
    with held(tmp_path / "lock", 0) as first, held(tmp_path / "lock", 0.1) as second:
        assert (first, second) == (True, False)
    with held(tmp_path / "lock", 0) as third:
        assert third


def test_a_process_is_told_by_its_birth_too() -> None:
    me = Identity.of(os.getpid())
    assert me is not None
    assert me.alive()
    assert not replace(me, born=me.born - 1).alive()
    assert not replace(me, boot="another").alive()
    assert Identity.of(2**22 + 1) is None


def test_the_asks_are_those_that_are_documented() -> None:
    assert asks.ASKS == ("stop", "pause", "save", "sample")
    assert set(asks.ENDING) < set(asks.ASKS)
