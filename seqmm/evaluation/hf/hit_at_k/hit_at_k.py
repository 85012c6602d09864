"""hit@k as an ``evaluate.Metric``."""

from seqmm.evaluation.hf import base
from seqmm.evaluation.metrics import hit


class HitAtK(base.AccuracyMetric):
    """Share of users with a relevant item among the first k."""

    label = "hit"
    metric = staticmethod(hit)
