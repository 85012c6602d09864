"""MSM4SR against the official code's numbers, and its pieces against naive loops."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seqmm.data.corpus import Corpus
from seqmm.data.feature_sets import Features
from seqmm.data.interactions import Interactions
from seqmm.data.synthetic import synthetic_corpus
from seqmm.models.checkpoint import start_from
from seqmm.models.sequential.msm4sr import (
    MSM4SRConfig,
    MSM4SRForPretraining,
    MSM4SRForRecommendation,
    cross_modal,
    drop_items,
    look_up,
    mix,
    next_item,
    related,
)
from seqmm.nn.features import FeatureTable
from seqmm.nn.pooling import AttentionPooling
from seqmm.random import torch_uniform
from tests.models.golden import golden_files

IMAGE, TEXT = 0, 1  # modalities are sorted by name
FILES = golden_files("msm4sr")


def close(actual, golden, relative):
    """max |difference| / max |golden|, as goldens/README_core.md compares."""
    actual, golden = torch.as_tensor(actual).detach().double(), torch.as_tensor(golden).double()
    assert actual.shape == golden.shape
    error = float((actual - golden).abs().max() / golden.abs().max())
    assert error <= relative, f"relative error {error:.2e} above {relative:.0e}"


# -- the official code's numbers -------------------------------------------------------------------------------------
# Its padding item is item 0 here: a zero row, an id like any other, a candidate. Feature sets are dense, holding what
# its pooling gave (§Q1: that counts padding; test_pooling restates it).


@pytest.fixture(scope="module", params=FILES, ids=lambda path: path.stem)
def golden(request):
    with np.load(request.param) as file:
        return {name: file[name] for name in file.files}


def corpus_of(golden) -> Corpus:
    def dense(name):
        return Features("dense", np.concatenate([np.zeros((1, 768)), golden[f"pooled_{name}"]]).astype(np.float32))

    users = np.arange(len(golden["item_seq"]))
    length = golden["item_len"]
    rows = [golden["item_seq"][u, : length[u]].tolist() + [int(golden["target"][u])] for u in users]
    train = Interactions(
        user=np.repeat(users, length + 1),
        item=np.concatenate(rows),
        position=np.concatenate([np.arange(len(row)) for row in rows]),
    )
    nothing = Interactions(*(np.zeros(0, np.int64) for _ in range(3)))
    return Corpus(
        name="golden", protocol="given", num_users=len(users), num_items=int(golden["n_items_with_pad"]),
        splits={"train": train, "validation": nothing, "test": nothing},
        features={"image": dense("image"), "text": dense("text")},
    )  # fmt: skip


OFFICIAL = {
    "hidden_size": 16, "inner_size": 32, "max_length": 8, "num_experts": 4, "expert_dropout": 0.0, "dropout": 0.0,
    "drop": 0.0, "targets": "prefix",
}  # fmt: skip
MODALITIES = {"text": ("moe_1", "linear_desc", TEXT), "image": ("moe_2", "linear_img", IMAGE)}
LAYER = {
    "query.weight": "multi_head_attention.query.weight",
    "query.bias": "multi_head_attention.query.bias",
    "key.weight": "multi_head_attention.key.weight",
    "value.weight": "multi_head_attention.value.weight",
    "value.bias": "multi_head_attention.value.bias",
    "output.weight": "multi_head_attention.dense.weight",
    "output.bias": "multi_head_attention.dense.bias",
    "attention_norm.weight": "multi_head_attention.LayerNorm.weight",
    "attention_norm.bias": "multi_head_attention.LayerNorm.bias",
    "inner.weight": "feed_forward.dense_1.weight",
    "inner.bias": "feed_forward.dense_1.bias",
    "outer.weight": "feed_forward.dense_2.weight",
    "outer.bias": "feed_forward.dense_2.bias",
    "norm.weight": "feed_forward.LayerNorm.weight",
    "norm.bias": "feed_forward.LayerNorm.bias",
}


def official(golden, prefix: str, *, projections: bool = False, ids: bool = False) -> dict[str, torch.Tensor]:
    """Arrays named ``prefix + official module name`` under this model's parameter names."""

    def take(name):
        return torch.from_numpy(golden[prefix + name])

    state = {"encoder.transformer.position.weight": take("position_embedding.weight")}
    state |= {f"encoder.transformer.norm.{part}": take(f"LayerNorm.{part}") for part in ("weight", "bias")}
    for layer in range(2):
        for ours, theirs in LAYER.items():
            state[f"encoder.transformer.layers.{layer}.{ours}"] = take(f"trm_encoder.layer.{layer}.{theirs}")
    for name, (moe, _, _) in MODALITIES.items():
        experts = range(4)
        state[f"encoder.adapt.{name}.weight"] = torch.cat([take(f"{moe}.experts.{k}.lin.weight") for k in experts])
        state[f"encoder.adapt.{name}.bias"] = torch.cat([take(f"{moe}.experts.{k}.lin.bias") for k in experts])
        state[f"encoder.adapt.{name}.gate"] = take(f"{moe}.w_gate").T
        for part in ("weight", "bias"):
            norms = [take(f"{moe}.experts.{k}.norm.{part}") for k in experts]
            state[f"encoder.adapt.{name}.norm_{part}"] = torch.stack(norms)
    if projections:
        for part in ("weight", "bias"):
            state[f"supervision.{part}"] = torch.stack([take(f"linear_img.{part}"), take(f"linear_desc.{part}")])
    if ids:
        state["item.weight"] = take("item_embedding.weight")
    return state


def pretraining(golden, project: bool) -> MSM4SRForPretraining:
    model = MSM4SRForPretraining.for_corpus(MSM4SRConfig(**OFFICIAL, project=project), corpus_of(golden))
    model.load_state_dict(official(golden, "param.", projections=project))
    return model


def batch_of(golden) -> dict[str, torch.Tensor]:
    history = torch.from_numpy(golden["item_seq"])
    length = torch.from_numpy(golden["item_len"])
    column = torch.arange(history.shape[1])
    return {
        "user": torch.arange(len(history)),
        "history": history,
        "mask": column < length[:, None],
        "target_mask": column == length[:, None] - 1,
        "target": torch.from_numpy(golden["target"])[:, None].expand(history.shape),
    }


def test_pooling(golden):
    """Official pooling adds its padding rows' weight to the denominator (§Q1): e = ours x the mass on real rows."""
    for name, attention in (("text", "desc_attn"), ("image", "img_attn")):
        vectors, count = golden[f"{name}_feat"], golden[f"{name}_count"]
        real = np.arange(vectors.shape[1]) < count[:, None]
        offsets = np.concatenate([[0], np.cumsum(count)])
        table = FeatureTable(Features("ragged", vectors[real], offsets))
        pool = AttentionPooling(768, 16)
        w1, b1, w2, b2 = (
            torch.from_numpy(golden[f"param.{attention}.feature_att_layer.projection.{part}"])
            for part in ("0.weight", "0.bias", "1.weight", "1.bias")
        )
        with torch.no_grad():
            pool.inner.copy_(w1)
            pool.outer.copy_(w2[0])
        logits = ((torch.from_numpy(vectors) @ w1.T + b1) @ w2.T + b2)[..., 0]
        mass = (logits.softmax(1) * torch.from_numpy(real)).sum(1, keepdim=True)
        close(pool(table) * mass, golden[f"pooled_{name}"], 1e-5)
        some = torch.tensor([7, 3, 3, 20])
        torch.testing.assert_close(pool(table, some), pool(table)[some])


def test_item_vectors_and_gates(golden):
    model = pretraining(golden, project=True)
    vectors = model.vectors()
    for name, (_, _, k) in MODALITIES.items():
        close(vectors[:, k], golden[f"moe_{name}_all"], 1e-5)
    pooled = model.encoder.features["text"].means(torch.device("cpu"))
    close(F.linear(pooled, model.encoder.adapt["text"].gate).softmax(-1), golden["gate_text_all"], 1e-5)


def official_nip(h, z, target, temperature=0.07):
    """§5.1 with §Q7: for another row of the same target the logit becomes 0. ``h``: views of a modality, added up."""
    same = (target[:, None] == target) & ~torch.eye(len(target), dtype=torch.bool)
    f = sum(((view @ z.T) / temperature).masked_fill(same, 0.0).exp() for view in h)
    return -torch.log(f.diagonal() / f.sum(1)).mean()


def official_cmcl(a, b, target, temperature=0.07):
    """§5.2 with §Q7, §Q9 (the second direction uses the first one's row sums) and §Q10 (intra-view negatives)."""
    itself = torch.eye(len(target), dtype=torch.bool)
    same = (target[:, None] == target) & ~itself

    def f(x, y):
        return ((x @ y.T) / temperature).masked_fill(same, 0.0).exp()

    rows = f(a, b).sum(1)
    forward = f(a, b).diagonal() / (rows + f(a, a).masked_fill(itself, 0.0).sum(1))
    backward = f(a, b).diagonal() / (rows + f(b, b).masked_fill(itself, 0.0).sum(1))
    return -(forward.log().mean() + backward.log().mean()) / 2


@pytest.mark.parametrize("project", [True, False])
def test_pretraining_forward_losses_and_gradients(golden, project):
    name = "pre_proj" if project else "pre_noproj"
    model, batch = pretraining(golden, project), batch_of(golden)
    sequences = look_up(batch["history"], model.vectors())
    swapped = torch.from_numpy(golden[f"{name}.mix_mask_raw"]) * batch["mask"]
    mixed = mix(sequences, 1 - swapped, torch.tensor(0.5))
    close(mixed[:, :, TEXT], golden[f"{name}.mixed_text"], 1e-5)
    close(mixed[:, :, IMAGE], golden[f"{name}.mixed_image"], 1e-5)
    row, position = batch["target_mask"].nonzero(as_tuple=True)
    states = model.encoder.states(mixed)[row, position]
    close(states[:, TEXT], golden[f"{name}.h_text"], 1e-5)
    close(states[:, IMAGE], golden[f"{name}.h_image"], 1e-5)

    target = torch.from_numpy(golden["target"])
    z = F.normalize(model.vectors()[target], dim=-1).double()
    views = model.supervision.views(states).double()  # [T, K, S, d]
    nip = {k: official_nip(list(views[:, k].unbind(1)), z[:, k], target) for k in (IMAGE, TEXT)}
    close(nip[TEXT], golden[f"{name}.loss_nip_text"], 1e-4)
    close(nip[IMAGE], golden[f"{name}.loss_nip_image"], 1e-4)
    if project:  # the first view always comes from the text state
        cmcl = [official_cmcl(views[:, k, TEXT], views[:, k, IMAGE], target) for k in (TEXT, IMAGE)]
        close(cmcl[0], golden["pre_proj.loss_cmcl_text_f64"], 1e-4)
        close(cmcl[1], golden["pre_proj.loss_cmcl_image_f64"], 1e-4)
    else:
        cmcl = [official_cmcl(views[:, TEXT, 0], views[:, IMAGE, 0], target)]
        close(cmcl[0], golden["pre_noproj.loss_cmcl_single_f64"], 1e-4)
    (sum(nip.values()) + sum(cmcl)).backward()
    # stored gradients carry the float32 cancellation of the official CMCL: 3.7e-2 with projections, 1.2e-3 without
    compare_gradients(model, official(golden, f"{name}.grad.", projections=project), 5e-2 if project else 2e-3)


def compare_gradients(model, expected, relative):
    ours = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert set(ours) == set(expected)
    for name, gradient in expected.items():
        try:
            close(ours[name], gradient, relative)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error


def test_pretraining_scores(golden):
    """Official validation scores raw states; here that is what a model without projections does."""
    model, batch = pretraining(golden, project=False), batch_of(golden)
    with torch.no_grad():
        close(model.score(batch, model.tables()), golden["pretrain_eval.scores_all"], 1e-5)


def test_finetuning(golden):
    model = MSM4SRForRecommendation.for_corpus(MSM4SRConfig(**OFFICIAL), corpus_of(golden))
    ids = {"item.weight": torch.from_numpy(golden["param_ft.item_embedding"])}
    model.load_state_dict(official(golden, "param.") | ids)
    batch = batch_of(golden)
    tables = model.tables()
    close(model.score(batch, tables), golden["ft.scores_all"], 1e-5)
    row, position = batch["target_mask"].nonzero(as_tuple=True)
    states = model.states(batch["history"], tables["vectors"])[row, position]
    close(states[:, TEXT], golden["ft.h_text"], 1e-5)
    close(states[:, IMAGE], golden["ft.h_image"], 1e-5)
    loss = model(batch)["loss"]
    close(loss, golden["ft.loss_ce"], 1e-4)
    loss.backward()
    compare_gradients(model, official(golden, "ft.grad.", ids=True), 1e-3)


# -- the paper's pieces against naive loops --------------------------------------------------------------------------


def views_and_rows(count: int, seed: int = 0):
    """Unit vectors ``[T, K, S, d]`` and ``[T, K, d]`` (equal for equal targets), targets, users."""
    generator = torch.Generator().manual_seed(seed)
    views = F.normalize(torch.randn(14, count, count, 6, generator=generator, dtype=torch.float64), dim=-1)
    target = torch.randint(9, (14,), generator=generator)
    user = torch.randint(5, (14,), generator=generator)
    items = F.normalize(torch.randn(9, count, 6, generator=generator, dtype=torch.float64), dim=-1)
    assert len(target.unique()) < 14 and len(user.unique()) < 14
    return views, items[target], target, user


def negative(j: int, other: int, target, user) -> bool:
    return target[j] != target[other] and (user is None or user[j] != user[other])


@pytest.mark.parametrize("same_user", [False, True])
def test_related_makes_only_the_rows_asked_for(same_user):
    _, _, target, user = views_and_rows(1)
    user = user if same_user else None
    bias = related(target, user)(slice(3, 6))
    assert bias.shape == (3, 14)
    for j in range(3, 6):
        assert bias[j - 3].tolist() == [0.0 if negative(j, k, target, user) else -math.inf for k in range(14)]


@pytest.mark.parametrize("same_user", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_next_item_is_the_loop_of_equation_7(count, same_user):
    views, positive, target, user = views_and_rows(count)
    user = user if same_user else None
    expected = 0.0
    for k in range(count):
        for j in range(14):
            top = sum(math.exp(views[j, k, s] @ positive[j, k] / 0.1) for s in range(count))
            bottom = top
            for other in range(14):
                if negative(j, other, target, user):
                    bottom += sum(math.exp(views[j, k, s] @ positive[other, k] / 0.1) for s in range(count))
            expected -= math.log(top / bottom) / 14
    assert float(next_item(views, positive, related(target, user), 0.1)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("intra", [False, True])
@pytest.mark.parametrize("same_user", [False, True])
def test_cross_modal_is_the_loop_of_equation_9(same_user, intra):
    views, _, target, user = views_and_rows(2)
    a, b, user = views[:, 0, 0], views[:, 0, 1], user if same_user else None

    def f(x, y):
        return math.exp(x @ y / 0.1)

    expected = 0.0
    for x, y in ((a, b), (b, a)):
        for j in range(14):
            bottom = f(x[j], y[j])
            for other in range(14):
                if negative(j, other, target, user):
                    bottom += f(x[j], y[other]) + (f(x[j], x[other]) if intra else f(y[j], x[other]))
            expected -= math.log(f(x[j], y[j]) / bottom) / 28
    assert float(cross_modal(a, b, related(target, user), 0.1, intra)) == pytest.approx(expected, rel=1e-9)


def test_drop_removes_items_and_keeps_every_target():
    generator = np.random.default_rng(0)
    length = np.array([8, 1, 5, 3, 8, 2])
    history = np.where(np.arange(8) < length[:, None], generator.integers(1, 99, (6, 8)), 0)
    kept = (generator.random((6, 8)) > 0.4) & (history > 0)
    row, position = np.nonzero(history)
    after, moved = drop_items(*(torch.from_numpy(x) for x in (history, kept, row, position)))
    for user in range(6):
        survivors = [history[user, 0]] + [history[user, j] for j in range(1, 8) if kept[user, j]]
        assert after[user].tolist() == survivors + [0] * (8 - len(survivors))
    for r, old, new in zip(row, position, moved.tolist(), strict=True):
        last = max([0] + [j for j in range(1, old + 1) if kept[r, j]])
        assert after[r, new] == history[r, last] and new <= old


@pytest.mark.parametrize("count", [2, 3])
def test_mixup_is_complementary(count):
    """At every position each modality's vector is in exactly one sequence; unmixed positions are untouched."""
    generator = torch.Generator().manual_seed(0)
    sequences = torch.randn(40, 30, count, 2, generator=generator)
    draw = torch.rand(40, 30, generator=generator)
    mixed = mix(sequences, draw, torch.tensor(0.4))
    torch.testing.assert_close(mixed.sum(2), sequences.sum(2))
    moved = (mixed != sequences).all(-1)  # [B, L, M]
    assert torch.equal(moved.all(-1), draw < 0.4) and torch.equal(moved.any(-1), draw < 0.4)
    sources = (mixed[:, :, 0, None] == sequences).all(-1)[draw < 0.4].float().mean(0)  # where modality 0's came from
    torch.testing.assert_close(sources, torch.tensor([0.0] + [1 / (count - 1)] * (count - 1)), atol=0.05, rtol=0)
    assert torch.equal(mix(sequences, draw, torch.tensor(0.0)), sequences)


# -- the two heads ---------------------------------------------------------------------------------------------------

SMALL = {
    "hidden_size": 16, "inner_size": 32, "num_layers": 1, "max_length": 20, "num_experts": 2, "expert_dropout": 0.0,
    "dropout": 0.0,
}  # fmt: skip


def synthetic(*features: str, **options) -> Corpus:
    whole = synthetic_corpus(**({"num_users": 40, "num_items": 30, "mean_length": 8} | options))
    return replace(whole, features={name: whole.features[name] for name in features})


def make(head, corpus, **options):
    torch.manual_seed(0)
    return head.for_corpus(MSM4SRConfig(**(SMALL | options)), corpus)


def first_batch(model, corpus, size=64):
    collator = model.stages[0].collator(corpus, 0, **model.collator_options(0))
    return collator(0, collator.batches(0, size)[0]) | {"step_seed": torch.tensor(7)}


PRETRAIN, FINETUNE = MSM4SRForPretraining, MSM4SRForRecommendation
ABLATIONS = {
    "full": (PRETRAIN, ("image", "text"), {}),
    "targets: prefix": (PRETRAIN, ("image", "text"), {"targets": "prefix"}),
    "dense features": (PRETRAIN, ("image_vector", "text"), {}),
    "w/o NIP": (PRETRAIN, ("image", "text"), {"nip_weight": 0.0}),
    "w/o CMCL": (PRETRAIN, ("image", "text"), {"cmcl_weight": 0.0}),
    "w/o Mixup": (PRETRAIN, ("image", "text"), {"mixup": 0.0}),
    "w/o projections": (PRETRAIN, ("image", "text"), {"project": False}),
    "intra": (PRETRAIN, ("image", "text"), {"cmcl_negatives": "intra"}),
    "one modality": (PRETRAIN, ("text",), {}),
    "three modalities": (PRETRAIN, ("image", "text", "text_vector"), {}),
    "finetuning": (FINETUNE, ("image", "text"), {}),
    "-V": (FINETUNE, ("image", "text"), {"modalities": ("image",)}),
    "dot": (FINETUNE, ("image", "text"), {"score": "dot"}),
    "without ids": (FINETUNE, ("image", "text"), {"use_ids": False}),
    "E2E": (FINETUNE, ("image", "text"), {"end_to_end": True}),
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_parameter_of_an_ablation_is_trained(name):
    head, features, options = ABLATIONS[name]
    corpus = synthetic(*features)
    model = make(head, corpus, **options)
    losses = model(first_batch(model, corpus))
    losses["loss"].backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 1e-9, key
    parts = {"full": {"nip", "cmcl"}, "w/o NIP": {"cmcl"}, "w/o CMCL": {"nip"}, "one modality": {"nip"}, "-V": set()}
    assert name not in parts or set(losses) == {"loss"} | parts[name]


def test_one_modality_has_nothing_that_two_need():
    alone, both = make(PRETRAIN, synthetic("text")), make(PRETRAIN, synthetic("image", "text"))
    extra = {key.replace("image", "text") for key in both.state_dict()} - set(alone.state_dict())
    assert extra == {"supervision.weight", "supervision.bias"}
    with pytest.raises(ValueError, match="cmcl_weight 0.01 with 1"):
        make(PRETRAIN, synthetic("text"), nip_weight=0.0)
    with pytest.raises(ValueError, match="dense or ragged"):
        make(PRETRAIN, synthetic("genre"))


def test_pretraining_is_the_loop_over_rows():
    """Drop, mixup, encoder and losses, row by row, for a batch with every position a target."""
    corpus = synthetic("image", "text")
    model = make(PRETRAIN, corpus, drop=0.5)
    batch = first_batch(model, corpus, 9)
    drop_rate = 0.5 * torch_uniform("drop rate", batch["step_seed"])
    mix_rate = 0.5 * torch_uniform("mixup rate", batch["step_seed"])
    vectors = model.vectors()
    views, positive, target, user = [], [], [], []
    for b in range(len(batch["user"])):
        length = int(batch["mask"][b].sum())
        draw = torch_uniform("drop", batch["row_seed"][b], torch.arange(length))
        for j in range(length):
            prefix = [int(batch["history"][b, i]) for i in range(j + 1) if i == 0 or draw[i] >= drop_rate]
            swap = torch_uniform("mixup", batch["row_seed"][b], torch.arange(len(prefix))) < mix_rate
            sequence = [vectors[i].flip(0) if swapped else vectors[i] for i, swapped in zip(prefix, swap, strict=True)]
            state = [model.encoder.transformer(torch.stack(sequence)[None, :, m])[0, -1] for m in (IMAGE, TEXT)]
            views.append(model.supervision.views(torch.stack(state)[None])[0])
            target.append(int(batch["target"][b, j]))
            user.append(int(batch["user"][b]))
            positive.append(F.normalize(vectors[target[-1]], dim=-1))
    views, left_out = torch.stack(views), related(torch.tensor(target), torch.tensor(user))
    losses = model(batch)
    torch.testing.assert_close(
        losses["nip"], next_item(views, torch.stack(positive), left_out, 0.07), rtol=1e-4, atol=1e-5
    )
    cmcl = [cross_modal(views[:, k, 0], views[:, k, 1], left_out, 0.07) for k in (IMAGE, TEXT)]
    torch.testing.assert_close(losses["cmcl"], cmcl[0] + cmcl[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses["loss"], losses["nip"] + 0.01 * losses["cmcl"])


@torch.no_grad()
def test_pretraining_scores_are_what_nip_compares():
    corpus = synthetic("image", "text")
    model = make(PRETRAIN, corpus).eval()
    batch = first_batch(model, corpus, 5)
    tables = model.tables()
    scores = model.score(batch, tables)
    sequences = look_up(batch["history"], tables["vectors"])
    last = batch["mask"].sum(1) - 1
    views = model.supervision.views(model.encoder.states(sequences)[torch.arange(5), last])  # [5, K, S, d]
    z = F.normalize(model.vectors(), dim=-1)
    expected = sum(views[:, k, k] @ z[:, k].T for k in (IMAGE, TEXT))
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)


def test_pretraining_encodes_only_the_items_of_the_batch():
    corpus = synthetic("image", "text", num_items=60)
    model = make(PRETRAIN, corpus, max_length=6)
    batch = first_batch(model, corpus, 4)
    expected = model(batch)["loss"]
    needed = torch.cat([batch["history"].flatten(), batch["target"].flatten()]).unique()
    for table in model.encoder.features.values():
        values, offsets = table.on(torch.device("cpu"))
        for item in set(range(1, 60)) - set(needed.tolist()):  # item 0 stands at padding
            values[offsets[item] : offsets[item + 1]] = torch.nan
    torch.testing.assert_close(model(batch)["loss"], expected)


def test_finetuning_every_position_is_the_sum_over_prefixes():
    corpus = synthetic("image", "text")
    models = [make(FINETUNE, corpus, targets=targets) for targets in ("every", "prefix")]
    losses = [model(first_batch(model, corpus, 10_000))["loss"] for model in models]
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-6)


def test_dot_scores_are_equation_12():
    corpus = synthetic("image", "text")
    model = make(FINETUNE, corpus, score="dot").eval()
    batch = first_batch(model, corpus, 5)
    tables = model.tables()
    scores = model.score(batch, tables)
    states = model.states(batch["history"], tables["vectors"])
    for b in range(5):
        h = states[b, int(batch["mask"][b].sum()) - 1]
        for item in range(30):
            z = torch.stack([model.vectors()[item, k] for k in (IMAGE, TEXT)])
            torch.testing.assert_close(scores[b, item], (h * z).sum(), rtol=1e-4, atol=1e-5)


def test_finetuning_starts_from_pretraining_on_another_corpus(tmp_path):
    before = make(PRETRAIN, synthetic("image", "text"))
    with torch.no_grad():
        for parameter in before.parameters():
            parameter.normal_()
    before.save_pretrained(tmp_path)
    other = synthetic("image", "text", num_users=25, num_items=44)
    model = start_from(FINETUNE, str(tmp_path), MSM4SRConfig(**SMALL), other)
    for key, value in model.state_dict().items():
        if key != "item.weight":
            assert torch.equal(value, before.state_dict()[key]), key
    assert model.item.weight.shape == (44, 16) and 0.015 < float(model.item.weight.detach().std()) < 0.025
    assert model.config.pretrained_on["fingerprint"] == synthetic("image", "text").fingerprint()
    text = start_from(FINETUNE, str(tmp_path), MSM4SRConfig(**SMALL, modalities=("text",)), other)
    assert not any("image" in key for key in text.state_dict())
    with pytest.raises(ValueError, match="num_layers = 1, this run has 2"):
        start_from(FINETUNE, str(tmp_path), MSM4SRConfig(**(SMALL | {"num_layers": 2})), other)
    changed = replace(other.features["text"], provenance={"encoder": "another"})
    with pytest.raises(ValueError, match="'text'.*another"):
        start_from(
            FINETUNE, str(tmp_path), MSM4SRConfig(**SMALL), replace(other, features=other.features | {"text": changed})
        )
