"""Every model once, small: what the contract test and the two-process test run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch

from seqmm.data.corpus import Corpus
from seqmm.data.synthetic import synthetic_corpus
from seqmm.models import model_class
from seqmm.models.base import Recommender


@dataclass(frozen=True)
class Case:
    """A model, its features and the options that make it small and free of dropout."""

    model_type: str
    options: dict[str, Any] = field(default_factory=dict)
    features: tuple[str, ...] = ()
    pretraining: bool = False

    def corpus(self, **options: Any) -> Corpus:
        whole = synthetic_corpus(**({"num_users": 60, "num_items": 40, "mean_length": 9} | options))
        return replace(whole, features={name: whole.features[name] for name in self.features})

    def model(self, corpus: Corpus, seed: int = 0, **options: Any) -> Recommender:
        torch.manual_seed(seed)
        cls = model_class(self.model_type, pretraining=self.pretraining)
        return cls.for_corpus(cls.config_class(**(self.options | options)), corpus)


_SMALL = {"hidden_size": 16}
_SEQUENCE = _SMALL | {"max_length": 8, "num_layers": 1, "num_heads": 2, "inner_size": 32, "dropout": 0.0}
_VIEWS = ("text", "image")
_MSM4SR = _SEQUENCE | {"num_experts": 2, "expert_dropout": 0.0}

CASES = {
    "popularity": Case("popularity"),
    "item_knn": Case("item_knn"),
    "bpr": Case("bpr", _SMALL),
    "lightgcn": Case("lightgcn", _SMALL),
    "lightgcn-pruned": Case("lightgcn", _SMALL | {"edge_keep": 0.6}),
    "sasrec": Case("sasrec", _SEQUENCE),
    "sasrec-prefix": Case("sasrec", _SEQUENCE | {"targets": "prefix"}),
    "sasrec-sampled": Case("sasrec", _SEQUENCE | {"loss": "bce"}),
    "sasrecm": Case("sasrecm", _SEQUENCE, _VIEWS),
    "sasrecm-no-ids": Case("sasrecm", _SEQUENCE | {"use_ids": False}, _VIEWS),
    "msm4sr-pretraining": Case("msm4sr", _MSM4SR, _VIEWS, pretraining=True),
    "msm4sr-pretraining-one": Case("msm4sr", _MSM4SR, ("text",), pretraining=True),
    "msm4sr": Case("msm4sr", _MSM4SR, _VIEWS),
    "msm4sr-no-ids": Case("msm4sr", _MSM4SR | {"use_ids": False}, _VIEWS),
}
TRAINED = [name for name, case in CASES.items() if model_class(case.model_type, pretraining=case.pretraining).stages]
