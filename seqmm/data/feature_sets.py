"""A feature set of the items in memory."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from seqmm.names import FeatureKind


@dataclass(frozen=True)
class Features:
    """One feature set of the items, row ``i`` for item ``i``.

    dense: ``values [n, d]``. ragged: ``offsets [n + 1]``, ``values [N, d]``. tags: ``offsets``, ``values [N]`` int64
    ids into ``vocabulary`` (brands, categories, genres). ``provenance`` says how it was made (encoder, pooling …).
    """

    kind: FeatureKind
    values: np.ndarray
    offsets: np.ndarray | None = None
    vocabulary: tuple[str, ...] | None = None
    provenance: dict[str, str] = field(default_factory=dict)
    missing: np.ndarray | None = None
    """``[n]`` bool: items the source had nothing of, whose dense row is a filling (the mean vector)."""

    @property
    def num_rows(self) -> int:
        return len(self.values) if self.offsets is None else len(self.offsets) - 1

    @property
    def dim(self) -> int:
        """Width of a vector; for tags the size of the vocabulary."""
        return len(self.vocabulary or ()) if self.kind == "tags" else int(self.values.shape[1])


def check_features(name: str, features: Features, num_items: int, where: str) -> None:
    """Raises ValueError for rows unlike the items, non-finite values or wrong offsets; ``where`` names the file."""
    offsets, values = features.offsets, features.values
    if features.num_rows != num_items:
        raise ValueError(
            f"{where}: feature set {name!r} has {features.num_rows} rows but the corpus has {num_items} items; "
            "row i must belong to item i of the items table: extract the features again for this corpus"
        )
    if features.missing is not None and (features.kind != "dense" or features.missing.shape != (num_items,)):
        raise ValueError(
            f"{where}: feature set {name!r} is {features.kind} with a mask of shape {features.missing.shape}; a mask "
            f"of missing items belongs to a dense set, one entry an item ({num_items})"
        )
    if features.kind == "tags":
        if features.vocabulary is None or offsets is None or values.ndim != 1:
            raise ValueError(f"{where}: tags {name!r} need offsets, 1-d ids and a vocabulary")
        outside = np.flatnonzero((values < 0) | (values >= len(features.vocabulary)))
        if len(outside):
            raise ValueError(
                f"{where}: tags {name!r} hold id {values[outside[0]]} at entry {outside[0]}, outside the vocabulary of "
                f"{len(features.vocabulary)}; write the tags again"
            )
    elif values.ndim != 2 or (features.kind == "ragged") != (offsets is not None):
        raise ValueError(
            f"{where}: feature set {name!r} is {features.kind} with values of shape {values.shape}; expected 2-d "
            "values, and offsets for ragged sets only"
        )
    if offsets is not None and (offsets[0] != 0 or offsets[-1] != len(values) or (np.diff(offsets) < 0).any()):
        raise ValueError(f"{where}: offsets of feature set {name!r} must rise from 0 to {len(values)} (its values)")
    if features.kind != "tags":
        _check_finite(name, features, where)


def _check_finite(name: str, features: Features, where: str) -> None:
    for start in range(0, len(features.values), 65536):  # in blocks: a mask of the whole would double the memory
        block = features.values[start : start + 65536]
        if np.isfinite(block).all():
            continue
        row, column = (int(x) for x in np.argwhere(~np.isfinite(block))[0])
        value, row = block[row, column], row + start
        item = row if features.offsets is None else int(np.searchsorted(features.offsets, row, side="right")) - 1
        raise ValueError(
            f"{where}: feature set {name!r} has the value {value} in row {row}, column {column} (item {item}); "
            "replace it (a missing item: zeros or the mean, or no row in a ragged set) or extract it again"
        )
