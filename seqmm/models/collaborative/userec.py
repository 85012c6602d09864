"""USERec. Pattern Recognition and Artificial Intelligence 38(12), p. 1121, 2025 (title and authors not at hand).

Most equations are lost from the text at hand and there is no released code: what follows is rebuilt from the systems it
cites (FREEDOM, PGL, IDFREE, DA-MRS, MIG-GT), each assumption marked (R..). With M modalities of width d, ``D = M d``:

- users: a table ``[U, D]`` plus a fixed sinusoidal code of the user's INDEX (R3: plain sum, so the code, of norm
  sqrt(D / 2), outweighs the xavier row at the start);
- items, no id table: ``e = [x_m W_m + b_m]`` over modalities (R4: not normalised), then one hop over DA-MRS's behaviour
  graph, ``e + S^u e`` (R5: binary, top 2 of the items with two common users);
- LightGCN over both, on an epoch's degree-sensitive sample of ``ceil(edge_keep E)`` edges, on all edges to score;
- items add one hop of the SAME ``e + S^u e`` (R7) over FREEDOM's item graph;
- a user attends over himself and C random items, ``G = [u; e_1 .. e_C]``, keys and values ``G W_K``:
  ``u + alpha (A V)_0 + (1 - alpha) G_0`` (R8);
- loss: BPR, InfoNCE between two dropouts of the batch's users and of its positives, halved (R10), and L2 of the
  batch's rows of the user table (R11; ``train.weight_decay`` decays everything).

What the gain rests on, and why nothing here should be quoted without it: on the public Amazon files users are numbered
by the smallest item they touched, held-out items included (100 % of adjacent pairs on Baby, Sports, Clothing; for 15-16
% of users that item is a TEST item). A probe without any model that reads only this order has R@20 .1496 / .1521 /
.1598, above every honest model; an untrained sinusoidal code of the user index, averaged over items' users, .1120 /
.1154 / .1176, and .0017 / .0005 / .0007 once users are renumbered at random. The paper reports +15.8 / +17.3 / +26.0 %
over IDFREE, which has the same leak, and -40.9 / -33.4 / -34.5 % without the code. So corpora are prepared with
permuted ids, where the code tells users apart and no more, as ``pe: random`` does; the variant ``source_order``
of recipes/configs/userec/clothing.yaml shows the difference, and tests/evaluation/test_leakage.py measures it.

Chosen here: samples are drawn for each row in training and, in scoring, once for each user by a hash (MIG-GT, which the
attention follows, samples at inference, too, so its scores are random; the paper does not say). Keys are never
computed: ``q . W_K g = (W_K^T q) . g`` and ``sum a W_K g = W_K (sum a g)``. Frozen features are mixed with their
behaviour neighbours once, at bind, since ``S^u (x W + 1 b) = (S^u x) W + (S^u 1) b``. The hop over the item graph stays
in the loop: at Baby's size it takes less time at width D than a second product with the raw width would (.34 s against
.39 s, forward and backward, one slow core). More or fewer modalities change D. The ablations are ``edge_keep: 1``
(Prun), ``pe: none`` (Pos), ``pe_on: both`` (Pos2), ``behaviour: False`` (ii), ``num_samples: 0`` (Att), ``image`` in
place of ``fused`` features (MLLM).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqmm.data.corpus import Corpus
from seqmm.graphs.build import behaviour_graph
from seqmm.graphs.matrix import propagate, propagate_layers
from seqmm.losses import bpr_of_rows, dropout_info_nce, half_squares, weighted_sum
from seqmm.models.collaborative.base import CPU, ItemGraphConfig, ItemGraphRecommender
from seqmm.models.paper import Paper
from seqmm.names import PositionCode
from seqmm.nn.features import Constant
from seqmm.nn.positions import index_codes
from seqmm.options import option
from seqmm.random import torch_hash
from seqmm.registry import register


class USERecConfig(ItemGraphConfig):
    """The paper's settings for Baby; for Sports and Clothing see the YAML files."""

    model_type = "userec"

    hidden_size: int = option(
        64,
        "Width of EACH modality; users and items have that times the number of modalities (R2, as PGL's 64 + 64).",
        least=1,
    )
    num_layers: int = option(2, "User-item propagation steps (paper).", least=0)
    edge_keep: float = option(
        0.1,
        "Share of the user-item edges an epoch trains on (rho_p, best on all corpora); 1 = w/o Prun.",
        above=0,
        most=1,
    )
    behaviour: bool = option(True, "Whether items first hear from those bought by the same users; False = w/o ii.")
    pe: PositionCode = option(
        "sincos", "Code of the row index: the paper's, a random one of the same norm (a control), or w/o Pos."
    )
    pe_on: Literal["users", "both"] = option("users", "Rows that get the code of the row index; both = w/o Pos2.")
    pe_scale: float = option(1.0, "Factor of the code of the row index (R3).")
    num_samples: int = option(5, "Items a user attends to (C; paper: 5, Sports 3, grid 1 to 20); 0 = w/o Att.", least=0)
    attention_weight: float = option(
        0.1,
        "Weight of the attention in its residual (alpha; R8: MIG-GT's); 0 leaves the residual, the user twice.",
        least=0,
        most=1,
    )
    attention_values: Literal["keys", "inputs"] = option(
        "keys", "What attention averages: the keys (paper) or the rows themselves (MIG-GT)."
    )
    dropout: float = option(
        0.3, "Dropout of the contrasted copies (rho_d; Sports 0.1, Clothing 0.2).", least=0, below=1
    )
    contrast_weight: float = option(0.3, "Weight of the InfoNCE (lambda_cl; Sports 0.2, Clothing 0.5).", least=0)
    temperature: float = option(0.2, "Temperature of the InfoNCE (tau; paper).", above=0)
    regularization: float = option(
        1e-5, "Weight of the L2 of the batch's user rows (lambda_reg; its value is lost).", least=0
    )


@register
class USERec(ItemGraphRecommender):
    """Propagates fused content, denoised by behaviour, and lets a user attend over sampled items.

    Needs at least one set of vectors.
    """

    config_class = USERecConfig
    config: USERecConfig
    paper = Paper(
        title="",
        authors=(),
        venue="Pattern Recognition and Artificial Intelligence 38(12)",
        year=2025,
        kind="journal",
    )

    def __init__(self, config: USERecConfig):
        super().__init__(config)
        self.width = len(self.modalities) * config.hidden_size  # D
        self.user = nn.Embedding(config.num_users, self.width)
        self.project = self.linear_maps(config.hidden_size)
        if config.num_samples and config.attention_weight:
            self.query = nn.Linear(self.width, self.width, bias=False)
            self.key = nn.Linear(self.width, self.width, bias=False)
            for linear in (self.query, self.key):
                nn.init.xavier_uniform_(linear.weight)
        self.post_init()

    def bind(self, corpus: Corpus) -> Self:
        super().bind(corpus)
        c, train = self.config, corpus.splits["train"]
        sizes = corpus.num_users, corpus.num_items
        self.behaviour = behaviour_graph(train.user, train.item, *sizes) if c.behaviour else None
        users = c.pe_scale * index_codes(corpus.num_users, self.width, c.pe, "users")
        items = c.pe_scale * index_codes(corpus.num_items, self.width, c.pe if c.pe_on == "both" else "none", "items")
        self.user_code, self.item_code = Constant(users), Constant(self.with_behaviour(items))
        if not c.train_features:
            self.weight_of_bias = Constant(self.with_behaviour(torch.ones(corpus.num_items, 1)))
            self.mixed_features = {
                name: Constant(self.with_behaviour(self.raw_features(name, CPU))) for name in self.modalities
            }
        return self

    def with_behaviour(self, x: Tensor) -> Tensor:
        """``x + S^u x``, ``[I, d]``."""
        return x if self.behaviour is None else x + propagate(self.behaviour, x)

    def item_inputs(self) -> Tensor:
        """``[I, D]`` projected content after the behaviour graph."""
        if self.config.train_features:
            content = [project(self.features(name)) for name, project in self.project.items()]
            return self.with_behaviour(torch.cat(content, 1)) + self.item_code.on(self.device)
        ones = self.weight_of_bias.on(self.device)
        content = [
            project(self.mixed_features[name].on(self.device)) + (ones - 1) * self.get_parameter(f"project.{name}.bias")
            for name, project in self.project.items()
        ]
        return torch.cat(content, 1) + self.item_code.on(self.device)

    def encode(self) -> tuple[Tensor, Tensor]:
        """Users ``[U, D]`` BEFORE they attend (:meth:`represent` does that), items as they are scored."""
        users, items = self.user.weight + self.user_code.on(self.device), self.item_inputs()
        nodes = propagate_layers(self.current_graph(), torch.cat([users, items]), self.config.num_layers)
        users, graph_items = self.split(nodes)
        return users, self.with_similar(graph_items, items)

    def attend(self, user: Tensor, sampled: Tensor) -> Tensor:
        """Row 0 of the attention over ``G = [user [B, D]; sampled [B, C, D]]``, mixed with the user: ``c_u [B, D]``."""
        rows = torch.cat([user[:, None], sampled], 1)  # [B, 1 + C, D]
        query = self.query(user) @ self.key.weight  # [B, D]
        weight = ((rows * query[:, None]).sum(-1) / self.width**0.5).softmax(-1)  # [B, 1 + C]
        mean = (weight[..., None] * rows).sum(1)  # [B, D]
        value = self.key(mean) if self.config.attention_values == "keys" else mean
        return self.config.attention_weight * value + (1 - self.config.attention_weight) * user

    def with_attention(self, user: Tensor, items: Tensor, seed: Tensor, stream: str) -> Tensor:
        """``[B, D]`` users after they attended to items ``[I, D]`` drawn by their ``seed [B]``."""
        if not self.config.num_samples:
            return user
        if not self.config.attention_weight:
            return user + user
        draw = torch.arange(self.config.num_samples, device=seed.device)
        sampled = torch_hash(stream, seed[:, None], draw) % self.config.num_items  # [B, C]
        return user + self.attend(user, F.embedding(sampled, items))

    def represent(self, batch: Mapping[str, Tensor], tables: Mapping[str, Tensor]) -> Tensor:
        return self.with_attention(super().represent(batch, tables), tables["items"], batch["user"], "scoring")

    def edges_to_keep(self) -> int:
        return ceil(self.config.edge_keep * self.interactions.num_edges)  # rounded up

    def forward(self, batch: Mapping[str, Tensor], phase: str = "main") -> dict[str, Tensor]:
        c, seed = self.config, batch["row_seed"]
        users, items = self.encode()
        user, positive, negative = self.rows(batch, users, items)  # [B, D]
        user = self.with_attention(user, items, seed, "attention")
        contrasted = {"user": user, "item": positive}
        return weighted_sum(
            {
                "bpr": (1.0, lambda: bpr_of_rows(user, positive, negative)),
                "contrast": (
                    c.contrast_weight / 2,
                    lambda: dropout_info_nce(contrasted, c.dropout, c.temperature, seed, ("1", "2")),
                ),
                "norm": (c.regularization, lambda: half_squares(F.embedding(batch["user"], self.user.weight))),
            }
        )
