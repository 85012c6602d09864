"""map@k as an ``evaluate.Metric``."""

from seqmm.evaluation.hf import base
from seqmm.evaluation.metrics import average_precision


class MapAtK(base.AccuracyMetric):
    """Averages over users the average precision at k, over min(k, relevant items).

    Needs the relevant items of every user. Gives 0 to 1, most for hits on top.
    Related: ndcg, with a discount by position; mrr, this for one relevant item.
    Choose it when users have several relevant items and the first places count most.

    User 0 is shown a, b and wants b, x; user 1 is shown c, d and wants c.

    >>> MapAtK().compute(predictions=[["a", "b"], ["c", "d"]], references=[["b", "x"], ["c"]], k=2)
    {'map@2': 0.625}
    """

    label = "map"
    metric = staticmethod(average_precision)
