"""What LATTICE and MICRO share: item graphs learned from projected content, and the collaborative backbone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from seqmm.checks import check_count
from seqmm.data.corpus import Corpus
from seqmm.graphs.build import join_graphs, knn_graph, neighbour_edges
from seqmm.graphs.matrix import Graph, propagate_layers
from seqmm.losses import Terms, bpr_of_rows, half_squares
from seqmm.models.collaborative.base import ContentGraphConfig, ContentGraphRecommender
from seqmm.names import Normalisation
from seqmm.nn.bi_interaction import BiInteraction
from seqmm.options import check_idle, option


class LatentGraphConfig(ContentGraphConfig):
    """The released code's settings."""

    cf_model: Literal["lightgcn", "ngcf", "mf"] = option(
        "lightgcn", 'Collaborative backbone; "ngcf" averages its layers and has slope 0.01 (released code).'
    )
    num_layers: int = option(2, "Layers of the backbone (released code).", least=0)
    # without a step nothing trains the graphs
    num_item_layers: int = option(1, "Propagation steps over the item graphs (released code).", least=1)
    num_neighbors: int = option(10, "Neighbours of an item in the item graphs (k; released code).", least=1)
    frozen_weight: float = option(
        0.9,
        "Share of the raw content's graph in an item graph, the skip connection (lambda; released code); 1 = "
        "nothing is learned.",
        least=0,
        most=1,
    )
    regularization: float = option(1e-5, "Weight of the batch's L2 (MMRec's grid: 0, 1e-5, 1e-4, 1e-3).", least=0)
    train_features: bool = option(
        True, "Whether the raw feature tables are parameters that start as the features (released code)."
    )

    def check(self) -> None:
        super().check()
        if self.cf_model == "mf":
            check_idle(self, "cf_model mf propagates over no user-item graph", "edge_keep")


class LatentGraphRecommender(ContentGraphRecommender):
    """Item graphs are searched and weighed at the start of every epoch, and at every evaluation.

    An edge's weight is the cosine of the projected content at its ends. In an epoch's first optimiser step the weights
    are computed again, with gradient, on the pattern found; the rest of the epoch uses their values. Pattern and values
    are state, so a run resumed within an epoch goes on with them.

    What has no share in an item graph, the learned or the frozen part, is not built.
    """

    config_class = LatentGraphConfig
    config: LatentGraphConfig
    normalisation: ClassVar[Normalisation] = "rw_self"

    def __init__(self, config: LatentGraphConfig):
        super().__init__(config)
        self.make_ids()
        self.project = self.linear_maps(config.hidden_size)
        if config.cf_model == "ngcf":
            self.layers = BiInteraction([config.hidden_size] * (config.num_layers + 1))

    @property
    def reads_content(self) -> bool:
        return self.config.frozen_weight != 1

    def bind(self, corpus: Corpus) -> Self:
        super().bind(corpus)
        check_count("num_neighbors", self.config.num_neighbors, corpus.num_items)
        frozen = self.modalities if self.config.frozen_weight else ()
        self.frozen_graphs = [self.knn(name, self.config.num_neighbors, "cosine") for name in frozen]
        self.epoch_graphs: list[Graph] | None = None
        self.first_step = False
        return self

    def projected(self) -> list[Tensor]:
        """Unit rows ``[I, d]`` of every modality's projected content, in fp32 whatever autocast says."""
        with torch.autocast(self.device.type, enabled=False):
            return [F.normalize(project(self.features(name)), dim=1) for name, project in self.project.items()]

    @torch.no_grad()
    def nearest(self) -> list[Tensor]:
        """``[I, k]`` every item's nearest items by each modality's projected content, itself among them."""
        k = self.config.num_neighbors
        return [knn_graph(unit, k).edge_index[1].view(-1, k) for unit in self.projected()]

    def learned_graphs(self, neighbours: Iterable[Tensor]) -> list[Graph]:
        """Each modality's graph on ``neighbours [I, k]``, weighed by cosines; differentiable, not normalised."""
        graphs = []
        for columns, unit in zip(neighbours, self.projected(), strict=True):
            near = F.embedding(columns.to(unit.device), unit)  # [I, k, d]
            cosine = (unit[:, None] * near).sum(-1)  # [I, k]
            graphs.append(Graph(neighbour_edges(columns), cosine.flatten(), (len(columns), len(columns))))
        return graphs

    def mix(self, learned: list[Graph]) -> list[Graph]:
        """The graphs to propagate over, all of one number of edges; differentiable. ``learned``: see there, or none."""
        raise NotImplementedError

    def with_frozen(self, learned: list[Graph], frozen: list[Graph], weights: Sequence[Tensor | float]) -> Graph:
        """The learned graph (or none) by its share, and the frozen ones (or none) by theirs times ``weights``."""
        share, device = self.config.frozen_weight, self.device  # where the weights may be parameters
        shares = [1 - share] * len(learned) + [share * weight for weight, _ in zip(weights, frozen, strict=False)]
        return join_graphs([*learned, *(graph.reweighted(graph.weights_on(device)) for graph in frozen)], shares)

    def item_graphs(self) -> list[Graph]:
        if not self.training or "item_weights" not in self.hook_state:
            return self.mix(self.learned_graphs(self.nearest()))
        neighbours = self.hook_state.get("neighbours", ())
        if self.epoch_graphs is None:
            values = self.hook_state["item_weights"].to(self.device)
            graphs = self.mix(self.learned_graphs(neighbours))
            self.epoch_graphs = [graph.reweighted(value) for graph, value in zip(graphs, values, strict=True)]
        if not self.first_step:
            return self.epoch_graphs
        graphs = self.mix(self.learned_graphs(neighbours))
        return [
            known.reweighted(graph.edge_weight) for known, graph in zip(self.epoch_graphs, graphs, strict=True)
        ]  # the prepared pattern, weights with gradient

    def on_stage_start(self, stage: int, epoch: int, generator: torch.Generator) -> None:
        super().on_stage_start(stage, epoch, generator)
        if neighbours := self.nearest():
            self.set_state("neighbours", torch.stack(neighbours))
        with torch.no_grad():
            weights = [graph.edge_weight for graph in self.mix(self.learned_graphs(neighbours))]
        self.set_state("item_weights", torch.stack(weights))
        self.first_step = True

    def on_state(self, name: str, tensor: Tensor) -> None:
        super().on_state(name, tensor)
        self.epoch_graphs = None  # made when next needed

    def on_step_end(self, step: int) -> None:
        super().on_step_end(step)
        self.first_step = False

    def propagated(self) -> list[Tensor]:
        """``[I, d]`` item embeddings after each item graph."""
        layers = self.config.num_item_layers
        return [propagate_layers(graph, self.item.weight, layers, "last") for graph in self.item_graphs()]

    def collaborative(self) -> tuple[Tensor, Tensor]:
        """The backbone's users ``[U, d]`` and items ``[I, d]``."""
        if self.config.cf_model == "mf":
            return self.user.weight, self.item.weight
        graph, layer0 = self.current_graph(), self.ids()  # [U + I, d]
        if self.config.cf_model == "ngcf":
            return self.split(torch.stack(self.layers(graph, layer0)).mean(0))
        return self.split(propagate_layers(graph, layer0, self.config.num_layers))

    def with_content(self, content: Tensor) -> tuple[Tensor, Tensor]:
        """The backbone's users, and its items plus the unit rows of ``content [I, d]``."""
        users, items = self.collaborative()
        return users, items + F.normalize(content, dim=1)

    def ranking(self, batch: Mapping[str, Tensor], users: Tensor, items: Tensor) -> Terms:
        """BPR and L2 of the batch's final rows, divided by their number (released code: the configured batch size)."""
        rows = self.rows(batch, users, items)  # [B, d] each
        return {
            "bpr": (1.0, lambda: bpr_of_rows(*rows)),
            "squares": (self.config.regularization, lambda: half_squares(*rows)),
        }
