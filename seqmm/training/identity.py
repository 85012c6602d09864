"""What a resumed run must share with the one it goes on with; everything that changes its course."""

from __future__ import annotations

import functools
import json
import zlib
from typing import Any

from seqmm.data.corpus import Corpus
from seqmm.models.base import Recommender
from seqmm.options import result_values
from seqmm.training.optimisation import OptimizerMaker, SchedulerMaker
from seqmm.training.validation import Validation


def identity(
    model: Recommender, corpus: Corpus, course: dict[str, Any], evaluator: Validation | None, monitor: str
) -> dict[str, Any]:
    """Plain values that say what is trained on what, how, and what chooses the weights.

    Args:
        model: to be trained.
        corpus: it is trained on.
        course: of the training arguments, those that change a result.
        evaluator: of the validation split.
        monitor: its metric that chooses weights.
    """
    config, features = model.config, corpus.features
    # what a list of metrics is called says its cut-offs too
    scored = {} if evaluator is None else {"monitor": monitor, "metrics": list(evaluator.names), **evaluator.rules}
    values = {
        "model": type(model).__name__,
        "corpus": corpus.fingerprint(),
        "protocol": corpus.protocol,
        "features": config.features | {name: zlib.crc32(made.values.data) for name, made in features.items()},
        "train": course,
        "started_from": config.pretrained_on.get("weights"),
        "eval": scored,
        "hyper_parameters": result_values(config),
    }
    return dict(json.loads(json.dumps(values)))  # as a saved state holds them


def makers_given(
    optimizer: OptimizerMaker | None, scheduler: SchedulerMaker | None, epochs: int
) -> dict[str, str | int]:
    """Names of the optimiser and the scheduler that were given in Python; a scheduler is told how many epochs."""
    given = {"optimizer": optimizer, "scheduler": scheduler}
    named: dict[str, str | int] = {what: _name(maker) for what, maker in given.items() if maker is not None}
    return named if scheduler is None else named | {"epochs": epochs}


def _name(maker: Any) -> str:
    """The same in every process, which an object's own text is not."""
    if isinstance(maker, functools.partial):
        return f"{_name(maker.func)}, {maker.keywords}"
    return f"{maker.__module__}.{getattr(maker, '__qualname__', type(maker).__qualname__)}"
