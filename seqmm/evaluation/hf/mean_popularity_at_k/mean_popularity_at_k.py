"""popularity@k as an ``evaluate.Metric``."""

from collections.abc import Mapping

import torch

from seqmm.evaluation.hf import base
from seqmm.evaluation.metrics import mean_popularity


class MeanPopularityAtK(base.ListMetric):
    """Averages ``counts`` over the first k, then over users; reads no references.

    Needs ``load(…, counts=[…])``, one for each item number, or ``counts={"id": …}`` for ids that are texts. Gives
    interactions an item.
    Related: coverage, how many different items there are.
    Choose it beside an accuracy, to see how much of it is best-sellers.

    The lists' means are 15 and 45.

    >>> metric = MeanPopularityAtK(counts={"a": 10, "b": 20, "c": 40, "d": 50, "x": 0})
    >>> metric.compute(predictions=[["a", "b"], ["c", "d"]], references=[["b", "x"], ["c"]], k=2)
    {'popularity@2': 30.0}
    """

    label = "popularity"

    def __init__(self, *args, counts, **options):
        super().__init__(*args, **options)
        self.ids = {item: number for number, item in enumerate(counts)} if isinstance(counts, Mapping) else {}
        self.counts = torch.as_tensor(list(counts.values()) if isinstance(counts, Mapping) else counts)

    def number(self, predictions, references):
        listed = dict.fromkeys(item for row in (*predictions, *references) for item in row)
        unknown = next((item for item in listed if item not in self.ids), None)
        if unknown is not None:
            raise ValueError(f"counts has no item {unknown!r}; give the train interactions of every item, also 0")
        return self.ids

    def measure(self, lists, references, k):
        return float(mean_popularity(lists, k, self.counts).mean())
