"""Perceptual hashes: 64 bits that change little when an image is recompressed, resized or brightened.

The hash is pHash (Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions"): the signs of
the lowest 8×8 frequencies of a 32×32 grey image around their median. Mirroring an image negates its odd horizontal
frequencies, so the mirror image's hash comes from the same coefficients.
Letters: N images, S side of the grey square, K frequencies a side.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dct

SIDE = 32
_FREQUENCIES = 8
_DCT_KS = dct(np.eye(SIDE), axis=0, norm="ortho")[:_FREQUENCIES].astype(np.float32)
_MIRROR_K = np.where(np.arange(_FREQUENCIES) % 2, -1.0, 1.0).astype(np.float32)


def grey_square(pixels_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image as SIDE × SIDE grey values, each the mean of the area that it stands for."""
    image = Image.fromarray(pixels_HWC).convert("L")
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX))


def perceptual_hashes(grey_NSS: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Two hashes an image, shape [N, 2]: of the image and of its mirror image."""
    spectrum_NKK = _DCT_KS @ grey_NSS.astype(np.float32) @ _DCT_KS.T
    return np.stack([_signs(spectrum_NKK), _signs(spectrum_NKK * _MIRROR_K)], axis=1)


def _signs(spectrum_NKK: NDArray[np.float32]) -> NDArray[np.uint64]:
    flat = spectrum_NKK.reshape(len(spectrum_NKK), -1)
    # The mean grey (frequency 0, 0) is left out of the median: it would only tell light from dark.
    bits = flat > np.median(flat[:, 1:], axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">u8").ravel().astype(np.uint64)


def distance(left: NDArray[np.uint64], right: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Number of differing bits, 0 to 64."""
    bits: NDArray[np.uint8] = np.bitwise_count(left ^ right)
    return bits
