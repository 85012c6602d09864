import pytest
import torch

from seqmm.models.collaborative.mgcn import MGCN, MGCNConfig
from tests.models.golden import (
    assert_gradients,
    assert_near,
    golden_batch,
    golden_corpus,
    golden_files,
    load,
    reading,
)

MODALITIES = {"image": "v", "text": "t"}
NAMES = {
    "user.weight": "user_embedding.weight",
    "item.weight": "item_id_embedding.weight",
    "attention.inner.weight": "query_common.0.weight",
    "attention.inner.bias": "query_common.0.bias",
    "attention.outer.weight": "query_common.2.weight",
}
for ours, letter in MODALITIES.items():
    NAMES[f"trained_features.{ours}"] = f"{ours}_embedding.weight"
    for part in ("weight", "bias"):
        NAMES[f"project.{ours}.{part}"] = f"{ours}_trs.{part}"
        NAMES[f"purify.{ours}.linear.{part}"] = f"gate_{letter}.0.{part}"
        NAMES[f"prefer.{ours}.linear.{part}"] = f"gate_{ours}_prefer.0.{part}"
FILES = golden_files(
    "MGCN",
    {"cfg.feat_embed_dim": "one width: embedding_size", "out.params_without_grad": "empty"},
)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_matches_mmrec(file):
    with reading(file) as golden:
        batch = golden_batch(golden)
        configured = golden.number("cfg.train_batch_size")  # MMRec divides its L2 by it, we by the batch's rows
        config = MGCNConfig(
            hidden_size=int(golden["cfg.embedding_size"]),
            num_layers=int(golden["cfg.n_ui_layers"]),
            num_item_layers=int(golden["cfg.n_layers"]),
            num_neighbors=int(golden["cfg.knn_k"]),
            contrast_weight=golden.number("cfg.cl_loss"),
            regularization=golden.number("cfg.reg_weight") * len(batch["user"]) / configured,
        )
        model = load(MGCN.for_corpus(config, golden_corpus(golden)), golden, NAMES)
        assert_near(model.graph.dense(), golden["graph.norm_adj"], 1e-6)
        assert_near(model.items_of_users.dense(), golden["graph.R"], 1e-6)
        for name, graph in model.item_graphs.items():
            assert_near(graph.dense(), golden[f"graph.{name}_original_adj"], 1e-6)
        loss = model.train()(batch)["loss"]
        assert float(loss.detach()) == pytest.approx(golden.number("out.loss"), abs=1e-6)
        loss.backward()
        assert_gradients(model, golden, NAMES)
        users = torch.arange(int(golden["in.n_users"]))
        assert_near(model.eval().score({"user": users}, model.tables()), golden["out.scores"], 1e-6)
