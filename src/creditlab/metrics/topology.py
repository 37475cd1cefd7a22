"""How weights and units hang together: connected components (H₀) along a filtration, against a shuffled null.

The components of a weighted graph, as edges come in from the strongest on, merge at the edges of its maximum spanning
tree: these edges are the whole H₀ persistence diagram. The component that never merges is left out.

What is not defined, or asked of an entry that is not finite, is NaN. Computed in float64, on the CPU.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Generator, Tensor

from creditlab.keys import Positive, PositiveInt


def neural_persistence(weight: Tensor, generator: Generator, *, p: Positive, shuffles: PositiveInt) -> dict[str, float]:
    """How late a layer's units are joined as its weights come in from the largest on: 0 if all that is needed to join
    them is as large as the largest, near 1 if most are joined by weights near zero only. The null has the same weights
    in other places, so that the ratio describes only their arrangement; a random arrangement gives 1.
    Inputs and units are the vertices. Sizes are relative to the layer's own largest (the paper: to the network's). NaN
    for a zero matrix.

        (Σ (1 − wₑ)^p / (out + rest − 1))^(1/p),   wₑ the edges of the maximum spanning tree of |W|/max|W|

    Range: value and null 0 to 1; ratio 0 or more.
    Unit: none.
    Cost: spanning trees of out · rest edges, one, and one per shuffle.
    Source: Rieck et al., "Neural persistence", ICLR 2019 (arXiv 1812.09764).
    Parts: value; null, its mean over `shuffles` permutations of the weights; ratio, value/null.
    """
    size = weight.detach().cpu().double().abs()
    size = size / size.max()

    def persistence(size: Tensor) -> float:
        edges = _spanning_tree((1 - size).numpy())
        return float(np.mean(edges**p) ** (1 / p))

    if not size.isfinite().all():
        return _against(math.nan, [math.nan])
    shuffled = (size.flatten()[torch.randperm(size.numel(), generator=generator)] for _ in range(shuffles))
    return _against(persistence(size), [persistence(s.reshape(size.shape)) for s in shuffled])


def correlation_persistence(activation: Tensor, generator: Generator, *, shuffles: PositiveInt) -> dict[str, float]:
    """How far the units of a block are from joining into one correlated cluster: the mean lifetime of the components of
    the graph of units at distance 1 − |correlation| over samples; the total persistence is (units − 1) times that. The
    null permutes the samples of each unit by itself, which leaves what chance gives with n samples. Units that
    are constant over samples, dead ones above all, are left out; NaN where fewer than two are left.

        mean over the edges of the minimum spanning tree of 1 − |corr(hᵢ, hⱼ)|

    Range: value and null 0 (all correlated) to 1 (none); ratio 0 or more.
    Unit: none; units a count.
    Cost: correlations and a spanning tree of units² edges, one, and one per shuffle.
    Source: H₀ of the correlation graph as in Corneanu et al., CVPR 2020 (arXiv 2005.00450); null and form by creditlab.
    Parts: value; null, its mean over `shuffles` permutations; ratio, value/null; units, how many entered.
    """
    h = activation.detach().cpu().double()
    finite = bool(h.isfinite().all())
    h = h[:, h.amax(0) != h.amin(0)]
    units = h.shape[1]
    if not finite or units < 2:
        return _against(math.nan, [math.nan]) | {"units": units if finite else math.nan}
    z = h - h.mean(0)
    z = z / z.norm(dim=0)  # (samples, units): z'z is the correlation

    def persistence(z: Tensor) -> float:
        distance = 1 - (z.T @ z).abs().clamp_max(1)
        distance.fill_diagonal_(0)
        return float(_spanning_tree(distance.numpy()).sum() / (units - 1))

    def shuffled() -> Tensor:
        return z.gather(0, torch.stack([torch.randperm(len(z), generator=generator) for _ in range(units)], 1))

    return _against(persistence(z), [persistence(shuffled()) for _ in range(shuffles)]) | {"units": units}


def _against(value: float, nulls: list[float]) -> dict[str, float]:
    null = sum(nulls) / len(nulls)
    return {"value": value, "null": null, "ratio": value / null if null else math.nan}


def _spanning_tree(distance: np.ndarray) -> np.ndarray:
    """The m + n − 1 edges of the minimum spanning tree of the complete bipartite graph of two sides at `distance`
    (m, n), by Prim's algorithm: a row or a column at a time, ten times as fast here as sorting all edges.

    Of a symmetric matrix they are the n zeros of its diagonal, which join the copies of a vertex on both sides, and the
    n − 1 edges of the minimum spanning tree of the complete graph.
    """
    m, n = distance.shape
    columns = np.ascontiguousarray(distance.T)
    nearest, taken = np.full(m + n, np.inf), np.zeros(m + n)  # distance to the tree; infinite for what is in it
    edges = np.empty(m + n - 1)
    vertex = 0
    for k in range(m + n - 1):
        nearest[vertex] = taken[vertex] = np.inf
        side, row = (slice(m, None), distance[vertex]) if vertex < m else (slice(m), columns[vertex - m])
        np.minimum(nearest[side], row + taken[side], out=nearest[side])
        vertex = int(nearest.argmin())
        edges[k] = nearest[vertex]
    return edges
