"""Batch prediction: a row per image, in order; an image that can't be read is a row with the reason.

Each thread reads, decodes and classifies a batch by itself. So all cores are busy, and memory holds only the batches
in progress. A batch holds the same images on any machine and after any interruption, and one thread computes it: the
same files get the same prediction, bit for bit.
"""

import os
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from components.data.files.image_file import ImageFile
from components.data.images.decoding import has_more_frames
from components.serving.onnx_classifier import OnnxClassifier
from components.serving.prediction_records import PredictionOptions, Record, prediction_records
from components.shared.errors import DataError, ServiceError
from components.shared.processor import usable_cores

_MAX_BATCH = 16
_MAX_BATCH_BYTES = 16 * 2**20
FIRST_FRAME = "only the first of several frames or pages was classified"


@dataclass(frozen=True)
class Row:
    """A row of a prediction table."""

    path: str
    model: str
    prediction: Record = field(default_factory=dict)
    """Empty if the image can't be read."""
    note: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class _Decoded:
    """An image as the model sees it, or the reason why it can't be read."""

    name: str
    square_HWC: NDArray[np.uint8] | None = None
    note: str | None = None
    error: str | None = None
    store_error: ServiceError | None = None


def batch_size(model: OnnxClassifier) -> int:
    """Number of images that a thread classifies at once: fewer if they are large."""
    square_bytes = 3 * model.card.preprocess.image_size_px**2
    return max(1, min(_MAX_BATCH, _MAX_BATCH_BYTES // square_bytes))


def predict(
    images: Iterable[ImageFile],
    model: OnnxClassifier,
    *,
    model_name: str,
    options: PredictionOptions,
    workers: int | None = None,
) -> Generator[Row, None, None]:
    """A row per image. Open the model with one thread, for each worker brings its own.

    Raises ServiceError if a store returns none of a batch: then the store is at fault rather than the files, and the
    same command resumes once the store works again. A single file that a store refuses is a row with the reason.
    """
    workers = workers or usable_cores()
    pending: deque[Future[list[Row]]] = deque()
    images = iter(images)
    threads = ThreadPoolExecutor(workers)
    try:
        while batch := list(islice(images, batch_size(model))):
            pending.append(threads.submit(predict_batch, batch, model, model_name, options))
            if len(pending) > 2 * workers:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    finally:
        threads.shutdown(cancel_futures=True)


def predict_batch(
    images: list[ImageFile], model: OnnxClassifier, model_name: str, options: PredictionOptions
) -> list[Row]:
    """Rows of images that the model classifies together; raises ServiceError if a store returns none of them."""
    decoded = [_decode(image, model) for image in images]
    if all(one.store_error for one in decoded) and (error := decoded[0].store_error):
        raise error
    squares = [one.square_HWC for one in decoded if one.square_HWC is not None]
    records = iter(prediction_records(model.logits(np.stack(squares)), model.card, options) if squares else [])
    return [
        Row(one.name, model_name, error=one.error)
        if one.square_HWC is None
        else Row(one.name, model_name, prediction=next(records), note=one.note)
        for one in decoded
    ]


def _decode(image: ImageFile, model: OnnxClassifier) -> _Decoded:
    # A file's name may be any bytes; a table holds text.
    name = os.fsencode(image.name).decode("utf-8", "backslashreplace")
    try:
        content = image.read()
        square_HWC = model.square(content)
    except FileNotFoundError:
        return _Decoded(name, error="the file is missing")
    except OSError as problem:
        return _Decoded(name, error=f"can't be read: {problem.strerror or problem}")
    except DataError as problem:
        return _Decoded(name, error=str(problem))
    except ServiceError as problem:
        return _Decoded(name, error=str(problem), store_error=problem)
    return _Decoded(name, square_HWC, note=FIRST_FRAME if has_more_frames(content) else None)
