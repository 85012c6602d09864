from math import log

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cosine_similarity

from seqmm.models.collaborative.mentor import MENTOR, ItemAttention, MENTORConfig, View
from seqmm.nn.noise import dropout_table
from tests.cases import CASES
from tests.models.golden import Golden, assert_near, golden_files, load, reading, train_only_corpus
from tests.test_contract import _first_batch

FILES = golden_files(
    "mentor",
    {"uu_cooccurrence": "the released code builds it and never uses it"},
)
BRANCH = {
    "preference.weight": "preference",
    "project.0.weight": "MLP.weight",
    "project.0.bias": "MLP.bias",
    "project.2.weight": "MLP_1.weight",
    "project.2.bias": "MLP_1.bias",
}
IDS = {"modal_weight.weight": "weight_u", "item.weight": "id_feat"}
PREDICTOR = {"predictor.weight": "mlp.weight", "predictor.bias": "mlp.bias"}


def _modal(suffix: str = "") -> dict[str, str]:
    """Our parameters of the modalities' branches -> theirs."""
    return {
        f"branches.{name}.{ours}": f"{letter}_gcn{suffix}.{theirs}"
        for name, letter in (("image", "v"), ("text", "t"))
        for ours, theirs in BRANCH.items()
    }


CLEAN = _modal() | {f"id_branch.{ours}": f"id_gcn.{theirs}" for ours, theirs in BRANCH.items()} | IDS | PREDICTOR


def _load(model: MENTOR, golden: Golden, names: dict[str, str]) -> MENTOR:
    names = names | {"modal_weight.weight": "weight_u"}
    arrays = {f"param.{theirs}": golden[f"param.{theirs}"] for theirs in names.values()}
    return load(model, arrays | {"param.weight_u": golden["param.weight_u"][..., 0]}, names)


def _released(golden: Golden, **options) -> MENTOR:
    """The released code's choices, where ours are options."""
    users, items = int(golden["n_users"]), int(golden["n_items"])
    features = {"image": golden["v_feat"], "text": golden["t_feat"]}
    corpus = train_only_corpus(golden["train_u"], golden["train_i"], users, items, features)
    chosen = {"bpr_weight": 1 / log(2), "align_statistic": "var", "modality_weights": {"image": 0.1, "text": 0.9}}
    return MENTOR.for_corpus(MENTORConfig(**(chosen | options)), corpus)


def _noisy(golden: Golden, number: int, weight: nn.Embedding) -> tuple[MENTOR, View]:
    """The released code's noisy view: an encoder of its own (S1), under the recorded noise, with the user weights."""
    off = {"alignment": 0.0, "feature_masking": 0.0}
    side = _load(_released(golden, **off), golden, _modal(f"_n{number}"))
    side.modal_weight = weight
    recorded = [
        torch.from_numpy(np.concatenate([golden[f"noise.{letter}_n{number}.l{layer}"] for letter in "vt"], 1))
        for layer in (1, 2)
    ]
    side.uniform = lambda like, step_seed, layer: recorded[layer - 1].repeat(1, 2)
    nodes = side.noisy(side.layers(side.layer0(ids=False)), torch.tensor(0))
    expected = np.concatenate([golden[f"z.{letter}_rep_n{number}"] for letter in "vt"], 1)
    assert_near(nodes, np.concatenate([expected, expected], 1), 1e-5)
    view = side.fused(side.views(nodes, slice(128))[0])
    assert_near(torch.cat(view), golden[f"E.result_embed_n{number}"], 1e-5)
    return side, view


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_matches_the_released_code(file, monkeypatch):
    with reading(file) as golden:
        model = _load(_released(golden), golden, CLEAN)
        assert_near(model.graph.dense(), golden["ui_norm_adj"], 1e-6)
        assert_near(model.knn("image", 10).dense(), golden["image_adj"], 1e-6)
        assert_near(model.knn("text", 10).dense(), golden["text_adj"], 1e-6)
        assert_near(model.item_graphs[0].dense(), golden["mm_adj"], 1e-6)
        i1 = _released(golden, modality_weights={"image": 0.2, "text": 0.8})
        assert_near(i1.item_graphs[0].dense(), golden["mm_adj_image_weight_0.2"], 1e-6)

        # representations
        nodes = torch.stack(model.layers(model.layer0(ids=True))).sum(0)
        assert_near(nodes, np.concatenate([golden[f"z.{name}_rep"] for name in ("v", "t", "id")], 1), 1e-5)
        whole, *single = model.views(nodes, slice(128), slice(0, 64), slice(64, 128), slice(128, 192))
        fused = model.fused(whole)
        assert_near(torch.cat(fused), golden["E.result_embed"], 1e-5)
        for view, name in zip(single, ("v", "t", "guide"), strict=True):
            assert_near(torch.cat(view).repeat(1, 2), golden[f"E.result_embed_{name}"], 1e-5)
        sides, noisy = zip(*(_noisy(golden, number, model.modal_weight) for number in (1, 2)), strict=True)

        # losses
        moments = golden["align_stats_var_mean_vt_id_v_t"].reshape(4, 2)
        for view, (var, mean) in zip((fused, single[2], *single[:2]), moments, strict=True):
            assert_near(model.moments(view).flatten(), np.array([mean, var]), 1e-4)
        batch = {"user": "batch_users", "positive": "batch_pos", "negative": "batch_neg"}
        batch = {ours: torch.from_numpy(golden[theirs]) for ours, theirs in batch.items()}
        monkeypatch.setattr(
            "seqmm.models.collaborative.mentor.dropout_table",
            lambda x, p, step_seed, stream: x * torch.from_numpy(golden[f"dropmask_{stream.split()[1][:-1]}"]),
        )
        user, positive, negative = model.rows(batch, *fused)
        assert_near((user * positive).sum(-1), golden["pos_scores"], 1e-5)
        assert_near((user * negative).sum(-1), golden["neg_scores"], 1e-5)
        with torch.no_grad():  # S6
            masking = model.masking(fused, torch.tensor(0))
        perturbation = model.perturbation(*noisy)
        norm = model.norm(batch["user"])
        expected = {
            "masking": [golden["loss_mask_user"], golden["loss_mask_item"]],
            "noise": [golden["loss_infonce_users"], golden["loss_infonce_items"]],
            "align": golden["loss_align_levels"],
        }
        assert_near(torch.stack(list(masking.values())), np.array(expected["masking"]), 1e-5)
        assert_near(torch.stack(list(perturbation.values())), np.array(expected["noise"]), 1e-5)
        assert_near(norm, golden["loss_reg_terms"].sum(), 1e-5)
        model.config.graph_perturbation = 0.0  # the noisy views are not the model's own: added here
        parts = model(batch | {"step_seed": torch.tensor(0)})
        assert_near(torch.stack([parts[f"align_{level}"] for level in (1, 2, 3, 4)]), expected["align"], 1e-4)
        assert_near(parts["bpr"] / log(2), golden["loss_bpr_log2"], 1e-5)
        assert_near(torch.stack([parts["masking_users"], parts["masking_items"]]), np.array(expected["masking"]), 1e-5)
        assert_near(parts["norm"], golden["loss_reg_terms"].sum(), 1e-5)
        loss = parts["loss"] + 1e-3 * sum(perturbation.values())
        assert_near(loss, golden["loss_total"], 1e-5)

        # gradients: without that of masking, which the released code drops
        (loss - 1.5 * (parts["masking_users"] + parts["masking_items"])).backward()
        for owner, names in ((model, CLEAN), (sides[0], _modal("_n1")), (sides[1], _modal("_n2"))):
            _assert_gradients(owner, golden, names)
        users = torch.arange(int(golden["n_users"]))
        assert_near(model.eval().score({"user": users}, model.tables()), golden["scores_all"], 1e-5)


def _assert_gradients(model: MENTOR, golden: Golden, names: dict[str, str]) -> None:
    trained = set(golden["has_grad_names"].tolist())
    for ours, theirs in names.items():
        gradient = model.get_parameter(ours).grad
        if f"grad.{theirs}" not in golden:  # the clean branches' preferences: trained, but not recorded
            assert theirs.replace("_gcn.", "_") in trained and gradient.abs().max() > 0
        elif ours in PREDICTOR:
            assert theirs in golden["no_grad_names"] and np.isnan(golden[f"grad.{theirs}"])  # S6
            assert gradient.abs().max() < 1e-12
        else:
            assert theirs in trained
            assert_near(gradient, golden[f"grad.{theirs}"].reshape(gradient.shape), 1e-4)


# -- the formulas, entry by entry -------------------------------------------------------------------------------------


@pytest.fixture(params=["mentor", "mentor-three", "mentor-one"])
def model(request) -> MENTOR:
    case = CASES[request.param]
    return case.model(case.corpus()).double()


def _views(model: MENTOR, number: int) -> list[View]:
    generator = torch.Generator().manual_seed(3)
    sizes = (model.config.num_users, model.config.num_items)
    tables = [
        [torch.randn(size, model.width, generator=generator, dtype=torch.float64).add(shift) for size in sizes]
        for shift in range(number)
    ]
    return [View(*(table.requires_grad_() for table in pair)) for pair in tables]


def _gaussian(view: View, statistic: str) -> tuple[float, float]:
    entries = [float(entry) for table in view for row in table.tolist() for entry in row]
    mean = sum(entries) / len(entries)
    variance = sum((entry - mean) ** 2 for entry in entries) / (len(entries) - 1)
    return mean, variance**0.5 if statistic == "std" else variance


@pytest.mark.parametrize("statistic", ["std", "var"])
def test_alignment_compares_all_pairs_of_gaussians(model, statistic):
    model.config.align_statistic = statistic
    num = len(model.modalities)
    fused, *single = _views(model, num + 2)
    whole, *modal, ids = (_gaussian(view, statistic) for view in (fused, *single))

    def distance(a, b):
        return abs(a[0] - b[0]) + abs(a[1] - b[1])

    expected = {1: distance(ids, whole), 2: 0.0, 3: 0.0}
    for m in range(num):
        expected[2] += distance(ids, modal[m])
        expected[3] += distance(whole, modal[m])
        for other in range(m + 1, num):
            expected[4] = expected.get(4, 0.0) + distance(modal[m], modal[other])
    levels = model.alignment(fused, single)
    assert {level: float(value.detach()) for level, value in levels.items()} == pytest.approx(expected, abs=1e-9)
    assert set(levels) == ({1, 2, 3} if num == 1 else {1, 2, 3, 4})
    sum(level * value for level, value in levels.items()).backward()  # unweighted, a middle value's signs cancel
    assert all(table.grad.abs().max() > 0 for view in (fused, *single) for table in view), "no view is detached"


def test_a_single_branch_stands_for_its_copies(model):
    (view,) = _views(model, 1)
    narrow = View(*(table[:, : model.config.hidden_size] for table in view))
    wide = View(*(table.repeat(1, len(model.modalities)) for table in narrow))
    torch.testing.assert_close(model.moments(narrow), model.moments(wide), rtol=1e-12, atol=0)
    model.config.align_axis = "column"
    torch.testing.assert_close(model.moments(narrow), model.moments(wide), rtol=1e-12, atol=0)
    for column in range(model.width):
        entries = torch.cat(wide)[:, column]
        expected = torch.stack([entries.mean(), (entries - entries.mean()).square().sum().div(len(entries) - 1).sqrt()])
        torch.testing.assert_close(model.moments(wide)[:, column], expected)


def test_masking_sends_its_gradient_through_the_predicted_view_only(model):
    (view,) = _views(model, 1)
    seed = torch.tensor(5)
    losses = model.masking(view, seed)
    weight, bias = model.predictor.weight, model.predictor.bias
    for loss, table in zip(losses.values(), view, strict=True):
        predicted = [weight @ row + bias for row in table]
        name = "users" if table is view.users else "items"
        fixed = dropout_table(table.detach(), 0.5, seed, f"mask {name}")
        kept = fixed != 0
        assert 0.3 < kept.double().mean() < 0.7
        torch.testing.assert_close(fixed[kept], 2 * table.detach()[kept])
        cosines = [cosine_similarity(a, b, dim=0) for a, b in zip(predicted, fixed, strict=True)]
        expected = 1 - sum(cosines) / len(cosines)
        assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-9)
        wanted = torch.autograd.grad(expected, [table, weight], retain_graph=True)
        found = torch.autograd.grad(loss, [table, weight], retain_graph=True)
        for ours, theirs in zip(found, wanted, strict=True):
            assert theirs.abs().max() > 0
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("views", ["fused", "each"])
def test_perturbation_contrasts_every_row_with_all_rows(model, views):
    model.config.perturbation_views = views
    d, tau = model.config.hidden_size, model.config.temperature
    first, second = (View(*(table[:7].detach().requires_grad_() for table in view)) for view in _views(model, 2))
    for found, a, b in zip(model.perturbation(first, second).values(), first, second, strict=True):
        expected = 0.0
        parts = [slice(None)] if views == "fused" else [slice(m * d, m * d + d) for m in range(len(model.modalities))]
        for part in parts:
            for j in range(len(a)):
                logits = torch.stack([cosine_similarity(a[j, part], b[k, part], dim=0) / tau for k in range(len(b))])
                expected = expected - (logits[j].exp() / logits.exp().sum()).log() / len(a)
        assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-9)
        wanted = torch.autograd.grad(expected, [a, b])
        for ours, theirs in zip(torch.autograd.grad(found, [a, b]), wanted, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_noise_is_added_after_each_hop_in_its_orthant(model):
    d, seed = model.config.hidden_size, torch.tensor(5)
    with torch.no_grad():
        layer0 = torch.cat(_views(model, 1)[0])
        layers = model.layers(layer0)
        noisy = model.noisy(layers, seed)  # [U + I, 2 M d]
        for start in range(0, 2 * model.width, d):
            own = slice(start % model.width, start % model.width + d)
            total = h = layers[0][:, own]
            for number in (1, 2):
                h = model.graph.dense().double() @ h
                draw = model.uniform(noisy, seed, number)[:, start : start + d].double()
                for row, r in zip(h, draw, strict=True):
                    row += 0.1 * row.sign() * r / r.square().sum().sqrt()
                total = total + h
            torch.testing.assert_close(noisy[:, start : start + d], total, rtol=1e-6, atol=1e-7)
        assert not torch.equal(noisy[:, : model.width], noisy[:, model.width :]), "two draws"
        hop = layers[1][:, :d]
        moved = model.perturbed(hop, model.uniform(hop, seed, 1)) - hop
        torch.testing.assert_close(moved.norm(dim=1), torch.full((len(hop),), 0.1, dtype=torch.float64))
        assert (moved * hop >= 0).all()


def test_attention_is_the_multi_head_attention_of_the_textbook(model):
    """Against torch's own, and with one modality: attention over one token is its value."""
    torch.manual_seed(0)
    count = len(model.modalities)
    ours, theirs = ItemAttention(count, 16, 4).double(), nn.MultiheadAttention(16, 4, batch_first=True).double()
    assert (ours.query is None) == (ours.key is None) == (count == 1)
    with torch.no_grad():
        theirs.in_proj_bias[16:32] = 1  # of the keys: no effect
        theirs.in_proj_weight[32:], theirs.in_proj_bias[32:] = ours.value.weight, ours.value.bias
        if count > 1:  # else whatever they are
            theirs.in_proj_weight[:32] = torch.cat([ours.query.weight, ours.key.weight])
            theirs.in_proj_bias[:16] = ours.query.bias
        theirs.out_proj.load_state_dict(ours.output.state_dict())
        tokens = torch.randn(5, count, 16, dtype=torch.float64)
        expected = ours.norm(tokens + theirs(tokens, tokens, tokens)[0]).mean(1)
        torch.testing.assert_close(ours(tokens), expected)
    with pytest.raises(ValueError, match="multiple of 3 heads"):
        ItemAttention(3, 16, 3)


@pytest.mark.parametrize(
    ("part", "switched_off"),
    [("alignment", ("id_branch", "item.")), ("feature_masking", ("predictor",)), ("graph_perturbation", ())],
)
def test_each_part_trains_the_recommender_and_builds_only_its_own(part, switched_off):
    """The released code's masking and perturbation never reach what scores; here every part does."""
    case = CASES["mentor"]
    corpus = case.corpus()
    model = case.model(corpus, **{part: 0.0})
    whole = case.model(corpus)
    gone = set(dict(whole.named_parameters())) - set(dict(model.named_parameters()))
    assert all(name.startswith(switched_off) for name in gone) and bool(gone) == bool(switched_off)
    batch = _first_batch(whole, corpus)
    with_part, without = whole(batch), model(batch)
    prefix = {"alignment": "align", "feature_masking": "masking", "graph_perturbation": "noise"}[part]
    names = [name for name in with_part if name.startswith(prefix)]
    assert names and not [name for name in without if name.startswith(prefix)]
    sum(with_part[name] for name in names).backward()
    reached = {name for name, parameter in whole.named_parameters() if parameter.grad is not None}
    assert {name for name in dict(whole.named_parameters()) if name.startswith("branches.")} <= reached


def test_two_modalities_level_of_one_modality_is_no_term():
    case = CASES["mentor-one"]
    corpus = case.corpus()
    model = case.model(corpus, align_levels=(4,))
    parts = model(_first_batch(model, corpus))
    assert torch.isfinite(parts["loss"]) and not [name for name in parts if name.startswith("align")]


def test_unknown_levels_are_refused():
    case = CASES["mentor"]
    with pytest.raises(ValueError, match="MENTORConfig.align_levels is .0, 1.; choose at least 1 and at most 4"):
        case.model(case.corpus(), align_levels=(0, 1))
