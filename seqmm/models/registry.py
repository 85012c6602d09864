"""Models by ``model_type``: a table of names, imported when asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from seqmm.names import nearest

if TYPE_CHECKING:
    from seqmm.models.base import Recommender


class Entry(NamedTuple):
    """Where a model lives: the class that recommends and, for two-stage models, the one that pretrains."""

    module: str
    recommendation: str
    pretraining: str | None = None


MODELS = {
    "popularity": Entry("collaborative.popularity", "Popularity"),
    "item_knn": Entry("collaborative.item_knn", "ItemKNN"),
    "bpr": Entry("collaborative.bpr", "BPR"),
    "lightgcn": Entry("collaborative.lightgcn", "LightGCN"),
    "ngcf": Entry("collaborative.ngcf", "NGCF"),
    "sgl": Entry("collaborative.sgl", "SGL"),
    "ncl": Entry("collaborative.ncl", "NCL"),
    "hccf": Entry("collaborative.hccf", "HCCF"),
    "selfcf": Entry("collaborative.selfcf", "SelfCF"),
    "buir": Entry("collaborative.buir", "BUIR"),
    "vbpr": Entry("collaborative.vbpr", "VBPR"),
    "mmgcn": Entry("collaborative.mmgcn", "MMGCN"),
    "grcn": Entry("collaborative.grcn", "GRCN"),
    "dualgnn": Entry("collaborative.dualgnn", "DualGNN"),
    "dragon": Entry("collaborative.dragon", "DRAGON"),
    "cohesion": Entry("collaborative.cohesion", "COHESION"),
    "lattice": Entry("collaborative.lattice", "LATTICE"),
    "micro": Entry("collaborative.micro", "MICRO"),
    "freedom": Entry("collaborative.freedom", "FREEDOM"),
    "slmrec": Entry("collaborative.slmrec", "SLMRec"),
    "bm3": Entry("collaborative.bm3", "BM3"),
    "mgcn": Entry("collaborative.mgcn", "MGCN"),
    "lgmrec": Entry("collaborative.lgmrec", "LGMRec"),
    "pgl": Entry("collaborative.pgl", "PGL"),
    "idfree": Entry("collaborative.idfree", "IDFREE"),
    "damrs": Entry("collaborative.damrs", "DAMRS"),
    "mmssl": Entry("collaborative.mmssl", "MMSSL"),
    "mentor": Entry("collaborative.mentor", "MENTOR"),
    "userec": Entry("collaborative.userec", "USERec"),
    "composite": Entry("collaborative.composite", "Composite"),
    "sasrec": Entry("sequential.sasrec", "SASRec"),
    "sasrecm": Entry("sequential.sasrecm", "SASRecM"),
    "msm4sr": Entry("sequential.msm4sr", "MSM4SRForRecommendation", "MSM4SRForPretraining"),
}


def model_class(model_type: str, *, pretraining: bool = False) -> type[Recommender]:
    """The class of a model.

    Raises:
        ValueError: for an unknown name, or a model without a pretraining head.
    """
    if model_type not in MODELS:
        raise ValueError(f"unknown model_type {model_type!r}{nearest(model_type, MODELS)}")
    entry = MODELS[model_type]
    if pretraining and entry.pretraining is None:
        can = ", ".join(name for name, other in MODELS.items() if other.pretraining)
        raise ValueError(
            f"{model_type} has no pretraining head; models that have one: {can}. Use recipes/train.py instead"
        )
    name = entry.pretraining if pretraining else entry.recommendation
    return getattr(import_module(f"seqmm.models.{entry.module}"), str(name))
