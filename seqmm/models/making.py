"""A new model by name, with its weights a function of a seed."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch

from seqmm.data.corpus import Corpus
from seqmm.models.base import Recommender, RecommenderConfig
from seqmm.models.checkpoint import start_from
from seqmm.models.registry import model_class
from seqmm.names import Objective
from seqmm.random import derive_seed


def make_model(
    model: str | type[Recommender] | RecommenderConfig,
    corpus: Corpus,
    *,
    seed: int = 0,
    objective: Objective = "recommendation",
    init_from: str | None = None,
    init_revision: str | None = None,
    rename: Mapping[str, str] = MappingProxyType({}),
    **options: Any,
) -> Recommender:
    """Makes a model for a corpus, which it is bound to; ``seed`` alone decides its first weights.

    Args:
        model: its ``model_type`` ("lightgcn"), its class, or its config.
        corpus: what sizes it; its feature sets are those the model reads.
        seed: of the weights; that of the recipes' ``--train.seed`` gives the same ones.
        objective: "pretraining" gives the pretraining head of a model that has one.
        init_from: checkpoint that the encoder starts from: a run's folder, or ``org/name`` on the Hub.
        init_revision: of a checkpoint on the Hub: branch, tag or commit; None = main.
        rename: feature sets of the corpus -> the checkpoint's that they are, where their provenance does not tell.
        options: of the model's config, where ``model`` is none.

    Raises:
        ValueError: an unknown model, option or value; features or a checkpoint that do not fit.

    >>> import seqmm
    >>> corpus = seqmm.synthetic_corpus(num_users=60, num_items=40)
    >>> model = seqmm.make_model("bpr", corpus, hidden_size=8, seed=1)
    >>> model.tables()["items"].shape
    torch.Size([40, 8])
    """
    cls, config = class_and_config(model, options, objective=objective)
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed("weights", seed))
        if init_from is not None:
            return start_from(cls, init_from, config, corpus, revision=init_revision, rename=rename)
        return cls.for_corpus(config, corpus)


def class_and_config(
    model: str | type[Recommender] | RecommenderConfig, options: Mapping[str, Any], *, objective: Objective
) -> tuple[type[Recommender], RecommenderConfig]:
    """The class and the config of a model given in one of three ways.

    Args:
        model: its ``model_type``, its class, or its config.
        options: of its config, where ``model`` is none.
        objective: of the head that is meant, where ``model`` is no class.

    Raises:
        ValueError: an unknown model, option or value; options beside a config.
    """
    if isinstance(model, RecommenderConfig):
        if options:
            raise ValueError(f"{', '.join(options)}: a config was given, which holds the options already")
        return model_class(model.model_type, pretraining=objective == "pretraining"), model
    cls = model_class(model, pretraining=objective == "pretraining") if isinstance(model, str) else model
    return cls, cls.config_class(**options)
