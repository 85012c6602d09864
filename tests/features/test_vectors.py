"""Vectors from files of every kind, matched to items by id or by row."""

import json
import pickle
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import save_file

from seqmm import Corpus
from seqmm.data.readers.vectors import read_corpus_vectors, read_vectors
from seqmm.data.synthetic import synthetic_corpus

IDS = ["007", "b c", "x/1", "4"]
TABLE = np.arange(20, dtype=np.float32).reshape(5, 4) / 8
NAMES = ["4", "007", "zebra", "x/1", "b c"]
EXPECTED = TABLE[[1, 4, 3, 0]]


def write_lists(file: Path, names: list[str], vectors: np.ndarray) -> None:
    pl.DataFrame({"item_id": names, "price": ["1"] * len(names), "vector": vectors.tolist()}).write_parquet(file)


def write_array(file: Path, names: list[str], vectors: np.ndarray) -> None:
    pl.DataFrame({"id": names, "v": pl.Series(vectors, dtype=pl.Array(pl.Float64, vectors.shape[1]))}).write_parquet(
        file
    )


def write_columns(file: Path, names: list[str], vectors: np.ndarray) -> None:
    mark = {".csv": ",", ".tsv": "\t"}[file.suffix]
    rows = [mark.join([name, *map(repr, row.tolist())]) for name, row in zip(names, vectors, strict=True)]
    file.write_text("\n".join([mark.join(["id", *(f"v{k}" for k in range(vectors.shape[1]))]), *rows]) + "\n")


def write_texts(file: Path, names: list[str], vectors: np.ndarray) -> None:
    rows = [f'"{name}","{json.dumps(row.tolist())}"' for name, row in zip(names, vectors, strict=True)]
    file.write_text("id,embedding\n" + "\n".join(rows) + "\n")


def write_dict(file: Path, names: list[str], vectors: np.ndarray) -> None:
    torch.save({name: torch.tensor(row) for name, row in zip(names, vectors, strict=True)}, file)


def write_half_dict(file: Path, names: list[str], vectors: np.ndarray) -> None:
    torch.save({name: torch.tensor(row).bfloat16() for name, row in zip(names, vectors, strict=True)}, file)


def write_tensors(file: Path, names: list[str], vectors: np.ndarray) -> None:
    save_file({name: torch.tensor(row) for name, row in zip(names, vectors, strict=True)}, file)


BY_ID = {
    "lists.parquet": write_lists,
    "array.parquet": write_array,
    "columns.csv": write_columns,
    "columns.tsv": write_columns,
    "texts.csv": write_texts,
    "dict.pt": write_dict,
    "half.pth": write_half_dict,
    "many.safetensors": write_tensors,
}


@pytest.mark.parametrize("name", BY_ID)
def test_by_id(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    BY_ID[name](file, NAMES, TABLE)
    values, missing, report = read_vectors(file, IDS, np.array([9, 9, 9, 9]))  # rows do not count where there are ids
    assert values.dtype == np.float32 and np.array_equal(values, EXPECTED)
    assert not missing.any() and report.unknown == ("zebra",) and report.missing == () and report.rows == 5
    assert report.describe(4) == ("5 vectors, 4 of 4 items have one; 1 in the file but no item of the corpus: 'zebra'")

    BY_ID[name](file, NAMES[:3], TABLE[:3])
    values, missing, report = read_vectors(file, IDS)
    mean = (TABLE[0] + TABLE[1]) / 2
    assert np.array_equal(values, [TABLE[1], mean, mean, TABLE[0]]) and missing.tolist() == [False, True, True, False]
    assert report.missing == ("b c", "x/1")
    with pytest.raises(ValueError, match=f"{name} has no vector for 2 of 4 items: 'b c', 'x/1'; add them"):
        read_vectors(file, IDS, missing="error")

    BY_ID[name](file, ["7", "zebra"], TABLE[:2])  # "007" is not "7"
    with pytest.raises(
        ValueError, match="no vector for any of the 4 items: its ids are '7', 'zebra', the corpus' '007'"
    ):
        read_vectors(file, IDS)


def write_npz(file: Path, vectors: np.ndarray) -> None:
    np.savez(file, anything=vectors)


BY_ROW = {
    "a.npy": lambda file, vectors: np.save(file, vectors),
    "half.npy": lambda file, vectors: np.save(file, vectors.astype(np.float16)),
    "ints.npy": lambda file, vectors: np.save(file, (vectors * 8).astype(np.int32)),
    "a.npz": write_npz,
    "a.pt": lambda file, vectors: torch.save(torch.tensor(vectors, requires_grad=True), file),
    "a.safetensors": lambda file, vectors: save_file({"w": torch.tensor(vectors).bfloat16()}, file),
}


@pytest.mark.parametrize("name", BY_ROW)
def test_by_row(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    BY_ROW[name](file, TABLE)
    scale = 8 if name == "ints.npy" else 1
    values, missing, report = read_vectors(file, IDS, np.array([1, 4, -1, 0]), source_rows=5)
    expected = TABLE[[1, 4, 0, 0]] * scale
    expected[2] = TABLE[[1, 4, 0]].mean(0) * scale
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    assert missing.tolist() == [False, False, True, False] and report.missing == ("x/1",)
    assert np.array_equal(read_vectors(file, [*IDS, "5"]).values, TABLE * scale)  # in the items' order
    for options, message in (
        ({}, "has 5 rows and no ids, the corpus 4 items: which row is which item"),
        ({"source_index": np.array([0, 1, 2, 5])}, "has 5 rows, but an item's is row 5"),
        ({"source_index": np.arange(4), "source_rows": 6}, "has 5 rows but the source has 6 items"),
        ({"in_order": False}, r"which row is which item\?.*`items`"),
        ({"source_index": np.arange(3)}, "3 source rows were given for 4 items"),
        ({"source_index": np.full(4, -1)}, "no vector for any of the 4 items"),
    ):
        with pytest.raises(ValueError, match=message):
            read_vectors(file, IDS, **options)


class Mischief:
    def __reduce__(self):
        return (print, ("this must never be printed",))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_nothing_that_could_run_code_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "a.npy", np.array([Mischief()] * 4, dtype=object), allow_pickle=True)
    np.savez(tmp_path / "b.npz", x=np.array([[Mischief()]] * 4, dtype=object))
    (tmp_path / "c.npy").write_bytes(pickle.dumps(Mischief()))
    torch.save(Mischief(), tmp_path / "d.pt")
    torch.save({"4": Mischief()}, tmp_path / "e.pt")
    (tmp_path / "f.pt").write_bytes(pickle.dumps(Mischief()))
    for name in ("a.npy", "b.npz", "c.npy", "d.pt", "e.pt", "f.pt"):
        with pytest.raises(ValueError, match=rf"{name}.*holds pickled objects, which could run code"):
            read_vectors(tmp_path / name, IDS)
    assert capsys.readouterr().out == ""


@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
def test_bad_files(tmp_path: Path) -> None:
    def refuse(name: str, message: str, **options) -> None:
        with pytest.raises(ValueError, match=message):
            read_vectors(tmp_path / name, IDS, **options)

    with pytest.raises(FileNotFoundError, match="no file .*none.npy"):
        read_vectors(tmp_path / "none.npy", IDS)
    (tmp_path / "a.xls").write_text("x")
    refuse("a.xls", "unknown kind of vectors '.xls'; known: .npy")
    for name in ("a.npy", "a.npz", "a.pt", "a.safetensors", "a.parquet"):
        (tmp_path / name).write_bytes(b"")
        refuse(name, rf"a\.{name[2:]} ")
        (tmp_path / name).write_bytes(b"<html>not found</html>")
        refuse(name, rf"a\.{name[2:]} ")
    np.save(tmp_path / "a.npy", TABLE[0])
    refuse("a.npy", r"shape \(4,\) of float32; expected numbers of shape \[items, width\]")
    np.save(tmp_path / "a.npy", TABLE[:4].astype(str))
    refuse("a.npy", "expected numbers")
    np.savez(tmp_path / "a.npz", a=TABLE, b=TABLE)
    refuse("a.npz", r"2 arrays \(a, b\)")
    torch.save([1, 2], tmp_path / "a.pt")
    refuse("a.pt", "holds a list; expected a tensor")
    torch.save({"4": torch.zeros(2), "007": torch.zeros(3)}, tmp_path / "a.pt")
    refuse("a.pt", "the vector of '007' has width 3, those before it 2")
    torch.save({"weight": torch.zeros(4, 2), "bias": torch.zeros(2)}, tmp_path / "a.pt")
    refuse("a.pt", r"entry 'weight' is shape \(4, 2\); expected one tensor")
    torch.save(torch.eye(4).to_sparse(), tmp_path / "a.pt")
    refuse("a.pt", "sparse_coo tensor")
    save_file({"a": torch.zeros(4, 2), "b": torch.zeros(4, 2)}, tmp_path / "a.safetensors")
    refuse("a.safetensors", "entry 'a' is shape")

    write_columns(tmp_path / "a.csv", [*IDS, "4", "4", "b c"], np.arange(14.0).reshape(7, 2))
    values, _, report = read_vectors(tmp_path / "a.csv", IDS)
    assert values[3].tolist() == [6, 7] and report.duplicates == ("4", "b c")
    assert "2 more than once in the file (first taken): '4', 'b c'" in report.describe(4)
    (tmp_path / "a.csv").write_text("name,v\n4,1\n")
    refuse("a.csv", r"no column of ids \(id, item_id, item, asin, parent_asin\); it has: name, v")
    assert read_vectors(tmp_path / "a.csv", ["4"], id_columns=("sku", "name")).values.tolist() == [[1]]
    (tmp_path / "a.csv").write_text("id,v1,v2\n4,1,2\n007,1,two\n")
    refuse("a.csv", r"row 2, column 'v2': 'two' is no number \(item '007'\)")
    (tmp_path / "a.csv").write_text('id,v\n4,"[1, 2]"\n007,"[1, x]"\n')
    refuse("a.csv", r"row 2, column 'v': 'x' is no number \(item '007'\)")
    (tmp_path / "a.csv").write_text('id,v\n4,"[1, 2]"\n007,[1]\n')
    refuse("a.csv", "row 2: the vector of '007' has width 1, the first one 2")
    (tmp_path / "a.csv").write_text("id,v\n,1\n4,2\n")
    refuse("a.csv", "1 rows have no id")
    (tmp_path / "a.csv").write_text("id\n4\n")
    refuse("a.csv", "no column beside 'id'")
    pl.DataFrame({"id": IDS, "a": [[1.0]] * 4, "b": [[2.0]] * 4}).write_parquet(tmp_path / "a.parquet")
    refuse("a.parquet", r"2 columns of lists \(a, b\); keep the one")
    assert read_vectors(tmp_path / "a.parquet", IDS, vector_column="b").values.tolist() == [[2]] * 4
    pl.DataFrame({"id": [4.0, 7.0], "v": [[1.0, 2.0], None]}).write_parquet(tmp_path / "a.parquet")
    assert read_vectors(tmp_path / "a.parquet", ["4", "7"]).missing.tolist() == [False, True]
    for value in (np.nan, np.inf):
        broken = TABLE[:4].copy()
        broken[2, 3] = value
        np.save(tmp_path / "a.npy", broken)
        refuse("a.npy", rf"{value} in row 2, column 3 \(item x/1\)")
        assert np.isfinite(read_vectors(tmp_path / "a.npy", IDS, np.array([0, 1, -1, 3])).values).all()


def test_of_a_prepared_corpus(tmp_path: Path) -> None:
    """Rows of a file follow the source's rows, whatever the corpus' own numbering; ids follow ids."""
    from seqmm.data.filtering import Log
    from seqmm.data.preparation import Preparation
    from seqmm.data.prepare import prepare

    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(8), 6)
    item = np.concatenate([rng.permutation(9)[:6] for _ in range(8)])
    time = np.tile(np.arange(6), 8)
    table = rng.normal(size=(11, 3)).astype(np.float32)
    np.save(tmp_path / "v.npy", table)

    names = [f"sku {n}" for n in range(9)]
    items = pl.DataFrame({"id": ["not sold", *names[::-1], names[0]]})  # a row nobody had, and one twice
    log = Log(user, item, [str(u) for u in range(8)], names, timestamp=time, source="log")
    prepare(log, Preparation(k_core=0), name="named", items=items).save(tmp_path / "named")
    corpus = Corpus.load(tmp_path / "named")
    values, missing, _ = read_corpus_vectors(tmp_path / "named", tmp_path / "v.npy")
    expected = [table[1 + names[::-1].index(name)] for name in corpus.item_ids]
    assert np.array_equal(values, expected) and not missing.any()
    assert corpus.item_ids != tuple(names)

    log = Log(user, item, [str(u) for u in range(8)], [str(n) for n in range(9)], timestamp=time, source="log")
    prepare(log, Preparation(k_core=0), name="numbered").save(tmp_path / "numbered")
    with pytest.raises(ValueError, match="has 11 rows but the source has 9 items"):
        read_corpus_vectors(tmp_path / "numbered", tmp_path / "v.npy")
    np.save(tmp_path / "v.npy", table[:9])
    values = read_corpus_vectors(tmp_path / "numbered", tmp_path / "v.npy").values
    assert np.array_equal(values, table[[int(name) for name in Corpus.load(tmp_path / "numbered").item_ids]])

    synthetic_corpus(6, 9).save(tmp_path / "unknown")  # nobody knows its source's rows
    with pytest.raises(ValueError, match="which row is which item"):
        read_corpus_vectors(tmp_path / "unknown", tmp_path / "v.npy")
    write_dict(tmp_path / "v.pt", [f"item-{n}" for n in range(9)], table[:9])
    values = read_corpus_vectors(tmp_path / "unknown", tmp_path / "v.pt").values
    assert np.array_equal(values, table[:9])
