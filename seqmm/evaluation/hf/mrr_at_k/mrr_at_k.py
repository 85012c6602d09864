"""mrr@k as an ``evaluate.Metric``."""

from seqmm.evaluation.hf import base
from seqmm.evaluation.metrics import reciprocal_rank


class MrrAtK(base.AccuracyMetric):
    """Averages over users one over the position of the first relevant item, 0 if it is not within k.

    Needs the relevant items of every user. Gives 0 to 1.
    Related: hit, without the position; map, which goes on after the first.
    Choose it when one good item ends the search.

    User 0 is shown a, b and wants b, x; user 1 is shown c, d and wants c.

    >>> MrrAtK().compute(predictions=[["a", "b"], ["c", "d"]], references=[["b", "x"], ["c"]], k=2)
    {'mrr@2': 0.75}
    """

    label = "mrr"
    metric = staticmethod(reciprocal_rank)
