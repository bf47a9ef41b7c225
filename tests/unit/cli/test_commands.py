"""Help, options, exit codes and the commands other than colour."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from lib_refonly import __version__
from lib_refonly.errors import BadSettings, Offline
from lib_refonly.refonly.settings import RefOnlySettings
from lib_refonly.settings import setting, specs
from lib_refonly.studio import cli
from lib_refonly.studio.commands.bar import Bar, cut
from lib_refonly.studio.commands.model_choice import read_model
from lib_refonly.studio.commands.options import add_settings, read_settings
from lib_refonly.studio.commands.task import read_weighted
from tests.unit.cli.conftest import Run
from tests.unit.cli.fakes import draw


def help_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as left:
        cli.main([*words, "--help"])
    assert left.value.code == 0
    return capsys.readouterr().out


def test_help_names_every_command_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys)
    for word in ("color", "stylecode", "verify", "convert", "models", "train", "data", "evaluate", "page", "test", "70 a fault", "130 stopped"):
        assert word in text


def test_help_of_color_describes_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(help_of(capsys, "color").split())
    for name, spec in specs(RefOnlySettings).items():
        assert "--" + name.replace("_", "-") in text
        assert spec.help in text


@pytest.mark.parametrize("text", [cli._COLOR_EPILOG, cli._TOP_EPILOG])
def test_the_examples_in_the_help_are_right(text: str) -> None:
    examples = [line.strip() for line in text.splitlines() if line.strip().startswith("studio.py color")]
    assert examples
    for example in examples:
        words = shlex.split(example.split("      ")[0].split("  ")[0])[1:]
        if words != ["color", "--help"]:
            cli.build_parser().parse_args(words)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"{__version__}\n"


def test_an_unknown_command_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["paint"])
    assert left.value.code == 2
    assert "paint" in capsys.readouterr().err


@dataclasses.dataclass(frozen=True)
class Every:
    """A setting of each kind."""

    whole: int = setting(3, "Whole", "100 % whole.", minimum=0, maximum=9)
    part: float = setting(0.5, "Part", "A part.", minimum=0, maximum=1)
    flag: bool = setting(False, "Flag", "A flag.")
    word: str = setting("x", "Word", "A word.")
    choice: str = setting("a b", "Choice", "A choice.", choices=("a b", "c"))


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ([], Every()),
        (["--whole", "4", "--part", "1", "--flag", "--word", "y", "--choice", "c"], Every(4, 1.0, True, "y", "c")),
        (["-w", "4", "--no-flag"], Every(4)),
    ],
)
def test_settings_become_options(words: list[str], settings: Every) -> None:
    parser = argparse.ArgumentParser()
    add_settings(parser.add_argument_group(), Every, {"whole": "-w"})
    assert read_settings(Every, parser.parse_args(words)) == settings
    assert "(0 to 9, default 3)" in parser.format_help()
    assert "100 % whole." in parser.format_help()


@pytest.mark.parametrize(
    ("text", "path", "weight"),
    [("a.png", "a.png", 1.0), ("a.png:0.5", "a.png", 0.5), (r"C:\a.png", r"C:\a.png", 1.0), (r"C:\a.png:2", r"C:\a.png", 2.0), ("a:b:0", "a:b", 0.0)],
)
def test_weighted_references(text: str, path: str, weight: float) -> None:
    assert read_weighted(text) == (Path(path), weight)


@pytest.mark.parametrize("text", ["a.png:-1", "a.png:inf", "a.png:nan"])
def test_wrong_weights(text: str) -> None:
    with pytest.raises(BadSettings, match="weight"):
        read_weighted(text)


def test_a_model_is_a_name_or_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_model("tiny-refonly") == ("tiny-refonly", None)
    assert read_model("./mine") == ("mine", tmp_path / "mine")
    assert read_model("some/mine.v2") == ("mine.v2", tmp_path / "some" / "mine.v2")
    assert read_model("mine.safetensors") == ("mine", tmp_path / "mine.safetensors")
    assert read_model("..") == (tmp_path.parent.name, tmp_path.parent)


@pytest.mark.parametrize(("differences", "code"), [([1e-6, 1e-5], 0), ([1e-6, 1e-3], 1), ([], 1)])
@pytest.mark.parametrize("method", ["refonly", "stylecode"])
def test_verify(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, differences: list[float], code: int, method: str) -> None:
    from lib_refonly.models.pack import Row
    from lib_refonly.refonly import golden as refonly
    from lib_refonly.stylecode import golden as stylecode

    def verify_pack(folder: Path, on_row):
        assert folder == tmp_path
        rows = [Row(f"tensor {i}", value, 1e-4, value <= 1e-4) for i, value in enumerate(differences)]
        for row in rows:
            on_row(row)
        return rows

    monkeypatch.setattr({"refonly": refonly, "stylecode": stylecode}[method], "verify_pack", verify_pack)
    (tmp_path / "golden.json").write_text(f'{{"format": "{method}{"s" * (method == "stylecode")}_golden"}}', "utf-8")
    ran = run("verify", str(tmp_path))
    assert ran.code == code
    assert ran.out.count("DIFFERS") == sum(value > 1e-4 for value in differences)
    assert all(f"tensor {i} " in ran.out for i in range(len(differences)))


def test_convert_says_what_it_wrote(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from lib_refonly.refonly import convert

    asked: list[object] = []

    def to_ldm(folder: Path, out: Path, onto: object) -> Path:
        asked.append(onto)
        return out / f"{folder.name}.safetensors"

    monkeypatch.setattr(convert, "to_ldm", to_ldm)
    ran = run("convert", "models/mine", "out")
    assert ran.code == 0
    assert str(Path("out/mine.safetensors")) in ran.out
    assert "mine.yaml" in ran.out
    assert run("convert", "models/mine", "out", "--onto", "a.safetensors", "--base", "b.safetensors").code == 0
    assert asked == [None, (Path("b.safetensors"), Path("a.safetensors"))]
    assert "belong together" in run("convert", "models/mine", "out", "--onto", "a.safetensors").err


@pytest.mark.parametrize("words", [("models",), ("models", "list")])
def test_the_model_list_tells_how_to_get_the_released_one(run: Run, words: tuple[str, ...]) -> None:
    ran = run(*words)
    assert ran.code == 0
    assert "studio.py models download stable-diffusion-reference-only" in ran.out
    assert "studio.py models download segmentation" in ran.out


def test_nothing_is_downloaded_without_consent(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from lib_refonly.models import download

    calls: list[dict[str, object]] = []
    monkeypatch.setattr(download, "download", lambda *_, **words: calls.append(words))
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: False))
    ran = run("models", "download", "stable-diffusion-reference-only")
    assert (ran.code, calls) == (2, [])
    ran = run("models", "download", "stable-diffusion-reference-only", "--yes")
    assert ran.code == 0
    assert [call["consent"] for call in calls] == [True]
    assert run("models", "download", "another", "--yes").code == 2
    assert len(calls) == 1
    assert run("models", "download", "segmentation", "--yes").code == 0
    assert calls[1]["files"] == ("isnetis.onnx",)


def test_a_download_without_network_exits_7(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from lib_refonly.models import download

    def refuse(*_: object, **__: object) -> None:
        raise Offline("There is no network.")

    monkeypatch.setattr(download, "download", refuse)
    ran = run("models", "download", "stable-diffusion-reference-only", "--yes")
    assert ran.code == 7
    assert ran.err == "studio.py: There is no network.\n"


def test_train_passes_its_limits_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from lib_refonly.training import cli as training

    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(training, "main", lambda *words: calls.append(words) or 0)
    assert run("train", "a.toml", "--minutes", "1.5").code == 0
    assert run("train", "a.toml", "--export").code == 0
    assert calls == [(Path("a.toml"), 1.5, None, False), (Path("a.toml"), None, None, True)]


@pytest.mark.parametrize(("raised", "code"), [(None, 0), (ValueError("that folder holds another data set"), 2), ("DrawingToolsMissing", 1)])
def test_data_build(run: Run, monkeypatch: pytest.MonkeyPatch, raised: Exception | str | None, code: int) -> None:
    from lib_refonly.training.drawings import build, packages

    def draw_them(*words: object) -> None:
        assert words == (Path("set"), 3, 10, 64, "heldout", 2)
        if raised is not None:
            raise packages.DrawingToolsMissing("node is not installed.") if isinstance(raised, str) else raised

    monkeypatch.setattr(build, "build", draw_them)
    ran = run("data", "build", "--out", "set", "--count", "10", "--seed", "3", "--size", "64", "--split", "heldout", "--workers", "2")
    assert ran.code == code
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(("distance", "code"), [(9.0, 0), (11.0, 1)])
def test_evaluate_writes_a_report_and_fails_when_a_gate_is_missed(run: Run, monkeypatch: pytest.MonkeyPatch, distance: float, code: int) -> None:
    from lib_refonly.models.registry import ModelEntry, ModelStore
    from lib_refonly.refonly import loader
    from lib_refonly.training import evaluate

    scores = [evaluate.Score("adventurer", way, 2, dE, 0.9, 20.0) for way, dE in (("model", distance), ("wrong reference", 60.0))]
    model = SimpleNamespace(card=SimpleNamespace(native_size=128), prompt_spec=SimpleNamespace(size=64))
    monkeypatch.setattr(ModelStore, "get", lambda _, name: ModelEntry(name, name, Path("place of it"), 128, 0))
    monkeypatch.setattr(loader, "load_refonly", lambda path, **_: model if path == Path("place of it") else None)
    asked = (model, Path("set"), 0, 5)
    sheet = Image.new("RGB", (8, 8))
    monkeypatch.setattr(evaluate, "evaluate", lambda *words: (scores, sheet) if (words[0].model, *words[1:4]) == asked else None)
    ran = run("evaluate", "set", "-o", "scores.md", "--model", "mine", "--limit", "5")
    assert ran.code == code
    assert sorted(path.name for path in Path().iterdir()) == ["scores.md", "scores.png"]
    text = Path("scores.md").read_text(encoding="utf-8")
    assert "studio.py evaluate set -o scores.md --model mine --seed 0 --limit 5" in text
    assert ("MISSED" in text) == (code == 1)


def test_a_bug_anywhere_exits_70_with_a_log(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from lib_refonly.training import cli as training

    def bug(*_: object) -> int:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(training, "main", bug)
    ran = run("train", "a.toml")
    assert ran.code == 70
    assert len(ran.err.splitlines()) == 1
    (log,) = (tmp_path / "logs").iterdir()
    assert "a bug" in log.read_text()


@pytest.mark.parametrize("argv", [[], ["--port", "8000", "--no-browser"], ["page", "--listen"]])
def test_everything_else_opens_the_page(run: Run, monkeypatch: pytest.MonkeyPatch, argv: list[str]) -> None:
    from lib_refonly.studio import app

    calls: list[list[str]] = []
    monkeypatch.setattr(app, "main", lambda words: calls.append(list(words)) or 0)
    assert run(*argv).code == 0
    assert calls == [[word for word in argv if word != "page"]]


def test_a_url_is_no_picture(run: Run) -> None:
    draw(Path("lines.png"))
    assert run("color", "https://example.org/girl.png", "lines.png", "-o", "out.png").code == 3


def test_cut_counts_columns_as_a_terminal_does() -> None:
    assert cut("abc", 2) == "ab"
    assert cut("線画abc", 5) == "線画a"
    assert cut("e\u0301e\u0301", 1) == "e\u0301"


def test_a_bar_that_is_off_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    import sys

    bar = Bar(sys.stderr, False, 3)
    bar.show(1, "x")
    bar.clear()
    assert capsys.readouterr().err == ""
