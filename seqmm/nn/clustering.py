"""k-means in torch: Lloyd's iterations in blocks of rows, repeatable from a generator's state."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK_ELEMENTS = 1 << 22
"""Distances per block: 16 MB in fp32."""


@torch.no_grad()
def kmeans(x: Tensor, k: int, generator: torch.Generator, iterations: int = 25) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm from k random rows; an empty cluster starts anew at the row farthest from its own centroid.

    Args:
        x: ``[n, d]``.
        k: clusters, 1 to n.
        generator: on the CPU.
        iterations: of assignment and mean; stops earlier when no row changes its cluster.

    Returns:
        Centroids ``[k, d]`` and each row's nearest one ``[n]`` int64.

    Raises:
        ValueError: if k is not within 1 and n.
    """
    if not 1 <= k <= len(x):
        raise ValueError(f"{k} clusters of {len(x)} rows; choose 1 to {len(x)}")
    with torch.autocast(x.device.type, enabled=False):
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        centroids = x[torch.randperm(len(x), generator=generator)[:k].to(x.device)]
        nearest, distance = _nearest(x, centroids)
        for _ in range(iterations):
            size = torch.bincount(nearest, minlength=k)
            centroids = torch.zeros_like(centroids).index_add_(0, nearest, x) / size.clamp_min(1)[:, None]
            empty = torch.nonzero(size == 0).flatten()
            centroids[empty] = x[distance.topk(len(empty)).indices]
            before = nearest
            nearest, distance = _nearest(x, centroids)
            if torch.equal(nearest, before):
                break
    return centroids, nearest


def _nearest(x: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest centroid of each row ``[n]``, and the squared distance to it ``[n]``."""
    half_square = centroids.square().sum(1) / 2
    nearest, distance = [], []
    for block in x.split(max(1, BLOCK_ELEMENTS // len(centroids))):
        least = (half_square - block @ centroids.T).min(1)  # half the squared distance, less half the row's square
        nearest.append(least.indices)
        distance.append(2 * least.values + block.square().sum(1))
    return torch.cat(nearest), torch.cat(distance)
