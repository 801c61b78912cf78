"""Exact and near duplicates, found without comparing every pair.

The hash of each whole image is joined with the hashes of crops of all images and of their horizontal flips
(hash_join.py), so that a crop or a framed copy is found. A candidate pair counts if its two 32×32 gray
thumbnails, aligned by shift and scale (alignment.py), agree in their details and in their coarse colors: images that
are plain or merely similar don't, nor do two colors of one shirt.
Shapes: N images, U distinct contents, P pairs, S side of the thumbnail, G side of the color grid.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from components.data.duplicates.alignment import VIEWS, Pictures, likeness
from components.data.duplicates.embedding_join import similar_pairs
from components.data.duplicates.hash_join import MAX_BITS, Cut, candidate_pairs
from components.data.images.embeddings import Embeddings, EmbeddingSettings
from components.data.images.perceptual_hash import distance, perceptual_hashes
from components.shared.progress import Progress, silent
from components.shared.settings import Settings

_PAIRS_PER_STEP = 20_000
Pairs = NDArray[np.int64]
"""Shape [P, 2]: indices of two images, the smaller first; each pair once, sorted."""


class DuplicateSettings(Settings):
    """params.yaml: split.duplicates."""

    max_bits: int = Field(ge=0, le=MAX_BITS)
    """Most hash bits, of 64, that may differ in a candidate pair; larger finds more copies."""
    min_correlation: float = Field(gt=0, le=1)
    """Least correlation of two aligned 32×32 grey images for a pair to count; larger joins fewer."""
    embeddings: EmbeddingSettings | None = None
    """null | {model: features.onnx, min_similarity: 0.95}: also pairs similar to a model; decodes all again."""


@dataclass(frozen=True)
class DuplicatePairs:
    exact: Pairs
    """Images of equal bytes: each image with the first one."""
    near: Pairs
    """Images of different bytes that show the same, perhaps flipped, cropped or framed."""
    embedding: Pairs | None
    """Pairs whose embeddings are close; None without a model."""
    num_cut: int
    """Number of comparisons skipped because too many images share a bucket or a hash; 0: the search was complete."""
    num_candidates: int | None = None
    """Number of pairs with near hashes, whose pictures were compared."""

    @property
    def alike(self) -> Pairs:
        """Near and embedding pairs, which have to stay in one split as exact ones do."""
        return self.near if self.embedding is None else np.concatenate([self.near, self.embedding])


def find_duplicates(
    *,
    sha256_N: NDArray[np.object_],
    thumbnail_NSS: NDArray[np.uint8],
    colour_NGG3: NDArray[np.uint8],
    embedding_NF: Embeddings | None = None,
    ingest_id_N: NDArray[np.int64] | None = None,
    settings: DuplicateSettings,
    progress: Progress = silent,
) -> DuplicatePairs:
    """All duplicate pairs among N images; near and embedding pairs link the first images of each content.

    Embeddings are needed if the settings name a model. Ingest ids order the images by age: if so many are alike that
    not all are compared, later images never remove a pair of earlier ones.
    """
    _, first_U, content_N = np.unique(sha256_N.astype(str), return_index=True, return_inverse=True)
    exact = np.stack([first_U[content_N], np.arange(len(sha256_N))], axis=1)
    exact = exact[exact[:, 0] != exact[:, 1]]
    if ingest_id_N is not None:
        first_U = first_U[_by_age(content_N, ingest_id_N)]
    thumbnail_USS = thumbnail_NSS[first_U]
    pictures = Pictures.of(thumbnail_USS, colour_NGG3[first_U])
    cut = Cut()
    pairs, starts = _candidates(thumbnail_USS, pictures.plain_U, settings.max_bits, cut, progress)
    alike = np.concatenate(
        [
            likeness(pictures, pairs[begin:end], starts[begin:end]) >= settings.min_correlation
            for begin, end in _steps(len(pairs), "compare candidates", progress)
        ]
    )
    near = in_order(first_U[pairs[alike]])
    embedding = None
    if embedding_NF is not None and settings.embeddings is not None:
        similarity = settings.embeddings.min_similarity
        embedding = in_order(
            first_U[similar_pairs(embedding_NF[first_U], min_similarity=similarity, progress=progress)]
        )
    return DuplicatePairs(in_order(exact), near, embedding, cut.pairs, len(pairs))


def _by_age(content_N: NDArray[np.int64], ingest_id_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """The distinct contents by the ingest that brought them, those of one ingest by SHA-256."""
    oldest_U = np.full(int(content_N.max(initial=-1)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(oldest_U, content_N, ingest_id_N)
    return np.argsort(oldest_U, kind="stable")


def _candidates(
    thumbnail_USS: NDArray[np.uint8], plain_U: NDArray[np.bool_], max_bits: int, cut: Cut, progress: Progress
) -> tuple[Pairs, NDArray[np.int64]]:
    """Ordered pairs (i, j) where the hash of i is near the hash of a view of j, and the index of the nearest view."""
    # Plain images match nothing, however many share a hash.
    structured = np.flatnonzero(~plain_U)
    thumbnail_USS = thumbnail_USS[structured]
    hash_U = perceptual_hashes(thumbnail_USS)[:, 0]
    num_images = np.int64(len(hash_U))
    best = np.empty(0, np.int64), np.empty(0, np.int64)
    for number, (crop, flipped) in enumerate(VIEWS):
        progress("look for duplicates", number, len(VIEWS))
        view_U = hash_U if number == 0 else perceptual_hashes(thumbnail_USS, crop)[:, int(flipped)]
        keys, ranks = [best[0]], [best[1]]
        for pairs in candidate_pairs(hash_U, view_U, max_bits=max_bits, cut=cut):
            i, j = pairs[pairs[:, 0] != pairs[:, 1]].T
            keys.append(i * num_images + j)
            ranks.append(distance(hash_U[i], view_U[j]).astype(np.int64) * len(VIEWS) + number)
        best = _least(np.concatenate(keys), np.concatenate(ranks))
    progress("look for duplicates", len(VIEWS), len(VIEWS))
    return structured[np.stack(np.divmod(best[0], num_images), axis=1)], best[1] % len(VIEWS)


def _least(key_P: NDArray[np.int64], rank_P: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each distinct key, sorted, with its lowest rank."""
    order = np.lexsort((rank_P, key_P))
    key_P, rank_P = key_P[order], rank_P[order]
    first = np.ones(len(key_P), bool)
    first[1:] = key_P[1:] != key_P[:-1]
    return key_P[first], rank_P[first]


def _steps(total: int, task: str, progress: Progress) -> Iterator[tuple[int, int]]:
    for begin in range(0, max(total, 1), _PAIRS_PER_STEP):
        progress(task, begin, total)
        yield begin, min(begin + _PAIRS_PER_STEP, total)
    progress(task, total, total)


def clusters(num_images: int, *links: Pairs) -> NDArray[np.int64]:
    """The connected component of each image, shape [num_images]."""
    # Imported here: reading the settings must not need scipy.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs = np.concatenate([np.empty((0, 2), np.int64), *links])
    graph = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(num_images, num_images))
    numbers: NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
    return numbers


def in_order(pairs: Pairs) -> Pairs:
    """Each pair once, sorted, the smaller index first."""
    return np.unique(np.sort(pairs, axis=1), axis=0).astype(np.int64).reshape(-1, 2)
