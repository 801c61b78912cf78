"""Exporters and quantizers that print each of their steps, and warn of their own future: here they don't."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

_LOGGERS = ("torch.onnx", "onnxscript", "torch")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Of what they log, errors alone are seen; what they raise is raised, and logging is as it was afterwards."""
    root, named = logging.getLogger(), [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in named]
    # onnxruntime's quantizer logs to the root itself, which makes one without handlers take one for good.
    handlers = [] if root.handlers else [logging.StreamHandler()]
    try:
        for logger in named:
            logger.setLevel(logging.ERROR)
        for handler in handlers:
            root.addHandler(handler)
        root.addFilter(_is_error)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        root.removeFilter(_is_error)
        for handler in handlers:
            root.removeHandler(handler)
        for logger, level in zip(named, levels, strict=True):
            logger.setLevel(level)


def _is_error(record: logging.LogRecord) -> bool:
    """A filter of a logger sees what is logged to it, and nothing of what its children pass on."""
    return record.levelno >= logging.ERROR
