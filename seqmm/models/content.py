"""The content a model reads: which feature sets of the corpus, of which kinds, and their vectors once it is bound."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import get_args

from seqmm.data.corpus import Corpus
from seqmm.models.base import Recommender, RecommenderConfig
from seqmm.names import FeatureKind
from seqmm.nn.features import FeatureTable

logger = logging.getLogger(__name__)

ANY: tuple[FeatureKind, ...] = get_args(FeatureKind)
VECTORS: tuple[FeatureKind, ...] = ("dense", "ragged")


def choose_modalities(
    config: RecommenderConfig, wanted: Collection[str], kinds: Collection[FeatureKind] = ANY
) -> list[str]:
    """Names of the feature sets a model reads, sorted: by the name in the checkpoint it started from, if it did.

    Args:
        config: of the model; its ``features`` are what the corpus has.
        wanted: names asked for; empty = all of the right kind.
        kinds: kinds the model can read.

    Raises:
        ValueError: if a wanted set is not there or of another kind.
    """
    features = config.features
    usable = [name for name in features if features[name]["kind"] in kinds]
    for name in wanted:
        if name not in usable:
            raise ValueError(
                f"model.modalities names {name!r}, which is not among the corpus's {' or '.join(kinds)} feature sets "
                f"({', '.join(usable) or 'none loaded'}); load it with data.features or choose another"
            )
    return sorted(wanted or usable, key=lambda name: features[name].get("pretrained_as", name))


def check_modalities(
    config: RecommenderConfig, least: int = 1, kinds: Collection[FeatureKind] = VECTORS, instead: str = ""
) -> None:
    """Checks what a model reads (``config.reads()``).

    Args:
        config: of the model.
        least: how many feature sets it cannot do without.
        kinds: kinds it can read.
        instead: of the remedy, what else can be done.

    Raises:
        ValueError: fewer, or one of another kind.
    """
    names = config.reads()
    if not names and least == 0:
        logger.warning(
            "%s was given no feature set of the items and learns from interactions alone; name sets with "
            "`data.features`",
            config.model_type,
        )
    if len(names) < least:
        raise ValueError(
            f"{config.model_type} needs at least {least} {' or '.join(kinds)} feature set(s) of the items; the corpus "
            f"was loaded with: {', '.join(config.features) or 'none'}; name them with `data.features`{instead}"
        )
    for name in names:
        if config.features[name]["kind"] not in kinds:
            raise ValueError(
                f"{config.model_type} reads vectors, but feature set {name!r} holds tags, which are ids; leave "
                "it out of `data.features`, or name a set of vectors instead"
            )


def feature_tables(model: Recommender, corpus: Corpus) -> dict[str, FeatureTable]:
    """What ``bind`` attaches: the feature sets the model reads, by the names it knows them under."""
    return {name: FeatureTable(made) for name, made in model.feature_sets(corpus).items()}
