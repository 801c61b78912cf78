"""Perceptual hashing and the search for near duplicates, beside imagededup's pHash on the same files.

    OMP_NUM_THREADS=1 python benchmarks/hashing.py [FOLDER] [--images 4000] [--hashed 500] [--rounds 5]

Needs imagededup and PyWavelets (`pip install --no-deps imagededup PyWavelets`, with whatever else it asks for).
First hashing, of so many files: from decoded pixels, as the pipeline hashes what it has decoded to validate it; and
from files, where our side is the whole probing pass (decoding and all measures, for the hash alone is never made).
Then the search, half of its images recompressed copies (JPEG 30) of the others: on the peer's own 64-bit codes, so
that both look for the same pairs within 7 bits; and our whole search, with crops, mirror images and the finer
comparison, which the peer doesn't have. One thread each.
"""

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np
from near_duplicates import measured, opened, stored
from photographs import files_in, photographs
from side_by_side import compare, machine, needs_peer, ratio, table

from components.data.duplicates.finder import DuplicateSettings, find_duplicates
from components.data.duplicates.hash_join import candidate_pairs
from components.data.images.decoding import decode
from components.data.images.measurement import Measurement, luma_of, measure_without_hashes, with_hashes
from components.data.images.perceptual_hash import grey_square, perceptual_hashes

_BITS = 7
SETTINGS = DuplicateSettings(max_bits=_BITS, min_correlation=0.98)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--hashed", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    flags = parser.parse_args()
    cv2.setNumThreads(1)
    needs_peer("imagededup")
    with tempfile.TemporaryDirectory() as scratch:
        files = files_in(photographs(flags.folder, Path(scratch)))[: flags.images]
        hashing(files[: flags.hashed], flags.rounds)
        searching(files[: flags.images // 2], flags.rounds)
    print(machine("numpy", "opencv-python-headless", "pillow", "imagededup"))


def hashing(files: list[Path], rounds: int) -> None:
    from imagededup.methods import PHash

    hasher = PHash(verbose=False)
    pixels = [decode(file.read_bytes(), max_megapixels=100).pixels_HWC for file in files]
    sides = {
        "ours, from pixels": lambda: perceptual_hashes(np.stack([grey_square(luma_of(one)) for one in pixels])),
        "imagededup, from pixels": lambda: [hasher.encode_image(image_array=one) for one in pixels],
        "ours, from files (whole probing)": lambda: probed(files),
        "imagededup, from files": lambda: [hasher.encode_image(image_file=str(file)) for file in files],
    }
    timings = compare(sides, rounds=rounds)
    print(f"hashing {len(files)} files")
    print(table(timings, per_round=len(files), unit="images/s", peer="imagededup, from files"))
    ours, peer = timings["ours, from pixels"], timings["imagededup, from pixels"]
    print(f"from pixels: {ratio(peer.cpu_s, ours.cpu_s):.1f} times the peer's CPU rate", flush=True)


def probed(files: list[Path]) -> list[Measurement]:
    return with_hashes([measure_without_hashes(file.read_bytes(), max_megapixels=100) for file in files])


def searching(files: list[Path], rounds: int) -> None:
    from imagededup.methods import PHash

    hasher = PHash(verbose=False)
    originals = [file.read_bytes() for file in files]
    images = [*originals, *(stored(opened(one), "JPEG", quality=30) for one in originals)]
    codes = {str(number): hasher.encode_image(image_array=np.asarray(opened(one))) for number, one in enumerate(images)}
    code_N = np.array([int(code, 16) for code in codes.values()], dtype=np.uint64)
    grey, colours = (np.stack(column) for column in zip(*map(measured, images), strict=True))
    names = np.array([f"{number:06d}" for number in range(len(images))], dtype=object)
    answers: dict[str, set[tuple[int, int]]] = {}

    def join() -> None:
        pairs = np.concatenate(list(candidate_pairs(code_N, code_N, max_bits=_BITS)))
        answers["join"] = set(map(tuple, np.sort(pairs, axis=1).tolist()))

    def whole() -> None:
        near = find_duplicates(sha256_N=names, thumbnail_NSS=grey, colour_NGG3=colours, settings=SETTINGS).near
        answers["whole"] = set(map(tuple, near.tolist()))

    def peer() -> None:
        found = hasher.find_duplicates(
            encoding_map=codes,
            max_distance_threshold=_BITS,
            search_method=_fastest_search(),
            num_dist_workers=0,
        )
        answers["peer"] = {(min(pair), max(pair)) for pair in ((int(a), int(b)) for a in found for b in found[a])}

    timings = compare({"ours, the join": join, "ours, the whole search": whole, "imagededup": peer}, rounds=rounds)
    print(f"search among {len(images)} images; the peer by {_fastest_search()}")
    print(table(timings, per_round=len(images), unit="images/s", peer="imagededup"))
    theirs = answers["peer"]
    for name in ("join", "whole"):
        fraction = len(theirs & answers[name]) / max(len(theirs), 1)
        print(f"{name}: {len(answers[name])} pairs, with {fraction:.4f} of the peer's {len(theirs)}")


def _fastest_search() -> str:
    try:
        import brute_force_cython_ext  # noqa: F401
    except ImportError:
        return "brute_force"
    return "brute_force_cython"


if __name__ == "__main__":
    main()
