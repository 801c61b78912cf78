"""A map of the images on which those that the model finds alike lie side by side.

Letters: N images, F features.
"""

import numpy as np
from numpy.typing import NDArray

_COMPONENTS = 50
_STEPS = 500
_PERPLEXITY = 30.0
_LEAST = 8
"""Fewer images make no neighbourhoods."""


def embedding_map(features_NF: NDArray[np.float32], *, seed: int) -> NDArray[np.float64]:
    """Places [N, 2] in [0, 1]: t-SNE (van der Maaten and Hinton 2008) of the 50 main components; the same each time.

    Distances between far groups mean little, neighbours mean much.
    """
    if len(features_NF) < 2 or not np.ptp(features_NF, axis=0).any():
        return np.full((len(features_NF), 2), 0.5)
    from threadpoolctl import threadpool_limits

    components = min(_COMPONENTS, *features_NF.shape)
    # On one core, for sums of several differ in the last bits, and threads of so small a task wait for each other.
    with threadpool_limits(1):
        main_NF = _reduced(features_NF, components, seed)
    flat_N2: NDArray[np.float64] = np.zeros((len(features_NF), 2))
    flat_N2[:, : min(2, main_NF.shape[1])] = main_NF[:, :2]
    low_2, span_2 = flat_N2.min(axis=0), np.ptp(flat_N2, axis=0)
    placed_N2: NDArray[np.float64] = np.round((flat_N2 - low_2) / np.where(span_2 > 0, span_2, 1), 4)
    return placed_N2


def _reduced(features_NF: NDArray[np.float32], components: int, seed: int) -> NDArray[np.float64]:
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    main_NF: NDArray[np.float64] = PCA(components, svd_solver="full").fit_transform(features_NF.astype(np.float64))
    if len(features_NF) < _LEAST or components < 2:
        return main_NF
    perplexity = min(_PERPLEXITY, (len(features_NF) - 1) / 3)
    flat_N2: NDArray[np.float64] = TSNE(
        init="pca", perplexity=perplexity, max_iter=_STEPS, random_state=seed, n_jobs=1
    ).fit_transform(main_NF)
    return flat_N2
