"""precision@k as an ``evaluate.Metric``."""

from seqmm.evaluation.hf import base
from seqmm.evaluation.metrics import precision


class PrecisionAtK(base.AccuracyMetric):
    """Averages over users the share of relevant items among the first k.

    Needs lists of k items, for a shorter one's rest counts as misses. Gives 0 to 1.
    Related: recall, the share of what is relevant.
    Choose it when room in the list is what costs.

    User 0 is shown a, b and wants b, x; user 1 is shown c, d and wants c.

    >>> PrecisionAtK().compute(predictions=[["a", "b"], ["c", "d"]], references=[["b", "x"], ["c"]], k=2)
    {'precision@2': 0.5}
    """

    label = "precision"
    metric = staticmethod(precision)
