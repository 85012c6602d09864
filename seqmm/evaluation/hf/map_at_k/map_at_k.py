"""map@k as an ``evaluate.Metric``."""

from seqmm.evaluation.hf import base
from seqmm.evaluation.metrics import average_precision


class MapAtK(base.AccuracyMetric):
    """Average precision at k, over min(k, relevant items), mean over users."""

    label = "map"
    metric = staticmethod(average_precision)
