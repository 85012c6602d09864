import pytest
import torch

from seqmm.models.collaborative.freedom import FREEDOM, FREEDOMConfig
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

NAMES = {
    "user.weight": "user_embedding.weight",
    "item.weight": "item_id_embedding.weight",
    "trained_features.image": "image_embedding.weight",
    "trained_features.text": "text_embedding.weight",
    "project.image.weight": "image_trs.weight",
    "project.text.weight": "text_trs.weight",
}
MIXED = {"image": 0.1, "text": 0.9}
FILES = golden_files(
    "FREEDOM",
    {
        "cfg.embedding_size": "one width: feat_embed_dim",
        "cfg.train_batch_size": "no loss divides by it",
        "cfg.lambda_coeff": "not used by the model",
        "param.*_trs.bias": "cancels in every difference of scores: not built",
        "grad.*_trs.bias": "zero in exact arithmetic",
        "out.params_without_grad": "empty",
        "graph.edge_sampling_weight": "tests/test_graph.py compares the draw with its probabilities",
        "graph.edge_list": "sorted by (user, item), as our edges are; kept_edges are looked up in it",
    },
)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_matches_mmrec(file):
    with reading(file) as golden:
        config = FREEDOMConfig(
            hidden_size=int(golden["cfg.feat_embed_dim"]),
            num_layers=int(golden["cfg.n_ui_layers"]),
            num_item_layers=int(golden["cfg.n_mm_layers"]),
            num_neighbors=int(golden["cfg.knn_k"]),
            modal_weight=golden.number("cfg.reg_weight"),
            edge_keep=1 - golden.number("cfg.dropout"),
            modality_weights={"image": golden.number("cfg.mm_image_weight"), "text": 0.9},
        )
        model = load(FREEDOM.for_corpus(config, golden_corpus(golden)), golden, NAMES)
        assert_near(model.graph.dense(), golden["graph.norm_adj"], 1e-6)
        assert_near(model.item_graph.dense(), golden["graph.mm_adj"], 1e-6)
        batch = golden_batch(golden)
        assert float(model(batch)["loss"].detach()) == pytest.approx(golden.number("out.loss_full_graph"), abs=1e-6)
        model.on_state("kept_edges", edge_positions(model, golden["rand.kept_edges"]))
        assert_near(model.training_graph.dense(), golden["graph.masked_adj"], 1e-6)
        loss = model.train()(batch)["loss"]
        assert float(loss.detach()) == pytest.approx(golden.number("out.loss"), abs=1e-6)
        loss.backward()
        assert_gradients(model, golden, NAMES)
        users = torch.arange(int(golden["in.n_users"]))
        assert_near(model.eval().score({"user": users}, model.tables()), golden["out.scores"], 1e-6)


DETAIL_FILES = golden_files(
    "freedom_detail",
    {
        "param.*_trs.bias": "cancels in every difference of scores: not built",
        "grad.*_trs.bias": "zero in exact arithmetic",
    },
)


@pytest.mark.parametrize("file", DETAIL_FILES, ids=lambda file: file.stem)
def test_matches_mmrec_in_detail(file):
    with reading(file) as golden:
        config = FREEDOMConfig(hidden_size=16, num_neighbors=5, edge_keep=1 - 0.8, modality_weights=MIXED)
        corpus = detail_corpus(golden)
        model = load(FREEDOM.for_corpus(config, corpus), golden, NAMES)
        assert_near(model.graph.dense(), golden["ui_norm_adj"], 1e-6)
        assert_near(model.item_graph.dense(), golden["mm_adj"], 1e-6)
        for name in model.modalities:
            assert_near(model.knn(name, 5).dense(), golden[f"{name}_adj"], 1e-6)
        assert_detail_edges(model, golden, config.edge_keep)
        model.on_state("kept_edges", torch.from_numpy(golden["kept_edge_positions"]).sort().values)
        assert_near(model.training_graph.dense(), golden["pruned_norm_adj"], 1e-6)
        for users, items in (("train_user_emb", "train_item_emb"), ("infer_user_emb", "infer_item_emb")):
            tables = model.train(users.startswith("train")).tables()
            assert_near(tables["users"], golden[users], 1e-6)
            assert_near(tables["items"], golden[items], 1e-6)
        losses = model.train()(detail_batch(golden))
        for ours, theirs in {"loss": "total", "bpr": "bpr", "bpr_text": "bpr_text", "bpr_image": "bpr_image"}.items():
            assert float(losses[ours].detach()) == pytest.approx(golden.number(f"loss_{theirs}"), abs=1e-6)
        losses["loss"].backward()
        assert_gradients(model, golden, NAMES)
        users = torch.arange(int(golden["n_users"]))
        assert_near(model.eval().score({"user": users}, model.tables()), golden["scores_all"], 1e-6)
        assert_detail_evaluation(model, corpus, golden)
