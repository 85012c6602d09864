"""precision@k as an ``evaluate.Metric``."""

from seqmm.evaluation.hf import base
from seqmm.evaluation.metrics import precision


class PrecisionAtK(base.AccuracyMetric):
    """Share of relevant items among the first k, mean over users."""

    label = "precision"
    metric = staticmethod(precision)
