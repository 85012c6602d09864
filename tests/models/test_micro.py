import pytest
import torch

from seqmm.models.collaborative.micro import MICRO, MICROConfig
from tests.models.golden import (
    assert_gradients,
    assert_near,
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
    "project.image.bias": "image_trs.bias",
    "project.text.weight": "text_trs.weight",
    "project.text.bias": "text_trs.bias",
    "attention.inner.weight": "query.0.weight",
    "attention.inner.bias": "query.0.bias",
    "attention.outer.weight": "query.2.weight",
}
LAYERS = {
    f"layers.{ours}.{layer}.{part}": f"{theirs}_Linear_list.{layer}.{part}"
    for ours, theirs in (("sums", "GC"), ("products", "Bi"))
    for layer in (0, 1)
    for part in ("weight", "bias")
}
UNCHECKED = {"out.params_without_grad": "empty"}
FILES = [*golden_files("MICRO", UNCHECKED), *golden_files("MICRO_ngcf", UNCHECKED)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_matches_the_authors_code(file):
    with reading(file) as golden:
        batch = golden_batch(golden)
        config = MICROConfig(
            hidden_size=int(golden["cfg.embedding_size"]),
            cf_model=str(golden["cfg.cf_model"]),
            num_layers=len(golden["cfg.weight_size"]),
            num_item_layers=int(golden["cfg.n_layers"]),
            num_neighbors=int(golden["cfg.knn_k"]),
            frozen_weight=golden.number("cfg.lambda_coeff"),
            temperature=golden.number("cfg.tau"),
            contrast_weight=golden.number("cfg.loss_ratio"),
            # there the squares are divided by the configured batch size
            regularization=golden.number("cfg.reg_weight") * len(batch["user"]) / int(golden["cfg.train_batch_size"]),
        )
        names = NAMES | (LAYERS if config.cf_model == "ngcf" else {})
        model = load(MICRO.for_corpus(config, golden_corpus(golden)), golden, names).train()
        assert_near(model.graph.dense(), golden["graph.norm_adj_rw_self"], 1e-6)
        model.on_stage_start(0, 0, torch.Generator())
        for name, graph in zip(("image", "text"), model.item_graphs(), strict=True):
            assert_near(graph.dense(), golden[f"graph.{name}_adj"], 1e-6)
        losses = model(batch)
        assert float(losses["contrast"].detach()) == pytest.approx(golden.number("out.loss_contrastive"), abs=1e-6)
        assert float(losses["loss"].detach()) == pytest.approx(golden.number("out.loss"), abs=1e-6)
        losses["loss"].backward()
        assert_gradients(model, golden, names)
        users = torch.arange(int(golden["in.n_users"]))
        assert_near(model.eval().score({"user": users}, model.tables()), golden["out.scores"], 1e-6)
