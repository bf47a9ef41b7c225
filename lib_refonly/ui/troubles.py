"""Errors where the painter looks: in a box on the page, never as a stack trace."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

from lib_refonly.errors import Interrupted, PainterError
from lib_refonly.ui import markup, shim

_log = logging.getLogger(__name__)
_BUG = "Something went wrong inside. Your pictures and settings are still here; the terminal says more."


def explain(error: Exception, loud: bool = True) -> str:
    """The message box for an error, with a notice in the corner when `loud`.

    What the painter can't mend is a bug: the terminal gets its traceback, the page one calm sentence.
    """
    if isinstance(error, Interrupted):
        return markup.message("Stopped. What was finished before is kept.", "note")
    if not isinstance(error, PainterError):
        _log.error("Unexpected error in the page", exc_info=error)
    text = str(error) if isinstance(error, PainterError) else _BUG
    if loud:
        shim.warn(text)
    return markup.message(text, "error")


def guarded(box: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a handler that returns {component: update}: an error becomes a text in `box`, and nothing else on the page changes."""

    def decorate(handler: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(handler)
        def safe(*values: Any, **more: Any) -> Any:
            try:
                return handler(*values, **more)
            except Exception as error:
                return {box: explain(error)}

        return safe

    return decorate
