"""MMSSL. Wei, Huang, Xia and Zhang, Multi-Modal Self-Supervised Learning for Recommendation, WWW 2023.

Content: projected features reach users over D_u^-1/2 R, and items again over D_i^-1/2 R^T (section 3.1). Identity: in
each modality m, embeddings are gathered over a learned graph G_m (e_u^m), modalities attend to each other, and their
mean shifts the embeddings, which are then propagated over R. h = mean of the layers + omega sum_m norm(f^m) scores.

Self-supervision: (1) adversarial: a Wasserstein critic tells rows of users' predicted interactions, P_m = cosines of
f_u^m and f_i^m, from rows of R relaxed by Gumbel-softmax and added to P of h (section 3.2); G_m is every user's k best
of P_m; (2) cross-modal contrast of e_u^m with h_u in the batch. Batches are of users (:class:`UserCollator`); each
trains the critic (Adam), then the rest (AdamW).

Known differences from the released code, whose constants are the defaults:

- Attention: there the softmax cancels, so that it is a linear map of each modality. ``cross_attention`` False gives
  that map; so does one modality, or G_m = R, which is the same for all. Here queries attend; values are not projected.
- G_m: there k = int(I / 10,000), 0 on Baby and TikTok, and the graphs are empty from the third batch on, in evaluation,
  too: no gathering, a contrast without gradient. ``modality_graphs`` none trains that and builds nothing for it. Here
  G_m is R in a new model and made anew at the start of each epoch, the first one (of random projections) included;
  k = 10 is ours.
- Critic: there LeakyReLU has slope 1, rows are normalised over the batch, and scores are 100 sigmoid(x)
  (``critic_slope``, ``critic_norm`` batch, ``critic_output`` sigmoid). Here nothing is normalised; ``critic_norm``
  layer has no affine map, which the next layer absorbs; batch mixes the rows of one process, so it alone depends on
  the number of processes.
- Predicted rows: there products without a user's own items (``mask_observed``), a pattern a critic sees at once.
- Gumbel: softmax((R + s g) / t) + zeta P, here s = 1, t = 0.5, zeta = 1 (ours: the paper gives none). There only the
  noise is divided: s = 0.002, t = 1, and zeta = 100 drowns R.
- There the last identity layer passes a softmax (``softmax_last_layer``), and 1e-8 is added inside the contrast's log.
- ``critic_dim``: all rows pass one fixed random projection before the critic, whose first layer else has I * I / 4
  weights (84 M on Amazon Sports).

Ablations: w/o-ASL = ``adversarial`` none + ``modality_graphs`` observed; w/o-CL = ``contrast_weight`` 0; w/o-GT =
``bridge`` False; r/p-GAE = ``adversarial`` gae, the likelihood of the batch's pairs under sigmoid(f_u . f_i), weighted
as the adversarial term. Any number of modalities: sums and means over them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqmm.checks import check_count
from seqmm.data.collators import UserCollator
from seqmm.data.corpus import Corpus
from seqmm.data.feature_sets import Features
from seqmm.distributed import mean_over_ranks
from seqmm.graphs.build import interaction_matrix, neighbour_edges
from seqmm.graphs.matrix import BLOCK_ELEMENTS, Graph, propagate
from seqmm.losses import Terms, bpr_of_rows, cross_entropy, half_squares, two_view_info_nce, weighted_sum
from seqmm.models.base import Stage
from seqmm.models.collaborative.base import ContentConfig, ContentRecommender, initialise_with
from seqmm.models.paper import Paper
from seqmm.names import CriticNorm, CriticOutput
from seqmm.nn.critic import Critic
from seqmm.nn.features import Constant, FeatureTable
from seqmm.nn.modality import CrossModalAttention, MeanLinear
from seqmm.nn.noise import dropout_table, uniform_rows
from seqmm.options import option
from seqmm.random import derive_seed, torch_hash, torch_uniform
from seqmm.registry import register


class MMSSLConfig(ContentConfig):
    """Released code, Baby's setting (the others are not published), unless said. Batches: 1,024 users."""

    model_type = "mmssl"

    num_layers: int = option(2, "Identity layers (L).", least=0)
    num_heads: int = option(4, "Heads of the cross-modal attention.", least=1)
    cross_attention: bool = option(
        True,
        "Whether modalities attend to each other; False is a linear map of their mean, which is what the released "
        "code computes. It matters with learned graphs of several modalities only, for else all vectors of a node "
        "are the same.",
    )
    id_cat_rate: float = option(0.36, "Weight of what the modalities add to the embeddings; 0 = no attention.", least=0)
    model_cat_rate: float = option(
        0.55, "Weight of the modalities' content in the final representation (omega).", least=0
    )
    feature_dropout: float = option(0.2, "Share of the projected content's entries that is dropped.", least=0, below=1)
    softmax_last_layer: bool = option(
        False, "Whether the last layer ends in a softmax (released code: True; not in the paper)."
    )
    modality_graphs: Literal["learned", "observed", "none"] = option(
        "learned",
        "Graphs of the modalities (G_m): the predicted interactions; R (w/o-ASL); none = no gathering and no "
        "contrast (released code, in effect).",
    )
    num_neighbors: int = option(10, "Items of a user in a learned graph (ours; grid 5, 10, 20).", least=1)
    adversarial: Literal["wgan", "gae", "none"] = option(
        "wgan",
        "What trains the predicted interactions P_m: the critic, the likelihood of edges (r/p-GAE), or nothing "
        "(w/o-ASL).",
    )
    adversarial_weight: float = option(
        1e-4, "Weight of the generator's term (G_rate), and of the likelihood; 0 = adversarial none.", least=0
    )
    mask_observed: bool = option(
        False, "Whether predicted rows are products without the user's train items (released code: True)."
    )
    bridge: bool = option(
        True,
        "Whether the critic's real rows are bridged by noise and the model's scores; False = rows of R as they "
        "are (w/o-GT).",
    )
    gumbel_scale: float = option(1.0, "Factor of the Gumbel noise in real rows (s; ours).", least=0)
    gumbel_temperature: float = option(0.5, "Temperature of the relaxed real rows (ours).", above=0)
    prediction_weight: float = option(1.0, "Weight of the model's own scores in real rows (zeta; ours).", least=0)
    critic_dim: int = option(
        0,
        "Width of a fixed random projection of the rows before the critic; 0 = none, the number of items (paper).",
        least=0,
    )
    critic_dropout: tuple[float, float] = option(
        (0.31, 0.5), "Dropout of the critic after its first and second layer.", least=0, below=1
    )
    critic_slope: float = option(0.2, "Negative slope of the critic's LeakyReLU (WGAN practice; released code: 1).")
    critic_norm: CriticNorm = option(
        "none",
        "Normalisation in the critic. The released code's is batch, which mixes rows where the penalty is of "
        "single ones. layer magnifies small rows, here of length 1 over all items: on TikTok (critic_dim 512) the "
        "first step's mean (|g| - 1)^2 is 2,047 with it, 0.3 with none.",
    )
    critic_output: CriticOutput = option("linear", "Output of the critic (released code: sigmoid, times 100).")
    critic_learning_rate: float = option(
        3e-4, "Learning rate of the critic's Adam, whose betas are 0.5 and 0.9.", above=0
    )
    penalty_weight: float = option(0.3, "Weight of the gradient penalty, (|gradient| - 1)^2.", least=0)
    contrast_weight: float = option(0.03, "Weight of each modality's contrast (cl_rate); 0 = w/o-CL.", least=0)
    temperature: float = option(0.5, "Temperature of the contrast.", above=0)
    regularization: float = option(1e-5, "Weight of half the squares of the batch's final rows.", least=0)
    feature_regularization: float = option(
        1e-5, "Weight of half the squares of all propagated content, divided by the number of items.", least=0
    )
    weight_decay: float = option(0.01, "Weight decay (AdamW's) of everything but the critic.", least=0)


class Views(NamedTuple):
    """What one pass over the graphs gives."""

    users: Tensor  # [U, d] final (h)
    items: Tensor  # [I, d]
    content: dict[str, tuple[Tensor, Tensor]]  # f_u^m [U, d], f_i^m [I, d]
    gathered: dict[str, Tensor]  # e_u^m [U, d]


@register
class MMSSL(ContentRecommender):
    """Trains a recommender against a critic of predicted interactions, and contrasts modalities with behaviour.

    Needs at least one set of vectors; batches are of users.
    """

    stages: ClassVar[tuple[Stage, ...]] = (Stage(UserCollator, ("critic", "main")),)
    config_class = MMSSLConfig
    config: MMSSLConfig
    paper = Paper(
        title="Multi-Modal Self-Supervised Learning for Recommendation",
        authors=("Wei", "Huang", "Xia", "Zhang"),
        venue="WWW",
        year=2023,
    )
    learned: Tensor  # [M, U, k] items of G_m

    def __init__(self, config: MMSSLConfig):
        super().__init__(config)
        size, count = config.hidden_size, len(self.modalities)
        self.make_ids()
        self.project = self.linear_maps(size)
        # what reads them: the attention and the contrast
        self.graphs = config.modality_graphs if config.id_cat_rate or config.contrast_weight else "none"
        self.attention: CrossModalAttention | MeanLinear | None = None
        if self.graphs != "none" and config.id_cat_rate:
            attends = config.cross_attention and config.modality_graphs == "learned" and count > 1
            self.attention = CrossModalAttention(size, config.num_heads) if attends else MeanLinear(size)
        if self.graphs == "learned":
            if not self.reads_content:
                raise ValueError(
                    "model.modality_graphs is learned from content whose maps nothing trains: model_cat_rate, "
                    "feature_regularization and adversarial_weight are 0; raise one, or choose modality_graphs observed"
                )
            # a checkpoint scores with the graphs it was saved with; -1 = R
            check_count("num_neighbors", config.num_neighbors, config.num_items)
            self.register_buffer("learned", torch.full((count, config.num_users, config.num_neighbors), -1))
        self.critic: Critic | None = None
        if config.adversarial == "wgan" and config.adversarial_weight:
            options = config.critic_dropout, config.critic_slope, config.critic_norm, config.critic_output
            self.critic = Critic(config.critic_dim or config.num_items, *options)
        if self.critic is None:
            self.stages = (Stage(UserCollator),)  # type: ignore[misc]  # nothing for a critic's phase
        self.post_init()

    @property
    def reads_content(self) -> bool:
        return bool(self.config.model_cat_rate or self.config.feature_regularization or self.adversarial_weight)

    @property
    def adversarial_weight(self) -> float:
        return self.config.adversarial_weight if self.config.adversarial != "none" else 0.0

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, Critic):  # after its own layers
            for layer in module.modules():
                initialise_with(layer, linear=nn.init.kaiming_normal_)
        elif isinstance(module, nn.Embedding | nn.Linear):
            nn.init.xavier_uniform_(module.weight)

    def parameter_groups(self, phase: str) -> list[dict[str, Any]]:
        critic = [] if self.critic is None else list(self.critic.parameters())
        if phase == "critic":
            adam = {"lr": self.config.critic_learning_rate, "betas": (0.5, 0.9), "weight_decay": 0.0}
            return [{"params": critic, "decoupled_weight_decay": False, **adam}]
        rest = [parameter for name, parameter in self.named_parameters() if not name.startswith("critic.")]
        return [{"params": rest, "weight_decay": self.config.weight_decay, "decoupled_weight_decay": True}]

    # -- graphs -------------------------------------------------------------------------------------------------------

    def bind(self, corpus: Corpus) -> Self:
        super().bind(corpus)
        self.to_users, self.to_items = both_ways(interaction_matrix(corpus))
        history = corpus.histories("train")
        self.histories = FeatureTable(Features("tags", history.values, history.offsets))
        self.projection: Constant | None = None
        if width := self.config.critic_dim:
            generator = torch.Generator().manual_seed(derive_seed("critic", width))
            matrix = torch.randn(self.config.num_items, width, generator=generator)
            self.projection = Constant(matrix / width**0.5)  # lengths are kept on average
        self.attach_modality_graphs()
        return self

    def attach_modality_graphs(self) -> None:
        """G_m of every modality, from the learned neighbours if there are any, else R."""
        self.modality_graphs: dict[str, tuple[Graph, Graph]] = {}
        for number, name in enumerate(self.modalities if self.graphs != "none" else ()):
            self.modality_graphs[name] = self.to_users, self.to_items
            if self.graphs == "learned" and self.learned[number, 0, 0] >= 0:
                edges = neighbour_edges(self.learned[number])
                self.modality_graphs[name] = both_ways(Graph(edges, None, self.to_users.shape))

    @torch.no_grad()
    def on_stage_start(self, stage: int, epoch: int, generator: torch.Generator) -> None:
        super().on_stage_start(stage, epoch, generator)
        if self.graphs == "learned":
            found = [self.likely_items(*pair) for pair in self.content_views().values()]
            self.set_state("learned", torch.stack(found), publish=True)

    def on_state(self, name: str, tensor: Tensor) -> None:
        super().on_state(name, tensor)
        self.attach_modality_graphs()

    def likely_items(self, users: Tensor, items: Tensor) -> Tensor:
        """``[U, k]`` items of the largest predicted interactions, in blocks of users."""
        blocks = torch.arange(len(users), device=users.device).split(max(1, BLOCK_ELEMENTS // len(items)))
        predicted = (self.predicted(users[block], items, block, projected=False) for block in blocks)
        return torch.cat([rows.topk(self.config.num_neighbors).indices for rows in predicted])

    # -- representations ----------------------------------------------------------------------------------------------

    def content_views(self, step_seed: Tensor | None = None, stream: str = "") -> dict[str, tuple[Tensor, Tensor]]:
        """``f_u [U, d], f_i [I, d]`` of every modality; with dropout if ``step_seed`` is given."""
        views = {}
        for name, project in self.project.items():
            x = project(self.features(name))  # [I, d]
            if step_seed is not None:
                x = dropout_table(x, self.config.feature_dropout, step_seed, f"{stream} {name}")
            users = propagate(self.to_users, x)
            views[name] = users, propagate(self.to_items, users)
        return views

    def views(self, step_seed: Tensor | None = None, stream: str = "") -> Views:
        content = self.content_views(step_seed, stream)
        users, items = self.user.weight, self.item.weight
        gathered = {
            name: (propagate(to_users, items), propagate(to_items, users))
            for name, (to_users, to_items) in self.modality_graphs.items()
        }
        if self.attention is not None:
            of_users, of_items = zip(*gathered.values(), strict=True)
            users = users + self.config.id_cat_rate * F.normalize(self.attention(of_users), dim=-1)
            items = items + self.config.id_cat_rate * F.normalize(self.attention(of_items), dim=-1)
        user_layers, item_layers = [users], [items]
        for layer in range(self.config.num_layers):
            squash = self.config.softmax_last_layer and layer == self.config.num_layers - 1
            users = propagate(self.to_users, items)
            users = users.softmax(-1) if squash else users
            items = propagate(self.to_items, users)  # of this layer's users
            items = items.softmax(-1) if squash else items
            user_layers.append(users)
            item_layers.append(items)
        users, items = torch.stack(user_layers).mean(0), torch.stack(item_layers).mean(0)
        for of_user, of_item in content.values():
            users = users + self.config.model_cat_rate * F.normalize(of_user, dim=-1)
            items = items + self.config.model_cat_rate * F.normalize(of_item, dim=-1)
        return Views(users, items, content, {name: of_user for name, (of_user, _) in gathered.items()})

    def encode(self) -> tuple[Tensor, Tensor]:
        return self.views()[:2]

    # -- rows of interactions -----------------------------------------------------------------------------------------

    def observed(self, user: Tensor) -> Tensor:
        """``[B, I]`` rows of R, 0 or 1."""
        place, offsets = self.histories.rows(user)
        rows = self.user.weight.new_zeros(len(user), self.config.num_items)
        rows[torch.repeat_interleave(offsets.diff()), self.histories.on(user.device)[0][place]] = 1
        return rows

    def predicted(self, users: Tensor, items: Tensor, user: Tensor, projected: bool = True) -> Tensor:
        """``[B, I]`` rows of predicted interactions of length 1, from ``[B, d]`` and ``[I, d]``.

        They have rank d, so a projected row ``[B, critic_dim]`` needs none of width I; its length before the projection
        is that of u in the metric of the items' Gram matrix.
        """
        with torch.autocast(users.device.type, enabled=False):  # the critic's gradients need their digits
            dtype = torch.promote_types(users.dtype, torch.float32)
            users, items = users.to(dtype), items.to(dtype)
            if self.config.mask_observed:
                rows = F.normalize(users @ items.T * (1 - self.observed(user)), dim=-1)
                return self.shrink(rows) if projected else rows
            users, items = F.normalize(users, dim=-1), F.normalize(items, dim=-1)
            length = ((users @ (items.T @ items)) * users).sum(-1, keepdim=True).clamp_min(1e-12).sqrt()
            return users / length @ (self.shrink(items.T) if projected else items.T)

    def real(self, users: Tensor, items: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """``[B, width]`` what the critic takes as real: relaxed observations, helped by the model's own scores."""
        rows = self.observed(batch["user"])
        if self.config.bridge:
            uniform = uniform_rows(rows.shape[1], batch["row_seed"], "gumbel")
            predicted = self.predicted(users, items, batch["user"], projected=False)
            rows = self.relaxed(rows, uniform) + self.config.prediction_weight * predicted
        return self.shrink(F.normalize(rows, dim=-1))

    def relaxed(self, rows: Tensor, uniform: Tensor) -> Tensor:
        gumbel = -torch.log(-torch.log(uniform + 1e-8) + 1e-8)
        return ((rows + self.config.gumbel_scale * gumbel) / self.config.gumbel_temperature).softmax(-1)

    def shrink(self, rows: Tensor) -> Tensor:
        if self.projection is None:
            return rows
        with torch.autocast(rows.device.type, enabled=False):
            return rows @ self.projection.on(rows.device).to(rows.dtype)

    def fake(self, views: Views, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """``[M B, width]`` predicted rows of all modalities, one after the other, and a seed for each ``[M B]``."""
        user, seed = batch["user"], batch["row_seed"]
        rows = [self.predicted(F.embedding(user, users), items, user) for users, items in views.content.values()]
        return torch.cat(rows), torch.cat([torch_hash(name, seed) for name in views.content])

    # -- losses -------------------------------------------------------------------------------------------------------

    def forward(self, batch: Mapping[str, Tensor], phase: str = "main") -> dict[str, Tensor]:
        if phase == "critic":
            return self.criticise(batch)
        config = self.config
        views = self.views(batch["step_seed"], phase)
        rows = self.rows(batch, views.users, views.items)  # [B, d] each
        terms: Terms = {
            "bpr": (1.0, lambda: bpr_of_rows(*rows)),
            "norm": (config.regularization, lambda: half_squares(*rows)),
            "content_norm": (config.feature_regularization, lambda: self.content_norm(views)),
        }
        for name, gathered in views.gathered.items():
            contrast = partial(self.contrast, batch["user"], gathered, rows[0])
            terms[f"contrast_{name}"] = config.contrast_weight, contrast
        terms["adversarial"] = self.adversarial_weight, partial(self.adversarial, views, batch)
        return weighted_sum(terms)

    def content_norm(self, views: Views) -> Tensor:
        tables = [table for pair in views.content.values() for table in pair]
        return torch.stack([0.5 * table.square().sum() for table in tables]).sum() / self.config.num_items

    def contrast(self, rows: Tensor, gathered: Tensor, user: Tensor) -> Tensor:
        """Of the batch's users ``rows [B]`` in one modality with their final rows ``[B, d]``."""
        return two_view_info_nce(F.embedding(rows, gathered), user, self.config.temperature)

    def adversarial(self, views: Views, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The generator's loss, or the negative log-likelihood of the batch's pairs in each modality (GAE)."""
        if self.critic is not None:
            return {"adversarial": -mean_over_ranks(self.critic(*self.fake(views, batch), "generator"))}
        rows = {name: self.rows(batch, *pair) for name, pair in views.content.items()}  # [B, d] each
        return {f"edges_{name}": cross_entropy((u * p).sum(-1), (u * n).sum(-1)) for name, (u, p, n) in rows.items()}

    def criticise(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        assert self.critic is not None
        with torch.no_grad():  # the generator stands still
            views = self.views(batch["step_seed"], "critic")
            fake, seed = self.fake(views, batch)
            real = self.real(F.embedding(batch["user"], views.users), views.items, batch)
        mix = torch_uniform("between", seed)
        return self.critic.losses(fake, real, seed, batch["row_seed"], mix, self.config.penalty_weight)


def both_ways(matrix: Graph) -> tuple[Graph, Graph]:
    """``D_u^-1/2 A [U, I]`` and ``D_i^-1/2 A^T [I, U]``: only the receiving side is normalised."""
    return matrix.normalised("rw_sqrt"), matrix.transposed().normalised("rw_sqrt")
