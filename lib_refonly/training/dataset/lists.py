"""Inverted lists (IVF): pictures by the nearest of some thousand centres, so that a picture is compared with a few lists instead of with all.

FAISS finds the centres and who is nearest to which (Johnson, Douze, Jégou, arXiv 1702.08734). The lists themselves are compared by matrix products, list
by list: all pictures are searched for at once here, and a top-K search would fill its K with the near-identical, which are not wanted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lib_refonly.training.dataset.optional import needed
from lib_refonly.training.dataset.vectors import Embeddings, Floats, Rows, Tell
from lib_refonly.training.dataset.window import Best, Pairs, Window

_LEARNT_FROM = 64
"""Vectors for each centre that the centres are learnt from."""
_ROUNDS = 6
_BASES = 8192
"""Possible partners in memory at a time."""
_BLOCK_VALUES, _BLOCK_ROWS = 2**26, 2**16
"""A block of pictures has at most this many values (256 MB), and this many rows."""

Lists = NDArray[np.int32]


def block_rows(width: int) -> int:
    """How many pictures are searched for together."""
    return max(256, min(_BLOCK_ROWS, _BLOCK_VALUES // width))


def default_lists(count: int) -> int:
    """Finding the lists of a picture then costs about as much as comparing it with them."""
    return max(1, min(round(2 * math.sqrt(count)), count // 8))


@dataclass(frozen=True)
class Centres:
    """Where the lists are: `directions`, float32 [L, D], unit length, as seen from the embeddings' `mean`, float32 [D].

    Seen from the origin, embeddings lie in a narrow cone, and the centres in its middle gather far too many of them.
    """

    mean: Floats
    directions: Floats

    @classmethod
    def learnt(cls, embeddings: Embeddings, count: int, seed: int) -> Centres:
        """`count` of them, by spherical k-means on a sample."""
        chosen = np.random.default_rng(seed).choice(embeddings.count, min(embeddings.count, count * _LEARNT_FROM), replace=False)
        vectors = embeddings.unit(np.sort(chosen))
        mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
        means = needed("faiss").Kmeans(
            embeddings.width, count, niter=_ROUNDS, spherical=True, seed=seed + 1, min_points_per_centroid=1, max_points_per_centroid=_LEARNT_FROM
        )
        means.train(_seen_from(mean, vectors))
        return cls(mean, np.asarray(means.centroids, np.float32))

    def nearest(self, vectors: Floats, count: int) -> Lists:
        """The `count` nearest centres of each unit vector, nearest first: int32 [len(vectors), count]. `vectors` is overwritten."""
        index = needed("faiss").IndexFlatIP(self.directions.shape[1])
        index.add(self.directions)
        return index.search(_seen_from(self.mean, vectors), count)[1].astype(np.int32)


def _seen_from(mean: Floats, vectors: Floats) -> Floats:
    """In place: that much less memory."""
    vectors -= mean
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return vectors


def probes(embeddings: Embeddings, centres: Centres, count: int, tell: Tell) -> Lists:
    """Every picture's `count` nearest lists, int32 [N, count]. The first is the list that it is in."""
    out, step = np.empty((embeddings.count, count), np.int32), block_rows(embeddings.width)
    for start in range(0, embeddings.count, step):
        out[start : start + step] = centres.nearest(embeddings.unit(slice(start, start + step)), count)
        tell(min(1.0, (start + step) / embeddings.count), "sorting into lists")
    return out


def needed_probes(embeddings: Embeddings, centres: Centres, truth: Pairs, recall: float) -> int:
    """In how many lists one has to look to find at least this share of the true pairs."""
    count = len(centres.directions)
    if not len(truth.a):
        return min(8, count)
    rows, place = np.unique(truth.a, return_inverse=True)
    ranked = centres.nearest(embeddings.unit(rows), count)
    home = centres.nearest(embeddings.unit(truth.b), 1)[:, 0]
    rank = np.sort((ranked[place] == home[:, None]).argmax(axis=1))
    return int(rank[math.ceil(recall * len(rank)) - 1]) + 1


class Sorted:
    """The pictures of each list."""

    def __init__(self, home: Lists, count: int) -> None:
        self._order = np.argsort(home, kind="stable").astype(np.int64)
        self._starts = np.searchsorted(home[self._order], np.arange(count + 1))

    def members(self, number: int) -> Iterator[Rows]:
        """Row numbers, in portions that fit in memory."""
        rows = self._order[self._starts[number] : self._starts[number + 1]]
        yield from (rows[start : start + _BASES] for start in range(0, len(rows), _BASES))


def pairs_by_lists(embeddings: Embeddings, rows: Rows, window: Window, members: Sorted, probed: Lists) -> Pairs:
    """The best partners of `rows` within their lists `probed`, int32 [len(rows), P]."""
    best, queries = Best(window), embeddings.unit(rows)
    of = np.repeat(np.arange(len(rows)), probed.shape[1])
    order = np.argsort(probed.ravel(), kind="stable")
    numbers, starts = np.unique(probed.ravel()[order], return_index=True)
    for number, places in zip(numbers, np.split(of[order], starts[1:]), strict=True):
        asking = queries[places]
        for b in members.members(int(number)):
            best.offer(rows[places], asking, b, embeddings.unit(b))
    return best.pairs()


def pairs_by_all(embeddings: Embeddings, rows: Rows, window: Window, tell: Tell | None = None) -> Pairs:
    """The best partners of `rows` among all pictures: exact."""
    best, queries = Best(window), embeddings.unit(rows)
    for start in range(0, embeddings.count, _BASES):
        b = np.arange(start, min(start + _BASES, embeddings.count))
        best.offer(rows, queries, b, embeddings.unit(slice(start, start + _BASES)))
        if tell:
            tell(min(1.0, (start + _BASES) / embeddings.count), "comparing a sample with everything")
    return best.pairs()
