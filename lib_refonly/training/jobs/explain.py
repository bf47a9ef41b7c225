"""From the end of a log to what it means and what to do, in a painter's words."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lib_refonly.training.jobs.log import cleaned

_LESS_MEMORY = (
    "Lower the batch size first (1 is enough), then the resolution, then the rank; turn on gradient checkpointing, caching of latents and bf16. "
    "Close other programs that use the graphics card, and unload the WebUI's model."
)
_LESS_RAM = "Close other programs, lower the batch size or the resolution, use fewer data loading workers, and cache latents on disk instead of in memory."
_LAST = 6
"""Lines of the error itself that are shown."""
_HINTS = 40
"""Last lines that are searched when no line looks like an error."""
_OURS = re.compile(r"studio\.py: (?!Something went wrong that should not)(?P<said>.+)")
_ERROR = re.compile(r"(?:\[rank\d+\]: ?)?(?:[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Panic)\b|(?i:fatal|error)\b)")
_OF_ANOTHER = re.compile(r"CalledProcessError|ChildFailedError")


@dataclass(frozen=True)
class Explanation:
    """meaning: what happened. advice: what to do. lines: the error's own last words."""

    meaning: str
    advice: str
    lines: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.meaning} {self.advice}".strip()


@dataclass(frozen=True)
class _Known:
    """What an error looks like. " {1}" in the meaning is what its first group found, in brackets at the end."""

    sign: re.Pattern[str]
    meaning: str
    advice: str

    def told(self, found: re.Match[str], words: tuple[str, ...]) -> Explanation:
        detail = (found[1] or "").strip(" '\":.") if self.sign.groups else ""
        meaning = self.meaning.replace(" {1}", f" ({detail})" if detail and self.meaning.endswith("{1}") else f" {detail}".rstrip())
        return Explanation(meaning if meaning.endswith(".") else f"{meaning}.", self.advice, words)


def _known(sign: str, meaning: str, advice: str) -> _Known:
    return _Known(re.compile(sign, re.IGNORECASE), meaning, advice)


_KNOWN = (
    _known(
        r"CUDA out of memory|OutOfMemoryError|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED|MPS backend out of memory|HIP out of memory",
        "The graphics card's memory is full.",
        _LESS_MEMORY,
    ),
    _known(
        r"No space left on device|disk is full|Errno 28\b|Disk quota exceeded|quota is used up|PytorchStreamWriter failed|inline_container",
        "The disk is full.",
        "Make room, then resume: what was saved last is kept.",
    ),
    _known(
        r"DefaultCPUAllocator|\bMemoryError\b|Cannot allocate memory|Unable to allocate .* (?:[KMGT]iB|bytes)|bad_alloc|not enough memory",
        "The computer's memory (RAM) is full.",
        _LESS_RAM,
    ),
    _known(
        r"loss is (?:no number|nan)|loss[^a-z\n]{0,12}\bnan\b|\bnan\b.{0,20}detected|NaN loss",
        "The loss is no number any more: the training has burst.",
        "Lower the learning rate, or use bf16 instead of fp16, then resume.",
    ),
    _known(
        r"No module named ['\"]?([\w.]+)",
        "The trainer's environment is incomplete: the Python package {1} is missing.",
        "Install the trainer again; the WebUI's own environment is another one.",
    ),
    _known(
        r"driver version is insufficient|no NVIDIA driver|CUDA driver initialization failed|no CUDA-capable device|CUDA unknown error|CUDA initialization",
        "The graphics card can't be used: its driver is missing, too old, or has lost the card.",
        "Update the driver, restart the computer, or train on the processor.",
    ),
    _known(
        r"no kernel image is available|not compiled with CUDA enabled",
        "This PyTorch was not made for your graphics card.",
        "Install the PyTorch for it in the trainer's environment.",
    ),
    _known(
        r"CUDA error: (.+)|CUDNN_STATUS_\w+|device-side assert",
        "The graphics card gave up in the middle of a computation.",
        "Resume; if it happens again, take overclocking back, lower the batch size, and update the driver.",
    ),
    _known(
        r"Permission denied:? ?(.*)|PermissionError(?!.*denied)",
        "A file or folder may not be used {1}",
        "Give yourself the right to it, or choose another folder; then resume.",
    ),
    _known(
        r"(?:FileNotFoundError|No such file or directory):?(?: \[Errno 2\])?(?: No such file or directory)?:? ?(.*)|(?:cannot|can't) find the (?:file|path).*",
        "A file or folder is missing {1}",
        "Put it back, or correct its path in the settings; then start again.",
    ),
    _known(r"Read-only file system", "The disk is read-only.", "Choose a folder on another disk; then start again."),
    _known(r"KeyboardInterrupt", "It was stopped by the keyboard (Ctrl-C).", "Resume goes on from what was saved last."),
)
_ON = "Resume goes on from what was saved last."
_KILLED = Explanation("It was killed from outside, most often by the system because the computer's memory (RAM) was full.", f"{_LESS_RAM} {_ON}")
_ENDED = Explanation("It was told to end by the system or another program.", _ON)
_KEYBOARD = Explanation("It was stopped by the keyboard (Ctrl-C).", _ON)
_CRASHED = Explanation("A library crashed.", "Resume; if it happens again, install the trainer again and update the graphics driver.")
_CUT_OFF = Explanation("A file could not be used to its end: the disk is full or broken.", "Make room, then resume.")
_SIGNALS = {9: _KILLED, 15: _ENDED, 2: _KEYBOARD, 11: _CRASHED, 7: _CUT_OFF, 25: _CUT_OFF}
_BY_CODE = {code: told for number, told in _SIGNALS.items() for code in (-number, 128 + number)}
"""A shell in between tells the signal as 128 more."""


def explain(data: bytes | Sequence[str], exit_code: int | None) -> Explanation:
    """What the end of a log and an exit code mean. `data` may hold anything; what can't be shown is left out.

    exit_code: as Python has it, negative for a signal; None when nobody knows it.
    """
    lines = cleaned(data) if isinstance(data, bytes) else list(data)
    words = last_words(lines)
    if exit_code in _BY_CODE:  # whatever was printed before, it did not end by itself
        return replace(_BY_CODE[exit_code], lines=words)
    errors = [line for line in reversed(lines) if _OURS.match(line) or _is_error(line)]
    said = _OURS.fullmatch(errors[0]) if errors else None
    if said:
        return Explanation(said["said"], "", words)
    hints = [line for line in reversed(lines[-_HINTS:]) if "warning" not in line.lower()]
    for line in (*errors, *hints):
        for known in _KNOWN:
            found = known.sign.search(line)
            if found:
                return known.told(found, words)
    return _unknown(words, exit_code)


def last_words(lines: Sequence[str]) -> tuple[str, ...]:
    """The error itself: from the last line that looks like one (and not only says that another program failed), or simply the last lines."""
    at = next((at for at in range(len(lines) - 1, -1, -1) if _is_error(lines[at]) and not _OF_ANOTHER.search(lines[at])), None)
    return tuple(lines[-_LAST:] if at is None else lines[at : at + _LAST])


def _is_error(line: str) -> bool:
    return _ERROR.match(line) is not None


def _unknown(words: tuple[str, ...], exit_code: int | None) -> Explanation:
    how = "" if exit_code is None else f" ({_signal(-exit_code)})" if exit_code < 0 else f" (exit code {exit_code})"
    if not words:
        return Explanation(f"It ended{how} without printing why.", "Resume; if it happens again, start it by hand in a terminal to see more.")
    return Explanation(f"It ended with an error{how}: {words[0]}", "The log has the rest. When the cause is mended, resume.", words)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
