"""Recall and precision on planted copies, and the time of the search, beside imagededup's pHash.

    OMP_NUM_THREADS=1 python benchmarks/near_duplicates.py [FOLDER] [--images 300] [--seed 2027] [--peer]
        [--embeddings FILE.onnx [--similarity 0.95]]
    OMP_NUM_THREADS=1 python benchmarks/near_duplicates.py FOLDER --between OTHER [--grid pairs.png]

Without a folder, tiles of scikit-learn's two sample photographs are used.

Each image of a sample is changed in eight ways; the recompressed copy is a JPEG, the others are stored without loss,
and the original is the file as it lies there. A pair of one image's family is right, any other pair wrong (some of
those are the data set's own near duplicates, so precision is a lower bound). The thresholds were set on the images
that the seeds 7 and 101 draw (300 and 150 of a folder); those are left out, so what is measured here set nothing.
`--peer` needs imagededup and PyWavelets: `pip install --no-deps imagededup PyWavelets`, with whatever else it asks
for. Its CNN method needs weights that it downloads, and is left out. Both sides run in one process, one after the
other, on the same images and 7 bits. `--embeddings` measures the second level alone, by a file of `darkroom features`.

With --between nothing is planted: all images of both folders are searched, and the pairs from one to the other are
counted; --grid plots 40 of them, evenly taken, one above the other.
"""

import argparse
import hashlib
import io
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_images

from components.data.duplicates.embedding_join import similar_pairs
from components.data.duplicates.finder import DuplicateSettings, find_duplicates
from components.data.images.embeddings import embed
from components.data.images.measurement import measure_without_hashes
from components.data.images.perceptual_hash import COLOUR_SIDE, SIDE

_TUNED_ON = {7: 300, 101: 150}
"""Seeds, and how many images each drew, when the thresholds of components.data.duplicates.alignment were set."""
SETTINGS = DuplicateSettings(max_bits=7, min_correlation=0.98)


def stored(image: Image.Image, format_: str, **options: int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format_, **options)
    return stream.getvalue()


def lossless(image: Image.Image) -> bytes:
    return stored(image, "PNG", compress_level=1)


def resized(image: Image.Image, factor: float) -> Image.Image:
    return image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)


def cropped(image: Image.Image, draw: random.Random) -> Image.Image:
    """Nine tenths of each side, from anywhere."""
    width, height = round(image.width * 0.9), round(image.height * 0.9)
    left, top = draw.randint(0, image.width - width), draw.randint(0, image.height - height)
    return image.crop((left, top, left + width, top + height))


def bordered(image: Image.Image, draw: random.Random) -> Image.Image:
    return ImageOps.expand(image, max(1, round(min(image.size) * 0.03)), draw.choice(["black", "white"]))


CHANGES: dict[str, Callable[[Image.Image, random.Random], bytes]] = {
    "JPEG 30": lambda image, draw: stored(image, "JPEG", quality=30),
    "× 0.5": lambda image, draw: lossless(resized(image, 0.5)),
    "× 2": lambda image, draw: lossless(resized(image, 2)),
    "mirror": lambda image, draw: lossless(ImageOps.mirror(image)),
    "crop 10%": lambda image, draw: lossless(cropped(image, draw)),
    "− 20%": lambda image, draw: lossless(image.point(lambda value: int(value * 0.8))),
    "+ 20%": lambda image, draw: lossless(image.point(lambda value: min(255, int(value * 1.2)))),
    "border": lambda image, draw: lossless(bordered(image, draw)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--seed", type=int, default=2027)
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--embeddings", type=Path)
    parser.add_argument("--similarity", type=float, default=0.95)
    parser.add_argument("--between", type=Path)
    parser.add_argument("--grid", type=Path)
    flags = parser.parse_args()
    if flags.between:
        natural(flags.folder, flags.between, flags.grid)
        return
    draw = random.Random(flags.seed)
    sources = from_folder(flags.folder, flags.images, draw) if flags.folder else tiles()
    files = [file for content in sources for file in plant(content, draw)]
    thumbnails, colours = (np.stack(column) for column in zip(*map(measured, files), strict=True))
    cpu, wall = time.process_time(), time.perf_counter()
    found = find_duplicates(
        sha256_N=np.array([str(number) for number in range(len(files))], dtype=object),
        thumbnail_NSS=thumbnails,
        colour_NGG3=colours,
        settings=SETTINGS,
    )
    report("ours", found.near, time.process_time() - cpu, time.perf_counter() - wall, len(files))
    if flags.peer:
        peer(files)
    if flags.embeddings:
        cpu, wall = time.process_time(), time.perf_counter()
        vectors = embed(
            len(files), lambda row: np.asarray(opened(files[row])), model=flags.embeddings, setting="--embeddings"
        )
        pairs = similar_pairs(vectors, min_similarity=flags.similarity)
        report(
            f"embeddings of {vectors.shape[1]} numbers, cosine from {flags.similarity:g}",
            pairs, time.process_time() - cpu, time.perf_counter() - wall, len(files),
        )  # fmt: skip


def natural(folder: Path, other: Path, grid: Path | None) -> None:
    """The near duplicates that two folders hold already, such as the train and test splits of a published set."""
    files = [sorted(file for file in one.rglob("*") if file.is_file()) for one in (folder, other)]
    both = files[0] + files[1]
    contents = [file.read_bytes() for file in both]
    probed = [measure_without_hashes(content, max_megapixels=100) for content, file in zip(contents, both, strict=True)]
    cpu, wall = time.process_time(), time.perf_counter()
    found = find_duplicates(
        sha256_N=np.array([hashlib.sha256(content).hexdigest() for content in contents], dtype=object),
        thumbnail_NSS=np.stack([np.frombuffer(one.thumbnail, np.uint8).reshape(SIDE, SIDE) for one in probed]),
        colour_NGG3=np.stack(
            [np.frombuffer(one.colours, np.uint8).reshape(COLOUR_SIDE, COLOUR_SIDE, 3) for one in probed]
        ),
        settings=SETTINGS,
    )
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    across = found.near[(found.near[:, 0] < len(files[0])) & (found.near[:, 1] >= len(files[0]))]
    print(
        f"{len(both)} images: {len(found.exact)} exact and {len(found.near)} near pairs, {len(across)} near ones "
        f"between the folders, of {len(np.unique(across[:, 1]))} images of {other.name}; search {cpu:.1f} CPU-s, "
        f"{wall:.1f} s"
    )
    if grid:
        shown = across[np.linspace(0, len(across) - 1, 40).astype(int)]
        page = Image.new("RGB", (10 * 70, 4 * 140), "white")
        for number, pair in enumerate(shown):
            for row, place in enumerate(pair):
                picture = Image.open(both[place]).convert("RGB").resize((64, 64))
                page.paste(picture, (number % 10 * 70, number // 10 * 140 + row * 66))
        page.save(grid)


def from_folder(folder: Path, count: int, draw: random.Random) -> list[bytes]:
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in (".jpg", ".jpeg", ".png"))
    used = {
        file for seed, many in _TUNED_ON.items() for file in random.Random(seed).sample(files, min(many, len(files)))
    }
    unseen = [file for file in files if file not in used]
    return [file.read_bytes() for file in draw.sample(unseen, min(count, len(unseen)))]


def tiles() -> list[bytes]:
    """Squares of 128 px that don't overlap, without those that hold little but sky."""
    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    corners = [(left, top) for top in range(0, 384, 128) for left in range(0, 640, 128)]
    cut = [photo.crop((left, top, left + 128, top + 128)) for photo in photographs for left, top in corners]
    return [lossless(tile) for tile in cut if np.asarray(tile.convert("L")).std() > 20]


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content)).convert("RGB")


def ending(content: bytes) -> str:
    return ".png" if content.startswith(b"\x89PNG") else ".jpg"


def measured(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The grey square and the colours of a file, as the pipeline takes them."""
    found = measure_without_hashes(content, max_megapixels=100)
    grey = np.frombuffer(found.thumbnail, np.uint8).reshape(SIDE, SIDE)
    return grey, np.frombuffer(found.colours, np.uint8).reshape(COLOUR_SIDE, COLOUR_SIDE, 3)


def plant(content: bytes, draw: random.Random) -> list[bytes]:
    image = opened(content)
    return [content, *(change(image, draw) for change in CHANGES.values())]


def report(name: str, pairs: np.ndarray, cpu: float, wall: float, num_images: int) -> None:
    size = len(CHANGES) + 1
    right = pairs[:, 0] // size == pairs[:, 1] // size
    planted = pairs[right & (pairs[:, 0] % size == 0)]
    num_families = num_images // size
    kinds = [f"{change} {(planted[:, 1] % size == n).sum() / num_families:.3f}" for n, change in enumerate(CHANGES, 1)]
    print(
        f"{name}: {num_images} images, recall {len(planted) / (num_images - num_families):.4f} ({', '.join(kinds)}); "
        f"precision {right.mean():.4f} of {len(pairs)}; search {cpu:.2f} CPU-s, {wall:.2f} s"
    )


def peer(files: list[bytes]) -> None:
    from imagededup.methods import PHash

    with tempfile.TemporaryDirectory() as folder:
        for number, content in enumerate(files):
            (Path(folder) / f"{number:06d}{ending(content)}").write_bytes(content)
        hasher = PHash(verbose=False)
        codes = hasher.encode_images(folder, num_enc_workers=0)
    cpu, wall = time.process_time(), time.perf_counter()
    answer = hasher.find_duplicates(
        encoding_map=codes,
        max_distance_threshold=7,
        search_method="brute_force_cython",
        num_dist_workers=0,
    )
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    found = {tuple(sorted((int(one[:-4]), int(two[:-4])))) for one, others in answer.items() for two in others}
    report("imagededup pHash", np.array(sorted(found)).reshape(-1, 2), cpu, wall, len(files))


if __name__ == "__main__":
    main()
