"""MLflow's own scoring server for a registered version, with an upload page at the same address.

POST /invocations             images in, predictions out, as with `mlflow models serve`
GET  /                        upload page: drop an image, see the prediction
GET  /model                   description of the model
GET  /health /ping /version   MLflow's own
"""

from asyncio import to_thread
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from components.data.images.decoding import IMAGE_ENDINGS
from components.serving.scoring_requests import check_request
from components.serving.upload_page import content_policy, page
from components.shared.errors import DarkroomError
from flows.tracking.connection import quiet_mlflow
from flows.tracking.packaging import signature_of

if TYPE_CHECKING:
    from fastapi import FastAPI

    from components.serving.onnx_classifier import OnnxClassifier

_INVOCATIONS = "/invocations"
_JSON = ("application/json", "application/json;charset=utf-8")
_MAX_REQUEST_BYTES = 256 * 2**20
"""About 190 MiB of image files."""


@dataclass(frozen=True)
class ModelDescription:
    """Response of GET /model."""

    name: str
    """URI of the version: models:/NAME/VERSION."""
    aliases: list[str]
    sha256: str
    format: str
    architecture: str
    task: str
    """Label type: single_label, multi_label or hierarchy."""
    classes: list[str]
    max_megapixels: float
    extensions: list[str]
    """File extensions of the supported image formats."""
    provider: str
    """ONNX Runtime's execution provider in use."""
    coverage: float | None
    """How often the label stands in the prediction set; None where the model makes no sets."""
    promise: str | None
    """The same in words."""
    ood_threshold: float | None
    """OOD score above which an image is flagged as out-of-distribution; None where none is."""
    ood_warning: str | None
    """What the flag means, in words."""
    warning: str | None
    """Why it is not the provider that the model was measured on; None if it is."""


def application(model: "OnnxClassifier", description: ModelDescription) -> "FastAPI":
    """The server's application. Of a registered package it needs the ONNX file alone: the code is what is installed."""
    quiet_mlflow()
    from fastapi.responses import HTMLResponse, JSONResponse
    from mlflow.pyfunc import scoring_server

    app: FastAPI = scoring_server.init(_pyfunc(model))

    @app.middleware("http")
    async def refuse_bad_requests(request: Any, call_next: Any) -> Any:
        is_post = request.method == "POST"
        refusal = _refusal(request.headers) if is_post else None
        if is_post and refusal is None and request.url.path == _INVOCATIONS:
            refusal = await to_thread(_refusal_of_body, await request.body())
        if refusal is None:
            return await call_next(request)
        status, message = refusal
        return JSONResponse({"error_code": "BAD_REQUEST", "message": message}, status_code=status)

    @app.get("/", response_class=HTMLResponse)
    def show_page() -> Any:
        headers = {"Content-Security-Policy": content_policy(), "X-Content-Type-Options": "nosniff"}
        return HTMLResponse(page(), headers=headers | {"Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY"})

    @app.get("/model")
    def describe_model() -> Any:
        return JSONResponse(asdict(description))

    return app


def _pyfunc(model: "OnnxClassifier") -> Any:
    """What MLflow would load from a package, without loading one: that would run the code that lies in it."""
    from mlflow.models import Model
    from mlflow.pyfunc import PyFuncModel
    from mlflow.pyfunc.model import PythonModelContext, _PythonModelPyfuncWrapper

    from flows.tracking.image_scorer import ImageScorer

    scorer, signature = ImageScorer(), signature_of(model.card)
    scorer.use(model)
    context = PythonModelContext(artifacts={}, model_config=None)
    return PyFuncModel(Model(signature=signature), _PythonModelPyfuncWrapper(scorer, context, signature))


def describe(name: str, aliases: list[str], model: "OnnxClassifier") -> ModelDescription:
    from components.serving.answer_text import promise, warning

    card = model.card
    return ModelDescription(
        name=name,
        aliases=aliases,
        sha256=model.sha256,
        format=card.format,
        architecture=card.architecture,
        task=card.labels.task,
        classes=card.classes,
        max_megapixels=card.preprocess.max_megapixels,
        extensions=list(IMAGE_ENDINGS),
        provider=model.provider,
        coverage=card.decision_rule.coverage,
        promise=promise(card),
        ood_threshold=card.decision_rule.ood_threshold,
        ood_warning=warning(card),
        warning=model.fallback_reason,
    )


def _refusal(headers: Any) -> tuple[int, str] | None:
    """Status and message for a request that MLflow's server can't handle, or would read whole however large it is."""
    content_type = headers.get("content-type")
    if content_type is None:
        return 415, "the request has no Content-Type; send application/json"
    if content_type.replace(" ", "").lower() not in _JSON:
        return 415, "the request's Content-Type is not supported; send application/json"
    length = headers.get("content-length", "")
    if not length.isdigit():
        return 411, "the request has no Content-Length; send one"
    if int(length) > _MAX_REQUEST_BYTES:
        return (
            413,
            f"the request has {int(length):,} bytes, more than {_MAX_REQUEST_BYTES:,}; send fewer images at once",
        )
    return None


def _refusal_of_body(body: bytes) -> tuple[int, str] | None:
    try:
        check_request(body)
    except DarkroomError as problem:
        return 400, str(problem)
    return None
