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
    slow: bool = True
    """Whether the slow tests (learning, two processes) run it, too: they need one case a mechanism."""

    def corpus(self, **options: Any) -> Corpus:
        small = {"num_users": 60, "num_items": 40, "mean_length": 9, "modalities": ("text", "image", "audio")}
        whole = synthetic_corpus(**(small | options))
        return replace(whole, features={name: whole.features[name] for name in self.features})

    def model(self, corpus: Corpus, seed: int = 0, **options: Any) -> Recommender:
        torch.manual_seed(seed)
        cls = model_class(self.model_type, pretraining=self.pretraining)
        return cls.for_corpus(cls.config_class(**(self.options | options)), corpus)


_SMALL = {"hidden_size": 16}
_SEQUENCE = _SMALL | {"max_length": 8, "num_layers": 1, "num_heads": 2, "inner_size": 32, "dropout": 0.0}
_VIEWS = ("text", "image")
_DENSE = ("text_vector", "image_vector")
_MSM4SR = _SEQUENCE | {"num_experts": 2, "expert_dropout": 0.0}

CASES = {
    "popularity": Case("popularity"),
    "item_knn": Case("item_knn"),
    "bpr": Case("bpr", _SMALL),
    "lightgcn": Case("lightgcn", _SMALL),
    "lightgcn-pruned": Case("lightgcn", _SMALL | {"edge_keep": 0.6}),
    "freedom": Case("freedom", _SMALL | {"edge_keep": 0.6, "num_neighbors": 4}, _DENSE),
    "freedom-one": Case("freedom", _SMALL | {"edge_keep": 0.6, "num_neighbors": 4}, ("text",), slow=False),
    "freedom-three": Case("freedom", _SMALL | {"edge_keep": 0.6, "num_neighbors": 4}, (*_DENSE, "audio"), slow=False),
    "freedom-none": Case("freedom", _SMALL, slow=False),
    "sasrec": Case("sasrec", _SEQUENCE),
    "sasrec-prefix": Case("sasrec", _SEQUENCE | {"targets": "prefix"}),
    "sasrec-sampled": Case("sasrec", _SEQUENCE | {"loss": "bce"}),
    "sasrecm": Case("sasrecm", _SEQUENCE, _VIEWS),
    "sasrecm-no-ids": Case("sasrecm", _SEQUENCE | {"use_ids": False}, _VIEWS),
    "msm4sr-pretraining": Case("msm4sr", _MSM4SR, _VIEWS, pretraining=True),
    "msm4sr-pretraining-one": Case("msm4sr", _MSM4SR, ("text",), pretraining=True),
    "msm4sr": Case("msm4sr", _MSM4SR, _VIEWS),
    "msm4sr-no-ids": Case("msm4sr", _MSM4SR | {"use_ids": False}, _VIEWS),
    # options of the models above
    "sasrec-sampled-softmax": Case("sasrec", _SEQUENCE | {"loss": "sampled_softmax", "num_negatives": 3}, slow=False),
    "sasrecm-gate": Case("sasrecm", _SEQUENCE | {"fuse": "gate"}, _VIEWS, slow=False),
    "sasrecm-concat": Case("sasrecm", _SEQUENCE | {"fuse": "concat"}, _VIEWS, slow=False),
    "sasrecm-tags": Case("sasrecm", _SEQUENCE, ("genre", "text"), slow=False),
    "sasrecm-dense": Case("sasrecm", _SEQUENCE, _DENSE, slow=False),
    "msm4sr-pretraining-prefix": Case("msm4sr", _MSM4SR | {"targets": "prefix"}, _VIEWS, pretraining=True, slow=False),
    "msm4sr-pretraining-intra": Case(
        "msm4sr", _MSM4SR | {"cmcl_negatives": "intra"}, _VIEWS, pretraining=True, slow=False
    ),
    "msm4sr-pretraining-dense": Case("msm4sr", _MSM4SR, _DENSE, pretraining=True, slow=False),
    "msm4sr-pretraining-three": Case("msm4sr", _MSM4SR, (*_VIEWS, "audio"), pretraining=True, slow=False),
    "msm4sr-end-to-end": Case("msm4sr", _MSM4SR | {"end_to_end": True}, _VIEWS, slow=False),
    "msm4sr-dot": Case("msm4sr", _MSM4SR | {"score": "dot"}, _VIEWS, slow=False),
    "msm4sr-dense": Case("msm4sr", _MSM4SR, _DENSE, slow=False),
}
TRAINED = [name for name, case in CASES.items() if model_class(case.model_type, pretraining=case.pretraining).stages]
SLOW = [name for name in TRAINED if CASES[name].slow]
