"""MMGCN. Wei et al., MMGCN: Multi-modal Graph Convolution Network for Personalized Recommendation of Micro-video,
MM 2019.

Every modality has a graph network of its own over the user-item graph: items start as their content, users as a table
of preferences, all with length 1. A layer takes the mean over neighbours of linearly mapped rows (eq. 1, "mean
aggregation"), maps the node's own row and adds its id embedding, which all modalities share (eq. 4), and combines the
two by a linear map of their concatenation (eq. 5). Representations are averaged over modalities (eq. 7: summed, which
ranks alike). Loss: BPR and the mean squares of the batch's id embeddings and of the preferences.

Differences: ``train_ids=False`` freezes id embeddings and preferences at their random start, as the authors' and
MMRec's code do by not registering them as parameters, and as the published numbers were made; the paper trains them,
and so does the default. The official loss has the preferences of the first modality alone; here all of them. Content
wider than 1,024 goes through a linear map to 256 first, as images (4,096 wide) do in MMRec and in the authors' code,
which take other modalities (100 to 384 wide) as they are; ``latent`` changes that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqmm.data.corpus import Corpus
from seqmm.graphs.matrix import Graph, propagate
from seqmm.losses import bpr_of_rows, half_squares, weighted_sum
from seqmm.models.collaborative.base import ContentGraphConfig, ContentGraphRecommender
from seqmm.models.paper import Paper
from seqmm.names import Normalisation
from seqmm.options import option
from seqmm.registry import register


class MMGCNConfig(ContentGraphConfig):
    """MMRec's grid: regularization 0, 1e-5 to 1e-1; learning rate 1e-4 to 1e-2."""

    model_type = "mmgcn"

    num_layers: int = option(3, "Layers of every modality's network (paper and released codes).", least=1)
    latent: dict[str, int] = option(
        {},
        "Name value pairs: widths to which modalities' content is mapped first, 0 = left as wide as it is. Of "
        "those not named, content wider than 1,024 is mapped to 256, other content left as it is (released "
        "codes).",
        least=0,
    )
    train_ids: bool = option(
        True, "Whether id embeddings and preferences are trained (paper); False reproduces the published numbers."
    )
    regularization: float = option(1e-3, "Weight of the mean squares (from MMRec's grid).", least=0)


class MMGCNLayer(nn.Module):
    """``g([mean over neighbours of W x | LeakyReLU(A x) + ids])``.

    Args:
        dim: width of the incoming rows.
        hidden_size: width d of the ids and of the result.
    """

    def __init__(self, dim: int, hidden_size: int):
        super().__init__()
        self.neighbours = nn.Linear(dim, dim, bias=False)
        self.own = nn.Linear(dim, hidden_size)
        self.combine = nn.Linear(dim + hidden_size, hidden_size)

    def forward(self, x: Tensor, ids: Tensor, graph: Graph) -> Tensor:
        """``x [N, dim]``, ``ids [N, d] -> [N, d]``."""
        received = F.leaky_relu(propagate(graph, self.neighbours(x)))  # [N, dim]
        own = F.leaky_relu(self.own(x)) + ids  # [N, d]
        return F.leaky_relu(self.combine(torch.cat([received, own], 1)))


class MMGCNNetwork(nn.Module):
    """One modality's network.

    Args:
        dim: width of the content.
        latent: width to map it to first; 0 = as it is.
        hidden_size: width d of the result.
        num_layers: at least 1.
    """

    def __init__(self, dim: int, latent: int, hidden_size: int, num_layers: int):
        super().__init__()
        self.project = nn.Linear(dim, latent) if latent else None
        widths = [latent or dim, *[hidden_size] * (num_layers - 1)]
        self.layers = nn.ModuleList([MMGCNLayer(width, hidden_size) for width in widths])

    def forward(self, content: Tensor, preference: Tensor, ids: Tensor, graph: Graph) -> Tensor:
        """``content [I, dim]``, ``preference [U, latent or dim]``, ``ids [N, d] -> [N, d]``."""
        content = content if self.project is None else self.project(content)
        x = F.normalize(torch.cat([preference, content]), dim=-1)
        for layer in self.layers:
            x = layer(x, ids, graph)
        return x


@register
class MMGCN(ContentGraphRecommender):
    """Runs a graph network of its own in each modality and averages what they give.

    Needs at least one set of vectors.
    """

    config_class = MMGCNConfig
    config: MMGCNConfig
    paper = Paper(
        title="MMGCN: Multi-modal Graph Convolution Network for Personalized Recommendation of Micro-video",
        authors=("Wei", "others"),
        venue="MM",
        year=2019,
    )
    table_init = staticmethod(nn.init.xavier_normal_)
    linear_init = staticmethod(nn.init.xavier_normal_)
    normalisation: ClassVar[Normalisation] = "rw"

    def __init__(self, config: MMGCNConfig):
        super().__init__(config)
        if unknown := set(config.latent) - set(self.modalities):
            raise ValueError(
                f"model.latent names {sorted(unknown)} but the feature sets are {sorted(self.modalities)}; "
                "give widths of those only"
            )
        d = config.hidden_size
        self.make_ids()
        self.preference = nn.ParameterDict()
        self.networks = nn.ModuleDict()
        for name in self.modalities:
            dim = self.feature_dim(name)
            latent = config.latent.get(name, 256 if dim > 1024 else 0)
            self.preference[name] = nn.Parameter(torch.empty(config.num_users, latent or dim))
            self.networks[name] = MMGCNNetwork(dim, latent, d, config.num_layers)
        self.post_init()

    def bind(self, corpus: Corpus) -> Self:
        super().bind(corpus)
        for table in (self.user, self.item, self.preference):
            table.requires_grad_(self.config.train_ids)  # here, because loading forgets it
        return self

    def encode(self) -> tuple[Tensor, Tensor]:
        ids = self.ids()  # [U + I, d]
        rows = [
            self.networks[name](self.features(name), self.preference[name], ids, self.current_graph())
            for name in self.modalities
        ]
        return self.split(torch.stack(rows).mean(0))

    def forward(self, batch: Mapping[str, Tensor], phase: str = "main") -> dict[str, Tensor]:
        rows = self.rows(batch, *self.encode())  # [B, d] each
        return weighted_sum(
            {
                "bpr": (1.0, lambda: bpr_of_rows(*rows)),
                "norm": (self.config.regularization, lambda: self.norm(batch)),
            }
        )

    def norm(self, batch: Mapping[str, Tensor]) -> Tensor:
        user, positive, negative = self.rows(batch, self.user.weight, self.item.weight)  # [B, d]
        # the user counts once for each of its two items
        norm = half_squares(user, user, positive, negative) / self.config.hidden_size
        for table in self.preference.values():
            norm = norm + table.square().mean()
        return norm
