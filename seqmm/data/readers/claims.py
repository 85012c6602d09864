"""What a file says of its size, compared with what it can hold before anything is read or made room for.

A file may unpack to :data:`~seqmm.data.readers.content.UNPACKED` bytes whatever its own size is, and beyond that to
:data:`~seqmm.data.readers.content.RATIO` times its size: numbers and texts do not come near, files made to fill a
memory do. What is refused can be unpacked, or written again without compression, by who trusts it.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from seqmm.data.readers.content import RATIO, UNPACKED

if TYPE_CHECKING:
    import pyarrow.parquet as pq
    import torch

_CELL = 8
"""Bytes of memory that a cell takes at least, whatever it is packed to: a constant column packs to nothing."""


def check_unpacked(file: Path, claimed: int) -> None:
    """Raises ValueError if a file claims to hold more than it can.

    Args:
        file: on the disk.
        claimed: bytes it would take in memory.
    """
    there = file.stat().st_size
    if claimed > UNPACKED and claimed > RATIO * there:
        raise ValueError(
            f"{file} says that it holds {claimed:,} bytes, in a file of {there:,}: more than {UNPACKED:,} and than "
            f"{RATIO} times its size, which no table or vectors do; it is not read (write it again without compression "
            "if you trust it)"
        )


def check_zip(file: Path) -> None:
    """:func:`check_unpacked` for a zip file (.npz, .pt), and the arrays in it must be as long as their headers say.

    A file that is no zip file is for its reader to judge.

    Raises:
        ValueError: see there; a member that cannot be read.
    """
    if not zipfile.is_zipfile(file):
        return
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            check_unpacked(file, sum(member.file_size for member in members))
            for member in members:
                if member.filename.endswith(".npy"):
                    with archive.open(member) as stream:
                        check_array(stream, member.file_size, f"{file}: {member.filename!r}")
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{file} is a damaged zip file ({error}); write it again") from error


def check_array(stream: IO[bytes], size: int, where: str) -> None:
    """Raises ValueError if the header of a .npy says another number of bytes than there are.

    Args:
        stream: at its beginning.
        size: bytes that there are, header and all.
        where: for the error.
    """
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    except (ValueError, SyntaxError, TypeError) as error:
        raise ValueError(f"{where} is no array of numpy ({str(error).splitlines()[0]}); write it again") from error
    claimed = math.prod(map(int, shape)) * dtype.itemsize
    if claimed != size - stream.tell() and not dtype.hasobject:
        raise ValueError(
            f"{where} says that it holds {' x '.join(map(str, shape))} numbers, {claimed:,} bytes, but there are "
            f"{size - stream.tell():,}; write it again with numpy.save"
        )


def check_tensor(file: Path, tensor: torch.Tensor) -> None:
    """:func:`check_unpacked` for a tensor that repeats the same numbers (an expanded one), or that has none."""
    if tensor.is_meta:
        raise ValueError(f"{file}: a tensor of shape {tuple(tensor.shape)} without its numbers; save it with them")
    check_unpacked(file, 4 * tensor.numel())


def check_parquet(file: Path, columns: Sequence[str] | None = None) -> None:
    """:func:`check_unpacked` for the columns of a parquet file, by what its footer says of rows and sizes.

    Args:
        file: to be read.
        columns: those that will be; None = all.

    Raises:
        ValueError: it claims too much, or is no parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as opened:
            check_footer(file, opened, columns)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file} cannot be read ({str(error).splitlines()[0]}); it is truncated or damaged") from error


def check_footer(file: Path, opened: pq.ParquetFile, columns: Sequence[str] | None = None) -> None:
    """:func:`check_parquet` for one that is open already."""
    about, claimed = opened.metadata, 0
    for group in range(about.num_row_groups):
        rows = about.row_group(group)
        for place in range(rows.num_columns):
            column = rows.column(place)
            if columns is None or column.path_in_schema.split(".")[0] in columns:
                claimed += max(column.total_uncompressed_size, _CELL * max(column.num_values, rows.num_rows))
    check_unpacked(file, claimed)
