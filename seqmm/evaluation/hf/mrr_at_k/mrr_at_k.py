"""mrr@k as an ``evaluate.Metric``."""

from seqmm.evaluation.hf import base
from seqmm.evaluation.metrics import reciprocal_rank


class MrrAtK(base.AccuracyMetric):
    """One over the position of the first relevant item if within k, else 0, mean over users."""

    label = "mrr"
    metric = staticmethod(reciprocal_rank)
