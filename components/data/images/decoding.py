"""The one way in for images: bytes become the same RGB array in training and in serving.

Stated conversions: the first frame of an animation; EXIF rotation applied; 12- and 16-bit grey scaled, not clipped,
to 8 bits, whichever end is white; of 16-bit colours the upper 8 bits; palettes and 1-bit images expanded; alpha and
transparent colours laid over white; CMYK (Adobe's inverted one too) and other spaces converted by Pillow, without
colour profiles. A picture that is cut short, too large or of an unknown kind is refused with a reason, never repaired.

JPEG is by far the most frequent format, and simplejpeg (libjpeg-turbo) decodes it in less than two thirds of the time
that Pillow and the copy to an array take, to the same pixels, and refuses whatever libjpeg warns of. It gets only
upright 8-bit RGB files that end with their end mark; all others go through Pillow, which gives the reasons, and what
Pillow makes of a damaged JPEG without a word is refused too (components.data.images.jpeg_damage).

A JPEG can come out at 1/2, 1/4 or 1/8, scaled within libjpeg's cosine transform. Every bit of the file is decoded then
too, so that it is refused for whatever it would be refused for at its full size.
"""

import contextlib
import io
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from components.data.images.jpeg_damage import damage_of, lacks_scans
from components.shared.errors import DataError

IMAGE_ENDINGS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".gif": "GIF",
    ".avif": "AVIF",
}
"""The file endings that are read, and the format that the content must have."""

Needed = Callable[[int, int], tuple[int, int]]
"""(width, height) of a file → the width and height below which decoding must not go."""

_FORMATS = tuple(sorted(set(IMAGE_ENDINGS.values())))
# GIF, PNG, WEBP, TIFF of either byte order, AVIF. The further pictures of a phone's JPEG are depths and thumbnails.
_WITH_FRAMES = (b"GIF8", b"\x89PNG", b"RIFF", b"II", b"MM", b"\0\0\0")
_ORIENTATION_TAG = 0x0112
_UPRIGHT, _ON_THEIR_SIDE = 1, (5, 6, 7, 8)
_JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_FRAMES, _SCAN = (0xC0, 0xC1, 0xC2), 0xDA
_HARMLESS = (0xC4, 0xDB, 0xDD, 0xE0, 0xFE)
"""Tables, restart intervals, JFIF and comments: they turn no picture and change no colours."""
_REDUCTIONS = (8, 4, 2)
_BITS_TAG, _WHITE_TAG = 258, 262


class UndecodableImage(DataError):
    """The reason why these bytes don't become an image."""


@dataclass(frozen=True)
class DecodedImage:
    pixels_HWC: NDArray[np.uint8]
    """RGB, upright."""
    format: str
    """As the content says, such as JPEG."""
    mode: str
    """Pillow's mode before conversion, such as CMYK."""
    size_px: tuple[int, int]
    """Width and height of the whole image, upright, also where the pixels are fewer."""


def decode(content: bytes, *, max_megapixels: float, needed: Needed | None = None) -> DecodedImage:
    """The upright RGB image; raises UndecodableImage with the reason.

    With `needed` a JPEG comes out at 1/2, 1/4 or 1/8 if that still has the size that is needed, at a fraction of the
    time; other formats stay whole.
    """
    return _plain_jpeg(content, max_megapixels, needed) or _any_image(content, max_megapixels, needed)


def _any_image(content: bytes, max_megapixels: float, needed: Needed | None = None) -> DecodedImage:
    with _opened(content, max_megapixels, needed) as (image, size):
        orientation = image.getexif().get(_ORIENTATION_TAG, _UPRIGHT)
        upright = image if orientation == _UPRIGHT else ImageOps.exif_transpose(image)
        # Turning an image makes a new one without the tags.
        pixels_HWC = np.array(_to_rgb(upright, tiff_tags=getattr(image, "tag_v2", {})))
        size_px = size[::-1] if orientation in _ON_THEIR_SIDE else size
        return DecodedImage(pixels_HWC, _format_of(image), image.mode, size_px)


def _plain_jpeg(content: bytes, max_megapixels: float, needed: Needed | None = None) -> DecodedImage | None:
    """The image, where it is a whole upright RGB JPEG of an allowed size; None leaves it to the careful way."""
    size = _plain_size(content, max_megapixels)
    if size is None:
        return None
    pixels_HWC = _faultless(content, size, 1 if needed is None else _reduction(size, needed(*size)))
    return None if pixels_HWC is None else DecodedImage(pixels_HWC, "JPEG", "RGB", size)


def _reduction(size: tuple[int, int], least: tuple[int, int]) -> int:
    room = min(size[0] // least[0], size[1] // least[1])
    return next((times for times in _REDUCTIONS if times <= room), 1)


def _plain_size(content: bytes, max_megapixels: float) -> tuple[int, int] | None:
    if not (content.startswith(_JPEG_START) and content.endswith(_JPEG_END)):
        return None
    size = _size_told_by_header(content) or _size_told_by_pillow(content)
    return None if size is None or size[0] * size[1] > max_megapixels * 1e6 else size


def _faultless(content: bytes, size: tuple[int, int], reduction: int) -> NDArray[np.uint8] | None:
    """The pixels at 1 / reduction; None where there is anything to complain of: the careful way has the words."""
    if lacks_scans(content):
        return None
    width, height = (math.ceil(side / reduction) for side in size)
    try:
        return np.asarray(simplejpeg.decode_jpeg(content, "RGB", min_height=height, min_width=width), np.uint8)
    except ValueError:
        return None


def _size_told_by_header(content: bytes) -> tuple[int, int] | None:
    """Width and height of an 8-bit JPEG of three channels that says nothing of a rotation; None where that isn't sure.

    The segments up to the first scan, ITU-T T.81, annex B. Pillow's own header costs more than decoding 32 px does.
    """
    size, place = None, 2
    # A segment that reaches beyond the end leaves fewer bytes than are asked for, and no start of a scan.
    while len(segment := content[place : place + 16]) == 16 and segment[0] == 0xFF:
        kind, length = segment[1], 256 * segment[2] + segment[3]
        if kind == _SCAN:
            return size
        if kind in _FRAMES and segment[4] == 8 and segment[9] == 3:
            size = 256 * segment[7] + segment[8], 256 * segment[5] + segment[6]
        elif kind not in _HARMLESS:
            return None
        place += 2 + length
    return None


def _size_told_by_pillow(content: bytes) -> tuple[int, int] | None:
    """The same of files with camera data, profiles and the like."""
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
            upright = image.getexif().get(_ORIENTATION_TAG, _UPRIGHT) == _UPRIGHT
            return image.size if upright and image.mode == "RGB" and image.format == "JPEG" else None
    # Whatever is wrong with it, the careful way finds the words.
    except Exception:
        return None


def has_more_frames(content: bytes) -> bool:
    """Whether an image that can be decoded is an animation or has pages, of which the first is what decoding gives."""
    if not content.startswith(_WITH_FRAMES):
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # The first frame can be read; whatever is wrong with the next one, it is a next one.
        try:
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                return bool(getattr(image, "is_animated", False))
        except MemoryError:
            raise
        except Exception:
            return True


@contextlib.contextmanager
def _opened(
    content: bytes, max_megapixels: float, needed: Needed | None
) -> Iterator[tuple[Image.Image, tuple[int, int]]]:
    """The loaded image, and the size that it has as stored; whatever goes wrong in the block is a reason."""
    if not content:
        raise UndecodableImage("the file is empty (0 bytes)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                _refuse_large(image, max_megapixels)
                size = image.size
                if needed is not None:
                    image.draft(None, needed(*size))
                image.load()
                if image.format in ("JPEG", "MPO"):
                    _refuse_damaged(content)
                yield image, size
        except UndecodableImage:
            raise
        except UnidentifiedImageError:
            raise UndecodableImage("the content is no image that can be read") from None
        except Image.DecompressionBombError:
            raise UndecodableImage(f"more than {max_megapixels:g} megapixels") from None
        # That is this machine's lack, not the file's.
        except MemoryError:
            raise
        # Pillow's decoders raise many kinds on broken input (OSError, SyntaxError, struct.error, …): each is a reason.
        except Exception as problem:
            raise UndecodableImage(f"broken image: {str(problem) or type(problem).__name__}") from None


def _refuse_damaged(content: bytes) -> None:
    damage = damage_of(content)
    if damage is not None:
        raise UndecodableImage(f"broken image: {damage}")


def _refuse_large(image: Image.Image, max_megapixels: float) -> None:
    megapixels = image.width * image.height / 1e6
    if megapixels > max_megapixels:
        raise UndecodableImage(f"{megapixels:.0f} megapixels, more than {max_megapixels:g}")


def _format_of(image: Image.Image) -> str:
    # Multi-picture JPEGs of phones report MPO.
    return "JPEG" if image.format == "MPO" else str(image.format)


def _to_rgb(image: Image.Image, *, tiff_tags: Mapping[int, Any]) -> Image.Image:
    if image.mode.startswith("I"):
        return _from_16_bits(image, tiff_tags)
    if image.mode == "F":
        raise UndecodableImage("floating-point pixels have no stated range; save the image with 8 or 16 bits")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        foreground = image.convert("RGBA")
        background = Image.new("RGBA", foreground.size, (255, 255, 255, 255))
        return Image.alpha_composite(background, foreground).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_16_bits(image: Image.Image, tiff_tags: Mapping[int, Any]) -> Image.Image:
    if image.mode == "I":
        raise UndecodableImage("32-bit integer pixels have no stated range; save the image with 8 or 16 bits")
    # Pillow hands the stored numbers out: it neither stretches 12 bits nor turns a TIFF whose 0 is white.
    highest = (1 << tiff_tags.get(_BITS_TAG, (16,))[0]) - 1
    values = np.asarray(image, dtype=np.int64)
    light = highest - values if tiff_tags.get(_WHITE_TAG) == 0 else values
    grey = np.round(light * 255 / highest).astype(np.uint8)
    grey[values == image.info.get("transparency", -1)] = 255
    return Image.fromarray(np.repeat(grey[..., None], 3, axis=2))
