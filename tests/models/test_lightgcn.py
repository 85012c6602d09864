import numpy as np
import pytest
import torch

from seqmm.data.synthetic import synthetic_corpus
from seqmm.models.collaborative.lightgcn import LightGCN, LightGCNConfig
from tests.models.golden import (
    assert_detail_evaluation,
    assert_gradients,
    assert_near,
    detail_batch,
    detail_corpus,
    golden_batch,
    golden_corpus,
    golden_files,
    load,
    reading,
    train_only_corpus,
)

NAMES = {"user.weight": "embedding_dict.user_emb", "item.weight": "embedding_dict.item_emb"}
FILES = golden_files(
    "LightGCN",
    {
        "in.*_feat": "an id model reads no features",
        "cfg.feat_embed_dim": "of features",
        "cfg.is_multimodal_model": "of features",
        "cfg.train_batch_size": "no loss divides by it",
        "out.params_without_grad": "empty",
    },
)


def check_losses_and_gradients(model, golden, batch, loss):
    losses = model(batch)
    assert float(losses["loss"].detach()) == pytest.approx(loss, abs=1e-6)
    losses["loss"].backward()
    assert_gradients(model, golden, NAMES)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_matches_mmrec(file):
    with reading(file) as golden:
        config = LightGCNConfig(
            hidden_size=int(golden["cfg.embedding_size"]),
            num_layers=int(golden["cfg.n_layers"]),
            regularization=golden.number("cfg.reg_weight"),
        )
        model = load(LightGCN.for_corpus(config, golden_corpus(golden, {})), golden, NAMES)
        assert_near(model.graph.dense(), golden["graph.norm_adj_matrix"], 1e-6)
        check_losses_and_gradients(model, golden, golden_batch(golden), golden.number("out.loss"))
        everyone = {"user": torch.arange(model.config.num_users)}
        assert_near(model.score(everyone, model.tables()), golden["out.scores"], 1e-6)


@pytest.mark.parametrize("file", golden_files("lightgcn_detail"), ids=lambda file: file.stem)
def test_matches_mmrec_in_detail(file):
    with reading(file) as golden:
        corpus = detail_corpus(golden)
        config = LightGCNConfig(hidden_size=16, num_layers=2, regularization=0.01)
        model = load(LightGCN.for_corpus(config, corpus), golden, NAMES)
        assert_near(model.graph.dense(), golden["ui_norm_adj"], 1e-6)
        tables = model.tables()
        assert_near(tables["users"], golden["user_emb"], 1e-6)
        assert_near(tables["items"], golden["item_emb"], 1e-6)
        check_losses_and_gradients(model, golden, detail_batch(golden), golden.number("loss_total"))
        everyone = {"user": torch.arange(model.config.num_users)}
        assert_near(model.score(everyone, tables), golden["scores_all"], 1e-6)
        assert_detail_evaluation(model, corpus, golden)


def test_pruning_changes_training_only_and_differs_by_epoch():
    corpus = synthetic_corpus(num_users=30, num_items=20)
    torch.manual_seed(0)
    model = LightGCN.for_corpus(LightGCNConfig(hidden_size=8, edge_keep=0.5), corpus)
    batch = {name: torch.arange(8) for name in ("user", "positive")} | {"negative": torch.arange(8, 16)}
    scores = model.eval().tables()["items"]
    full = float(model.train()(batch)["loss"].detach())
    edges = []
    for epoch in (0, 1):
        model.on_stage_start(0, epoch, torch.Generator().manual_seed(epoch))
        edges.append(model.hook_state["kept_edges"])
        assert model.training_graph.num_edges == int(0.5 * model.graph.num_edges) == len(edges[-1])
    pruned = float(model(batch)["loss"].detach())
    assert not torch.equal(edges[0], edges[1])
    assert pruned != full
    assert torch.equal(model.eval().tables()["items"], scores)
    assert float(model(batch)["loss"].detach()) == full
    model.train().on_state("kept_edges", edges[1])  # what a resumed run does
    assert float(model(batch)["loss"].detach()) == pruned


def test_starts_xavier_uniform():
    corpus = train_only_corpus(np.arange(400) % 50, np.arange(400) // 8, 3000, 50)
    torch.manual_seed(0)
    model = LightGCN.for_corpus(LightGCNConfig(), corpus)
    bound = (6 / (3000 + 64)) ** 0.5
    assert 0.99 * bound < float(model.user.weight.detach().abs().max()) <= bound
