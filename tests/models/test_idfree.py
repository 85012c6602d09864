import pytest
import torch
import torch.nn.functional as F

from seqmm.graphs.matrix import Graph
from seqmm.models.collaborative.idfree import IDFREE, IDFREEConfig, SimilarityWeight
from seqmm.nn.positions import index_codes
from tests.cases import CASES
from tests.models.golden import (
    assert_gradients,
    assert_near,
    golden_batch,
    golden_corpus,
    golden_files,
    load,
    reading,
)
from tests.test_contract import _first_batch

TRAINED = {"trained_features.image": "v_feat_i.weight", "trained_features.text": "t_feat_i.weight"} | {
    f"{ours}.{name}.{part}": f"{short}_mu.fcs.{number}.{part}"
    for name, short in (("image", "v"), ("text", "t"))
    for ours, number in (("project", 0), ("norm", 2))
    for part in ("weight", "bias")
}
PREDICTORS = {  # the released code cuts their gradient
    f"similarity.{side}.{ours}.0.{part}": f"{letter}_edge_predictor.{theirs}.0.{part}"
    for side, letter in ((0, "u"), (1, "i"))
    for ours, theirs in (("row", "fc1"), ("column", "fc2"))
    for part in ("weight", "bias")
}
FILES = golden_files(
    "IDFREE",
    {
        "cfg.feat_embed_dim": "one width: embedding_size",
        "cfg.train_batch_size": "no loss divides by it",
        "cfg.use_*": "two modalities, no ids: what the model is",
        "cfg.auige": "similarity graphs on: what the model is",
    },
)


def double(model: IDFREE) -> IDFREE:
    """The raw features, too, which are no parameters."""
    raw = model.raw_features
    model.raw_features = lambda name: raw(name).double()
    return model


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_matches_the_released_code(file):
    with reading(file) as golden:
        assert golden["cfg.pe"] and golden["cfg.asg"]
        config = IDFREEConfig(
            hidden_size=int(golden["cfg.embedding_size"]),
            num_layers=int(golden["cfg.gcn_layers"]),
            num_neighbors=int(golden["cfg.knn_k"]),
            edge_keep=1 - golden.number("cfg.dropout"),
            temperature=golden.number("cfg.tau"),
            modal_weight=golden.number("cfg.lamda"),
            modality_weights={"image": 1 - golden.number("cfg.m_alpha"), "text": golden.number("cfg.m_alpha")},
            pe="sincos",
        )
        model = double(load(IDFREE.for_corpus(config, golden_corpus(golden)), golden, TRAINED | PREDICTORS))
        assert_near(model.observed.dense(), golden["graph.base_adj"], 1e-6)
        similar = model.augmented.dense() - model.observed.dense()
        assert_near(similar[:30, :30], golden["graph.base_uu"], 1e-6)
        assert_near(similar[30:, 30:], golden["graph.base_ii"], 1e-6)
        trainable, batch = model.edge_weights, golden_batch(golden) | {"step_seed": torch.tensor(0)}
        loss = model(batch)["loss"]
        loss.backward()
        assert all(model.get_parameter(name).grad.abs().max() > 0 for name in PREDICTORS)
        model.zero_grad()
        model.edge_weights = lambda *arguments: trainable(*arguments).detach()  # as released
        loss = model(batch)["loss"]
        assert float(loss.detach()) == pytest.approx(golden.number("out.loss"), abs=1e-6)
        loss.backward()
        assert_gradients(model, golden, TRAINED)
        assert set(golden["out.params_without_grad"]) == set(PREDICTORS.values())
        users = torch.arange(int(golden["in.n_users"]))
        assert_near(model.eval().score({"user": users}, model.tables()), golden["out.scores"], 1e-6)


def test_similarity_weight_is_an_average_over_pairs(monkeypatch):
    monkeypatch.setattr("seqmm.models.collaborative.idfree.BLOCK_ELEMENTS", 12)  # blocks of 3 edges
    torch.manual_seed(0)
    views = {name: torch.randn(6, 4) for name in "abc"}
    pairs = [("b", "a"), ("c", "a"), ("c", "b")]
    weight = SimilarityWeight(pairs, 4)
    edges = torch.randint(6, (2, 8))
    for place, (row, column) in enumerate(edges.T.tolist()):
        total = 0.0
        for number, (x, y) in enumerate(pairs):
            total += F.relu(weight.row[number](views[x][row])) @ F.relu(weight.column[number](views[y][column]))
        torch.testing.assert_close(weight(views, edges)[place], torch.sigmoid(total / 3))


def test_a_step_keeps_edges_by_weight_and_normalises_what_it_kept():
    corpus = CASES["idfree"].corpus()
    model = CASES["idfree"].model(corpus).train()
    views = model.views()
    graph = model.training_graph(views, torch.tensor(1))
    assert graph.num_edges == int(0.6 * model.augmented.num_edges)
    other = model.training_graph(views, torch.tensor(2))
    assert not torch.equal(graph.edge_index, other.edge_index)
    torch.testing.assert_close(model.training_graph(views, torch.tensor(1)).dense(), graph.dense())
    weights = model.edge_weights(views, model.augmented, model.ends)
    whole = Graph(model.augmented.edge_index, weights, graph.shape).dense()
    kept = torch.where(graph.dense() > 0, whole, 0.0)
    degree = kept.sum(1).clamp(min=1e-9)
    torch.testing.assert_close(graph.dense(), kept / (degree[:, None] * degree).sqrt())


def test_users_are_means_of_their_items_and_codes_are_added():
    corpus = CASES["idfree-pe"].corpus()
    model = CASES["idfree-pe"].model(corpus)
    codes = index_codes(60, 16, "sincos")
    for name, view in model.views().items():
        for user in (0, 7):
            items = corpus.splits["train"].item[corpus.splits["train"].user == user]
            mean = model.raw_features(name)[torch.from_numpy(items)].mean(0)
            expected = model.norm[name](torch.tanh(model.project[name](mean))) + codes[user]
            torch.testing.assert_close(view[user], expected, rtol=1e-4, atol=1e-5)
        item = model.norm[name](torch.tanh(model.project[name](model.features(name)[3]))) + codes[3]
        torch.testing.assert_close(view[60 + 3], item, rtol=1e-4, atol=1e-5)


def test_loss_against_every_negative_of_the_batch():
    corpus = CASES["idfree"].corpus()
    model = CASES["idfree"].model(corpus).train()
    model.training_graph = lambda views, step_seed: model.scoring_graph(model.mixed(views))
    batch = _first_batch(model, corpus)
    users, items = (F.normalize(x) for x in model.encode())
    user, positive, negative = users[batch["user"]], items[batch["positive"]], items[batch["negative"]]
    difference = user @ negative.T - (user * positive).sum(1)[:, None]  # [B, B]
    torch.testing.assert_close(model(batch)["softmax"], (difference / 0.2).logsumexp(1).mean())
