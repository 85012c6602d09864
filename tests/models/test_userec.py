import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seqmm.graphs.build import behaviour_graph
from seqmm.graphs.matrix import Graph, propagate
from seqmm.models.collaborative.userec import USERec
from seqmm.nn.positions import index_codes
from seqmm.random import torch_hash
from tests.cases import CASES
from tests.conftest import GOLDENS
from tests.models.golden import assert_near, golden_files, reading
from tests.test_contract import _first_batch, _scoring_batch


@pytest.mark.parametrize("file", golden_files("userec_parts"), ids=lambda file: file.stem)
def test_matches_the_pieces_it_is_built_from(file):
    with reading(file) as golden:
        codes = index_codes(19445, 128, "sincos")
        assert_near(codes[:30], golden["pe_users30_dim128"], 1e-5)
        # the official table is computed in float32, its angles are off by up to 2^-10 up there
        assert_near(codes[19400:], golden["pe_rows_19400_19444_dim128"], 2e-3)

        tensors = {name: torch.from_numpy(golden[f"attn_{name}"]) for name in ("user", "items", "sample_idx")}
        query = torch.nn.Linear(16, 16)  # MIG-GT's maps have a bias
        key = torch.nn.Linear(16, 16, bias=False)
        query.weight.data, query.bias.data = (torch.from_numpy(golden[f"attn_{name}"]) for name in ("Wq", "bq"))
        key.weight.data = torch.from_numpy(golden["attn_Wk"])
        assert not golden["attn_bk"].any()  # and would cancel in the softmax
        options = SimpleNamespace(attention_values="inputs", attention_weight=0.1)
        model = SimpleNamespace(query=query, key=key, width=16, config=options)
        rows = torch.cat([tensors["user"][:, None], tensors["items"][tensors["sample_idx"]]], 1)  # [30, 6, 16]
        for token in range(6):  # attention does not know the order: any row can be the one that attends
            others = [other for other in range(6) if other != token]
            got = USERec.attend(model, rows[:, token], rows[:, others])
            assert_near(got, golden["attn_out_all_tokens"][:, token], 1e-5)
        np.testing.assert_array_equal(golden["attn_out_user"], golden["attn_out_all_tokens"][:, 0])


def test_behaviour_graph_is_damrs():
    """Ties at the cut are arbitrary in the official code: compared are the counts, then the values of its own edges."""
    golden = dict(np.load(GOLDENS / "damrs_detail_0.npz"))
    graph = behaviour_graph(golden["train_u"], golden["train_i"], 30, 25)
    found, official = graph.dense().numpy() > 0, golden["behaviour_adj"] > 0
    shared = golden["item_cooccurrence_ge2"]  # [25, 25], 0 on the diagonal and below 2
    for item in range(25):
        neighbours = np.setdiff1d(np.flatnonzero(found[item]), item)
        expected = golden["behaviour_top2_count"][item]
        assert found[item, item] and sorted(shared[item, neighbours]) == sorted(expected[expected > 0])
        assert set(golden["behaviour_top2_idx"][item]) - {-1} == set(np.flatnonzero(official[item])) - {item}
    edges = torch.from_numpy(np.stack((official & ~np.eye(25, dtype=bool)).nonzero()))
    assert_near(Graph(edges, None, (25, 25)).normalised("sym_self").dense(), golden["behaviour_adj"], 1e-6)


def test_codes_as_a_formula():
    codes = index_codes(7, 5, "sincos")
    for row in range(7):
        for j in range(5):
            angle = row * 10000 ** (-2 * (j // 2) / 5)
            assert float(codes[row, j]) == pytest.approx(math.cos(angle) if j % 2 else math.sin(angle), abs=1e-6)
    random = index_codes(7, 6, "random", "users")
    torch.testing.assert_close(random.norm(dim=1), torch.full((7,), 3**0.5))
    assert torch.equal(random, index_codes(7, 6, "random", "users"))
    assert not torch.equal(random, index_codes(7, 6, "random", "items"))
    assert not index_codes(7, 6, "none").any()


@pytest.mark.parametrize("values", ["keys", "inputs"])
def test_attention_without_keys_is_attention(values):
    """Row 0 of alpha softmax(G W_Q (G W_K)^T / sqrt(D)) V + (1 - alpha) G."""
    torch.manual_seed(0)
    model = CASES["userec"].model(CASES["userec"].corpus(), attention_values=values)
    user, sampled = torch.randn(4, 32), torch.randn(4, 5, 32)
    for row in range(4):
        g = torch.cat([user[row, None], sampled[row]])  # [6, D]
        q, k = g @ model.query.weight.T, g @ model.key.weight.T
        v = k if values == "keys" else g
        expected = 0.1 * (torch.softmax(q @ k.T / 32**0.5, 1) @ v) + 0.9 * g
        torch.testing.assert_close(model.attend(user, sampled)[row], expected[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"pe_on": "both"}, {"behaviour": False}])
def test_frozen_features_are_mixed_once(options):
    """Mixing before the projection (bind) is mixing after it, as trained features do."""
    corpus = CASES["userec"].corpus()
    frozen = CASES["userec"].model(corpus, **options)
    trained = CASES["userec"].model(corpus, train_features=True, **options)
    for name in frozen.modalities:
        torch.nn.init.normal_(frozen.project[name].bias)
    trained.load_state_dict(frozen.state_dict(), strict=False)
    expected = trained.item_inputs()
    torch.testing.assert_close(frozen.item_inputs(), expected, rtol=1e-4, atol=1e-5)
    content = torch.cat([frozen.project[name](frozen.raw_features(name)) for name in frozen.modalities], 1)
    if options.get("pe_on") == "both":
        content = content + 0.25 * index_codes(40, 32, "sincos")
    if frozen.behaviour is not None:
        content = content + frozen.behaviour.dense() @ content
    torch.testing.assert_close(expected, content, rtol=1e-4, atol=1e-5)


def test_forward_in_the_papers_order():
    corpus = CASES["userec"].corpus()
    model = CASES["userec"].model(corpus).train()
    batch = _first_batch(model, corpus)
    losses = model(batch)
    kept = model.hook_state["kept_edges"]
    assert len(kept) == math.ceil(0.6 * model.interactions.num_edges)

    inputs = model.item_inputs()
    layer = [torch.cat([model.user.weight + 0.25 * index_codes(60, 32, "sincos"), inputs])]
    adjacency = torch.zeros(100, 100)
    for user, item in model.interactions.edge_index[:, kept].T:
        adjacency[user, item] = adjacency[item, user] = 1
    degree = adjacency.sum(1).clamp(min=1)
    adjacency = adjacency / (degree[:, None] * degree).sqrt()
    for _ in range(2):
        layer.append(adjacency @ layer[-1])
    users, items = (sum(layer) / 3).split([60, 40])
    items = items + propagate(model.item_graph, inputs)
    sampled = torch_hash("attention", batch["row_seed"][:, None], torch.arange(5)) % 40
    user = users[batch["user"]]
    user = user + model.attend(user, items[sampled])
    positive, negative = items[batch["positive"]], items[batch["negative"]]
    expected = -F.logsigmoid((user * (positive - negative)).sum(1)).mean()
    torch.testing.assert_close(losses["bpr"], expected, rtol=1e-4, atol=1e-5)
    norm = 0.5 * model.user.weight[batch["user"]].square().sum(1).mean()
    torch.testing.assert_close(losses["norm"], norm)
    contrast = (losses["contrast_user"] + losses["contrast_item"]) / 2
    torch.testing.assert_close(losses["loss"], losses["bpr"] + 0.3 * contrast + 1e-5 * norm)


def test_samples_are_new_in_training_and_fixed_in_scoring():
    corpus = CASES["userec"].corpus()
    model = CASES["userec"].model(corpus).eval()
    with torch.no_grad():
        tables, batch = model.tables(), _scoring_batch(model, corpus)
        whole = model.represent(batch, tables)
        some = torch.tensor([7, 2, 7])
        torch.testing.assert_close(model.represent({"user": some}, tables), whole[some])
        assert not torch.equal(whole, tables["users"][batch["user"]])
        first, second = (
            model.with_attention(whole, tables["items"], torch.arange(12) + start, "attention") for start in (0, 99)
        )
    assert not torch.equal(first, second)


def test_attention_of_weight_zero_is_the_limit_and_has_no_parameters():
    corpus = CASES["userec"].corpus()
    model = CASES["userec"].model(corpus)
    user, items, seed = torch.randn(3, 32), torch.randn(40, 32), torch.arange(3)
    without = CASES["userec"].model(corpus, attention_weight=0.0)
    assert not any(name.startswith(("query", "key")) for name, _ in without.named_parameters())
    model.config.attention_weight = 1e-6
    limit = model.with_attention(user, items, seed, "attention")
    torch.testing.assert_close(without.with_attention(user, items, seed, "attention"), limit, atol=1e-4, rtol=0)


def test_equal_users_of_different_rows_are_negatives():
    model = CASES["userec"].model(CASES["userec"].corpus(), dropout=0.0, regularization=0.0)
    batch = {"user": torch.tensor([0, 1, 0, 1]), "positive": torch.arange(4), "negative": torch.arange(4, 8)}
    seed = torch.tensor([3, 5, 3, 5])  # users 0 and 1 attend to the same items each time
    losses = model(batch | {"row_seed": seed})
    users, items = model.encode()
    x = F.normalize(model.with_attention(users[batch["user"]], items, seed, "attention"), dim=-1)  # [4, D]
    assert torch.equal(x[:2], x[2:])
    torch.testing.assert_close(losses["contrast_user"], F.cross_entropy(x @ x.T / 0.2, torch.arange(4)))
