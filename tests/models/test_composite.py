"""The survey's taxonomy has no released code: the model against dense matrices and loops, and its grid's rows."""

from functools import cache
from itertools import combinations, product
from math import sqrt
from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, leaky_relu

from seqmm.config import load_run, own_fields, sweep_of
from seqmm.data.corpus import Corpus, Features
from seqmm.models.graph.composite import Composite, CompositeConfig
from seqmm.nn.noise import uniform_rows
from seqmm.random import step_generator
from tests.cases import Case

FEATURES = [(), ("text",), ("text_vector", "image_vector"), ("text_vector", "image_vector", "audio")]  # 0 to 3
WEIGHTS = {"text_vector": 0.3, "image_vector": 0.7}
ENCODERS = {
    "mf": {"encoder": "mf", "user_layers": 1},  # it has no graph to take a step over
    "ui": {"item_layers": 0},
    "ui+uu": {"item_layers": 0, "user_layers": 2},
    "ui+ii": {"item_layers": 2, "num_layers": 1},
    "ui+uu+ii": {"item_layers": 3, "user_layers": 1, "num_layers": 3},
}
ALL_GRAPHS = {"item_layers": 2, "user_layers": 1}
SEED = 5  # of an epoch's hooks
BATCH = {
    "user": torch.tensor([3, 0, 7, 3, 19, 11, 4]),
    "positive": torch.tensor([2, 5, 2, 9, 13, 0, 7]),
    "negative": torch.tensor([1, 8, 12, 6, 6, 10, 3]),
    "row_seed": torch.arange(100, 107),
    "step_seed": torch.tensor(11),
}


@cache
def _corpus(features: tuple[str, ...]) -> Corpus:
    return Case("composite", features=features).corpus(num_users=20, num_items=14, mean_length=6)


def _model(features: tuple[str, ...] = FEATURES[2], **options) -> Composite:
    """Small, with weights large enough that a wrong formula shows."""
    small = {"hidden_size": 6, "num_neighbors": 4}
    small |= {"modality_weights": WEIGHTS} if set(features) == set(WEIGHTS) else {}
    return _drawn(Case("composite", small | options, features).model(_corpus(features)))


def _drawn(model: Composite) -> Composite:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.4, generator=generator)
    return model


# -- the taxonomy, entry by entry -------------------------------------------------------------------------------------


class Plain:
    """The model re-stated in float64: dense matrices made pair by pair, fusion node by node."""

    def __init__(self, model: Composite):
        self.config = model.config
        corpus = _corpus(tuple(model.config.features))
        self.users, self.items = corpus.num_users, corpus.num_items
        self.content = {name: _means(feature) for name, feature in corpus.features.items()}
        self.weights = {name: p.detach().double().requires_grad_() for name, p in model.named_parameters()}
        train = corpus.splits["train"]
        self.pairs = sorted(set(zip(train.user.tolist(), train.item.tolist(), strict=True)))

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

    def user_graph(self) -> Tensor:
        """``[U, U]`` S: the counts of shared items of a user's k strongest others; D^-1/2 S D^-1/2."""
        owned = [{item for owner, item in self.pairs if owner == user} for user in range(self.users)]
        matrix = torch.zeros(self.users, self.users, dtype=torch.float64)
        for user in range(self.users):
            shared = [(-len(owned[user] & owned[other]), other) for other in range(self.users) if other != user]
            for count, other in sorted(shared)[: self.config.num_neighbors]:
                matrix[user, other] = -count
        degree = matrix.sum(1).tolist()
        for user, other in product(range(self.users), repeat=2):
            if matrix[user, other] > 0:
                matrix[user, other] /= sqrt(degree[user] * degree[other])
        return matrix

    def item_graph(self) -> Tensor:
        """``[I, I]``: binary kNN by cosine, the item itself among them, 1/k each; modalities mixed by their weights."""
        matrix, k = torch.zeros(self.items, self.items, dtype=torch.float64), self.config.num_neighbors
        for name, content in self.content.items():
            share = self.config.modality_weights.get(name, 1 / len(self.content))
            for item in range(self.items):
                cosine = [float(cosine_similarity(content[item], other, dim=0)) for other in content]
                others = sorted(set(range(self.items)) - {item}, key=cosine.__getitem__, reverse=True)
                for other in [item, *others[: k - 1]]:
                    matrix[item, other] += share / k
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
            out_users = out_users + torch.linalg.matrix_power(self.user_graph(), config.user_layers) @ users
        if config.item_layers and self.content:
            out_items = out_items + torch.linalg.matrix_power(self.item_graph(), config.item_layers) @ items
        return out_users, out_items

    def tables(self, matrix: Tensor, noise: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """early = Enc(Aggr_m(X_m)), late = Aggr_m(Enc(X_m))."""
        sources = [self.weights["item.weight"]] if self.config.use_ids else []
        sources += [self.projected(name) for name in self.content]
        if self.config.timing == "early":
            return self.encoded(self.weights["user.0"], self.fused(sources), matrix, noise)
        parts = [
            self.encoded(self.weights[f"user.{number}"], x, matrix, noise) for number, x in enumerate(sources)
        ]  # a user table for each source
        return self.fused([users for users, _ in parts]), self.fused([items for _, items in parts])


def _means(feature: Features) -> Tensor:
    offsets = range(feature.num_rows + 1) if feature.offsets is None else feature.offsets.tolist()
    values = torch.from_numpy(feature.values).double()
    return torch.stack([sum(values[a:b]) / (b - a) for a, b in zip(offsets[:-1], offsets[1:], strict=True)])


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
        hit, miss = (
            (cosine_similarity(a[j], b[k], dim=0) / temperature).sigmoid() for k in (j, (j + 1) % len(b))
        )
        total = total - hit.log() - (1 - miss).log()
    return total / len(a)


ESTIMATORS = {"info_nce": _info_nce, "js": _js}


def _assert_same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found.double(), expected.double(), rtol=1e-4, atol=1e-5)


def _assert_gradients(model: Composite, found: Tensor, plain: Plain, expected: Tensor) -> None:
    """Of every parameter."""
    wanted = torch.autograd.grad(expected, list(plain.weights.values()))
    for (name, p), gradient in zip(plain.weights.items(), wanted, strict=True):
        assert gradient.abs().max() > 1e-7, f"{name} is not reached"
        (ours,) = torch.autograd.grad(found, [model.get_parameter(name)], retain_graph=True)
        scale = float(gradient.abs().max())
        torch.testing.assert_close(ours.double() / scale, gradient / scale, rtol=1e-3, atol=1e-4, msg=lambda m: f"{name}: {m}")


@pytest.mark.parametrize("attention", [False, True], ids=["heuristic", "attentive"])
@pytest.mark.parametrize("strategy", ["element", "concat"])
@pytest.mark.parametrize("timing", ["early", "late"])
@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("features", FEATURES, ids=lambda features: f"{len(features)}-modalities")
def test_tables_and_scores(features, encoder, timing, strategy, attention):
    model = _model(features, timing=timing, strategy=strategy, attention=attention, **ENCODERS[encoder]).eval()
    plain = Plain(model)
    users, items = plain.tables(plain.interactions())
    for found, expected in zip(model.encode(), (users, items), strict=True):
        _assert_same(found, expected)
    sources = 1 + len(features)
    assert users.shape[1] == items.shape[1] == 6 * (sources if strategy == "concat" else 1)
    tables = model.tables()
    _assert_same(model.represent({"user": torch.tensor([7, 2])}, tables), users[[7, 2]])
    scores = model.score({"user": torch.tensor([7, 2])}, tables, slice(3, 9))
    for (row, user), (column, item) in product(enumerate([7, 2]), enumerate(range(3, 9))):
        assert float(scores[row, column].detach()) == pytest.approx(float(users[user] @ items[item]), abs=1e-4)
