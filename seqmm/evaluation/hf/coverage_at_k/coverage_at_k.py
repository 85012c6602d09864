"""coverage@k as an ``evaluate.Metric``."""

from seqmm.evaluation.hf import base
from seqmm.evaluation.metrics import coverage


class CoverageAtK(base.ListMetric):
    """Tells the share of the catalogue among the first k of any user.

    Needs ``load(…, num_items=N)``, and reads no references. Gives 0 to 1.
    Related: popularity, which says what kind of items they are.
    Choose it beside an accuracy, to see whether the lists serve the whole shop.

    The lists show four of the eight items.

    >>> CoverageAtK(num_items=8).compute(predictions=[["a", "b"], ["c", "d"]], references=[["b", "x"], ["c"]], k=2)
    {'coverage@2': 0.5}
    """

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
