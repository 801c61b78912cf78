"""MLflow's own scoring server of a registered version, with a page at the same address for people.

POST /invocations   images in, answers out, as with `mlflow models serve`
GET  /              the page: drop an image, see the answer
GET  /model         which version answers, and what it takes
GET  /health /ping /version   as MLflow has them
"""

from asyncio import to_thread
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.data.images.decoding import IMAGE_ENDINGS
from components.serving.scoring_requests import check_request
from components.serving.upload_page import content_policy, page
from components.shared.errors import DarkroomError
from flows.tracking.connection import quiet_mlflow

if TYPE_CHECKING:
    from fastapi import FastAPI

_INVOCATIONS = "/invocations"
_JSON = ("application/json", "application/json;charset=utf-8")
_MOST_BYTES = 256 * 2**20
"""Of a request; about 190 MiB of image files."""


@dataclass(frozen=True)
class Served:
    """What the page and its visitors are told of the model."""

    name: str
    """Such as models:/NAME/VERSION."""
    aliases: list[str]
    sha256: str
    format: str
    architecture: str
    task: str
    """Name of the label type."""
    classes: list[str]
    max_megapixels: float
    endings: list[str]
    provider: str
    """Of ONNX Runtime: what it computes with."""
    note: str | None
    """Where that isn't what the model was measured on."""


def application(location: str, served: Served) -> "FastAPI":
    """The server's application; `location` is a folder or an address that MLflow can load a model from."""
    quiet_mlflow()
    import mlflow
    from fastapi.responses import HTMLResponse, JSONResponse
    from mlflow.pyfunc import scoring_server

    app: FastAPI = scoring_server.init(mlflow.pyfunc.load_model(location))

    @app.middleware("http")
    async def refuse_what_cannot_be_answered(request: Any, call_next: Any) -> Any:
        is_post = request.method == "POST"
        refusal = _refusal(request.headers) if is_post else None
        if is_post and refusal is None and request.url.path == _INVOCATIONS:
            refusal = await to_thread(_refusal_of_body, await request.body())
        if refusal is None:
            return await call_next(request)
        status, sentence = refusal
        return JSONResponse({"error_code": "BAD_REQUEST", "message": sentence}, status_code=status)

    @app.get("/", response_class=HTMLResponse)
    def show_page() -> Any:
        headers = {"Content-Security-Policy": content_policy(), "X-Content-Type-Options": "nosniff"}
        return HTMLResponse(page(), headers=headers | {"Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY"})

    @app.get("/model")
    def describe_model() -> Any:
        return JSONResponse(asdict(served))

    return app


def served_of(name: str, aliases: list[str], model_file: Path, *, provider: str | None = None) -> Served:
    from components.serving.onnx_classifier import OnnxClassifier

    model = OnnxClassifier(model_file, provider=provider)
    card = model.card
    return Served(
        name=name,
        aliases=aliases,
        sha256=model.sha256,
        format=card.format,
        architecture=card.architecture,
        task=card.labels.task,
        classes=card.classes,
        max_megapixels=card.preprocess.max_megapixels,
        endings=list(IMAGE_ENDINGS),
        provider=model.provider,
        note=model.fell_back,
    )


def _refusal(headers: Any) -> tuple[int, str] | None:
    """Status and sentence for a request that MLflow's server would stumble over, or read whole however large it is."""
    content_type = headers.get("content-type")
    if content_type is None:
        return 415, "the request has no Content-Type; send application/json"
    if content_type.replace(" ", "").lower() not in _JSON:
        return 415, "the request's Content-Type is another one; send application/json"
    length = headers.get("content-length", "")
    if not length.isdigit():
        return 411, "the request doesn't say how long it is; send a Content-Length"
    if int(length) > _MOST_BYTES:
        return 413, f"the request has {int(length):,} bytes, more than {_MOST_BYTES:,}; send fewer images at once"
    return None


def _refusal_of_body(body: bytes) -> tuple[int, str] | None:
    try:
        check_request(body)
    except DarkroomError as problem:
        return 400, str(problem)
    return None
