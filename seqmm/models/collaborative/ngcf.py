"""NGCF. Wang et al., Neural Graph Collaborative Filtering, SIGIR 2019.

Each layer adds a linear map of what neighbours send and one of its product with the node's own row (eq. 3, 7); the
representation is the concatenation of all layers (eq. 9), scored by dot product (eq. 10); trained with BPR (eq. 11)
and L2 on the batch's final rows. Implemented in the form of the authors' code, its difference from the paper named:

- the graph is D^-1 (A + I), so a node's own message is inside the sum (paper: D^-1/2 A D^-1/2 plus an explicit self
  message);
- each of the two maps has its own bias and LeakyReLU; ``activation`` "joint" is eq. 7's single one over their sum;
- a layer's output is L2-normalised where it is concatenated, while the un-normalised rows feed the next layer.

Message dropout acts on a layer's output, node dropout on the graph's entries (section 2.4.2), both anew each step.
The L2 term is divided by the batch's own rows (authors: by the configured batch size).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from seqmm.losses import bpr_of_rows, half_squares, weighted_sum
from seqmm.models.collaborative.base import GraphConfig, GraphRecommender
from seqmm.models.paper import Paper
from seqmm.names import Normalisation
from seqmm.nn.bi_interaction import BiInteraction
from seqmm.options import option
from seqmm.random import step_generator
from seqmm.registry import register


class NGCFConfig(GraphConfig):
    """The authors' settings."""

    model_type = "ngcf"

    layer_sizes: tuple[int, ...] = option(
        (64, 64, 64),
        "Width of each layer's output; hidden_size is the width of the embeddings (section 4.2.3: three of 64).",
        least=1,
    )
    slope: float = option(
        0.2,
        "Negative slope of the LeakyReLU (authors' code: TensorFlow's default; the class in the MICRO repository: "
        "0.01).",
    )
    activation: Literal["each", "joint"] = option(
        "each", "Where the LeakyReLU stands: on each of a layer's two terms (authors' code), or on their sum (eq. 7)."
    )
    message_dropout: float = option(0.1, "Share of a layer's output that is dropped (section 4.2.3).", least=0, below=1)
    node_dropout: float = option(
        0.0, "Share of the graph's entries that is dropped (authors' grid: 0, 0.1).", least=0, below=1
    )
    regularization: float = option(1e-5, "Weight of the batch's L2 (lambda; authors' command for Gowalla).", least=0)


@register
class NGCF(GraphRecommender):
    """Propagates over the interaction graph with a learned map and a product with the node itself in each layer.

    Needs interactions alone; LightGCN is the simplification that mostly replaced it.
    """

    config_class = NGCFConfig
    config: NGCFConfig
    paper = Paper(
        title="Neural Graph Collaborative Filtering",
        authors=("Wang", "others"),
        venue="SIGIR",
        year=2019,
    )
    linear_init = staticmethod(nn.init.xavier_uniform_)  # authors' code
    normalisation: ClassVar[Normalisation] = "rw_self"

    def __init__(self, config: NGCFConfig):
        super().__init__(config)
        self.make_ids()
        sizes = (config.hidden_size, *config.layer_sizes)
        self.layers = BiInteraction(sizes, config.slope, joint=config.activation == "joint")
        self.post_init()

    def encode(self, step_seed: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Without a ``step_seed`` nothing is dropped."""
        graph, config = self.current_graph(), self.config
        layer0 = self.ids()  # [U + I, d]
        if step_seed is not None and config.node_dropout > 0:
            # rw_self is directed: the two entries of an interaction are dropped independently
            generator = step_generator(step_seed, "node_dropout", layer0.device)
            graph = graph.with_dropped_values(1 - config.node_dropout, generator)
        layers = self.layers(graph, layer0, config.message_dropout, step_seed)
        return self.split(torch.cat(layers, dim=1))  # [U + I, d + sum of layer_sizes]

    def forward(self, batch: Mapping[str, Tensor], phase: str = "main") -> dict[str, Tensor]:
        rows = self.rows(batch, *self.encode(batch["step_seed"] if self.training else None))
        return weighted_sum(  # rows: [B, d + sum of layer_sizes] each
            {
                "bpr": (1.0, lambda: bpr_of_rows(*rows)),
                "squares": (self.config.regularization, lambda: half_squares(*rows)),
            }
        )
