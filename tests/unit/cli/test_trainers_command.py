"""`studio.py trainers`: an environment for sd-scripts from a folder or a version, without a network."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from lib_refonly.errors import BadSettings, CannotWrite, Offline, PainterError
from lib_refonly.studio.trainers import sd_scripts
from lib_refonly.studio.trainers.sd_scripts import Wish
from lib_refonly.training.kohya import installed, options
from tests.unit.cli.conftest import Run
from tests.unit.training.test_kohya_options import fake_folder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "trainers of the painter ä"
    monkeypatch.setattr(sd_scripts, "_MEGABYTES", 1)
    monkeypatch.setenv("REFONLY_TRAINERS_DIR", str(place))
    return place


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = fake_folder(tmp_path / "my sd-scripts")
    (folder / "library" / "train_util.py").touch()
    (folder / "requirements.txt").write_text("# words\nsmall==1.0  # pinned\n# for the library\n-e .\n", encoding="utf-8")
    return folder


def wheel(folder: Path, name: str, version: str) -> None:
    """A package with nothing in it."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    files = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip('=')},{len(text)}" for path, text in files.items()
    ]
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        for path, text in (files | {f"{info}/RECORD": "\n".join([*rows, f"{info}/RECORD,,"]) + "\n"}).items():
            file.writestr(path, text)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index of packages that is a folder."""
    folder = tmp_path / "shop"
    for name, version in (("torch", "2.7.1"), ("torchvision", "0.22.1"), ("small", "1.0"), ("small", "2.0")):
        wheel(folder, name, version)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", folder.as_uri())  # a plain path would be cut at its spaces
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    return folder


def test_from_a_folder_to_the_list_and_away_again(run: Run, source: Path, home: Path, shop: Path) -> None:
    """With a real environment and a real pip. What is missing is said; started again, it goes on."""
    (shop / "small-1.0-py3-none-any.whl").unlink()
    failed = run("trainers", "install", "sd-scripts", "--from", source, "--torch", "2.7.1")
    assert failed.code == PainterError.exit_code
    assert "There is no small==1.0 for this computer and Python" in failed.err
    assert run("trainers", "list").out.startswith("sd-scripts: not installed. Install it first: python3 studio.py trainers install")
    born = (home / "sd-scripts" / "venv" / "pyvenv.cfg").stat().st_mtime_ns

    wheel(shop, "small", "1.0")
    done = run("trainers", "install", "sd-scripts", "--from", source, "--torch", "2.7.1")
    assert done.code == 0, done.err
    assert "torch 2.7.1: as asked." in done.err
    assert (home / "sd-scripts" / "venv" / "pyvenv.cfg").stat().st_mtime_ns == born
    (one,) = installed.listed()
    assert (one.folder, one.torch, one.commit) == (str(source), "2.7.1", "unknown")
    made = subprocess.run([one.python, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True).stdout
    assert {"small==1.0", "torch==2.7.1", "torchvision==0.22.1"} <= set(made.split())
    options.check("train_db", {"new_in_this_version": 1}, options.of(one))

    assert json.loads(run("trainers", "list", "--json").out)["trainers"][0]["python"] == one.python
    assert one.folder in run("trainers").out
    assert run("trainers", "remove", "sd-scripts").code == 0
    assert not (home / "sd-scripts").exists()
    assert source.is_dir()
    assert run("trainers", "remove", "sd-scripts").code == 0


@pytest.mark.parametrize("source", ["nowhere", "v1", "--upload-pack=x", "v0.10.1; rm", "../v0.10.1", "main", ""])
def test_what_is_neither_a_folder_nor_a_version_is_refused(source: str) -> None:
    with pytest.raises(BadSettings, match="neither a folder nor a version"):
        Wish(source)


@pytest.mark.parametrize("torch", ["x", "2", "2.7.1 evil", "2.7.1+cu128/..", "--index-url"])
def test_what_is_no_torch_is_refused(torch: str) -> None:
    with pytest.raises(BadSettings, match="no version of torch"):
        Wish("v0.10.1", torch=torch)


def test_which_torch_is_taken() -> None:
    assert sd_scripts.own_torch()[0].isdigit()
    assert sd_scripts.torch_requirements("2.7.1") == ("torch==2.7.1", "torchvision")
    told = sd_scripts.torch_requirements("2.7.1+cu128")
    assert told == ("--extra-index-url", "https://download.pytorch.org/whl/cu128", "torch==2.7.1+cu128", "torchvision")


@pytest.mark.parametrize("line", ["--index-url https://evil", "git+https://evil/x", "https://evil/x.whl", "../x", "-r other.txt", "-e ../x"])
def test_requirements_are_packages_alone(source: Path, line: str) -> None:
    assert sd_scripts.requirements(source) == ("small==1.0",)
    (source / "requirements.txt").write_text(f"small\n{line}\n", encoding="utf-8")
    with pytest.raises(BadSettings, match="no package of an index"):
        sd_scripts.requirements(source)


def test_all_of_sd_scripts_own_requirements_are_understood(source: Path) -> None:
    """Those of v0.10.1."""
    lines = ["accelerate==1.6.0", "diffusers[torch]==0.32.1", "bitsandbytes", "numpy", "safetensors==0.4.5", "tensorboard", "torch>=2.0,<3.0"]
    (source / "requirements.txt").write_text("\n".join([*lines, "# <=2.0", "-e ."]), encoding="utf-8")
    assert sd_scripts.requirements(source) == tuple(lines)


def test_a_folder_without_sd_scripts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="train_network.py is missing"):
        sd_scripts.install(Wish(str(tmp_path)), print)


class Git:
    """Plays git: what it was called with, and how it ends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, said: str = "") -> None:
        self.calls: list[list[str]] = []
        self.said = said
        monkeypatch.setattr(sd_scripts.subprocess, "run", self.run)
        monkeypatch.setattr(sd_scripts.shutil, "which", lambda name: f"/usr/bin/{name}")

    def run(self, command: list[str], **more: Any) -> Any:
        self.calls.append(command)
        if not self.said:
            (Path(command[-1]) / "library").mkdir(parents=True)
        return subprocess.CompletedProcess(command, 1 if self.said else 0, "", self.said)


def test_a_version_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git = Git(monkeypatch)
    for tag in ("v0.10.1", "v0.10.1", "v0.9.1"):
        assert sd_scripts._cloned(tag, tmp_path, lambda text: None) == tmp_path / "source"
    assert [call[call.index("--branch") + 1] for call in git.calls] == ["v0.10.1", "v0.9.1"]
    assert git.calls[0][-3:] == ["--", sd_scripts.URL, str(tmp_path / "source.part")]
    assert not (tmp_path / "source.part").exists()


@pytest.mark.parametrize(
    ("said", "kind", "told"),
    [
        ("warning: Could not find remote branch v9.9 to clone.\nfatal: Remote branch v9.9 not found in upstream origin", BadSettings, "has no version v9.9"),
        ("fatal: unable to access 'https://github.com/': Could not resolve host: github.com", Offline, "Is the network up"),
        ("error: No space left on device", CannotWrite, "disk filled up"),
        ("fatal: something else", PainterError, "something else"),
    ],
)
def test_why_nothing_was_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, kind: type[PainterError], told: str) -> None:
    Git(monkeypatch, said)
    with pytest.raises(kind, match=told):
        sd_scripts._cloned("v9.9", tmp_path, lambda text: None)
    assert not (tmp_path / "source").exists()


def test_without_git_it_says_what_else_can_be_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sd_scripts.shutil, "which", lambda name: None)
    with pytest.raises(PainterError, match="name its folder after --from"):
        sd_scripts._cloned("v0.10.1", tmp_path, lambda text: None)
    with pytest.raises(BadSettings, match="no Python that can be started"):
        sd_scripts._make(tmp_path / "venv", "python9", lambda text: None)


def test_a_python_that_can_t_make_an_environment_is_named(tmp_path: Path) -> None:
    with pytest.raises(PainterError, match="can't make the environment"):
        sd_scripts._make(tmp_path / "venv", "false" if os.name != "nt" else "where", lambda text: None)


def test_a_linked_folder_is_not_removed(home: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    home.mkdir()
    try:
        (home / "sd-scripts").symlink_to(tmp_path / "other")
    except OSError:
        pytest.skip("this system does not let us make links")
    with pytest.raises(BadSettings, match="is a link"):
        sd_scripts.remove(print)
    assert (tmp_path / "other").is_dir()


def test_a_folder_that_can_t_be_written_is_told(tmp_path: Path, source: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotWrite, match="REFONLY_TRAINERS_DIR"):
        sd_scripts.install(Wish(str(source)), print, tmp_path / "file")


def test_the_help_says_it_all(capsys: pytest.CaptureFixture[str]) -> None:
    from lib_refonly.studio import cli

    with pytest.raises(SystemExit):
        cli.main(["trainers", "install", "--help"])
    text = capsys.readouterr().out
    assert all(word in text for word in ("--from FOLDER|TAG", "--python PY", "--torch VERSION"))
