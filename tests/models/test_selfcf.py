import pytest
import torch
import torch.nn.functional as F

from seqmm.data.synthetic import synthetic_corpus
from seqmm.models.checkpoint import from_pretrained
from seqmm.models.collaborative import selfcf
from seqmm.models.collaborative.selfcf import SelfCF, SelfCFConfig
from tests.models.golden import (
    assert_gradients,
    assert_near,
    golden_corpus,
    golden_files,
    load,
    reading,
)

NAMES = {
    "user.weight": "online_encoder.embedding_dict.user_emb",
    "item.weight": "online_encoder.embedding_dict.item_emb",
    "predictor.weight": "predictor.weight",
    "predictor.bias": "predictor.bias",
}
FILES = golden_files(
    "SELFCFED_LGN",
    {
        "in.?_feat": "an id model",
        "cfg.feat_embed_dim": "not used by the model",
        "cfg.train_batch_size": "no loss divides by it",
        "batch.neg": "no negatives",
        "out.params_without_grad": "empty",
    },
)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_matches_mmrec(file, monkeypatch):
    with reading(file) as golden:
        batch = {"user": torch.from_numpy(golden["batch.users"]), "positive": torch.from_numpy(golden["batch.pos"])}
        batch |= {"step_seed": torch.tensor(0), "row_seed": torch.arange(len(batch["user"]))}
        config = SelfCFConfig(
            hidden_size=int(golden["cfg.embedding_size"]),
            num_layers=int(golden["cfg.n_layers"]),
            dropout=golden.number("cfg.dropout"),
            regularization=golden.number("cfg.reg_weight") * len(batch["user"]),  # theirs is a sum
            edge_dropout=0.0,
        )
        model = load(SelfCF.for_corpus(config, golden_corpus(golden, {})), golden, NAMES)
        assert_near(model.graph.dense(), golden["graph.norm_adj"], 1e-6)
        masks = {"user": golden["rand.dropout_keep_mask_0"], "item": golden["rand.dropout_keep_mask_1"]}
        monkeypatch.setattr(
            selfcf, "dropout_rows", lambda x, p, seed, stream: x * torch.from_numpy(masks[stream]) / (1 - p)
        )
        loss = model.train()(batch)["loss"]
        assert float(loss.detach()) - 1 == pytest.approx(golden.number("out.loss"), abs=1e-6)  # 1 - cos, theirs -cos
        loss.backward()
        assert_gradients(model, golden, NAMES)
        monkeypatch.setattr(selfcf, "dropout_rows", lambda x, p, seed, stream: x)
        assert float(model(batch)["loss"].detach()) - 1 == pytest.approx(golden.number("out.loss_dropout0"), abs=1e-6)
        users = torch.arange(int(golden["in.n_users"]))
        assert_near(model.eval().score({"user": users}, model.tables()), golden["out.scores"], 1e-6)


def small(**options):
    torch.manual_seed(0)
    config = SelfCFConfig(hidden_size=8, **options)
    model = SelfCF.for_corpus(config, synthetic_corpus(num_users=30, num_items=20))
    batch = {"user": torch.tensor([0, 1, 2, 1]), "positive": torch.tensor([3, 3, 5, 6]), "row_seed": torch.arange(4)}
    return model, batch | {"step_seed": torch.tensor(7)}


def cosine(a, b):
    return F.cosine_similarity(a, b).mean()


def test_the_history_is_the_row_of_the_last_step():
    model, batch = small(perturbation="history", momentum=0.3, edge_dropout=0.0, regularization=0.0)
    assert 0.7 < float(model.user_history.weight.std()) < 1.3
    users, items = (half.detach() for half in model.split(torch.cat(model.encode())))
    users, items = users[:, 8:], items[:, :8]  # without the predictor's half
    user, item = users[batch["user"]], items[batch["positive"]]
    before = model.user_history.weight.clone(), model.item_history.weight.clone()
    targets = 0.3 * before[0][batch["user"]] + 0.7 * user, 0.3 * before[1][batch["positive"]] + 0.7 * item
    agreement = cosine(model.predictor(user), targets[1]) + cosine(model.predictor(item), targets[0])
    for _ in range(2):  # a forward alone writes nothing
        assert float(model(batch)["loss"].detach()) == pytest.approx(1 - 0.5 * float(agreement.detach()), abs=1e-6)
    model.on_step_end(1)
    expected = before[0].clone(), before[1].clone()
    for row in range(4):
        expected[0][batch["user"][row]], expected[1][batch["positive"][row]] = user[row], item[row]
    torch.testing.assert_close(model.user_history.weight.data, expected[0])
    torch.testing.assert_close(model.item_history.weight.data, expected[1])
    model.eval()(batch)
    assert not model.unwritten


def test_the_history_comes_back(tmp_path):
    model, batch = small(perturbation="history")
    model(batch)
    model.on_step_end(1)
    model.save_pretrained(tmp_path)
    loaded = from_pretrained(str(tmp_path)).bind(synthetic_corpus(num_users=30, num_items=20))
    assert torch.equal(loaded.user_history.weight, model.user_history.weight)
    assert not loaded.user_history.weight.requires_grad


def test_edge_pruning_propagates_once_more():
    model, batch = small(perturbation="edges", dropout=0.0, edge_dropout=0.0, regularization=0.0)
    users, items = (half.detach() for half in model.encode())
    nodes = torch.cat([users[:, 8:], items[:, :8]])
    target_users, target_items = model.split(model.graph.dense() @ nodes)
    user, item = users[batch["user"], 8:], items[batch["positive"], :8]
    agreement = cosine(model.predictor(user), target_items[batch["positive"]])
    agreement = agreement + cosine(model.predictor(item), target_users[batch["user"]])
    assert float(model(batch)["loss"].detach()) == pytest.approx(1 - 0.5 * float(agreement.detach()), abs=1e-6)
    model.config.dropout = 0.5
    pruned = float(model(batch)["loss"].detach())
    assert pruned != pytest.approx(1 - 0.5 * float(agreement.detach()), abs=1e-4)
    assert float(model(batch | {"step_seed": torch.tensor(8)})["loss"].detach()) != pruned


def test_the_encoder_drops_edges_in_training_only():
    model, batch = small(dropout=0.0)
    other = batch | {"step_seed": torch.tensor(8)}
    assert float(model.train()(batch)["loss"].detach()) != float(model(other)["loss"].detach())
    assert float(model.eval()(batch)["loss"].detach()) == float(model(other)["loss"].detach())
