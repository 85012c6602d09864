"""Graphs against dense matrices."""

import numpy as np
import pytest
import torch

from seqmm.graphs import build as building
from seqmm.graphs import matrix as matrices
from seqmm.graphs.build import cooccurrence, knn_graph, neighbour_softmax, sample_neighbours, softmax_rows
from seqmm.graphs.matrix import Graph, propagate, propagate_layers

USERS, ITEMS = 7, 5
RNG = np.random.default_rng(0)
R = (RNG.random((USERS, ITEMS)) < 0.4).astype(np.float64)
R[3] = 0  # a user without interactions


def interactions():
    return [torch.from_numpy(index) for index in np.nonzero(R)]


def bipartite() -> Graph:
    user, item = interactions()
    return Graph.bipartite(user.flip(0), item.flip(0), USERS, ITEMS)


def adjacency() -> torch.Tensor:
    a = torch.zeros(USERS + ITEMS, USERS + ITEMS, dtype=torch.float64)
    a[:USERS, USERS:] = torch.from_numpy(R)
    return a + a.T


def rectangular() -> Graph:
    return Graph(torch.stack(interactions()), None, (USERS, ITEMS))


def directed(seed: int = 0) -> Graph:
    rng = np.random.default_rng(seed)
    index = torch.from_numpy(np.stack(np.nonzero(rng.random((6, 6)) < 0.5)))
    return Graph(index, torch.from_numpy(rng.random(index.shape[1])), (6, 6))


def with_loops() -> Graph:
    index = torch.tensor([[0, 0, 1, 2], [0, 1, 2, 3]])
    return Graph(index, torch.tensor([2.0, 3.0, 5.0, 7.0], dtype=torch.float64), (5, 5), undirected=True)


GRAPHS = {"bipartite": bipartite, "rectangular": rectangular, "directed": directed, "loops": with_loops}


def normalised_dense(a: torch.Tensor, kind: str) -> torch.Tensor:
    """The definitions, with loops over entries."""
    if kind.endswith("_self"):
        a = a + torch.eye(len(a), dtype=a.dtype)
    out, into = a.sum(1), a.sum(1) if a.shape[0] == a.shape[1] else a.sum(0)
    result = torch.zeros_like(a)
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            if a[i, j] != 0 and kind.startswith("rw"):
                result[i, j] = a[i, j] / out[i]
            elif a[i, j] != 0 and into[j] > 0 and out[i] > 0:
                result[i, j] = a[i, j] / (out[i] * into[j]).sqrt()
    return result


def test_bipartite_counts_a_repeated_pair_once_and_sorts_edges():
    graph = Graph.bipartite(np.array([2, 0, 2, 0]), np.array([1, 1, 1, 0]), 3, 2)
    assert graph.edge_index.tolist() == [[0, 0, 2], [3, 4, 4]]
    assert torch.equal(bipartite().dense().double(), adjacency())


@pytest.mark.parametrize("kind", ["sym", "rw", "sym_self", "rw_self"])
@pytest.mark.parametrize("name", GRAPHS)
def test_normalisation_matches_the_definition(name, kind):
    graph = GRAPHS[name]()
    if name == "rectangular" and kind.endswith("_self"):
        with pytest.raises(ValueError, match="square"):
            graph.normalised(kind)
        return
    expected = normalised_dense(graph.dense().double(), kind)
    assert torch.allclose(graph.normalised(kind).dense().double(), expected, atol=1e-7)


def test_the_rectangular_block_of_sym_is_the_sym_of_the_block():
    whole = bipartite().normalised().dense()[:USERS, USERS:]
    assert torch.allclose(rectangular().normalised().dense(), whole)


@pytest.mark.parametrize("name", GRAPHS)
def test_propagate_and_both_gradients_match_dense(name, monkeypatch):
    monkeypatch.setattr(matrices, "EDGE_ELEMENTS", 12)  # several blocks of edges
    graph = GRAPHS[name]().normalised()
    weight = graph.edge_weight.double().requires_grad_()
    graph = graph.reweighted(weight)
    x = torch.randn(graph.shape[1], 3, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(graph.shape[0], 3, dtype=torch.float64)
    found = propagate(graph, x)
    expected = graph.dense() @ x
    assert torch.allclose(found, expected)
    for one, other in zip(
        torch.autograd.grad(found, (x, weight), upstream),
        torch.autograd.grad(expected, (x, weight), upstream),
        strict=True,
    ):
        assert torch.allclose(one, other)


def test_edge_products_and_their_gradients_match_dense(monkeypatch):
    monkeypatch.setattr(matrices, "EDGE_ELEMENTS", 12)  # several blocks of edges
    graph = rectangular()
    row, column = graph.edge_index
    x, y = (torch.randn(size, 3, dtype=torch.float64, requires_grad=True) for size in graph.shape)
    upstream = torch.randn(graph.num_edges, dtype=torch.float64)
    found, expected = matrices.edge_products(graph, x, y), (x @ y.T)[row, column]
    assert torch.allclose(found, expected)
    for one, other in zip(
        torch.autograd.grad(found, (x, y), upstream), torch.autograd.grad(expected, (x, y), upstream), strict=True
    ):
        assert torch.allclose(one, other)
    with pytest.raises(ValueError, match="directed"):
        matrices.edge_products(bipartite(), x, y)


def test_normalisation_is_differentiable_in_the_weights():
    def loss(weight: torch.Tensor) -> torch.Tensor:
        return (
            propagate(directed().reweighted(weight).normalised(), torch.ones(6, 2, dtype=torch.float64)).square().sum()
        )

    torch.autograd.gradcheck(loss, (directed().edge_weight.clone().requires_grad_(),))


def test_reweighted_shares_the_pattern_and_not_the_values():
    graph = bipartite()
    x = torch.randn(USERS + ITEMS, 2)
    once = propagate(graph, x)
    twice = graph.reweighted(2 * graph.edge_weight)
    assert twice._patterns is graph._patterns and torch.allclose(propagate(twice, x), 2 * once)
    assert torch.equal(propagate(graph, x), once)


def test_propagate_stays_in_fp32_under_autocast():
    graph = bipartite().normalised()
    x = torch.randn(USERS + ITEMS, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(propagate(graph, x), propagate(graph, x.clone()))
        assert propagate(graph, x.bfloat16()).dtype == torch.float32
    assert torch.allclose(propagate(graph, x), graph.dense() @ x, atol=1e-6)


def test_a_graph_without_edges_propagates_zeros():
    graph = Graph(torch.zeros(2, 0, dtype=torch.int64), None, (3, 4))
    assert torch.equal(propagate(graph, torch.randn(4, 2)), torch.zeros(3, 2))


@pytest.mark.parametrize("combine", ["mean", "sum"])
def test_propagate_layers_combines_powers(combine):
    graph, x = bipartite().normalised(), torch.randn(USERS + ITEMS, 3)
    a = graph.dense()
    total = x + a @ x + a @ a @ x
    assert torch.allclose(propagate_layers(graph, x, 2, combine), total / 3 if combine == "mean" else total, atol=1e-6)


@pytest.mark.parametrize(("keep", "expected"), [(1 - 0.8, 3), (0.5, 9), (1.0, 19), (4, 4)])
def test_pruned_keeps_int_of_the_share(keep, expected):
    user, item = np.divmod(np.arange(19), 5)
    graph = Graph.bipartite(user, item, 4, 5)
    kept = graph.pruned(keep, torch.Generator().manual_seed(0))
    assert kept.num_edges == expected
    pairs = set(zip(*graph.edge_index.tolist(), strict=True))
    assert len(set(zip(*kept.edge_index.tolist(), strict=True)) & pairs) == expected
    again = graph.pruned(keep, torch.Generator().manual_seed(0))
    assert torch.equal(kept.edge_index, again.edge_index)


@pytest.mark.parametrize("keep", [0.0, 1.5, 0])
def test_pruning_away_everything_is_an_error(keep):
    with pytest.raises(ValueError, match="at least 1"):
        bipartite().pruned(keep, torch.Generator())


@pytest.mark.parametrize("how", ["degree", "uniform"])
def test_first_edge_is_drawn_with_the_stated_probability(how):
    graph = bipartite()
    out = adjacency().sum(1)
    weight = (
        (out[graph.edge_index[0]] * out[graph.edge_index[1]]) ** -0.5
        if how == "degree"
        else torch.ones(graph.num_edges)
    )
    expected = (weight / weight.sum()).numpy()
    generator, draws = torch.Generator().manual_seed(1), 20000
    counts = np.bincount([int(graph.sample_edges(1, generator, how)) for _ in range(draws)], minlength=graph.num_edges)
    chi2 = ((counts - draws * expected) ** 2 / (draws * expected)).sum()
    assert chi2 < graph.num_edges - 1 + 5 * (2 * graph.num_edges) ** 0.5


def test_a_pruned_graph_normalises_by_its_own_degrees():
    kept = bipartite().pruned(6, torch.Generator().manual_seed(0))
    assert torch.allclose(kept.normalised().dense().double(), normalised_dense(kept.dense().double(), "sym"), atol=1e-7)


@pytest.mark.parametrize("weight", ["binary", "cosine"])
def test_knn_graph_matches_the_dense_top_k(weight, monkeypatch):
    monkeypatch.setattr(building, "BLOCK_ELEMENTS", 40)  # blocks of 4 rows
    x = torch.randn(11, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    cosine = torch.nn.functional.cosine_similarity(x[:, None], x[None], dim=-1)
    top = cosine.topk(3)
    expected = torch.zeros(11, 11, dtype=torch.float64).scatter(
        1, top.indices, 1.0 if weight == "binary" else top.values
    )
    found = knn_graph(x, 3, weight)
    assert torch.allclose(found.dense().double(), expected)
    if weight == "binary":
        assert torch.allclose(found.normalised().edge_weight, torch.tensor(1 / 3))


def test_knn_graph_lists_a_row_among_its_own_neighbours():
    x = torch.cat([torch.ones(6, 3), torch.zeros(2, 3)])  # duplicates, and rows without a direction
    dense = knn_graph(x, 2, "cosine").dense()
    assert torch.equal(dense.diagonal(), torch.ones(8)) and dense.isfinite().all()
    with pytest.raises(ValueError, match="choose 1 to 8"):
        knn_graph(x, 9)


@pytest.mark.parametrize("weight", ["count", "cosine"])
@pytest.mark.parametrize("block", [1 << 24, 5])
def test_cooccurrence_matches_the_loop(weight, block, monkeypatch):
    monkeypatch.setattr(building, "BLOCK_ELEMENTS", block)
    rng = np.random.default_rng(3)
    user, item = rng.integers(0, 9, 60), rng.integers(0, 6, 60)
    owned = [set(item[user == u].tolist()) for u in range(10)]  # user 9 has none
    expected = []
    for u in range(10):
        others = [(len(owned[u] & owned[v]), v) for v in range(10) if v != u and len(owned[u] & owned[v]) >= 2]
        strength = {v: c if weight == "count" else c / (len(owned[u]) * len(owned[v])) ** 0.5 for c, v in others}
        ranked = sorted(strength.items(), key=lambda pair: (-np.float32(pair[1]), pair[0]))[:3]
        expected += [(u, v, w) for v, w in ranked]
    graph = cooccurrence(user, item, (10, 6), 3, weight=weight, min_count=2)
    found = list(zip(*graph.edge_index.tolist(), graph.edge_weight.tolist(), strict=True))
    assert [pair[:2] for pair in found] == [pair[:2] for pair in expected]
    assert [pair[2] for pair in found] == pytest.approx([pair[2] for pair in expected])


def test_softmax_rows_matches_the_loop():
    graph = directed()
    weight = graph.edge_weight.mul(900).requires_grad_()  # exp overflows without the row's peak
    soft = softmax_rows(graph.reweighted(weight))
    for row in range(graph.shape[0]):
        own = graph.edge_index[0] == row
        torch.testing.assert_close(soft.edge_weight[own], weight[own].softmax(0))
    small = graph.edge_weight.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: softmax_rows(graph.reweighted(x)).edge_weight, small)


def test_sampled_neighbours_are_the_strongest_then_repeats():
    user, item = (index.numpy() for index in interactions())
    graph = cooccurrence(user, item, (USERS, ITEMS), USERS)
    row, column = graph.edge_index
    for k in (2, 9):
        positions = sample_neighbours(graph, k, torch.Generator().manual_seed(0))
        dense = neighbour_softmax(graph, positions).dense()
        for user in range(USERS):
            own = torch.nonzero(row == user).flatten()
            if not len(own):
                assert (positions[user] == -1).all() and not dense[user].any()
                continue
            first = own[:k]
            assert torch.equal(positions[user, : len(first)], first)
            assert set(positions[user].tolist()) <= set(own.tolist())
            weight = graph.edge_weight[positions[user]].softmax(0)
            expected = torch.zeros(USERS).index_add(0, column[positions[user]], weight)
            torch.testing.assert_close(dense[user], expected)


def test_the_block_is_its_own_graph_with_its_own_rows():
    user, item = interactions()
    block = Graph.block(torch.cat([user, user]), torch.cat([item, item]), USERS, ITEMS)  # repeats count once
    np.testing.assert_array_equal(block.dense(), R)
    np.testing.assert_array_equal(block.transposed().dense(), R.T)
    degree = np.maximum(R.sum(1, keepdims=True), 1)
    np.testing.assert_allclose(block.normalised("rw_sqrt").dense(), R / np.sqrt(degree), rtol=1e-6)
    np.testing.assert_allclose(block.normalised("rw").dense(), R / degree, rtol=1e-6)


def test_mixed_graphs_add_up():
    one, other = directed(), directed().subgraph(torch.arange(0, directed().num_edges, 2))
    mixed = building.mix_graphs([one, other], [0.3, 0.7])
    torch.testing.assert_close(mixed.dense(), 0.3 * one.dense() + 0.7 * other.dense())
    assert mixed.num_edges == one.num_edges and (mixed.edge_index == one.edge_index).all()
    both = building.mix_graphs([bipartite()], [2.0])
    torch.testing.assert_close(both.dense(), 2 * bipartite().dense())


def test_dropped_nodes_lose_all_their_edges():
    graph = bipartite()
    kept = graph.subgraph(graph.sample_nodes(0.5, USERS, torch.Generator().manual_seed(1)))
    user, item = kept.edge_index
    # 3 of 7 users and 2 of 5 items go: every edge between the others stays
    gone_users, gone_items = (
        set(range(USERS)) - set(user.tolist()),
        set(range(USERS, USERS + ITEMS)) - set(item.tolist()),
    )
    assert len(gone_users) >= 3 and len(gone_items) >= 2
    left = [[u, i] for u, i in graph.edge_index.T.tolist() if u not in gone_users and i not in gone_items]
    assert left == kept.edge_index.T.tolist()
    everything = graph.sample_nodes(0.0, USERS, torch.Generator())
    assert torch.equal(everything, torch.arange(graph.num_edges))


def test_dropped_values_are_zero_or_scaled_and_unbiased():
    graph = bipartite().normalised()
    total = torch.zeros(graph.num_edges)
    for seed in range(400):
        dropped = graph.with_dropped_values(0.4, torch.Generator().manual_seed(seed)).edge_weight
        assert (dropped.eq(0) | torch.isclose(dropped, graph.edge_weight / 0.4)).all()
        total += dropped / 400
    torch.testing.assert_close(total, graph.edge_weight, rtol=0.25, atol=0)
    both = graph.directed().with_dropped_values(0.4, torch.Generator().manual_seed(0)).dense()
    assert not torch.equal(both, both.T), "directions are dropped on their own"


def test_layers_can_be_changed_on_the_way_and_only_the_last_kept():
    graph, x = bipartite().normalised(), torch.randn(USERS + ITEMS, 3)
    matrix = graph.dense()
    torch.testing.assert_close(propagate_layers(graph, x, 2, "last"), matrix @ matrix @ x)
    torch.testing.assert_close(propagate_layers(graph, x, 0, "last"), x)
    first = (matrix @ x).relu()
    expected = x + first + (matrix @ first).relu()
    torch.testing.assert_close(propagate_layers(graph, x, 2, "sum", after=torch.relu), expected)


def test_bad_shapes_are_named():
    with pytest.raises(ValueError, match="nodes up to"):
        Graph(torch.tensor([[0], [5]]), None, (3, 5))
    with pytest.raises(ValueError, match=r"propagates \[12, d\], not \[3, 2\]"):
        propagate(bipartite(), torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"\[2, E\]"):
        bipartite().reweighted(torch.ones(2))
