"""How item-item and user-user graphs are built: neighbours by content, co-occurrence, behaviour, mixtures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seqmm.data.corpus import Corpus
from seqmm.graphs.matrix import BLOCK_ELEMENTS, Graph
from seqmm.names import EdgeWeight


def user_item_graph(corpus: Corpus) -> Graph:
    """The user-item graph of the TRAIN split: nodes are users ``0..U-1``, then items ``U..U+I-1``; unnormalised."""
    train = corpus.splits["train"]
    return Graph.bipartite(train.user, train.item, corpus.num_users, corpus.num_items)


def interaction_matrix(corpus: Corpus) -> Graph:
    """The user x item block ``[U, I]`` of :func:`user_item_graph`, as a graph of its own (unnormalised)."""
    train = corpus.splits["train"]
    return Graph.block(train.user, train.item, corpus.num_users, corpus.num_items)


def knn_graph(x: Tensor, k: int, weight: EdgeWeight = "binary") -> Graph:
    """Every row's k nearest rows by cosine, itself included: a directed graph (row to neighbour) of N * k edges.

    Not normalised: ``.normalised("sym")`` gives 1/k everywhere for "binary" (FREEDOM), D^-1/2 S D^-1/2 for "cosine"
    (LATTICE). Similarities exist in blocks only.

    Args:
        x: ``[N, d]`` raw features. A zero row has cosine 0 to all others.
        k: neighbours of a row, 1 to N. Ties are broken arbitrarily, but a row always has itself.
        weight: 1, or the cosine.

    Raises:
        ValueError: if k is not within 1 and N.
    """
    num = x.shape[0]
    _check_neighbours(k, num)
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        unit = F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=1)
        values, neighbours = [], []
        for start in range(0, num, step := max(1, BLOCK_ELEMENTS // num)):
            block = unit[start : start + step] @ unit.T  # [block, N]
            block.diagonal(start).fill_(2.0)  # itself first, even next to a duplicate
            top = block.topk(k, dim=1)
            values.append(top.values.clamp_max(1.0).cpu())
            neighbours.append(top.indices.cpu())
    edges = neighbour_edges(torch.cat(neighbours))
    return Graph(edges, torch.cat(values).flatten() if weight == "cosine" else None, (num, num))


def neighbour_edges(neighbours: Tensor) -> Tensor:
    """``[2, n k]`` edges from every row to its ``neighbours [n, k]``, row after row; on the CPU."""
    rows = torch.arange(len(neighbours)).repeat_interleave(neighbours.shape[1])
    return torch.stack([rows, neighbours.flatten().cpu()])


def denoised_knn_graphs(features: Sequence[Tensor], k: int) -> list[Graph]:
    """DA-MRS's kNN graphs: a pair counts only if in EVERY modality its cosine reaches the mean over all pairs.

    One binary directed graph for each modality: a row's k nearest among what is left, fewer if there are fewer; always
    itself. Not normalised. The mean over all pairs is the squared length of the mean unit row, so nothing is dense.

    Args:
        features: ``[N, d_m]`` raw features of each modality, on one device.
        k: neighbours of a row at most, 1 to N.

    Raises:
        ValueError: if k is not within 1 and N.
    """
    num = len(features[0])
    _check_neighbours(k, num)
    edges: list[list[Tensor]] = [[] for _ in features]
    with torch.no_grad(), torch.autocast(features[0].device.type, enabled=False):
        units = [F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=1) for x in features]
        means = [unit.mean(0).square().sum() for unit in units]
        for start in range(0, num, step := max(1, BLOCK_ELEMENTS // num)):
            blocks = [unit[start : start + step] @ unit.T for unit in units]  # [block, N]
            noise = torch.zeros_like(blocks[0], dtype=torch.bool)
            for mean, block in zip(means, blocks, strict=True):
                noise |= block < mean
            for found, block in zip(edges, blocks, strict=True):
                block.masked_fill_(noise, -torch.inf).diagonal(start).fill_(2.0)
                top = block.topk(k, dim=1)
                row, place = torch.nonzero(top.values.isfinite(), as_tuple=True)
                found.append(torch.stack([row + start, top.indices[row, place]]).cpu())
    return [Graph(torch.cat(found, 1), None, (num, num)) for found in edges]


def _check_neighbours(k: int, num: int) -> None:
    if not 1 <= k <= num:
        raise ValueError(f"k={k} nearest neighbours of {num} rows; choose 1 to {num}")


def mix_graphs(graphs: Sequence[Graph], weights: Sequence[float]) -> Graph:
    """``sum_m weights[m] * graphs[m]`` as one directed graph, sorted by (row, column); edges of several graphs add up.

    Not differentiable in the weights. The graphs must have one shape.
    """
    edges = torch.cat([graph.directed().edge_index for graph in graphs], 1)
    values = torch.cat(
        [graph.directed().edge_weight.detach() * weight for graph, weight in zip(graphs, weights, strict=True)]
    )
    shape = graphs[0].shape
    key, place = torch.unique(edges[0] * shape[1] + edges[1], return_inverse=True)
    summed = values.new_zeros(len(key)).index_add(0, place.to(values.device), values)
    return Graph(torch.stack([key // shape[1], key % shape[1]]), summed, shape)


def join_graphs(graphs: Sequence[Graph], weights: Sequence[Tensor | float]) -> Graph:
    """``sum_m weights[m] * graphs[m]`` with every graph's edges listed one after the other: a pair may repeat.

    Differentiable in the weights and in the graphs' own; dtype and device are the first graph's. The graphs must be
    directed and have one shape.
    """
    first = graphs[0].edge_weight
    values = [graph.edge_weight.to(first) * weight for graph, weight in zip(graphs, weights, strict=True)]
    return Graph(torch.cat([graph.edge_index for graph in graphs], 1), torch.cat(values), graphs[0].shape)


def sample_neighbours(graph: Graph, k: int, generator: torch.Generator) -> Tensor:
    """MMRec's neighbour lists of one length: a row's first k edges, random repeats of them where it has fewer.

    Args:
        graph: directed, edges sorted by row and falling weight, as :func:`cooccurrence` gives them.
        k: length.
        generator: on the CPU.

    Returns:
        ``[rows, k]`` positions in ``edge_index``; a row without an edge holds -1.
    """
    count = torch.bincount(graph.edge_index[0], minlength=graph.shape[0])
    start = count.cumsum(0) - count
    place = torch.arange(k).expand(graph.shape[0], k)
    drawn = (torch.rand(graph.shape[0], k, generator=generator) * count[:, None]).long()
    place = torch.where(place < count[:, None], place, drawn)
    return torch.where(count[:, None] > 0, start[:, None] + place, -1)


def neighbour_softmax(graph: Graph, positions: Tensor) -> Graph:
    """The graph of :func:`sample_neighbours`: a row's weights are the softmax of its edges' weights (repeats count)."""
    real = positions >= 0
    weight = graph.edge_weight[positions.clamp(min=0)].softmax(1)[real]  # a row is real as a whole or not at all
    row = torch.arange(graph.shape[0])[:, None].expand_as(positions)[real]
    return Graph(torch.stack([row, graph.edge_index[1][positions[real]]]), weight, graph.shape)


def softmax_rows(graph: Graph) -> Graph:
    """The same edges; a row's weights become their softmax. Differentiable in the weights."""
    row = graph.edges_on(graph.edge_weight.device)[0]
    peak = graph.edge_weight.new_zeros(graph.shape[0])
    peak = peak.scatter_reduce(0, row, graph.edge_weight.detach(), "amax", include_self=False)
    return graph.reweighted((graph.edge_weight - peak[row]).exp()).normalised("rw")


def cooccurrence(
    row: np.ndarray,
    column: np.ndarray,
    shape: tuple[int, int],
    k: int,
    *,
    weight: Literal["count", "cosine"] = "count",
    min_count: int = 1,
    shrink: float = 0.0,
) -> Graph:
    """Which rows share columns: for every row its k strongest others, as a directed graph (row to neighbour).

    ``(user, item)`` gives the user-user graph of DualGNN and DRAGON, ``(item, user)`` item co-occurrence. Edges are
    sorted by row, then by falling weight, then by neighbour. A sparse product in blocks of rows: nothing dense.

    Args:
        row, column: interactions, int64; a repeated pair counts once.
        shape: (rows, columns).
        k: neighbours kept of a row; a row has fewer if it shares columns with fewer.
        weight: "count": c = the number of shared columns; "cosine": c / (sqrt(n_row n_neighbour) + shrink).
        min_count: rows that share fewer columns are not neighbours.
        shrink: lowers cosines that rest on few columns.
    """
    import scipy.sparse

    pair = np.unique(np.asarray(row, dtype=np.int64) * shape[1] + column)
    row, column = pair // shape[1], pair % shape[1]
    matrix = scipy.sparse.csr_array((np.ones(len(pair), np.float32), (row, column)), shape=shape)
    transpose = matrix.T.tocsr()
    size = np.bincount(row, minlength=shape[0])
    work = np.bincount(row, weights=np.bincount(column, minlength=shape[1])[column], minlength=shape[0]).cumsum()
    rows, neighbours, weights = [], [], []
    for block in np.split(np.arange(shape[0]), np.flatnonzero(np.diff(work // BLOCK_ELEMENTS)) + 1):
        product = (matrix[block[0] : block[-1] + 1] @ transpose).tocsr()
        product.sort_indices()
        r = np.repeat(block, np.diff(product.indptr))
        keep = (r != product.indices) & (product.data >= min_count)
        r, c, w = r[keep], product.indices[keep].astype(np.int64), product.data[keep]
        if weight == "cosine":
            w = (w / (np.sqrt(size[r] * size[c]) + shrink)).astype(np.float32)
        # one stable sort by (row, -w): the bits of positive floats are ordered like the floats
        order = np.argsort(r << 32 | 0xFFFFFFFF - w.view(np.uint32).astype(np.int64), kind="stable")
        r, c, w = r[order], c[order], w[order]
        counts = np.bincount(r)
        top = np.arange(len(r)) - np.repeat(counts.cumsum() - counts, counts) < k  # rank within the row
        rows.append(r[top])
        neighbours.append(c[top])
        weights.append(w[top])
    edges = np.stack([np.concatenate(rows), np.concatenate(neighbours)])
    return Graph(torch.from_numpy(edges), torch.from_numpy(np.concatenate(weights)).float(), (shape[0], shape[0]))


def behaviour_graph(
    user: np.ndarray, item: np.ndarray, num_users: int, num_items: int, k: int = 2, min_count: int = 2
) -> Graph:
    """DA-MRS's item graph ``[I, I]``: an item, and the k others that share the most users with it (``min_count``
    or more); all weigh 1, then D^-1/2 A D^-1/2 by row sums. Ties go to the smaller index.
    """
    others = cooccurrence(item, user, (num_items, num_users), k, min_count=min_count)
    return Graph(others.edge_index, None, others.shape).normalised("sym_self")
