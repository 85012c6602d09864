from collections import ChainMap

import numpy as np
import pytest
import torch

from seqmm.models.collaborative.dualgnn import DualGNN, DualGNNConfig
from tests.cases import CASES
from tests.models.golden import (
    assert_gradients,
    assert_near,
    golden_batch,
    golden_corpus,
    golden_files,
    load,
    reading,
    set_neighbours,
)

NAMES = {
    f"encoders.{ours}.{part}": f"{theirs}_gcn.{their_part}"
    for ours, theirs in (("image", "v"), ("text", "t"))
    for part, their_part in (
        ("preference.weight", "preference"),
        ("project.0.weight", "MLP.weight"),
        ("project.0.bias", "MLP.bias"),
        ("project.2.weight", "MLP_1.weight"),
        ("project.2.bias", "MLP_1.bias"),
    )
}
FILES = golden_files(
    "DualGNN",
    {
        "cfg.embedding_size": "the released code hard-codes 64",
        "cfg.feat_embed_dim": "the released code hard-codes 64",
        "cfg.train_batch_size": "no loss divides by it",
        "cfg.aggr_mode": "add, the only one",
        "param.MLP_*": "used nowhere: not built",
        "grad.weight_i": "penalised and used nowhere: not built, the loss gets its penalty in the test",
        "out.params_without_grad": "the MLP_* above",
    },
)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_matches_mmrec(file):
    with reading(file) as golden:
        strength = golden.number("cfg.reg_weight")
        config = DualGNNConfig(regularization=strength)
        a = golden["param.weight_u"][..., 0]  # [U, 2]
        # MMRec's user is a_0 (v + t) + a_1 t: ours with the weights (a_0, a_0 + a_1)
        ours = ChainMap({"param.weight": a.cumsum(1)}, golden)
        model = load(DualGNN.for_corpus(config, golden_corpus(golden)), ours, NAMES | {"weight.weight": "weight"})
        set_neighbours(model, golden)
        batch = golden_batch(golden)
        losses = model.train()(batch)
        squares = np.square(a).mean() - np.square(a.cumsum(1)).mean() + np.square(golden["param.weight_i"]).mean()
        assert float(losses["loss"].detach()) + strength * squares == pytest.approx(golden.number("out.loss"), abs=1e-6)

        (losses["loss"] - strength * model.weight.weight.square().mean()).backward()
        d_first, d_second = np.split(golden["grad.weight_u"][..., 0] - 2 * strength * a / a.size, 2, axis=1)
        theirs = {"grad.weight": np.concatenate([d_first - d_second, d_second], 1)}  # by the chain rule
        theirs |= {f"grad.{m}_gcn.preference": golden[f"grad.{m}_preference"] for m in "vt"}
        assert_gradients(model, ChainMap(theirs, golden), NAMES | {"weight.weight": "weight"})

        users, items = model.encode()
        assert_near(torch.cat([users, items]), golden["out.repr_all_nodes"], 1e-6)
        everyone = {"user": torch.arange(model.config.num_users)}
        assert_near(model.score(everyone, model.tables()), golden["out.scores"], 1e-6)


def test_repeats_are_drawn_for_training_only():
    case = CASES["dualgnn-repeat"]
    corpus = case.corpus()
    model = case.model(corpus)
    counts = torch.bincount(model.shared_items.edge_index[0], minlength=60)
    assert counts.min() < model.config.num_user_neighbors
    batch = {"user": torch.arange(60)}
    with torch.no_grad():
        before = model.eval().score(batch, model.tables())
        means = torch.zeros(60, 60)
        for epoch in range(200):
            model.on_stage_start(0, epoch, torch.Generator().manual_seed(epoch))
            means += model.train().current_user_graph().dense() / 200
        assert torch.equal(model.eval().score(batch, model.tables()), before)
        assert not torch.equal(model.train().score(batch, model.tables()), before)
    assert torch.allclose(means, model.user_graph.dense(), atol=0.08)


def test_weights_start_as_a_softmax():
    model = CASES["dualgnn"].model(CASES["dualgnn"].corpus())
    assert torch.allclose(model.weight.weight.sum(1), torch.ones(60)) and model.weight.weight.std() > 0.01
