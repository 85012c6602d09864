"""popularity@k as an ``evaluate.Metric``."""

import torch

from seqmm.evaluation.hf import base
from seqmm.evaluation.metrics import mean_popularity


class MeanPopularityAtK(base.ListMetric):
    """Mean of ``counts`` over the first k, mean over users; needs ``load(…, counts=[…])``, reads no references."""

    label = "popularity"

    def __init__(self, *args, counts, **options):
        super().__init__(*args, **options)
        self.counts = torch.as_tensor(counts)

    def measure(self, lists, references, k):
        return float(mean_popularity(lists, k, self.counts).mean())
