"""Fetching a model from the Hugging Face hub, only with the painter's consent, in a way that can be broken off and taken up again.

huggingface_hub speaks the protocol; what it leaves out is done here: it throws a half-downloaded file away, so we keep it
(`.<name>.<etag>.part`) and go on from its end; and it trusts what arrives, so we check the hash that the hub announced and write our own
into a small manifest. No token is ever sent: the models are public, and a mirror must not see one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from lib_refonly.errors import BadModel, CannotWrite, Offline
from lib_refonly.models.weights import read_json

MANIFEST = "refonly-files.json"
_ROOM = 100_000_000
"""Bytes that stay free beyond what is downloaded."""
_REPO = re.compile(r"[A-Za-z0-9][\w.\-]{0,95}/[\w.\-]{1,95}")
_BLOCK = 1 << 20

File = str | tuple[str, ...]
"""A file's name in the repository, or several of which the first that exists is taken."""


@dataclass(frozen=True)
class Remote:
    """A model on the hub. `about`: what a painter has to know before consenting."""

    repo_id: str
    files: tuple[File, ...]
    about: str


def _weights(folder: str, *stems: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{stem}{end}" for end in (".safetensors", ".bin") for stem in stems)


RELEASED = Remote(
    "AisingioroHao0/stable-diffusion-reference-only-automatic-coloring-0.1.2",
    (
        "model_index.json",
        "unet/config.json",
        _weights("unet", "diffusion_pytorch_model"),
        "vae/config.json",
        _weights("vae", "diffusion_pytorch_model"),
        "image_encoder/config.json",
        ("image_encoder/model.safetensors", "image_encoder/pytorch_model.bin", "image_encoder/model.bin"),
        "scheduler/scheduler_config.json",
        "clip_image_processor/preprocessor_config.json",
    ),
    "The authors' full-size model: several gigabytes from huggingface.co.",
)
SEGMENTER = Remote("skytnt/anime-seg", ("isnetis.onnx",), "Cuts characters out of their background: about 180 MB from huggingface.co.")


@dataclass(frozen=True)
class Progress:
    """`done` of `total` bytes of the whole download; `file` is under way."""

    file: str
    done: int
    total: int


OnProgress = Callable[[Progress], None]
"""It may raise `Interrupted`; what has arrived is kept for the next time."""


@dataclass(frozen=True)
class _Found:
    """One file as the hub announces it."""

    name: str
    url: str
    size: int
    etag: str
    commit: str


def download(
    repo_id: str,
    to: Path,
    *,
    files: Sequence[File],
    on_progress: OnProgress | None = None,
    consent: bool = False,
    offline: bool = False,
    mirror: str | None = None,
    revision: str = "main",
) -> Path:
    """Bring `files` of a public hub repository into the folder `to`. What is there already, and unharmed, is not fetched again.

    Args:
        consent: the painter said yes. Without it nothing leaves the machine.
        offline: use what is there or fail (HF_HUB_OFFLINE does the same).
        mirror: address of another server with the hub's protocol, https:// (http:// on this machine only). Default: HF_ENDPOINT or the hub.

    Returns:
        `to`.

    Raises:
        Offline: no consent, no network, a connection that broke (go on by calling again), or a repository that is not public.
        BadModel: no such file there, or what came is not what was announced (it is removed).
        CannotWrite: not enough room, no permission, or another download into the same folder.
    """
    _check_names(repo_id, files)
    if _is_there(to, files):
        return to
    _check_allowed(repo_id, consent, offline)
    with _writing(to), _network(repo_id), _alone(to):
        found = [_find(repo_id, file, revision, _endpoint(mirror)) for file in files]
        missing = [one for one in found if not _intact(to, one.name)]
        done = sum(one.size for one in found) - sum(one.size for one in missing)
        _check_room(to, missing)
        for one in missing:
            report = _reporter(on_progress, one.name, done, sum(o.size for o in found))
            _fetch(one, to, report)
            _note(to, repo_id, one)
            done += one.size
    return to


def damaged(folder: Path) -> list[str]:
    """Files that are gone or have changed since they were downloaded. Reads every byte."""
    files = _manifest(folder).get("files", {})
    return [name for name in files if not _intact(folder, name)]


def _check_names(repo_id: str, files: Sequence[File]) -> None:
    if not _REPO.fullmatch(repo_id) or ".." in repo_id:
        raise BadModel(f"{repo_id!r} is no model on the hub; those are called owner/name.")
    for name in (name for file in files for name in choices(file)):
        parts = PurePosixPath(name).parts
        if not parts or name != "/".join(parts) or any(not re.fullmatch(r"\w[\w.\- ]*", part) for part in parts):
            raise BadModel(f"{name!r} is no file name in a model.")


def choices(file: File) -> tuple[str, ...]:
    """The names that a file may have."""
    return (file,) if isinstance(file, str) else file


def _is_there(to: Path, files: Sequence[File]) -> bool:
    known = _manifest(to).get("files", {})
    names = [next((name for name in choices(file) if name in known), None) for file in files]
    return all(name is not None and _intact(to, name) for name in names)


def _intact(folder: Path, name: str) -> bool:
    entry, path = _manifest(folder).get("files", {}).get(name), folder / name
    return isinstance(entry, dict) and path.is_file() and path.stat().st_size == entry.get("size") and _sha256(path) == entry.get("sha256")


def _manifest(folder: Path) -> dict[str, Any]:
    return read_json(folder / MANIFEST) if (folder / MANIFEST).is_file() else {}


def _check_allowed(repo_id: str, consent: bool, offline: bool) -> None:
    from huggingface_hub import constants

    if offline or constants.HF_HUB_OFFLINE:
        raise Offline(f"{repo_id} is not (completely) on this machine, and the program is set to stay offline.")
    if not consent:
        raise Offline(f"{repo_id} has to be downloaded first. Nothing was fetched: agree to the download, or point to a folder that has it.")


def _endpoint(mirror: str | None) -> str | None:
    if mirror is None:
        return None
    parts = urllib.parse.urlsplit(mirror)
    local = parts.hostname in ("127.0.0.1", "::1", "localhost")
    if not parts.hostname or parts.username or (parts.scheme != "https" and not (local and parts.scheme == "http")):
        raise Offline(f"{mirror!r} is no address of a mirror: https:// and a host name are wanted.")
    return mirror.rstrip("/")


@contextmanager
def _network(repo_id: str) -> Iterator[None]:
    """Turn whatever the hub's client raises into a sentence."""
    from huggingface_hub import errors

    try:
        yield
    except errors.EntryNotFoundError:
        raise BadModel(f"{repo_id} does not have all the files that are wanted. It is another kind of model, or was changed.") from None
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", 0)
        if status in (401, 403, 404):
            raise Offline(f"{repo_id} is not there, or not open to everybody ({status}). Download it by hand and point to its folder.") from None
        raise Offline(f"The server of {repo_id} has a problem ({status}). What has arrived is kept; try again later.") from None
    except (*_transport_errors(), errors.FileMetadataError) as error:
        raise Offline(f"{repo_id}: the connection failed ({_said(error)}). What has arrived is kept; try again to go on from there.") from None


def _said(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:150]


def _transport_errors() -> tuple[type[Exception], ...]:
    """The connection errors of the HTTP library that the installed huggingface_hub uses: requests, httpx or httpx2, by its version."""
    import importlib.util

    found: list[type[Exception]] = []
    for module, name in (("httpx2", "TransportError"), ("httpx", "TransportError"), ("requests", "RequestException")):
        if importlib.util.find_spec(module):
            found.append(getattr(importlib.import_module(module), name))
    return tuple(found)


@contextmanager
def _writing(to: Path) -> Iterator[None]:
    try:
        to.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if error.errno is None:  # the hub client's own: fewer bytes than announced
            raise Offline("The connection broke off. What has arrived is kept; try again to go on from there.") from None
        reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror
        raise CannotWrite(f"The download could not be saved in {to}: {reason}.") from None


@contextmanager
def _alone(to: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(to / ".download.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise CannotWrite(f"Another download into {to} is under way. Wait for it, or stop it.") from None
    try:
        yield
    finally:
        lock.release()


def _find(repo_id: str, file: File, revision: str, endpoint: str | None) -> _Found:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    *others, last = choices(file)
    for name in (*others, last):
        url = hf_hub_url(repo_id, name, revision=revision, endpoint=endpoint)
        try:
            told = get_hf_file_metadata(url, token=False, timeout=20)
        except EntryNotFoundError:
            if name == last:
                raise
            continue
        if told.size is None or not told.etag or not told.commit_hash:
            raise Offline(f"The server does not say what {name} should be. It is no hub, or something between changes its answers.")
        pinned = hf_hub_url(repo_id, name, revision=told.commit_hash, endpoint=endpoint)
        return _Found(name, pinned, told.size, told.etag, told.commit_hash)
    raise AssertionError("the last choice returns or raises")


def _check_room(to: Path, missing: Sequence[_Found]) -> None:
    wanted = sum(max(0, one.size - _size(_part(to, one))) for one in missing)
    free = shutil.disk_usage(to).free
    if missing and free < wanted + _ROOM:
        raise CannotWrite(f"{wanted / 1e9:.1f} GB are to be downloaded, but only {free / 1e9:.1f} GB are free in {to}. Make room or choose another folder.")


def _part(to: Path, one: _Found) -> Path:
    mark = hashlib.sha256(one.etag.encode()).hexdigest()[:12]  # a part of another version is not gone on with
    return to / PurePosixPath(one.name).parent / f".{PurePosixPath(one.name).name}.{mark}.part"


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _reporter(on_progress: OnProgress | None, name: str, before: int, total: int) -> Callable[[int], None]:
    return lambda here: on_progress(Progress(name, before + here, total)) if on_progress else None


class _Counted:
    """The file that the hub's client writes to; says after each piece how much there is."""

    def __init__(self, file: Any, report: Callable[[int], None]) -> None:
        self._file, self._report = file, report

    def write(self, piece: bytes) -> int:
        written = self._file.write(piece)
        self._report(self._file.tell())
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _fetch(one: _Found, to: Path, report: Callable[[int], None]) -> None:
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    part = _part(to, one)
    part.parent.mkdir(parents=True, exist_ok=True)
    if _size(part) > one.size:
        part.unlink()
    with part.open("ab") as file, _quiet():
        report(file.tell())
        http_get(one.url, _Counted(file, report), resume_size=file.tell(), headers=build_hf_headers(token=False), expected_size=one.size)  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())
    if not _as_announced(part, one):
        part.unlink()
        raise BadModel(f"{one.name} arrived damaged, or was changed on the way: its hash is not the announced one. It was removed; try again.")
    os.replace(part, to / one.name)


@contextmanager
def _quiet() -> Iterator[None]:
    """Our progress is shown, not the hub client's."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    before = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            enable_progress_bars()


def _as_announced(path: Path, one: _Found) -> bool:
    """The hub's etag is the SHA-256 of a large file, or git's SHA-1 of a small one; a mirror may have others, then the size has to do."""
    if path.stat().st_size != one.size:
        return False
    if re.fullmatch(r"[0-9a-f]{64}", one.etag):
        return _sha256(path) == one.etag
    if re.fullmatch(r"[0-9a-f]{40}", one.etag):
        return _hash(path, hashlib.sha1(f"blob {one.size}\0".encode(), usedforsecurity=False)) == one.etag
    return True


def _sha256(path: Path) -> str:
    return _hash(path, hashlib.sha256())


def _hash(path: Path, digest: Any) -> str:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _note(to: Path, repo_id: str, one: _Found) -> None:
    known = _manifest(to)
    files = dict(known.get("files", {})) | {one.name: {"size": one.size, "sha256": _sha256(to / one.name)}}
    half = to / f".{MANIFEST}.part"
    half.write_text(json.dumps({"repo": repo_id, "revision": one.commit, "files": files}, indent=1) + "\n", "utf-8")
    os.replace(half, to / MANIFEST)
