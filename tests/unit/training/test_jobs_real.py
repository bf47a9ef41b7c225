"""A real training as a job: queued by the command line, paused in the middle, gone on with to its end."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from lib_refonly.studio import cli
from lib_refonly.studio.commands import jobs as command
from lib_refonly.training.jobs import process
from lib_refonly.training.jobs.house import JobHouse
from lib_refonly.training.jobs.worker import Worker
from tests.unit.test_layers import ROOT
from tests.unit.training.waiting import wait_for

MAIN = "import sys; from lib_refonly.studio.cli import main; sys.exit(main(sys.argv[1:]))"
CONFIG = """
[run]
kind = "vae"
folder = "not used"
data = "{data}"
[loop]
steps = {steps}
batch = 2
lr = 1e-4
precision = "no"
log_every = 1
save_every = 1000
threads = 1
[vae]
widths = [64, 64]
crop = 16
"""


def test_a_training_is_queued_paused_and_gone_on_with(tmp_path: Path, drawings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "PROGRAM", (sys.executable, "-c", MAIN))  # studio.py would look after its environment first
    monkeypatch.setattr(JobHouse, "_see_to_a_worker", lambda _: None)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    config, house = tmp_path / "mine.toml", JobHouse(tmp_path / "house")
    config.write_text(CONFIG.format(data=drawings.as_posix(), steps=100_000), encoding="utf-8")
    assert cli.main(["jobs", "start", str(config), "--folder", str(house.folder)]) == 0
    (job,) = house.list().jobs
    worker = threading.Thread(target=Worker(house.folder).run, daemon=True)
    worker.start()
    try:
        wait_for(lambda: house.progress(job.id).step >= 2 or house.get(job.id).state == "failed", 120)
        assert house.get(job.id).state == "running", (house.get(job.id).explanation, house.log(job.id))
        assert cli.main(["jobs", "pause", job.id, "--folder", str(house.folder)]) == 0
        worker.join(120)
        assert house.get(job.id).state == "paused", (house.get(job.id).explanation, house.log(job.id))
        at = house.progress(job.id).step
        (house.folder / job.id / command.CONFIG).write_text(CONFIG.format(data=drawings.as_posix(), steps=at + 2), encoding="utf-8")
        house.resume(job.id)
        Worker(house.folder).run()
    finally:
        process.clear_away(house.folder / job.id)
    done, progress = house.get(job.id), house.progress(job.id)
    assert (done.state, done.results) == ("done", ("export",)), (done.explanation, house.log(job.id))
    assert (house.folder / job.id / "export" / "vae").is_dir()
    assert [step for step, _ in progress.curve(most=10**6)] == list(range(1, at + 3))
    assert progress.memory is not None
    assert progress.memory > 50e6
