import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seqmm.graphs import build as building
from seqmm.graphs.build import behaviour_graph, denoised_knn_graphs
from seqmm.graphs.matrix import Graph
from seqmm.models.collaborative import damrs
from seqmm.models.collaborative.damrs import DAMRS, DAMRSConfig, alignment, confidence, discrimination
from tests.models.golden import (
    assert_gradients,
    assert_near,
    golden_batch,
    golden_corpus,
    golden_files,
    load,
    reading,
    train_only_corpus,
)

NAMES = {"user.weight": "user_embedding.weight", "item.weight": "item_id_embedding.weight"}
NOT_BUILT = "the released code's projections and feature tables get no gradient: not built"
FILES = golden_files(
    "DAMRS",
    {
        "cfg.feat_embed_dim": "one width: embedding_size",
        "cfg.train_batch_size": "no loss divides by it",
        "param.image_*": NOT_BUILT,
        "param.text_*": NOT_BUILT,
        "out.params_without_grad": NOT_BUILT,
    },
)
DETAILS = golden_files(
    "damrs_detail",
    {"valid": "no metric is stored", "test": "no metric is stored"},
)


def graph_of(dense):
    row, column = np.nonzero(dense)
    edges = torch.from_numpy(np.stack([row, column]))
    return Graph(edges, torch.from_numpy(dense[row, column]), dense.shape)


def take_behaviour_graph(model, dense, counts):
    """Equal counts at the second place may be broken either way: ours must be as good, then theirs is used."""
    ours = model.item_graphs[-1].dense().numpy()
    for row in range(len(counts)):
        mine, theirs = (sorted(counts[row][graph[row] > 0]) for graph in (ours, dense))
        assert mine == theirs and ours[row, row] > 0
    binary = (dense > 0).astype(np.float32)
    np.testing.assert_allclose(graph_of(binary).normalised().dense(), dense, rtol=1e-6)
    model.item_graphs[-1] = graph_of(dense)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_matches_mmrec(file):
    with reading(file) as golden:
        config = DAMRSConfig(
            hidden_size=int(golden["cfg.embedding_size"]),
            num_layers=int(golden["cfg.n_ui_layers"]),
            num_item_layers=int(golden["cfg.n_mm_layers"]),
            num_neighbors=int(golden["cfg.knn_k"]),
            alignment_weight=golden.number("cfg.kl_weight"),
            discrimination_weight=golden.number("cfg.neighbor_weight"),
        )
        model = load(DAMRS.for_corpus(config, golden_corpus(golden)), golden, NAMES)
        assert_near(model.graph.dense(), golden["graph.norm_adj"], 1e-6)
        for name, graph in zip(("image", "text"), model.item_graphs[:2], strict=True):
            assert_near(graph.dense(), golden[f"graph.{name}_adj"], 1e-6)
        take_behaviour_graph(model, golden["graph.session_adj"], golden["graph.item_cooccurrence_counts_ge2"])
        loss = model(golden_batch(golden))["loss"]
        assert float(loss.detach()) == pytest.approx(golden.number("out.loss"), abs=1e-6)
        loss.backward()
        assert_gradients(model, golden, NAMES)
        users = torch.arange(int(golden["in.n_users"]))
        assert_near(model.eval().score({"user": users}, model.tables()), golden["out.scores"], 1e-6)


@pytest.mark.parametrize("file", DETAILS, ids=lambda file: file.stem)
def test_matches_the_released_code_in_detail(file):
    with reading(file) as golden:
        sizes = int(golden["n_users"]), int(golden["n_items"])
        features = {"image": golden["v_feat"], "text": golden["t_feat"]}
        corpus = train_only_corpus(golden["train_u"], golden["train_i"], *sizes, features)
        model = load(DAMRS.for_corpus(DAMRSConfig(hidden_size=16, num_neighbors=5), corpus), golden, NAMES)
        for name, graph in zip(("image", "text"), model.item_graphs[:2], strict=True):
            assert_near(graph.dense(), golden[f"{name}_adj_denoised"], 1e-6)
        for row, near in enumerate(golden["behaviour_top2_idx"]):
            others = set(np.nonzero(golden["behaviour_adj"][row])[0]) - {row}
            assert others == set(near[near >= 0])
            count = golden["behaviour_top2_count"][row][near >= 0]
            assert count.tolist() == golden["item_cooccurrence_ge2"][row, near[near >= 0]].tolist()
        take_behaviour_graph(model, golden["behaviour_adj"], golden["item_cooccurrence_ge2"])
        users, items, views = model.parts()
        found = {"user_emb": users, "item_emb": items}
        found |= dict(zip(("h_image", "h_text", "h_behaviour"), views, strict=True))
        for name, table in found.items():
            assert_near(table, golden[name], 1e-5)
        names = (("user", "users"), ("positive", "pos"), ("negative", "neg"))
        batch = {ours: torch.from_numpy(golden["batch_" + theirs]) for ours, theirs in names}
        loss = model(batch)["loss"]
        assert float(loss.detach()) == pytest.approx(golden.number("loss_total"), rel=1e-4)
        loss.backward()
        assert_gradients(model, golden, NAMES, 1e-3)
        users = torch.arange(sizes[0])
        assert_near(model.eval().score({"user": users}, model.tables()), golden["scores_all"], 1e-5)


def _tables(views, num_users=7, num_items=15):
    generator = torch.Generator().manual_seed(0)
    users, items, *rest = torch.randn(views + 2, max(num_users, num_items), 4, generator=generator).double().unbind()
    return users[:num_users], items[:num_items], [table[:num_items] for table in rest]


@pytest.mark.parametrize("block", [1 << 24, 40])
@pytest.mark.parametrize("num_modalities", [1, 2, 3])
def test_denoised_graphs_match_the_loop(num_modalities, block, monkeypatch):
    monkeypatch.setattr(building, "BLOCK_ELEMENTS", block)
    generator = torch.Generator().manual_seed(1)
    features = [torch.randn(13, 5, generator=generator).double() + 0.4 for _ in range(num_modalities)]
    cosines = [F.cosine_similarity(x[:, None], x[None], dim=-1) for x in features]
    for graph, cosine in zip(denoised_knn_graphs(features, 4), cosines, strict=True):
        expected = torch.zeros(13, 13)
        for row in range(13):
            left = [j for j in range(13) if all(c[row, j] >= c.mean() for c in cosines)]
            for j in sorted(left, key=lambda j: -float(cosine[row, j]))[:4]:
                expected[row, j] = 1
        assert torch.equal(graph.dense(), expected) and expected.diagonal().all()
    assert num_modalities == 1 or float(expected.sum(1).min()) < 4  # some rows have fewer


def test_behaviour_graph_matches_the_loop():
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, 12, 50), rng.integers(0, 9, 50)
    owners = [set(user[item == i].tolist()) for i in range(10)]  # item 9 has none
    expected = torch.eye(10)
    for i in range(10):
        shared = [(-len(owners[i] & owners[j]), j) for j in range(10) if j != i and len(owners[i] & owners[j]) >= 2]
        for _, j in sorted(shared)[:2]:
            expected[i, j] = 1
    degree = expected.sum(1)
    expected /= (degree[:, None] * degree).sqrt()
    torch.testing.assert_close(behaviour_graph(user, item, 12, 10).dense(), expected)


@pytest.mark.parametrize("num_views", [2, 4])
def test_confidence_matches_the_loop(num_views):
    users, _, views = _tables(num_views)
    user, positive, negative = torch.tensor([0, 3, 3, 6]), torch.tensor([1, 2, 14, 2]), torch.tensor([5, 5, 0, 9])

    def probability(u, i, view):
        return float(torch.sigmoid(users[u] @ (view[i] / view[i].norm())))

    level = np.mean([[probability(u, i, v) for u, i in zip(user, negative, strict=True)] for v in views])
    likes, doubts = confidence(users[user], positive, negative, views)
    for row in range(4):
        observed = [probability(user[row], positive[row], view) for view in views]
        sure = np.mean(observed) * np.exp(-np.var(observed, ddof=1)) ** 2
        assert float(likes[row]) == pytest.approx(min(max(sure, 0), 1))
        doubt = max(observed) - level if np.mean(observed) < level else 0
        assert float(doubts[row]) == pytest.approx(min(max(doubt, 0), 1), abs=1e-7)
    assert doubts.max() > 0 or num_views == 2


def test_alignment_matches_the_loop():
    users, items, (content,) = _tables(1)
    user, item = torch.tensor([0, 2, 5]), torch.tensor([1, 3, 4, 14])
    terms = []
    for u in user:
        for i in item:
            p, q = (torch.sigmoid(users[u] @ (x[i] / x[i].norm())) for x in (items, content))
            for a, b in ((p, q), (q, p)):
                terms.append(a * (a / b).log() + (1 - a) * ((1 - a) / (1 - b)).log())
    expected = 2 * torch.stack(terms).mean()
    torch.testing.assert_close(alignment(users, items, content, user, item), expected)


@pytest.mark.parametrize("block", [1 << 24, 20])
@pytest.mark.parametrize("num_views", [2, 4])
def test_discrimination_matches_the_loop(num_views, block, monkeypatch):
    monkeypatch.setattr(damrs, "BLOCK_ELEMENTS", block)
    views = _tables(num_views)[2]
    item = torch.tensor([0, 4, 5, 14])
    units = [view / view.norm(dim=1, keepdim=True) for view in views]
    terms = []
    for unit in units:
        for i in item.tolist():
            nearness = [torch.softmax(u[i] @ u.T, 0) for u in units]
            own = torch.softmax(unit[i] @ unit.T, 0)
            order = sorted(range(15), key=lambda j: -float(sum(n[j] for n in nearness) + own[j]))
            shared = order[:3]
            single = sorted(set(range(15)) - set(shared), key=lambda j: -float(own[j]))[:3]
            value = (unit[i] @ unit.T / 0.2).exp()
            near, rest, everything = value[shared].sum(), value[single].sum(), value.sum()
            terms.append(-torch.log(near / everything + 1e-9) - torch.log(rest / (everything - near) + 1e-9))
    found = discrimination(views, item, 3, 0.2)
    torch.testing.assert_close(found, torch.stack(terms).mean())


@pytest.mark.parametrize("options", [{"weighted": False}, {"alignment_weight": 0}, {"discrimination_weight": 0}])
def test_an_ablation_drops_its_part(options):
    users, items, _ = _tables(0)
    rng = np.random.default_rng(0)
    corpus = train_only_corpus(rng.integers(0, 7, 40), rng.integers(0, 15, 40), 7, 15, {"text": items.numpy()})
    model = DAMRS.for_corpus(DAMRSConfig(hidden_size=4, num_neighbors=3, num_discriminated=3), corpus)
    whole = model({"user": torch.arange(4), "positive": torch.arange(4), "negative": torch.arange(4, 8)})
    for key, value in options.items():
        setattr(model.config, key, value)
    parts = model({"user": torch.arange(4), "positive": torch.arange(4), "negative": torch.arange(4, 8)})
    left_out = {"alignment_weight": "alignment", "discrimination_weight": "discrimination"}
    assert set(whole) - set(parts) == {left_out[key] for key in options if key in left_out}
    assert parts["loss"] != whole["loss"]


def test_alignment_keeps_its_digits_under_autocast():
    """Two views that all but agree: the difference of their logits is below what bf16 can tell."""
    generator = torch.Generator().manual_seed(0)
    users, items, more = torch.randn(3, 30, 8, generator=generator)
    gradients = []
    for enabled in (False, True):
        rows = users.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = alignment(rows, items, items + 0.01 * more, torch.arange(30), torch.arange(30))
        loss.mean().backward()
        gradients.append(rows.grad)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    "field, count, message",
    [
        ("num_neighbors", 7, "is 7, but the corpus has 6 items; choose 1 to 6"),
        ("num_discriminated", 4, "is 4: so many items near in all views .* are taken out of 6; choose 1 to 3"),
        ("num_discriminated", 0, "is 0: .* choose 1 to 3"),
    ],
)
def test_more_items_than_there_are_is_an_error(field, count, message):
    corpus = train_only_corpus(np.arange(6), np.arange(6), 6, 6, {"image": np.eye(6)})
    with pytest.raises(ValueError, match=f"model.{field} {message}"):
        DAMRS.for_corpus(DAMRSConfig(**{"num_neighbors": 3, "num_discriminated": 3, field: count}), corpus)
    with pytest.raises(ValueError, match="k=7 nearest neighbours of 6 rows"):
        denoised_knn_graphs([torch.eye(6)], 7)
