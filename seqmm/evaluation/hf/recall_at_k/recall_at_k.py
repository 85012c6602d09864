"""recall@k as an ``evaluate.Metric``."""

from seqmm.evaluation.hf import base
from seqmm.evaluation.metrics import recall


class RecallAtK(base.AccuracyMetric):
    """Averages over users the share of their relevant items among the first k.

    Needs the relevant items of every user. Gives 0 to 1.
    Related: hit, whether there is any; precision, the share of the list.
    Choose it to ask how much of what users want the lists hold.

    User 0 is shown a, b and wants b, x; user 1 is shown c, d and wants c.

    >>> RecallAtK().compute(predictions=[["a", "b"], ["c", "d"]], references=[["b", "x"], ["c"]], k=2)
    {'recall@2': 0.75}
    """

    label = "recall"
    metric = staticmethod(recall)
