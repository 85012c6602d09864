"""Photos: broken, disguised, huge when unpacked, and tar files that lead out."""

from __future__ import annotations

import io
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.faults.hostile import SOUND, Case, Door

BAD = "item-7"
"""The item whose photo is hostile; the other 39 keep theirs."""


def _right(folder: Path) -> str | None:
    """The vectors of the other items are those of the sound photos, and the hostile one's stands alone."""
    import numpy as np

    from seqmm.data.loading import load_corpus

    corpus = load_corpus(str(folder / "corpus"), features=("image_c",))
    found, right = corpus.features["image_c"].values, Path(os.environ["FAULTS_PLACE"]).parent / "right-images.npy"
    if not right.is_file():
        np.save(right, found)
    others = np.array([name != BAD for name in corpus.item_ids])
    same = np.abs(found - np.load(right))[others].max() < 1e-5 and bool(np.isfinite(found).all())
    return None if same else "vectors of other items changed"


def _command(*images: str) -> tuple[str, ...]:
    encoder = ("--image-encoder", "clip:local-dir:models/clip", "--suffix", "_c")
    return ("extract", "--corpus", "corpus", "--features", "image", *encoder, "--images", *images)


IMAGES = Door("images", ("corpus", "models", "photos"), lambda folder: None, _command("photos"), _right)


def _photo(name: str, content: bytes | Callable[[], bytes], right: str = SOUND, suffix: str = "png") -> Case:
    """Another file in place of an item's photo: the others are read, that one counts as missing, or is read."""

    def spoil(folder: Path) -> None:
        (folder / "photos" / f"{BAD}.png").unlink()
        (folder / "photos" / f"{BAD}.{suffix}").write_bytes(content if isinstance(content, bytes) else content())

    return Case(IMAGES, name, spoil, right)


def _drawn(kind: str, size: tuple[int, int] = (24, 24), mode: str = "RGB", **options: Any) -> Callable[[], bytes]:
    def draw() -> bytes:
        from PIL import Image

        stream = io.BytesIO()
        Image.new(mode, size).save(stream, kind, **options)
        return stream.getvalue()

    return draw


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png(width: int, height: int, rows: bytes, *more: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + b"".join(more) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


def _frames(count: int) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    pictures = [Image.new("P", (32, 32), number % 250) for number in range(count)]
    pictures[0].save(stream, "GIF", save_all=True, append_images=pictures[1:])
    return stream.getvalue()


def _photos() -> Iterator[Case]:
    drawn = _drawn("PNG")
    yield _photo("empty", b"")
    yield _photo("noise", b"\xa5" * 3000)
    yield _photo("cut short", lambda: drawn()[:60])
    yield _photo("without its end", lambda: drawn()[:-20])
    yield _photo("a web page", b"<!DOCTYPE html><html>Not found</html>", suffix="jpg")
    yield _photo("SVG", b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', suffix="jpg")
    yield _photo("PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) print\n", suffix="jpg")
    yield _photo("a zip", b"PK\x03\x04" + b"\0" * 60, suffix="jpg")
    yield _photo("PNG that says it is huge", _png(100_000, 100_000, zlib.compress(b"\0" * 1000)))
    yield _photo("PNG bomb", lambda: _png(30_000, 30_000, zlib.compress(b"\0" * 60_000_000, 9)))
    yield _photo("PNG with a text bomb", lambda: _png(24, 24, zlib.compress((b"\0" + b"\0" * 72) * 24),
                 _chunk(b"zTXt", b"x\0\0" + zlib.compress(b"\0" * 80_000_000, 9))))  # fmt: skip
    yield _photo("PNG without pixels", _png(0, 0, b""))
    yield _photo("PNG with a wrong sum", lambda: drawn()[:-5] + b"\0\0\0\0\0")
    yield _photo(
        "JPEG that says it is huge",
        lambda: _drawn("JPEG")().replace(b"\x00\x18\x00\x18", b"\xff\xff\xff\xff", 1),
        suffix="jpg",
    )
    yield _photo("JPEG called png", _drawn("JPEG"))
    yield _photo("grey with alpha", _drawn("PNG", mode="LA"))
    yield _photo("16 bit", _drawn("PNG", mode="I;16"))
    yield _photo("CMYK", _drawn("JPEG", mode="CMYK"), suffix="jpg")
    yield _photo("one pixel", _drawn("PNG", size=(1, 1)))
    yield _photo("a line", _drawn("PNG", size=(6000, 1)))
    yield _photo("GIF of 3,000 frames", lambda: _frames(3000), suffix="gif")
    yield _photo("GIF cut short", lambda: _frames(30)[:400], suffix="gif")
    yield _photo(
        "TIFF that points to itself", b"II*\0\x08\0\0\0\x01\0\0\x01\x03\0\x01\0\0\0\x08\0\0\0\x08\0\0\0", suffix="tiff"
    )
    yield _photo("WEBP of noise", b"RIFF\xff\xff\xff\xffWEBPVP8 " + b"\xa5" * 200, suffix="webp")
    yield _photo(
        "BMP that says it is huge",
        b"BM" + b"\0" * 8 + b"\x36\0\0\0\x28\0\0\0" + b"\xff\xff\xff\x7f" * 2 + b"\1\0\x18\0" + b"\0" * 60,
        suffix="bmp",
    )
    yield Case(IMAGES, "a folder for a photo", lambda folder: _folder_for(folder), SOUND)
    yield Case(IMAGES, "a link to nowhere", lambda folder: _link(folder, Path("nowhere")), SOUND)
    yield Case(IMAGES, "a link to itself", lambda folder: _link(folder, folder / "photos" / f"{BAD}.png"), SOUND)
    yield Case(IMAGES, "a pipe for a photo", _pipe, SOUND)
    yield Case(
        IMAGES,
        "a name of another coding",
        lambda folder: Path(bytes(folder / "photos").decode() + "/").joinpath("x\udce9.png").write_bytes(b"x"),
        SOUND,
    )


def _folder_for(folder: Path) -> None:
    (folder / "photos" / f"{BAD}.png").unlink()
    (folder / "photos" / f"{BAD}.png").mkdir()


def _link(folder: Path, aim: Path) -> None:
    (folder / "photos" / f"{BAD}.png").unlink()
    (folder / "photos" / f"{BAD}.png").symlink_to(aim)


def _pipe(folder: Path) -> None:
    (folder / "photos" / f"{BAD}.png").unlink()
    os.mkfifo(folder / "photos" / f"{BAD}.png")


def _tar(name: str, more: Callable[[tarfile.TarFile], object], right: str = SOUND) -> Case:
    """The photos in a tar file, and more."""

    def spoil(folder: Path) -> None:
        with tarfile.open(folder / "photos.tar", "w") as archive:
            for file in sorted((folder / "photos").iterdir()):
                archive.add(file, file.name)
            more(archive)

    return Case(IMAGES, f"tar {name}", spoil, right, "photos.tar", ("--images", "photos.tar"))


def _member(name: str, content: bytes = b"x", **more: Any) -> Callable[[tarfile.TarFile], object]:
    def add(archive: tarfile.TarFile) -> None:
        entry = tarfile.TarInfo(name.replace("@place@", os.environ["FAULTS_PLACE"]))
        entry.size = len(content)
        for key, value in more.items():
            setattr(entry, key, value)
        archive.addfile(entry, io.BytesIO(content))

    return add


def _tars() -> Iterator[Case]:
    yield _tar("as it should be", lambda archive: None)
    yield _tar("that leads out", _member("../../escape.png"))
    yield _tar("of an absolute path", _member("@place@/escape.png"))
    yield _tar("with a link out", _member("link.png", b"", type=tarfile.SYMTYPE, linkname="../../sentinel.txt"))
    yield _tar("with a hard link out", _member("hard.png", b"", type=tarfile.LNKTYPE, linkname="/etc/hostname"))
    yield _tar("with a device", _member("device.png", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=9))
    yield _tar("with a pipe", _member("pipe.png", b"", type=tarfile.FIFOTYPE))
    yield _tar("with a name twice", _member(f"{BAD}.png", b"another"))
    yield _tar("with a long name", _member("x" * 5000 + ".png"))

    def cut(folder: Path) -> None:
        with tarfile.open(folder / "photos.tar", "w") as archive:
            for file in sorted((folder / "photos").iterdir()):
                archive.add(file, file.name)
        content = (folder / "photos.tar").read_bytes()
        (folder / "photos.tar").write_bytes(content[: len(content) // 2 + 100])

    def zipped(folder: Path) -> None:
        with zipfile.ZipFile(folder / "photos.tar", "w") as archive:
            archive.writestr("../../escape.png", b"x")

    more = ("--images", "photos.tar")
    yield Case(IMAGES, "tar cut short", cut, "refused", "photos.tar", more)
    yield Case(IMAGES, "tar that is a zip", zipped, "refused", "photos.tar", more)
    yield Case(
        IMAGES,
        "tar that is empty",
        lambda folder: (folder / "photos.tar").write_bytes(b""),
        "refused",
        "photos.tar",
        more,
    )
    yield Case(
        IMAGES,
        "tar of noise",
        lambda folder: (folder / "photos.tar").write_bytes(b"\xa5" * 9000),
        "refused",
        "photos.tar",
        more,
    )
    yield Case(IMAGES, "no folder", lambda folder: None, "refused", "nowhere", ("--images", "nowhere"))


CASES: list[Case] = [*_photos(), *_tars()]
