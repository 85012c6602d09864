"""Files that claim or unpack to far more than they hold are refused before room is made for it."""

import gzip
import io
import resource
import struct
import time
import zipfile
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from seqmm.data.corpus import Corpus
from seqmm.data.readers import content
from seqmm.data.readers.amazon import read_metadata
from seqmm.data.readers.claims import check_parquet
from seqmm.data.readers.content import content_of, lines
from seqmm.data.readers.table import read_items, read_log, read_table
from seqmm.data.readers.vectors import read_vectors
from seqmm.data.synthetic import synthetic_corpus

IDS = ("a", "b", "c")
ROOM = 300 << 20
"""Bytes of memory that reading may take beyond what there was."""


@pytest.fixture(autouse=True)
def bounded():
    """Nothing here takes long or needs memory."""
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    yield
    assert time.perf_counter() - started < 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < ROOM >> 10


def npy(shape: str, dtype: str = "<f4", numbers: int = 6) -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(4 * numbers)


def claiming(archive: bytes, size: int) -> bytes:
    """A zip file whose one member says that it unpacks to ``size`` bytes."""
    content = bytearray(archive)
    struct.pack_into("<I", content, content.index(b"PK\x03\x04") + 22, size)
    struct.pack_into("<I", content, content.index(b"PK\x01\x02") + 24, size)
    return bytes(content)


def zipped(member: bytes, name: str = "a.npy", kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", kind) as archive:
        archive.writestr(name, member)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "payload", "message"),
    [
        (
            "a.npz",
            zipped(npy("(1000000, 2560)")),
            r"a\.npz: 'a\.npy' says that it holds 1000000 x 2560 numbers, 10,",
        ),
        ("a.npz", claiming(zipped(npy("(3, 2)")), 4_000_000_000), r"a\.npz says that it holds 4,000,000,000 bytes"),
        ("a.npz", claiming(zipped(npy("(1000000, 900)")), 3_600_000_128), r"says that it holds 3,600,000,128 bytes"),
        (
            "a.npz",
            zipped(npy("(3, 99999999999999999999)")),
            r"'a\.npy' says that it holds 3 x 99999999999999999999",
        ),
        ("a.npz", zipped(b"no array"), r"a\.npz: 'a\.npy' is no array of numpy"),
        ("a.npz", zipped(npy("(3, 2)"))[:60] + b"\0" * 30 + zipped(npy("(3, 2)"))[90:], r"a\.npz"),
        ("a.npy", npy("(1000000, 2560)"), r"a\.npy is not a readable \.npy file"),
        ("a.npy", npy("(3, -2)"), r"a\.npy is not a readable \.npy file"),
    ],
)
def test_arrays_that_claim_more_than_there_is(tmp_path, name, payload, message):
    file = tmp_path / name
    file.write_bytes(payload)
    assert len(payload) < 4096
    with pytest.raises(ValueError, match=message):
        read_vectors(file, IDS)


def test_a_zip_bomb_of_numbers(tmp_path, monkeypatch):
    """Ten times the limit in zeros, and the same without compression."""
    monkeypatch.setattr("seqmm.data.readers.claims.UNPACKED", 1 << 20)
    values = np.zeros((3, 1 << 20), np.float32)
    np.savez_compressed(tmp_path / "a.npz", values)
    with pytest.raises(ValueError, match=r"says that it holds 12,583,\d{3} bytes, in a file of .*not read \(write it"):
        read_vectors(tmp_path / "a.npz", IDS)
    np.savez(tmp_path / "a.npz", values)
    assert read_vectors(tmp_path / "a.npz", IDS).values.shape == values.shape


def test_tensors_that_repeat_what_they_hold(tmp_path):
    for name, made in {
        "a.pt": torch.zeros(1).expand(3, 1 << 30),
        "b.pt": {name: torch.zeros(1).expand(1 << 30) for name in IDS},
    }.items():
        torch.save(made, tmp_path / name)
        with pytest.raises(ValueError, match=r"says that it holds 12,884,901,888 bytes, in a file of"):
            read_vectors(tmp_path / name, IDS)
    torch.save(torch.arange(4.0).expand(3, 4), tmp_path / "c.pt")
    assert read_vectors(tmp_path / "c.pt", IDS).values.tolist() == [[0, 1, 2, 3]] * 3
    torch.save(torch.zeros(3, 4, device="meta"), tmp_path / "d.pt")
    with pytest.raises(ValueError, match=r"d\.pt: a tensor of shape \(3, 4\) without its numbers"):
        read_vectors(tmp_path / "d.pt", IDS)


def constant(file, rows: int, **columns) -> None:
    """A parquet file of a few kilobytes whose columns repeat one value."""
    part = 1 << 20
    codes = pa.array(np.zeros(part, np.int32))
    made = pa.table({name: pa.DictionaryArray.from_arrays(codes, [value]) for name, value in columns.items()})
    with pq.ParquetWriter(file, made.schema, compression="zstd") as writer:
        for _ in range(rows // part):
            writer.write_table(made, row_group_size=part)


def test_a_parquet_file_of_one_value(tmp_path, monkeypatch):
    monkeypatch.setattr("seqmm.data.readers.claims.UNPACKED", 1 << 25)
    file = tmp_path / "a.parquet"
    constant(file, 1 << 22, user_id="u", item_id="i")
    assert file.stat().st_size < 50_000
    with pytest.raises(ValueError, match=r"a\.parquet says that it holds 67,108,864 bytes, in a file of"):
        read_log(file)
    with pytest.raises(ValueError, match=r"a\.parquet says that it holds 67,"):
        read_items(file, key="item_id")
    check_parquet(file, ["item_id"])  # as much as the limit may always be
    with pytest.raises(ValueError, match=r"a\.parquet says"):
        read_vectors(file, IDS)


def test_a_parquet_file_that_is_none(tmp_path):
    file = tmp_path / "a.parquet"
    for broken in (b"", b"PAR1", b"PAR1" + b"\xff" * 20 + b"PAR1"):
        file.write_bytes(broken)
        with pytest.raises(ValueError, match=r"a\.parquet cannot be read"):
            read_table(file, None)


def test_a_corpus_is_counted_before_it_is_read(tmp_path):
    corpus = synthetic_corpus(num_users=20, num_items=30)
    corpus.save(tmp_path / "a")
    rows = 1 << 18
    name = "text_vector"
    made = pa.table({"item": np.arange(rows), "values": pa.array([None] * rows, pa.list_(pa.float32(), 16))})
    pq.write_table(made, tmp_path / "a" / name / "features.parquet")
    del made
    with pytest.raises(ValueError, match=r"features\.parquet: 262144 rows, features\.json says 30"):
        Corpus.load(tmp_path / "a", features=[name])
    constant(tmp_path / "a" / "users" / "users.parquet", 1 << 20, user="u", id="u")
    with pytest.raises(ValueError, match=r"users\.parquet has 1048576 rows, corpus\.json says 20"):
        Corpus.load(tmp_path / "a")


def zeros(file, size: int, start: bytes = b"") -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    with file.open("wb") as stream:
        stream.write(packer.compress(start))
        for _ in range(size >> 20):
            stream.write(packer.compress(bytes(1 << 20)))
        stream.write(packer.flush())


def test_text_that_unpacks_without_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr(content, "UNPACKED", 1 << 22)
    start = b"user_id,item_id\na,b\n"
    zeros(tmp_path / "a.csv.gz", 32 << 20, start)
    assert (tmp_path / "a.csv.gz").stat().st_size < 50_000
    with pytest.raises(ValueError, match=r"a\.csv\.gz unpacks to more than 200 times its size .*; it is not read"):
        content_of(tmp_path / "a.csv.gz")
    with pytest.raises(ValueError, match=r"a\.csv\.gz"):
        read_log(tmp_path / "a.csv.gz")
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(start))
    assert content_of(tmp_path / "b.csv.gz") == start


@pytest.mark.parametrize("name", ["a.json.gz", "a.jsonl.gz", "a.json"])
def test_a_line_without_an_end(tmp_path, monkeypatch, name):
    """Records are read line by line: one line must not fill the memory either."""
    monkeypatch.setattr(content, "LONGEST", 1 << 20)
    file = tmp_path / name
    if name.endswith("gz"):
        zeros(file, 16 << 20, b'{"asin": "a"}\n')
    else:
        with file.open("wb") as stream:
            stream.write(b'{"asin": "a"}\n')
            stream.truncate(1 << 33)  # a hole of 8 GiB
    with pytest.raises(ValueError, match=rf"{file.name}, line 2: longer than 1,048,576 bytes"):
        list(lines(file, "read"))
    with pytest.raises(ValueError, match=rf"{file.name}, line 2: longer than"):
        read_metadata(file, 2018, ["a"])
