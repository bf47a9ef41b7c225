"""Reading what pip prints: how far it is, and why it failed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lib_refonly.errors import CannotWrite, Offline, PainterError

_FETCH = re.compile(r"^\s*(?:Downloading|Using cached|Processing)\s+(?P<file>\S+?)(?:\.metadata)?(?:\s+\((?P<size>[\d.]+ \w+)\))?\s*$")
_WHEEL = re.compile(r"(?P<name>[^/\\]+?)-(?P<version>\d[^-]*)(?:-[^/\\]*\.whl|\.tar\.gz|\.zip)$")
_INSTALLING = re.compile(r"^Installing collected packages: (?P<names>.+)$")
_RETRYING = re.compile(r"Retrying \(Retry\(total=(?P<left>\d+)")


@dataclass(frozen=True)
class Fetching:
    """pip has begun to fetch one package. `size` is pip's own text ("12.3 MB") or ""."""

    name: str
    version: str
    size: str


@dataclass(frozen=True)
class Installing:
    """Everything is fetched; pip installs these, in this order."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Retrying:
    """The network did not answer; pip tries `left` more times."""

    left: int


def read_line(line: str) -> Fetching | Installing | Retrying | None:
    """What one line of pip's says, or None when it is of no interest."""
    if (installing := _INSTALLING.match(line)) is not None:
        return Installing(tuple(name.strip() for name in installing["names"].split(",")))
    if (retrying := _RETRYING.search(line)) is not None:
        return Retrying(int(retrying["left"]))
    fetch = _FETCH.match(line)
    if fetch is None or ".metadata" in line:
        return None
    wheel = _WHEEL.search(fetch["file"])
    return Fetching(wheel["name"].replace("_", "-"), wheel["version"], fetch["size"] or "") if wheel else None


_DISK = r"No space left on device|Errno 28|not enough space on the disk|Disk quota exceeded"
_CERTIFICATE = r"CERTIFICATE_VERIFY_FAILED|certificate verify failed"
_NETWORK = (
    r"NewConnectionError|ConnectTimeoutError|ReadTimeoutError|NameResolutionError|Temporary failure in name resolution|getaddrinfo failed|"
    r"Network is unreachable|Connection refused|ProxyError|Max retries exceeded|Connection broken|ConnectionResetError|IncompleteRead|"
    r"RemoteDisconnected"
)
_PERMISSION = r"Permission denied|Errno 13|Errno 30|Read-only file system|Access is denied"
_NO_VERSION = r"No matching distribution found for (?P<what>[^\s;]+)"
_LONG_PATH = r"WinError 206|enable-long-paths|long path"


def explain_failure(lines: Sequence[str], log: str) -> PainterError:
    """The error to raise for a pip that failed, from what it printed. `log` is where its whole output lies."""
    text = "\n".join(lines)
    again = "What was fetched is kept: start again and it goes on from there."
    if re.search(_DISK, text):
        return CannotWrite(f"The disk filled up while packages were installed. Make room, then start again. {again}")
    if re.search(_CERTIFICATE, text):
        return Offline(
            "The package index cannot be trusted: its certificate does not check out. A proxy or a virus scanner may sit in between "
            "(PIP_CERT names its certificate to pip)."
        )
    if re.search(_NETWORK, text):
        return Offline(f"The package index cannot be reached. Is the network up, and do you need a proxy (HTTPS_PROXY)? {again}")
    if (none := re.search(_NO_VERSION, text)) is not None:
        return PainterError(
            f"There is no {none['what']} for this computer and Python. torch needs 64-bit Linux (glibc 2.28 or later), "
            f"64-bit Windows, or macOS 14 on Apple silicon. Details: {log}"
        )
    if re.search(_LONG_PATH, text):
        return CannotWrite("A path became too long for Windows. Move this folder nearer to the drive's root, then start again.")
    if re.search(_PERMISSION, text):
        return CannotWrite(f"The environment's folder cannot be written, or another program holds a file in it. Details: {log}")
    errors = [line.strip() for line in lines if line.lstrip().startswith("ERROR:")]
    reason = errors[-1].removeprefix("ERROR:").strip() if errors else "pip stopped without saying why"
    return PainterError(f"The packages could not be installed: {reason} Details: {log}")
