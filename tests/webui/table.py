"""What the last runs on real WebUIs found, as the table in docs/hosts.md: a line a test, a column a host. `test_docs.py` writes and holds it."""

from __future__ import annotations

import ast
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_MARKS = {"passed": "yes", "failed": "**no**"}


def cases() -> dict[str, str]:
    """Test function -> its docstring, in the order of the files."""
    found: dict[str, str] = {}
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found[node.name] = ast.get_docstring(node) or node.name
    return found


def table() -> str:
    """A test with parameters passes when all of them do."""
    results = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted((ROOT / "docs" / "hosts").glob("*.json"))}
    hosts = sorted(results)
    names = {"a1111": "A1111 1.10.1", "forge": "Forge", "reforge": "reForge", "forge-neo": "Forge Neo"}
    lines = [f"| case | {' | '.join(names.get(host, host) for host in hosts)} |", f"| --- |{' --- |' * len(hosts)}"]
    notes: list[str] = []
    for name, said in cases().items():
        cells = [_cell([outcome for test, outcome in results[host].items() if test.partition("[")[0] == name], notes) for host in hosts]
        lines.append(f"| {said} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"{number}. {note}" for number, note in enumerate(notes, 1))]).rstrip()


def _cell(outcomes: list[str], notes: list[str]) -> str:
    if not outcomes:
        return "not run"
    for outcome in outcomes:
        if outcome == "failed":
            return _MARKS[outcome]
    skipped = [outcome.removeprefix("skipped: ") for outcome in outcomes if outcome.startswith("skipped")]
    if not skipped:
        return _MARKS["passed"]
    if skipped[0] not in notes:
        notes.append(skipped[0])
    return f"({notes.index(skipped[0]) + 1})"
