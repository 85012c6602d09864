"""What the transformer models of sequences share."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import init

from seqmm.data.collators import SequenceCollator
from seqmm.models.base import Recommender, RecommenderConfig, Stage
from seqmm.names import Targets
from seqmm.nn.transformer import CausalTransformer
from seqmm.options import OptionError, option


class SequenceConfig(RecommenderConfig):
    """The transformer, and what it is trained on. Defaults: RecBole's SASRec."""

    model_type = "sequence"

    max_length: int = option(50, "Latest items that are read.", least=1)
    num_layers: int = option(2, "Transformer layers.", least=1)
    num_heads: int = option(2, "Attention heads.", least=1)
    inner_size: int = option(256, "Width inside the feed-forward part.", least=1)
    dropout: float = option(
        0.5, "Dropout on the input, the attention weights and each residual branch.", least=0, below=1
    )
    targets: Targets = option(
        "every",
        "Positions that are trained: every = all of a window at once; prefix = one sample for each prefix, as "
        "RecBole and the papers do.",
    )

    def check(self) -> None:
        super().check()
        if self.hidden_size % self.num_heads:
            problem = f" is {self.num_heads}, which does not divide hidden_size {self.hidden_size}"
            raise OptionError(type(self).__name__, "num_heads", f"{problem}; choose a divisor")


class SequenceRecommender(Recommender):
    """Base of the sequential models: windows in, states of a causal transformer out."""

    config_class = SequenceConfig
    config: SequenceConfig
    stages = (Stage(SequenceCollator),)

    def __init__(self, config: SequenceConfig):
        super().__init__(config)

    def collator_options(self, stage: int) -> dict[str, object]:
        return {"max_length": self.config.max_length, "targets": self.config.targets}

    @property
    def history_length(self) -> int:
        return self.config.max_length

    def _init_weights(self, module: nn.Module) -> None:
        """RecBole's: linear maps and embeddings N(0, .02), biases 0."""
        if isinstance(module, nn.Linear | nn.Embedding):
            init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
        if isinstance(module, nn.Linear | nn.LayerNorm) and module.bias is not None:
            init.zeros_(module.bias)


def transformer(config: SequenceConfig) -> CausalTransformer:
    """The encoder a config describes."""
    return CausalTransformer(
        config.hidden_size,
        config.max_length,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        inner_size=config.inner_size,
        dropout=config.dropout,
        attention_dropout=config.dropout,
    )


def trained(batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """``(row, position, target)``, ``[T]`` each, of a batch's training targets."""
    row, position = batch["target_mask"].nonzero(as_tuple=True)
    return row, position, batch["target"][row, position]
