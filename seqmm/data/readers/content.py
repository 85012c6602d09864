"""What is in a text file: unpacked, UTF-8, without a byte order mark; a file that is something else is said to be."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

HEAD = 1 << 18
"""Bytes that are looked at to find out how a table is written."""
STEP = 1 << 22
"""Bytes read at a time."""
UNPACKED = 1 << 30
"""Bytes a .gz may always unpack to."""
LONGEST = 1 << 26
"""Bytes of a line of records; the longest reviews and descriptions are a thousandth of it."""
RATIO = 200
"""Times its own size a .gz may unpack to beyond that."""
_OTHERS = (
    (b"PK\x03\x04", "a zip archive or a workbook; unpack it, or save the sheet as 'CSV UTF-8'"),
    (b"\xd0\xcf\x11\xe0", "a workbook; save the sheet as 'CSV UTF-8'"),
    (b"PAR1", "parquet; let its name end in .parquet"),
    (b"BZh", "bzip2; unpack it, or pack it with gzip"),
    (b"\xfd7zXZ", "xz; unpack it, or pack it with gzip"),
    (b"\x28\xb5\x2f\xfd", "zstandard; unpack it, or pack it with gzip"),
)


def content_of(file: Path, most: int | None = None) -> bytes:
    """The bytes of a text file or .gz, without a byte order mark; of a part, whole lines.

    Args:
        file: to read.
        most: read about so many bytes; None = all.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a .gz that is none or is cut short, another kind of file, text that is not UTF-8.
    """
    parts, size = [], 0
    for part in _parts(file):
        parts.append(part)
        size += len(part)
        if most is not None and size >= most and (b"\n" in part or b"\r" in part):
            break
    content = b"".join(parts)
    del parts
    if most is not None and size >= most:
        content = content[: max(content.rfind(b"\n", 0, most), content.rfind(b"\r", 0, most)) + 1] or content
        if not content.endswith((b"\n", b"\r")):  # the first line alone is longer
            content = content[: max(content.rfind(b"\n"), content.rfind(b"\r")) + 1] or content
    content = content.removeprefix(codecs.BOM_UTF8)
    _check_text(content, file)
    return content


def lines(file: Path, label: str) -> Iterator[tuple[int, str]]:
    """(1-based number, text) of the non-empty lines of a text file or .gz, with a progress bar over its bytes.

    A line ends at a line feed alone: JSON may hold every other separator of lines within a text.
    """
    from tqdm import tqdm

    with (
        _Opened(file) as (raw, stream),
        tqdm(total=file.stat().st_size, desc=label, unit="B", unit_scale=True, leave=False, disable=None) as bar,
    ):
        try:
            number = 0
            while line := stream.readline(LONGEST + 1):
                number += 1
                if len(line) > LONGEST:
                    raise ValueError(f"{file}, line {number}: longer than {LONGEST:,} bytes; is it one record a line?")
                if number % 4096 == 0:
                    bar.update(raw.tell() - bar.n)
                    _check_unpacked(file, stream.tell(), raw.tell())
                if line.strip():
                    yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{file} {_NOT_TEXT}; line {number} holds the first byte that is none") from error
        except (EOFError, OSError, zlib.error) as error:
            raise _damaged(file, error) from error
        bar.update(raw.tell() - bar.n)


def is_gzip(file: Path) -> bool:
    """Whether a file's name says that it is packed."""
    return file.suffix.lower() == ".gz"


def bare_name(file: Path) -> str:
    """A file's name in small letters, without the .gz."""
    return file.name.lower().removesuffix(".gz")


_NOT_TEXT = "is not UTF-8 text; save it as UTF-8 (spreadsheets call it 'CSV UTF-8')"


class _Opened:
    """An open file: as it is on the disk, and unpacked."""

    def __init__(self, file: Path):
        if not file.is_file():
            raise FileNotFoundError(f"no file {file}")
        with file.open("rb") as stream:
            start = stream.read(8)
        packed = start[:2] == b"\x1f\x8b"
        if is_gzip(file) and start and not packed:
            raise ValueError(
                f"{file} is not gzip, which its name says; take the .gz off its name, or fetch it again if it is no "
                f"table either (it begins with {start!r})"
            )
        if packed and not is_gzip(file):
            raise ValueError(f"{file} is gzip; let its name end in .gz")
        for mark, what in _OTHERS:
            if start.startswith(mark):
                raise ValueError(f"{file} is {what}")
        self.raw = file.open("rb")
        self.stream: IO[bytes] = gzip.GzipFile(fileobj=self.raw) if packed else self.raw  # type: ignore[assignment]

    def __enter__(self) -> tuple[IO[bytes], IO[bytes]]:
        return self.raw, self.stream

    def __exit__(self, *_: object) -> None:
        self.raw.close()


def _parts(file: Path) -> Iterator[bytes]:
    with _Opened(file) as (raw, stream):
        size = 0
        try:
            while part := stream.read(STEP):
                size += len(part)
                if stream is not raw:
                    _check_unpacked(file, size, raw.tell())
                yield part
        except (EOFError, OSError, zlib.error) as error:
            raise _damaged(file, error) from error


def _check_unpacked(file: Path, unpacked: int, packed: int) -> None:
    if unpacked > UNPACKED and unpacked > RATIO * packed:
        raise ValueError(
            f"{file} unpacks to more than {RATIO} times its size and {UNPACKED >> 30} GiB, which no table does; it is "
            "not read (unpack it yourself if you trust it)"
        )


def _damaged(file: Path, error: Exception) -> ValueError:
    return ValueError(f"{file} cannot be read to its end ({error}); it is damaged or cut short, fetch it again")


def _check_text(content: bytes, file: Path) -> None:
    if not content.isascii():
        decoder = codecs.getincrementaldecoder("utf-8")()
        for start in range(0, len(content) or 1, STEP):
            part = content[start : start + STEP]
            held = len(decoder.getstate()[0])
            try:
                decoder.decode(part, final=start + STEP >= len(content))
            except UnicodeDecodeError as error:
                line = content.count(b"\n", 0, start - held + error.start) + 1
                raise ValueError(f"{file} {_NOT_TEXT}; line {line} holds the first byte that is none") from error
    if b"\0" in content:
        line = content.count(b"\n", 0, content.index(b"\0")) + 1
        raise ValueError(f"{file} {_NOT_TEXT}; line {line} holds a zero byte")
