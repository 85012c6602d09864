"""hit@k as an ``evaluate.Metric``."""

from seqmm.evaluation.hf import base
from seqmm.evaluation.metrics import hit


class HitAtK(base.AccuracyMetric):
    """Tells the share of users with a relevant item among the first k.

    Needs the relevant items of every user. Gives 0 to 1.
    Related: recall, which equals it when every user has one relevant item.
    Choose it for leave-one-out tables, where it is called HR.

    User 0 is shown a, b and wants b, x; user 1 is shown c, d and wants c.

    >>> HitAtK().compute(predictions=[["a", "b"], ["c", "d"]], references=[["b", "x"], ["c"]], k=2)
    {'hit@2': 1.0}
    """

    label = "hit"
    metric = staticmethod(hit)
