"""What the models of the graph half share: tables of users and items, the user-item graph, item content by modality."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqmm.checks import check_count, check_edge_keep
from seqmm.data.collators import PairCollator
from seqmm.data.corpus import Corpus
from seqmm.graphs.build import (
    cooccurrence,
    mix_graphs,
    neighbour_softmax,
    sample_neighbours,
    softmax_rows,
    user_item_graph,
)
from seqmm.graphs.kept import kept_knn_graph
from seqmm.graphs.matrix import Graph, propagate_layers
from seqmm.models.base import Recommender, RecommenderConfig, Stage
from seqmm.models.content import check_modalities, feature_tables
from seqmm.names import EdgeWeight, Normalisation
from seqmm.options import check_idle, option
from seqmm.random import step_generator

Initialiser = Callable[[Tensor], Any]
"""An ``nn.init`` function."""
CPU = torch.device("cpu")


class CountingRecommender(Recommender):
    """Reads the train interactions in :meth:`bind` and trains nothing."""

    sized_by: ClassVar[tuple[str, ...]] = ("num_items",)

    def __init__(self, config: RecommenderConfig):
        super().__init__(config)
        # transformers asks a model for its dtype and device, and finds them in its parameters
        self.place = nn.Parameter(torch.zeros(0), requires_grad=False)
        self.post_init()


class PairRecommender(Recommender):
    """Trained on (user, positive, negative) rows; scores by the tables of users and items that :meth:`encode` makes."""

    stages: ClassVar[tuple[Stage, ...]] = (Stage(PairCollator),)
    table_init: ClassVar[Any] = staticmethod(nn.init.xavier_uniform_)
    """How embedding tables start, an ``nn.init`` function."""
    linear_init: ClassVar[Any] = None
    """How linear weights start, their biases at zero then; None = PyTorch's default for both."""
    user: Any
    item: Any

    def make_ids(self) -> None:
        """Builds the id tables: ``user [U, d]`` and ``item [I, d]``."""
        self.user = nn.Embedding(self.config.num_users, self.config.hidden_size)
        self.item = nn.Embedding(self.config.num_items, self.config.hidden_size)

    def ids(self) -> Tensor:
        """``[U + I, d]`` ids of all nodes: layer 0 of a propagation."""
        return torch.cat([self.user.weight, self.item.weight])

    def _init_weights(self, module: nn.Module) -> None:
        cls = type(self)
        initialise_with(module, cls.table_init, cls.linear_init)

    def encode(self) -> tuple[Tensor, Tensor]:
        """Final representations of all users ``[U, d]`` and items ``[I, d]``; deterministic in eval mode."""
        raise NotImplementedError

    def tables(self) -> dict[str, Tensor]:
        users, items = self.encode()
        return {"users": users, "items": items}

    def represent(self, batch: Mapping[str, Tensor], tables: Mapping[str, Tensor]) -> Tensor:
        return tables["users"][batch["user"]]

    def split(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """``[U + I, d]`` into users and items."""
        users, items = nodes.split([self.config.num_users, self.config.num_items])
        return users, items

    @staticmethod
    def rows(batch: Mapping[str, Tensor], users: Tensor, items: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``[B, d]`` rows of the batch's users, positives and negatives."""
        # F.embedding: its backward is several times faster than that of indexing
        both = F.embedding(torch.cat([batch["positive"], batch["negative"]]), items)
        positive, negative = both.chunk(2)
        return F.embedding(batch["user"], users), positive, negative


class GraphConfig(RecommenderConfig):
    """Of a model that propagates over the user-item graph."""

    edge_keep: float = option(
        1.0,
        "Share of the user-item edges an epoch trains on, drawn degree-sensitively (FREEDOM); scoring uses all edges.",
        above=0,
        most=1,
    )


class GraphRecommender(PairRecommender):
    """Adds the normalised user-item graph, and an epoch's sample of its edges.

    :meth:`encode` propagates over :meth:`current_graph`: the sample while training, everything otherwise.
    """

    config_class = GraphConfig
    config: GraphConfig
    normalisation: ClassVar[Normalisation] = "sym"

    def bind(self, corpus: Corpus) -> Self:
        super().bind(corpus)
        self.interactions = user_item_graph(corpus)  # unnormalised: what edges are drawn from
        check_edge_keep(self.config.edge_keep, self.interactions.num_edges)
        self.graph = self.training_graph = self.interactions.normalised(self.normalisation)
        self._both_ways: tuple[Graph | None, Graph] = (None, self.graph)
        return self

    def current_graph(self) -> Graph:
        return self.training_graph if self.training else self.graph

    def on_stage_start(self, stage: int, epoch: int, generator: torch.Generator) -> None:
        super().on_stage_start(stage, epoch, generator)
        if self.config.edge_keep != 1:
            self.set_state("kept_edges", self.interactions.sample_edges(self.edges_to_keep(), generator))

    def edges_to_keep(self) -> float | int:
        """What an epoch trains on: a share of the edges (their number is rounded down) or a number."""
        return float(self.config.edge_keep)

    def on_state(self, name: str, tensor: Tensor) -> None:
        super().on_state(name, tensor)
        if name == "kept_edges":
            self.training_graph = self.graph_of(tensor)

    def graph_of(self, edges: Tensor) -> Graph:
        """The graph of the interactions at positions ``edges [n]``, normalised by its own degrees."""
        return self.interactions.subgraph(edges.cpu()).normalised(self.normalisation)

    def dropped_graph(self, drop: float, generator: torch.Generator) -> Graph:
        """While training, the current graph with inverted dropout on its entries, each direction of an edge on its own.

        Args:
            drop: share of the entries that become 0; nothing is renormalised.
            generator: on the device the weights are wanted on, the same on all ranks (``step_generator``).
        """
        graph = self.current_graph()
        if drop == 0 or not self.training:
            return graph
        if self._both_ways[0] is not graph:  # listed once for a graph: the prepared pattern is shared by all steps
            self._both_ways = graph, graph.directed()
        return self._both_ways[1].with_dropped_values(1 - drop, generator)

    def randomly_dropped_graph(self, most: float, step_seed: Tensor, stream: str) -> Graph:
        """:meth:`dropped_graph` at a share that each step draws from U(0, most)."""
        generator = step_generator(step_seed, stream, CPU)
        drop = most * float(torch.rand((), generator=generator))  # a number drawn on a GPU would have to be waited for
        if self.device != CPU:
            generator = step_generator(step_seed, stream, self.device)
        return self.dropped_graph(drop, generator)


class ContentConfig(RecommenderConfig):
    """Of a model that reads item content: every feature set of ``data.features`` is a modality, in that order."""

    train_features: bool = option(
        False, "Whether the raw feature tables are parameters that start as the features (MMRec's freeze=False)."
    )


class ContentRecommender(PairRecommender):
    """Adds item content by modality, of vectors (no tags); ragged sets are read as their means."""

    config_class = ContentConfig
    config: ContentConfig
    min_modalities: ClassVar[int] = 1
    """Feature sets without which the model makes no sense."""

    def __init__(self, config: ContentConfig):
        super().__init__(config)
        check_modalities(config, self.min_modalities)
        trained = config.features if config.train_features and self.reads_content else {}
        self.trained_features = nn.ParameterDict(
            {name: nn.Parameter(torch.empty(config.num_items, made["dim"])) for name, made in trained.items()}
        )

    @property
    def reads_content(self) -> bool:
        """False if content only builds graphs (under these settings): no copy of it is trained then, nor a map."""
        return True

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the feature sets, in the order of ``data.features``."""
        return tuple(self.config.feature_order)

    def _init_weights(self, module: nn.Module) -> None:
        if module is not self.trained_features:  # these start as the features
            super()._init_weights(module)

    def feature_dim(self, name: str) -> int:
        return int(self.config.features[name]["dim"])

    def initialise(self, corpus: Corpus) -> None:
        super().initialise(corpus)
        with torch.no_grad():
            read = feature_tables(self, corpus)
            for name, table in self.trained_features.items():
                table.copy_(read[name].means(table.device))

    def bind(self, corpus: Corpus) -> Self:
        super().bind(corpus)
        self.feature_tables = feature_tables(self, corpus)
        return self

    def raw_features(self, name: str, device: torch.device | None = None) -> Tensor:
        """``[I, dim]`` the items' content in one modality as it was extracted; on the model's device unless said."""
        return self.feature_tables[name].means(self.device if device is None else device)

    def features(self, name: str) -> Tensor:
        """``[I, dim]`` the items' content in one modality: the trained copy if there is one, else the raw one."""
        return self.trained_features[name] if name in self.trained_features else self.raw_features(name)

    def linear_maps(self, width: int, bias: bool = True) -> nn.ModuleDict:
        """A map of each modality's content to ``width``; none where content is not read (nothing would train it)."""
        read = self.modalities if self.reads_content else ()
        return nn.ModuleDict({name: nn.Linear(self.feature_dim(name), width, bias=bias) for name in read})

    def knn(self, name: str, k: int, weight: EdgeWeight = "binary") -> Graph:
        """The items' k nearest by raw content in one modality, D^-1/2 S D^-1/2 (1/k everywhere if binary).

        Raises:
            ValueError: unless k, the model's ``num_neighbors``, is 1 to the number of items.
        """
        check_count("num_neighbors", k, self.config.num_items)
        return kept_knn_graph(self.raw_features(name, CPU), k, weight).normalised()


class ContentGraphConfig(ContentConfig, GraphConfig):
    """Of a model that propagates over the user-item graph and reads item content."""


class ContentGraphRecommender(ContentRecommender, GraphRecommender):
    """Both: the user-item graph and item content."""

    config_class = ContentGraphConfig
    config: ContentGraphConfig


class MixingConfig(ContentConfig):
    """Of a model that mixes what modalities bring by fixed weights."""

    modality_weights: dict[str, float] = option(
        {},
        "Name value pairs by which modalities are mixed; none = equal. MMRec's mm_image_weight 0.1 is: image 0.1 "
        "text 0.9.",
    )


class MixingRecommender(ContentRecommender):
    """Adds fixed weights of the modalities.

    Raises:
        ValueError: if ``modality_weights`` names other modalities than the corpus has.
    """

    config_class = MixingConfig
    config: MixingConfig

    def __init__(self, config: MixingConfig):
        super().__init__(config)
        self.mixing_weights()  # wrong names are refused at once

    def mixing_weights(self) -> list[float]:
        """``modality_weights`` in the order of :attr:`modalities`; equal if none are given.

        Raises:
            ValueError: if they name other modalities than the corpus has.
        """
        given = self.config.modality_weights
        if not given:
            return [1 / len(self.modalities) for _ in self.modalities]
        if set(given) != set(self.modalities):
            raise ValueError(
                f"model.modality_weights names {sorted(given)} but the feature sets are {sorted(self.modalities)}; "
                "give each a weight, or none at all (`model.modality_weights={}`)"
            )
        return [given[name] for name in self.modalities]

    def frozen_item_graph(self, k: int) -> Graph:
        """FREEDOM's item graph ``[I, I]``: binary kNN graphs of all modalities, mixed by ``modality_weights``."""
        return mix_graphs([self.knn(name, k) for name in self.modalities], self.mixing_weights())


class ItemGraphConfig(MixingConfig, ContentGraphConfig):
    """Of a model that also propagates over FREEDOM's item graph."""

    num_item_layers: int = option(1, "Item-item propagation steps (released codes); 0 = no item graph.", least=0)
    num_neighbors: int = option(10, "Neighbours of an item in the item-item graphs (k; released codes).", least=1)

    def check(self) -> None:
        super().check()
        if self.num_item_layers == 0:
            check_idle(self, "num_item_layers 0 builds no item graph", "modality_weights")


class ItemGraphRecommender(MixingRecommender, ContentGraphRecommender):
    """Adds FREEDOM's item-item graph ``[I, I]``, built once from raw content."""

    config_class = ItemGraphConfig
    config: ItemGraphConfig

    def __init__(self, config: ItemGraphConfig):
        super().__init__(config)

    def bind(self, corpus: Corpus) -> Self:
        super().bind(corpus)
        built = self.modalities and self.config.num_item_layers
        self.item_graph = self.frozen_item_graph(self.config.num_neighbors) if built else None
        return self

    def with_similar(self, items: Tensor, sent: Tensor) -> Tensor:
        """``items [I, D]``, plus what ``sent [I, D]`` becomes over the item graph if there is one."""
        if self.item_graph is None:
            return items
        return items + propagate_layers(self.item_graph, sent, self.config.num_item_layers, "last")


class UserGraphConfig(ContentGraphConfig):
    """Of a model that also propagates over the users' co-occurrence graph."""

    num_user_neighbors: int = option(
        40, "A user's neighbours: those who share most training items with it (released codes).", least=1
    )
    neighbor_padding: Literal["none", "repeat"] = option(
        "none",
        "A user with fewer neighbours averages over those it has (none), or trains on a list filled up with "
        "random repeats of them, drawn anew each epoch (repeat: the released codes). 3 % of Baby's users have "
        "fewer, 27 % of Clothing's.",
    )


class UserGraphRecommender(ContentGraphRecommender):
    """Adds DualGNN's user-user graph ``[U, U]``: neighbours share training items; weights, the softmax of the counts.

    Repeats are noise on the weights whose expectation is the same for all neighbours of a user. Scoring therefore goes
    without them, so it is a function of weights and corpus alone: no state of an epoch need be published.
    """

    config_class = UserGraphConfig
    config: UserGraphConfig

    def __init__(self, config: UserGraphConfig):
        super().__init__(config)

    def bind(self, corpus: Corpus) -> Self:
        super().bind(corpus)
        train, size = corpus.splits["train"], (corpus.num_users, corpus.num_items)
        self.shared_items = cooccurrence(train.user, train.item, size, self.config.num_user_neighbors)
        self.user_graph = self.training_user_graph = softmax_rows(self.shared_items)
        return self

    def current_user_graph(self) -> Graph:
        return self.training_user_graph if self.training else self.user_graph

    def on_stage_start(self, stage: int, epoch: int, generator: torch.Generator) -> None:
        super().on_stage_start(stage, epoch, generator)
        if self.config.neighbor_padding == "repeat":
            positions = sample_neighbours(self.shared_items, self.config.num_user_neighbors, generator)
            self.set_state("neighbours", positions)

    def on_state(self, name: str, tensor: Tensor) -> None:
        super().on_state(name, tensor)
        if name == "neighbours":
            self.training_user_graph = neighbour_softmax(self.shared_items, tensor.cpu())


def initialise_with(module: nn.Module, table: Initialiser | None = None, linear: Initialiser | None = None) -> None:
    """For ``_init_weights``: applies ``nn.init`` functions to tables and to linear weights (biases: zero).

    Tables are embeddings and the entries of parameter lists and dicts.
    """
    if isinstance(module, nn.Embedding) and table is not None:
        table(module.weight)
    elif isinstance(module, nn.ParameterList | nn.ParameterDict) and table is not None:
        for parameter in module.parameters():
            table(parameter)
    elif isinstance(module, nn.Linear) and linear is not None:
        linear(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
