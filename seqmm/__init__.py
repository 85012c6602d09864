"""seqmm: pretrain, finetune, evaluate and serve multimodal recommenders.

``import seqmm`` is light: torch and the rest are imported when a name is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqmm.data.corpus import Corpus as Corpus
    from seqmm.data.joining import concat_corpora as concat_corpora
    from seqmm.data.loading import load_corpus as load_corpus
    from seqmm.data.sources.base import Source as Source
    from seqmm.data.sources.base import SourceData as SourceData
    from seqmm.data.synthetic import synthetic_corpus as synthetic_corpus
    from seqmm.evaluation.evaluator import Evaluator as Evaluator
    from seqmm.models.base import Recommender as Recommender
    from seqmm.models.base import RecommenderConfig as RecommenderConfig
    from seqmm.models.checkpoint import from_pretrained as from_pretrained
    from seqmm.registry import register as register
    from seqmm.run.settings import load_run as load_run
    from seqmm.serving.index import Index as Index
    from seqmm.training.trainer import Trainer as Trainer

__version__ = "0.1.0"

_NAMES = {
    "Corpus": "seqmm.data.corpus",
    "Evaluator": "seqmm.evaluation.evaluator",
    "Index": "seqmm.serving.index",
    "Recommender": "seqmm.models.base",
    "RecommenderConfig": "seqmm.models.base",
    "Source": "seqmm.data.sources.base",
    "SourceData": "seqmm.data.sources.base",
    "Trainer": "seqmm.training.trainer",
    "concat_corpora": "seqmm.data.joining",
    "from_pretrained": "seqmm.models.checkpoint",
    "load_corpus": "seqmm.data.loading",
    "load_run": "seqmm.run.settings",
    "register": "seqmm.registry",
    "synthetic_corpus": "seqmm.data.synthetic",
}
__all__ = ["__version__", *_NAMES]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'seqmm' has no attribute {name!r}")
    return getattr(import_module(_NAMES[name]), name)
