"""Vectors that somebody else made: files of numbers brought into the order of a corpus' items.

============================  =========================================================================================
.npy, .npz (one array)        ``[n, d]``, a row for each item: by ``rows``, else in the items' order
.safetensors                  one tensor ``[n, d]`` by row, or a tensor ``[d]`` for each id
.pt, .pth                     the same, of ``torch.save``: a tensor, or a dict id -> tensor; loaded as weights only
.parquet, .csv, .tsv, .txt    a column of ids, and one of vectors (a list, or its text "[0.1, 0.2]") or many of numbers;
                              text files may end in .gz
============================  =========================================================================================

Nothing that could run code is read: object arrays and pickles are refused.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np

from seqmm.data.readers.cells import is_index, text_ids
from seqmm.data.readers.claims import check_tensor, check_unpacked, check_zip
from seqmm.data.readers.content import bare_name
from seqmm.data.readers.table import TABLES, column_names, read_table
from seqmm.data.store import read_items, read_record
from seqmm.names import MissingVector
from seqmm.schema import check_record

if TYPE_CHECKING:
    import polars as pl
    import torch

SHOWN = 5
"""Ids named in a report."""
KNOWN = ".npy, .npz, .pt, .safetensors, .parquet, .csv, .tsv, .jsonl"
ID_COLUMNS = ("id", "item_id", "item", "asin", "parent_asin")
"""Usual names of a table's column of ids."""
INDEX_NAMES = ("index", "level_0", "rownames", "row.names")
"""Columns that may number the rows, beside those that pandas names."""


@dataclass(frozen=True)
class VectorReport:
    """What a file of vectors and a corpus have in common."""

    rows: int
    """Vectors in the file."""
    missing: tuple[str, ...] = ()
    """Items without a vector; they got the mean of the others."""
    unknown: tuple[str, ...] = ()
    """Ids of the file that are no item."""
    duplicates: tuple[str, ...] = ()
    """Ids the file has more than once; the first vector was taken."""
    ignored: tuple[str, ...] = ()
    """Columns that only number the rows."""

    def describe(self, num_items: int) -> str:
        """One line for the card."""
        parts = [f"{self.rows} vectors, {num_items - len(self.missing)} of {num_items} items have one"]
        for ids, what in (
            (self.missing, "without (mean vector)"),
            (self.unknown, "in the file but no item of the corpus"),
            (self.duplicates, "more than once in the file (first taken)"),
        ):
            if ids:
                parts.append(f"{len(ids)} {what}: {named(ids)}")
        if self.ignored:
            parts.append(f"ignored, as it numbers the rows: column {named(self.ignored)}")
        return "; ".join(parts)


class Vectors(NamedTuple):
    """What :func:`read_vectors` returns."""

    values: np.ndarray
    """``[n, d]`` float32, row i for item i."""
    missing: np.ndarray
    """``[n]`` bool: the item has no vector; its row is the mean of those that have."""
    report: VectorReport


def named(ids: Sequence[str]) -> str:
    """The first few ids for a message."""
    return ", ".join(map(repr, ids[:SHOWN])) + (", …" if len(ids) > SHOWN else "")


def read_vectors(
    file: str | Path,
    item_ids: Sequence[str],
    source_index: np.ndarray | None = None,
    *,
    source_rows: int | None = None,
    in_order: bool = True,
    missing: MissingVector = "mean",
    id_columns: Sequence[str] = ID_COLUMNS,
    vector_column: str | None = None,
) -> Vectors:
    """Reads a file of vectors for the items of a corpus.

    Args:
        file: see the table above.
        item_ids: of the corpus, in order.
        source_index: ``[n]`` of a file without ids: the row of each item, -1 = it has none. None: row i is item i.
        source_rows: rows such a file must have, where that is known (those of the items table).
        in_order: without ``source_index``, take row i for item i; False refuses a file without ids.
        missing: what an item without a vector gets: the mean of the others, or an error.
        id_columns: of a table: the first of these that it has.
        vector_column: of a table; None = its only list, or all columns of numbers together.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an unknown or damaged file, pickled objects, another number of rows, no item in common, a value that
            is no finite number, a missing vector with ``missing="error"``.
    """
    file = Path(file)
    if not file.exists():
        raise FileNotFoundError(f"no file {file}")
    ids, table, ignored = _rows(file, id_columns, vector_column)
    unknown: tuple[str, ...] = ()
    duplicates: tuple[str, ...] = ()
    if ids is None:
        row_of = _by_row(file, len(table), len(item_ids), source_index, source_rows, in_order)
    else:
        row_of, unknown, duplicates = _by_id(file, ids, item_ids)

    absent = row_of < 0
    lost = tuple(item_ids[item] for item in np.flatnonzero(absent).tolist())
    if lost and missing == "error":
        raise ValueError(f"{file} has no vector for {len(lost)} of {len(item_ids)} items: {named(lost)}; add them")
    if absent.all():
        raise ValueError(f"{file} has no vector for any of the {len(item_ids)} items")
    values = np.empty((len(item_ids), table.shape[1]), np.float32)
    values[~absent] = table[row_of[~absent]]
    _check_finite(file, values, ~absent, row_of, item_ids)
    values[absent] = values[~absent].mean(0, dtype=np.float64)
    return Vectors(values, absent, VectorReport(len(table), lost, unknown, duplicates, ignored))


def read_corpus_vectors(
    folder: str | Path,
    file: str | Path,
    *,
    missing: MissingVector = "mean",
    id_columns: Sequence[str] = ID_COLUMNS,
    vector_column: str | None = None,
) -> Vectors:
    """:func:`read_vectors` for a prepared corpus: a file without ids has a row for each row of the corpus' source.

    Args:
        folder: of the corpus.
        file: of the vectors.
        missing: as there.
        id_columns: as there.
        vector_column: as there.

    Raises:
        FileNotFoundError, ValueError: as there; ``folder`` holds no corpus; a file without ids, of a corpus whose
            source had no numbered rows.
    """
    folder = Path(folder)
    record, items = read_record(folder), read_items(folder)
    ids = items["id"].to_pylist() if "id" in items.column_names else [str(item) for item in range(items.num_rows)]
    index = items["source_row"].to_numpy() if "source_row" in items.column_names else None
    said = next((about["info"].get("source_rows") for about in record["protocols"].values()), None)
    rows: int | None = check_record(said, int | None, f"{folder / 'corpus.json'}, source_rows")  # type: ignore[arg-type]
    return read_vectors(
        file, ids, index, source_rows=rows, in_order=False, missing=missing, id_columns=id_columns,
        vector_column=vector_column,
    )  # fmt: skip


# -- which row is whose -----------------------------------------------------------------------------------------------


def _by_row(
    file: Path,
    rows: int,
    num_items: int,
    source_index: np.ndarray | None,
    source_rows: int | None,
    in_order: bool,
) -> np.ndarray:
    if source_rows is not None and rows != source_rows:
        raise ValueError(
            f"{file} has {rows} rows but the source has {source_rows} items; row r must belong to row r of the items "
            "table (`items`), without one to the item with id r"
        )
    if source_index is None:
        if not in_order:
            raise ValueError(
                f"{file}: which row is which item? Items have names, not numbers: give the items table (`items`), or a "
                "file with ids"
            )
        if rows != num_items:
            raise ValueError(
                f"{file} has {rows} rows and no ids, the corpus {num_items} items: which row is which item? Give a "
                "table with a column of ids, or a dict id -> tensor"
            )
        return np.arange(num_items)
    row_of = np.asarray(source_index)
    if len(row_of) != num_items:
        raise ValueError(f"{file}: {len(row_of)} source rows were given for {num_items} items")
    if row_of.max(initial=-1) >= rows:
        raise ValueError(f"{file} has {rows} rows, but an item's is row {row_of.max()}; it belongs to another source")
    return row_of


def _by_id(file: Path, ids: list[str], item_ids: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """Row of each item, ids that are no item, ids that are there more than once."""
    first: dict[str, int] = {}
    duplicates: dict[str, None] = {}
    for row, name in enumerate(ids):
        if first.setdefault(name, row) != row:
            duplicates[name] = None
    row_of = np.array([first.get(name, -1) for name in item_ids], np.int64)
    known = set(item_ids)
    unknown = tuple(name for name in first if name not in known)
    if (row_of < 0).all():
        raise ValueError(
            f"{file} has no vector for any of the {len(item_ids)} items: its ids are {named(list(first))}, "
            f"the corpus' {named(item_ids)}"
        )
    return row_of, unknown, tuple(duplicates)


def _check_finite(
    file: Path, values: np.ndarray, present: np.ndarray, row_of: np.ndarray, item_ids: Sequence[str]
) -> None:
    rows = np.flatnonzero(present)
    for start in range(0, len(rows), 65536):  # in blocks: a mask of the whole would double the memory
        block = rows[start : start + 65536]
        finite = np.isfinite(values[block])
        if not finite.all():
            place, column = (int(x) for x in np.argwhere(~finite)[0])
            item = int(block[place])
            raise ValueError(
                f"{file}: {values[item, column]} in row {row_of[item]}, column {column} (item {item_ids[item]}); "
                "replace it, or leave the item out: it gets the mean vector"
            )


# -- kinds of files ---------------------------------------------------------------------------------------------------


def _rows(
    file: Path, id_columns: Sequence[str], vector_column: str | None
) -> tuple[list[str] | None, np.ndarray, tuple[str, ...]]:
    """Ids, if the file has any, vectors, and names of columns that were not read."""
    suffix = Path(bare_name(file)).suffix
    if suffix in TABLES or file.is_dir():
        return _from_table(file, id_columns, vector_column)
    if suffix in (".npy", ".npz"):
        return None, _from_numpy(file), ()
    if suffix == ".safetensors":
        return *_from_safetensors(file), ()
    if suffix in (".pt", ".pth"):
        return *_from_torch(file), ()
    raise ValueError(f"{file}: unknown kind of vectors {suffix!r}; known: {KNOWN}")


def _from_numpy(file: Path) -> np.ndarray:
    check_zip(file)
    try:
        loaded = np.load(file, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.lib.npyio.NpzFile):
            if len(loaded.files) != 1:
                raise ValueError(f"it holds {len(loaded.files)} arrays ({', '.join(loaded.files)}), expected one")
            loaded = loaded[loaded.files[0]]
    except (ValueError, EOFError, OSError, SyntaxError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        pickled = any(word in str(error) for word in ("pickle", "Python objects", "Object arrays"))
        said = "it holds pickled objects, which could run code" if pickled else str(error)
        raise ValueError(
            f"{file} is not a readable {file.suffix} file of numbers ({said}); write it again with numpy.save"
        ) from error
    return _checked(file, loaded)


def _checked(file: Path, values: np.ndarray) -> np.ndarray:
    if values.ndim != 2 or values.shape[1] == 0 or values.dtype.kind not in "fiu":
        raise ValueError(f"{file}: shape {values.shape} of {values.dtype}; expected numbers of shape [items, width]")
    return values


def _from_safetensors(file: Path) -> tuple[list[str] | None, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(file)  # by torch: numpy has no bfloat16
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} is not a readable .safetensors file ({error}); write it again") from error
    if len(tensors) == 1 and next(iter(tensors.values())).ndim == 2:
        return None, _numbers(file, next(iter(tensors.values())))
    return _stacked(file, tensors)


def _from_torch(file: Path) -> tuple[list[str] | None, np.ndarray]:
    import pickle

    import torch

    check_zip(file)
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{file} holds pickled objects, which could run code, and is not read; save a tensor [items, width] or a "
            "dict id -> tensor with torch.save"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{file} is not a readable file of torch.save ({said}); write it again") from error
    if isinstance(loaded, torch.Tensor):
        return None, _numbers(file, loaded)
    if isinstance(loaded, dict):
        return _stacked(file, loaded)
    raise ValueError(f"{file} holds a {type(loaded).__name__}; expected a tensor [items, width] or a dict id -> tensor")


def _stacked(file: Path, tensors: Mapping[Any, object]) -> tuple[list[str], np.ndarray]:
    """A dict id -> vector as ids and rows."""
    import torch

    rows, width = [], None
    for name, tensor in tensors.items():
        if not isinstance(name, (str, int)) or not isinstance(tensor, torch.Tensor) or tensor.ndim != 1:
            kind = f"shape {tuple(tensor.shape)}" if isinstance(tensor, torch.Tensor) else f"a {type(tensor).__name__}"
            raise ValueError(
                f"{file}: entry {name!r} is {kind}; expected one tensor [items, width], or for each id one of shape "
                "[width]"
            )
        width = len(tensor) if width is None else width
        if len(tensor) != width:
            raise ValueError(f"{file}: the vector of {name!r} has width {len(tensor)}, those before it {width}")
        rows.append(tensor)
    check_unpacked(file, 4 * len(rows) * (width or 0))
    if not rows:
        raise ValueError(f"{file} holds no vector")
    return [str(name) for name in tensors], _numbers(file, torch.stack([row.to(rows[0].dtype) for row in rows]))


def _numbers(file: Path, tensor: torch.Tensor) -> np.ndarray:
    import torch

    if tensor.is_complex() or tensor.is_quantized or tensor.layout != torch.strided:
        raise ValueError(f"{file}: a {tensor.layout} tensor of {tensor.dtype}; expected a dense one of real numbers")
    check_tensor(file, tensor)
    return _checked(file, tensor.detach().float().numpy())


def _from_table(
    file: Path, id_columns: Sequence[str], vector_column: str | None
) -> tuple[list[str], np.ndarray, tuple[str, ...]]:
    import polars as pl

    have = column_names(file)
    key = next((name for name in id_columns if name in have), None)
    if key is None:
        raise ValueError(
            f"{file} has no column of ids ({', '.join(id_columns)}); it has: {', '.join(have[:20])}. Rename the one "
            "with the ids (or, if these are no names, write a line with them before the first)"
        )
    table = read_table(file, None if vector_column is None else [key, vector_column])
    ids = text_ids(table[key], file)
    if ids.null_count():
        raise ValueError(f"{file}: {ids.null_count()} rows have no id (column {key!r}); remove them")
    if not len(ids):
        raise ValueError(f"{file} holds no row")
    lists = [name for name, kind in table.schema.items() if isinstance(kind, (pl.List, pl.Array)) and name != key]
    ignored = tuple(name for name in table.columns if name != key and _numbers_rows(file, table[name]))
    others = [name for name in table.columns if name not in (key, *ignored)]
    if len(lists) > 1:
        raise ValueError(
            f"{file} has {len(lists)} columns of lists ({', '.join(lists)}); keep the one with the vectors"
        )
    if lists:
        there = table[lists[0]].is_not_null()  # a row with an id and nothing else is no vector
        ids = ids.filter(there)
        return ids.to_list(), _from_lists(file, table[lists[0]].filter(there), ids), ignored
    if not others:
        raise ValueError(f"{file} has no column beside {key!r}")
    if len(others) == 1 and table[others[0]].dtype == pl.String and table[others[0]].str.contains(r"[\[,\s]").any():
        text = table[others[0]].str.strip_chars("[]() \t\r\n").str.replace_all(r"[\s,;]+", " ")
        return ids.to_list(), _from_lists(file, text.str.split(" ").alias(others[0]), ids), ignored
    columns = []
    for name in others:
        column = table[name]
        if column.dtype != pl.String and not column.dtype.is_numeric():
            raise ValueError(f"{file}: column {name!r} holds {column.dtype}, which is no number; leave it out")
        numbers = column.cast(pl.Float32, strict=False)
        if numbers.null_count():
            row = int(numbers.is_null().arg_max() or 0)
            _no_number(file, column[row], row, name, ids)
        columns.append(numbers.to_numpy())
    return ids.to_list(), _checked(file, np.stack(columns, 1)), ignored


def _numbers_rows(file: Path, column: pl.Series) -> bool:
    """Whether a column only numbers the rows, as pandas' and R's indexes do; one without a name must."""
    import polars as pl

    if not is_index(column.name) and column.name not in INDEX_NAMES:
        return False
    numbers = column.cast(pl.Int64, strict=False) if column.dtype == pl.String or column.dtype.is_numeric() else None
    counts = numbers is not None and not numbers.has_nulls() and len(numbers) > 0
    if counts and numbers is not None and numbers[0] in (0, 1) and (numbers.diff().drop_nulls() == 1).all():
        return True
    if column.null_count() == len(column):
        return True
    if column.name in INDEX_NAMES:
        return False
    raise ValueError(
        f"{file}: column {column.name!r} has no name of its own and does not number the rows; name it if it belongs to "
        "the vectors, or remove it"
    )


def _from_lists(file: Path, lists: pl.Series, ids: pl.Series) -> np.ndarray:
    import polars as pl

    if isinstance(lists.dtype, pl.Array):
        lists = lists.arr.to_list()
    lengths = lists.list.len().fill_null(0)
    width = int(lengths[0]) if len(lengths) else 0
    if (lengths != width).any():
        row = int((lengths != width).arg_max() or 0)
        raise ValueError(
            f"{file}, row {row + 1}: the vector of {ids[row]!r} has width {lengths[row]}, the first one {width}"
        )
    if width == 0:
        raise ValueError(f"{file}: the vectors in column {lists.name!r} are empty")
    flat = lists.list.explode()
    numbers = flat.cast(pl.Float32, strict=False)
    if numbers.null_count():
        place = int(numbers.is_null().arg_max() or 0)
        _no_number(file, flat[place], place // width, lists.name, ids)
    return _checked(file, numbers.to_numpy().reshape(-1, width))


def _no_number(file: Path, value: object, row: int, column: str, ids: pl.Series) -> NoReturn:
    raise ValueError(f"{file}, row {row + 1}, column {column!r}: {value!r} is no number (item {ids[row]!r})")
