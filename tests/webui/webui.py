"""A WebUI that is already installed in some folder, started for a test with this extension and stopped again. Nothing of it is changed for good."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PROBE = Path(__file__).resolve().parent / "probe"
"""A small extension that raises in the middle of sampling."""
RESULTS = ROOT / "docs" / "hosts"
SAMPLES = ROOT / "lib_refonly" / "assets" / "samples"
TITLE = "Reference Only"
_READY, _PATIENCE = "Startup time:", 600
_COMMON = (
    *("--skip-prepare-environment", "--skip-python-version-check", "--skip-torch-cuda-test", "--api"),
    *("--no-download-sd-model", "--no-hashing", "--disable-console-progressbars"),
)
_ON_THE_CPU = (("--always-cpu",), ("--cpu",), ("--use-cpu", "all"))
_IN_FLOAT32 = (("--no-half", "--precision", "full"), ("--force-fp32",))
_KNOWN_IN = ("modules/cmd_args.py", "backend/args.py", "ldm_patched/modules/args_parser.py", "extensions-builtin/*/preload.py")
"""Where hosts name their flags. Some end at one that they do not know."""


class Failed(Exception):
    """The host answered with an error."""


@dataclass
class Painted:
    picture: np.ndarray
    info: dict[str, Any]

    @property
    def text(self) -> str:
        return self.info["infotexts"][0]


@dataclass
class WebUI:
    folder: Path
    python: str
    checkpoints: Path
    models: Path
    flags: tuple[str, ...] = ()
    port: int = 0
    log: Path = field(init=False)
    process: subprocess.Popen[bytes] | None = None

    @property
    def is_forge(self) -> bool:
        return (self.folder / "modules_forge").is_dir()

    @property
    def loras(self) -> Path:
        return self.models.parent / "loras"

    @property
    def jobs(self) -> Path:
        return self.models.parent / "jobs"

    @property
    def embeddings(self) -> Path:
        return self.models.parent / "embeddings"

    @property
    def name(self) -> str:
        if not self.is_forge:
            return "A1111"
        if not (self.folder / "backend").is_dir():
            return "reForge"
        return "Forge-Neo" if (self.folder / "modules_forge" / "packages").is_dir() else "Forge"

    @property
    def loads_tiny(self) -> bool:
        """Whether the loader takes networks as narrow as `tiny-base` (reForge's knows true widths alone)."""
        return self.name != "reForge"

    def sheet(self, what: str) -> Path:
        """Where a test's picture for docs/hosts.md goes."""
        return RESULTS / f"{what}-{self.name.lower()}.png"

    def _arguments(self) -> list[str]:
        named = "\n".join(path.read_text("utf-8") for place in _KNOWN_IN for path in self.folder.glob(place))
        first = sorted(self.checkpoints.glob("*.safetensors"))[0]
        wanted: list[tuple[tuple[str, ...], ...]] = [
            *(((flag,),) for flag in _COMMON),
            _ON_THE_CPU,
            _IN_FLOAT32,
            (("--port", str(self.port)),),
            (("--ckpt-dir", str(self.checkpoints)), ("--ckpt-dirs", str(self.checkpoints))),
            (("--ckpt", str(first)),),
            (("--lora-dir", str(self.loras)), ("--lora-dirs", str(self.loras))),
            (("--embeddings-dir", str(self.embeddings)),),
        ]
        chosen = [next((one for one in ways if f'"{one[0]}"' in named or f"'{one[0]}'" in named), ()) for ways in wanted]
        return [*(word for one in chosen for word in one), *self.flags]

    def start(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = self.models.parent / f"{self.name}.log"
        arguments = self._arguments()
        environment = os.environ | {
            "REFONLY_MODELS_DIR": str(self.models),
            "REFONLY_JOBS_DIR": str(self.jobs),
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "GRADIO_ANALYTICS_ENABLED": "False",
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([self.python, "launch.py", *arguments], cwd=self.folder, env=environment, stdout=log, stderr=log)
        end = time.monotonic() + _PATIENCE
        # No request before it is ready: one version dies of it.
        while _READY not in self.log.read_text("utf-8", "replace"):
            if self.process.poll() is not None or time.monotonic() > end:
                raise Failed(f"The WebUI did not start: {self.log.read_text('utf-8', 'replace')[-3000:]}")
            time.sleep(1)

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def ask(self, path: str, body: Any = None, **headers: str) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, {"Content-Type": "application/json", **headers})
        try:
            with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise Failed(f"{error.code} {error.read().decode('utf-8', 'replace')[:2000]}") from None

    def paint(self, request: Any = None, kind: str = "txt2img", **settings: Any) -> Painted:
        """One picture (the first of several) with these settings, and `request` for our panel."""
        return self.paint_all(request, kind, **settings)[0]

    def paint_all(self, request: Any = None, kind: str = "txt2img", checkpoint: str = "rand-sd15", **settings: Any) -> list[Painted]:
        body: dict[str, Any] = {
            "prompt": "a cat",
            "steps": 3,
            "width": 128,
            "height": 128,
            "seed": 1,
            "sampler_name": "Euler",
            "cfg_scale": 5,
            "override_settings_restore_afterwards": False,
        }
        body["override_settings"] = {"sd_model_checkpoint": self.checkpoint(checkpoint)} | settings.pop("override_settings", {})
        body["alwayson_scripts"] = settings.pop("alwayson_scripts", {})
        if request is not None:
            body["alwayson_scripts"] = body["alwayson_scripts"] | {TITLE: {"args": request if isinstance(request, list) else [request]}}
        answer = self.ask(f"/sdapi/v1/{kind}", body | settings)
        info = json.loads(answer["info"])
        count = settings.get("batch_size", 1) * settings.get("n_iter", 1)
        pictures = answer["images"][-count:] if len(answer["images"]) > count else answer["images"]
        return [Painted(np.asarray(Image.open(io.BytesIO(base64.b64decode(one))).convert("RGB")).astype(int), info) for one in pictures]

    def checkpoint(self, name: str) -> str:
        return next(model["title"] for model in self.ask("/sdapi/v1/sd-models") if name in model["title"])

    def samplers(self) -> list[str]:
        return [sampler["name"] for sampler in self.ask("/sdapi/v1/samplers")]

    def hires(self, denoising: float) -> dict[str, Any]:
        """Settings of a hires fix that the host has an upscaler for."""
        latent = [one["name"] for one in self.ask("/sdapi/v1/latent-upscale-modes")]
        upscaler = "Latent" if "Latent" in latent else "None"  # a host without latent ones enlarges pixels, plainly by this name
        wanted = {"enable_hr": True, "hr_scale": 1.5, "hr_second_pass_steps": 3, "denoising_strength": denoising, "hr_upscaler": upscaler}
        return wanted | ({"hr_additional_modules": ["Use same choices"]} if self.is_forge else {})

    def plot(self, axis: str, values: str) -> list[Any]:
        """Arguments of X/Y/Z plot's script with one axis: those that every host has, and the rest as the host's page has them."""
        info = next(one for one in self.ask("/sdapi/v1/script-info") if one["name"] == "x/y/z plot" and not one["is_img2img"])
        choices, own = info["args"][0]["choices"], [one.get("value") for one in info["args"]]
        none = choices.index("Nothing")
        return [choices.index(axis), values, [], none, "", [], none, "", [], *own[9:]]

    @property
    def memory(self) -> int:
        """Resident bytes of the process."""
        assert self.process is not None
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


def linked(folder: Path, extension: Path) -> Path | None:
    """Link a folder into the WebUI's extensions. Returns the link, or None where it is there already."""
    extensions = folder / "extensions"
    if any(path.resolve() == extension for path in extensions.iterdir()):
        return None
    link = extensions / f"refonly-{extension.name}"
    if link.is_symlink():  # left behind by a run that was killed
        link.unlink()
    link.symlink_to(extension, target_is_directory=True)
    return link


def text_of(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def drawing(sample: int = 0) -> str:
    return text_of(sorted(SAMPLES.iterdir())[sample] / "lines.png")


def reference(sample: int = 0) -> str:
    return text_of(sorted(SAMPLES.iterdir())[sample] / "reference.png")


def asked(sample: int = 0, model: str = "rand-refonly", lines: int | None = None, unit: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    """A request for our panel: the reference of one sample, the drawing of the same or of another."""
    units = [{"picture": reference(sample)} | (unit or {})]
    return {"enabled": True, "model": model, "drawing": drawing(sample if lines is None else lines), "units": units} | settings


def beside(act: Any, delay: float) -> threading.Thread:
    """Call `act` after `delay` seconds, beside what goes on."""
    thread = threading.Thread(target=lambda: (time.sleep(delay), act()), daemon=True)
    thread.start()
    return thread


def python_of(folder: Path) -> str:
    """The WebUI's own python, where it has a venv; else this one."""
    for place in (folder / "venv" / "bin" / "python", folder / "venv" / "Scripts" / "python.exe"):
        if place.exists():
            return str(place)
    return sys.executable
