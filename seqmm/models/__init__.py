"""Models by ``model_type``: a table of names, imported when asked for. Not a plug-in point."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from seqmm.models.base import Recommender


class Entry(NamedTuple):
    """Where a model lives: the class that recommends and, for two-stage models, the one that pretrains."""

    module: str
    recommendation: str
    pretraining: str | None = None


MODELS = {
    "popularity": Entry("graph.popularity", "Popularity"),
    "item_knn": Entry("graph.item_knn", "ItemKNN"),
    "bpr": Entry("graph.bpr", "BPR"),
    "lightgcn": Entry("graph.lightgcn", "LightGCN"),
    "ngcf": Entry("graph.ngcf", "NGCF"),
    "sgl": Entry("graph.sgl", "SGL"),
    "ncl": Entry("graph.ncl", "NCL"),
    "hccf": Entry("graph.hccf", "HCCF"),
    "selfcf": Entry("graph.selfcf", "SelfCF"),
    "buir": Entry("graph.buir", "BUIR"),
    "vbpr": Entry("graph.vbpr", "VBPR"),
    "mmgcn": Entry("graph.mmgcn", "MMGCN"),
    "grcn": Entry("graph.grcn", "GRCN"),
    "dualgnn": Entry("graph.dualgnn", "DualGNN"),
    "dragon": Entry("graph.dragon", "DRAGON"),
    "cohesion": Entry("graph.cohesion", "COHESION"),
    "lattice": Entry("graph.lattice", "LATTICE"),
    "micro": Entry("graph.micro", "MICRO"),
    "freedom": Entry("graph.freedom", "FREEDOM"),
    "slmrec": Entry("graph.slmrec", "SLMRec"),
    "bm3": Entry("graph.bm3", "BM3"),
    "mgcn": Entry("graph.mgcn", "MGCN"),
    "lgmrec": Entry("graph.lgmrec", "LGMRec"),
    "pgl": Entry("graph.pgl", "PGL"),
    "idfree": Entry("graph.idfree", "IDFREE"),
    "damrs": Entry("graph.damrs", "DAMRS"),
    "mmssl": Entry("graph.mmssl", "MMSSL"),
    "mentor": Entry("graph.mentor", "MENTOR"),
    "userec": Entry("graph.userec", "USERec"),
    "composite": Entry("graph.composite", "Composite"),
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
        from difflib import get_close_matches

        near = get_close_matches(model_type, MODELS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown model_type {model_type!r}{hint} Known: {', '.join(MODELS)}")
    entry = MODELS[model_type]
    if pretraining and entry.pretraining is None:
        can = ", ".join(name for name, other in MODELS.items() if other.pretraining)
        raise ValueError(
            f"{model_type} has no pretraining head; models that have one: {can}. Use recipes/train.py instead"
        )
    name = entry.pretraining if pretraining else entry.recommendation
    return getattr(import_module(f"seqmm.models.{entry.module}"), str(name))
