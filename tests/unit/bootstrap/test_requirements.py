"""pyproject.toml and constraints.txt as the bootstrap reads them."""

from __future__ import annotations

import sys

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lib_refonly.studio.bootstrap.handover import ROOT
from lib_refonly.studio.bootstrap.requirements import Stamp, fingerprint, read_groups

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PYPROJECT, CONSTRAINTS = ROOT / "pyproject.toml", ROOT / "constraints.txt"


def pins() -> list[Requirement]:
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_our_reader_agrees_with_a_real_one() -> None:
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    groups = read_groups(PYPROJECT)
    assert list(groups["studio"].requirements) == project["dependencies"]
    assert {name: list(group.requirements) for name, group in groups.items() if name != "studio"} == project["optional-dependencies"]


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_everything_asked_for_is_pinned_once(python: str, system: str) -> None:
    here = {**default_environment(), "python_version": python, "python_full_version": f"{python}.0", "sys_platform": system}
    pinned: dict[str, str] = {}
    for pin in pins():
        (specifier,) = pin.specifier
        assert specifier.operator == "=="
        if pin.marker is None or pin.marker.evaluate(here):
            assert canonicalize_name(pin.name) not in pinned
            pinned[canonicalize_name(pin.name)] = specifier.version
    groups = read_groups(PYPROJECT)
    for text in (text for group in groups.values() if group.with_dependencies for text in group.requirements):
        wanted = Requirement(text)
        if wanted.marker is None or wanted.marker.evaluate(here):
            assert wanted.specifier.contains(pinned[canonicalize_name(wanted.name)])


def test_the_fingerprint_follows_the_python_and_the_pins(tmp_path) -> None:
    group, constraints = read_groups(PYPROJECT)["studio"], tmp_path / "constraints.txt"
    constraints.write_text("torch==1\n")
    first = fingerprint(group, constraints, (3, 11))
    assert fingerprint(group, constraints, (3, 12)) != first
    constraints.write_text("torch==2\n")
    assert fingerprint(group, constraints, (3, 11)) != first


@pytest.mark.parametrize("text", ["", "{", "[]", '{"studio": 3}'])
def test_a_damaged_stamp_means_not_installed(tmp_path, text: str) -> None:
    path = tmp_path / "stamp.json"
    path.write_text(text)
    group, stamp = read_groups(PYPROJECT)["studio"], Stamp(path)
    assert stamp.missing([(group, "abc")]) == [group]
    stamp.add(group, "abc")
    assert stamp.missing([(group, "abc")]) == []
