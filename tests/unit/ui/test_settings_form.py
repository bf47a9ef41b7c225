"""Settings and their form."""

from __future__ import annotations

import pytest

from lib_refonly.errors import BadSettings
from lib_refonly.refonly.settings import RefOnlySettings
from lib_refonly.settings import specs

gr = pytest.importorskip("gradio", reason="the page needs gradio")

from lib_refonly.ui import colour_panel  # noqa: E402
from lib_refonly.ui.settings_form import SettingsForm  # noqa: E402


@pytest.fixture
def form() -> SettingsForm:
    made = SettingsForm(RefOnlySettings, "t")
    with gr.Blocks():
        made.make(*specs(RefOnlySettings))
    return made


def test_every_field_stands_on_the_page_once() -> None:
    placed = [*colour_panel.SEEN, *colour_panel.MAIN, *(name for names in colour_panel.ADVANCED.values() for name in names)]
    assert sorted(placed) == sorted(specs(RefOnlySettings))


@pytest.mark.parametrize(
    ("name", "kind"), [("seed", "number"), ("steps", "slider"), ("sampler", "dropdown"), ("lines", "radio"), ("lines_back", "slider"), ("size", "number")]
)
def test_each_spec_gets_its_widget(form: SettingsForm, name: str, kind: str) -> None:
    widget, spec = form[name], specs(RefOnlySettings)[name]
    assert widget.get_block_name() == kind
    assert (widget.label, widget.info, widget.elem_id) == (spec.label, spec.help, f"t-{name.replace('_', '-')}")


def test_values_make_the_round_trip(form: SettingsForm) -> None:
    settings = RefOnlySettings(seed=5, steps=7, sampler="DDIM", lines_back=0.35)
    assert form.read(form.write(settings)) == settings


def test_an_emptied_number_is_the_default(form: SettingsForm) -> None:
    values = form.write(RefOnlySettings(seed=5))
    values[list(specs(RefOnlySettings)).index("seed")] = None
    assert form.read(values).seed == -1


def test_values_out_of_range_are_refused(form: SettingsForm) -> None:
    values = form.write(RefOnlySettings())
    values[list(specs(RefOnlySettings)).index("steps")] = 9000
    with pytest.raises(BadSettings, match="Steps"):
        form.read(values)


def test_known_values_are_mixed_with_what_is_there(form: SettingsForm) -> None:
    mixed = form.write_known({"steps": "9"}, form.write(RefOnlySettings(count=3)))
    assert (form.read(mixed).steps, form.read(mixed).count) == (9, 3)
    with pytest.raises(BadSettings):
        form.write_known({"steps": "nine"}, form.write(RefOnlySettings()))
