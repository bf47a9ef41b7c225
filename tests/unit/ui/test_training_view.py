"""What the Train page writes into the page: everything that comes from outside is escaped, and a curve is what was told."""

from __future__ import annotations

import re

from PIL import Image

from lib_refonly.training.jobs.progress import Progress
from lib_refonly.training.jobs.record import FAILED, RUNNING, Job
from lib_refonly.training.pictures import Seen
from lib_refonly.ui import training_view as view

EVIL = "</textarea><script>alert('1')</script>\"'><img src=x onerror=alert(1)>"
JOB = Job("20260101-000000-x", EVIL, EVIL, ("python",), "/", 1.0, 1.0, state=FAILED, explanation=EVIL)


def told(*losses: float) -> Progress:
    progress = Progress()
    progress.add([{"event": "start", "step": 0, "steps": 1000}])
    progress.add([{"event": "step", "step": n, "loss": one, "seconds": 2.0, "lr": 1e-4, EVIL: one} for n, one in enumerate(losses, 1)])
    return progress


def harmless(text: str) -> None:
    assert "<script" not in text
    assert "<img src=x" not in text
    assert text.count("<textarea") == text.count("</textarea")


def test_everything_is_escaped() -> None:
    seen = [Seen(EVIL, EVIL, (10, 10), "1", (EVIL, "broken"), EVIL, Image.new("RGB", (4, 4))), Seen("b.png", flaws=("broken",))]
    progress = told(1, 2, 3)
    progress.problem = EVIL
    harmless(view.picture_grid(seen, 3))
    harmless(view.picture_facts(seen))
    harmless(view.job_list([JOB], {JOB.id: progress}, {"x": EVIL}, JOB.id))
    progress.sample_shows = EVIL
    harmless(view.job_card(JOB, progress, "data:image/png;base64,AA", [EVIL], EVIL))
    harmless(view.log_view([EVIL]))


def test_only_the_first_pictures_are_shown_and_all_are_counted() -> None:
    seen = [Seen(f"{n}.png", "hat" if n else "", (10, 10), str(n)) for n in range(100)]
    assert view.picture_grid(seen, 1).count("<figure") == view.MOST_SHOWN
    assert "The first 60 of 100" in view.picture_grid(seen, 1)
    assert "100 pictures" in view.picture_facts(seen)
    assert "hat <b>99</b>" in view.picture_facts(seen)
    assert view.picture_grid([], 1) == ""
    assert "no pictures" in view.picture_facts([])


def test_a_course_in_words() -> None:
    assert view.course(Progress()) == "Getting ready"
    progress = told(*[0.5] * 100)
    progress.memory, progress.memory_gpu = 3_000_000_000, 7_500_000_000
    assert view.course(progress) == "step 100 of 1000, 30 min left, 2 s a step, memory 3.0 GB, graphics card 7.5 GB"
    assert [view.duration(one) for one in (0, 45, 100, 3600, 12_000)] == ["0 s", "45 s", "2 min", "60 min", "3 h 20 min"]


def test_a_curve_stays_within_its_frame() -> None:
    losses = [100.0, *(1 / n for n in range(1, 400))]
    drawn = view.curve_figure("loss", told(*losses).curve("loss"))
    points = [tuple(map(float, point.split(","))) for line in re.findall(r' points="([^"]+)"', drawn) for point in line.split()]
    assert len(points) == 800
    assert all(0 <= x <= 640 and 0 <= y <= 200 for x, y in points)
    assert 'data-last="400"' in drawn
    assert view.curve_figure("loss", told(1).curve("loss")) == ""
    assert "nan" not in view.curve_figure("loss", told(0, 0, 0).curve("loss"))


def test_a_failure_shows_the_last_lines() -> None:
    lines = [f"line {n}" for n in range(50)]
    card = view.job_card(JOB, told(1, 2), "data:image/png;base64,AA", lines, "/a")
    assert "line 49" in card
    assert "line 10" not in card
    assert 'src="data:image/png' in card
    assert "line 49" not in view.job_card(Job("x", "x", "x", ("p",), "/", 1, 1, state=RUNNING), Progress(), "", lines, "/a")
