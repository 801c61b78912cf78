"""Requests to the scoring server: base64 images in one column, and optional `params`.

MLflow's server reports a mistake with a traceback, a dump of its table or the whole request, and ignores unknown
fields. So a request is checked before that server gets it.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from components.data.files.image_file import ImageFile
from components.serving.prediction_records import PredictionOptions
from components.shared.errors import DataError, nearest

COLUMN = "image"
_PARAMS = "params"
_DATA_URL = re.compile(r"^data:[^,]*;base64,", re.IGNORECASE)
_URL_SAFE = str.maketrans("-_", "+/")
_NO_BASE64 = "is no base64; encode the content of the image file"
_EXAMPLE = f'send {{"dataframe_split": {{"columns": ["{COLUMN}"], "data": [["BASE64"]]}}}}'


def check_request(body: bytes) -> None:
    """Raises DataError or SettingsError for a malformed request; does not decode the images."""
    try:
        request = json.loads(body)
    # The second error is that of lists nested too deeply.
    except (ValueError, RecursionError):
        raise DataError(f"the request is no JSON; {_EXAMPLE}") from None
    if not isinstance(request, dict):
        raise DataError(f"the request is no JSON object; {_EXAMPLE}")
    if unknown := [name for name in request if name not in (*_READERS, _PARAMS)]:
        hint = nearest(unknown[0], (*_READERS, _PARAMS)) or f"; {_EXAMPLE}"
        raise DataError(f"the request has an unknown field {unknown[0][:40]!r}{hint}")
    forms = [name for name in request if name != _PARAMS]
    if len(forms) != 1:
        raise DataError(f"the request should have its images in exactly one of {', '.join(_READERS)}; {_EXAMPLE}")
    texts = _READERS[forms[0]](request[forms[0]])
    if texts is None:
        raise DataError(f"{forms[0]} should have one column, {COLUMN}, and nothing else; {_EXAMPLE}")
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            raise DataError(f"image {number}: {_NO_BASE64}")
    images_of(texts)
    PredictionOptions.from_request(request.get(_PARAMS))


def images_of(texts: Sequence[Any]) -> list[ImageFile]:
    """The images of a request; reading one raises DataError if its text is no base64.

    Raises DataError if there are none.
    """
    if not texts:
        raise DataError(f"the request has no images; send at least one in the column {COLUMN}")
    return [ImageFile(f"image {number}", partial(_content, text)) for number, text in enumerate(texts, start=1)]


def _content(text: Any) -> bytes:
    # Encoders may wrap lines, leave the padding out, write - and _ as addresses need them, or make a data URL of it.
    joined = _DATA_URL.sub("", "".join(str(text).split())).translate(_URL_SAFE).rstrip("=")
    try:
        return base64.b64decode(joined + "=" * (-len(joined) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise DataError(_NO_BASE64) from None


def _split(value: Any) -> list[Any] | None:
    """The texts in a table that pandas wrote with `orient="split"`, with or without the index."""
    if not isinstance(value, dict) or value.get("columns") != [COLUMN] or value.keys() - {"columns", "data", "index"}:
        return None
    rows = value.get("data")
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) == 1 for row in rows):
        return None
    index = value.get("index", [0] * len(rows))
    if not isinstance(index, list) or len(index) != len(rows) or any(isinstance(one, list | dict) for one in index):
        return None
    return [row[0] for row in rows]


def _records(value: Any) -> list[Any] | None:
    if not isinstance(value, list) or not all(isinstance(row, dict) and list(row) == [COLUMN] for row in value):
        return None
    return [row[COLUMN] for row in value]


def _columns(value: Any) -> list[Any] | None:
    if not isinstance(value, dict) or list(value) != [COLUMN]:
        return None
    texts = value[COLUMN]
    return texts if isinstance(texts, list) else None


_READERS: dict[str, Callable[[Any], list[Any] | None]] = {
    "dataframe_split": _split,
    "dataframe_records": _records,
    "inputs": _columns,
    "instances": _records,
}
"""By field of a request that MLflow's server accepts: the texts of its images, or None if it is malformed."""
