"""What the extractors of one command share: the corpus, where encoders compute and in what, and each encoder once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from seqmm.features.encoders.loading import choose_device
from seqmm.features.readers.items import item_columns, item_shards
from seqmm.names import EncoderPrecision

T = TypeVar("T")


class Tools:
    """The corpus whose items are read, device and precision, and what was loaded for one extractor and suits another.

    Args:
        folder: of a prepared corpus.
        device: torch device; None = a GPU if there is one.
        dtype: what encoders compute in; None = bfloat16 on a GPU, float32 without one.
    """

    def __init__(self, folder: str | Path, device: str | None = None, dtype: EncoderPrecision | None = None):
        self.folder, self.device = Path(folder), choose_device(device)
        self.dtype: EncoderPrecision = dtype or ("bfloat16" if self.device.startswith("cuda") else "float32")
        self._made: dict[Hashable, Any] = {}

    @cached_property
    def columns(self) -> list[str]:
        """Of the items table."""
        return item_columns(self.folder)

    @cached_property
    def ids(self) -> list[str]:
        """The items' ids."""
        return [row["id"] for _, rows in item_shards(self.folder, ()) for row in rows]

    def once(self, make: Callable[..., T], *arguments: Hashable, **options: Hashable) -> T:
        """What ``make`` gives for these arguments; asked again with equal ones, the same object."""
        key = (make, arguments, tuple(sorted(options.items())))
        if key not in self._made:
            self._made[key] = make(*arguments, **options)
        return self._made[key]

    def load(self, make: Callable[..., T], *arguments: Hashable, **options: Hashable) -> T:
        """:meth:`once` for an encoder, which takes a device and a dtype, too."""
        return self.once(make, *arguments, **({"device": self.device, "dtype": self.dtype} | options))
