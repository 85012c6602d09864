"""Feature sets of a corpus on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, Unpack

import numpy as np

from seqmm.data.feature_sets import Features, check_features
from seqmm.data.identity import description
from seqmm.data.store import ROW_GROUP, check_columns, check_order, hash_ids, read_parquet, stored_rows, write_table
from seqmm.files import read_json, write_json
from seqmm.names import PROTOCOLS, FeatureKind, Storage
from seqmm.schema import Count, Digest, ShortDigest

if TYPE_CHECKING:
    import pyarrow as pa


def feature_folder(name: str) -> str:
    if name in (*PROTOCOLS, "items", "users") or not name.replace("_", "").replace("-", "").isalnum():
        raise ValueError(
            f"a feature set cannot be called {name!r}: use letters, digits, - and _, and no name of a protocol"
        )
    return name


def write_feature_files(folder: Path, name: str, features: Features, num_items: int, item_ids: tuple[str, ...]) -> None:
    check_features(name, features, num_items, f"saving {name!r}")
    writer = FeatureWriter(folder, features.kind, features.dim, hash_ids(item_ids), num_items, features.offsets)
    writer.write("features.parquet", features.values, missing=features.missing)
    writer.close(features.provenance, features.vocabulary)


class MoreOfFeatures(TypedDict, total=False):
    """What an extraction records beside, for the card and to go on."""

    source: dict[str, str]
    """What was read."""
    plan: ShortDigest
    """Of everything that decides the numbers."""
    notes: dict[str, Count]
    """What was missing or wrong -> items."""
    examples: dict[str, list[str]]


class FeatureRecord(MoreOfFeatures):
    """features.json."""

    kind: FeatureKind
    dim: Count
    """Width of a vector, or size of the vocabulary."""
    rows: Count
    provenance: dict[str, str]
    sha256: Digest
    """Of the numbers (:func:`hash_rows`)."""
    items: Digest
    """Of the item ids in order."""
    vocabulary: NotRequired[list[str]]


class FeatureWriter:
    """Writes a feature set piece by piece, a parquet file each, so that it need not be in memory as a whole.

    Args:
        folder: where; made if absent.
        kind: dense, ragged or tags.
        dim: width of a vector, or size of the vocabulary.
        items: :func:`hash_ids` of the corpus' item ids.
        num_items: rows.
        offsets: ``[n + 1]`` of a ragged or tag set, None for a dense one.
        dtype: how floats are stored; they are read as float32, and the hash is over what is read.
    """

    def __init__(
        self,
        folder: Path,
        kind: FeatureKind,
        dim: int,
        items: str,
        num_items: int,
        offsets: np.ndarray | None = None,
        dtype: Storage = "float32",
    ):
        folder.mkdir(exist_ok=True)
        self.folder, self.kind, self.dim, self.items, self.num_items = folder, kind, dim, items, num_items
        self.offsets, self.dtype = offsets, np.dtype(np.int64 if kind == "tags" else dtype)
        total = num_items if offsets is None else int(offsets[-1])
        self._digest = _start_hash((total,) if kind == "tags" else (total, dim), offsets)
        self._missing: list[np.ndarray] = []
        self._rows = 0

    def write(
        self,
        file: str,
        values: np.ndarray,
        rows: int | None = None,
        missing: np.ndarray | None = None,
        extra: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        """The next items' values, in item order.

        Args:
            file: name of the parquet file.
            values: ``[n, d]`` of a dense set; ``[N, d]`` or ``[N]``, all values of these n items, of the others.
            rows: n; all that are left if None.
            missing: ``[n]`` bool, for a dense set.
            extra: more columns, one entry an item (words, captions); no model reads them.
        """
        import pyarrow as pa

        with np.errstate(over="ignore"):
            flat = np.ascontiguousarray(values, dtype=self.dtype)
        if self.dtype == np.float16 and not np.isfinite(flat).all():
            least, most = float(np.min(values)), float(np.max(values))
            raise ValueError(
                f"{file}, items from {self._rows:,}: numbers from {least:g} to {most:g}, float16 holds ±65,504; store "
                "them as float32"
            )
        column = pa.array(flat.reshape(-1))
        if self.kind != "tags":
            column = pa.FixedSizeListArray.from_arrays(column, self.dim)
        start, rows = self._rows, self.num_items - self._rows if rows is None else rows
        if self.offsets is not None:
            offsets = self.offsets[start : start + rows + 1] - self.offsets[start]
            column = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), column)
        columns: dict[str, Any] = {"item": np.arange(start, start + rows), "values": column}
        if missing is not None:
            columns["missing"] = missing
            self._missing.append(missing)
        # floats hardly compress; a row group of about 8 MB, which is what the first row costs who streams it
        group = max(1, min(ROW_GROUP, (1 << 23) * rows // max(flat.nbytes, 1)))
        write_table(self.folder / file, columns | dict(extra or {}), group, "none")
        self._digest.update(flat.astype(np.float32, copy=False).data if self.kind != "tags" else flat.data)
        self._rows += rows

    def close(
        self, provenance: Mapping[str, str], vocabulary: Sequence[str] | None = None, **about: Unpack[MoreOfFeatures]
    ) -> None:
        """features.json: written last, so that a folder without it is not a feature set.

        Args:
            provenance: how the numbers were made.
            vocabulary: of a tag set.
            about: more to record, for the card.
        """
        if self._rows != self.num_items:
            raise ValueError(f"{self.folder}: {self._rows} rows written of {self.num_items}")
        record: FeatureRecord = {
            "kind": self.kind,
            "dim": self.dim,
            "rows": self.num_items,
            "provenance": dict(provenance),
            "sha256": _end_hash(self._digest, np.concatenate(self._missing) if self._missing else None),
            "items": self.items,
        }
        if vocabulary is not None:
            record["vocabulary"] = list(vocabulary)
        write_json(self.folder / "features.json", {**record, **about})


def _start_hash(shape: tuple[int, ...], offsets: np.ndarray | None) -> hashlib._Hash:
    digest = hashlib.sha256(str(shape).encode())
    if offsets is not None:
        digest.update(np.ascontiguousarray(offsets, dtype="<i8").data)
    return digest


def _end_hash(digest: hashlib._Hash, missing: np.ndarray | None) -> str:
    if missing is not None:
        digest.update(np.packbits(missing).data)
    return digest.hexdigest()


def hash_rows(values: np.ndarray, offsets: np.ndarray | None, missing: np.ndarray | None = None) -> str:
    """sha256 (hex) of a feature set's numbers: what is verified when it is loaded."""
    digest = _start_hash(values.shape, offsets)
    digest.update(np.ascontiguousarray(values).data)
    return _end_hash(digest, missing)


def feature_names(folder: str | Path) -> list[str]:
    """Names of the feature sets a prepared corpus has."""
    return sorted(file.parent.name for file in Path(folder).glob("[!.]*/features.json"))  # no half-written ones


def read_about(folder: Path, name: str) -> FeatureRecord:
    """features.json of a feature set.

    Raises:
        FileNotFoundError, ValueError: naming the file.
    """
    return read_feature_record(folder / name / "features.json")


def read_feature_record(file: Path) -> FeatureRecord:
    """A features.json, whose entries agree with each other.

    Raises:
        FileNotFoundError, ValueError: naming the file.
    """
    damaged = "remove its folder and extract it again"
    about = read_json(file, FeatureRecord, "no feature set", damaged)
    words = about.get("vocabulary")
    if (words is not None) != (about["kind"] == "tags"):
        raise ValueError(f"{file}: kind is {about['kind']!r}, and only tags have a vocabulary; {damaged}")
    if words is not None and len(words) != about["dim"]:
        raise ValueError(f"{file}: dim is {about['dim']}, but vocabulary has {len(words)} words; {damaged}")
    if words is None and not about["dim"]:
        raise ValueError(f"{file}: dim is 0; expected the width of a vector, 1 or more; {damaged}")
    return about


def stored_sets(folder: str | Path) -> dict[str, dict[str, Any]]:
    """The feature sets a prepared corpus has, by name: what :func:`seqmm.data.identity.describe` says of each."""
    sets = {name: read_about(Path(folder), name) for name in feature_names(folder)}
    return {
        name: description(about["kind"], about["dim"], about["provenance"], about.get("vocabulary"))
        for name, about in sets.items()
    }


def read_features(folder: str | Path, name: str, num_items: int, items: str) -> Features:
    """A feature set, verified against its recorded hash and the corpus' items.

    Args:
        folder: of the corpus.
        name: of the feature set.
        num_items: of the corpus.
        items: hash of the corpus' item ids.

    Raises:
        ValueError: unknown name; other rows, width or items than recorded; NaN.
    """
    folder = Path(folder)
    if name not in feature_names(folder):
        have = ", ".join(feature_names(folder)) or "none"
        raise ValueError(f"{folder} has no feature set {name!r}; it has: {have}")
    files = sorted((folder / name).glob("*.parquet"))
    about = read_about(folder, name)
    if not files:
        raise FileNotFoundError(f"{folder / name} holds no parquet file; extract the features again")
    if about["rows"] != num_items:
        raise ValueError(
            f"{folder / name / 'features.json'}: feature set {name!r} has {about['rows']} rows but the corpus has "
            f"{num_items} items; row i must belong to item i of the items table: extract the features again for this "
            "corpus"
        )
    where = files[0] if len(files) == 1 else folder / name
    if about["items"] != items:
        raise ValueError(
            f"{where}: feature set {name!r} was made for other items than {folder / 'items'} has; extract it again"
        )
    values, offsets, missing = _read_numbers(files, where, about)
    vocabulary = tuple(about["vocabulary"]) if "vocabulary" in about else None
    features = Features(about["kind"], values, offsets, vocabulary, about["provenance"], missing)
    check_features(name, features, num_items, str(where))
    if hash_rows(values, offsets, missing) != about["sha256"]:
        raise ValueError(
            f"{where}: the values are not those features.json was written with; copy them again, or remove the folder "
            "and extract them again"
        )
    return features


def _read_numbers(
    files: Sequence[Path], where: Path, about: FeatureRecord
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Values, offsets and the mask of missing items of a set's parquet files.

    Args:
        files: in their order.
        where: they lie, for errors.
        about: features.json; the files must be of its kind, width and number of rows.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    again = "extract the features again"
    rows = sum(stored_rows(file, again) for file in files)
    if rows != about["rows"]:
        raise ValueError(f"{where}: {rows} rows, features.json says {about['rows']}; {again}")
    tables = []
    for file in files:
        table = read_parquet(file, ["item", "values", "missing"], again=again)
        check_columns(table, file, {"item": "int64"} | ({"missing": "bool"} if "missing" in table.column_names else {}))
        _check_values(table, file, about)
        tables.append(table)
    try:
        table = pa.concat_tables(tables)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{where}: its files have other columns ({str(error).splitlines()[0]}); {again}") from error
    check_order(table, where, "item")
    chunks, offsets = table["values"].chunks, None
    if about["kind"] != "dense":
        offsets = np.concatenate([[0], np.cumsum([pc.list_value_length(table["values"]).to_numpy()], dtype=np.int64)])
        chunks = [chunk.flatten() for chunk in chunks]
    missing = table["missing"].to_numpy() if "missing" in table.column_names else None
    if about["kind"] == "tags":
        return np.concatenate([np.zeros(0, np.int64), *(chunk.to_numpy() for chunk in chunks)]), offsets, missing
    # concatenate copies, so the result is writable, which torch wants
    flat = np.concatenate([np.zeros(0, np.float16), *(chunk.flatten().to_numpy() for chunk in chunks)])
    return flat.astype(np.float32, copy=False).reshape(-1, about["dim"]), offsets, missing


def _check_values(table: pa.Table, file: Path, about: FeatureRecord) -> None:
    """Whether the column ``values`` of a table is of the kind and width that features.json says, without a null."""
    import pyarrow as pa

    if table.column_names.count("values") != 1:
        raise ValueError(f"{file} has no column 'values' (it has {', '.join(table.column_names[:20])})")
    kind, nulls = table["values"].type, table["values"].null_count
    inner, chunks, where = kind, table["values"].chunks, f"{file}: column 'values' holds {str(kind)[:100]}"
    if about["kind"] != "dense":
        if not pa.types.is_list(kind):
            raise ValueError(f"{where}, expected a list an item ({about['kind']}); extract them again")
        inner, chunks = kind.value_type, [chunk.flatten() for chunk in chunks]
        nulls += sum(chunk.null_count for chunk in chunks)
    if about["kind"] == "tags":
        if not pa.types.is_int64(inner):
            raise ValueError(f"{where}, expected lists of int64 (tags); extract them again")
    else:
        if not pa.types.is_fixed_size_list(inner) or inner.value_type not in (pa.float32(), pa.float16()):
            raise ValueError(f"{where}, expected vectors of float32 or float16; extract them again")
        if inner.list_size != about["dim"]:
            said = f"features.json says {about['dim']}"
            raise ValueError(f"{file}: vectors of width {inner.list_size}, {said}; extract them again")
        nulls += sum(chunk.flatten().null_count for chunk in chunks)
    if nulls:
        raise ValueError(f"{file}: column 'values' has {nulls} empty entries; extract them again")
