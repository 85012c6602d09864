"""SASRecM: SASRec on frozen content, the strongest baseline of MSM4SR's table.

The paper of :mod:`~seqmm.models.sequential.msm4sr` names it without defining it. Here: each feature set of the corpus
goes through a linear map; the maps' outputs and the item's id embedding are fused into one vector per item,
``x_i = fuse(E[i], W_m f_m[i], …)``, which is both the transformer's input and the candidate. Ragged sets
are averaged over an item's vectors first; tags are averaged embeddings. No pretraining.
"""

from __future__ import annotations

from typing import Self

import torch.nn.functional as F
from torch import Tensor, nn

from seqmm.data.corpus import Corpus
from seqmm.models.content import ANY, check_modalities, choose_modalities, feature_tables
from seqmm.models.sequential.sasrec import SASRec, SASRecConfig
from seqmm.names import Fuse
from seqmm.nn.features import FeatureTable, mean_rows
from seqmm.nn.fusion import Fusion
from seqmm.options import option
from seqmm.registry import register


class SASRecMConfig(SASRecConfig):
    """SASRec's options and what happens to the content."""

    model_type = "sasrecm"

    use_ids: bool = option(
        True, "Whether an item has an embedding of its own; without, items nobody has seen can be scored."
    )
    fuse: Fuse = option("sum", "How the id embedding and the mapped features become one vector.")
    normalize: bool = option(
        True, "Whether the feature vectors are L2-normalised first, so that encoders of any scale start alike."
    )
    modalities: tuple[str, ...] = option((), "Feature sets to use; none named = all the corpus was loaded with.")

    def reads(self) -> list[str]:
        return choose_modalities(self, self.modalities)


@register
class SASRecM(SASRec):
    """Reads a history as SASRec does, of item vectors made from content and, with ``use_ids``, a table.

    Needs interactions in their order; without ids also content of any kind, and then serves items it has not seen.
    """

    config_class = SASRecMConfig
    config: SASRecMConfig
    paper = None

    def build_items(self, config: SASRecMConfig) -> None:  # type: ignore[override]
        self.modalities = config.reads()
        if config.use_ids:
            self.item = nn.Embedding(config.num_items, config.hidden_size)
        else:
            check_modalities(config, 1, ANY, instead=", or set model.use_ids True")
        self.project = nn.ModuleDict()
        for name in self.modalities:
            made = config.features[name]
            tags = made["kind"] == "tags"
            self.project[name] = (nn.Embedding if tags else nn.Linear)(made["dim"], config.hidden_size)
        self.fusion = Fusion(config.fuse, len(self.modalities) + config.use_ids, config.hidden_size)
        self.features: dict[str, FeatureTable] = {}

    @property
    def sized_by(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("num_items",) if self.config.use_ids else ()

    def bind(self, corpus: Corpus) -> Self:
        super().bind(corpus)
        self.features = feature_tables(self, corpus)
        return self

    def items(self) -> Tensor:
        device = self.transformer.position.weight.device
        sources = [self.item.weight] if self.config.use_ids else []
        for name, project in self.project.items():
            table = self.features[name]
            if isinstance(project, nn.Embedding):
                tags, offsets = table.on(device)
                sources.append(mean_rows(project.weight, tags, offsets))
            else:
                vectors = table.means(device)
                sources.append(project(F.normalize(vectors, dim=-1) if self.config.normalize else vectors))
        return self.fusion(sources)
