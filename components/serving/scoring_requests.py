"""What the scoring server is asked: images as base64 in one column, and what else is wanted of them.

MLflow's server explains a mistake with a traceback, a dump of its table or the whole request, and passes over what it
doesn't know. So a body is looked through before that server sees it.
"""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from components.data.files.image_file import ImageFile
from components.serving.prediction_rows import AnswerOptions
from components.shared.errors import DataError, nearest

COLUMN = "image"
_PARAMS = "params"
_EXAMPLE = f'send {{"dataframe_split": {{"columns": ["{COLUMN}"], "data": [["BASE64"]]}}}}'


def check_request(body: bytes) -> None:
    """Raises DataError or SettingsError, in one sentence, for what can't be answered; the images are not looked at."""
    try:
        request = json.loads(body)
    # The second of lists in lists in lists.
    except (ValueError, RecursionError):
        raise DataError(f"the request is no JSON; {_EXAMPLE}") from None
    if not isinstance(request, dict):
        raise DataError(f"the request is no JSON object; {_EXAMPLE}")
    if unknown := [name for name in request if name not in (*_TEXTS, _PARAMS)]:
        hint = nearest(unknown[0], (*_TEXTS, _PARAMS)) or f"; {_EXAMPLE}"
        raise DataError(f"the request has a part {unknown[0][:40]!r}, which says nothing here{hint}")
    forms = [name for name in request if name != _PARAMS]
    if len(forms) != 1:
        raise DataError(f"the request should hold its images once, in one of {', '.join(_TEXTS)}; {_EXAMPLE}")
    texts = _TEXTS[forms[0]](request[forms[0]])
    if texts is None:
        raise DataError(f"the part {forms[0]} should hold one column, {COLUMN}, and nothing else; {_EXAMPLE}")
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            raise DataError(f"image {number}: is no base64; encode the bytes of the image file")
    images_of(texts)
    AnswerOptions.of(request.get(_PARAMS))


def images_of(texts: Sequence[Any]) -> list[ImageFile]:
    """Whose bytes raise DataError where the text is no base64; so does a request without images."""
    if not texts:
        raise DataError(f"the request holds no images; give at least one in the column {COLUMN}")
    return [ImageFile(f"image {number}", partial(_content, text)) for number, text in enumerate(texts, start=1)]


def _content(text: Any) -> bytes:
    # Encoders break long lines.
    joined = "".join(str(text).split())
    try:
        return base64.b64decode(joined, validate=True)
    except (binascii.Error, ValueError):
        raise DataError("is no base64; encode the bytes of the image file") from None


def _split(part: Any) -> list[Any] | None:
    """As pandas writes `orient="split"`, with or without the index."""
    if not isinstance(part, dict) or part.get("columns") != [COLUMN] or part.keys() - {"columns", "data", "index"}:
        return None
    rows = part.get("data")
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) == 1 for row in rows):
        return None
    index = part.get("index", [0] * len(rows))
    if not isinstance(index, list) or len(index) != len(rows) or any(isinstance(one, list | dict) for one in index):
        return None
    return [row[0] for row in rows]


def _records(part: Any) -> list[Any] | None:
    if not isinstance(part, list) or not all(isinstance(row, dict) and list(row) == [COLUMN] for row in part):
        return None
    return [row[COLUMN] for row in part]


def _columns(part: Any) -> list[Any] | None:
    if not isinstance(part, dict) or list(part) != [COLUMN]:
        return None
    texts = part[COLUMN]
    return texts if isinstance(texts, list) else None


_TEXTS: dict[str, Callable[[Any], list[Any] | None]] = {
    "dataframe_split": _split,
    "dataframe_records": _records,
    "inputs": _columns,
    "instances": _records,
}
"""The forms that MLflow's server knows, and the texts of the images in each; None where it is another form."""
