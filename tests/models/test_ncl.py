import pytest
import torch

from seqmm.data.synthetic import synthetic_corpus
from seqmm.models.collaborative.ncl import NCL, NCLConfig
from tests.models.golden import (
    assert_gradients,
    assert_near,
    golden_batch,
    golden_corpus,
    golden_files,
    load,
    reading,
)

NAMES = {"user.weight": "user_embedding.weight", "item.weight": "item_embedding.weight"}
FILES = golden_files("NCL", {"in.?_feat": "an id model", "out.params_without_grad": "empty"})


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_matches_the_released_code(file):
    with reading(file) as golden:
        batch = golden_batch(golden)
        rows = len(batch["user"])  # their contrasts are sums
        config = NCLConfig(
            hidden_size=int(golden["cfg.embedding_size"]),
            num_layers=int(golden["cfg.n_layers"]),
            structure_hops=int(golden["cfg.hyper_layers"]),
            num_clusters=int(golden["cfg.num_clusters"]),
            temperature=golden.number("cfg.ssl_temp"),
            structure_weight=rows * golden.number("cfg.ssl_reg"),
            prototype_weight=rows * golden.number("cfg.proto_reg"),
            item_weight=golden.number("cfg.alpha"),
            regularization=golden.number("cfg.reg_weight"),
        )
        model = load(NCL.for_corpus(config, golden_corpus(golden, {})), golden, NAMES)
        assert_near(model.graph.dense(), golden["graph.norm_adj"], 1e-6)
        for kind in ("user", "item"):
            model.on_state(f"{kind}_centroids", torch.from_numpy(golden[f"rand.{kind}_centroids_normalised"]).double())
            model.on_state(f"{kind}_cluster", torch.from_numpy(golden[f"rand.{kind}_cluster_of"]))
        losses = model(batch)
        parts = {
            "rec": losses["bpr"] + config.regularization * losses["norm"],
            "structure": config.structure_weight * losses["structure"],
            "prototype": config.prototype_weight * losses["prototype"],
        }
        for name, value in parts.items():
            assert float(value.detach()) == pytest.approx(golden.number(f"out.loss_{name}"), abs=1e-6)
        assert float(losses["loss"].detach()) == pytest.approx(golden.number("out.loss"), abs=1e-6)
        losses["loss"].backward()
        assert_gradients(model, golden, NAMES)
        users = torch.arange(int(golden["in.n_users"]))
        assert_near(model.eval().score({"user": users}, model.tables()), golden["out.scores"], 1e-6)


def test_clusters_after_the_warm_up():
    torch.manual_seed(0)
    corpus = synthetic_corpus(num_users=30, num_items=20)
    config = NCLConfig(hidden_size=8, num_clusters=4, warmup_epochs=1, cluster_every=2)
    model = NCL.for_corpus(config, corpus)
    batch = {"user": torch.arange(8), "positive": torch.arange(8), "negative": torch.arange(8, 16)}
    model.on_stage_start(0, 0, torch.Generator().manual_seed(0))
    assert not model.hook_state and "prototype" not in model(batch)
    model.on_stage_start(0, 1, torch.Generator().manual_seed(1))
    first = dict(model.hook_state)
    assert first["user_centroids"].shape == first["item_centroids"].shape == (4, 8)
    assert len(first["user_cluster"]) == 30 and len(first["item_cluster"]) == 20
    torch.testing.assert_close(first["user_centroids"].norm(dim=1), torch.ones(4))
    loss = model(batch)["loss"]
    model.on_stage_start(0, 2, torch.Generator().manual_seed(2))  # every other epoch
    assert all(model.hook_state[name] is tensor for name, tensor in first.items())
    model.on_stage_start(0, 3, torch.Generator().manual_seed(3))
    assert not torch.equal(model.hook_state["user_centroids"], first["user_centroids"])
    again = NCL.for_corpus(config, corpus)
    again.load_state_dict(model.state_dict())
    for name, tensor in first.items():  # what a resumed run does
        again.set_state(name, tensor)
    assert torch.equal(again(batch)["loss"], loss)


def test_more_clusters_than_users_or_items_is_an_error():
    corpus = synthetic_corpus(num_users=30, num_items=20)
    with pytest.raises(ValueError, match="num_clusters is 21.*30 users and 20 items; choose at most 20"):
        NCL.for_corpus(NCLConfig(num_clusters=21), corpus)
    NCL.for_corpus(NCLConfig(num_clusters=21, prototype_weight=0.0), corpus)
