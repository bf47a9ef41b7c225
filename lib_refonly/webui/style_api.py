"""/refonly/stylecode/...: codes read, made, mixed and drawn over HTTP. Pictures come as base64 only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lib_refonly.errors import BadSettings, PainterError
from lib_refonly.stylecode import shelf
from lib_refonly.stylecode.asked import read_style
from lib_refonly.stylecode.codes import CodeModel, blend, write_long, write_short
from lib_refonly.webui.context import context
from lib_refonly.webui.pictures import picture_of
from lib_refonly.webui.style_choice import usual

_MOST_PICTURES = 16


def add_style_routes(app: Any, guard: list[Any]) -> None:
    """/models (GET), /read, /make, /mix and /random (POST)."""
    from fastapi import Body, HTTPException

    def post(name: str, answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        def route(body: dict = Body(...)) -> dict[str, Any]:  # noqa: B008 FastAPI's way
            try:
                return answer(body)
            except PainterError as error:
                raise HTTPException(422, str(error)) from None

        app.add_api_route(f"/refonly/stylecode/{name}", route, methods=["POST"], dependencies=guard)

    app.add_api_route("/refonly/stylecode/models", models, methods=["GET"], dependencies=guard)
    for name, answer in (("read", read), ("make", make), ("mix", mix), ("random", random)):
        post(name, answer)


def models() -> dict[str, Any]:
    """Those that are installed."""
    return {"models": [{"name": file.info.code.name, "title": str(file.info.code), "sign": file.info.code.sign} for file in shelf.files()]}


def read(body: dict[str, Any]) -> dict[str, Any]:
    """{"code"}: one, or several with weights, or names from the library."""
    style = read_style(_text(body, "code"), shelf.known(), context().library.named)
    return _told(style.latent, style.model, style.notes)


def make(body: dict[str, Any]) -> dict[str, Any]:
    """{"pictures": [base64, ...], "model"?}."""
    pictures = body.get("pictures")
    if not isinstance(pictures, list) or not 0 < len(pictures) <= _MOST_PICTURES:
        raise BadSettings(f"pictures is a list of 1 to {_MOST_PICTURES} pictures in base64.")
    opened = [picture for picture in map(picture_of, pictures) if picture is not None]
    code = context().maker.code_of(opened, _model(body) or usual())
    return _told(code.latent, code.model, code.notes)


def mix(body: dict[str, Any]) -> dict[str, Any]:
    """{"codes": [code, ...], "weights"?: [number, ...]}."""
    codes, weights = body.get("codes"), body.get("weights")
    if not isinstance(codes, list) or not codes or not all(isinstance(code, str) for code in codes):
        raise BadSettings("codes is a list of codes.")
    styles = [read_style(code, shelf.known(), context().library.named) for code in codes]
    if len({style.model for style in styles}) > 1:
        raise BadSettings("Codes of different models can't be mixed.")
    given = [1.0] * len(styles) if weights is None else weights
    if not isinstance(given, list) or not all(isinstance(one, int | float) for one in given):
        raise BadSettings("weights is a list of numbers.")
    return _told(blend.mix([style.latent for style in styles], given), styles[0].model, [note for style in styles for note in style.notes])


def random(body: dict[str, Any]) -> dict[str, Any]:
    """{"number", "model"?}: the same number is the same style everywhere."""
    number = body.get("number")
    if not isinstance(number, int):
        raise BadSettings("number is a whole number.")
    return _told(blend.random_style(number), _model(body) or shelf.find(usual()).info.code, ())


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise BadSettings(f"{name} is a text.")
    return value


def _model(body: dict[str, Any]) -> CodeModel | None:
    name = body.get("model")
    if name is None:
        return None
    found = next((model for model in shelf.known() if model.name == name), None)
    if found is None:
        raise BadSettings(f"There is no stylecode model {str(name)[:80]!r}. Known: {', '.join(model.name for model in shelf.known())}.")
    return found


def _told(latent: Sequence[float], model: CodeModel, notes: Sequence[str]) -> dict[str, Any]:
    return {"model": model.name, "short": write_short(latent, model), "long": write_long(latent, model), "latent": list(latent), "notes": list(notes)}
