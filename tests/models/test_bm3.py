from dataclasses import replace

import pytest
import torch

from seqmm.data.synthetic import synthetic_corpus
from seqmm.models.collaborative import bm3
from seqmm.models.collaborative.bm3 import BM3, BM3Config
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
    "predict.weight": "predictor.weight",
    "predict.bias": "predictor.bias",
}
for modality in ("image", "text"):
    NAMES[f"trained_features.{modality}"] = f"{modality}_embedding.weight"
    for part in ("weight", "bias"):
        NAMES[f"project.{modality}.{part}"] = f"{modality}_trs.{part}"
MASKS = ("user", "item", "content text", "content image")  # in the order MMRec draws them
FILES = golden_files(
    "BM3",
    {
        "cfg.feat_embed_dim": "one width: embedding_size",
        "cfg.train_batch_size": "no loss divides by it",
        "out.params_without_grad": "empty",
    },
)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_matches_mmrec(file, monkeypatch):
    with reading(file) as golden:
        config = BM3Config(
            hidden_size=int(golden["cfg.embedding_size"]),
            num_layers=int(golden["cfg.n_layers"]),
            dropout=golden.number("cfg.dropout"),
            modal_weight=golden.number("cfg.cl_weight"),
            regularization=golden.number("cfg.reg_weight"),
        )
        model = load(BM3.for_corpus(config, golden_corpus(golden)), golden, NAMES)
        assert_near(model.graph.dense(), golden["graph.norm_adj"], 1e-6)
        batch = golden_batch(golden) | {"step_seed": torch.tensor(0)}

        def dropout_rows(x, p, row_seed, stream):
            keep = torch.from_numpy(golden[f"rand.dropout_keep_mask_{MASKS.index(stream)}"])  # of the full table
            return x * keep[batch["user" if stream == "user" else "positive"]] / (1 - p)

        with monkeypatch.context() as patch:
            patch.setattr(bm3, "dropout_rows", dropout_rows)
            loss = model(batch)["loss"]
        assert float(loss.detach()) == pytest.approx(golden.number("out.loss"), abs=1e-6)
        loss.backward()
        assert_gradients(model, golden, NAMES)
        users = torch.arange(int(golden["in.n_users"]))
        assert_near(model.eval().score({"user": users}, model.tables()), golden["out.scores"], 1e-6)
        model.config.dropout = 0.0
        assert float(model(batch)["loss"].detach()) == pytest.approx(golden.number("out.loss_dropout0"), abs=1e-6)


def test_a_user_has_one_mask_a_step(monkeypatch):
    """As if the full table had been dropped: rows of one user share their mask, another step draws another."""
    corpus = synthetic_corpus(num_users=30, num_items=20)
    model = BM3.for_corpus(BM3Config(hidden_size=8), replace(corpus, features={}))
    seen = {}

    def dropout_rows(x, p, row_seed, stream):
        seen[stream] = original(torch.ones_like(x), p, row_seed, stream)
        return x * seen[stream]

    original = bm3.dropout_rows
    monkeypatch.setattr(bm3, "dropout_rows", dropout_rows)
    batch = {"user": torch.tensor([3, 5, 3]), "positive": torch.tensor([1, 2, 4]), "row_seed": torch.arange(3)}
    masks = []
    for step in (0, 0, 1):
        model(batch | {"step_seed": torch.tensor(step)})
        masks.append(dict(seen))
    assert set(seen) == {"user", "item"}
    assert torch.equal(masks[0]["user"][0], masks[0]["user"][2])
    assert not torch.equal(masks[0]["user"][0], masks[0]["user"][1])
    assert not torch.equal(masks[0]["item"][0], masks[0]["item"][2])
    assert all(torch.equal(masks[0][name], masks[1][name]) for name in seen)
    assert not torch.equal(masks[0]["user"], masks[2]["user"])
