"""Batch prediction: images in, a row each out, in order; a bad file is a row with its reason, never a gap.

Each core takes a batch through reading, decoding and the model by itself. So all cores decode while others compute,
nobody waits for a slower half, and memory holds as many batches as are under way. A batch is the same images on any
machine and after any interruption, and is computed by one thread: the same files have the same answer, bit for bit.
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
from components.serving.prediction_rows import AnswerOptions, Record, answers_of
from components.shared.errors import DataError, ServiceError
from components.shared.processor import usable_cores

_LARGEST_BATCH = 16
_BATCH_BYTES = 16 * 2**20
_MORE_FRAMES = "the first of several frames or pages"


@dataclass(frozen=True)
class Row:
    path: str
    model: str
    answer: Record = field(default_factory=dict)
    """Empty where the image could not be read."""
    note: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class _Seen:
    """An image as the model sees it, or why not."""

    name: str
    square_HWC: NDArray[np.uint8] | None = None
    note: str | None = None
    error: str | None = None
    refusal: ServiceError | None = None
    """What a store said that didn't give the file."""


def batch_size(model: OnnxClassifier) -> int:
    """Images that a core takes at once: as many as are quick, fewer where they are large."""
    square_bytes = 3 * model.card.preprocess.image_size_px**2
    return max(1, min(_LARGEST_BATCH, _BATCH_BYTES // square_bytes))


def predict(
    inputs: Iterable[ImageFile],
    model: OnnxClassifier,
    *,
    model_name: str,
    options: AnswerOptions,
    workers: int | None = None,
) -> Generator[Row, None, None]:
    """A row an input; the model should have been opened with one thread, for each worker brings its own.

    A file that a store refuses is a row. Raises ServiceError where it gives nothing of a whole batch: it is not the
    files that something is wrong with then, and the same command goes on once the store answers.
    """
    workers = workers or usable_cores()
    waiting: deque[Future[list[Row]]] = deque()
    batches = iter(inputs)
    threads = ThreadPoolExecutor(workers)
    try:
        while batch := list(islice(batches, batch_size(model))):
            waiting.append(threads.submit(answer_batch, batch, model, model_name, options))
            if len(waiting) > 2 * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        threads.shutdown(cancel_futures=True)


def answer_batch(batch: list[ImageFile], model: OnnxClassifier, model_name: str, options: AnswerOptions) -> list[Row]:
    """Rows of a few images, whose squares go through the model together.

    Raises ServiceError where a store gave none of them.
    """
    seen = [_look(one, model) for one in batch]
    if all(one.refusal for one in seen) and (refusal := seen[0].refusal):
        raise refusal
    squares = [one.square_HWC for one in seen if one.square_HWC is not None]
    answers = iter(answers_of(model.logits(np.stack(squares)), model.card, options) if squares else [])
    return [
        Row(one.name, model_name, error=one.error)
        if one.square_HWC is None
        else Row(one.name, model_name, answer=next(answers), note=one.note)
        for one in seen
    ]


def _look(one: ImageFile, model: OnnxClassifier) -> _Seen:
    # A file's name may be any bytes; a table holds text.
    name = os.fsencode(one.name).decode("utf-8", "backslashreplace")
    try:
        content = one.read()
        square_HWC = model.square(content)
    except FileNotFoundError:
        return _Seen(name, error="the file is missing")
    except OSError as problem:
        return _Seen(name, error=f"can't be read: {problem.strerror or problem}")
    except DataError as problem:
        return _Seen(name, error=str(problem))
    except ServiceError as problem:
        return _Seen(name, error=str(problem), refusal=problem)
    return _Seen(name, square_HWC, note=_MORE_FRAMES if has_more_frames(content) else None)
