"""The stages by Ray's workers: the same bytes as without, whatever becomes of a worker or a machine; and what is said when a machine can't do it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from lib_refonly.errors import BadModel, BadSettings
from lib_refonly.training.dataset import spread
from lib_refonly.training.dataset.build import build
from lib_refonly.training.dataset.clean import Clean
from lib_refonly.training.dataset.cut import Cut
from lib_refonly.training.dataset.embed import SHIPPED, Encoder
from lib_refonly.training.dataset.stages import Item
from tests.unit.training.test_dataset_build import QUICK, contents, source  # noqa: F401  (a fixture)

os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # despite its name: it stays on the loopback. Read when Ray is imported
ray: Any = pytest.importorskip("ray", reason="Ray is not installed (group ray of pyproject.toml)")
cluster_utils: Any = pytest.importorskip("ray.cluster_utils")
ROOT = Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Ray's test cluster needs POSIX")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two machines of one processor each, on this one."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patched.setenv("RAY_AUTH_MODE", "disabled")
        made = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, "object_store_memory": 2**27})
        made.add_node(num_cpus=1, object_store_memory=2**27)
        yield made
        made.shutdown()


@dataclass(frozen=True)
class Deadly(Clean):
    """Its process is killed at one picture, in the middle of a chunk, the first time that it comes."""

    once: Path = field(default=Path(), kw_only=True)

    def __call__(self, item: Item) -> Item:
        if item.about["file"] == "a/1+0.png" and not self.once.exists():
            self.once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(item)


def test_a_worker_is_killed_and_a_machine_is_lost_and_nothing_else(cluster: Any, source: Path, tmp_path: Path) -> None:  # noqa: F811
    whole, out, once = tmp_path / "whole", tmp_path / "set", tmp_path / "killed"
    told: list[str] = []

    def tell(_: float, what: str) -> None:
        told.append(what)
        if told.count(what) == 1 and what == "writing shards":
            cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)

    wanted = build(source, whole, QUICK)
    summary = build(source, out, replace(QUICK, clean=Deadly(once=once)), tell, ray=cluster.address)
    assert once.exists()
    assert not cluster.worker_nodes
    assert told.count("embedding") == 3
    assert told.count("writing shards") == wanted.shards[0] > 2
    assert contents(out) == contents(whole), "nothing is lost, nothing is there twice, nothing half-written is left"
    assert (summary.kept, summary.shards) == (wanted.kept, wanted.shards)
    assert not ray.is_initialized()


def test_what_is_wrong_in_a_worker_is_said_as_it_is(cluster: Any, tmp_path: Path) -> None:
    with (
        pytest.raises(BadSettings, match=r"The machine \S+ does not see .*nowhere.*file system that they share"),
        spread.workers(cluster.address, tmp_path, [tmp_path / "nowhere"]),
    ):
        pytest.fail("it was not looked for")
    assert not ray.is_initialized()
    model = tmp_path / "model.onnx"
    model.write_bytes(b"no model")
    with spread.workers(cluster.address, tmp_path, []) as work:
        with pytest.raises(BadModel, match="not a segmentation model"):
            list(work(_alpha, [(Cut(model),)]))
        with pytest.raises(BadSettings, match="knows of no graphics card"):
            list(work(_alpha, [], gpu=True))
        with pytest.raises(ZeroDivisionError):
            list(work(divmod, [(1, 0)]))
        assert dict(work(divmod, ((number, 7) for number in range(50)))) == {number: divmod(number, 7) for number in range(50)}
    assert list(tmp_path.iterdir()) == [model]


def _alpha(cut: Cut) -> None:
    from PIL import Image

    cut(Item("0", {}, picture=Image.new("RGB", (8, 8))))


@pytest.mark.parametrize("error", ["WorkerCrashedError", "OutOfMemoryError"])
def test_what_ray_gives_up_is_said_in_our_words(error: str) -> None:
    with pytest.raises(BadSettings, match="ended again"), spread._told(ray, "They were ended again."):
        raise getattr(ray.exceptions, error)("a task")


def test_a_machine_needs_the_folder_and_the_same_packages(tmp_path: Path) -> None:
    (tmp_path / "token").touch()
    fine = spread._Needs(tmp_path / "token", (tmp_path,), spread._versions())
    fine.check()
    with pytest.raises(BadSettings, match=f"does not see {re.escape(str(tmp_path))}\\. All machines"):
        replace(fine, token=tmp_path / "other").check()
    with pytest.raises(BadSettings, match=r"pillow \S+ instead of pillow 1\.0"):
        replace(fine, versions=tuple("pillow 1.0" if one.startswith("pillow") else one for one in spread._versions())).check()


def test_no_ray_where_it_is_said_to_be(source: Path, tmp_path: Path) -> None:  # noqa: F811
    with pytest.raises(BadSettings, match="Ray at '127.0.0.1:1' can't be used"):
        build(source, tmp_path / "set", QUICK, ray="127.0.0.1:1")


def test_an_encoder_is_sent_as_its_folder_and_has_to_be_the_same_there() -> None:
    read, folder_and_more = replace(Encoder.read(SHIPPED), device="cpu").__reduce__()
    assert read(*folder_and_more).digest == Encoder.read(SHIPPED).digest
    with pytest.raises(BadModel, match="has another model in"):
        read(SHIPPED, "cpu", "other")


def test_a_ray_of_its_own_listens_nowhere_else(source: Path, tmp_path: Path) -> None:  # noqa: F811
    out, home = tmp_path / "set", tmp_path / "home"
    home.mkdir()
    words = ["dataset", "build", str(source), "--out", str(out), "--side", "96", "--smallest", "32", "--chunk", "4", "--shard", "5", "--segmenter", "none"]
    words += ["--min", "0.5", "--max", "0.9999", "--per-picture", "2", "--ray", "local"]
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from lib_refonly.studio.cli import main; sys.exit(main({words!r}))"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {"HOME": str(home)}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    listening: set[str] = set()
    while process.poll() is None:
        listening |= _addresses(psutil.Process(process.pid))
        time.sleep(0.2)
    assert process.returncode == 0, process.communicate()[0]
    assert listening == {"127.0.0.1"}
    assert not (home / ".ray").exists()
    build(source, tmp_path / "whole", QUICK)
    assert contents(out) == contents(tmp_path / "whole")


def _addresses(process: psutil.Process) -> set[str]:
    """Where it and what it started listen."""
    found: set[str] = set()
    try:
        for one in (process, *process.children(recursive=True)):
            found |= {place.laddr.ip.removeprefix("::ffff:") for place in one.net_connections("inet") if place.status == psutil.CONN_LISTEN}
    except psutil.Error:  # one has ended in between
        pass
    return found
