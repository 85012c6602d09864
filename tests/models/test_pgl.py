from dataclasses import replace

import numpy as np
import pytest
import torch

from seqmm import losses
from seqmm.data.synthetic import synthetic_corpus
from seqmm.graphs.matrix import Graph
from seqmm.models.collaborative import pgl
from seqmm.models.collaborative.pgl import PGL, PGLConfig, principal_graph
from tests.models.golden import (
    assert_detail_edges,
    assert_detail_evaluation,
    assert_gradients,
    assert_near,
    detail_batch,
    detail_corpus,
    edge_positions,
    golden_batch,
    golden_corpus,
    golden_files,
    load,
    reading,
)

NAMES = {}
for modality in ("image", "text"):
    NAMES[f"user.{modality}"] = f"user_{modality}.weight"
    NAMES[f"trained_features.{modality}"] = f"{modality}_embedding.weight"
    for part in ("weight", "bias"):
        NAMES[f"project.{modality}.{part}"] = f"{modality}_trs.{part}"
UNCHECKED = {
    "cfg.embedding_size": "one width: feat_embed_dim",
    "cfg.train_batch_size": "no loss divides by it",
    "cfg.lambda_coeff": "not used by the model",
    "cfg.dropout": "taken out when the file was made; pgl_detail has it",
    "out.params_without_grad": "empty",
    "graph.edge_sampling_weight": "tests/test_graph.py compares the draw with its probabilities",
    "graph.edge_list": "sorted by (user, item), as our edges are; kept_edges are looked up in it",
}
FILES = golden_files("PGL_local", UNCHECKED) + golden_files("PGL_global", UNCHECKED)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_matches_mmrec(file):
    with reading(file) as golden:
        config = PGLConfig(
            hidden_size=int(golden["cfg.feat_embed_dim"]),
            num_layers=int(golden["cfg.n_ui_layers"]),
            num_item_layers=int(golden["cfg.n_mm_layers"]),
            num_neighbors=int(golden["cfg.knn_k"]),
            principal=str(golden["cfg.mode"]),
            rank=16,
            contrast_weight=golden.number("cfg.reg_weight"),
            dropout=0.0,
            modality_weights={"image": golden.number("cfg.mm_image_weight"), "text": 0.9},
        )
        model = load(PGL.for_corpus(config, golden_corpus(golden)), golden, NAMES)
        assert_near(model.graph.dense(), golden["graph.norm_adj"], 1e-6)
        assert_near(model.item_graph.dense(), golden["graph.mm_adj"], 1e-6)
        batch = golden_batch(golden) | {"row_seed": torch.arange(16)}
        full = float(model.eval()(batch)["loss"].detach())
        assert full == pytest.approx(golden.number("out.loss_full_graph"), abs=1e-6)
        if config.principal == "local":
            model.on_state("kept_edges", edge_positions(model, golden["rand.kept_edges"]))
        assert_near(model.training_graph.dense(), golden["graph.sub_graph"], 1e-6)
        loss = model.train()(batch)["loss"]
        assert float(loss.detach()) == pytest.approx(golden.number("out.loss"), abs=1e-6)
        loss.backward()
        assert_gradients(model, golden, NAMES)
        users = torch.arange(int(golden["in.n_users"]))
        assert_near(model.eval().score({"user": users}, model.tables()), golden["out.scores"], 1e-6)


@pytest.mark.parametrize("file", golden_files("pgl_detail"), ids=lambda file: file.stem)
def test_matches_mmrec_in_detail(file, monkeypatch):
    with reading(file) as golden:
        config = PGLConfig(hidden_size=16, num_neighbors=5, modality_weights={"image": 0.1, "text": 0.9})
        assert (config.edge_keep, config.contrast_weight) == (0.3, 0.05)
        corpus = detail_corpus(golden)
        model = load(PGL.for_corpus(config, corpus), golden, NAMES)
        assert_near(model.graph.dense(), golden["ui_norm_adj"], 1e-6)
        assert_near(model.item_graph.dense(), golden["mm_adj"], 1e-6)
        assert_detail_edges(model, golden, config.edge_keep)
        model.on_state("kept_edges", torch.from_numpy(golden["kept_edge_positions"]).sort().values)
        assert_near(model.training_graph.dense(), golden["sub_graph"], 1e-6)
        for users, items in (("train_user_emb", "train_item_emb"), ("infer_user_emb", "infer_item_emb")):
            tables = model.train(users.startswith("train")).tables()
            assert_near(tables["users"], golden[users], 1e-6)
            assert_near(tables["items"], golden[items], 1e-6)

        recorded = {"user": "user", "item": "pos"}

        def dropout_rows(x, p, row_seed, stream):
            name, view = stream.split()
            mask = torch.from_numpy(golden[f"dropmask_{recorded[name]}_{view}"])
            assert p == 0.2 and set(mask.unique().tolist()) == {0.0, 1.25}
            return x * mask

        monkeypatch.setattr(losses, "dropout_rows", dropout_rows)
        parts = model.train()(detail_batch(golden) | {"row_seed": torch.arange(16)})
        expected = {"loss": "total", "bpr": "bpr", "contrast_user": "cl_user", "contrast_item": "cl_item"}
        for ours, theirs in expected.items():
            assert float(parts[ours].detach()) == pytest.approx(golden.number(f"loss_{theirs}"), abs=1e-6)
        parts["loss"].backward()
        assert_gradients(model, golden, NAMES)
        users = torch.arange(int(golden["n_users"]))
        assert_near(model.eval().score({"user": users}, model.tables()), golden["scores_all"], 1e-6)
        assert_detail_evaluation(model, corpus, golden)


@pytest.mark.parametrize("block", [1, 1 << 24])
def test_principal_graph_is_the_decomposition_of_the_whole_matrix(block, monkeypatch):
    monkeypatch.setattr(pgl, "BLOCK_ELEMENTS", block * 4)
    rng = np.random.default_rng(0)
    user, item = np.nonzero(rng.random((40, 50)) < 0.2)
    graph = Graph.bipartite(user, item, 40, 50).normalised()
    found = principal_graph(graph, 40, rank=32, threshold=0.01)
    again = principal_graph(graph, 40, rank=32, threshold=0.01)
    assert torch.equal(found.edge_index, again.edge_index) and torch.equal(found.edge_weight, again.edge_weight)
    left, values, right = np.linalg.svd(graph.dense().double().numpy())
    expected = np.zeros((90, 90))
    for k in range(8):
        expected += values[k] * values[24 + k] * np.outer(left[:, k], right[k])
    small = np.abs(expected) < 0.01
    assert 0.1 < small[:40, 40:].mean() < 0.9, "some of both"
    assert_near(found.dense(), np.where(small, 0, expected), 1e-5)


def test_global_training_keeps_its_graph_and_local_samples():
    corpus = synthetic_corpus(num_users=30, num_items=20)
    corpus = replace(corpus, features={"image_vector": corpus.features["image_vector"]})
    model = PGL.for_corpus(PGLConfig(hidden_size=8, principal="global", rank=16), corpus)
    before = model.training_graph
    model.on_stage_start(0, 0, torch.Generator())
    assert model.training_graph is before is not model.graph and not model.hook_state
    with pytest.raises(ValueError, match="multiple of 8"):
        PGL.for_corpus(PGLConfig(principal="global", rank=12), corpus)
    model = PGL.for_corpus(PGLConfig(hidden_size=8), corpus)
    model.on_stage_start(0, 0, torch.Generator())
    assert model.training_graph.num_edges == int(0.3 * model.graph.num_edges)
