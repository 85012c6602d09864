"""What the ``evaluate.Metric`` modules of this folder share.

    import evaluate

    folder = Path(seqmm.evaluation.hf.__file__).parent
    metrics = evaluate.combine([evaluate.load(str(folder / name)) for name in ("recall_at_k", "ndcg_at_k")])
    metrics.compute(predictions=lists, references=targets, k=20)      # {"recall@20": …, "ndcg@20": …}

They take ranked lists of item ids, whole numbers or texts, so there are no ties; the values are those of
:mod:`seqmm.evaluation.metrics`. ``k`` is an argument of ``compute`` (one for all combined metrics); anything else is
one of ``load``. Files of lists are for :func:`seqmm.score_lists`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
import torch
from torch import Tensor

from seqmm.evaluation.metrics import place_lists

INPUTS = """
Args:
    predictions: for each user the recommended item ids, best first; at least k (fewer: the rest counts as misses).
    references: for each user the relevant item ids, at least one.
    k: cut-off, 10 by default.
"""


class ListMetric(evaluate.Metric):
    """A metric of ranked lists; a subclass sets :attr:`label` and :meth:`measure`."""

    label = ""

    def measure(self, lists: Tensor, references: Sequence[Sequence[int]], k: int) -> float:
        """The value for ``lists [users, K]`` (K >= k; -1 = no item)."""
        raise NotImplementedError

    def number(self, predictions: Iterable[Sequence[Any]], references: Iterable[Sequence[Any]]) -> dict[Any, int]:
        """The number that stands for each id that is a text; ids that are numbers stand for themselves."""
        every = dict.fromkeys(item for rows in (predictions, references) for row in rows for item in row)
        return {item: number for number, item in enumerate(every)}

    def _info(self) -> evaluate.MetricInfo:
        # text first: evaluate takes the first kind that fits, and text is checked strictly, numbers are cast
        kinds = [datasets.Sequence(datasets.Value(kind)) for kind in ("string", "int64")]
        return evaluate.MetricInfo(
            description=self.__doc__ or "",
            citation="",
            inputs_description=INPUTS,
            features=[datasets.Features({"predictions": ids, "references": ids}) for ids in kinds],
        )

    def _compute(
        self, predictions: Sequence[Sequence[Any]], references: Sequence[Sequence[Any]], k: int = 10
    ) -> dict[str, float]:
        if k < 1:
            raise ValueError(f"k must be positive, got {k}")
        if any(isinstance(item, str) for rows in (predictions, references) for row in rows for item in row[:1]):
            number = self.number(predictions, references)
            predictions, references = ([[number[item] for item in row] for row in x] for x in (predictions, references))
        lists = torch.full((len(predictions), max(k, *map(len, predictions))), -1)
        row, item = _flat(predictions)
        place = np.arange(len(row)) - np.searchsorted(row, row)
        lists[row, place] = torch.from_numpy(item)
        return {f"{self.label}@{k}": self.measure(lists, references, k)}


class AccuracyMetric(ListMetric):
    """A metric per user, averaged over users; a subclass sets :attr:`metric`."""

    metric: Callable[..., Tensor]
    options: dict[str, Any] = {}

    def measure(self, lists: Tensor, references: Sequence[Sequence[int]], k: int) -> float:
        row, item = _flat(references)
        pairs = np.unique(np.stack([row, item]), axis=1)  # a reference named twice is one
        hits = place_lists(lists, torch.from_numpy(pairs[0]), torch.from_numpy(pairs[1]))
        return float(type(self).metric(hits, k, **self.options).mean())


def _flat(rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    lengths = [len(row) for row in rows]
    values = np.fromiter((value for row in rows for value in row), dtype=np.int64, count=sum(lengths))
    return np.repeat(np.arange(len(rows)), lengths), values
