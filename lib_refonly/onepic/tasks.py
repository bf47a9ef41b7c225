"""What canvases are good for: the paper's tasks with their layouts (sections 4.1 to 4.5, figures 4 and 11), and our own."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from lib_refonly.errors import BadSettings
from lib_refonly.onepic.layout import Layout
from lib_refonly.onepic.project import Panel, Project


@dataclass(frozen=True)
class PanelSpec:
    """What belongs into a panel. `same_as`: the panel (from 0) whose picture is shown here again."""

    role: str
    label: str
    fit: str = "crop"
    hint: str = ""
    same_as: int | None = None


@dataclass(frozen=True)
class Task:
    """`width` and `height`: of a panel, px. `like`: a task of nearly the same panels, whose LoRA serves where there is none for this one, or "".

    `lines`: the panel (from 0) whose line drawing is coloured, if one is.

    `needs`: "position" where the target has to lie exactly as a condition does, "source" where one picture says nearly everything, or "".
    """

    name: str
    title: str
    layout: Layout
    panels: tuple[PanelSpec, ...]
    prompt_hint: str
    help: str
    width: int = 512
    height: int = 512
    like: str = ""
    needs: str = ""
    lines: int | None = None


def _target(hint: str, fit: str = "crop") -> PanelSpec:
    return PanelSpec("target", "result", fit, hint)


def _again(label: str, same_as: int, fit: str = "crop") -> PanelSpec:
    return PanelSpec("context", label, fit, f"The same picture as in panel {same_as + 1}.", same_as)


_PHOTO = PanelSpec("context", "photograph", hint="The picture to start from.")
_ONE_OF_THREE = PanelSpec("context", "reference", hint="A picture of the subject, by itself and whole.")
_FACE = PanelSpec("context", "face", hint="A clear photograph of the face. All three show the same person.")
_SQUARE, _ROW_OF_TWO, _ROW_OF_THREE = Layout(2, 2), Layout(1, 2), Layout(1, 3)

TASKS: tuple[Task, ...] = (
    Task(
        "spatial-control",
        "Follow a sketch, a depth map or a pose",
        _SQUARE,
        (
            PanelSpec("context", "condition", hint="Edges, depth, a pose: whatever says where things are."),
            _again("condition", 0),
            _again("condition", 0),
            _target("Painted just as the condition lies."),
        ),
        "What the picture shows, its style and its colours",
        "One picture says where everything is, the prompt says what it is. The picture stands left of the result and above it, so the result lies "
        "exactly as it does.",
        needs="position",
    ),
    Task(
        "subject",
        "The same subject in a new scene",
        _SQUARE,
        (_ONE_OF_THREE, _ONE_OF_THREE, _ONE_OF_THREE, _target("The subject in the scene of the prompt.")),
        "The subject, and where it is or what it is made of",
        "Three pictures of one animal, toy or thing; the prompt puts it somewhere else. Different sides and a quiet background help.",
    ),
    Task(
        "edit",
        "Change a picture by words",
        _SQUARE,
        (_PHOTO, _again("photograph", 0), _again("photograph", 0), _target("The picture, changed.")),
        "What is to be changed: make the hydrant white",
        "The picture stands three times beside the result; the prompt says what becomes different. Everything else stays.",
        like="edit-masked",
        needs="source",
    ),
    Task(
        "edit-masked",
        "Change a part of a picture",
        _SQUARE,
        (
            PanelSpec("context", "photograph, the part hidden", hint="Brush over the part that is to change; the brush has to hide."),
            _again("photograph", 0),
            _again("photograph", 0),
            _target("The picture, changed where it was brushed."),
        ),
        "What is to be there: put a cat on the seat",
        "As changing by words, and you show where: brush over the part in the first panel. It is hidden there, the other two show the whole picture.",
        needs="source",
    ),
    Task(
        "try-on",
        "Try on a garment",
        _ROW_OF_THREE,
        (
            PanelSpec("context", "garment", "pad", "The garment by itself, laid out flat."),
            _target("The person in the garment."),
            PanelSpec("context", "person, clothes hidden", hint="Brush over what the person wears now, and over bare arms; the brush has to hide."),
        ),
        "The garment, in a few words",
        "A garment on the left, a person on the right with the old clothes brushed over; in the middle the person wears the garment.",
        width=384,
    ),
    Task(
        "colorize",
        "Colour a line drawing",
        _SQUARE,
        (
            PanelSpec("context", "colour reference", "pad", "A finished drawing of the same character."),
            PanelSpec("context", "line drawing", "pad", "The lines to be coloured."),
            _again("line drawing", 1, "pad"),
            _target("The lines, coloured like the reference.", "pad"),
        ),
        "Who is drawn, and the colours where the reference leaves them open",
        "The reference gives the colours. The lines stand above the result and left of it, so the colours lie exactly inside them.",
        needs="position",
        lines=1,
    ),
    Task(
        "fashion-extraction",
        "Take a garment off a photograph",
        _ROW_OF_TWO,
        (PanelSpec("context", "person", hint="Somebody who wears the garment."), _target("The garment by itself.")),
        "Which garment",
        "A person on the left; on the right the garment alone, laid out as in a shop.",
        width=384,
    ),
    Task(
        "segmentation",
        "Mark a thing in a picture",
        _ROW_OF_TWO,
        (_PHOTO, _target("The thing as a plain area.")),
        "Which thing",
        "The picture on the left; on the right the thing that the prompt names, as one plain area.",
    ),
    Task(
        "portrait",
        "A new portrait of a person",
        _SQUARE,
        (_FACE, _FACE, _FACE, _target("The person as the prompt says.")),
        "The person, the place, the style",
        "Three photographs of one face; the result is a new picture of this person. Ask people before you paint them.",
        like="subject",
    ),
    Task(
        "new-pose",
        "A character in a new pose",
        _SQUARE,
        (
            PanelSpec("context", "character sheet", "pad", "The character, whole and in colour."),
            PanelSpec("context", "pose sketch", "pad", "A rough sketch of the new pose."),
            PanelSpec("context", "character, once more", "pad", "Another side, a detail, or the same sheet again."),
            _target("The character in the pose.", "pad"),
        ),
        "The character, and what they do",
        "The character stands on the left, in one or two drawings; the sketch above the result gives the pose, and where head, hands and feet are.",
        like="colorize",
        needs="position",
    ),
    Task(
        "frames",
        "The next frame of an animation",
        _ROW_OF_THREE,
        (
            PanelSpec("context", "finished frame", "pad", "A frame that is coloured already, near this one."),
            _target("This frame, coloured.", "pad"),
            PanelSpec("context", "lines of this frame", "pad", "The lines of the frame to be coloured."),
        ),
        "Who is drawn",
        "A finished frame on the left, the lines of this one on the right; in the middle they get the finished frame's colours. Then go on with the next.",
        needs="position",
        lines=2,
    ),
)


def task_or_none(name: str) -> Task | None:
    """None for a free canvas, and for a task that another version may know."""
    return next((task for task in TASKS if task.name == name), None)


def task_named(name: str) -> Task:
    """Raises: BadSettings: there is none of this name."""
    found = task_or_none(name)
    if found is None:
        raise BadSettings(f"There is no task {name[:40]!r}. Tasks: {', '.join(task.name for task in TASKS)}.")
    return found


def project_of(task: Task, width: int | None = None, height: int | None = None) -> Project:
    """The task's panels, empty. `width`, `height`: of a panel, px (default: the task's). Raises: BadSettings: sizes that no project may have."""
    size = (task.width if width is None else width, task.height if height is None else height)
    panels = tuple(Panel(role=spec.role, label=spec.label, fit=spec.fit) for spec in task.panels)
    return Project(task=task.name, layout=task.layout, width=size[0], height=size[1], panels=panels)


def filled(project: Project, task: Task, number: int, picture: bytes | None) -> Project:
    """Put the bytes of a picture (None: nothing) into a panel (from 0), and into all that show the same one.

    A picture comes unmoved and unzoomed. A mask belongs to the picture that it was drawn over, and goes with that one; one that was drawn first stays. In
    another layout than the task's nobody knows which panels show the same, and only the one is filled.

    Raises:
        BadSettings: no such panel.
    """
    project.layout.place(number)
    shows: Sequence[int] = range(project.layout.panels)
    if project.layout == task.layout:
        shows = [own if spec.same_as is None else spec.same_as for own, spec in enumerate(task.panels)]
    panels = tuple(_with(panel, picture) if shows[at] == shows[number] else panel for at, panel in enumerate(project.panels))
    return dataclasses.replace(project, panels=panels)


def _with(panel: Panel, picture: bytes | None) -> Panel:
    if picture == panel.picture:
        return panel
    return dataclasses.replace(panel, picture=picture, zoom=1.0, x=0.0, y=0.0, mask=None if panel.picture is not None else panel.mask)
