"""The Train page's handlers without a browser: what is asked, what is queued, what is told. Jobs are real, in a house of their own."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from PIL import Image

gr = pytest.importorskip("gradio")

from lib_refonly.errors import BadSettings, PainterError  # noqa: E402
from lib_refonly.onepic.tasks import TASKS as ONEPIC_TASKS  # noqa: E402
from lib_refonly.training.jobs import process  # noqa: E402
from lib_refonly.training.jobs.house import JobHouse  # noqa: E402
from lib_refonly.training.jobs.ledger import Ledger  # noqa: E402
from lib_refonly.training.kohya import config, installed, launch, options, presets  # noqa: E402
from lib_refonly.training.kohya.goals import GOALS  # noqa: E402
from lib_refonly.training.kohya.settings import KohyaSettings  # noqa: E402
from lib_refonly.ui import training_toml  # noqa: E402
from lib_refonly.ui.training_events import TrainingEvents  # noqa: E402
from lib_refonly.ui.training_fields import ADVANCED, BASIC, Chosen, fields_of, smallest  # noqa: E402
from lib_refonly.ui.training_panel import build_training_panel  # noqa: E402
from lib_refonly.ui.training_session import TrainingSession  # noqa: E402
from tests.unit.training.waiting import wait_for  # noqa: E402

FIRST = ["A character", "SD 1.5", "8 GB", False, False]
ROOT = Path(__file__).resolve().parents[3]
TRAINER = f"""
import os, sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from lib_refonly.training.jobs import events
from lib_refonly.training.jobs.asks import Asks
folder = Path(os.environ["REFONLY_JOB"])
for step in range(1, 100_000):
    events.append(folder / "events.jsonl", {{"event": "step", "step": step, "steps": 100_000, "loss": 1 / step, "seconds": 0.01}})
    if Asks(folder).take_all():
        events.append(folder / "events.jsonl", {{"event": "sample", "step": step, "file": "../../../etc/passwd"}})
        events.append(folder / "events.jsonl", {{"event": "stopped", "step": step, "why": "pause"}})
        sys.exit()
    time.sleep(0.01)
"""


@pytest.fixture
def house(tmp_path: Path) -> Iterator[JobHouse]:
    made = JobHouse(tmp_path / "jobs")
    yield made
    worker = Ledger(made.folder).worker()
    if worker is not None:
        psutil.Process(worker.pid).kill()
    for folder in made.folder.iterdir() if made.folder.exists() else ():
        process.clear_away(folder)


@pytest.fixture
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JobHouse, "_see_to_a_worker", lambda _: None)


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sd-scripts seems to be installed."""
    for name in ("sd-scripts", "trainers"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("REFONLY_TRAINERS_DIR", str(tmp_path / "trainers"))
    installed.remember(installed.Installed("sd-scripts", str(tmp_path / "sd-scripts"), sys.executable, "v0", "0", "2", str(options.RECORDED)))
    monkeypatch.setattr(launch, "argv", lambda *_: [sys.executable, "-c", TRAINER])


@pytest.fixture
def girl(tmp_path: Path) -> Path:
    folder = tmp_path / "girl"
    folder.mkdir()
    for name in "ab":
        Image.linear_gradient("L").resize((300, 300)).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def panel() -> Any:
    with gr.Blocks():
        return build_training_panel()


@pytest.fixture
def page(panel: Any, house: JobHouse) -> TrainingEvents:
    return TrainingEvents(panel, house)


def form(page: TrainingEvents, **changed: Any) -> list[Any]:
    """What the form holds after it was opened, but for what was changed."""
    goal = page.panel.goal
    return [changed.get(name, goal.form[name].value) for name in goal.form.fields]


def filled(page: TrainingEvents, **changed: Any) -> list[Any]:
    """What Start is given after what is chosen: all three forms."""
    goal = page.panel.goal
    return [*form(page, **changed), *(box.value for box in (*goal.builtin.inputs, *goal.own.inputs))]


def last(updates: Any) -> dict[Any, Any]:
    """What a stream of updates leaves on the page."""
    whole: dict[Any, Any] = {}
    for one in updates:
        whole |= one
    return whole


# --- the form -----------------------------------------------------------------------------------------------------------------------------------------


def test_every_setting_has_its_place() -> None:
    placed = [name for names in (*BASIC, *ADVANCED.values()) for name in names]
    assert sorted(placed) == sorted(KohyaSettings.__dataclass_fields__)


def test_each_field_tells_the_scripts_name(panel: Any) -> None:
    assert all(f"({name})" in panel.goal.form[name].info for name in panel.goal.form.fields)


@pytest.mark.parametrize("task", presets.TASKS)
@pytest.mark.parametrize("family", ["SD 1.5", "SD 2", "SDXL", "FLUX"])
def test_every_task_and_family_is_a_goal_whose_preset_is_accepted(page: TrainingEvents, task: str, family: str) -> None:
    chosen = Chosen.of(presets.TASKS[task], family, "24+ GB", True, False)
    assert chosen.goal in {goal.name for goal in presets.goals_for(task)}
    session = TrainingSession()
    made = page.choose(session, presets.TASKS[task], family, "24+ GB", True, False, *form(page, pretrained_model_name_or_path="/m.safetensors"))
    paths = dict.fromkeys(("clip_l", "t5xxl", "ae"), "/m.safetensors") | {"token_string": "miho"}
    values = [paths.get(name, made[page.panel.goal.form[name]]["value"]) for name in page.panel.goal.form.fields]
    settings = page.panel.goal.form.known(chosen.aim, values)
    assert settings.mixed_precision == "fp16"
    config.config(chosen.aim, settings, Path("out"))
    shown = {name for name in page.panel.goal.form.fields if made[page.panel.goal.form[name]]["visible"]}
    assert shown == fields_of(chosen.aim)


def test_another_goal_keeps_what_the_painter_changed(page: TrainingEvents) -> None:
    session, f = TrainingSession(), page.panel.goal.form
    changed = {"pretrained_model_name_or_path": "/my.safetensors", "network_dim": 64, "max_train_steps": None}
    made = page.choose(session, "A style", "SDXL", "12 GB", False, False, *form(page, **changed))
    assert {name: made[f[name]]["value"] for name in ("pretrained_model_name_or_path", "network_dim", "max_train_steps", "resolution")} == {
        "pretrained_model_name_or_path": "/my.safetensors",
        "network_dim": 64,
        "max_train_steps": 3000,
        "resolution": "1024,1024",
    }
    assert session.preset.network_dim == 32


def test_a_card_that_is_too_small_changes_no_field(page: TrainingEvents) -> None:
    made = page.choose(TrainingSession(), "A character", "FLUX", "6 GB", False, False, *form(page))
    assert "at least 8 GB" in made[page.panel.goal.message]
    assert "value" not in made[page.panel.goal.form["resolution"]]


def test_chosen_modules_and_titles_that_are_none() -> None:
    assert Chosen.of("A style", "SDXL", "8 GB", False, True).goal == "chosen-sdxl"
    assert Chosen.of("A style", "FLUX", "8 GB", False, True).goal == "lora-flux"
    with pytest.raises(BadSettings):
        Chosen.of("x", "SDXL", "8 GB", False, True)
    assert [smallest(one) for one in ("512,768", "1024", "nonsense")] == [256, 512, 256]


def test_settings_survive_their_file(page: TrainingEvents, tmp_path: Path) -> None:
    settings = presets.preset("character", "lora-sdxl", 12)
    changed = {"pretrained_model_name_or_path": "/m.safetensors", "sample_prompts": 'a "girl"\nwith # a hat', "network_dim": 7}
    settings = KohyaSettings(**{**vars(settings), **changed})
    chosen = Chosen("character", "lora-sdxl", 12)
    path = tmp_path / "x.toml"
    path.write_text(training_toml.written(chosen, settings), encoding="utf-8")
    assert config.read_toml(path)["network_dim"] == 7
    read, file = training_toml.read(path, Chosen("style", "lora-sd1", 12))
    assert (read, file.settings, file.left_out) == (chosen, settings, ())
    made = page.load(TrainingSession(), str(path), *FIRST)
    assert made[page.panel.goal.task] == "A character"
    assert made[page.panel.goal.form["network_dim"]]["value"] == 7


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("# refonly: {broken\nnot toml", "no TOML"),
        ('# refonly: {"task": "character", "goal": "../../x"}\nnetwork_dimm = 3', "network_dim"),
        ('wandb_api_key = "x"', "secret"),
        ("network_dim = 'many'", "network_dim"),
    ],
)
def test_files_of_settings_that_are_refused(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(PainterError, match=why):
        training_toml.read(path, Chosen("character", "lora-sd1"))


# --- pictures -----------------------------------------------------------------------------------------------------------------------------------------


def test_edits_of_an_earlier_look_and_of_other_files_are_nothing(page: TrainingEvents, girl: Path, tmp_path: Path) -> None:
    session, part = TrainingSession(), page.panel.pictures
    shown = last(page.look(session, "", str(girl), "512,512"))
    assert "2 pictures, 2 without a caption" in shown[part.facts]

    def edits(look: int, **captions: str) -> str:
        return json.dumps({"look": str(look), "captions": {name.replace("_", "."): text for name, text in captions.items()}})

    assert "Saved: a.png" in page.edit(session, edits(session.look, a_png="red"))[part.message]
    nothing = [
        edits(session.look, a_png="red"),
        edits(session.look - 1, a_png="old"),
        json.dumps({"look": str(session.look), "captions": {"../x.png": "x", "a.png": 3}}),
    ]
    for one in (*nothing, "", "{", "[]", "null", '{"captions": 3}'):
        assert list(page.edit(session, one)) == [part.message]
    with pytest.raises(BadSettings, match="not saved"):
        page.edit(TrainingSession(), edits(1, a_png="typed before the studio was started anew"))
    told = last(page.add_word(session, edits(session.look, b_png="blue"), "miho", "512,512"))
    assert "2 captions begin" in told[part.message]
    assert [(girl / f"{name}.txt").read_text() for name in "ab"] == ["miho, red\n", "miho, blue\n"]
    assert not (tmp_path / "x.txt").exists()
    assert deepcopy(session).folder is None


def test_what_can_not_be_looked_at_is_told_and_what_is_shown_stays(page: TrainingEvents, girl: Path) -> None:
    session, part = TrainingSession(), page.panel.pictures
    last(page.look(session, "", str(girl), "512,512"))
    shown = last(page.look(session, "", "somewhere", "512,512"))
    assert "whole path" in shown[part.message]
    assert part.grid not in shown
    assert session.folder is not None
    assert "Look at a folder first" in last(page.add_word(TrainingSession(), "", "miho", "512,512"))[part.message]


def test_canvases(page: TrainingEvents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    light: Any = SimpleNamespace(build=lambda *given: (asked.append(given), (7, ["1 has <no> caption"]))[1])
    monkeypatch.setitem(sys.modules, "lib_refonly.training.panel_files", light)  # the real one imports torch, and has its own tests
    (tmp_path / "set").mkdir()
    made = page.make_canvases(str(tmp_path / "set"), "lines,target", "128,128", str(tmp_path / "out"), ONEPIC_TASKS[0].name, "Mine")
    assert made[page.panel.pictures.folder] == str(tmp_path / "out")
    assert "7 canvases" in made[page.panel.goal.message]
    assert "&lt;no&gt;" in made[page.panel.goal.message]
    ((source, canvases, out),) = asked
    assert (source, out, canvases.panels, canvases.width, canvases.title) == (tmp_path / "set", tmp_path / "out", (("lines", "target"),), 128, "Mine")
    for wrong in ("", "out"):
        with pytest.raises(BadSettings, match="whole path"):
            page.make_canvases(str(tmp_path / "set"), "lines,target", "128,128", wrong, "", "")


# --- jobs ---------------------------------------------------------------------------------------------------------------------------------------------


def start(page: TrainingEvents, session: TrainingSession, folder: str, chosen: Sequence[Any] = FIRST, title: str = "Miho", **changed: Any) -> dict[Any, Any]:
    return page.start(session, "", folder, "miho", title, "", *chosen, *filled(page, **changed))


@pytest.mark.usefixtures("no_worker", "trainer")
def test_a_start_writes_what_the_page_says(page: TrainingEvents, house: JobHouse, girl: Path) -> None:
    session = TrainingSession()
    made = start(page, session, str(girl), pretrained_model_name_or_path="/m.safetensors", network_dim=4)
    (job,) = house.list().jobs
    assert (job.title, job.kind, job.state) == ("Miho", "lora-sd1", "waiting")
    assert "Miho is in the queue" in made[page.panel.jobs.message]
    written = config.read_toml(house.folder_of(job.id) / config.CONFIG)
    assert (written["network_dim"], written["pretrained_model_name_or_path"]) == (4, "/m.safetensors")
    (subset,) = config.read_toml(house.folder_of(job.id) / config.DATASET)["datasets"][0]["subsets"]
    assert (subset["image_dir"], subset["class_tokens"]) == (str(girl), "miho")
    assert made[page.panel.jobs.timer]["active"] is True
    start(page, session, str(girl), ["A word (embedding)", *FIRST[1:]], pretrained_model_name_or_path="/m.safetensors", token_string="miho", network_dim=64)
    assert house.list().jobs[1].kind == "embedding-sd1"  # what only other goals have does not disturb it


@pytest.mark.usefixtures("no_worker", "trainer")
def test_starts_that_are_refused_leave_no_job(page: TrainingEvents, house: JobHouse, girl: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused = [
        ("", {}, "whole path"),
        (str(tmp_path / "empty"), {}, "no pictures"),
        (str(girl), {}, "needs a checkpoint"),
        (str(girl), {"network_dim": 100_000}, "Rank"),
        (str(girl), {"output_name": "../x", "pretrained_model_name_or_path": "/m"}, "file's name"),
        (str(girl), {"pretrained_model_name_or_path": "/m.ckpt"}, "ckpt"),
    ]
    for folder, changed, why in refused:
        with pytest.raises(PainterError, match=why):
            start(page, TrainingSession(), folder, **changed)
    with pytest.raises(BadSettings, match="canvases"):
        start(page, TrainingSession(), str(girl), ["A ONE-PIC task", *FIRST[1:]], pretrained_model_name_or_path="/m.safetensors")
    with pytest.raises(BadSettings, match="at least 8 GB"):
        start(page, TrainingSession(), str(girl), ["A character", "FLUX", "6 GB", False, False])
    assert house.list().jobs == ()


@pytest.mark.usefixtures("no_worker")
def test_recipes(page: TrainingEvents, house: JobHouse, tmp_path: Path) -> None:
    recipe = ["A recipe of this project", *FIRST[1:]]
    path = ROOT / "lib_refonly" / "training" / "recipes" / "tiny-vae.toml"
    page.start(TrainingSession(), "", "", "", "", str(path), *recipe, *filled(page))
    (job,) = house.list().jobs
    assert (job.title, job.kind) == ("tiny-vae", "vae")
    assert job.argv[2:4] == ("train", str(house.folder_of(job.id) / "config.toml"))
    assert (house.folder_of(job.id) / "config.toml").read_bytes() == path.read_bytes()
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe")
    for wrong in ("", "tiny-vae.toml", str(tmp_path), str(tmp_path / "none.toml"), str(tmp_path / "bad.toml")):
        with pytest.raises(PainterError):
            page.start(TrainingSession(), "", "", "", "", wrong, *recipe, *filled(page))
    assert len(house.list().jobs) == 1


def test_without_the_trainer(page: TrainingEvents, girl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFONLY_TRAINERS_DIR", str(tmp_path / "none"))
    with pytest.raises(BadSettings, match="trainers install sd-scripts"):
        start(page, TrainingSession(), str(girl), pretrained_model_name_or_path="/m.safetensors")


@pytest.mark.usefixtures("trainer")
def test_a_job_is_watched_paused_resumed_and_removed(page: TrainingEvents, house: JobHouse, girl: Path) -> None:
    session, jobs, j = TrainingSession(), page.jobs, page.panel.jobs
    start(page, session, str(girl), pretrained_model_name_or_path="/m.safetensors")
    (job,) = house.list().jobs
    wait_for(lambda: house.progress(job.id).step > 2)
    shown = jobs.open(TrainingSession(), "")
    assert "<polyline" in shown[j.card]
    assert shown[j.job]["value"] == job.id
    assert (shown[j.asks["pause"]]["interactive"], shown[j.resume]["interactive"], shown[j.remove]["interactive"]) == (True, False, False)
    assert "asked to save and pause" in jobs.ask("pause", session, job.id)[j.said]
    wait_for(lambda: house.get(job.id).state == "paused")
    shown = jobs.refresh(session, job.id)
    assert (shown[j.timer]["active"], shown[j.resume]["interactive"]) == (False, True)
    assert "passwd" not in shown[j.card]
    assert list(jobs.refresh(session, job.id)) == [j.said], "what is the same is not sent again"
    step = session.progress(house, job.id).step
    jobs.resume(session, job.id)
    wait_for(lambda: house.get(job.id).state == "running" and session.progress(house, job.id).step != step)
    jobs.ask("stop", session, job.id)
    wait_for(lambda: house.get(job.id).state == "done")
    assert "Press again" in jobs.remove(session, job.id)[j.said]
    assert house.list().jobs
    assert "removed" in jobs.remove(session, job.id)[j.said]
    assert house.list().jobs == ()
    with pytest.raises(BadSettings, match="Choose a job"):
        jobs.ask("stop", session, "")


def test_away_from_the_machine_there_is_nothing_to_press() -> None:
    with gr.Blocks() as page:
        assert build_training_panel(local=False) is None
    assert not [one for one in page.blocks.values() if isinstance(one, (gr.Button, gr.Textbox))]


def test_all_goals_are_reachable() -> None:
    families = {"sd1": "SD 1.5", "sd2": "SD 2", "sdxl": "SDXL", "flux": "FLUX"}
    made = {Chosen.of(title, family, "8 GB", False, few).goal for title in presets.TASKS.values() for family in families.values() for few in (False, True)}
    assert made == set(GOALS)
