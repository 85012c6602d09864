"""seqmm: pretrain, finetune, evaluate and serve multimodal recommenders.

``import seqmm`` is light: torch and the rest are imported when a name is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from seqmm.names import nearest

if TYPE_CHECKING:
    from seqmm.arguments import EvalArguments as EvalArguments
    from seqmm.arguments import TrainArguments as TrainArguments
    from seqmm.data.corpus import Corpus as Corpus
    from seqmm.data.from_tables import prepare_corpus as prepare_corpus
    from seqmm.data.joining import concat_corpora as concat_corpora
    from seqmm.data.loading import load_corpus as load_corpus
    from seqmm.data.sources.base import Source as Source
    from seqmm.data.sources.base import SourceData as SourceData
    from seqmm.data.synthetic import synthetic_corpus as synthetic_corpus
    from seqmm.evaluation.evaluator import Evaluator as Evaluator
    from seqmm.evaluation.evaluator import evaluate as evaluate
    from seqmm.evaluation.lists import score_lists as score_lists
    from seqmm.features.extractor import Extractor as Extractor
    from seqmm.features.extractor import Found as Found
    from seqmm.models.base import Recommender as Recommender
    from seqmm.models.base import RecommenderConfig as RecommenderConfig
    from seqmm.models.checkpoint import from_pretrained as from_pretrained
    from seqmm.models.making import make_model as make_model
    from seqmm.options import Options as Options
    from seqmm.options import option as option
    from seqmm.publishing.push import publish_corpus as publish_corpus
    from seqmm.publishing.push import publish_model as publish_model
    from seqmm.registry import register as register
    from seqmm.run.run import Run as Run
    from seqmm.serving.index import Index as Index
    from seqmm.serving.index import open_checkpoint as open_checkpoint
    from seqmm.serving.recommendations import recommend as recommend
    from seqmm.serving.recommendations import similar_items as similar_items
    from seqmm.training.callbacks import Callback as Callback
    from seqmm.training.trainer import Trainer as Trainer

__version__ = "0.1.0"

_NAMES = {
    "Callback": "seqmm.training.callbacks",
    "Corpus": "seqmm.data.corpus",
    "EvalArguments": "seqmm.arguments",
    "Evaluator": "seqmm.evaluation.evaluator",
    "Extractor": "seqmm.features.extractor",
    "Found": "seqmm.features.extractor",
    "Index": "seqmm.serving.index",
    "Options": "seqmm.options",
    "Recommender": "seqmm.models.base",
    "RecommenderConfig": "seqmm.models.base",
    "Source": "seqmm.data.sources.base",
    "Run": "seqmm.run.run",
    "SourceData": "seqmm.data.sources.base",
    "TrainArguments": "seqmm.arguments",
    "Trainer": "seqmm.training.trainer",
    "concat_corpora": "seqmm.data.joining",
    "evaluate": "seqmm.evaluation.evaluator",
    "from_pretrained": "seqmm.models.checkpoint",
    "load_corpus": "seqmm.data.loading",
    "make_model": "seqmm.models.making",
    "open_checkpoint": "seqmm.serving.index",
    "option": "seqmm.options",
    "prepare_corpus": "seqmm.data.from_tables",
    "publish_corpus": "seqmm.publishing.push",
    "publish_model": "seqmm.publishing.push",
    "recommend": "seqmm.serving.recommendations",
    "register": "seqmm.registry",
    "score_lists": "seqmm.evaluation.lists",
    "similar_items": "seqmm.serving.recommendations",
    "synthetic_corpus": "seqmm.data.synthetic",
}
__all__ = ["__version__", *_NAMES]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'seqmm' has no attribute {name!r}{nearest(name, _NAMES)}")
    return getattr(import_module(_NAMES[name]), name)


def __dir__() -> list[str]:
    return __all__
