"""coverage@k as an ``evaluate.Metric``."""

from seqmm.evaluation.hf import base
from seqmm.evaluation.metrics import coverage


class CoverageAtK(base.ListMetric):
    """Share of the catalogue among the first k of any user; needs ``load(…, num_items=N)``, reads no references."""

    label = "coverage"

    def __init__(self, *args, num_items, **options):
        super().__init__(*args, **options)
        self.num_items = num_items

    def number(self, predictions, references):
        number = super().number(predictions, ())
        if len(number) > self.num_items:
            raise ValueError(f"num_items = {self.num_items}, but the lists name {len(number)} items; give that many")
        return super().number(predictions, references)

    def measure(self, lists, references, k):
        return coverage(lists, k, self.num_items)
