"""Decoding whatever people upload as an image or a video."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from seqmm.data.item_files import Place, Unreadable, reading
from seqmm.data.item_images import VIDEO_SUFFIXES, ImageFiles

if TYPE_CHECKING:
    from PIL import Image


FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF")
"""What an image file may be, whatever it is called. Pillow knows more, of which some run other programs (EPS)."""

MAX_PIXELS = 50_000_000
"""A file that must be unpacked whole and has more is refused; a baseline JPEG is not unpacked whole."""

KEPT_PIXELS = 4_000_000
"""Larger images are shrunk by a whole factor as they are read: encoders look at some hundred pixels a side."""

MIN_SIDE = 8
"""Pixels; a smaller image is a placeholder or a tracking dot and counts as broken."""

MAX_FRAMES = 10
"""Images or frames of an item, taken evenly (MSM4SR's released code keeps ten images)."""


def decode(content: bytes) -> Image.Image:
    """An image file's bytes as RGB: the first frame, turned as its EXIF says, transparency on white.

    Memory is bounded whatever the file says of itself: a baseline JPEG is decoded at a fraction of its size (libjpeg's
    scaling), others are refused above :data:`MAX_PIXELS`; what is returned has :data:`KEPT_PIXELS` at most.

    Raises:
        ValueError: with a short reason: not an image, empty, truncated, too large, smaller than :data:`MIN_SIDE`.
    """
    with _quietly(content):
        return _rgb(_open(content))


@contextmanager
def _quietly(content: bytes) -> Iterator[None]:
    """Pillow's warnings (odd metadata, many pixels) are no news: what cannot be used is an error, sizes are checked."""
    with warnings.catch_warnings(), reading(content, "image"):
        warnings.simplefilter("ignore")
        yield


def _open(content: bytes) -> Image.Image:
    """The image with its size checked and nothing decoded yet; a large JPEG is set to be decoded small."""
    from PIL import Image

    image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        raise Unreadable(f"{width} x {height} pixels, a side shorter than {MIN_SIDE}")
    if image.format == "JPEG" and not image.info.get("progressive"):  # libjpeg keeps a progressive one whole
        factor = _factor(width, height)
        image.draft("RGB", (width // factor, height // factor))  # to 1/2, 1/4 or 1/8, not below the size asked for
    if image.width * image.height > MAX_PIXELS:
        raise Unreadable(f"{width} x {height} pixels, more than {MAX_PIXELS:,}")
    return image


def _factor(width: int, height: int) -> int:
    """The smallest whole factor that brings an image to :data:`KEPT_PIXELS`, and no side under :data:`MIN_SIDE`."""
    factor = math.ceil(math.sqrt(width * height / KEPT_PIXELS))
    return max(1, min(factor, min(width, height) // MIN_SIDE))


def _rgb(image: Image.Image) -> Image.Image:
    """The current frame as RGB."""
    from PIL import Image

    image.load()  # turns a TIFF itself
    turn = _turn(image)
    if image.mode.startswith("I;16"):
        image = image.convert("I").point(lambda value: value / 257).convert("L")
    elif image.mode in ("I", "F"):
        raise Unreadable(f"pixels of mode {image.mode}, whose range is not said")
    if image.has_transparency_data:
        image = image.convert("RGBA")
    elif image.mode not in ("RGB", "L"):
        image = image.convert("RGB")
    factor = _factor(image.width, image.height)
    if factor > 1:
        image = image.reduce(factor)
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    return image if turn is None else image.transpose(turn)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What puts an image upright by its EXIF orientation."""
    from PIL import Image

    try:
        orientation = int(image.getexif().get(0x0112, 1))
    except Exception:  # an EXIF block that cannot be parsed says nothing; the picture is as good as without
        return None
    turns = Image.Transpose
    return {
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_270,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_90,
    }.get(orientation)


def frames(files: ImageFiles, item: str, limit: int = MAX_FRAMES) -> tuple[list[Image.Image], list[str]]:
    """An item's images in order, and what is wrong with its files.

    Its files follow one another; of an animated GIF, WebP or PNG and of a video all frames do. At most ``limit`` of
    those that can be used are taken, evenly from the first to the last.

    Args:
        files: where they are.
        item: id.
        limit: upper bound.

    Returns:
        The images, and one ``file name: reason`` for each file that cannot be used.

    Raises:
        ValueError: there is a video, and PyAV is not installed.
    """
    problems: list[str] = []
    counts = []
    places = files.places(item)
    for place in places:
        try:
            counts.append(_count_frames(files, place))
        except Unreadable as error:
            counts.append(0)
            problems.append(f"{place.name}: {error}")
    while True:
        found: list[Image.Image] = []
        ends = np.cumsum([0, *counts])
        wanted = np.linspace(0, ends[-1] - 1, min(limit, int(ends[-1]))).round().astype(int)
        for row, place in enumerate(places):
            numbers = [int(number - ends[row]) for number in wanted if ends[row] <= number < ends[row + 1]]
            try:
                found += _read_frames(files, place, numbers) if numbers else []
            except Unreadable as error:  # then the others' turn: it may have been the only one that was to be read
                problems.append(f"{place.name}: {error}")
                counts[row] = 0
                break
        else:
            return found, problems


def _count_frames(files: ImageFiles, place: Place) -> int:
    if place.suffix in VIDEO_SUFFIXES:
        content, av = files.open(place), _pyav()
        with reading(content, "video"), av.open(io.BytesIO(content)) as video:
            # packets are read, not decoded: the number in the header is often missing or wrong
            return sum(packet.size > 0 for packet in video.demux(video.streams.video[0]))
    if place.suffix in (".jpg", ".jpeg", ".bmp", ".tif", ".tiff"):
        return 1
    content = files.open(place)
    with _quietly(content):
        image = _open(content)
        return int(image.n_frames) if image.format in ("GIF", "WEBP", "PNG") and image.is_animated else 1  # type: ignore[attr-defined]


def _read_frames(files: ImageFiles, place: Place, numbers: list[int]) -> list[Image.Image]:
    content = files.open(place)
    if place.suffix in VIDEO_SUFFIXES:
        with reading(content, "video"), _pyav().open(io.BytesIO(content)) as video:
            images = list(_video_frames(video, numbers))
            if not images:
                raise Unreadable("no frame of the video can be decoded")
            return images
    if numbers == [0]:
        return [decode(content)]
    with _quietly(content):
        image = _open(content)
        found = []
        for number in numbers:
            image.seek(number)
            found.append(_rgb(image))
        return found


def _pyav() -> Any:
    try:
        import av
    except ModuleNotFoundError as error:
        raise ValueError(f'videos need PyAV ({error}): pip install "seqmm[video]"') from error
    return av


def _video_frames(video: Any, numbers: list[int]) -> Iterator[Image.Image]:
    """The frames of these numbers; fewer if packets do not decode."""
    from PIL import Image

    stream, last = video.streams.video[0], max(numbers)
    if min(stream.width, stream.height) < MIN_SIDE or stream.width * stream.height > MAX_PIXELS:
        raise Unreadable(f"{stream.width} x {stream.height} pixels; {MIN_SIDE} a side to {MAX_PIXELS:,} can be used")
    stream.thread_type = "AUTO"
    for number, frame in enumerate(video.decode(stream)):
        if number in numbers:
            # degrees by which the picture must be turned counter-clockwise to be upright
            turn = {
                90: Image.Transpose.ROTATE_90,
                180: Image.Transpose.ROTATE_180,
                270: Image.Transpose.ROTATE_270,
            }.get(frame.rotation % 360)
            image = _rgb(frame.to_image())
            yield image if turn is None else image.transpose(turn)
        if number == last:
            return
