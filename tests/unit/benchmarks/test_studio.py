"""The studio benchmark: what it gives the engine, what it makes of the numbers, and how it waits for a page."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from benchmarks import studio, worker
from benchmarks.measure import Clock
from benchmarks.pictures import frame, reference
from lib_refonly.studio.requests import ColorRequest, ColorResult


class Counting:
    """An engine that notes its work."""

    def __init__(self) -> None:
        self.single: list[ColorRequest] = []
        self.together: list[Sequence[ColorRequest]] = []

    def color(self, request: ColorRequest) -> Iterator[ColorResult]:
        self.single.append(request)
        return iter(())

    def color_all(self, requests: Sequence[ColorRequest]) -> Iterator[ColorResult]:
        self.together.append(requests)
        return iter(())


def test_frames_move_and_the_reference_has_colours() -> None:
    frames = [np.asarray(frame(i, 64)) for i in (0, 4, 12)]
    assert not np.array_equal(frames[0], frames[1])
    assert not np.array_equal(frames[1], frames[2])
    assert np.ptp(frames[0].astype(int), axis=2).max() == 0
    assert np.ptp(np.asarray(reference(64)).astype(int), axis=2).max() > 100


def test_requests_are_frames_of_one_animation() -> None:
    asked = worker.requests("tiny", 128, 20)
    assert len(asked) == worker.FRAMES
    assert {request.settings.seed for request in asked} == set(range(worker.FRAMES))
    assert len({id(request.references[0].picture) for request in asked}) == 1
    assert all((r.settings.size, r.settings.steps, r.model) == (128, 20, "tiny") for r in asked)


def test_picture_is_coloured_once_and_then_again() -> None:
    engine = Counting()
    found = worker.picture(engine, worker.requests("tiny", 128, 1)[0], 3)
    assert len(engine.single) == 4
    assert len(found["later"]) == 3
    assert found["peak"] > 2**20


def test_batch_compares_all_frames_both_ways_after_a_warm_up() -> None:
    engine, asked = Counting(), worker.requests("tiny", 128, 1)
    found = worker.batch(engine, asked, 2, Clock("wall", time.perf_counter))
    assert engine.single == [asked[0], *asked, *asked]
    assert engine.together == [asked, asked]
    assert {name: len(values) for name, values in found.items()} == {worker.ONE_BY_ONE: 2, worker.TOGETHER: 2}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process's peak cannot be inherited")
def test_peak_memory_is_the_process_s_own() -> None:
    """A child of a process that holds 200 MB has not had 200 MB itself."""
    code = "x = bytearray(200_000_000); import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]], check=True)"
    child = "from benchmarks.worker import peak_memory; assert peak_memory() < 150_000_000"
    subprocess.run([sys.executable, "-c", code, child], check=True, cwd=studio.ROOT)


def test_tables() -> None:
    pictures = {128: {"first": (5.0, 4.0), "later": [(1.0, 0.8), (1.2, 0.9), (1.4, 1.0)], "peak": 600 * 2**20}}
    batches = {128: {worker.ONE_BY_ONE: [16.0, 32.0], worker.TOGETHER: [8.0, 24.0]}}
    result = studio.summarise("tiny", "wall clock", pictures, batches, [6.04, 8.0, 7.0])
    whole, frames, start = (table.rows for table in result.tables)
    assert whole == (("128 px", "1.20", "1.00 to 1.40", "0.90", "5.00", "600 MB"),)
    assert frames == (("128 px", "1.500", "1.000", "0.62", "0.50 to 0.75"),)
    assert start[0][1:] == ("7.0", "6.0 to 8.0")


def test_waits_for_a_page_that_answers() -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert not studio._answers(closed.getsockname()[1])
    with HTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert studio._answers(server.server_port)
        server.shutdown()


def test_a_started_studio_is_ended() -> None:
    with studio._running([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        assert process.poll() is None
    assert process.poll() is not None
