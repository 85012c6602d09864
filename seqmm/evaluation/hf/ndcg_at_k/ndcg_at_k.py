"""ndcg@k as an ``evaluate.Metric``."""

from seqmm.evaluation.hf import base
from seqmm.evaluation.metrics import ndcg


class NdcgAtK(base.AccuracyMetric):
    """Averages NDCG with gains 0 and 1 over users; ``load(…, ideal="retrieved")`` for MMSSL's ideal list.

    Needs the relevant items of every user. Gives 0 to 1, most for hits on top.
    Related: recall, which does not see the order; map, which is steeper.
    Choose it as the one number to compare lists by.

    User 0 is shown a, b and wants b, x: 0.6309 of 1.6309; user 1 is shown c, d and wants c: 1.

    >>> found = NdcgAtK().compute(predictions=[["a", "b"], ["c", "d"]], references=[["b", "x"], ["c"]], k=2)
    >>> round(found["ndcg@2"], 4)
    0.6934
    """

    label = "ndcg"
    metric = staticmethod(ndcg)

    def __init__(self, *args, ideal="test", **options):
        super().__init__(*args, **options)
        self.options = {"ideal": ideal}
