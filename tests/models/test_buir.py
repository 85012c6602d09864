import pytest
import torch

from seqmm.data.synthetic import synthetic_corpus
from seqmm.models.checkpoint import from_pretrained
from seqmm.models.collaborative.buir import BUIR, BUIRConfig
from tests.models.golden import assert_gradients, assert_near, golden_corpus, golden_files, load, reading

PREDICTOR = {"predictor.weight": "predictor.weight", "predictor.bias": "predictor.bias"}
ONLINE = {
    "BUIR_ID": {"user.weight": "user_online.weight", "item.weight": "item_online.weight"},
    "BUIR_NB": {
        "user.weight": "online_encoder.embedding_dict.user_emb",
        "item.weight": "online_encoder.embedding_dict.item_emb",
    },
}
UNCHECKED = {"in.?_feat": "an id model", "batch.neg": "no negatives"}
BY_ID = {"cfg.n_layers": "nothing is propagated", "graph.norm_adj": "nothing is propagated"}
FILES = golden_files("BUIR_ID", UNCHECKED | BY_ID) + golden_files("BUIR_NB", UNCHECKED)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_matches_the_released_code(file):
    with reading(file) as golden:
        neighbors = golden.name == "BUIR_NB"
        config = BUIRConfig(
            hidden_size=int(golden["cfg.latent_size"]),
            neighbors=neighbors,
            num_layers=int(golden["cfg.n_layers"]) if neighbors else 0,
            momentum=golden.number("cfg.momentum"),
            edge_dropout=0.0,
        )
        trained = ONLINE[golden.name] | PREDICTOR
        targets = {f"target_{ours}": theirs.replace("online", "target") for ours, theirs in ONLINE[golden.name].items()}
        assert set(golden["out.params_without_grad"]) == set(targets.values())
        model = load(BUIR.for_corpus(config, golden_corpus(golden, {})), golden, trained | targets)
        if neighbors:
            assert_near(model.graph.dense(), golden["graph.norm_adj"], 1e-6)
        batch = {"user": torch.from_numpy(golden["batch.users"]), "positive": torch.from_numpy(golden["batch.pos"])}
        loss = model.train()(batch | {"step_seed": torch.tensor(0)})["loss"]
        assert float(loss.detach()) == pytest.approx(golden.number("out.loss"), abs=1e-6)
        loss.backward()
        assert_gradients(model, golden, trained)
        users = torch.arange(int(golden["in.n_users"]))
        assert_near(model.eval().score({"user": users}, model.tables()), golden["out.scores"], 1e-6)
        model.on_step_end(1)
        for ours, theirs in targets.items():
            assert model.get_parameter(ours).grad is None
            assert_near(model.get_parameter(ours), golden[f"out.after_ema.{theirs}"], 1e-6)


def test_targets_start_as_copies_and_come_back(tmp_path):
    corpus = synthetic_corpus(num_users=30, num_items=20)
    model = BUIR.for_corpus(BUIRConfig(hidden_size=8, momentum=0.5), corpus)
    assert torch.equal(model.target_user.weight, model.user.weight)
    assert torch.equal(model.target_item.weight, model.item.weight)
    with torch.no_grad():
        model.user.weight += 1
    model.on_step_end(1)
    torch.testing.assert_close(model.target_user.weight.data, model.user.weight.data - 0.5)
    model.save_pretrained(tmp_path)
    loaded = from_pretrained(str(tmp_path)).bind(corpus)
    assert torch.equal(loaded.target_user.weight, model.target_user.weight)
    assert not loaded.target_user.weight.requires_grad


def test_each_encoder_drops_its_own_edges_in_training_only():
    model = BUIR.for_corpus(BUIRConfig(hidden_size=8, edge_dropout=0.9), synthetic_corpus(num_users=30, num_items=20))
    seed = torch.tensor(7)
    online = model.nodes(model.user, model.item, "online", seed)[0]
    assert torch.equal(online, model.nodes(model.user, model.item, "online", seed)[0])
    assert not torch.equal(online, model.nodes(model.user, model.item, "target", seed)[0])
    assert not torch.equal(online, model.nodes(model.user, model.item, "online", torch.tensor(8))[0])
    model.eval()
    whole = model.nodes(model.user, model.item, "online")[0]
    assert torch.equal(model.nodes(model.user, model.item, "online", seed)[0], whole)
