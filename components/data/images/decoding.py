"""Image decoding, the same for training and serving: the bytes of a file become an upright RGB array.

Conversions: the first frame of an animation; EXIF rotation applied; 12- and 16-bit grey scaled, not clipped, to 8 bits,
whichever end is white; of 16-bit colours the upper 8 bits; palettes and 1-bit images expanded; alpha and transparent
colours blended over white; CMYK (also Adobe's inverted one) and other colour spaces converted by Pillow, without colour
profiles. An image that is truncated, too large or of an unknown format is refused with a reason, never repaired.

There are two decoders. The fast one, simplejpeg (libjpeg-turbo), takes less than two thirds of the time of Pillow and
the copy to an array, gives the same pixels, and fails on everything that libjpeg warns of. It gets only upright 8-bit
RGB JPEGs that end with an end marker. All other files go to Pillow, as do those on which the fast one fails: Pillow
finds the reason, and damage that Pillow ignores is found by components.data.images.jpeg_damage.

A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size, scaled within libjpeg's cosine transform. Every bit of the file is
decoded then, too: it is refused for the same damage as at its full size.
"""

import contextlib
import io
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from components.data.images.jpeg_damage import damage_of, lacks_scans
from components.data.images.library_messages import silence_image_libraries
from components.shared.errors import DataError

IMAGE_ENDINGS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".gif": "GIF",
    ".avif": "AVIF",
    ".ppm": "PPM",
    ".pgm": "PPM",
    ".pbm": "PPM",
    ".pnm": "PPM",
    ".heic": "HEIF",
    ".heif": "HEIF",
}
"""File endings of images, by which folders are searched, and the format that each stands for. The content decides."""

MinimumSize = Callable[[int, int], tuple[int, int]]
"""(width, height) of a file → the least width and height at which it may be decoded."""

_HEIF = "HEIF"
_FORMATS = tuple(sorted(set(IMAGE_ENDINGS.values()) - {_HEIF}))
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""First brands of HEIC files (ISO/IEC 23008-12); the last two also begin some AVIF files, which list avif behind."""
# GIF, PNG, WEBP, TIFF of either byte order, AVIF. Further pictures in a phone's JPEG are depth maps and thumbnails.
_FORMATS_WITH_FRAMES = (b"GIF8", b"\x89PNG", b"RIFF", b"II", b"MM", b"\0\0\0")
_ORIENTATION_TAG = 0x0112
_UPRIGHT, _ROTATED_BY_90 = 1, (5, 6, 7, 8)
_JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_FRAMES, _SCAN = (0xC0, 0xC1, 0xC2), 0xDA
_HARMLESS_SEGMENTS = (0xC4, 0xDB, 0xDD, 0xE0, 0xFE)
"""Segments that neither rotate the image nor change its colours: tables, restart intervals, JFIF, comments."""
_REDUCTIONS = (8, 4, 2)
_BITS_TAG, _WHITE_TAG = 258, 262


class UndecodableImage(DataError):
    """The file can't be decoded; the message is the reason."""


@dataclass(frozen=True)
class DecodedImage:
    pixels_HWC: NDArray[np.uint8]
    """RGB, upright."""
    format: str
    """Format of the content, such as JPEG."""
    mode: str
    """Pillow's mode before conversion, such as CMYK."""
    size_px: tuple[int, int]
    """Full width and height of the upright image, also where it was decoded at a fraction of them."""


def decode(content: bytes, *, max_megapixels: float, minimum_size: MinimumSize | None = None) -> DecodedImage:
    """The upright RGB image; raises UndecodableImage with the reason.

    With `minimum_size` a JPEG is decoded at 1/2, 1/4 or 1/8 where that is no smaller, in a fraction of the time.
    """
    return _decode_fast(content, max_megapixels, minimum_size) or _decode_any(content, max_megapixels, minimum_size)


def pixels_of(image: Image.Image, *, max_megapixels: float) -> NDArray[np.uint8]:
    """RGB [H, W, 3], upright, of an image that is open already; raises UndecodableImage as `decode` does."""
    silence_image_libraries()
    with _named_errors(max_megapixels):
        _refuse_large(image, max_megapixels)
        upright = ImageOps.exif_transpose(image)
        return np.array(_to_rgb(upright, tiff_tags=getattr(image, "tag_v2", {})))


def _decode_any(content: bytes, max_megapixels: float, minimum_size: MinimumSize | None = None) -> DecodedImage:
    with _opened(content, max_megapixels, minimum_size) as (image, size):
        orientation = image.getexif().get(_ORIENTATION_TAG, _UPRIGHT)
        upright = image if orientation == _UPRIGHT else ImageOps.exif_transpose(image)
        # Rotating an image makes a new one without the tags.
        pixels_HWC = np.array(_to_rgb(upright, tiff_tags=getattr(image, "tag_v2", {})))
        size_px = size[::-1] if orientation in _ROTATED_BY_90 else size
        return DecodedImage(pixels_HWC, _format_of(image), image.mode, size_px)


def _decode_fast(content: bytes, max_megapixels: float, minimum_size: MinimumSize | None = None) -> DecodedImage | None:
    """The image of an undamaged upright RGB JPEG of an allowed size; None for all other files."""
    size = _upright_size(content, max_megapixels)
    if size is None:
        return None
    pixels_HWC = _undamaged(content, size, 1 if minimum_size is None else _reduction(size, minimum_size(*size)))
    return None if pixels_HWC is None else DecodedImage(pixels_HWC, "JPEG", "RGB", size)


def _reduction(size: tuple[int, int], least: tuple[int, int]) -> int:
    room = min(size[0] // least[0], size[1] // least[1])
    return next((times for times in _REDUCTIONS if times <= room), 1)


def _upright_size(content: bytes, max_megapixels: float) -> tuple[int, int] | None:
    if not (content.startswith(_JPEG_START) and content.endswith(_JPEG_END)):
        return None
    size = _size_in_header(content) or _size_by_pillow(content)
    return None if size is None or size[0] * size[1] > max_megapixels * 1e6 else size


def _undamaged(content: bytes, size: tuple[int, int], reduction: int) -> NDArray[np.uint8] | None:
    """The pixels at 1 / reduction; None where libjpeg warns of anything."""
    if lacks_scans(content):
        return None
    width, height = (math.ceil(side / reduction) for side in size)
    try:
        return np.asarray(simplejpeg.decode_jpeg(content, "RGB", min_height=height, min_width=width), np.uint8)
    except ValueError:
        return None


def _size_in_header(content: bytes) -> tuple[int, int] | None:
    """Width and height of an 8-bit JPEG of three channels without rotation; None where another segment may change that.

    Reads the segments up to the first scan (ITU-T T.81, annex B); Pillow's own header costs more than decoding 32 px.
    """
    size, offset = None, 2
    # Of a segment that reaches beyond the end too few bytes are left, so that the loop ends.
    while len(segment := content[offset : offset + 16]) == 16 and segment[0] == 0xFF:
        marker, length = segment[1], 256 * segment[2] + segment[3]
        if marker == _SCAN:
            return size
        if marker in _FRAMES and segment[4] == 8 and segment[9] == 3:
            size = 256 * segment[7] + segment[8], 256 * segment[5] + segment[6]
        elif marker not in _HARMLESS_SEGMENTS:
            return None
        offset += 2 + length
    return None


def _size_by_pillow(content: bytes) -> tuple[int, int] | None:
    """The same for files with camera data or colour profiles, which take longer."""
    silence_image_libraries()
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
            upright = image.getexif().get(_ORIENTATION_TAG, _UPRIGHT) == _UPRIGHT
            return image.size if upright and image.mode == "RGB" and image.format == "JPEG" else None
    # Whatever is wrong with the file, decoding it with Pillow gives the reason.
    except Exception:
        return None


def has_more_frames(content: bytes) -> bool:
    """Whether a decodable image is an animation or has several pages; `decode` returns the first one."""
    if not content.startswith(_FORMATS_WITH_FRAMES):
        return False
    silence_image_libraries()
    # The first frame can be read: whatever is wrong belongs to another one.
    try:
        with Image.open(io.BytesIO(content), formats=_formats_of(content)) as image:
            return bool(getattr(image, "is_animated", False))
    except MemoryError:
        raise
    except Exception:
        return True


@contextlib.contextmanager
def _opened(
    content: bytes, max_megapixels: float, minimum_size: MinimumSize | None
) -> Iterator[tuple[Image.Image, tuple[int, int]]]:
    """Yields the loaded image and its stored size; any error in the block becomes an UndecodableImage."""
    if not content:
        raise UndecodableImage("the file is empty (0 bytes)")
    silence_image_libraries()
    with _named_errors(max_megapixels), Image.open(io.BytesIO(content), formats=_formats_of(content)) as image:
        _refuse_large(image, max_megapixels)
        size = image.size
        if minimum_size is not None:
            image.draft(None, minimum_size(*size))
        image.load()
        if image.format in ("JPEG", "MPO"):
            _refuse_damaged(content)
        yield image, size


@contextlib.contextmanager
def _named_errors(max_megapixels: float) -> Iterator[None]:
    """Any error in the block becomes an UndecodableImage with the reason."""
    try:
        yield
    except UndecodableImage:
        raise
    except UnidentifiedImageError:
        raise UndecodableImage("the content is no image that can be read") from None
    except Image.DecompressionBombError:
        raise UndecodableImage(f"more than {max_megapixels:g} megapixels") from None
    # The machine is out of memory; the file may be fine.
    except MemoryError:
        raise
    # Pillow's decoders raise many types on broken input (OSError, SyntaxError, struct.error, …): each is a reason.
    except Exception as problem:
        raise UndecodableImage(f"broken image: {str(problem) or type(problem).__name__}") from None


def _formats_of(content: bytes) -> tuple[str, ...]:
    """The formats to try; raises UndecodableImage for HEIC where its decoder isn't installed."""
    if content[4:8] != b"ftyp" or content[8:12] not in _HEIF_BRANDS or b"avif" in content[12:64]:
        return _FORMATS
    try:
        import pillow_heif
    except ImportError:
        raise UndecodableImage("HEIC needs a decoder: pip install 'darkroom[heic]', or save it as JPEG") from None
    pillow_heif.register_heif_opener()
    return (_HEIF,)


def _refuse_damaged(content: bytes) -> None:
    damage = damage_of(content)
    if damage is not None:
        raise UndecodableImage(f"broken image: {damage}")


def _refuse_large(image: Image.Image, max_megapixels: float) -> None:
    megapixels = image.width * image.height / 1e6
    if megapixels > max_megapixels:
        raise UndecodableImage(f"{megapixels:.0f} megapixels, more than {max_megapixels:g}")


def _format_of(image: Image.Image) -> str:
    # Pillow calls the multi-picture JPEGs of phones MPO.
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
    # Pillow scales PGM of more than 8 bits to 16.
    if image.mode == "I" and image.format != "PPM":
        raise UndecodableImage("32-bit integer pixels have no stated range; save the image with 8 or 16 bits")
    # Pillow returns the stored values: it neither scales 12 bits nor inverts a TIFF whose 0 is white.
    highest = (1 << tiff_tags.get(_BITS_TAG, (16,))[0]) - 1
    values = np.asarray(image, dtype=np.int64)
    light = highest - values if tiff_tags.get(_WHITE_TAG) == 0 else values
    grey = np.round(light * 255 / highest).astype(np.uint8)
    grey[values == image.info.get("transparency", -1)] = 255
    return Image.fromarray(np.repeat(grey[..., None], 3, axis=2))
