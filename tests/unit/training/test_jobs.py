"""Jobs as processes: queued, found again, stopped, killed, resumed; scripts that behave badly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from lib_refonly.errors import BadSettings, CannotWrite
from lib_refonly.training.jobs import asks, events, house, log, process, record
from lib_refonly.training.jobs.ending import ended
from lib_refonly.training.jobs.house import JobHouse
from lib_refonly.training.jobs.ledger import Ledger
from lib_refonly.training.jobs.process import Identity, alive
from lib_refonly.training.jobs.record import Job
from lib_refonly.training.jobs.worker import Worker
from tests.unit.test_layers import ROOT
from tests.unit.training.waiting import wait_for

POSIX = pytest.mark.skipif(os.name == "nt", reason="signals are POSIX'")
AT_REST = ("paused", "done", "failed", "lost")

TRAINER = f"""
import os, sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from lib_refonly.training.jobs import events
from lib_refonly.training.jobs.asks import Asks
folder = Path(os.environ["REFONLY_JOB"])
mark = folder / "saved"
step = int(mark.read_text()) if mark.exists() else 0
def tell(event, **more): events.append(folder / "events.jsonl", {{"event": event, "step": step, "time": time.time(), **more}})
tell("resume" if step else "start", steps=int(sys.argv[1]))
while step < int(sys.argv[1]):
    step += 1
    tell("step", loss=1 / step, seconds=0.01)
    asked = Asks(folder).take_all()
    if asked:
        mark.write_text(str(step))
        tell("save")
    if asked & {{"stop", "pause"}}:
        tell("stopped", why="pause" if "pause" in asked else "stop")
        sys.exit()
    time.sleep(0.01)
(folder / "model.pt").write_text("x")
tell("result", file="model.pt")
tell("result", file="../../etc/passwd")
tell("done")
"""
"""A trainer as it should be, without torch."""
CRASHES = "import sys\nprint('step 1', flush=True)\nraise RuntimeError('CUDA out of memory. Tried to allocate 2.00 GiB')"
HANGS = "import time\nprint('here I am', flush=True)\ntime.sleep(600)"
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
subprocess.Popen([sys.executable, "-I", "-S", "-c", code], start_new_session=True)
time.sleep(600)
"""
"""Hears nothing, and has a child that does not either, in a session of its own."""
GARBAGE = "import os, sys\nwhile True: sys.stdout.buffer.write(os.urandom(50_000) + bytes(range(256)) + b'\\r\\x1b[31m\\n'); sys.stdout.flush()"
FULL = "raise OSError(28, 'No space left on device', '/models/last.safetensors')"
QUICK = "print('well')"


def python(script: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", script, *arguments]


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[JobHouse]:
    made = JobHouse(tmp_path / "jobs")
    yield made
    worker = Ledger(made.folder).worker()
    if worker is not None:
        psutil.Process(worker.pid).kill()
    for folder in made.folder.iterdir() if made.folder.exists() else ():
        process.clear_away(folder)


@pytest.fixture
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs wait until the test works itself."""
    monkeypatch.setattr(JobHouse, "_see_to_a_worker", lambda _: None)


def rests(jobs: JobHouse, job: Job) -> Job:
    wait_for(lambda: jobs.get(job.id).state in AT_REST)
    return jobs.get(job.id)


def runs(jobs: JobHouse, job: Job, steps: int = 1) -> Job:
    """Until so many steps are done."""
    wait_for(lambda: jobs.progress(job.id).step >= steps and jobs.get(job.id).state == "running")
    return jobs.get(job.id)


# --- the usual course ---------------------------------------------------------------------------------------------------------------------------------


def test_jobs_are_done_one_after_the_other(jobs: JobHouse) -> None:
    made = [jobs.submit(f"No. {number}", "fake", python(TRAINER, "20")) for number in range(3)]
    assert len({job.id for job in made}) == 3
    done = [rests(jobs, job) for job in made]
    assert [job.state for job in done] == ["done"] * 3
    assert [job.id for job in jobs.list().jobs] == [job.id for job in made]
    for before, after in zip(done, done[1:], strict=False):
        assert before.ended <= after.begun
    assert (done[0].exit_code, done[0].results, done[0].title) == (0, ("model.pt",), "No. 0")
    progress = jobs.progress(done[0].id)
    assert (progress.step, progress.steps, progress.ended, len(progress.curve())) == (20, 20, "done", 20)
    wait_for(lambda: Ledger(jobs.folder).worker() is None)


def test_stop_ends_it_for_good_and_pause_for_now(jobs: JobHouse) -> None:
    job = jobs.submit("One", "fake", python(TRAINER, "100000"))
    runs(jobs, job)
    assert jobs.ask(job.id, "save").state == "running"
    wait_for(lambda: jobs.progress(job.id).saved is not None)
    assert jobs.ask(job.id, "pause").state in ("stopping", "paused")
    paused = rests(jobs, job)
    assert (paused.state, "as asked" in paused.explanation) == ("paused", True)
    at = jobs.progress(job.id).step
    assert jobs.resume(job.id).state == "waiting"
    runs(jobs, job, at + 1)
    jobs.ask(job.id, "stop")
    stopped = rests(jobs, job)
    assert (stopped.state, stopped.exit_code) == ("done", 0)
    assert "as asked" in stopped.explanation
    steps = [step for step, _ in jobs.progress(job.id).curve(most=10**9)]
    assert steps == list(range(1, steps[-1] + 1))


@pytest.mark.parametrize(
    ("asked", "told", "code", "forced", "state"),
    [
        ("", [{"event": "done"}], 0, False, "done"),
        ("", [{"event": "done"}], -11, False, "done"),  # all was saved; it fell over its own feet on the way out
        ("pause", [{"event": "done"}], None, False, "done"),
        ("pause", [{"event": "stopped", "why": "pause"}], None, False, "paused"),
        ("stop", [{"event": "stopped", "why": "pause"}], 0, False, "done"),  # asked to pause, and then to stop
        ("stop", [{"event": "stopped", "why": "signal"}], 0, True, "done"),  # heard SIGTERM only, and saved
        ("", [{"event": "stopped", "why": "minutes"}], 0, False, "paused"),
        ("", [{"event": "stopped", "why": "stop"}], 0, False, "done"),
        ("", [{"event": "done"}, {"event": "start"}], None, False, "lost"),
        ("", [], None, False, "lost"),
        ("", [], -9, False, "lost"),
        ("", [], 0, False, "done"),
        ("pause", [], 0, False, "paused"),
        ("stop", [], 0, True, "failed"),
        ("stop", [], -15, True, "failed"),
        ("", [], 1, False, "failed"),
    ],
)
def test_how_it_ended(tmp_path: Path, asked: str, told: list[events.Event], code: int | None, forced: bool, state: str) -> None:
    for event in told:
        events.append(tmp_path / events.FILE, event)
    job = ended(Job(tmp_path.name, "One", "fake", ("a",), str(tmp_path), 1, 1, asked=asked, state="running"), tmp_path, code, forced)
    assert job.state == state
    assert job.explanation or state == "done"


def test_what_waits_may_be_taken_out_of_the_queue(jobs: JobHouse, no_worker: None) -> None:
    first, second = (jobs.submit(name, "fake", python(QUICK)) for name in "ab")
    assert [job.id for job in jobs.waiting()] == [first.id, second.id]
    assert jobs.ask(first.id, "stop").state == "paused"
    assert [job.id for job in jobs.waiting()] == [second.id]
    jobs.resume(first.id)
    assert [job.id for job in jobs.waiting()] == [second.id, first.id]
    assert [job.id for job in jobs.list().jobs] == [first.id, second.id]
    Worker(jobs.folder).run()
    assert [job.state for job in jobs.list().jobs] == ["done", "done"]


def test_only_what_fits_the_state_is_done(jobs: JobHouse, no_worker: None) -> None:
    job = jobs.submit("One", "fake", python(QUICK))
    for what in ("save", "sample"):
        with pytest.raises(BadSettings, match="is waiting"):
            jobs.ask(job.id, what)
    with pytest.raises(BadSettings, match="nothing to go on with"):
        jobs.resume(job.id)
    Worker(jobs.folder).run()
    with pytest.raises(BadSettings, match="is done"):
        jobs.ask(job.id, "stop")
    with pytest.raises(BadSettings, match="nothing to go on with"):
        jobs.resume(job.id)
    jobs.remove(job.id)
    with pytest.raises(BadSettings, match="no job"):
        jobs.get(job.id)
    assert jobs.list() == ((), {})


def test_what_can_be_no_job_leaves_no_folder(jobs: JobHouse, no_worker: None) -> None:
    for argv in ([], [""], ["a\0b"], [1]):
        with pytest.raises(BadSettings, match="argv"):
            jobs.submit("One", "fake", argv)  # type: ignore[arg-type]
    with pytest.raises(BadSettings, match="env"):
        jobs.submit("One", "fake", ["a"], env={"A=B": "x"})
    assert not [path for path in jobs.folder.iterdir() if not path.name.startswith(".")]


def test_nothing_goes_through_a_shell_and_the_environment_is_what_was_said(jobs: JobHouse, no_worker: None, tmp_path: Path) -> None:
    script = "import os, sys; print(sys.argv[1]); print(os.environ['MINE'], os.environ['HF_HUB_OFFLINE'], os.getcwd())"
    job = jobs.submit("$(touch x)\n`y`", "fake", python(script, "; touch hacked $HOME"), env={"MINE": "a b"}, cwd=tmp_path)
    Worker(jobs.folder).run()
    assert jobs.get(job.id).title == "$(touch x) `y`"
    assert jobs.log(job.id) == ["; touch hacked $HOME", f"a b 1 {os.path.realpath(tmp_path)}"]


def test_what_was_asked_of_an_earlier_run_is_forgotten(jobs: JobHouse, no_worker: None) -> None:
    job = jobs.submit("One", "fake", python(TRAINER, "5"))
    asks.ask(jobs.folder_of(job.id), "stop")  # asked, and then killed before it heard
    Worker(jobs.folder).run()
    assert (jobs.get(job.id).state, jobs.progress(job.id).step) == ("done", 5)


def test_a_program_that_is_not_there(jobs: JobHouse, no_worker: None) -> None:
    job = jobs.submit("One", "fake", ["/no/such/program"])
    Worker(jobs.folder).run()
    failed = jobs.get(job.id)
    assert (failed.state, "/no/such/program" in failed.explanation) == ("failed", True)


# --- scripts that behave badly ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (CRASHES, "The graphics card's memory is full"),
        (FULL, "The disk is full"),
        ("import no_such_thing_at_all", "no_such_thing_at_all is missing"),
        ("import sys; sys.exit(3)", "exit code 3"),
        ("import sys; sys.stdout.buffer.write(bytes(range(256)) * 999); raise ValueError('the end')", "ValueError: the end"),
    ],
)
def test_a_crash_is_explained_and_the_queue_goes_on(jobs: JobHouse, no_worker: None, script: str, words: str) -> None:
    job, after = jobs.submit("Bad", "fake", python(script)), jobs.submit("Good", "fake", python(QUICK))
    Worker(jobs.folder).run()
    assert (jobs.get(job.id).state, jobs.get(after.id).state) == ("failed", "done")
    assert words in jobs.get(job.id).explanation
    assert jobs.resume(job.id).state == "waiting"


def test_what_hangs_is_ended_after_its_grace(jobs: JobHouse) -> None:
    job = jobs.submit("Hangs", "fake", python(HANGS), grace=0.3)
    wait_for(lambda: jobs.log(job.id) == ["here I am"])
    begun = time.monotonic()
    jobs.ask(job.id, "stop")
    assert jobs.get(job.id).state == "stopping"
    failed = rests(jobs, job)
    assert 0.3 <= time.monotonic() - begun < 30
    assert failed.state == "failed"
    assert "did not stop within 0.3 s" in failed.explanation


@POSIX
def test_what_hears_nothing_is_killed_with_all_that_it_started(jobs: JobHouse, no_worker: None) -> None:
    job = jobs.submit("Stubborn", "fake", python(STUBBORN), grace=0.1)
    worker = threading.Thread(target=Worker(jobs.folder, patience=0.3).run)
    worker.start()
    wait_for(lambda: jobs.log(job.id) == ["ready"])
    folder = jobs.folder_of(job.id)
    members = process.family(jobs.get(job.id).process, folder)
    assert len(members) == 2
    jobs.ask(job.id, "pause")
    worker.join(60)
    assert jobs.get(job.id).state == "failed"
    assert process.family(None, folder) == []
    assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in members)


def test_endless_garbage_fills_no_disk(jobs: JobHouse, no_worker: None, monkeypatch: pytest.MonkeyPatch) -> None:
    most = 1 << 20
    original, sizes = log.cap, []

    def watched(folder: Path) -> None:
        original(folder, most)
        sizes.append(sum(path.stat().st_size for path in folder.glob("log*.txt")))

    monkeypatch.setattr(log, "cap", watched)
    job = jobs.submit("Garbage", "fake", python(GARBAGE), grace=0.1)
    worker = threading.Thread(target=Worker(jobs.folder).run)
    worker.start()
    wait_for(lambda: (jobs.folder_of(job.id) / log.EARLIER).exists() and len(sizes) > 5)
    jobs.ask(job.id, "stop")
    worker.join(60)
    assert jobs.get(job.id).state == "failed"
    assert max(sizes[-3:]) < 200 * most  # what comes between two looks is on top
    assert sizes[-1] <= 2 * most
    assert all(line.isprintable() for line in jobs.log(job.id))


def test_events_of_garbage_do_not_matter(jobs: JobHouse, no_worker: None) -> None:
    script = "import os; open(os.environ['REFONLY_JOB'] + '/events.jsonl', 'wb').write(os.urandom(100_000) + b'\\n{\"event\": \"done\", \"step\": \"x\"}\\n[')"
    job = jobs.submit("Garbage", "fake", python(script))
    Worker(jobs.folder).run()
    assert (jobs.get(job.id).state, jobs.progress(job.id).ended) == ("done", "done")


# --- what outlives whom -------------------------------------------------------------------------------------------------------------------------------


def test_a_restart_finds_the_job_again_and_can_stop_it(jobs: JobHouse) -> None:
    """The program that queued it is a process of its own, which ends."""
    code = (
        "import sys; from pathlib import Path; from lib_refonly.training.jobs.house import JobHouse\n"
        "print(JobHouse(Path(sys.argv[1])).submit('One', 'fake', [sys.executable, '-c', sys.argv[2], '1000000']).id)"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(jobs.folder), TRAINER], capture_output=True, text=True, cwd=ROOT, timeout=60, check=True)
    name = ran.stdout.strip()
    anew = JobHouse(jobs.folder)
    job = runs(anew, anew.get(name), 3)
    assert alive(job.process)
    assert anew.ask(name, "stop").state in ("stopping", "done")
    assert rests(anew, job).state == "done"


def test_of_two_at_once_one_starts_the_worker(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from lib_refonly.training.jobs.house import JobHouse\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "for number in range(3): JobHouse(Path(sys.argv[1])).submit('One', 'fake', [sys.executable, '-I', '-S', '-c', sys.argv[2], sys.argv[3]])\n"
    )
    count = "import os, sys, time\nwith open(sys.argv[1], 'a') as f: print('begin', os.getppid(), file=f, flush=True); time.sleep(0.02); print('end', file=f)"
    command = [sys.executable, "-c", code, str(tmp_path / "jobs"), count, str(tmp_path / "told.txt")]
    both = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)]
    for one in both:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in both:
        one.communicate("go\n", timeout=60)
        assert one.returncode == 0
    jobs = JobHouse(tmp_path / "jobs")
    wait_for(lambda: [job.state for job in jobs.list().jobs] == ["done"] * 6)
    wait_for(lambda: Ledger(jobs.folder).worker() is None)
    lines = (tmp_path / "told.txt").read_text().split("\n")[:-1]
    assert [line.split()[0] for line in lines] == ["begin", "end"] * 6  # never two at a time
    assert len(lines) == 12


@POSIX
def test_a_second_worker_leaves_at_once_and_the_first_goes_on(jobs: JobHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    job = jobs.submit("One", "fake", python(TRAINER, "1000000"))
    runs(jobs, job)
    first = Ledger(jobs.folder).worker()
    monkeypatch.setattr("lib_refonly.training.jobs.worker._PATIENCE", 0.1)
    second = threading.Thread(target=Worker(jobs.folder).run, daemon=True)
    second.start()
    second.join(30)
    assert not second.is_alive()
    assert Ledger(jobs.folder).worker() == first
    jobs.ask(job.id, "stop")
    assert rests(jobs, job).state == "done"


@POSIX
def test_a_job_outlives_its_worker_and_the_next_one_looks_after_it(jobs: JobHouse) -> None:
    job = jobs.submit("One", "fake", python(TRAINER, "1000000"))
    waits = jobs.submit("Two", "fake", python(QUICK))
    runs(jobs, job)
    worker = Ledger(jobs.folder).worker()
    assert worker is not None
    os.kill(worker.pid, signal.SIGKILL)
    wait_for(lambda: Ledger(jobs.folder).worker() is None)
    at = jobs.progress(job.id).step
    runs(jobs, job, at + 5)
    assert jobs.get(waits.id).state == "waiting"
    jobs.ask(job.id, "pause")  # starts the next worker
    assert rests(jobs, job).state == "paused"
    assert rests(jobs, waits).state == "done"


@POSIX
def test_without_any_worker_the_truth_is_still_found(jobs: JobHouse) -> None:
    made = [jobs.submit(name, "fake", python(TRAINER, steps)) for name, steps in (("Killed", "1000000"), ("Ends", "40"))]
    job = runs(jobs, made[0])
    worker = Ledger(jobs.folder).worker()
    assert worker is not None
    assert job.process is not None
    os.kill(worker.pid, signal.SIGKILL)
    os.kill(job.process.pid, signal.SIGKILL)
    lost = rests(jobs, job)
    assert (lost.state, lost.exit_code) == ("lost", None)
    assert "without having said how it ended" in lost.explanation
    assert record.load(jobs.folder_of(job.id)).state == "running"  # looking changes nothing
    jobs.wake()
    assert rests(jobs, made[1]).state == "done"
    assert record.load(jobs.folder_of(job.id)).state == "lost"
    jobs.resume(job.id)
    runs(jobs, job)
    jobs.ask(job.id, "stop")
    assert rests(jobs, job).state == "done"


@POSIX
def test_an_orphan_that_ended_well_is_done(jobs: JobHouse) -> None:
    job = jobs.submit("One", "fake", python(TRAINER, "150"))
    running = runs(jobs, job)
    worker = Ledger(jobs.folder).worker()
    assert worker is not None
    os.kill(worker.pid, signal.SIGKILL)
    wait_for(lambda: not alive(running.process))
    assert (jobs.get(job.id).state, jobs.get(job.id).results) == ("done", ("model.pt",))


@POSIX
def test_a_kill_from_outside_is_a_loss(jobs: JobHouse) -> None:
    job = jobs.submit("One", "fake", python(TRAINER, "1000000"))
    running = runs(jobs, job)
    assert running.process is not None
    os.kill(running.process.pid, signal.SIGKILL)
    lost = rests(jobs, job)
    assert (lost.state, lost.exit_code) == ("lost", -9)
    assert "memory (RAM)" in lost.explanation


@POSIX
def test_what_an_earlier_run_has_left_is_ended_before_the_next(jobs: JobHouse, no_worker: None, tmp_path: Path) -> None:
    launcher = "import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-I', '-S', '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
    job = jobs.submit("One", "fake", python(launcher + "sys.exit(1)"))
    Worker(jobs.folder).run()
    folder = jobs.folder_of(job.id)
    (left,) = process.family(None, folder)
    jobs.resume(job.id, python(QUICK))
    Worker(jobs.folder).run()
    assert jobs.get(job.id).state == "done"
    assert not left.is_running()


def test_a_number_that_another_process_has_now_is_not_the_job(jobs: JobHouse, no_worker: None) -> None:
    job = jobs.submit("One", "fake", python(QUICK))
    me = Identity.of(os.getpid())
    assert me is not None
    record.save(replace(job, state="running", process=me), jobs.folder_of(job.id))
    assert jobs.get(job.id).state == "running"
    record.save(replace(job, state="running", process=replace(me, born=me.born - 5)), jobs.folder_of(job.id))
    assert jobs.get(job.id).state == "lost"


# --- folders that are not as they should be -----------------------------------------------------------------------------------------------------------


def test_one_damaged_record_hides_no_other(jobs: JobHouse, no_worker: None, tmp_path: Path) -> None:
    good, bad = (jobs.submit(name, "fake", python(QUICK)) for name in ("good", "bad"))
    (jobs.folder_of(bad.id) / "job.json").write_text("{", encoding="utf-8")
    (jobs.folder / "a run without a queue").mkdir()
    (jobs.folder / "tiny-vae").mkdir()
    found, problems = jobs.list()
    assert [job.id for job in found] == [good.id]
    assert list(problems) == [bad.id]
    for call in (jobs.get, jobs.resume, jobs.remove, lambda name: jobs.ask(name, "stop")):
        with pytest.raises(BadSettings, match="damaged"):
            call(bad.id)
    Worker(jobs.folder).run()
    assert jobs.get(good.id).state == "done"
    assert (jobs.folder_of(bad.id) / "job.json").read_text(encoding="utf-8") == "{"


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links_out_of_the_folder_are_not_followed(jobs: JobHouse, no_worker: None, tmp_path: Path) -> None:
    job = jobs.submit("One", "fake", python(QUICK))
    outside = tmp_path / "outside"
    jobs.folder_of(job.id).rename(outside)
    (jobs.folder / job.id).symlink_to(outside)
    assert jobs.list() == ((), {})
    for call in (jobs.get, jobs.remove, jobs.resume, jobs.folder_of):
        with pytest.raises(BadSettings, match="no job"):
            call(job.id)
    mine = jobs.submit("Two", "fake", python(QUICK))
    secret = tmp_path / "secret.txt"
    secret.write_text("secret\n", encoding="utf-8")
    folder = jobs.folder_of(mine.id)
    (folder / "log.txt").symlink_to(secret)
    (folder / "events.jsonl").symlink_to(secret)
    (folder / "more").symlink_to(outside)
    assert jobs.log(mine.id) == []
    Worker(jobs.folder).run()
    assert jobs.get(mine.id).state == "failed"
    assert secret.read_text(encoding="utf-8") == "secret\n"
    jobs.remove(mine.id)
    assert (outside / "job.json").exists()


def test_a_removal_while_it_runs_is_refused(jobs: JobHouse) -> None:
    job = jobs.submit("One", "fake", python(TRAINER, "1000000"))
    runs(jobs, job)
    with pytest.raises(BadSettings, match="stop it first"):
        jobs.remove(job.id)
    jobs.ask(job.id, "stop")
    rests(jobs, job)
    jobs.remove(job.id)
    assert not (jobs.folder / job.id).exists()


@POSIX
def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    broken = JobHouse(tmp_path / "file" / "jobs")
    assert broken.list() == ((), {})
    with pytest.raises(CannotWrite):
        broken.submit("One", "fake", python(QUICK))


def test_a_full_disk_at_the_end_is_waited_for(jobs: JobHouse, no_worker: None, monkeypatch: pytest.MonkeyPatch) -> None:
    job = jobs.submit("One", "fake", python(QUICK))
    original, refused = record.save, []

    def full(one: Job, folder: Path) -> None:
        if one.state == "done" and len(refused) < 2:
            refused.append(one)
            raise CannotWrite("The disk is full.")
        original(one, folder)

    monkeypatch.setattr(record, "save", full)
    monkeypatch.setattr("lib_refonly.training.jobs.worker._SECONDS_BETWEEN", 0.01)
    Worker(jobs.folder).run()
    assert (len(refused), jobs.get(job.id).state) == (2, "done")


def test_the_worker_is_found_from_wherever_it_is_started() -> None:
    assert (house._ROOT / "lib_refonly" / "training" / "jobs" / "worker.py").is_file()
    assert events.FILE == "events.jsonl"
