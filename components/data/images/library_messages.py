"""What the libraries below Pillow print about broken files: kept from the terminal, for the record has the reason.

Pillow's own warnings are Python's; libtiff prints to standard error by itself.
"""

import contextlib
import ctypes
import os
import re
import warnings
from functools import cache
from pathlib import Path

import PIL
from PIL import Image as Image  # loads the libraries

_IGNORED = ("ignore", None, Warning, re.compile(r"PIL\b"), 0)
_BUNDLED = ("pillow.libs/libtiff*", "PIL/.dylibs/libtiff*")
"""Where Pillow's packages for Linux and macOS have it, beside or in the package itself."""
_SYSTEM = ("libtiff.so.6", "libtiff.so.5", "libtiff.6.dylib")


def silence_image_libraries() -> None:
    """For all threads: `warnings.catch_warnings` is for one, and changes what the others see."""
    if _IGNORED not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\b")
    _silence_libtiff()


@cache
def _silence_libtiff() -> None:
    """Where Pillow was built otherwise, libtiff prints as before."""
    beside = Path(PIL.__file__).parents[1]
    for name in (*(str(file) for pattern in _BUNDLED for file in beside.glob(pattern)), *_SYSTEM):
        with contextlib.suppress(OSError, AttributeError):
            # Only one that Pillow has loaded already.
            libtiff = ctypes.CDLL(name, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
            for function in (libtiff.TIFFSetWarningHandler, libtiff.TIFFSetErrorHandler):
                function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_void_p
                function(None)
