import pytest
import torch
import torch.nn.functional as F

from seqmm.models.collaborative.slmrec import SLMRec, SLMRecConfig
from tests.cases import CASES
from tests.models.golden import (
    assert_gradients,
    assert_near,
    golden_batch,
    golden_corpus,
    golden_files,
    in_double,
    reading,
)

NAMES = {
    "user.weight": "embedding_user.weight",
    "item.weight": "embedding_item.weight",
    "fused.0.weight": "g_i_iv.weight",
    "fused.0.bias": "g_i_iv.bias",
    "own.0.weight": "g_v_iv.weight",
    "own.1.weight": "g_t_ivat.weight",
}
for part in ("weight", "bias"):
    NAMES[f"project.image.{part}"] = f"v_dense.{part}"
    NAMES[f"project.text.{part}"] = f"t_dense.{part}"
    NAMES[f"read_user.{part}"] = f"embedding_user_after_GCN.{part}"
    NAMES[f"read_item.{part}"] = f"embedding_item_after_GCN.{part}"
FILES = golden_files(
    "SLMRec",
    {
        "cfg.embedding_size": "one width: recdim",
        "cfg.feat_embed_dim": "one width: recdim",
        "cfg.train_batch_size": "no loss divides by it",
        "cfg.init": "parameters are given",
        "cfg.adj_type": "graph.norm_adj is compared",
        "cfg.mm_fusion_mode": "concat, the only one built",
        "param.g_a_iva.*": "of the absent modality: not built",
        "out.params_without_grad": "g_a_iva",
        "param.g_[vt]_iv*.bias": "cancels in the softmax: not built",
        "grad.g_[vt]_iv*.bias": "zero in exact arithmetic",
    },
)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_matches_mmrec(file):
    with reading(file) as golden:
        config = SLMRecConfig(
            hidden_size=int(golden["cfg.recdim"]),
            num_layers=int(golden["cfg.layer_num"]),
            temperature=golden.number("cfg.temp"),
            ssl_task=str(golden["cfg.ssl_task"]).lower(),
            ssl_weight=golden.number("cfg.ssl_alpha"),
            ssl_temperature=golden.number("cfg.ssl_temp"),
        )
        model = SLMRec.for_corpus(config, golden_corpus(golden))
        state = {ours: torch.from_numpy(golden[f"param.{theirs}"]).double() for ours, theirs in NAMES.items()}
        # MMRec's second link is two linear maps in a row, W2 (W1 x + b1) + b2: ours is their product
        w1, b1, w2, b2 = (
            torch.from_numpy(golden[f"param.{name}.{part}"]).double()
            for name in ("g_iv_iva", "g_iva_ivat")
            for part in ("weight", "bias")
        )
        in_double(model).load_state_dict(state | {"fused.1.weight": w2 @ w1, "fused.1.bias": w2 @ b1 + b2})
        assert_near(model.graph.dense(), golden["graph.norm_adj"], 1e-6)
        batch = golden_batch(golden)
        del batch["negative"]
        loss = model.train()(batch)["loss"]
        assert float(loss.detach()) == pytest.approx(golden.number("out.loss"), abs=1e-6)
        loss.backward()
        assert_gradients(model, golden, NAMES)
        d_weight, d_bias = model.fused[1].weight.grad, model.fused[1].bias.grad
        assert_near(w2.T @ d_weight, golden["grad.g_iv_iva.weight"], 2e-5)
        assert_near(w2.T @ d_bias, golden["grad.g_iv_iva.bias"], 2e-5)
        assert_near(d_weight @ w1.T + d_bias[:, None] * b1, golden["grad.g_iva_ivat.weight"], 2e-5)
        assert_near(d_bias, golden["grad.g_iva_ivat.bias"], 2e-5)
        tables = model.eval().tables()
        assert_near(tables["users"], golden["out.user_repr"], 1e-6)
        assert_near(tables["items"], golden["out.item_repr"], 1e-6)
        users = torch.arange(int(golden["in.n_users"]))
        assert_near(model.score({"user": users}, tables).sigmoid(), golden["out.scores"], 1e-6)


@pytest.mark.parametrize("task", ["fd", "fm", "fd+fm"])
def test_views_against_one_table_after_another(task, monkeypatch):
    """No golden covers these tasks: the concatenated propagation against a dense one table by table."""
    case = CASES["slmrec"]
    corpus = case.corpus()
    model = case.model(corpus, ssl_task=task)
    halves = iter(range(100))

    def halve(x, p, step_seed, stream):  # a mask that is easy to repeat: scales by layer and view
        assert p == 0.3
        return x * (0.5 + 0.1 * next(halves))

    monkeypatch.setattr("seqmm.models.collaborative.slmrec.dropout_table", halve)
    monkeypatch.setattr(torch, "randperm", lambda n, generator: torch.tensor([2, 0, 1]))
    batch = {"user": torch.tensor([0, 3, 5]), "positive": torch.tensor([1, 1, 7]), "step_seed": torch.tensor(3)}
    adjacency, read = model.graph.dense(), []
    content = [F.normalize(model.features(name)) for name in model.modalities]
    tables = [model.item.weight, *(model.project[name](x) for name, x in zip(model.modalities, content, strict=True))]
    for view in range(2):
        parts = []
        for place, table in enumerate(tables):
            if "fm" in task and place == (2, 0)[view]:
                table = torch.zeros_like(table)
            layers = [torch.cat([model.user.weight, table])]
            for layer in range(3):
                scale = 0.5 + 0.1 * (3 * view + layer) if "fd" in task else 1.0
                layers.append(scale * adjacency @ layers[-1])
            parts.append(sum(layers) / 4)
        users, items = torch.cat(parts, 1).split([60, 40])
        read.append((model.read_user(users[batch["user"]]), model.read_item(items[batch["positive"]])))
    expected = 0.0
    for a, b in zip(*read, strict=True):
        logits = F.normalize(a) @ F.normalize(b).T / 0.2
        expected += float(F.cross_entropy(logits, torch.arange(3)).detach())
    assert float(model(batch)[task].detach()) == pytest.approx(expected, rel=1e-5)
