"""Graphs as edge lists: normalisation, pruning, propagation, and how item-item and user-user graphs are built.

A :class:`Graph` is a plain object that a model keeps as an attribute (never a buffer: it is derived from the corpus, so
it is neither saved nor broadcast) and passes to :func:`propagate`. Rows receive, columns send.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqmm.names import Normalisation

BLOCK_ELEMENTS = 1 << 24
"""Entries of a similarity or product block: 64 MB in fp32."""

EDGE_ELEMENTS = 1 << 19
"""Entries of the rows gathered for a block of edges: they stay in cache, which takes a fraction of the time."""


class Graph:
    """A sparse matrix ``[rows, columns]``; propagation prepares what it needs on x's device, once.

    Args:
        edge_index: ``[2, E]`` int64 (row, column) pairs, on the CPU but for a :meth:`subgraph` drawn on another device.
        edge_weight: ``[E]`` float, on any device; None = ones. If it needs a gradient, :func:`propagate` gives it one.
        shape: (rows, columns).
        undirected: each listed pair stands for both directions, so the matrix is symmetric; a pair (i, i) counts once.

    Raises:
        ValueError: if an index is outside ``shape``, or the lengths differ.
    """

    def __init__(
        self, edge_index: Tensor, edge_weight: Tensor | None, shape: tuple[int, int], *, undirected: bool = False
    ):
        if edge_weight is None:
            edge_weight = torch.ones(edge_index.shape[1])
        _check_lengths(edge_index, edge_weight)
        if edge_index.numel() and (edge_index.min() < 0 or (edge_index.amax(1) >= torch.tensor(shape)).any()):
            raise ValueError(f"edge_index holds nodes up to {edge_index.amax(1).tolist()} for a graph of shape {shape}")
        if undirected and shape[0] != shape[1]:
            raise ValueError(f"an undirected graph must be square, not {shape}")
        self.edge_index, self.edge_weight = edge_index, edge_weight
        self.shape, self.undirected = shape, undirected
        self._edges: dict[torch.device, Tensor] = {}
        self._patterns: dict[torch.device, _Pattern] = {}
        self._weights: dict[torch.device, Tensor] = {}
        self._operators: dict[tuple[torch.device, torch.dtype], _Operator] = {}

    @classmethod
    def bipartite(cls, user: np.ndarray | Tensor, item: np.ndarray | Tensor, num_users: int, num_items: int) -> Graph:
        """The user-item graph: nodes are users ``0..U-1``, then items ``U..U+I-1``; a repeated pair counts once.

        Edges are listed from user to item, sorted by (user, item).
        """
        key = torch.unique(torch.as_tensor(user).long() * num_items + torch.as_tensor(item).long())
        edges = torch.stack([key // num_items, key % num_items + num_users])
        return cls(edges, None, (num_users + num_items, num_users + num_items), undirected=True)

    @classmethod
    def block(cls, user: np.ndarray | Tensor, item: np.ndarray | Tensor, num_users: int, num_items: int) -> Graph:
        """The user x item matrix ``[U, I]`` on its own: users receive from items, :meth:`transposed` the other way."""
        key = torch.unique(torch.as_tensor(user).long() * num_items + torch.as_tensor(item).long())
        return cls(torch.stack([key // num_items, key % num_items]), None, (num_users, num_items))

    @property
    def num_edges(self) -> int:
        """Listed pairs: an undirected pair counts once."""
        return self.edge_index.shape[1]

    def degrees(self) -> tuple[Tensor, Tensor]:
        """Weight sums of the matrix's rows ``[rows]`` and of its columns ``[columns]``; float64 (float32 on MPS)."""
        weight = self.edge_weight.to(_widest(self.edge_weight.device))
        row, column = self.edges_on(weight.device)
        out = weight.new_zeros(self.shape[0]).index_add(0, row, weight)
        into = weight.new_zeros(self.shape[1]).index_add(0, column, weight)
        if self.undirected:
            out = into = (out + into).index_add(0, row, -weight * (row == column))
        return out, into

    def normalised(self, kind: Normalisation = "sym") -> Graph:
        """The same edges with normalised weights; D holds this graph's row sums. Differentiable in the weights.

        - ``sym``: D^-1/2 A D^-1/2. A directed square graph has D on both sides, as papers do with kNN graphs; a
          rectangular one has its column sums on the right, so it is a block of the normalised bipartite graph.
        - ``rw``: D^-1 A, the mean over neighbours.
        - ``rw_sqrt``: D^-1/2 A, the sum over neighbours by the root of their number (MMSSL).
        - ``sym_self``, ``rw_self``: the same of A + I.

        A row without edges (or whose weights do not sum to more than 0) stays zero.
        """
        if kind in ("sym_self", "rw_self"):
            return self._with_loops().normalised("sym" if kind == "sym_self" else "rw")
        graph = self if kind == "sym" else self.directed()
        out, into = graph.degrees()
        row, column = graph.edges_on(out.device)
        if kind in ("rw", "rw_sqrt"):
            factor = _inverse(out)[row] if kind == "rw" else _inverse(out)[row].sqrt()
        else:
            right = out if self.shape[0] == self.shape[1] else into
            factor = _inverse(out)[row].sqrt() * _inverse(right)[column].sqrt()
        return graph.reweighted((graph.edge_weight * factor).to(graph.edge_weight.dtype))

    def reweighted(self, edge_weight: Tensor) -> Graph:
        """The same edges with other weights ``[E]``, in the order of ``edge_index``; the prepared pattern is shared."""
        _check_lengths(self.edge_index, edge_weight)
        graph = copy(self)  # the edges were checked when they were new: this runs several times a step
        graph.edge_weight, graph._weights, graph._operators = edge_weight, {}, {}
        return graph

    def edges_on(self, device: torch.device) -> Tensor:
        """``edge_index`` on a device, copied once; graphs of :meth:`reweighted` share it."""
        if device not in self._edges:
            self._edges[device] = self.edge_index.to(device)
        return self._edges[device]

    def weights_on(self, device: torch.device) -> Tensor:
        """``edge_weight`` on a device, copied once unless it needs a gradient."""
        if self.edge_weight.device == device or self.edge_weight.requires_grad:
            return self.edge_weight.to(device)
        if device not in self._weights:
            self._weights[device] = self.edge_weight.to(device)
        return self._weights[device]

    def subgraph(self, edges: Tensor) -> Graph:
        """Only the edges at the positions ``[n]`` of ``edge_index``, with their weights; on the positions' device."""
        graph = copy(self)  # some of what was checked
        graph.edge_index = self.edges_on(edges.device)[:, edges]
        graph.edge_weight = self.weights_on(edges.device)[edges]
        graph._edges, graph._patterns, graph._weights, graph._operators = {}, {}, {}, {}
        return graph

    def sample_edges(
        self, keep: float | int, generator: torch.Generator, how: Literal["degree", "uniform", "weight"] = "degree"
    ) -> Tensor:
        """Draws distinct edges: ascending positions ``[n]`` in ``edge_index``, a function of the generator's state.

        Args:
            keep: a share (float: ``n = int(E * keep)``) or a count (int).
            generator: on the device that draws, and where the positions come; another one draws other edges.
            how: "degree": with probability proportional to ``(d_row d_column) ** -0.5``, so that edges between popular
                nodes go first (FREEDOM, MM 2023, section 3.2); "uniform": all alike; "weight": proportional to
                the weight (>= 0, on any device).

        Raises:
            ValueError: unless at least one edge, and at most all, would be kept.
        """
        count = int(self.num_edges * keep) if isinstance(keep, float) else keep
        if not 0 < count <= self.num_edges:
            raise ValueError(
                f"keep={keep} would keep {count} of {self.num_edges} edges; keep at least 1 and at most all"
            )
        # The n smallest of Exp(1) / weight are a weighted draw without replacement (Efraimidis and Spirakis 2006, the
        # same as Gumbel-top-n). torch.multinomial does this too, but for at most 2^24 edges and in fp32.
        device = generator.device
        race = torch.empty(self.num_edges, dtype=_widest(device), device=device).exponential_(generator=generator)
        if how == "degree":
            row, column = self.edges_on(device)
            out, into = (degree.to(race) for degree in self.degrees())
            race *= (out[row] * into[column]).sqrt()
        elif how == "weight":
            race /= self.weights_on(device).detach().to(race)
        return race.topk(count, largest=False, sorted=False).indices.sort().values

    def pruned(
        self, keep: float | int, generator: torch.Generator, how: Literal["degree", "uniform"] = "degree"
    ) -> Graph:
        """The graph of :meth:`sample_edges`. Prune first, then normalise: the kept graph has its own degrees."""
        return self.subgraph(self.sample_edges(keep, generator, how))

    def sample_nodes(self, drop: float, num_users: int, generator: torch.Generator) -> Tensor:
        """Drops ``int(drop * U)`` users and ``int(drop * I)`` items of a bipartite graph with all their edges (SGL-ND).

        Returns:
            ``[n]`` ascending positions in ``edge_index`` of the edges whose two ends stay.
        """
        stays = torch.ones(self.shape[0], dtype=torch.bool)
        for start, count in ((0, num_users), (num_users, self.shape[0] - num_users)):
            order = torch.randperm(count, generator=generator)
            stays[start + order[: int(drop * count)]] = False
        return torch.nonzero(stays[self.edge_index[0]] & stays[self.edge_index[1]]).flatten()

    def with_dropped_values(self, keep: float, generator: torch.Generator) -> Graph:
        """Inverted dropout on the weights: each stays with probability ``keep``, divided by it; nothing renormalised.

        An undirected graph loses both directions of a pair at once; :meth:`directed` first drops them independently.

        Args:
            keep: in (0, 1].
            generator: on the device the weights are wanted on.
        """
        uniform = torch.rand(self.num_edges, generator=generator, device=generator.device)
        return self.reweighted(self.weights_on(generator.device) * (uniform < keep) / keep)

    def transposed(self) -> Graph:
        """Rows and columns swapped."""
        return Graph(self.edge_index.flip(0), self.edge_weight, self.shape[::-1], undirected=self.undirected)

    def dense(self) -> Tensor:
        """``[rows, columns]``; for small graphs."""
        graph = self.directed()
        row, column = graph.edge_index.to(graph.edge_weight.device)
        return graph.edge_weight.new_zeros(self.shape).index_put((row, column), graph.edge_weight, accumulate=True)

    def directed(self) -> Graph:
        """The same matrix with every entry listed: the pairs as they are, then the other direction of each."""
        if not self.undirected:
            return self
        other = _not_loops(self.edge_index)
        edges = torch.cat([self.edge_index, self.edge_index[:, other].flip(0)], 1)
        return Graph(edges, torch.cat([self.edge_weight, self.edge_weight[other]]), self.shape)

    def _with_loops(self) -> Graph:
        if self.shape[0] != self.shape[1]:
            raise ValueError(f"self loops need a square graph, not {self.shape}")
        node = torch.arange(self.shape[0], device=self.edge_index.device)
        weight = torch.cat([self.edge_weight, self.edge_weight.new_ones(len(node))])
        edges = torch.cat([self.edge_index, node.expand(2, -1)], 1)
        return Graph(edges, weight, self.shape, undirected=self.undirected)

    def _operator(self, x: Tensor) -> _Operator:
        """What propagation needs on x's device, prepared once."""
        if x.device not in self._patterns:
            self._patterns[x.device] = _pattern(self, x.device)
        key = (x.device, x.dtype)
        if key not in self._operators:
            pattern, weight = self._patterns[x.device], self.edge_weight.detach().to(x.device, x.dtype)
            forward = _Rows(pattern.offsets, pattern.columns, weight[pattern.edges])
            if self.undirected:
                self._operators[key] = _Operator(forward, forward)
            else:
                backward = _Rows(pattern.t_offsets, pattern.t_columns, weight[pattern.t_edges])
                self._operators[key] = _Operator(forward, backward)
        return self._operators[key]


class _Pattern(NamedTuple):
    """CSR of the matrix and of its transpose (itself if undirected); ``edges`` maps entries to edge numbers."""

    offsets: Tensor  # [rows + 1]
    columns: Tensor  # [entries]
    edges: Tensor  # [entries]
    t_offsets: Tensor
    t_columns: Tensor
    t_edges: Tensor


class _Rows(NamedTuple):
    """CSR with values, as embedding_bag takes it."""

    offsets: Tensor
    columns: Tensor
    values: Tensor


class _Operator(NamedTuple):
    forward: _Rows
    backward: _Rows


def _check_lengths(edge_index: Tensor, edge_weight: Tensor) -> None:
    if edge_index.ndim != 2 or len(edge_index) != 2 or edge_weight.shape != edge_index.shape[1:]:
        got = f"{list(edge_index.shape)} and {list(edge_weight.shape)}"
        raise ValueError(f"edge_index must be [2, E] and edge_weight [E], they are {got}")


def _widest(device: torch.device) -> torch.dtype:
    """For sums over many edges and for draws: MPS has no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def _pattern(graph: Graph, device: torch.device) -> _Pattern:
    (row, column), edge = graph.edge_index, torch.arange(graph.num_edges, device=graph.edge_index.device)
    if graph.undirected:
        other = _not_loops(graph.edge_index)
        row, column = torch.cat([row, column[other]]), torch.cat([column, row[other]])
        edge = torch.cat([edge, other])
    forward = _sorted_rows(row, column, edge, graph.shape)
    backward = forward if graph.undirected else _sorted_rows(column, row, edge, (graph.shape[1], graph.shape[0]))
    return _Pattern(*(part.to(device) for part in (*forward, *backward)))


def _sorted_rows(row: Tensor, column: Tensor, edge: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    order = torch.argsort(row * shape[1] + column, stable=True)
    offsets = torch.searchsorted(row[order], torch.arange(shape[0] + 1, device=row.device))  # bincount waits for a GPU
    return offsets, column[order], edge[order]


def _not_loops(edge_index: Tensor) -> Tensor:
    return torch.nonzero(edge_index[0] != edge_index[1]).flatten()


def _inverse(degree: Tensor) -> Tensor:
    positive = degree > 0
    return torch.where(positive, 1 / torch.where(positive, degree, 1.0), 0.0)  # the inner where keeps gradients finite


def _product(rows: _Rows, x: Tensor) -> Tensor:
    """``A @ x`` as a weighted sum of gathered rows.

    On the real Baby graph (237,102 entries, d = 64, one thread) this kernel takes 2.1 ms where CSR takes 5.0 and COO
    12.5; and it exists on every device and platform, which CSR products do not.
    """
    return F.embedding_bag(
        rows.columns, x, rows.offsets, mode="sum", per_sample_weights=rows.values, include_last_offset=True
    )


def propagate(graph: Graph, x: Tensor) -> Tensor:
    """One step of message passing, ``graph @ x``: ``[columns, d] -> [rows, d]``.

    In fp32 (or fp64) whatever autocast says. The gradient is the product with the transpose, prepared once (an
    undirected graph is its own); weights that need a gradient get it from a sampled dense-dense product.

    Raises:
        ValueError: if x has other rows than the graph has columns.
    """
    if x.ndim != 2 or x.shape[0] != graph.shape[1]:
        raise ValueError(f"a graph of shape {graph.shape} propagates [{graph.shape[1]}, d], not {list(x.shape)}")
    with torch.autocast(x.device.type, enabled=False):
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        return _Propagate.apply(x, graph.edge_weight, graph)


class _Propagate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, edge_weight: Tensor, graph: Graph) -> Tensor:
        ctx.graph, ctx.operator = graph, graph._operator(x)
        if edge_weight.requires_grad:
            ctx.save_for_backward(x)
        return _product(ctx.operator.forward, x)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        gradient = gradient.contiguous()
        d_x = _product(ctx.operator.backward, gradient) if ctx.needs_input_grad[0] else None
        d_weight = _weight_gradient(ctx.graph, gradient, *ctx.saved_tensors) if ctx.needs_input_grad[1] else None
        return d_x, d_weight, None


def _weight_gradient(graph: Graph, gradient: Tensor, x: Tensor) -> Tensor:
    """``d_e = gradient[row_e] . x[column_e]`` (plus the other direction)."""
    edges = graph.edges_on(x.device)
    result = _dots(edges, gradient, x)
    if graph.undirected:
        row, column = edges
        result += _dots(edges.flip(0), gradient, x) * (row != column)
    return result.to(graph.edge_weight)


def _dots(edge_index: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """``x[row_e] . y[column_e]``, in blocks of edges."""
    parts = edge_index.split(max(1, EDGE_ELEMENTS // x.shape[1]), 1)
    return torch.cat([(x.index_select(0, row) * y.index_select(0, column)).sum(1) for row, column in parts])


def edge_products(graph: Graph, x: Tensor, y: Tensor) -> Tensor:
    """``x[row] . y[column]`` of every edge, ``[E]``: a sampled dense-dense product, such as the logits of an attention.

    The gathered rows exist in blocks of edges only; the gradient is two propagations.

    Args:
        graph: directed; its weights are not read.
        x: ``[rows, d]``.
        y: ``[columns, d]``.

    Raises:
        ValueError: for an undirected graph, whose listed pairs stand for two products each.
    """
    if graph.undirected:
        raise ValueError("edge_products needs a directed graph: use graph.directed()")
    with torch.autocast(x.device.type, enabled=False):
        dtype = torch.promote_types(x.dtype, torch.float32)
        return _EdgeProducts.apply(x.to(dtype), y.to(dtype), graph)


class _EdgeProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, graph: Graph) -> Tensor:
        ctx.graph = graph
        ctx.save_for_backward(x, y)
        return _dots(graph.edges_on(x.device), x, y)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        x, y = ctx.saved_tensors
        operator = ctx.graph.reweighted(gradient)._operator(x)
        return _product(operator.forward, y), _product(operator.backward, x), None


def hops(graph: Graph, x: Tensor, count: int) -> list[Tensor]:
    """``x, A x, …, A^count x``, ``[N, d]`` each."""
    layers = [x]
    for _ in range(count):
        layers.append(propagate(graph, layers[-1]))
    return layers


def propagate_layers(
    graph: Graph,
    x: Tensor,
    num_layers: int,
    combine: Literal["mean", "sum", "last"] = "mean",
    after: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """LightGCN's propagation: the mean (or sum, or last) of ``x, A x, …, A^num_layers x``; ``[N, d] -> [N, d]``.

    ``after`` changes each propagated layer before it is kept and sent on (noise, refinement).
    """
    total = layer = x
    for _ in range(num_layers):
        layer = propagate(graph, layer)
        layer = layer if after is None else after(layer)
        total = total + layer if combine != "last" else layer
    return total / (num_layers + 1) if combine == "mean" else total
