"""Item features as models read them: on the CPU once, copied to a device once, never a parameter and never a buffer."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seqmm.data.feature_sets import Features


class FeatureTable:
    """A feature set as tensors, cached per device.

    A plain attribute of a model, attached by ``bind``: a buffer would be written into checkpoints, sent over the wire
    by DDP, and come back as uninitialised memory from ``from_pretrained``.
    """

    def __init__(self, features: Features):
        self.kind, self.dim, self.num_rows = features.kind, features.dim, features.num_rows
        dtype = np.int64 if features.kind == "tags" else np.float32
        values = torch.from_numpy(np.require(features.values, dtype, ["C", "W"]))
        offsets = features.offsets if features.offsets is not None else np.arange(features.num_rows + 1)
        self._tensors = {torch.device("cpu"): (values, torch.from_numpy(np.require(offsets, np.int64, ["C", "W"])))}
        self._means: dict[torch.device, Tensor] = {}
        self._units: dict[torch.device, Tensor] = {}

    def on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """``values [N, d]`` (tags: ``[N]`` ids) and ``offsets [num_rows + 1]`` on ``device``."""
        if device not in self._tensors:
            values, offsets = self._tensors[torch.device("cpu")]
            self._tensors[device] = (values.to(device), offsets.to(device))
        return self._tensors[device]

    def rows(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of ``values`` that belong to ``items``.

        Args:
            items: ``[n]`` item ids, on the device to work on.

        Returns:
            ``rows [M]``, item after item, and ``offsets [n + 1]`` into it.
        """
        offsets = self.on(items.device)[1]
        start, length = offsets[items], offsets[items + 1] - offsets[items]
        ends = length.cumsum(0)
        shift = torch.repeat_interleave(start - (ends - length), length)
        return torch.arange(len(shift), device=items.device) + shift, F.pad(ends, (1, 0))

    def means(self, device: torch.device) -> Tensor:
        """``[num_rows, d]`` means of the items' vectors; zeros for an item without one; dense sets as they are."""
        if self.kind == "tags":
            raise ValueError("tags are ids, not vectors: they have no mean")
        if device not in self._means:
            values, offsets = self.on(device)
            dense = self.kind == "dense"
            self._means[device] = (
                values if dense else mean_rows(values, torch.arange(len(values), device=device), offsets)
            )
        return self._means[device]

    def units(self, device: torch.device) -> Tensor:
        """``[num_rows, d]`` the means with length 1; zeros stay zeros."""
        if device not in self._units:
            self._units[device] = F.normalize(self.means(device), dim=-1)
        return self._units[device]


class Constant:
    """A tensor that follows from the corpus: an attribute of a model, no parameter, no buffer, on each device once."""

    def __init__(self, value: Tensor):
        self._copies = {value.device: value}

    def on(self, device: torch.device) -> Tensor:
        if device not in self._copies:
            self._copies[device] = next(iter(self._copies.values())).to(device)
        return self._copies[device]


def mean_rows(table: Tensor, rows: Tensor, offsets: Tensor) -> Tensor:
    """``[n, d]`` means of ``table [N, d]`` over ragged ``rows [M]`` with ``offsets [n + 1]``; empty rows give zeros."""
    return F.embedding_bag(rows, table, offsets, mode="mean", include_last_offset=True)
