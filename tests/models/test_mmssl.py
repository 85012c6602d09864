import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seqmm.arguments import TrainArguments
from seqmm.evaluation.evaluator import Evaluator
from seqmm.graphs.matrix import Graph
from seqmm.models.checkpoint import from_pretrained
from seqmm.models.collaborative import mmssl
from seqmm.models.collaborative.mmssl import MMSSL, CrossModalAttention, MMSSLConfig, both_ways
from seqmm.training.callbacks import Callback
from seqmm.training.trainer import Trainer
from tests.cases import CASES
from tests.models.golden import Golden, assert_gradients, assert_near, golden_files, reading, train_only_corpus

NAMES = {
    "user.weight": "user_id_embedding.weight",
    "item.weight": "item_id_embedding.weight",
    "project.image.weight": "image_trans.weight",
    "project.image.bias": "image_trans.bias",
    "project.text.weight": "text_trans.weight",
    "project.text.bias": "text_trans.bias",
}
CRITIC = {
    "critic.linear.0.weight": "net.0.weight",
    "critic.linear.0.bias": "net.0.bias",
    "critic.norm.0.weight": "net.2.weight",
    "critic.norm.0.bias": "net.2.bias",
    "critic.linear.1.weight": "net.4.weight",
    "critic.linear.1.bias": "net.4.bias",
    "critic.norm.1.weight": "net.6.weight",
    "critic.norm.1.bias": "net.6.bias",
    "critic.outer.weight": "net.8.weight",
    "critic.outer.bias": "net.8.bias",
}
CANCELS = ("net.0.bias", "net.2.bias", "net.4.bias")  # affine maps followed by normalisation over the batch
OFFICIAL = {
    "cross_attention": False,
    "softmax_last_layer": True,
    "mask_observed": True,
    "gumbel_scale": 1e-5 / 0.005,  # the released code divides the noise alone
    "gumbel_temperature": 1.0,
    "prediction_weight": 100.0,
    "critic_norm": "batch",
    "critic_slope": 1.0,
    "critic_output": "sigmoid",
    "critic_dropout": (0.0, 0.0),
    "feature_dropout": 0.0,
    "adversarial_weight": 0.5,
}
FILES = golden_files(
    "mmssl",
    {
        "eval.*": "tests/evaluation/test_metrics.py",
        "valid": "no part of training",
        "test": "tests/evaluation/test_metrics.py",
        "param.common_trans.*": "created, never used",
        "param.batch_norm.*": "created, never used",
        "param.weight_dict.w_v": "created, never used",
        "param.weight_dict.w_k": "the released attention overwrites what it gives",
        "param.weight_dict.w_self_attention_item": "created, never used",
        "param.weight_dict.w_self_attention_user": "created, never used",
        "gradG.weight_dict.w_q": "zero in exact arithmetic: the softmax it enters sums to 1",
        **{f"gradD.{name}": "zero in exact arithmetic" for name in CANCELS},
    },
)


class Renamed(dict):
    """``grad.*`` of one of the two optimisers, for :func:`assert_gradients`."""

    def __init__(self, golden: Golden, prefix: str):
        self.golden, self.prefix = golden, prefix

    def __getitem__(self, key: str) -> np.ndarray:
        return self.golden[key.replace("grad.", self.prefix, 1)]


def load_official(golden: Golden) -> MMSSL:
    features = {"image": golden["v_feat"], "text": golden["t_feat"]}
    sizes = int(golden["n_users"]), int(golden["n_items"])
    corpus = train_only_corpus(golden["train_u"], golden["train_i"], *sizes, features)
    model = MMSSL.for_corpus(MMSSLConfig(hidden_size=16, **OFFICIAL), corpus)
    state = {ours: torch.from_numpy(golden["param." + theirs]) for ours, theirs in NAMES.items()}
    state |= {ours: torch.from_numpy(golden["paramD." + theirs]) for ours, theirs in CRITIC.items()}
    # four heads that each return the vector itself, times a stack of four matrices: the sum of the four
    state["attention.weight"] = (
        torch.from_numpy(golden["param.weight_dict.w_self_attention_cat"]).view(4, 16, 16).sum(0).T
    )
    model.load_state_dict(state | {"learned": model.learned})
    model.double()
    model.raw_features = lambda name, device=None: torch.from_numpy(features[name]).double()
    for name in features:  # given ones: not k items a user
        user, item = torch.from_numpy(golden[f"modality_graph_{name}"]).nonzero(as_tuple=True)
        model.modality_graphs[name] = both_ways(Graph(torch.stack([user, item]), None, sizes))
    return model


def official_batch(golden: Golden) -> dict[str, torch.Tensor]:
    names = {"user": "batch_users", "positive": "batch_pos", "negative": "batch_neg"}
    batch = {ours: torch.from_numpy(golden[theirs]) for ours, theirs in names.items()}
    return batch | {"row_seed": torch.arange(len(batch["user"])), "step_seed": torch.tensor(0)}


def degenerate_attention(e: list[torch.Tensor], golden: Golden, heads: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """The released attention as it is run: keys are queries read again in another order, values follow the query."""
    x = torch.stack(e)  # [M, n, d]
    count, nodes, width = x.shape
    query = x @ torch.from_numpy(golden["param.weight_dict.w_q"]).double()
    query = query.reshape(count, nodes, heads, width // heads).permute(2, 0, 1, 3)  # [H, M, n, d/H]
    key = query.reshape(count, nodes, heads, width // heads).permute(2, 0, 1, 3)
    logits = (query.unsqueeze(2) * key.unsqueeze(1)).sum(-1, keepdim=True) / math.sqrt(width / heads)
    weight = logits.softmax(2)  # [H, M, M, n, 1]
    attended = (weight * x[None, :, None]).sum(2)  # [H, M, n, d]: V of the query's modality
    z = torch.cat(list(attended), -1) @ torch.from_numpy(golden["param.weight_dict.w_self_attention_cat"]).double()
    return weight, z


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_matches_the_released_code(file):
    with reading(file) as golden:
        model = load_official(golden)
        batch = official_batch(golden)
        assert_near(model.to_users.dense(), golden["R_user_rownorm"], 1e-6)
        assert_near(model.to_items.dense(), golden["R_item_rownorm"], 1e-6)

        views = model.views()
        assert_near(views.users, golden["fwd.user_final"], 1e-5)
        assert_near(views.items, golden["fwd.item_final"], 1e-5)
        assert_near(model.score({"user": torch.arange(30)}, dict(zip(("users", "items"), views[:2], strict=True))),
                    golden["scores_all"], 1e-5)  # fmt: skip
        ids = {"user": [], "item": []}
        for name, (to_users, to_items) in model.modality_graphs.items():
            for side, content in zip(("user", "item"), views.content[name], strict=True):
                assert_near(content, golden[f"fwd.{name}_{side}_feat"], 1e-5)
            assert_near(views.gathered[name], golden[f"fwd.{name}_user_id"], 1e-5)
            ids["user"].append(mmssl.propagate(to_users, model.item.weight))
            ids["item"].append(mmssl.propagate(to_items, model.user.weight))
            assert_near(ids["item"][-1], golden[f"fwd.{name}_item_id"], 1e-5)
        for side, vectors in ids.items():
            weight, z = degenerate_attention(vectors, golden)
            assert_near(weight, golden[f"fwd.attn_{side}_weights"], 1e-5)
            assert_near(z, golden[f"fwd.attn_{side}_Z"], 1e-5)
            assert_near(model.attention(vectors), z.mean(0).detach().numpy(), 1e-5)

        with torch.no_grad():
            user = F.embedding(batch["user"], views.users)
            predicted = model.predicted(user, views.items, batch["user"])
            assert_near(predicted, golden["P.id"], 1e-5)
            fake, seed = model.fake(views, batch)
            assert_near(fake, np.concatenate([golden["P.image"], golden["P.text"]]), 1e-5)
            assert_near(fake, golden["D_input.fake"], 1e-5)
            relaxed = model.relaxed(model.observed(batch["user"]), torch.from_numpy(golden["gumbel_uniform"]).double())
            real = F.normalize(relaxed + 100 * predicted, dim=-1)
            assert_near(real.repeat(2, 1), golden["D_input.real"], 1e-5)
            mix = torch.from_numpy(golden["gp_alpha"]).double()
            between = mix * real.repeat(2, 1) + (1 - mix) * fake
            assert_near(between, golden["D_input.interp"], 1e-5)
            for rows, name in ((fake, "fake"), (real.repeat(2, 1), "real"), (between, "interp")):
                assert_near(model.critic(rows, seed, name), golden[f"D_output.{name}"], 1e-3)
        losses = model.critic.losses(fake, real, seed, batch["row_seed"], mix[:, 0], 0.3)
        assert float(0.3 * losses["penalty"].detach()) == pytest.approx(golden.number("loss_gp"), rel=1e-4)
        assert float(losses["loss"].detach()) == pytest.approx(golden.number("loss_D_total"), rel=1e-4)
        losses["loss"].backward()
        compared = {ours: theirs for ours, theirs in CRITIC.items() if theirs not in CANCELS}
        assert_gradients(model, Renamed(golden, "gradD."), compared, tolerance=1e-3)
        (group,) = model.parameter_groups("critic")
        torch.optim.Adam([group]).step()
        for ours, theirs in CRITIC.items():
            after = golden["D_after." + theirs]  # rounding noise of the three decides the sign of their whole step
            if theirs not in CANCELS:
                assert_near(model.get_parameter(ours), after, 1e-5)
            model.get_parameter(ours).data = torch.from_numpy(after).double()

        model.zero_grad()
        fake, seed = model.fake(views, batch)
        assert_near(fake, np.concatenate([golden["P.image_G"], golden["P.text_G"]]), 1e-5)
        assert_near(fake, golden["D_input.fake_G"], 1e-5)
        assert_near(model.critic(fake, seed, "generator"), golden["D_output.fake_G"], 1e-3)
        losses = model(batch)
        for ours, theirs in {
            "bpr": "loss_bpr",
            "contrast_image": "loss_cl_image",
            "contrast_text": "loss_cl_text",
            "adversarial": "loss_G_adv",
            "loss": "loss_G_total",
        }.items():
            assert float(losses[ours].detach()) == pytest.approx(golden.number(theirs), rel=1e-4), ours
        assert float(1e-5 * losses["norm"].detach()) == pytest.approx(golden.number("loss_emb_reg"), rel=1e-4)
        assert float(1e-5 * losses["content_norm"].detach()) == pytest.approx(golden.number("loss_feat_reg"), rel=1e-4)
        losses["loss"].backward()
        assert_gradients(model, Renamed(golden, "gradG."), NAMES, tolerance=1e-3)
        expected = golden["gradG.weight_dict.w_self_attention_cat"].reshape(4, 16, 16)
        for block in expected:
            assert_near(model.attention.weight.grad.T, block, 1e-3)


def test_attention_is_the_papers():
    """``e~_m = || _h sum_m' softmax_m'(q_m . k_m' / sqrt(d_h)) e_m'``, mapped, then the mean over m; node by node."""
    torch.manual_seed(0)
    attention = CrossModalAttention(8, 2)
    vectors = [torch.randn(5, 8) for _ in range(3)]
    found = attention(vectors)
    for node in range(5):
        whole = torch.zeros(8)
        for m in range(3):
            heads = []
            for part in (slice(0, 4), slice(4, 8)):
                query = attention.query(vectors[m][node])[part]
                logits = torch.stack([query @ attention.key(other[node])[part] for other in vectors]) / 2
                heads.append(sum(w * other[node] for w, other in zip(logits.softmax(0), vectors, strict=True)))
            whole = whole + attention.outer(torch.cat(heads)) / 3
        torch.testing.assert_close(found[node], whole)


def case(name: str, **options) -> tuple[MMSSL, dict[str, torch.Tensor]]:
    corpus = CASES[name].corpus()
    model = CASES[name].model(corpus, **options)
    collator = model.stages[0].collator(corpus, 0)
    return model, collator(0, collator.batches(0, 24)[0]) | {"step_seed": torch.tensor(11)}


@pytest.mark.parametrize("masked", [False, True])
def test_modality_graphs_are_every_users_best(masked, monkeypatch):
    monkeypatch.setattr(mmssl, "BLOCK_ELEMENTS", 7 * 40)  # blocks of seven users
    model, _ = case("mmssl", mask_observed=masked)
    model.requires_grad_(False)
    observed = {(int(u), int(i)) for u, i in model.to_users.edge_index.T}
    before = model.modality_graphs["image_vector"]
    assert before[0] is model.to_users, "R until something is learned"
    model.on_stage_start(0, 0, torch.Generator())
    content = model.content_views()
    degree = torch.zeros(2, 40)
    for number, (name, (users, items)) in enumerate(content.items()):
        to_users, to_items = model.modality_graphs[name]
        for user in range(60):
            score = []
            for item in range(40):
                value = float(users[user] @ items[item])
                if not masked:
                    value /= float(users[user].norm() * items[item].norm())
                score.append(0.0 if masked and (user, item) in observed else value)
            best = sorted(range(40), key=score.__getitem__)[-4:]
            row = to_users.dense()[user]
            assert row.nonzero().flatten().tolist() == sorted(best)
            torch.testing.assert_close(row[best], torch.full((4,), 0.5))  # 1 / sqrt(4)
            degree[number, best] += 1
        expected = torch.where(degree[number] > 0, degree[number] ** -0.5, 0.0)[:, None] * (to_users.dense().T > 0)
        torch.testing.assert_close(to_items.dense(), expected)


def test_modality_graphs_come_back_from_a_checkpoint_and_with_the_best_weights(tmp_path):
    corpus = CASES["mmssl"].corpus()
    model = CASES["mmssl"].model(corpus)
    evaluator = Evaluator(corpus, "validation", ks=(5,), metrics=("ndcg",))
    args = TrainArguments(epochs=3, batch_size=64, learning_rate=0.05, seed=1)
    graphs = {}

    class Graphs(Callback):
        def on_evaluate(self, trainer, metrics):
            graphs[trainer.state.epoch] = model.learned.clone()

    chosen = {"evaluator": evaluator, "monitor": "ndcg@5", "output_dir": tmp_path / "run"}
    trainer = Trainer(model, corpus, args, callbacks=[Graphs()], **chosen)
    best = trainer.train().best
    assert not torch.equal(graphs[1], graphs[3])
    model.eval()
    again = evaluator(trainer.accelerator, model)
    assert again["ndcg@5"] == best and torch.equal(model.learned, graphs[trainer.state.best_epoch])
    loaded = from_pretrained(str(tmp_path / "run")).bind(corpus)
    assert (loaded.learned >= 0).all() and loaded.modality_graphs["text_vector"][0].num_edges == 60 * 4
    assert evaluator(trainer.accelerator, loaded) == again


@pytest.mark.parametrize("masked", [False, True])
def test_predicted_rows(masked):
    model, batch = case("mmssl-critic-dim", mask_observed=masked)
    torch.manual_seed(0)
    users, items = torch.randn(24, 16), torch.randn(40, 16)
    rows = model.predicted(users, items, batch["user"], projected=False)
    observed = model.observed(batch["user"])
    for row, user in enumerate(batch["user"].tolist()):
        own = model.to_users.edge_index[1][model.to_users.edge_index[0] == user].tolist()
        assert observed[row].nonzero().flatten().tolist() == sorted(own)
        expected = torch.stack([users[row] @ i if masked else F.cosine_similarity(users[row], i, 0) for i in items])
        if masked:
            expected[own] = 0.0
        torch.testing.assert_close(rows[row], expected / expected.norm())
    projection = model.projection.on(rows.device)
    torch.testing.assert_close(model.predicted(users, items, batch["user"]), rows @ projection, rtol=1e-4, atol=1e-5)
    assert torch.equal(projection, case("mmssl-critic-dim")[0].projection.on(rows.device)), "a function of its size"
    assert (rows @ projection).norm(dim=-1).mean() == pytest.approx(1, abs=0.2)


def test_real_rows():
    model, batch = case("mmssl")
    users, items = model.encode()
    rows = model.real(F.embedding(batch["user"], users), items, batch)
    assert rows.shape == (24, 40) and torch.allclose(rows.norm(dim=-1), torch.ones(24))
    part = {key: value[5:9] for key, value in batch.items() if value.ndim}
    assert torch.equal(model.relaxed(model.observed(part["user"]), torch.full((4, 40), 0.5)).argmax(-1),
                       model.observed(part["user"]).argmax(-1))  # fmt: skip
    torch.testing.assert_close(model.real(F.embedding(part["user"], users), items, part), rows[5:9])
    plain, batch = case("mmssl-without-cl-gt")
    rows = plain.real(F.embedding(batch["user"], users), items, batch)
    torch.testing.assert_close(rows, F.normalize(plain.observed(batch["user"]), dim=-1))


@pytest.mark.parametrize("norm", ["layer", "batch", "none"])
def test_gradient_penalty(norm):
    """Row k of the gradient of the SUM of scores by the whole batch, by finite differences; then its own gradient."""
    model, batch = case("mmssl", critic_norm=norm)
    model.double()
    torch.manual_seed(0)
    fake, real = F.normalize(torch.rand(8, 40).double(), dim=-1), F.normalize(torch.rand(4, 40).double(), dim=-1)
    seed, own, mix = torch.arange(8), torch.arange(4), torch.rand(8).double()

    def losses():
        return model.critic.losses(fake, real, seed, own, mix, 0.3)

    x = torch.stack([mix[k] * real[k % 4] + (1 - mix[k]) * fake[k] for k in range(8)])
    gradient = torch.zeros(8, 40).double()
    with torch.no_grad():
        for k in range(8):
            for j in range(40):
                shift = torch.zeros_like(x)
                shift[k, j] = 1e-6
                up, down = (model.critic(x + sign * shift, seed, "between").sum() for sign in (1, -1))
                gradient[k, j] = (up - down) / 2e-6
    found = losses()
    expected = float((gradient.norm(dim=1) - 1).square().mean())
    assert float(found["penalty"].detach()) == pytest.approx(expected, rel=1e-4)
    difference = model.critic(fake, seed, "fake").mean() - model.critic(real, own, "real").mean()
    torch.testing.assert_close(found["loss"], difference + 0.3 * found["penalty"])
    found["loss"].backward()
    weight = model.critic.linear[0].weight
    direction = torch.randn_like(weight)
    slope = float((weight.grad * direction).sum())
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight.add_(sign * 1e-6 * direction)
        values.append(float(losses()["loss"].detach()))
        with torch.no_grad():
            weight.sub_(sign * 1e-6 * direction)
    assert slope == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-3)


def test_contrast_is_of_gathered_rows_with_final_ones():
    model, batch = case("mmssl", feature_dropout=0.0)
    model.on_stage_start(0, 0, torch.Generator())
    losses, views = model(batch), model.views()
    for name in model.modalities:
        a = F.normalize(views.gathered[name][batch["user"]], dim=-1)
        b = F.normalize(views.users[batch["user"]], dim=-1)
        total = 0.0
        for j in range(24):
            others = [math.exp(float((a[j] @ b[k]).detach()) / 0.5) for k in range(24)]
            inside = [math.exp(float(a[j] @ a[k]) / 0.5) for k in range(24) if k != j]
            total -= math.log(others[j] / (sum(others) + sum(inside))) / 24
        assert float(losses[f"contrast_{name}"].detach()) == pytest.approx(total, rel=1e-5)


def test_ablations_build_nothing_untrained():
    names = {name: {key.split(".")[0] for key, _ in case(name)[0].named_parameters()} for name in (
        "mmssl", "mmssl-without-asl", "mmssl-gae", "mmssl-no-graphs")}  # fmt: skip
    assert "critic" in names["mmssl"] and "attention" in names["mmssl"]
    assert "critic" not in names["mmssl-gae"] | names["mmssl-without-asl"]
    assert "attention" not in names["mmssl-no-graphs"]
    parts = {
        name: set(case(name)[0](case(name)[1])) for name in ("mmssl-gae", "mmssl-without-cl-gt", "mmssl-no-graphs")
    }
    assert "edges_text_vector" in parts["mmssl-gae"] and "adversarial" not in parts["mmssl-gae"]
    assert not any(part.startswith("contrast") for part in parts["mmssl-without-cl-gt"] | parts["mmssl-no-graphs"])


def test_likelihood_of_edges():
    model, batch = case("mmssl-gae", feature_dropout=0.0)
    losses, content = model(batch), model.content_views()
    for name, (users, items) in content.items():
        user, positive, negative = (batch[key] for key in ("user", "positive", "negative"))
        hit = [float(users[u] @ items[i]) for u, i in zip(user, positive, strict=True)]
        miss = [float(users[u] @ items[i]) for u, i in zip(user, negative, strict=True)]
        expected = -sum(
            math.log(1 / (1 + math.exp(-h))) + math.log(1 / (1 + math.exp(m))) for h, m in zip(hit, miss, strict=True)
        )
        assert float(losses[f"edges_{name}"].detach()) == pytest.approx(expected / 48, rel=1e-5)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="multiple of num_heads 3"):
        case("mmssl", num_heads=3)


def test_more_learned_neighbours_than_items_is_an_error():
    case = CASES["mmssl"]
    with pytest.raises(ValueError, match="model.num_neighbors is 41, but the corpus has 40 items; choose 1 to 40"):
        case.model(case.corpus(), num_neighbors=41)
    assert case.model(case.corpus(), num_neighbors=41, modality_graphs="observed").critic is not None
