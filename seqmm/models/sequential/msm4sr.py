"""MSM4SR. Zhang, Zhou and Shen, Multimodal Pre-training Framework for Sequential Recommendation via Contrastive
Learning, arXiv 2303.11879 (v1).

(Later renamed MP4SR.) An item's content is several vectors a modality (sentences; keyword strings of images). They are
pooled by attention (eq. 2-3), mapped by a mixture of experts (eq. 4), and one causal transformer reads each modality's
sequence. Pretraining drops items at random, mixes the modalities' sequences complementarily, and learns next-item
prediction (NIP, eq. 6-7) and cross-modal contrast (CMCL, eq. 8-9); finetuning adds item ids and a softmax over the
catalogue (eq. 12).

Any number of modalities: with one there is NIP alone (no mixup, no CMCL, no projections); with three or more, a mixed
position shifts the modalities cyclically by a random amount, NIP predicts each modality from all sequences, and CMCL
sums over all pairs for each modality's projection. Dense feature sets are taken as pooled already; tags are not read.

Known differences:

- from the official code, where the paper says otherwise: the pooling ignores padding and is trained (there a write
  into ``.data`` leaves it at its random start); dropped items are really removed (there a scatter with equal indices
  lets the dropped one win); same-target pairs leave the denominators (there their logit becomes 0); CMCL's negatives
  are cross-view (``cmcl_negatives: intra`` adds the intra-view ones, with the column sums the official code replaces by
  row sums); no padding item competes in the softmax; validation during pretraining scores projected states where there
  are projections (there the raw ones, which no pretraining loss then compares with items).
- from the paper, as in the code: rates of drop and mixup are drawn anew for each batch; losses are means; scores are
  cosines over a temperature (``score: dot`` is eq. 12 as printed); ids are added to the input sequence, too.
- from both: ``targets: every`` trains all positions of a window at once. For the finetuning softmax that is the sum
  over prefixes; for NIP and CMCL the batch's negatives become the targets and states of all positions, and those of the
  anchor's own user are left out. A target whose item was dropped is predicted by what is left of its prefix. Biases
  that a softmax cannot see (pooling, attention keys) are not built. Finetuning encodes the catalogue once a step and
  takes the sequences from it, so both see the same dropout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import init

from seqmm.data.corpus import Corpus
from seqmm.distributed import gather_rows, mean_over_ranks
from seqmm.losses import softmax_loss
from seqmm.models.content import VECTORS, check_modalities, choose_modalities, feature_tables
from seqmm.models.paper import Paper
from seqmm.models.sequential.base import SequenceConfig, SequenceRecommender, trained, transformer
from seqmm.names import Objective
from seqmm.nn.features import FeatureTable
from seqmm.nn.log_sum_exp import log_sum_exp
from seqmm.nn.moe import MoEAdaptor
from seqmm.nn.pooling import AttentionPooling
from seqmm.nn.transformer import last_state
from seqmm.options import option
from seqmm.random import torch_uniform
from seqmm.registry import register

LeftOut = Callable[[slice], Tensor]
"""What :func:`related` gives: the bias of a slice of rows against the global batch."""


class MSM4SRConfig(SequenceConfig):
    """Defaults: the paper's, with the official code's where the paper is silent."""

    model_type = "msm4sr"

    dropout: float = option(
        0.2, "Dropout on the input, the attention weights and each residual branch (section 4.1.4).", least=0, below=1
    )
    num_experts: int = option(8, "Experts of an adaptor (K of eq. 4; official code).", least=1)
    expert_dropout: float = option(0.2, "Dropout on each expert's output (official code).", least=0, below=1)
    modalities: tuple[str, ...] = option(
        (),
        "Feature sets to use; none named = all dense and ragged ones that were loaded. One name in finetuning is "
        "-V or -T.",
    )
    drop: float = option(
        0.2, "Pretraining: upper end of the drop rate, U(0, drop) for each batch (official code).", least=0, most=1
    )
    mixup: float = option(
        0.5,
        "Pretraining: upper end of the mixup rate, U(0, mixup) for each batch (official code); 0 = w/o Mixup.",
        least=0,
        most=1,
    )
    project: bool = option(
        True,
        "Whether there are the projections of eq. 6 and the cross-modal terms they allow; the authors' README "
        "runs without.",
    )
    nip_weight: float = option(1.0, "Weight of next-item prediction; 0 = w/o NIP.", least=0)
    cmcl_weight: float = option(0.01, "Weight of the cross-modal contrast (lambda of eq. 10); 0 = w/o CMCL.", least=0)
    cmcl_negatives: Literal["cross", "intra"] = option(
        "cross", "Negatives of the contrast: cross-view (eq. 9), or cross- and intra-view (official code, GRACE)."
    )
    temperature: float = option(0.07, "Temperature that divides every cosine (section 4.1.4).", above=0)
    use_ids: bool = option(
        True,
        "Whether items have id embeddings in finetuning; without, items nobody has seen can be scored by their "
        "content.",
    )
    score: Literal["cosine", "dot"] = option(
        "cosine", "Scores in finetuning: cosines over the temperature (official code), or raw dot products (eq. 12)."
    )
    end_to_end: bool = option(False, "Whether finetuning adds the pretraining loss, in one stage (the ablation E2E).")

    def reads(self) -> list[str]:
        return choose_modalities(self, self.modalities, VECTORS)


class MSM4SREncoder(nn.Module):
    """What pretraining and finetuning share: content to item vectors, item vectors to states."""

    def __init__(self, config: MSM4SRConfig):
        super().__init__()
        check_modalities(config)
        self.modalities = config.reads()
        self.pool, self.adapt = nn.ModuleDict(), nn.ModuleDict()
        for name in self.modalities:
            made = config.features[name]
            if made["kind"] == "ragged":
                self.pool[name] = AttentionPooling(made["dim"], config.hidden_size)
            self.adapt[name] = MoEAdaptor(made["dim"], config.hidden_size, config.num_experts, config.expert_dropout)
        self.transformer = transformer(config)
        self.features: dict[str, FeatureTable] = {}

    def items(self, items: Tensor | None = None) -> Tensor:
        """``[n, M, d]``: a vector in each of the M modalities for the items asked for; None = all."""
        vectors = []
        for name, adapt in self.adapt.items():
            if name in self.pool:
                pooled = self.pool[name](self.features[name], items)
            else:
                table = self.features[name].means(self.transformer.position.weight.device)
                pooled = table if items is None else table[items]
            vectors.append(adapt(pooled))
        return torch.stack(vectors, dim=1)

    def states(self, sequences: Tensor) -> Tensor:
        """``[B, L, M, d] -> [B, L, M, d]``: each modality's sequence through the same transformer."""
        batch, length, count, width = sequences.shape
        folded = sequences.transpose(1, 2).reshape(batch * count, length, width)
        return self.transformer(folded).view(batch, count, length, width).transpose(1, 2)


class SelfSupervision(nn.Module):
    """The pretraining losses and the projections they need."""

    def __init__(self, config: MSM4SRConfig, num_modalities: int):
        super().__init__()
        self.config, self.num_modalities = config, num_modalities
        self.weights = {"nip": config.nip_weight, "cmcl": config.cmcl_weight if num_modalities > 1 else 0.0}
        if not any(self.weights.values()):
            raise ValueError(
                f"nothing to pretrain on: nip_weight {config.nip_weight}, cmcl_weight {config.cmcl_weight} with "
                f"{num_modalities} modality(ies) (CMCL needs two)"
            )
        self.project = config.project and num_modalities > 1
        if self.project:
            shape = (num_modalities, config.hidden_size, config.hidden_size)
            self.weight, self.bias = nn.Parameter(torch.empty(shape)), nn.Parameter(torch.empty(shape[:2]))
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """nn.Linear's default, as the official code leaves the projections."""
        if self.project:
            bound = 1 / math.sqrt(self.config.hidden_size)
            init.uniform_(self.weight, -bound, bound)
            init.uniform_(self.bias, -bound, bound)

    def forward(self, encoder: MSM4SREncoder, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``{"loss": …, "nip": …, "cmcl": …}``, the parts unweighted; a part of weight 0 is not computed."""
        row, position, target = trained(batch)  # [T]
        history = batch["history"]
        if self.config.drop > 0:
            rate = self.config.drop * torch_uniform("drop rate", batch["step_seed"])
            kept = batch["mask"] & (self._draw("drop", batch) >= rate)
            history, position = drop_items(history, kept, row, position)
        items, index = torch.unique(torch.cat([history.flatten(), target]), return_inverse=True)
        vectors = encoder.items(items)  # [n, M, d]: only what the batch needs
        sequences = look_up(index[: history.numel()].view_as(history), vectors)  # [B, L, M, d]
        if self.config.mixup > 0 and self.num_modalities > 1:
            rate = self.config.mixup * torch_uniform("mixup rate", batch["step_seed"])
            sequences = mix(sequences, self._draw("mixup", batch), rate)
        states = encoder.states(sequences)[row, position]  # [T, M, d]
        left_out = related(target, batch["user"][row] if self.config.targets == "every" else None)
        parts = {}
        with torch.autocast(states.device.type, enabled=False):
            views = self.views(states.float())  # [T, K, S, d]
            if self.weights["nip"]:
                positive = F.normalize(vectors[index[history.numel() :]].float(), dim=-1)  # [T, K, d]
                parts["nip"] = next_item(views, positive, left_out, self.config.temperature)
            if self.weights["cmcl"]:
                intra = self.config.cmcl_negatives == "intra"
                terms = [cross_modal(a, b, left_out, self.config.temperature, intra) for a, b in self.pairs(views)]
                parts["cmcl"] = torch.stack(terms).sum()
        return parts | {"loss": torch.stack([self.weights[name] * part for name, part in parts.items()]).sum()}

    def pairs(self, views: Tensor) -> list[tuple[Tensor, Tensor]]:
        """What CMCL contrasts: in each modality's space its own state and each other's; unprojected, each pair once."""
        numbers = range(self.num_modalities)
        if self.project:
            return [(views[:, k, k], views[:, k, other]) for k in numbers for other in numbers if other != k]
        return [(views[:, k, 0], views[:, other, 0]) for k in numbers for other in numbers if other > k]

    def views(self, states: Tensor) -> Tensor:
        """``[T, M, d] -> [T, K, S, d]``: for each modality K the states that predict it, on the unit sphere (eq. 6).

        With projections every modality's state (S = M) in K's space; without, K's own alone (S = 1).
        """
        if self.project:
            views = torch.einsum("tsd,kod->tkso", states, self.weight) + self.bias[:, None]
        else:
            views = states.unsqueeze(2)
        return F.normalize(views, dim=-1)

    def own_views(self, states: Tensor) -> Tensor:
        """``[..., M, d]``: each modality's state as its own items see it: projected, if there are projections."""
        return torch.einsum("...kd,kod->...ko", states, self.weight) + self.bias if self.project else states

    def _draw(self, name: str, batch: Mapping[str, Tensor]) -> Tensor:
        """``[B, L]`` uniform numbers, a function of the row and the position."""
        column = torch.arange(batch["history"].shape[1], device=batch["history"].device)
        return torch_uniform(name, batch["row_seed"][:, None], column)


def look_up(index: Tensor, vectors: Tensor) -> Tensor:
    """Rows of ``vectors [n, M, d]`` at ``index [B, L]``: ``[B, L, M, d]`` (F.embedding's backward is the quick one)."""
    return F.embedding(index, vectors.flatten(1)).unflatten(-1, vectors.shape[1:])


def drop_items(history: Tensor, kept: Tensor, row: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
    """Removes items from sequences (section 3.3.1) and moves the survivors together; a first item always survives.

    A target stays: what is left of its prefix predicts it.

    Args:
        history: ``[B, L]``.
        kept: ``[B, L]`` bool, False on padding.
        row: ``[T]`` rows of the targets.
        position: ``[T]`` their positions, the last of their prefix.

    Returns:
        ``history [B, L]`` padded with 0, and the new ``position [T]``: that of the prefix's last survivor.
    """
    kept = torch.cat([torch.ones_like(kept[:, :1]), kept[:, 1:]], dim=1)
    moved = history.gather(1, torch.argsort(kept, dim=1, descending=True, stable=True))
    column = torch.arange(history.shape[1], device=history.device)
    return moved * (column < kept.sum(1, keepdim=True)), kept.cumsum(1)[row, position] - 1


def mix(sequences: Tensor, draw: Tensor, rate: Tensor) -> Tensor:
    """Complementary mixup (section 3.3.2): at drawn positions the modalities change places, so none is lost.

    Args:
        sequences: ``[B, L, M, d]``, M > 1.
        draw: ``[B, L]`` uniform in [0, 1); below ``rate`` a position is shifted cyclically by 1 .. M - 1, each as
            likely as another.
        rate: scalar.
    """
    count = sequences.shape[2]
    shift = torch.where(draw < rate, 1 + (draw / rate * (count - 1)).long(), 0)  # [B, L]
    source = (torch.arange(count, device=draw.device) + shift[..., None]) % count  # [B, L, M]
    return sequences.gather(2, source[..., None].expand_as(sequences))


def next_item(views: Tensor, positive: Tensor, left_out: LeftOut, temperature: float) -> Tensor:
    """Next-item prediction (eq. 7) against the global batch's targets, summed over modalities, mean over rows.

    Args:
        views: ``[T, K, S, d]`` unit vectors; the S views of a row are added inside the logarithm.
        positive: ``[T, K, d]`` unit vectors of the targets.
        left_out: from :func:`related`: pairs with the global batch's rows that are no negatives.
        temperature: divides the cosines.
    """
    everyone = gather_rows(positive)  # [N, K, d]
    loss = views.new_zeros(len(views))
    for modality in range(views.shape[1]):
        own_views = views[:, modality].unbind(1)  # S times [T, d]
        hits = [(view * positive[:, modality]).sum(-1) / temperature for view in own_views]
        misses = [_negatives(view, everyone[:, modality], left_out, temperature) for view in own_views]
        loss = loss + torch.stack(hits + misses).logsumexp(0) - torch.stack(hits).logsumexp(0)
    return mean_over_ranks(loss)


def cross_modal(a: Tensor, b: Tensor, left_out: LeftOut, temperature: float, intra: bool = False) -> Tensor:
    """Contrast of two views of the same rows (eq. 9) within the global batch, mean over rows.

    ``-log f(a_j, b_j) / (sum_j' f(a_j, b_j') + sum_{j' != j} f(b_j, a_j'))``; exchanging a and b gives the same, so the
    paper's symmetric mean is this one term. With ``intra`` each direction has its own denominator, cross- plus
    intra-view: ``sum_j' f(a_j, b_j') + sum_{j' != j} f(a_j, a_j')`` and the same with a and b exchanged.

    Args:
        a: ``[T, d]`` unit vectors.
        b: ``[T, d]`` unit vectors.
        left_out: from :func:`related`: pairs with the global batch's rows that are no negatives.
        temperature: divides the cosines.
        intra: see above.
    """
    a_all, b_all = gather_rows(a), gather_rows(b)  # [N, d]
    hit = (a * b).sum(-1) / temperature
    a_to_b, b_to_a = (_negatives(x, y, left_out, temperature) for x, y in ((a, b_all), (b, a_all)))
    if not intra:
        return mean_over_ranks(torch.stack([hit, a_to_b, b_to_a]).logsumexp(0) - hit)
    a_to_a, b_to_b = (_negatives(x, y, left_out, temperature) for x, y in ((a, a_all), (b, b_all)))
    both = torch.stack([torch.stack([hit, a_to_b, a_to_a]), torch.stack([hit, b_to_a, b_to_b])])  # [2, 3, T]
    return mean_over_ranks(both.logsumexp(1).mean(0) - hit)


def _negatives(query: Tensor, table: Tensor, left_out: LeftOut, temperature: float) -> Tensor:
    """``[T]`` log-sum-exp of scaled cosines of ``query [T, d]`` and ``table [N, d]`` over the pairs not left out."""
    return log_sum_exp(query, table, 1 / temperature, left_out)


def related(target: Tensor, user: Tensor | None) -> LeftOut:
    """Leaves out rows of the global batch with the same target or, if given, the same user; itself included.

    Returns:
        For a slice of the T rows a ``[rows, N]`` bias, -inf for pairs left out, else 0: only a block of it ever exists.
    """
    ids = [target] if user is None else [target, user]
    everyone = [gather_rows(own) for own in ids]  # [N]

    def bias(rows: slice) -> Tensor:
        same = [own[rows, None] == all_ids for own, all_ids in zip(ids, everyone, strict=True)]
        return torch.where(same[0] if user is None else same[0] | same[1], -torch.inf, 0.0)

    return bias


class MSM4SR(SequenceRecommender):
    """Encodes content with one transformer for all modalities and scores by the sum of their cosines."""

    config_class = MSM4SRConfig
    config: MSM4SRConfig
    paper = Paper(
        title="Multimodal Pre-training Framework for Sequential Recommendation via Contrastive Learning",
        authors=("Zhang", "Zhou", "Shen"),
        venue="",
        year=2023,
        kind="preprint",
        arxiv="2303.11879",
    )
    encoder_fields = ("hidden_size", "max_length", "num_layers", "num_heads", "inner_size", "num_experts")

    def __init__(self, config: MSM4SRConfig):
        super().__init__(config)
        self.encoder = MSM4SREncoder(config)

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, AttentionPooling | MoEAdaptor | SelfSupervision):
            module.reset_parameters()

    def bind(self, corpus: Corpus) -> Self:
        super().bind(corpus)
        self.encoder.features = feature_tables(self, corpus)
        return self

    @property
    def sized_by(self) -> tuple[str, ...]:  # type: ignore[override]
        return ()

    def vectors(self) -> Tensor:
        """``[num_items, M, d]``: input and candidate vectors of all items."""
        return self.encoder.items()

    def flat(self, x: Tensor) -> Tensor:
        """``[n, M, d] -> [n, M * d]``, so that one dot product is the sum of the modalities' scores."""
        return F.normalize(x, dim=-1).flatten(1)

    def tables(self) -> dict[str, Tensor]:
        vectors = self.vectors()
        return {"items": self.flat(vectors), "vectors": vectors}

    def represent(self, batch: Mapping[str, Tensor], tables: Mapping[str, Tensor]) -> Tensor:
        states = self.states(batch["history"], tables["vectors"])
        return self.flat(last_state(states.flatten(2), batch["mask"]).unflatten(1, states.shape[2:]))

    def states(self, history: Tensor, vectors: Tensor) -> Tensor:
        """``[B, L, M, d]`` of ``history [B, L]``."""
        return self.encoder.states(look_up(history, vectors))


@register
class MSM4SRForPretraining(MSM4SR):
    """Pretrains the encoder on content alone: next-item prediction and cross-modal contrast (eq. 10).

    Needs dense or ragged vectors. For validation it scores by the cosines that next-item prediction compares.
    """

    objective: ClassVar[Objective] = "pretraining"

    def __init__(self, config: MSM4SRConfig):
        super().__init__(config)
        self.supervision = SelfSupervision(config, len(self.encoder.modalities))
        self.post_init()

    def states(self, history: Tensor, vectors: Tensor) -> Tensor:
        return self.supervision.own_views(super().states(history, vectors))

    def forward(self, batch: Mapping[str, Tensor], phase: str = "main") -> dict[str, Tensor]:
        return self.supervision(self.encoder, batch)


@register
class MSM4SRForRecommendation(MSM4SR):
    """Finetunes the encoder on a softmax over the catalogue (eq. 12), with item ids added to the content.

    Needs dense or ragged vectors; starts from a pretrained encoder, or from nothing.
    """

    def __init__(self, config: MSM4SRConfig):
        super().__init__(config)
        if config.use_ids:
            self.item = nn.Embedding(config.num_items, config.hidden_size)
        if config.end_to_end:
            self.supervision = SelfSupervision(config, len(self.encoder.modalities))
        self.post_init()

    @property
    def sized_by(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("num_items",) if self.config.use_ids else ()

    def vectors(self) -> Tensor:
        vectors = self.encoder.items()
        return vectors + self.item.weight[:, None] if self.config.use_ids else vectors

    def flat(self, x: Tensor) -> Tensor:
        return super().flat(x) if self.config.score == "cosine" else x.flatten(1)

    def forward(self, batch: Mapping[str, Tensor], phase: str = "main") -> dict[str, Tensor]:
        vectors = self.vectors()  # [num_items, M, d], once a step
        row, position, target = trained(batch)  # [T]
        states = self.states(batch["history"], vectors)[row, position]  # [T, M, d]
        temperature = self.config.temperature if self.config.score == "cosine" else 1.0
        loss = softmax_loss(self.flat(states), self.flat(vectors), target, temperature)
        if not self.config.end_to_end:
            return {"loss": loss}
        parts = self.supervision(self.encoder, batch)
        return parts | {"loss": loss + parts["loss"], "next_item": loss}
