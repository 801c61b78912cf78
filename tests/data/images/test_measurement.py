import io

import numpy as np
import pytest
from PIL import Image

from components.data.images import decoding
from components.data.images.decoding import UndecodableImage
from components.data.images.measurement import measure


def picture(side: int = 96, seed: int = 1) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((side, side * 3 // 4), Image.Resampling.BICUBIC)


def stored(image: Image.Image, format_: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format_, **options)
    return stream.getvalue()


def careful(content: bytes) -> np.ndarray:
    return decoding._decode_any(content, 100).pixels_HWC


@pytest.mark.parametrize("options", [{"quality": 30}, {"quality": 95, "subsampling": 0}, {"progressive": True}])
@pytest.mark.parametrize("side", [33, 96, 301])
def test_the_fast_decoder_gives_the_pixels_of_pillow(options: dict[str, object], side: int) -> None:
    content = stored(picture(side), **options)
    quick = decoding._decode_fast(content, 100)
    assert quick is not None
    assert np.array_equal(quick.pixels_HWC, careful(content))


@pytest.mark.parametrize("left", [0.3, 0.6, 0.95, 0.999])
def test_a_jpeg_truncated_anywhere_is_refused(left: float) -> None:
    content = stored(picture(200))
    with pytest.raises(UndecodableImage):
        measure(content[: int(len(content) * left)], max_megapixels=100)


def test_rotated_and_cmyk_jpegs_are_decoded_by_pillow() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    found = measure(stored(picture(96), exif=exif), max_megapixels=100)
    assert (found.width_px, found.height_px) == (72, 96)
    assert measure(stored(picture(96).convert("CMYK")), max_megapixels=100).mode == "CMYK"


@pytest.mark.parametrize("orientation", [None, 1, 6])
@pytest.mark.parametrize("tag", ["exif", "xmp"])
def test_a_rotation_is_found_in_any_segment(tag: str, orientation: int | None) -> None:
    exif = Image.Exif()
    exif[0x010F] = "maker"
    if orientation:
        exif[0x0112] = orientation
    xmp = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="{orientation or 1}"/></x:xmpmeta>'.encode()
    content = stored(picture(96), **({"exif": exif} if tag == "exif" else {"xmp": xmp}))
    found, whole = measure(content, max_megapixels=100), careful(content)
    assert (found.height_px, found.width_px) == whole.shape[:2]
    assert (decoding._decode_fast(content, 100) is None) == (orientation == 6)


@pytest.mark.parametrize("place", range(2, 400, 7))
def test_a_damaged_header_gives_the_pixels_of_pillow_or_leaves_the_file_to_it(place: int) -> None:
    content = bytearray(stored(picture(96)))
    content[place] ^= 0x5A
    quick = decoding._decode_fast(bytes(content), 100)
    if quick is not None:
        assert np.array_equal(quick.pixels_HWC, careful(bytes(content)))


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(UndecodableImage, match="megapixels"):
        measure(stored(picture(200)), max_megapixels=0.01)


def test_one_colour_has_no_contrast_no_entropy_and_no_edges() -> None:
    found = measure(stored(Image.new("RGB", (40, 30), (0, 0, 0)), "PNG"), max_megapixels=100)
    assert (found.brightness, found.contrast, found.entropy_bits, found.sharpness) == (0, 0, 0, 0)
    assert found.aspect == pytest.approx(4 / 3)


def test_colourfulness_follows_hasler_and_suesstrunk() -> None:
    pixels = np.asarray(picture(32)).astype(float)
    red, green, blue = np.moveaxis(pixels, 2, 0)
    opponents = (red - green, 0.5 * (red + green) - blue)
    expected = np.hypot(*(one.std() for one in opponents)) + 0.3 * np.hypot(*(one.mean() for one in opponents))
    found = measure(stored(picture(32), "PNG"), max_megapixels=100)
    assert found.colourfulness == pytest.approx(expected, rel=1e-6)


def test_blur_lowers_sharpness_and_grey_has_no_colour() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (600, 500, 3), dtype=np.uint8))
    blurred = noise.resize((50, 60), Image.Resampling.BOX).resize((500, 600), Image.Resampling.BICUBIC)
    sharp, soft = (measure(stored(one, "PNG"), max_megapixels=100) for one in (noise, blurred))
    assert soft.sharpness < sharp.sharpness / 4
    assert measure(stored(noise.convert("L"), "PNG"), max_megapixels=100).colourfulness == 0


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (3, 5)])
def test_slim_and_tiny_images_are_measured(size: tuple[int, int]) -> None:
    found = measure(stored(Image.new("RGB", size, (200, 10, 10)), "PNG"), max_megapixels=100)
    assert (found.width_px, found.height_px) == size
    assert len(found.thumbnail) == 32 * 32
    assert len(found.colours) == 8 * 8 * 3


@pytest.mark.parametrize("side", [301, 620, 1500])
def test_a_jpeg_and_its_lossless_copy_have_the_same_measurements(side: int) -> None:
    forms = np.asarray(picture(side)).astype(int)
    coarse = np.random.default_rng(2).integers(-40, 41, (side // 12, side // 12))
    grain = np.asarray(Image.fromarray(coarse.astype(np.int32)).resize((side, forms.shape[0])))
    image = Image.fromarray(np.clip(forms + grain[..., None], 0, 255).astype(np.uint8))
    smaller = measure(stored(image, quality=100, subsampling=0), max_megapixels=100)
    whole = measure(stored(image, "PNG"), max_megapixels=100)
    assert (smaller.width_px, smaller.height_px) == (whole.width_px, whole.height_px) == image.size
    for name in ("brightness", "contrast", "sharpness", "entropy_bits", "colourfulness"):
        assert getattr(smaller, name) == pytest.approx(getattr(whole, name), rel=0.05), name
    assert (smaller.hash ^ whole.hash).bit_count() <= 2
