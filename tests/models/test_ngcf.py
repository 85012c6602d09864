import pytest
import torch
import torch.nn.functional as F

from seqmm.data.synthetic import synthetic_corpus
from seqmm.models.collaborative.ngcf import NGCF, NGCFConfig
from tests.models.golden import (
    assert_gradients,
    assert_near,
    golden_batch,
    golden_corpus,
    golden_files,
    load,
    reading,
)

NAMES = {"user.weight": "user_embedding.weight", "item.weight": "item_id_embedding.weight"} | {
    f"layers.{ours}.{layer}.{part}": f"{theirs}_Linear_list.{layer}.{part}"
    for ours, theirs in (("sums", "GC"), ("products", "Bi"))
    for layer in (0, 1)
    for part in ("weight", "bias")
}
FILES = golden_files(
    "NGCF",
    {"in.?_feat": "the model reads no content", "out.params_without_grad": "empty"},
)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_matches_the_class_in_micros_repository(file):
    with reading(file) as golden:
        batch = golden_batch(golden) | {"step_seed": torch.tensor(0)}
        config = NGCFConfig(
            hidden_size=int(golden["cfg.embedding_size"]),
            layer_sizes=tuple(golden["cfg.weight_size"].tolist()),
            slope=0.01,
            message_dropout=golden.number("cfg.mess_dropout"),
            # there the squares are divided by the configured batch size
            regularization=golden.number("cfg.reg_weight") * len(batch["user"]) / int(golden["cfg.train_batch_size"]),
        )
        model = load(NGCF.for_corpus(config, golden_corpus(golden, {})), golden, NAMES)
        assert_near(model.graph.dense(), golden["graph.norm_adj_rw_self"], 1e-6)
        loss = model(batch)["loss"]
        assert float(loss.detach()) == pytest.approx(golden.number("out.loss"), abs=1e-6)
        loss.backward()
        assert_gradients(model, golden, NAMES)
        users = torch.arange(int(golden["in.n_users"]))
        assert_near(model.eval().score({"user": users}, model.tables()), golden["out.scores"], 1e-6)


@torch.no_grad()
def test_joint_activation_is_equation_7():
    model = NGCF.for_corpus(
        NGCFConfig(hidden_size=4, layer_sizes=(3,), activation="joint"), synthetic_corpus(num_users=9, num_items=7)
    ).eval()
    x = torch.cat([model.user.weight, model.item.weight])
    graph = model.graph.dense()
    for node in range(16):
        side = sum(graph[node, other] * x[other] for other in range(16))
        summed = model.layers.sums[0].weight @ side + model.layers.sums[0].bias
        summed = summed + model.layers.products[0].weight @ (x[node] * side)
        expected = torch.cat([x[node], F.normalize(F.leaky_relu(summed, 0.2), dim=0)])
        torch.testing.assert_close(torch.cat(model.encode())[node], expected)


def test_dropout_is_a_function_of_the_step_and_only_trains():
    config = NGCFConfig(hidden_size=4, layer_sizes=(4, 4), message_dropout=0.3, node_dropout=0.3)
    model = NGCF.for_corpus(config, synthetic_corpus(num_users=30, num_items=20))
    batch = {name: torch.arange(8) for name in ("user", "positive")} | {"negative": torch.arange(8, 16)}

    def loss(seed):
        return float(model(batch | {"step_seed": torch.tensor(seed)})["loss"].detach())

    assert loss(1) == loss(1) != loss(2)
    model.eval()
    assert loss(1) == loss(2)
