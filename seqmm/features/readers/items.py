"""The items table of a corpus, shard by shard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


SHARD = 1024
"""Items of a shard."""


def item_batches(folder: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The items table in batches of :data:`SHARD` rows, its last one shorter.

    Raises:
        ValueError: a column is not in it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / "items" / "items.parquet"
    with pq.ParquetFile(path) as file:
        have = file.schema_arrow.names
        for column in columns:
            if column not in have:
                raise ValueError(f"{path} has no column {column!r}; it has: {', '.join(have)}")
        held: list[pa.RecordBatch] = []
        for batch in file.iter_batches(SHARD, columns=list(columns)):
            held.append(batch)
            if sum(len(part) for part in held) >= SHARD:  # a row group may end inside a shard
                whole = pa.Table.from_batches(held).combine_chunks()
                for start in range(0, len(whole) - SHARD + 1, SHARD):
                    yield whole.slice(start, SHARD).to_batches()[0]
                rest = whole.slice(len(whole) - len(whole) % SHARD)
                held = rest.to_batches()
        if sum(len(part) for part in held):
            yield pa.Table.from_batches(held).combine_chunks().to_batches()[0]


def item_columns(folder: Path) -> list[str]:
    """Columns of the items table."""
    import pyarrow.parquet as pq

    return list(pq.read_schema(folder / "items" / "items.parquet").names)


def item_shards(
    folder: Path, columns: Sequence[str], wanted: set[int] | None = None
) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """``(shard, its rows)``, a row being a dict of ``columns`` and ``id`` (the item's number if there are no ids)."""
    named = "id" in item_columns(folder)
    read = [*columns, *(["id"] if named and "id" not in columns else ["item"])]
    for shard, batch in enumerate(item_batches(folder, read)):
        if wanted is None or shard in wanted:
            rows = batch.to_pylist()
            yield shard, rows if named else [{**row, "id": str(row["item"])} for row in rows]
