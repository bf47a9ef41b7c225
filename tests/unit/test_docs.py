"""The documents stay true: their tables, commands, paths, links and test names are held against the code.

A table between `<!-- table: NAME -->` and `<!-- end -->` is made from the code. After a change there, write the tables anew:

    .venv/bin/python -m tests.unit.test_docs

A table marked `<!-- fields: NAME -->` has the names and defaults of a class in its first two columns; what they mean is written by hand.
"""

from __future__ import annotations

import dataclasses
import io
import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lib_refonly import errors
from lib_refonly.imaging.infotext import read_infotext
from lib_refonly.models.sniff import BLUEPRINT
from lib_refonly.refonly.card import CHECKPOINT_CONFIGS, FILE, ModelCard
from lib_refonly.refonly.ldm_keys import TEXT, UNET, VAE
from lib_refonly.refonly.settings import RefOnlySettings
from lib_refonly.settings import Spec, specs
from lib_refonly.studio.cli import build_parser
from lib_refonly.studio.commands import failures, reporting, resume
from tests.unit.test_layers import MAY_IMPORT, ROOT

WRITTEN_BY_COMMANDS = ("benchmarks.md", "scores.md", "scores-base.md", "scores-adapter.md")
_WRITTEN_BY_HAND = [page for page in (ROOT / "docs").glob("*.md") if page.name not in WRITTEN_BY_COMMANDS]
PAGES = sorted([*_WRITTEN_BY_HAND, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "lib_refonly" / "assets" / "LICENCES.md"])
DRAWINGS = ROOT / "lib_refonly" / "training" / "drawings"
ALL_ERRORS = [errors.PainterError, *errors.PainterError.__subclasses__()]
_MADE = re.compile(r"(<!-- table: ([\w-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_FIELDS = re.compile(r"<!-- fields: ([\w-]+) -->\n(.*?)<!-- end -->", re.DOTALL)


def table(*rows: tuple[str, ...]) -> str:
    """The first row is the head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], f"|{' --- |' * len(rows[0])}", *lines[1:]]) + "\n"


def infotext_table() -> str:
    defaults = RefOnlySettings()
    rows = [(f"`{s.infotext}`", f"`{name}`", _allowed(s), f"`{getattr(defaults, name)}`", s.help) for name, s in specs(RefOnlySettings).items() if s.infotext]
    return table(("field", "setting", "allowed", "default", "what it does"), *rows)


def _allowed(spec: Spec) -> str:
    return ", ".join(f"`{one}`" for one in spec.choices) if spec.choices else f"{spec.minimum:.10g} to {spec.maximum:.10g}"


def exit_code_table() -> str:
    rows = {one.exit_code: (f"`{one.__name__}`", (one.__doc__ or "").split("\n")[0]) for one in ALL_ERRORS}
    rows |= {errors.PainterError.exit_code: ("`PainterError`", "Anything else that the painter can mend; the sentence says what.")}
    rows |= {0: ("", "Done; for `evaluate` and `verify`: everything holds.")}
    rows |= {reporting.PARTLY_FAILED: ("", "Some drawings are finished and some are not, or several failed for different reasons.")}
    rows |= {failures.EXIT_CODE: ("any other", "A fault of the program. Its traceback is in a file that the message names.")}
    return table(("code", "error", "meaning"), *((str(code), *rows[code]) for code in sorted(rows)))


def layer_table() -> str:
    def cell(names: tuple[str, ...], own: str) -> str:
        return ", ".join(f"`{name}`" for name in names if name != own) or "nothing of ours"

    return table(("package", "may import, besides `errors` and `settings`"), *((f"`{part}`", cell(names, part)) for part, names in MAY_IMPORT.items()))


def held_out_table() -> str:
    text = (DRAWINGS / "styles.mjs").read_text("utf-8")
    block = re.search(r"HELD_OUT = \{(.*?)\n\};", text, re.DOTALL)
    assert block is not None
    rules = re.findall(r"'?([\w-]+)'?: \{ part: (?:null|'(\w+)'), values: \[(.*?)\] \}", block[1])
    deal = re.findall(r"'([\w-]+)'", text.split("HELD_OUT_DEAL = ")[1].split("];")[0])
    rows = [(f"`{name}`", f"{part}: {values.replace(chr(39), '`')}" if part else "everything", str(deal.count(name))) for name, part, values in rules]
    rows.append(("`openmoji`", "everything", str(deal.count("openmoji"))))
    return table(("style", "never in the training split", f"of {len(deal)} held-out records"), *rows)


def host_cases() -> str:
    from tests.webui.table import table as cases

    return cases()


TABLES: dict[str, Callable[[], str]] = {
    "infotext": infotext_table,
    "exit-codes": exit_code_table,
    "layers": layer_table,
    "held-out": held_out_table,
    "cases": host_cases,
}


def field_classes() -> dict[str, type]:
    from lib_refonly.training.adapter import AdapterConfig
    from lib_refonly.training.base import BaseConfig
    from lib_refonly.training.loop import LoopConfig
    from lib_refonly.training.refonly import RefOnlyConfig
    from lib_refonly.training.vae import VaeConfig

    classes = (AdapterConfig, BaseConfig, LoopConfig, RefOnlyConfig, VaeConfig, ModelCard, reporting.Row)
    return {one.__name__: one for one in classes}


def rows_of(block: str) -> list[list[str]]:
    """The rows of a Markdown table, without its head."""
    return [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in block.strip().splitlines()[2:]]


def found(pattern: re.Pattern[str]) -> Iterator[tuple[Path, re.Match[str]]]:
    return ((page, match) for page in PAGES for match in pattern.finditer(page.read_text("utf-8")))


def text_of(name: str) -> str:
    return (ROOT / "docs" / name).read_text("utf-8")


def test_every_made_table_stands_in_a_document_once() -> None:
    assert sorted(match[2] for _, match in found(_MADE)) == sorted(TABLES)


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_are_what_the_code_says(name: str) -> None:
    (stands,) = (match[3] for _, match in found(_MADE) if match[2] == name)
    assert stands == TABLES[name](), "run: python -m tests.unit.test_docs"


def test_the_fields_and_their_defaults_are_those_of_the_classes() -> None:
    classes = field_classes()
    explained = {match[1]: rows_of(match[2]) for _, match in found(_FIELDS)}
    assert sorted(explained) == sorted(classes)
    for name, rows in explained.items():
        wanted = [[f"`{f.name}`", _default(f)] for f in dataclasses.fields(classes[name]) if not (classes[name] is ModelCard and f.name == "name")]
        assert [row[:2] for row in rows] == wanted, name
        assert all(len(row[2]) > 3 for row in rows), name


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is dataclasses.MISSING:
        return "required"
    return f"`{json.dumps(list(field.default) if isinstance(field.default, tuple) else field.default)}`"


def test_the_infotext_begins_with_what_the_document_lists() -> None:
    from lib_refonly.studio.engine import infotext

    always = list(read_infotext(infotext(RefOnlySettings(seed=1), "tiny-refonly", (256, 256), 1.0))[2])
    page = text_of("formats.md")
    assert f"{', '.join(f'`{name}`' for name in always)}" in page
    assert f"`{resume.FIELD}`" in page


def test_the_json_summary_has_the_fields_that_the_document_lists() -> None:
    out = io.StringIO()
    reporting.Reporter(True, False, 0, out, io.StringIO()).summary((), 0.0, 0)
    assert f"{', '.join(f'`{name}`' for name in json.loads(out.getvalue()))}" in text_of("formats.md")


def test_the_names_inside_files_are_those_of_the_code() -> None:
    from lib_refonly.refonly.convert import BLUEPRINT_LDM, VISION_LDM
    from lib_refonly.refonly.loader import PREPROCESSOR, SCHEDULER, UNET_CLASS

    page = text_of("formats.md")
    for name in (CHECKPOINT_CONFIGS, FILE, UNET_CLASS, SCHEDULER.name, PREPROCESSOR.name):
        assert name in page
    for prefix in (BLUEPRINT, UNET, VAE, TEXT, BLUEPRINT_LDM, VISION_LDM):
        assert f"`{prefix}*`" in page


def commands() -> list[tuple[str, str]]:
    """(document, command line) of every `python3 studio.py ...` in a code block."""
    blocks = ((page, block) for page in PAGES for block in re.findall(r"^```(?:bash|sh)\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE))
    lines = ((page.name, line) for page, block in blocks for line in block.replace("\\\n", " ").splitlines())
    return [(name, line.removeprefix("python3 studio.py ")) for name, line in lines if line.startswith("python3 studio.py ")]


@pytest.mark.parametrize(("page", "line"), commands())
def test_the_commands_are_understood(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)
    if words[0] == "test":  # the rest goes to pytest
        assert all((ROOT / word).exists() or word.startswith("-") for word in words[1:])
        return
    arguments = build_parser().parse_args(words)
    config = getattr(arguments, "config", None)
    assert config is None or (ROOT / config).is_file()


def test_paths_links_and_tests_that_are_named_exist() -> None:
    wrong: list[str] = []
    files = list((ROOT / "tests").rglob("test_*.py"))
    known = {path.name for path in files} | {name for path in files for name in re.findall(r"^def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)}
    for page in PAGES:
        text = page.read_text("utf-8")
        paths = re.findall(r"`((?:lib_refonly|tests|docs|benchmarks|\.ci)/[\w./-]*)`", text)
        wrong += [f"{page.name}: {path}" for path in paths if not (ROOT / path).exists() and Path(path).name not in WRITTEN_BY_COMMANDS]
        links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith(("http", "#"))]
        wrong += [f"{page.name}: {link}" for link in links if not (page.parent / link).exists() and Path(link).name not in WRITTEN_BY_COMMANDS]
        wrong += [f"{page.name}: {name}" for name in re.findall(r"`(test_\w+(?:\.py)?)`", text) if name not in known]
    assert wrong == []


def test_everybody_whose_work_was_learnt_from_is_named_beside_the_weights() -> None:
    trained = (DRAWINGS / "LICENCES.md").read_text("utf-8").split("## For testing only")[0]
    rows = [line for line in trained.splitlines() if re.match(r"\| [a-z]", line) and not line.startswith("| style")]
    attribution = (ROOT / "lib_refonly" / "assets" / "LICENCES.md").read_text("utf-8")
    assert len(rows) == 14
    for style, _, designer, licence in ([cell.strip() for cell in row.strip("|").split("|")] for row in rows):
        assert any(style in line and designer in line and licence in line for line in attribution.splitlines()), style
    shares = (DRAWINGS / "styles.mjs").read_text("utf-8").split("TRAIN_SHARES = ")[1].split("};")[0]
    listed = {row.strip("|").split("|")[0].strip() for row in rows}
    assert set(re.findall(r"'?([a-z][\w-]+)'?: 0\.", shares)) - {"emoji"} <= listed


def write_tables() -> None:
    """Write every made table anew, in place."""
    for page in PAGES:
        text = page.read_text("utf-8")
        new = _MADE.sub(lambda match: match[1] + TABLES[match[2]]() + match[4], text)
        if new != text:
            page.write_text(new, "utf-8")
            print(f"written: {page.relative_to(ROOT)}")


if __name__ == "__main__":
    write_tables()
