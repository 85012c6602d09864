import pytest
import torch

from seqmm.data.synthetic import synthetic_corpus
from seqmm.models.collaborative.sgl import SGL, SGLConfig
from tests.models.golden import (
    assert_gradients,
    assert_near,
    edge_positions,
    golden_batch,
    golden_corpus,
    golden_files,
    load,
    reading,
)

NAMES = {"user.weight": "user_embeddings.weight", "item.weight": "item_embeddings.weight"}
FILES = golden_files("SGL", {"out.params_without_grad": "empty"})


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_matches_the_released_code(file):
    with reading(file) as golden:
        config = SGLConfig(
            hidden_size=int(golden["cfg.embedding_size"]),
            num_layers=int(golden["cfg.n_layers"]),
            temperature=golden.number("cfg.ssl_temp"),
            contrast_weight=golden.number("cfg.ssl_reg"),
            regularization=golden.number("cfg.reg"),
            drop=golden.number("cfg.ssl_ratio"),
        )
        model = load(SGL.for_corpus(config, golden_corpus(golden)), golden, NAMES)
        assert_near(model.graph.dense(), golden["graph.norm_adj"], 1e-6)
        model.on_stage_start(0, 0, torch.Generator().manual_seed(0))
        for view in "12":
            edges = edge_positions(model, golden[f"rand.kept_edges_{view}"])
            assert len(model.hook_state[f"view{view}_0"]) == len(edges)
            model.on_state(f"view{view}_0", edges)
            assert_near(model.augmented[f"view{view}_0"].dense(), golden[f"graph.norm_adj_aug{view}"], 1e-6)
        batch = golden_batch(golden)
        rows = len(batch["user"])  # theirs are sums
        losses = model(batch)
        for ours, theirs in {"bpr": "bpr_sum", "contrast": "nce_sum", "norm": "half_sq_sum"}.items():
            key = f"out.reg_{theirs}" if ours == "norm" else f"out.loss_{theirs}"
            assert float(losses[ours].detach()) == pytest.approx(golden.number(key) / rows, abs=1e-6)
        assert float(losses["loss"].detach()) == pytest.approx(golden.number("out.loss") / rows, abs=1e-6)
        (rows * losses["loss"]).backward()
        assert_gradients(model, golden, NAMES)
        users = torch.arange(int(golden["in.n_users"]))
        assert_near(model.eval().score({"user": users}, model.tables()), golden["out.scores"], 1e-6)


@pytest.mark.parametrize("augmentation", ["edge", "node", "walk"])
def test_graphs_of_an_epoch(augmentation):
    corpus = synthetic_corpus(num_users=30, num_items=20)
    config = SGLConfig(hidden_size=8, augmentation=augmentation, drop=0.2, num_layers=2)
    model = SGL.for_corpus(config, corpus)
    model.on_stage_start(0, 0, torch.Generator().manual_seed(0))
    layers = {"edge": 1, "node": 1, "walk": 2}[augmentation]
    assert len(model.hook_state) == len(model.augmented) == 2 * layers
    kept = list(model.hook_state.values())
    assert all(not torch.equal(one, other) for number, one in enumerate(kept) for other in kept[:number])
    for graph in model.augmented.values():
        if augmentation == "node":
            alive = graph.degrees()[0] > 0
            assert alive[:30].sum() <= 24 and alive[30:].sum() <= 16
        else:
            assert graph.num_edges == int(0.8 * model.graph.num_edges)
    again = SGL.for_corpus(config, corpus)
    again.load_state_dict(model.state_dict())
    for name, tensor in model.hook_state.items():  # what a resumed run does
        again.set_state(name, tensor)
    batch = {"user": torch.arange(8), "positive": torch.arange(8), "negative": torch.arange(8, 16)}
    assert torch.equal(again(batch)["loss"], model(batch)["loss"])


def test_a_view_is_the_mean_of_its_layers():
    model = SGL.for_corpus(
        SGLConfig(hidden_size=8, augmentation="walk", drop=0.3, num_layers=2), synthetic_corpus(num_users=30)
    )
    model.on_stage_start(0, 0, torch.Generator().manual_seed(0))
    layer0 = model.ids()
    first = model.augmented["view1_0"].dense() @ layer0
    second = model.augmented["view1_1"].dense() @ first
    view = torch.cat(model.encode_view(model.view_names[0]))
    torch.testing.assert_close(view, (layer0 + first + second) / 3, rtol=1e-5, atol=1e-6)
