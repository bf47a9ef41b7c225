"""Where the work on single pictures is done: in this process, or by Ray's workers, on this machine and on others.

Work comes as units, each of which is there whole or not at all and gives the same bytes wherever and however often it is done. So Ray may repeat what a
killed worker or a lost machine left, and nothing here has to know of it. Everything goes through the data set's own folder, which all machines have to
see under the same path, as they have to see the pictures and the models.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import itertools
import os
import platform
import secrets
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from lib_refonly.errors import BadSettings, PainterError
from lib_refonly.training.dataset.optional import needed

T = TypeVar("T")
LOCAL = "local"
_MAKING_BYTES = ("numpy", "opencv-python-headless", "pillow", "torch", "transformers")
"""Other versions of these could give other bytes."""
_AHEAD = 4
"""Units handed to Ray for each processor: enough for none to wait, few enough to be held."""
_STORE = 256 * 2**20
"""Bytes of memory for what passes between the workers of a Ray that is started here. What is large goes through the disk."""


class Workers(Protocol):
    """Does work(*unit) for every unit, in any order, and gives the unit's number with what came of it; `gpu`: each of them needs a graphics card.

    Raises: PainterError: as `work`, or a worker cannot work.
    """

    def __call__(self, work: Callable[..., T], units: Iterable[tuple[Any, ...]], gpu: bool = False) -> Iterator[tuple[int, T]]: ...


def here(work: Callable[..., T], units: Iterable[tuple[Any, ...]], gpu: bool = False) -> Iterator[tuple[int, T]]:
    """In this process, one after the other."""
    return ((number, work(*unit)) for number, unit in enumerate(units))


@contextlib.contextmanager
def workers(address: str, out: Path, seen: Iterable[Path]) -> Iterator[Workers]:
    """Who does the work: `here` for "", the workers of a Ray started for it for "local", else those of the Ray at `address`.

    out: the data set's folder. seen: whatever else the workers read. Both are looked for by every machine at the start, and by a machine that comes later
    before it does anything.

    Raises:
        PainterError: Ray is not installed. BadSettings: it cannot be reached; a machine sees other files or has other packages.
    """
    if not address:
        yield here
        return
    ray = _connected(address)
    token = out / f".{secrets.token_hex(8)}.part"
    try:
        token.touch()
        needs = _Needs(token, tuple(seen), _versions())
        _ask_all_machines(ray, needs)
        yield _Spread(ray, needs)
    finally:
        token.unlink(missing_ok=True)
        ray.shutdown()


def _connected(address: str) -> Any:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    own: dict[str, Any] = {}
    if address == LOCAL:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # despite its name, on every system: it stays on the loopback
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else one is written into the home folder
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        own = {"include_dashboard": False, "object_store_memory": _STORE}
    ray = needed("ray")
    try:
        _knock(address)
        ray.init(address=address, logging_level="ERROR", log_to_driver=False, **own)
    except Exception as error:  # whatever Ray and gRPC raise for a wrong address, a wrong version, a closed port
        raise BadSettings(f"Ray at {address!r} can't be used: {_first_line(error)}") from error
    return ray


def _knock(address: str) -> None:
    """Ray tries for many minutes where nobody answers. Raises: OSError, ValueError."""
    host, port = address.rpartition("://")[2].rpartition(":")[::2]
    if host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


@dataclass(frozen=True)
class _Needs:
    """What a machine has to have: a file of a random name that the handing machine wrote, everything that is read, the same packages."""

    token: Path
    seen: tuple[Path, ...]
    versions: tuple[str, ...]

    def check(self) -> None:
        """Raises: BadSettings."""
        missing = next((path for path in (self.token, *self.seen) if not path.exists()), None)
        if missing is not None:
            raise BadSettings(
                f"The machine {platform.node()} does not see {self.token.parent if missing == self.token else missing}. All machines of the cluster have to "
                "see the pictures, the data set and the models under the same paths: put them on a file system that they share."
            )
        if _versions() != self.versions:
            differs = ", ".join(f"{theirs} instead of {ours}" for theirs, ours in zip(_versions(), self.versions, strict=True) if theirs != ours)
            raise BadSettings(f"The machine {platform.node()} has {differs}, which could give other pictures. Install the same versions there.")


def _check(needs: _Needs) -> None:
    needs.check()


def _versions() -> tuple[str, ...]:
    return tuple(f"{name} {importlib.metadata.version(name)}" for name in _MAKING_BYTES)


def _ask_all_machines(ray: Any, needs: _Needs) -> None:
    """Raises: BadSettings: what is wrong with the first machine that cannot do the work."""
    by_node = needed("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    ask = ray.remote(_check)
    asked = [ask.options(num_cpus=0, scheduling_strategy=by_node(node["NodeID"], soft=False)).remote(needs) for node in nodes]
    for node, answer in zip(nodes, asked, strict=True):
        wrong = f"The machine {node['NodeManagerHostname']} can't do this work. It needs this project, in the same folder, and its Python environment."
        with _told(ray, wrong), contextlib.suppress(ray.exceptions.TaskUnschedulableError):  # it has left in between
            ray.get(answer)


@contextlib.contextmanager
def _told(ray: Any, wrong: str) -> Iterator[None]:
    """What was raised in a worker is raised here as it was; whatever else went wrong is said in the words `wrong`."""
    try:
        yield
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, PainterError):
            raise cause from None
        if isinstance(error, ray.exceptions.RayTaskError) and not isinstance(cause, ImportError):
            raise  # a mistake in the program keeps its traceback
        raise BadSettings(f"{wrong} ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _in_worker(needs: _Needs, work: Callable[..., T], unit: tuple[Any, ...]) -> T:
    needs.check()
    import cv2

    cv2.setNumThreads(1)  # a worker has one processor; Ray tells torch and numpy, but not OpenCV
    return work(*unit)


class _Spread:
    """Ray's workers. A worker or a machine that dies is Ray's affair: it does the unit again (three times, then it is told)."""

    def __init__(self, ray: Any, needs: _Needs) -> None:
        self._ray, self._needs = ray, needs

    def __call__(self, work: Callable[..., T], units: Iterable[tuple[Any, ...]], gpu: bool = False) -> Iterator[tuple[int, T]]:
        ray, has = self._ray, self._ray.cluster_resources()
        if gpu and not has.get("GPU"):
            raise BadSettings("Ray knows of no graphics card. Take --device cpu, or start its machines with cards.")
        do = ray.remote(_in_worker).options(num_cpus=1, num_gpus=1 if gpu else 0, max_retries=3)
        handed = functools.partial(do.remote, self._needs, work)
        ahead, numbered, waiting = _AHEAD * max(1, int(has.get("CPU", 1))), enumerate(units), dict[Any, int]()
        while True:
            for number, unit in itertools.islice(numbered, ahead - len(waiting)):
                waiting[handed(unit)] = number
            if not waiting:
                return
            done, _ = ray.wait(list(waiting), num_returns=1)
            with _told(
                ray, "The workers were ended again and again. They may lack memory, or a picture crashes them; take smaller chunks (--chunk) to find it."
            ):
                result = ray.get(done[0])
            yield waiting.pop(done[0]), result
