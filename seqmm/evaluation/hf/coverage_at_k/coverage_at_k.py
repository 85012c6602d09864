"""coverage@k as an ``evaluate.Metric``."""

from seqmm.evaluation.hf import base
from seqmm.evaluation.metrics import coverage


class CoverageAtK(base.ListMetric):
    """Share of the catalogue among the first k of any user; needs ``load(…, num_items=N)``, reads no references."""

    label = "coverage"

    def __init__(self, *args, num_items, **options):
        super().__init__(*args, **options)
        self.num_items = num_items

    def measure(self, lists, references, k):
        return coverage(lists, k, self.num_items)
