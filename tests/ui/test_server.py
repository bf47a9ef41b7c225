"""What the server gives away, and to whom."""

from __future__ import annotations

import http.client
import json
import threading
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

import pytest

from tests.ui.conftest import Studio
from tests.ui.fakes import FakeStore, FlatEngine

REPOSITORY = Path(__file__).resolve().parents[2]


def get(studio: Studio, path: str, host: str | None = None, cookie: str = "") -> tuple[int, dict[str, str], bytes]:
    parts = urlsplit(studio.address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    connection.request("GET", path, headers={"Host": host or parts.netloc, "Cookie": cookie})
    answer = connection.getresponse()
    return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()


def test_the_policy_names_no_other_host(studio: Studio) -> None:
    status, headers, _ = get(studio, "/")
    assert status == 200
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7865", "127.0.0.1.evil.example", ""])
def test_foreign_host_names_are_refused(studio: Studio, host: str) -> None:
    assert get(studio, "/", host or "evil")[0] == 421


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1", "[::1]:7865"])
def test_own_host_names_are_served(studio: Studio, host: str) -> None:
    assert get(studio, "/", host)[0] == 200


@pytest.mark.parametrize("path", ["/etc/passwd", str(REPOSITORY / "studio.py"), str(REPOSITORY / ".git" / "config"), "../../../etc/passwd"])
def test_files_of_the_machine_are_not_served(studio: Studio, path: str) -> None:
    status, _, body = get(studio, f"/gradio_api/file={quote(path)}")
    assert status in (403, 404)
    assert b"root:" not in body


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/redoc"])
def test_no_interface_is_advertised(studio: Studio, path: str) -> None:
    assert get(studio, path)[0] in (404, 405)


def test_handlers_take_no_addresses(studio: Studio) -> None:
    """A picture given as an address is never fetched: the call fails before anything is read."""
    config = json.loads(get(studio, "/config")[2])
    zone = next(c for c in config["components"] if c["props"].get("elem_id") == "refonly-reference-1")
    function = next(d for d in config["dependencies"] if d["inputs"] == [zone["id"]])
    parts = urlsplit(studio.address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    picture = {"path": "http://127.0.0.1:9/x.png", "url": "http://127.0.0.1:9/x.png", "meta": {"_type": "gradio.FileData"}}
    body = {"data": [picture], "fn_index": function["id"], "session_hash": "abc"}
    connection.request("POST", "/gradio_api/queue/join", json.dumps(body), {"Content-Type": "application/json"})
    assert connection.getresponse().read()
    connection.close()
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    connection.request("GET", "/gradio_api/queue/data?session_hash=abc")
    said = connection.getresponse().read()
    assert b'"success":false' in said


def test_a_password_is_asked_for_where_others_listen(studio: Studio) -> None:
    from lib_refonly.studio import app

    port = app._free_port(0, "0.0.0.0")
    assert port is not None
    page = app.build(FlatEngine(threading.Event()), FakeStore(), local=False)
    page.launch(**app.launch_options("0.0.0.0", port, "anna:se:cret"))
    open_to_all = replace(studio, address=f"http://127.0.0.1:{port}/")
    try:
        assert get(open_to_all, "/config", "painters-machine:7865")[0] == 401
        assert log_in(open_to_all, "anna", "wrong")[0] == 400
        status, cookie = log_in(open_to_all, "anna", "se:cret")
        assert status == 200
        assert get(open_to_all, "/config", "painters-machine:7865", cookie)[0] == 200
    finally:
        page.close(verbose=False)


def log_in(studio: Studio, name: str, password: str) -> tuple[int, str]:
    """The answer's status and the cookies it gives."""
    connection = http.client.HTTPConnection(urlsplit(studio.address).netloc, timeout=20)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", "/login", urlencode({"username": name, "password": password}), form)
    answer = connection.getresponse()
    answer.read()
    return answer.status, "; ".join(value.split(";")[0] for key, value in answer.getheaders() if key.lower() == "set-cookie")
