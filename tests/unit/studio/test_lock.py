"""Two setups at once: the second waits for the first, and says so once."""

from __future__ import annotations

import threading
from pathlib import Path

from lib_refonly.studio.bootstrap.lock import only_one


def test_a_second_setup_waits_for_the_first(tmp_path: Path) -> None:
    order: list[str] = []
    waits = threading.Event()

    def second() -> None:
        def told() -> None:
            order.append("waits")
            waits.set()

        with only_one(tmp_path / "lock", told):
            order.append("second")

    other = threading.Thread(target=second)
    with only_one(tmp_path / "lock", lambda: order.append("the first waited")):
        other.start()
        assert waits.wait(30)
        order.append("first")
    other.join(30)
    assert order == ["waits", "first", "second"]
