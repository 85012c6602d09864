"""The survey's taxonomy has no released code: the model against dense matrices and loops, and its grid's rows."""

from dataclasses import replace
from functools import cache
from itertools import combinations, pairwise, product
from math import sqrt
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, leaky_relu

from seqmm.data.corpus import Corpus
from seqmm.files import read_yaml
from seqmm.models.collaborative.composite import Composite, CompositeConfig
from seqmm.nn.noise import uniform_rows
from seqmm.options import hints
from seqmm.random import step_generator
from seqmm.run.variants import sweep_of
from tests.cases import Case
from tests.conftest import REPOSITORY

FEATURES = [(), ("text",), ("text_vector", "image_vector"), ("text_vector", "image_vector", "audio")]
SOURCES = [*((True, features) for features in FEATURES), (False, FEATURES[2])]
SOURCE_NAMES = [f"{'ids+' if use_ids else ''}{len(features)}" for use_ids, features in SOURCES]
WEIGHTS = {"text_vector": 0.3, "image_vector": 0.7}
ENCODERS = {
    "mf": {"encoder": "mf"},
    "ui": {"item_layers": 0},
    "ui+uu": {"item_layers": 0, "user_layers": 2},
    "ui+ii": {"item_layers": 2, "num_layers": 1},
    "ui+uu+ii": {"item_layers": 3, "user_layers": 1, "num_layers": 3},
}
ALL_GRAPHS = {"item_layers": 2, "user_layers": 1}
AXES = ("encoder", "timing", "strategy", "attention", "loss", "auxiliary", "estimator")
SEED = 5
BATCH = {
    "user": torch.tensor([3, 0, 7, 3, 13, 11]),
    "positive": torch.tensor([2, 5, 2, 9, 0, 7]),
    "negative": torch.tensor([1, 8, 4, 6, 6, 3]),
    "row_seed": torch.arange(100, 106),
    "step_seed": torch.tensor(11),
}


@cache
def _corpus(features: tuple[str, ...]) -> Corpus:
    return Case("composite", features=features).corpus(num_users=14, num_items=10, mean_length=6)


def _model(features: tuple[str, ...] = FEATURES[2], **options) -> Composite:
    """Small, with weights large enough that a wrong formula shows."""
    small: dict[str, Any] = {"hidden_size": 6, "num_neighbors": 3}
    if features == FEATURES[2] and options.get("encoder") != "mf" and options.get("item_layers") != 0:
        small["modality_weights"] = WEIGHTS
    return _drawn(Case("composite", small | options, features).model(_corpus(features)))


def _drawn(model: Composite) -> Composite:
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.6, generator=generator)
    return model


# -- the taxonomy, entry by entry -------------------------------------------------------------------------------------


def _pairs(corpus: Corpus) -> list[tuple[int, int]]:
    train = corpus.splits["train"]
    return sorted(set(zip(train.user.tolist(), train.item.tolist(), strict=True)))


def _content(corpus: Corpus) -> dict[str, Tensor]:
    """``[I, dim]`` means of the items' vectors."""
    content = {}
    for name, feature in corpus.features.items():
        values = torch.from_numpy(feature.values).double()
        offsets = range(len(values) + 1) if feature.offsets is None else feature.offsets.tolist()
        content[name] = torch.stack([sum(values[a:b]) / (b - a) for a, b in pairwise(offsets)])
    return content


@cache
def _user_graph(features: tuple[str, ...], k: int) -> Tensor:
    """``[U, U]`` D^-1/2 S D^-1/2; a row of S holds the numbers of items shared with a user's k nearest others."""
    corpus = _corpus(features)
    owned = [{item for owner, item in _pairs(corpus) if owner == user} for user in range(corpus.num_users)]
    matrix = torch.zeros(len(owned), len(owned), dtype=torch.float64)
    for user, items in enumerate(owned):
        shared = [(-len(items & theirs), other) for other, theirs in enumerate(owned) if other != user]
        for count, other in sorted(shared)[:k]:
            matrix[user, other] = -count
    degree = matrix.sum(1)
    for user, other in matrix.nonzero().tolist():
        matrix[user, other] /= sqrt(degree[user] * degree[other])
    return matrix


@cache
def _item_graph(features: tuple[str, ...], k: int) -> Tensor:
    """``[I, I]``: an item and its k - 1 nearest by cosine, 1/k each; modalities mixed by their weights."""
    corpus = _corpus(features)
    matrix = torch.zeros(corpus.num_items, corpus.num_items, dtype=torch.float64)
    for name, content in _content(corpus).items():
        share = WEIGHTS[name] if features == FEATURES[2] else 1 / len(features)
        for item, x in enumerate(content):
            cosine = [float(cosine_similarity(x, other, dim=0)) for other in content]
            others = sorted(set(range(len(content))) - {item}, key=cosine.__getitem__, reverse=True)
            for other in [item, *others[: k - 1]]:
                matrix[item, other] += share / k
    return matrix


class Plain:
    """The model re-stated in float64: dense matrices made pair by pair, fusion node by node."""

    def __init__(self, model: Composite):
        self.config, k = model.config, model.config.num_neighbors
        features = tuple(model.config.feature_order)
        corpus = _corpus(features)
        self.users, self.items = corpus.num_users, corpus.num_items
        self.content = _content(corpus)
        self.weights = {name: p.detach().double().requires_grad_() for name, p in model.named_parameters()}
        self.pairs = _pairs(corpus)
        self.user_graph, self.item_graph = _user_graph(features, k), _item_graph(features, k)

    def interactions(self, positions: Tensor | None = None) -> Tensor:
        """``[U + I, U + I]`` D^-1/2 A D^-1/2 of all pairs, or of those at some positions; D counts what is left."""
        pairs = self.pairs if positions is None else [self.pairs[position] for position in positions.tolist()]
        degree = [0] * (self.users + self.items)
        for user, item in pairs:
            degree[user] += 1
            degree[self.users + item] += 1
        matrix = torch.zeros(len(degree), len(degree), dtype=torch.float64)
        for user, item in pairs:
            node = self.users + item
            matrix[user, node] = matrix[node, user] = 1 / sqrt(degree[user] * degree[node])
        return matrix

    def projected(self, name: str) -> Tensor:
        """``[I, d]`` W x + b."""
        weight, bias = (self.weights[f"project.{name}.{part}"] for part in ("weight", "bias"))
        return torch.stack([weight @ row + bias for row in self.content[name]])

    def attention(self, vectors: list[Tensor]) -> list[Tensor]:
        """A weight for each source of one node."""
        inner, bias = self.weights["weigh.inner.weight"], self.weights["weigh.inner.bias"]
        logits = [self.weights["weigh.outer.weight"][0] @ torch.tanh(inner @ x + bias) for x in vectors]
        total = sum(logit.exp() for logit in logits)
        return [logit.exp() / total for logit in logits]

    def fused(self, sources: list[Tensor]) -> Tensor:
        """``[n, d]`` of each source ``-> [n, d]`` or ``[n, S d]``."""
        rows = []
        for vectors in zip(*sources, strict=True):
            attentive = self.config.attention and len(vectors) > 1
            weights = self.attention(list(vectors)) if attentive else [1.0] * len(vectors)
            parts = [weight * x for weight, x in zip(weights, vectors, strict=True)]
            if self.config.strategy == "concat":
                rows.append(torch.cat(parts))
            else:
                rows.append(sum(parts) / (1 if attentive else len(parts)))
        return torch.stack(rows)

    def encoded(
        self, users: Tensor, items: Tensor, matrix: Tensor, noise: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Enc: the mean of the user-item layers, plus the last of the user-user and of the item-item layers."""
        config = self.config
        if config.encoder == "mf":
            return users, items
        layers = [torch.cat([users, items])]
        for _ in range(config.num_layers):
            layer = matrix @ layers[-1]
            if noise is not None:
                layer = _moved(layer, config.strength, torch.rand(layer.shape, generator=noise))
            layers.append(layer)
        nodes = sum(layers) / len(layers)
        out_users, out_items = nodes[: self.users], nodes[self.users :]
        if config.user_layers:
            out_users = out_users + torch.linalg.matrix_power(self.user_graph, config.user_layers) @ users
        if config.item_layers and self.content:
            out_items = out_items + torch.linalg.matrix_power(self.item_graph, config.item_layers) @ items
        return out_users, out_items

    def tables(self, matrix: Tensor, noise: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """early = Enc(Aggr_m(X_m)), late = Aggr_m(Enc(X_m))."""
        sources = [self.weights["item.weight"]] if self.config.use_ids else []
        sources += [self.projected(name) for name in self.content]
        if self.config.timing == "early":
            return self.encoded(self.weights["user.0"], self.fused(sources), matrix, noise)
        users = [self.weights[f"user.{number}"] for number in range(len(sources))]  # a table for each source
        parts = [self.encoded(table, x, matrix, noise) for table, x in zip(users, sources, strict=True)]
        return self.fused([users for users, _ in parts]), self.fused([items for _, items in parts])


def _moved(x: Tensor, length: float, uniform: Tensor) -> Tensor:
    """SimGCL: a step of a fixed length in a drawn direction within each row's orthant."""
    steps = [length * draw / sqrt(float(draw.square().sum())) for draw in uniform.double()]
    return x + torch.stack(steps) * x.detach().sign()


def _info_nce(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    total = 0.0
    for j in range(len(a)):
        exps = [(cosine_similarity(a[j], b[k], dim=0) / temperature).exp() for k in range(len(b))]
        total = total - (exps[j] / sum(exps)).log()
    return total / len(a)


def _js(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """The other row is the next one: rows come shuffled."""
    total = 0.0
    for j in range(len(a)):
        hit, miss = ((cosine_similarity(a[j], b[k], dim=0) / temperature).sigmoid() for k in (j, (j + 1) % len(b)))
        total = total - hit.log() - (1 - miss).log()
    return total / len(a)


ESTIMATORS = {"info_nce": _info_nce, "js": _js}


def _assert_same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found.double(), expected.double(), rtol=1e-4, atol=1e-5)


def _assert_gradients(model: Composite, found: Tensor, plain: Plain, expected: Tensor) -> None:
    """Of every parameter."""
    names = list(plain.weights)
    options = {"retain_graph": True, "allow_unused": True}
    ours = torch.autograd.grad(found, [model.get_parameter(name) for name in names], **options)
    theirs = torch.autograd.grad(expected, list(plain.weights.values()), **options)
    for name, gradient, wanted in zip(names, ours, theirs, strict=True):
        if wanted is None or wanted.abs().max() < 1e-9:
            assert gradient is None or gradient.abs().max() < 1e-6, f"{name} has a gradient"
        else:
            assert gradient is not None, f"{name} has no gradient"
            error = (gradient - wanted).abs().max() / wanted.abs().max()
            assert error < 1e-3, f"{name}: error {error:.1e}"


@pytest.mark.parametrize("attention", [False, True], ids=["heuristic", "attentive"])
@pytest.mark.parametrize("strategy", ["element", "concat"])
@pytest.mark.parametrize("timing", ["early", "late"])
@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize(("use_ids", "features"), SOURCES, ids=SOURCE_NAMES)
@torch.no_grad()
def test_tables_and_scores(use_ids, features, encoder, timing, strategy, attention):
    fusion = {"use_ids": use_ids, "timing": timing, "strategy": strategy, "attention": attention}
    model = _model(features, **fusion, **ENCODERS[encoder]).eval()
    plain = Plain(model)
    users, items = plain.tables(plain.interactions())
    assert users.shape[1] == items.shape[1] == 6 * (len(features) + use_ids if strategy == "concat" else 1)
    for found, expected in zip(model.encode(), (users, items), strict=True):
        _assert_same(found, expected)
    tables, batch = model.tables(), {"user": torch.tensor([7, 2])}
    _assert_same(model.represent(batch, tables), users[[7, 2]])
    scores = model.score(batch, tables, slice(3, 8))
    for (row, user), (column, item) in product(enumerate([7, 2]), enumerate(range(3, 8))):
        assert float(scores[row, column]) == pytest.approx(float(users[user] @ items[item]), abs=1e-4)


def test_graphs():
    """Also on their own, so that a wrong one is not looked for in the fusion."""
    model = _model(user_layers=1, item_layers=1)
    plain = Plain(model)
    _assert_same(model.graph.dense(), plain.interactions())
    _assert_same(model.item_graph.dense(), plain.item_graph)
    _assert_same(model.user_graph.dense(), plain.user_graph)


@pytest.mark.parametrize("strategy", ["element", "concat"])
@pytest.mark.parametrize("encoder", ENCODERS)
@torch.no_grad()
def test_timing_matters_only_with_attention(encoder, strategy):
    """The encoder is linear: without attention, late fusion scores as early fusion does with the fused user tables."""
    for attention in (False, True):
        fusion = {"strategy": strategy, "attention": attention}
        late = _model(timing="late", **fusion, **ENCODERS[encoder])
        early = _model(timing="early", **fusion, **ENCODERS[encoder])
        shared = {name: tensor for name, tensor in late.state_dict().items() if not name.startswith("user")}
        early.load_state_dict(shared, strict=False)
        tables = list(late.user)
        early.user[0].copy_(torch.cat(tables, 1) if strategy == "concat" else sum(tables) / len(tables))
        scores = [users @ items.T for users, items in (late.encode(), early.encode())]
        if attention:
            assert (scores[0] - scores[1]).abs().max() > 0.01
        else:
            _assert_same(*scores)


# -- losses -----------------------------------------------------------------------------------------------------------


def _mse(positive: list[Tensor], negative: list[Tensor]) -> Tensor:
    return (sum((y - 1) ** 2 for y in positive) + sum(y**2 for y in negative)) / (len(positive) + len(negative))


def _ce(positive: list[Tensor], negative: list[Tensor]) -> Tensor:
    """-log sigmoid(y) of observed, -log(1 - sigmoid(y)) of sampled pairs."""
    terms = [(1 + (-y).exp()).log() for y in positive] + [(1 + y.exp()).log() for y in negative]
    return sum(terms) / len(terms)


def _bpr(positive: list[Tensor], negative: list[Tensor]) -> Tensor:
    """-log sigmoid(p - n)."""
    return sum((1 + (n - p).exp()).log() for p, n in zip(positive, negative, strict=True)) / len(positive)


def _hinge(positive: list[Tensor], negative: list[Tensor]) -> Tensor:
    margins = [1 - p + n for p, n in zip(positive, negative, strict=True)]
    assert any(m > 0 for m in margins) and any(m < 0 for m in margins), "both sides are tested"
    return sum(m for m in margins if m > 0) / len(margins)


LOSSES = {"mse": _mse, "ce": _ce, "bpr": _bpr, "hinge": _hinge}


def _rows(users: Tensor, items: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return users[BATCH["user"]], items[BATCH["positive"]], items[BATCH["negative"]]


def _main_and_norm(model: Composite, user: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    scores = [[u @ i for u, i in zip(user, item, strict=True)] for item in (positive, negative)]
    norm = sum(0.5 * row @ row for rows in (user, positive, negative) for row in rows) / len(user)
    return LOSSES[model.config.loss](*scores), norm


@pytest.mark.parametrize("attention", [False, True], ids=["heuristic", "attentive"])
@pytest.mark.parametrize("strategy", ["element", "concat"])
@pytest.mark.parametrize("timing", ["early", "late"])
@pytest.mark.parametrize("loss", LOSSES)
def test_losses(loss, timing, strategy, attention):
    fusion = {"timing": timing, "strategy": strategy, "attention": attention}
    model = _model(loss=loss, regularization=0.3, **fusion, **ALL_GRAPHS)
    plain = Plain(model)
    main, norm = _main_and_norm(model, *_rows(*plain.tables(plain.interactions())))
    parts = model(BATCH)
    assert set(parts) == {"loss", loss, "norm"}
    _assert_same(parts[loss], main)
    _assert_same(parts["norm"], norm)
    _assert_same(parts["loss"], main + 0.3 * norm)
    _assert_gradients(model, parts["loss"], plain, main + 0.3 * norm)


# -- auxiliary tasks --------------------------------------------------------------------------------------------------


def _assert_auxiliary(model: Composite, plain: Plain, views: list[tuple[Tensor, Tensor]], matrix: Tensor) -> None:
    """The mean over the pairs of views, weighed, beside the main loss over ``matrix``."""
    estimate = ESTIMATORS[model.config.estimator]
    auxiliary = sum(estimate(a, b, model.config.temperature) for a, b in views) / len(views)
    main, norm = _main_and_norm(model, *_rows(*plain.tables(matrix)))
    parts = model(BATCH)
    assert set(parts) == {"loss", "bpr", "norm", "auxiliary"}
    _assert_same(parts["auxiliary"], auxiliary)
    total = main + model.config.regularization * norm + model.config.auxiliary_weight * auxiliary
    _assert_same(parts["loss"], total)
    _assert_gradients(model, parts["auxiliary"], plain, auxiliary)


def _feature_views(plain: Plain, how: str, user: Tensor, positive: Tensor) -> list[tuple[Tensor, Tensor]]:
    strength, width = plain.config.strength, user.shape[1]
    if how == "modalities":
        return list(combinations([plain.projected(name)[BATCH["positive"]] for name in plain.content], 2))
    if how == "mlp":
        w1, b1, w2, b2 = (plain.weights[f"predict.{name}"] for name in ("0.weight", "0.bias", "2.weight", "2.bias"))
        mapped = [[w2 @ leaky_relu(w1 @ row + b1, 0.01) + b2 for row in rows] for rows in (user, positive)]
        return [(torch.stack(mapped[0]), user), (torch.stack(mapped[1]), positive)]

    def view(rows: Tensor, stream: str) -> Tensor:
        uniform = uniform_rows(width, BATCH["row_seed"], stream)
        if how == "noise":
            return _moved(rows, strength, uniform)
        kept = [[float(u >= strength) / (1 - strength) for u in draws] for draws in uniform]
        return rows * torch.tensor(kept, dtype=torch.float64)

    return [(view(rows, f"{name}a"), view(rows, f"{name}b")) for name, rows in (("user", user), ("item", positive))]


@pytest.mark.parametrize("fusion", [("late", "element", False), ("early", "concat", True)], ids=["late", "early"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("how", ["mlp", "dropout", "noise", "modalities"])
@pytest.mark.parametrize("features", FEATURES[2:], ids=lambda features: f"{len(features)}-modalities")
def test_feature_based_views(features, how, estimator, fusion):
    timing, strategy, attention = fusion
    options = {"timing": timing, "strategy": strategy, "attention": attention, "estimator": estimator}
    model = _model(
        features, auxiliary=how, auxiliary_weight=0.7, strength=0.3, temperature=0.4, regularization=0.1, **options
    )
    plain = Plain(model)
    matrix = plain.interactions()
    user, positive, _ = _rows(*plain.tables(matrix))
    _assert_auxiliary(model, plain, _feature_views(plain, how, user, positive), matrix)


def _with_both_ends(plain: Plain, share: float, generator: torch.Generator) -> Tensor:
    """Positions of the pairs that stay when a share of the users goes, and then of the items."""
    users = torch.randperm(plain.users, generator=generator)[: int(share * plain.users)].tolist()
    items = torch.randperm(plain.items, generator=generator)[: int(share * plain.items)].tolist()
    left = [user not in users and item not in items for user, item in plain.pairs]
    return torch.tensor(left).nonzero().flatten()


@pytest.mark.parametrize("fusion", [("late", "concat", True), ("early", "element", False)], ids=["late", "early"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("how", ["node_drop", "edge_drop", "graph_noise"])
@pytest.mark.parametrize("edge_keep", [1.0, 0.6])
def test_structure_based_views(edge_keep, how, estimator, fusion):
    """Over perturbed graphs; the main loss over what ``edge_keep`` leaves of the clean one."""
    timing, strategy, attention = fusion
    options = {"timing": timing, "strategy": strategy, "attention": attention, "estimator": estimator}
    model = _model(
        auxiliary=how, auxiliary_weight=0.7, strength=0.3, temperature=0.4, edge_keep=edge_keep, **options, **ALL_GRAPHS
    ).train()
    model.on_stage_start(0, 0, torch.Generator().manual_seed(SEED))
    plain = Plain(model)
    again, edges = torch.Generator().manual_seed(SEED), model.interactions
    kept = edges.sample_edges(edge_keep, again) if edge_keep < 1 else None
    matrix = plain.interactions(kept)
    views = []
    for view in ("view_0", "view_1"):
        perturbed, noise = matrix, None
        if how == "edge_drop":
            perturbed = plain.interactions(edges.sample_edges(1 - 0.3, again, "uniform"))
        elif how == "node_drop":
            perturbed = plain.interactions(_with_both_ends(plain, 0.3, again))
        else:
            noise = step_generator(BATCH["step_seed"], view)
        users, items = plain.tables(perturbed, noise)
        views.append((users[BATCH["user"]], items[BATCH["positive"]]))
    assert (views[0][0] - views[1][0]).abs().max() > 0.01, "two draws"
    _assert_auxiliary(model, plain, list(zip(*views, strict=True)), matrix)
    clean = plain.tables(plain.interactions())
    for found, expected in zip(model.eval().encode(), clean, strict=True):
        _assert_same(found, expected)


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="'edge_drop'.*encoder mf"):
        _model(encoder="mf", auxiliary="edge_drop")
    with pytest.raises(ValueError, match="'modalities'"):
        _model(("text",), auxiliary="modalities")
    with pytest.raises(ValueError, match="use_ids"):
        _model((), use_ids=False)


# -- the grid ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def grid() -> list[CompositeConfig]:
    file = REPOSITORY / "recipes" / "configs" / "composite" / "baby_grid.yaml"
    values = read_yaml(file)
    points = sweep_of(values, file).values()
    rows = [values["model"] | {key.removeprefix("model."): row[key] for key in row} for row in points]
    return [CompositeConfig(**{name: value for name, value in row.items() if name != "model_type"}) for row in rows]


def test_no_two_rows_of_the_grid_are_one_model(grid):
    """The same parameters and, from the same weights, the same loss: one of the two would be trained for nothing.

    Early and late rows without attention differ in their user tables only (test_timing_matters_only_with_attention).
    """
    whole = Case("composite", features=FEATURES[2]).corpus(num_users=14, num_items=10, mean_length=6)
    corpus = replace(whole, features=dict(zip(("text", "image"), whole.features.values(), strict=True)))
    rows: list[tuple[dict[str, torch.Size], float]] = []
    for config in grid:
        config.hidden_size, config.num_neighbors = 6, 3
        model = _drawn(Composite.for_corpus(config, corpus)).train()
        model.on_stage_start(0, 0, torch.Generator().manual_seed(SEED))
        shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
        rows.append((shapes, float(model(BATCH)["loss"].detach())))
    alike = [
        (one, other)
        for (one, a), (other, b) in combinations(enumerate(rows), 2)
        if a[0] == b[0] and a[1] == pytest.approx(b[1], abs=1e-6)
    ]
    assert not alike, f"rows {alike} (counted from 0) are the same"


def test_the_grid_covers_the_taxonomy(grid):
    axes = {name: get_args(hints(CompositeConfig)[name]) or (False, True) for name in AXES}
    fusion = ("encoder", "timing", "strategy", "attention")
    for names in (fusion, ("loss",), ("auxiliary",)):
        rows = {tuple(getattr(config, name) for name in names) for config in grid}
        assert rows == set(product(*(axes[name] for name in names)))
    tasks = {(config.auxiliary, config.estimator) for config in grid if config.auxiliary != "none"}
    assert tasks == set(product(set(axes["auxiliary"]) - {"none"}, axes["estimator"]))
    graphs = {(config.user_layers > 0, config.item_layers > 0) for config in grid if config.encoder == "graph"}
    assert graphs == set(product((False, True), repeat=2))
