"""ndcg@k as an ``evaluate.Metric``."""

from seqmm.evaluation.hf import base
from seqmm.evaluation.metrics import ndcg


class NdcgAtK(base.AccuracyMetric):
    """NDCG with gains 0 and 1, mean over users; ``load(…, ideal="retrieved")`` for MMSSL's ideal list."""

    label = "ndcg"
    metric = staticmethod(ndcg)

    def __init__(self, *args, ideal="test", **options):
        super().__init__(*args, **options)
        self.options = {"ideal": ideal}
