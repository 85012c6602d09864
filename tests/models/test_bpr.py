import numpy as np
import pytest
import torch

from seqmm.models.collaborative.bpr import BPR, BPRConfig
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

NAMES = {"user.weight": "user_embedding.weight", "item.weight": "item_embedding.weight"}
FILES = golden_files(
    "BPR",
    {
        "in.*_feat": "an id model reads no features",
        "cfg.feat_embed_dim": "of features",
        "cfg.is_multimodal_model": "of features",
        "cfg.train_batch_size": "no loss divides by it",
        "out.params_without_grad": "empty",
    },
)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_matches_mmrec(file):
    with reading(file) as golden:
        config = BPRConfig(
            hidden_size=int(golden["cfg.embedding_size"]), regularization=golden.number("cfg.reg_weight")
        )
        model = load(BPR.for_corpus(config, golden_corpus(golden, {})), golden, NAMES)
        loss = model(golden_batch(golden))["loss"]
        assert float(loss.detach()) == pytest.approx(golden.number("out.loss"), abs=1e-6)
        loss.backward()
        assert_gradients(model, golden, NAMES)
        everyone = {"user": torch.arange(model.config.num_users)}
        assert_near(model.score(everyone, model.tables()), golden["out.scores"], 1e-6)


def test_starts_xavier_normal():
    corpus = train_only_corpus(np.arange(400) % 50, np.arange(400) // 8, 3000, 50)
    torch.manual_seed(0)
    model = BPR.for_corpus(BPRConfig(), corpus)
    assert float(model.user.weight.detach().std()) == pytest.approx((2 / (3000 + 64)) ** 0.5, rel=0.02)
    assert float(model.item.weight.detach().std()) == pytest.approx((2 / (50 + 64)) ** 0.5, rel=0.05)
