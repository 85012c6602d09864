"""Images that claim or hold far more than their bytes: refused at a stated limit, or looked at as far as it goes."""

import io
import struct
import zlib

import pytest
from PIL import Image

from seqmm.data.item_images import ImageFiles
from seqmm.features.readers import images as module
from seqmm.features.readers.images import decode, frames
from tests.features.test_images import animation, picture


def png(width: int, height: int, *more: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    row = zlib.compressobj()
    pixels = b"".join(row.compress(bytes(width // 8 + 1)) for _ in range(min(height, 3000))) + row.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def gif(width: int, height: int, count: int, frame: tuple[int, int] = (8, 8)) -> bytes:
    """Frames of 22 bytes each, in a row."""
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    stream = io.BytesIO()
    Image.new("1", frame).save(stream, "GIF")
    content = stream.getvalue()
    start = 13 + (3 << ((content[10] & 7) + 1))  # behind the colours
    image = content[content.index(b",", start) : -1]
    return head + image * count + b";"


def jpeg_claiming(width: int, height: int) -> bytes:
    content = bytearray(picture(size=(16, 16), kind="JPEG"))
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(content)


def scans(count: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(stream, "JPEG", progressive=True)
    content = stream.getvalue()
    start = content.rindex(b"\xff\xda")
    return content[:start] + content[start:-2] * count + content[-2:]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (png(30_000, 30_000), "900,000,000 pixels, more than 50,000,000"),
        (png(10_000, 10_000), "10000 x 10000 pixels, more than 50,000,000"),
        (gif(65_535, 65_535, 1), "4,294,836,225 pixels, more than 50,000,000"),
        (gif(8, 8, 1, (8000, 8000)), "8000 x 8000 pixels, more than 50,000,000"),
        (jpeg_claiming(65_500, 65_500), "4,290,250,000 pixels, more than 50,000,000"),
        (scans(200), "a JPEG of 209 scans, more than 100"),
    ],
)
def test_bombs_are_refused(content, message):
    assert len(content) < 3_000_000
    with pytest.raises(ValueError) as caught:
        decode(content)
    assert str(caught.value) == message


def test_a_few_scans_are_fine():
    assert decode(scans(20)).size == (64, 64)


@pytest.mark.parametrize(("size", "count", "seen"), [((8, 8), 30_000, 300), ((3000, 3000), 5000, 22)])
def test_of_a_long_animation_the_first_frames_are_seen(tmp_path, monkeypatch, size, count, seen):
    (tmp_path / "a.gif").write_bytes(gif(*size, count))
    shown = []
    one = module._rgb
    monkeypatch.setattr(module, "_rgb", lambda image: shown.append(image.tell()) or one(image))
    if size == (3000, 3000):  # two of them, to be quick
        limit, expected = 2, [0, seen - 1]
    else:
        limit, expected = 10, [0, 33, 66, 100, 133, 166, 199, 233, 266, 299]
    found, problems = frames(ImageFiles([tmp_path]), "a", limit=limit)
    assert shown == expected and len(found) == limit and not problems


def test_frames_are_counted_as_pillow_does(tmp_path):
    for count in (1, 2, 7, 12):
        content = animation("GIF", count)
        assert module._gif_frames(content, 300) == Image.open(io.BytesIO(content)).n_frames == count
        assert module._gif_frames(content, 5) == min(count, 5)
    assert module._gif_frames(gif(8, 8, 50), 300) == 50
    for end in range(13, 200):
        module._gif_frames(animation("GIF", 3)[:end], 300)  # cut anywhere: a number, no error


def test_an_animation_that_claims_frames(tmp_path):
    """Of a PNG the header says how many."""
    content = bytearray(animation("PNG", 3))
    place = content.index(b"acTL") + 4
    content[place : place + 4] = struct.pack(">I", 2**31 - 1)
    content[place + 8 : place + 12] = struct.pack(">I", zlib.crc32(bytes(content[place - 4 : place + 8])))
    (tmp_path / "a.png").write_bytes(bytes(content))
    found, problems = frames(ImageFiles([tmp_path]), "a")
    assert found == [] and problems == ["a.png: not a readable image: Truncated File Read"]


def test_a_frame_larger_than_the_first(tmp_path):
    """The canvas of a GIF grows with its frames."""
    small, large = gif(8, 8, 2), gif(8, 8, 1, (8000, 8000))
    (tmp_path / "a.gif").write_bytes(small[:-1] + large[19:])
    found, problems = frames(ImageFiles([tmp_path]), "a")
    assert found == [] and problems == ["a.gif: 8000 x 8000 pixels, more than 50,000,000"]
