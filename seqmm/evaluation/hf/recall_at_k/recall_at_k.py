"""recall@k as an ``evaluate.Metric``."""

from seqmm.evaluation.hf import base
from seqmm.evaluation.metrics import recall


class RecallAtK(base.AccuracyMetric):
    """Share of a user's relevant items among the first k, mean over users."""

    label = "recall"
    metric = staticmethod(recall)
