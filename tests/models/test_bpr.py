import numpy as np
import pytest
import torch

from seqmm.models.graph.bpr import BPR, BPRConfig
from tests.models.golden import assert_near, golden_files, load, train_only_corpus

NAMES = {"user.weight": "user_embedding.weight", "item.weight": "item_embedding.weight"}


@pytest.mark.parametrize("file", golden_files("BPR"), ids=lambda file: file.stem)
def test_matches_mmrec(file):
    golden = dict(np.load(file))
    num_users, num_items = int(golden["in.n_users"]), int(golden["in.n_items"])
    corpus = train_only_corpus(golden["in.train_users"], golden["in.train_items"], num_users, num_items)
    config = BPRConfig(hidden_size=int(golden["cfg.embedding_size"]), regularization=float(golden["cfg.reg_weight"]))
    model = load(BPR.for_corpus(config, corpus), golden, NAMES)
    batch = {
        ours: torch.from_numpy(golden[f"batch.{theirs}"])
        for ours, theirs in (("user", "users"), ("positive", "pos"), ("negative", "neg"))
    }
    losses = model(batch)
    assert float(losses["loss"].detach()) == pytest.approx(float(golden["out.loss"]), abs=1e-6)
    losses["loss"].backward()
    for ours, theirs in NAMES.items():
        assert_near(model.get_parameter(ours).grad, golden[f"grad.{theirs}"], 2e-5)
    everyone = {"user": torch.arange(num_users)}
    assert_near(model.score(everyone, model.tables()), golden["out.scores"], 1e-6)


def test_starts_xavier_normal():
    corpus = train_only_corpus(np.arange(400) % 50, np.arange(400) // 8, 3000, 50)
    torch.manual_seed(0)
    model = BPR.for_corpus(BPRConfig(), corpus)
    assert float(model.user.weight.detach().std()) == pytest.approx((2 / (3000 + 64)) ** 0.5, rel=0.02)
    assert float(model.item.weight.detach().std()) == pytest.approx((2 / (50 + 64)) ** 0.5, rel=0.05)
