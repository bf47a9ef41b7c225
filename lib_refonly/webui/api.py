"""The extension's own routes, behind the host's own locks."""

from __future__ import annotations

import base64
import secrets
from typing import Any

from fastapi import Body, Depends, HTTPException, Request

from lib_refonly import __version__
from lib_refonly.errors import PainterError
from lib_refonly.imaging.infotext import png_bytes
from lib_refonly.refonly.host_plan import find_lines
from lib_refonly.ui.request import names, read_request, request_schema
from lib_refonly.webui.context import context
from lib_refonly.webui.pictures import picture_of
from lib_refonly.webui.preprocessors import controlnet_preprocessors
from lib_refonly.webui.style_api import add_style_routes


def add_routes(_: Any, app: Any) -> None:
    """/refonly/version, /schema, /models (GET) and /preprocess (POST); /refonly/stylecode/..."""

    def locked(request: Request) -> None:
        if not may_pass(request, app):
            raise HTTPException(401, "Not authenticated", {"WWW-Authenticate": "Basic"})

    def preprocess(body: dict = Body(...)) -> dict[str, Any]:  # noqa: B008 FastAPI's way
        try:
            request = read_request(body, picture_of)
            if request.drawing is None:
                raise HTTPException(422, "drawing is missing.")
            found = find_lines(request.drawing, request.settings, controlnet_preprocessors())
        except PainterError as error:
            raise HTTPException(422, str(error)) from None
        return {"blueprint": base64.b64encode(png_bytes(found.blueprint)).decode(), "notes": list(found.notes)}

    def models() -> dict[str, Any]:
        return {"models": [{"name": one.name, "title": one.title, "kind": one.kind} for one in context().shelf.choices()]}

    guard = [Depends(locked)]
    app.add_api_route("/refonly/version", lambda: {"version": __version__}, methods=["GET"], dependencies=guard)
    app.add_api_route("/refonly/schema", lambda: {"arguments": names(), "object": request_schema()}, methods=["GET"], dependencies=guard)
    app.add_api_route("/refonly/models", models, methods=["GET"], dependencies=guard)
    app.add_api_route("/refonly/preprocess", preprocess, methods=["POST"], dependencies=guard)
    add_style_routes(app, guard)


def may_pass(request: Any, app: Any) -> bool:
    """Under --api-auth: its name and password. Under --gradio-auth: the cookie of somebody who has logged in. Either will do where both are set."""
    from modules import shared

    wanted = getattr(shared.cmd_opts, "api_auth", None)
    login = getattr(app, "auth", None)
    if not wanted and login is None:
        return True
    return _basic(request, wanted or "") or (login is not None and _logged_in(request, app))


def _basic(request: Any, wanted: str) -> bool:
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if not wanted or scheme.lower() != "basic":
        return False
    try:
        given = base64.b64decode(text, validate=True)
    except ValueError:
        return False
    pairs = [pair.strip().encode() for pair in wanted.split(",") if ":" in pair]
    # Every pair is compared in full: how long it takes must not tell how near a guess was.
    return sum(secrets.compare_digest(given, pair) for pair in pairs) > 0


def _logged_in(request: Any, app: Any) -> bool:
    tokens = getattr(app, "tokens", {})
    names_of = [name for name in request.cookies if name.startswith("access-token")]
    return any(request.cookies[name] in tokens for name in names_of)
