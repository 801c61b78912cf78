"""All pairs of embeddings whose cosine is at least a bound: exactly, without comparing every pair.

Two vectors of length 1 and cosine c lie sqrt(2 - 2c) apart. Two bounds exclude pairs, and neither can lose one:

- Short vectors. Of x = Px + Rx, Px in the span of a few leading directions, the numbers of Px and the length of Rx
  make a short vector. By Cauchy and Schwarz x·y ≤ Px·Py + |Rx||Ry|, which is the product of the short ones.
- Cells. Each short vector belongs to the nearest of K centers. Between cells a and b lies the plane of points as near
  to the one center as to the other; a vector y of b lies (|y-a|² - |y-b|²) / 2|a-b| behind it, so x of a and y are at
  least as far apart as both are from the plane, added up (Zezula et al. 2006, "Similarity Search: The Metric Space
  Approach", the generalized hyperplane). y is compared with a cell only where that is near enough for the nearest x.

The remaining pairs are compared block by block: with short vectors first, then with whole ones. If a sample or the
cells show that a bound excludes too little, it is not used; without both this is the flat search (Johnson, Douze
and Jégou 2017, "Billion-scale similarity search with GPUs").
Shapes: N vectors, F numbers of each, D numbers of a short one, K cells, S of a sample, P pairs.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.shared.errors import SettingsError
from components.shared.progress import Progress, silent

Vectors = NDArray[np.float32]
Indices = NDArray[np.int64]
Pairs = NDArray[np.int64]
"""Shape [P, 2]: indices of two vectors, the smaller first."""
Block = tuple[slice, slice | Indices]
"""Indices of the vectors that a block compares."""

TIE = 1e-6
"""Amount by which a cosine may miss the bound: a copy must reach a cosine of 1 whatever its last bits."""
_MAX_PAIRS_PER_IMAGE = 100
_FEW_PAIRS = 100_000
_ROUNDING = 2e-5
"""Upper bound of the rounding error of products of unit vectors in 32 bits."""
_BLOCK = 2048
"""Vectors per side of a block."""
_FEW = 2048
"""Number of vectors up to which all pairs are compared directly."""
_SAMPLE = 1024
_LENGTHS = (16, 32, 64, 128, 256)
"""Candidate numbers of leading directions."""
_OVERHEAD = 10
"""Cost of reading a product, in multiplications."""
_FETCHED = 64
"""Cost of a pair of vectors that is gathered singly, in pairs of a block."""
_CELLS_AT_ONCE = 8
_MOST_CELLS = 8192
_CELLS = 3
"""Number of cells per square root of the number of vectors."""
_VECTORS_PER_CELL = 8
"""Number of vectors per cell from which the centers are computed."""
_TOO_MANY = 0.5
"""Fraction of all pairs from which on selecting them costs more than it saves."""


@dataclass
class JoinCounts:
    """Number of products that a search computes."""

    short: int = 0
    """Products of short vectors."""
    whole: int = 0
    """Products of whole vectors."""


def similar_pairs(
    embedding_NF: Vectors, *, min_similarity: float, compared: JoinCounts | None = None, progress: Progress = silent
) -> Pairs:
    """Each pair (i, j), i < j, whose embeddings' cosine is at least `min_similarity`, in order.

    An embedding of zeros, or with a number that isn't finite, matches none. Raises SettingsError if images have more
    than a hundred such pairs each: then the model sees what all images have in common, and nearly all would
    have to stay in one split.
    """
    with np.errstate(over="ignore"):
        length_N = np.linalg.norm(embedding_NF, axis=1)
    valid = np.flatnonzero((length_N > 0) & np.isfinite(length_N))
    unit_NF = embedding_NF[valid]
    unit_NF /= length_N[valid, None]
    found, most = [np.empty((0, 2), np.int64)], _FEW_PAIRS + _MAX_PAIRS_PER_IMAGE * len(embedding_NF)
    for pairs in close_pairs(unit_NF, min_cosine=min_similarity, compared=compared, progress=progress):
        found.append(pairs)
        if sum(map(len, found)) > most:
            raise SettingsError(
                f"params.yaml: split.duplicates.embeddings.min_similarity: {min_similarity:g} makes more than "
                f"{_MAX_PAIRS_PER_IMAGE} pairs per image; raise it"
            )
    pairs = valid[np.concatenate(found)]
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def close_pairs(
    unit_NF: Vectors, *, min_cosine: float, compared: JoinCounts | None = None, progress: Progress = silent
) -> Iterator[Pairs]:
    """Batches of the pairs (i, j), i < j, whose cosine is at least `min_cosine` - TIE; each pair comes once.

    The vectors are finite and of length 1. Memory holds, beside them, the short ones and a few blocks.
    """
    count = compared or JoinCounts()
    short_ND = _shortened(unit_NF, min_cosine)
    is_short = short_ND is not unit_NF
    cells = _Cells.of(short_ND, min_cosine, progress) if _worth_cells(short_ND) else None
    order_N = np.arange(len(unit_NF)) if cells is None else cells.order_N
    if cells is not None:
        short_ND = cells.vector_ND
    for rows, columns in _all_blocks(len(unit_NF)) if cells is None else cells.blocks():
        progress("compare embeddings", rows.start, len(unit_NF))
        product = short_ND[rows] @ short_ND[columns].T
        count.short += product.size * is_short
        count.whole += product.size * (not is_short)
        i, j = np.divmod(np.flatnonzero(product >= min_cosine - _ROUNDING), product.shape[1])
        cosine = product[i, j]
        i, j = i + rows.start, j + columns.start if isinstance(columns, slice) else columns[j]
        once = i < j
        i, j, cosine = order_N[i[once]], order_N[j[once]], cosine[once]
        if is_short:
            cosine = _cosines(unit_NF, i, j, count)
        near = _at_least(unit_NF, i, j, cosine, min_cosine - TIE)
        yield np.sort(np.stack([i[near], j[near]], axis=1), axis=1)
    progress("compare embeddings", len(unit_NF), len(unit_NF))


def _all_blocks(num: int) -> Iterator[Block]:
    """Yields the blocks of all pairs."""
    for top in range(0, num, _BLOCK):
        for left in range(top, num, _BLOCK):
            yield slice(top, min(num, top + _BLOCK)), slice(left, min(num, left + _BLOCK))


def _cosines(unit_NF: Vectors, i: Indices, j: Indices, count: JoinCounts) -> NDArray[np.float32]:
    """Cosines of the pairs: gathered singly if they are few, else from one block of their rows and columns."""
    (rows, row_P), (columns, column_P) = (np.unique(side, return_inverse=True) for side in (i, j))
    if len(i) * _FETCHED > len(rows) * len(columns):
        count.whole += len(rows) * len(columns)
        block: NDArray[np.float32] = unit_NF[rows] @ unit_NF[columns].T
        return block[row_P, column_P]
    count.whole += len(i)
    return np.concatenate(
        [np.empty(0, np.float32)]
        + [np.einsum("pf,pf->p", unit_NF[i[chunk]], unit_NF[j[chunk]]) for chunk in _chunks(len(i), unit_NF.shape[1])]
    )


def _chunks(num_pairs: int, num_numbers: int) -> Iterator[slice]:
    """Slices of the pairs whose vectors have as many numbers as a block of products."""
    step = max(1, _BLOCK**2 // max(num_numbers, 1))
    return (slice(start, start + step) for start in range(0, num_pairs, step))


def _at_least(
    unit_NF: Vectors, i: Indices, j: Indices, cosine_P: NDArray[np.float32], bound: float
) -> NDArray[np.bool_]:
    """Whether each pair reaches the bound; 64 bits decide close calls, so the shape of a block doesn't matter."""
    reach = cosine_P >= bound
    doubtful = np.flatnonzero(np.abs(cosine_P - bound) <= _ROUNDING)
    for chunk in _chunks(len(doubtful), 2 * unit_NF.shape[1]):
        left, right = (unit_NF[side[doubtful[chunk]]].astype(np.float64) for side in (i, j))
        reach[doubtful[chunk]] = np.einsum("pf,pf->p", left, right) >= bound
    return reach


def _shortened(unit_NF: Vectors, min_cosine: float) -> Vectors:
    """Short vectors, with the number of directions that costs least on a sample; or the vectors, if none pays."""
    num_numbers = unit_NF.shape[1]
    lengths = [length for length in _LENGTHS if 2 * length <= num_numbers]
    if len(unit_NF) <= _FEW or not lengths:
        return unit_NF
    sample_SF = _evenly(unit_NF, _SAMPLE)
    # One half gives the directions, the other half estimates their cost.
    basis_FD = _leading_directions(sample_SF[::2], lengths[-1])
    along_SD = sample_SF[1::2] @ basis_FD
    cost = {}
    for length in lengths:
        short_SD = _with_rest(along_SD[:, :length])
        left = float((short_SD @ short_SD.T >= min_cosine - _ROUNDING).mean())
        cost[length] = length + _OVERHEAD + min(_FETCHED * left, 1) * (num_numbers + _OVERHEAD)
    length = min(cost, key=lambda each: cost[each])
    if cost[length] >= num_numbers + _OVERHEAD:
        return unit_NF
    return np.concatenate(
        [_with_rest(unit_NF[start : start + _BLOCK] @ basis_FD[:, :length]) for start in range(0, len(unit_NF), _BLOCK)]
    )


def _leading_directions(sample_SF: Vectors, num: int) -> Vectors:
    """Orthonormal columns, ordered by the length of the vectors along them."""
    _, left_SS = np.linalg.eigh((sample_SF @ sample_SF.T).astype(np.float64))
    basis_FD, _ = np.linalg.qr(sample_SF.T.astype(np.float64) @ left_SS[:, : -num - 1 : -1])
    return basis_FD.astype(np.float32)


def _with_rest(along_ND: Vectors) -> Vectors:
    """Short vectors with the length of the remainder, rounded up: no product of them may be too small."""
    rest_N = np.sqrt(np.maximum(1 - np.einsum("nd,nd->n", along_ND, along_ND), 0) + _ROUNDING / 2)
    return np.concatenate([along_ND, rest_N[:, None]], axis=1)


def _worth_cells(short_ND: Vectors) -> bool:
    return len(short_ND) > _FEW and short_ND.shape[1] <= _LENGTHS[-1] + 1


@dataclass(frozen=True)
class _Cells:
    """Vectors sorted by cell; a score is the squared distance to a center, minus the square of the vector."""

    order_N: Indices
    """Index of the vector at each position."""
    vector_ND: Vectors
    own_N: NDArray[np.float32]
    """Score of each vector for the center of its own cell."""
    center_KD: Vectors
    start_K: Indices
    count_K: Indices
    limit_KK: NDArray[np.float32]
    """Largest excess of the score for the first cell over its own at which a vector of the second cell is compared."""

    @classmethod
    def of(cls, vector_ND: Vectors, min_cosine: float, progress: Progress) -> "_Cells | None":
        """The cells; None if too many pairs would remain."""
        center_KD = _centers(vector_ND)
        cell_N, own_N, excess_KK = _nearest(vector_ND, center_KD, progress)
        used, cell_N = np.unique(cell_N, return_inverse=True)
        center_KD, excess_KK = center_KD[used], excess_KK[np.ix_(used, used)]
        square_K = np.einsum("kd,kd->k", center_KD, center_KD)
        gap_KK = np.sqrt(np.maximum(square_K[:, None] + square_K - 2 * center_KD @ center_KD.T, 0) + _ROUNDING)
        distance = np.sqrt(2 - 2 * min_cosine + 4 * _ROUNDING)
        limit_KK = 2 * distance * gap_KK + 4 * _ROUNDING - excess_KK
        # Each pair of cells comes once.
        limit_KK[np.tril_indices(len(used), -1)] = -np.inf
        count_K = np.bincount(cell_N)
        order_N = np.argsort(cell_N, kind="stable")
        cells = cls(
            order_N,
            vector_ND[order_N],
            own_N[order_N],
            center_KD,
            np.cumsum(count_K) - count_K,
            count_K,
            limit_KK.astype(np.float32),
        )
        return cells if cells.fraction() < _TOO_MANY else None

    def fraction(self) -> float:
        """Fraction of all pairs that `blocks` compares, estimated on a sample."""
        sample_S = np.linspace(0, len(self.order_N) - 1, _SAMPLE).astype(np.int64)
        cell_S = np.searchsorted(self.start_K, sample_S, side="right") - 1
        excess_KS = _scores(self.center_KD, self.vector_ND[sample_S]) - self.own_N[sample_S]
        return float(2 * (self.count_K @ (excess_KS <= self.limit_KK[:, cell_S])).mean() / len(self.order_N))

    def blocks(self) -> Iterator[Block]:
        """Yields each cell with the vectors, of it and later cells, that may be close to one of its vectors."""
        for first in range(0, len(self.start_K), _CELLS_AT_ONCE):
            some = slice(first, first + _CELLS_AT_ONCE)
            score_AN = _scores(self.center_KD[some], self.vector_ND[self.start_K[first] :])
            for cell, score_N in enumerate(score_AN, first):
                begin, end = int(self.start_K[cell]), int(self.start_K[cell] + self.count_K[cell])
                most_N = np.repeat(self.limit_KK[cell, cell:], self.count_K[cell:]) + self.own_N[begin:]
                columns = begin + np.flatnonzero(score_N[begin - self.start_K[first] :] <= most_N)
                for top in range(begin, end, _BLOCK):
                    for left in range(0, len(columns), _BLOCK):
                        yield slice(top, min(end, top + _BLOCK)), columns[left : left + _BLOCK]


def _scores(center_KD: Vectors, vector_ND: Vectors) -> Vectors:
    """Scores of all vectors for all centers, shape [K, N]."""
    score_KN: Vectors = np.einsum("kd,kd->k", center_KD, center_KD)[:, None] - (2 * center_KD) @ vector_ND.T
    return score_KN


def _centers(vector_ND: Vectors) -> Vectors:
    """Means of the cells of a sample: one step of k-means (Lloyd 1982); more steps gain nothing."""
    num_cells = min(int(_CELLS * len(vector_ND) ** 0.5), _MOST_CELLS)
    sample_SD = _evenly(vector_ND, _VECTORS_PER_CELL * num_cells)
    cell_S = _nearest(sample_SD, _evenly(vector_ND, num_cells))[0]
    order_S = np.argsort(cell_S, kind="stable")
    start_K = np.flatnonzero(np.diff(cell_S[order_S], prepend=-1))
    count_K = np.diff(start_K, append=len(order_S)).astype(np.float32)
    return (np.add.reduceat(sample_SD[order_S], start_K) / count_K[:, None]).astype(np.float32)


def _evenly(vector_ND: Vectors, num: int) -> Vectors:
    return vector_ND[np.linspace(0, len(vector_ND) - 1, min(num, len(vector_ND))).astype(np.int64)]


def _nearest(
    vector_ND: Vectors, center_KD: Vectors, progress: Progress = silent
) -> tuple[Indices, NDArray[np.float32], Vectors]:
    """Cell and score of each vector; and, shape [K, K], the least excess of the scores for every other cell."""
    num, num_cells = len(vector_ND), len(center_KD)
    cell_N, own_N = np.empty(num, np.int64), np.empty(num, np.float32)
    least_KK = np.full((num_cells, num_cells), np.inf, np.float32)
    step = max(1, _BLOCK**2 // num_cells)
    for start in range(0, num, step):
        progress("group embeddings", start, num)
        chunk = slice(start, start + step)
        score_BK = _scores(center_KD, vector_ND[chunk]).T
        cell_B = score_BK.argmin(axis=1)
        own_B = score_BK[np.arange(len(cell_B)), cell_B]
        cell_N[chunk], own_N[chunk] = cell_B, own_B
        order_B = np.argsort(cell_B, kind="stable")
        first_B = np.flatnonzero(np.diff(cell_B[order_B], prepend=-1))
        least = np.minimum.reduceat((score_BK - own_B[:, None])[order_B], first_B)
        present = cell_B[order_B[first_B]]
        least_KK[present] = np.minimum(least_KK[present], least)
    progress("group embeddings", num, num)
    return cell_N, own_N, least_KK
