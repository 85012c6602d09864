"""IDFREE: From ID-based to ID-free: Rethinking ID Effectiveness in Multimodal Collaborative Filtering Recommendation.

Li et al., MM 2025; arXiv 2507.05715. A third-party model zoo lists the paper as retracted.

No id tables: an item is its content in each modality, a user the mean of his train items' content, both mapped by the
modality's own ``LayerNorm(tanh(W x + b))`` and, as published, told apart by a sinusoidal code of their row INDEX.
Modalities are averaged into one layer 0 (m_alpha = 1/2; ``modality_weights``) and propagated by LightGCN over the
interactions AUGMENTED by similarity: each modality's k nearest users and items (cosines, added up). In training a
similarity is multiplied by ``sigmoid(relu(A x_row) . relu(B y_column))``, x and y the two modalities' rows ("adaptive
similarity graph"), and every step keeps a fifth of all entries, drawn in proportion to their values; scoring takes all
interactions and the k nearest by the mixed rows themselves. Loss: log-sum-exp over the batch's negatives of
``(cos(u, n) - cos(u, i)) / tau``, plus InfoNCE between a row's modalities before propagation.

The leak. On the public Amazon files users are numbered by the smallest item they touched, test items included: the
untrained code of the index alone, one hop, has R@20 .1120 / .1154 / .1176 (Baby / Sports / Clothing) and .0017 / .0005
/ .0007 after renumbering. The abstract's +72 % "over the best baselines" was measured with it. So ``pe`` is "none" by
default, and "sincos" on a corpus prepared with ``index_order: source`` shows the published setting (see also
seqmm/evaluation/leakage.py and :mod:`seqmm.models.collaborative.userec`).

Differences from the released code: it reads the sparse values in a way that cuts the gradient, so its A and B stay as
they were initialised; here they train, as the paper means. Negative cosines are no edges (they cannot be drawn), and
``D^-1/2`` is not cut off at 10. Users' means are never a table of the raw width while training: ``W mean(x) + b =
mean(W x + b)``. With M modalities the similarity factor and the InfoNCE are averages over all pairs; a single modality
is paired with itself in the factor and has no InfoNCE. Weights of all candidate edges are computed without gradient,
those of the kept ones with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import accumulate, combinations
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqmm.checks import check_count, check_edge_keep
from seqmm.data.corpus import Corpus
from seqmm.distributed import gather_rows
from seqmm.graphs.build import interaction_matrix, knn_graph, mix_graphs, user_item_graph
from seqmm.graphs.kept import kept_knn_graph
from seqmm.graphs.matrix import BLOCK_ELEMENTS, Graph, propagate, propagate_layers
from seqmm.losses import Terms, info_nce, info_nce_of_tables, weighted_sum
from seqmm.models.collaborative.base import CPU, MixingConfig, MixingRecommender
from seqmm.models.paper import Paper
from seqmm.names import PositionCode
from seqmm.nn.features import Constant
from seqmm.nn.positions import index_codes
from seqmm.options import option
from seqmm.random import step_generator
from seqmm.registry import register


class IDFREEConfig(MixingConfig):
    """The paper's settings for Baby; Sports: 4 layers, 5 neighbours; Clothing: 3 layers, 5 neighbours."""

    model_type = "idfree"

    # without a step nothing trains the similarities
    num_layers: int = option(15, "Propagation steps (released yaml's grid: 2 to 25).", least=1)
    num_neighbors: int = option(
        10, "Neighbours in the similarity graphs of users and of items (k; released yaml).", least=1
    )
    edge_keep: float = option(
        0.2, "Share of the augmented graph's entries a step trains on (1 - dropout; released yaml).", above=0, most=1
    )
    adaptive: bool = option(True, "Whether similarities are weighed by a trained function of the two rows (paper).")
    pe: PositionCode = option(
        "none",
        "Code of the row index on users and items; the paper's is sincos, which reads labels (see the model's notes).",
    )
    temperature: float = option(0.2, "Temperature of both losses (tau; released yaml).", above=0)
    modal_weight: float = option(1.0, "Weight of the InfoNCE between modalities (lambda_m, released yaml).", least=0)
    train_features: bool = option(
        True, "Whether the items' raw features are parameters; the users' means are of the features as extracted."
    )


class SimilarityWeight(nn.Module):
    """``sigmoid(mean over pairs (x, y) of relu(A x_row) . relu(B y_column))`` of edges between rows ``[N, d]``."""

    def __init__(self, pairs: list[tuple[str, str]], hidden_size: int):
        super().__init__()
        self.pairs = pairs
        self.row = nn.ModuleList([nn.Linear(hidden_size, hidden_size) for _ in pairs])
        self.column = nn.ModuleList([nn.Linear(hidden_size, hidden_size) for _ in pairs])

    def forward(self, views: Mapping[str, Tensor], edges: Tensor) -> Tensor:
        """``[E]``."""
        total = torch.zeros(edges.shape[1], device=edges.device)
        for (x, y), row, column in zip(self.pairs, self.row, self.column, strict=True):
            rows, columns = F.relu(row(views[x])), F.relu(column(views[y]))  # [N, d]
            parts = edges.split(max(1, BLOCK_ELEMENTS // rows.shape[1]), 1)
            dots = [(F.embedding(part[0], rows) * F.embedding(part[1], columns)).sum(-1) for part in parts]
            total = total + torch.cat(dots)
        return torch.sigmoid(total / len(self.pairs))


@register
class IDFREE(MixingRecommender):
    """Recommends without id tables: users and items are their content, propagated over graphs of similarity.

    Needs at least one set of vectors.
    """

    config_class = IDFREEConfig
    config: IDFREEConfig
    paper = Paper(
        title="From ID-based to ID-free: Rethinking ID Effectiveness in Multimodal Collaborative Filtering "
        "Recommendation",
        authors=("Li", "others"),
        venue="MM",
        year=2025,
        arxiv="2507.05715",
    )

    def __init__(self, config: IDFREEConfig):
        super().__init__(config)
        d = config.hidden_size
        self.project = self.linear_maps(d)
        self.norm = nn.ModuleDict({name: nn.LayerNorm(d) for name in self.modalities})
        self.pairs = [(later, earlier) for earlier, later in combinations(self.modalities, 2)]
        pairs = self.pairs or [(name, name) for name in self.modalities]
        self.similarity = nn.ModuleList([SimilarityWeight(pairs, d) for _ in ("users", "items") if config.adaptive])
        self.post_init()

    def bind(self, corpus: Corpus) -> Self:
        super().bind(corpus)
        c = self.config
        check_count("num_neighbors", c.num_neighbors, corpus.num_items)
        check_count("num_neighbors", c.num_neighbors, corpus.num_users, "users")
        self.history_mean = interaction_matrix(corpus).normalised("rw")  # [U, I]
        self.observed = user_item_graph(corpus).directed()  # [N, N]
        check_edge_keep(c.edge_keep, self.observed.num_edges)  # of more edges it keeps more
        items = {name: self.raw_features(name, CPU) for name in self.modalities}
        nearest_users = [
            kept_knn_graph(propagate(self.history_mean, x), c.num_neighbors, "cosine") for x in items.values()
        ]
        nearest_items = [kept_knn_graph(x, c.num_neighbors, "cosine") for x in items.values()]
        ones = [1.0] * len(items)
        self.augmented, self.ends = self.augment(mix_graphs(nearest_users, ones), mix_graphs(nearest_items, ones))
        sizes = ((c.num_users, "users"), (c.num_items, "items"))
        self.codes = Constant(torch.cat([index_codes(n, c.hidden_size, c.pe, stream) for n, stream in sizes]))  # [N, d]
        return self

    def augment(self, users: Graph, items: Graph) -> tuple[Graph, list[int]]:
        """``[N, N]``: interactions, then edges between users, then between items; and where the first two end."""
        graphs = [self.observed]
        for graph, first in ((users, 0), (items, self.config.num_users)):
            graph = graph.subgraph(torch.nonzero(graph.edge_weight > 0).flatten())
            graphs.append(Graph(graph.edge_index + first, graph.edge_weight, self.observed.shape))
        edges = torch.cat([graph.edge_index for graph in graphs], 1)
        weight = torch.cat([graph.edge_weight for graph in graphs])
        ends = accumulate(graph.num_edges for graph in graphs[:2])
        return Graph(edges, weight, self.observed.shape), list(ends)

    def views(self) -> dict[str, Tensor]:
        """``[N, d]`` users and items in each modality."""
        views = {}
        for name, project in self.project.items():
            content = project(self.raw_features(name))  # [I, d]; the mean of a map is the map of the mean
            items = project(self.features(name)) if self.config.train_features else content
            nodes = torch.cat([propagate(self.history_mean, content), items])
            views[name] = self.norm[name](torch.tanh(nodes)) + self.codes.on(self.device)
        return views

    def mixed(self, views: Mapping[str, Tensor]) -> Tensor:
        """Layer 0, ``[N, d]``."""
        weighted = zip(views.values(), self.mixing_weights(), strict=True)
        return torch.stack([x * weight for x, weight in weighted]).sum(0)

    def edge_weights(self, views: Mapping[str, Tensor], graph: Graph, ends: list[int]) -> Tensor:
        """Training weights of the augmented graph, or of some of its edges in their order; ``ends`` as there."""
        weight = graph.weights_on(self.device)
        if not self.config.adaptive:
            return weight
        observed, *parts = graph.edges_on(self.device).tensor_split(ends, 1)
        factors = [similarity(views, part) for similarity, part in zip(self.similarity, parts, strict=True)]
        return weight * torch.cat([weight.new_ones(observed.shape[1]), *factors])

    def training_graph(self, views: Mapping[str, Tensor], step_seed: Tensor) -> Graph:
        """A step's sample of the augmented graph, normalised by its own row sums; on the model's device."""
        graph, ends = self.augmented, self.ends
        if self.config.edge_keep != 1:
            with torch.no_grad():
                candidates = graph.reweighted(self.edge_weights(views, graph, ends))
            generator = step_generator(step_seed, "edges", self.device)
            kept = candidates.sample_edges(float(self.config.edge_keep), generator, "weight")
            ends = torch.searchsorted(kept, kept.new_tensor(ends)).tolist()  # waits for a GPU, once a step
            graph = graph.subgraph(kept)
        return graph.reweighted(self.edge_weights(views, graph, ends)).normalised()

    def scoring_graph(self, layer0: Tensor) -> Graph:
        """Interactions, and the k nearest by layer 0."""
        users, items = self.split(layer0)
        k = self.config.num_neighbors
        return self.augment(knn_graph(users, k, "cosine"), knn_graph(items, k, "cosine"))[0].normalised()

    def encode(self) -> tuple[Tensor, Tensor]:
        """As they are scored: over :meth:`scoring_graph`."""
        layer0 = self.mixed(self.views())
        return self.split(propagate_layers(self.scoring_graph(layer0), layer0, self.config.num_layers))

    def forward(self, batch: Mapping[str, Tensor], phase: str = "main") -> dict[str, Tensor]:
        tau, views = self.config.temperature, self.views()
        graph = self.training_graph(views, batch["step_seed"])
        nodes = propagate_layers(graph, self.mixed(views), self.config.num_layers)
        user, positive, negative = self.rows(batch, *self.split(nodes))  # [B, d]
        terms: Terms = {"softmax": (1.0, lambda: info_nce(user, positive, tau, candidates=gather_rows(negative)))}
        for later, earlier in self.pairs:
            contrast = partial(self.contrast, batch, views[later], views[earlier])
            terms[f"contrast_{later}_{earlier}"] = self.config.modal_weight / len(self.pairs), contrast
        return weighted_sum(terms)

    def contrast(self, batch: Mapping[str, Tensor], a: Tensor, b: Tensor) -> Tensor:
        """InfoNCE between two views ``[N, d]`` of the batch's users, and of its positives."""
        nodes = (batch["user"], batch["positive"] + self.config.num_users)
        return torch.stack([info_nce_of_tables(rows, a, b, self.config.temperature) for rows in nodes]).sum()
