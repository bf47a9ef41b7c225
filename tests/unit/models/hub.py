"""A hub on 127.0.0.1: the part of the protocol that resolves files, with the faults that real ones have."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """`files`: {"owner/name": {"path": content}}. `cut`: bytes after which the connection breaks, once for each entry. `requests`: "GET path range"."""

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    cut: list[int] = field(default_factory=list)
    status: int = 200
    etag: str = ""
    ranges: bool = True
    requests: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    def gets(self) -> list[str]:
        return [request for request in self.requests if request.startswith("GET /blob")]

    @contextmanager
    def running(self) -> Iterator[Hub]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def find(self, path: str) -> bytes | None:
        """Content behind /owner/name/resolve/REVISION/file or /blob/owner/name/file."""
        parts = path.removeprefix("/blob").split("/")
        repo = "/".join(parts[1:3])
        name = "/".join(parts[3:] if path.startswith("/blob") else parts[5:])
        return self.files.get(repo, {}).get(name)

    def etag_of(self, content: bytes) -> str:
        """As the hub does: SHA-256 for large files (here: from 1000 bytes), git's SHA-1 for small ones."""
        if self.etag:
            return self.etag
        return hashlib.sha256(content).hexdigest() if len(content) >= 1000 else hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self._answer(head=True)

            def do_GET(self) -> None:
                self._answer(head=False)

            def _answer(self, head: bool) -> None:
                hub.requests.append(f"{self.command} {self.path} {self.headers.get('Range', '')}".strip())
                hub.headers.append(dict(self.headers))
                content = hub.find(self.path)
                if hub.status != 200 or content is None:
                    self._plain(hub.status if hub.status != 200 else 404)
                elif self.path.startswith("/blob"):
                    self._blob(content)
                else:
                    self._redirect(content)

            def _plain(self, status: int) -> None:
                self.send_response(status)
                if status == 404:
                    repo_known = any(self.path.startswith(f"/{repo}/") for repo in hub.files)
                    self.send_header("X-Error-Code", "EntryNotFound" if repo_known else "RepoNotFound")
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def _redirect(self, content: bytes) -> None:
                owner, name, _, _, path = self.path.removeprefix("/").split("/", 4)
                self.send_response(302)
                self.send_header("Location", f"/blob/{owner}/{name}/{path}")
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("X-Linked-Size", str(len(content)))
                self.send_header("X-Linked-ETag", f'"{hub.etag_of(content)}"')
                self.send_header("Content-Length", "0")
                self.end_headers()

            def _blob(self, content: bytes) -> None:
                asked = self.headers.get("Range")
                start = int(asked.removeprefix("bytes=").split("-")[0]) if asked and hub.ranges else 0
                rest = content[start:]
                self.send_response(206 if asked and hub.ranges else 200)
                if asked and hub.ranges:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.send_header("ETag", f'"{hub.etag_of(content)}"')
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Content-Length", str(len(rest)))
                self.end_headers()
                if self.command == "HEAD":
                    return
                if hub.cut:
                    self.wfile.write(rest[: hub.cut.pop(0)])
                    self.wfile.flush()
                    self.close_connection = True
                    self.connection.close()
                else:
                    self.wfile.write(rest)

        return Handler
