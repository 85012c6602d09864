import pytest
import torch
import torch.nn.functional as F

from seqmm.data.synthetic import synthetic_corpus
from seqmm.models.collaborative.hccf import HCCF, HCCFConfig
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
    "user.weight": "uEmbeds",
    "item.weight": "iEmbeds",
    "user_hyperedges.weight": "uHyper",
    "item_hyperedges.weight": "iHyper",
}
FILES = golden_files("HCCF", {"in.?_feat": "an id model", "out.params_without_grad": "empty"})


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_matches_the_released_code(file):
    with reading(file) as golden:
        config = HCCFConfig(
            hidden_size=int(golden["cfg.latdim"]),
            num_layers=int(golden["cfg.n_layers"]),
            num_hyperedges=int(golden["cfg.hyper_num"]),
            dropout=1 - golden.number("cfg.keep_rate"),
            temperature=golden.number("cfg.temp"),
            contrast_weight=golden.number("cfg.ssl_reg"),
            regularization=golden.number("cfg.reg"),
        )
        keys = [f"{kind}.{theirs}" for kind in ("param", "grad") for theirs in NAMES.values()]
        arrays = {key: golden[key].T if "Hyper" in key else golden[key] for key in keys}  # theirs are [d, K]
        model = load(HCCF.for_corpus(config, golden_corpus(golden, {})), arrays, NAMES)
        assert_near(model.graph.dense(), golden["graph.norm_adj"], 1e-6)
        losses = model.train()(golden_batch(golden) | {"step_seed": torch.tensor(0)})
        for ours, theirs in {"loss": "loss", "bpr": "loss_bpr", "contrast": "loss_ssl"}.items():
            assert float(losses[ours].detach()) == pytest.approx(golden.number(f"out.{theirs}"), rel=2e-7, abs=1e-6)
        losses["loss"].backward()
        assert_gradients(model, arrays, NAMES)
        users = torch.arange(int(golden["in.n_users"]))
        assert_near(model.eval().score({"user": users}, model.tables()), golden["out.scores"], 1e-6)


def small(**options):
    torch.manual_seed(0)
    config = HCCFConfig(hidden_size=8, num_hyperedges=4, **options)
    return HCCF.for_corpus(config, synthetic_corpus(num_users=30, num_items=20))


def test_layers_of_the_paper():
    model = small(slope=0.5, num_layers=2)
    x = torch.cat([model.user.weight, model.item.weight])
    incidence = model.user.weight @ model.user_hyperedges.weight.T, model.item.weight @ model.item_hyperedges.weight.T
    total = x
    for _ in range(2):
        local = F.leaky_relu(model.graph.dense() @ x, 0.5)
        parts = zip(incidence, (x[:30], x[30:]), strict=True)
        hyper = [F.leaky_relu(h @ F.leaky_relu(h.T @ part, 0.5), 0.5) for h, part in parts]
        x = local + torch.cat(hyper)
        total = total + x
    torch.testing.assert_close(torch.cat(model.eval().encode()), total, rtol=1e-4, atol=1e-6)


def test_a_repeated_row_is_contrasted_once():
    model = small(dropout=0.0)
    batch = {"user": torch.tensor([4, 2]), "positive": torch.tensor([3, 6]), "negative": torch.tensor([1, 1])}
    batch |= {"step_seed": torch.tensor(0)}
    twice = {key: value.repeat(2) if value.ndim else value for key, value in batch.items()}
    torch.testing.assert_close(model(batch)["contrast"], model(twice)["contrast"])


def test_every_layer_and_step_drops_anew_in_training_only():
    model = small(dropout=0.5)
    seed = torch.tensor(7)
    x = torch.cat([model.user.weight, model.item.weight])
    first = model.propagate_local(x, 0, seed)
    assert torch.equal(first, model.propagate_local(x, 0, seed))
    assert not torch.equal(first, model.propagate_local(x, 1, seed))
    assert not torch.equal(first, model.propagate_local(x, 0, torch.tensor(8)))
    nodes = model.views(seed)[0]
    assert torch.equal(nodes, model.views(seed)[0]) and not torch.equal(nodes, model.views()[0])
    batch = {name: torch.arange(4) for name in ("user", "positive", "negative")} | {"step_seed": seed}
    assert torch.equal(model.eval()(batch)["loss"], model(batch | {"step_seed": torch.tensor(8)})["loss"])
