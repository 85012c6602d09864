"""Decoding whatever people upload as an image or a video."""

from __future__ import annotations

import io
import math
import re
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

MAX_SCANS = 100
"""Of a progressive JPEG, each of which goes over the whole picture again; cameras and programs write about ten."""

MAX_SEEN = 300
"""Frames of an animation, and the first of a longer one, that are counted and of which some are taken."""

MAX_SEEN_PIXELS = 200_000_000
"""Of the frames of an animation together: an animation shows each on the one before, so all of them are unpacked."""

MAX_VIDEO_PIXELS = 40_000_000_000
"""The same for videos: ten minutes of 1920 x 1080 at 30 frames a second."""

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
    from PIL import Image

    with warnings.catch_warnings(), reading(content, "image"):
        warnings.simplefilter("ignore")
        try:
            yield
        except Image.DecompressionBombError as error:  # before we see its size
            pixels = re.search(r"\d+", str(error))
            raise Unreadable(f"{int(pixels[0]) if pixels else 0:,} pixels, more than {MAX_PIXELS:,}") from error


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
    _check_size(image)
    if image.format == "JPEG" and image.info.get("progressive") and content.count(b"\xff\xda") > MAX_SCANS:
        raise Unreadable(f"a JPEG of {content.count(bytes((255, 218)))} scans, more than {MAX_SCANS}")
    return image


def _check_size(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise Unreadable(f"{image.width} x {image.height} pixels, more than {MAX_PIXELS:,}")


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
    those that can be used are taken, evenly from the first to the last; of a long animation or video, to the last of
    its first :data:`MAX_SEEN` frames, or of those that :data:`MAX_SEEN_PIXELS`, :data:`MAX_VIDEO_PIXELS` allow.

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
            stream = video.streams.video[0]
            count = sum(packet.size > 0 for packet in video.demux(stream))
            return min(count, max(1, MAX_VIDEO_PIXELS // max(1, stream.width * stream.height)))
    if place.suffix in (".jpg", ".jpeg", ".bmp", ".tif", ".tiff"):
        return 1
    content = files.open(place)
    with _quietly(content):
        image = _open(content)
        most = max(1, min(MAX_SEEN, MAX_SEEN_PIXELS // (image.width * image.height)))
        if image.format == "GIF":
            return max(1, _gif_frames(content, most))
        return min(most, int(image.n_frames)) if image.format in ("WEBP", "PNG") and image.is_animated else 1  # type: ignore[attr-defined]


def _gif_frames(content: bytes, most: int) -> int:
    """Frames of a GIF, counted to ``most``, by its blocks alone: Pillow would go over all of them."""

    def colours(place: int) -> int:
        """Bytes of the colour table that the flags there announce."""
        return 3 << ((content[place] & 7) + 1) if content[place] & 0x80 else 0

    place, frames = 13 + colours(10), 0
    while frames < most and place < len(content) - 10:
        if content[place] == 0x2C:  # an image: its place and size, a colour table, the width of its codes
            frames += 1
            place += 11 + colours(place + 9)
        elif content[place] == 0x21:  # an extension: a label
            place += 2
        else:
            break
        while place < len(content) and content[place]:  # sub-blocks, each with its length before it
            place += 1 + content[place]
        place += 1
    return frames


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
        found: list[Image.Image] = []
        for number in range(max(numbers) + 1):  # each by itself: a frame may be larger than the one before
            try:
                image.seek(number)
            except EOFError:  # fewer than its header says
                if found:
                    break
                raise
            _check_size(image)
            if number in numbers:
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
