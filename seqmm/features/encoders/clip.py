"""CLIP by open_clip: one loader for keywords, image vectors and text vectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from seqmm.features.encoders.loading import (
    choose_device,
    computing,
    find_model,
    first_line,
    weights_digest,
)
from seqmm.names import EncoderPrecision

if TYPE_CHECKING:
    from PIL import Image

REMEDY = "Offline, give local-dir:<folder> with open_clip_config.json and open_clip_model.safetensors"


class Clip:
    """A CLIP's two towers.

    Args:
        name: open_clip model and which of its weights (``ViT-B-32/laion2b_s34b_b79k``), or ``hf-hub:org/name`` or
            ``local-dir:folder``, which bring theirs.
        revision: of ``hf-hub:``.
        device: torch device; None = a GPU if there is one.
        dtype: precision of the computation.

    Raises:
        FileNotFoundError: the weights cannot be had.
        ValueError: a named model without weights, or with a revision.
    """

    def __init__(
        self,
        name: str,
        *,
        revision: str | None = None,
        device: str | None = None,
        dtype: EncoderPrecision = "float32",
    ):
        import open_clip

        self.device, self.dtype = choose_device(device), dtype
        place, label, pretrained, commit = name, name, None, None
        if name.startswith("hf-hub:"):
            repository = name.removeprefix("hf-hub:")
            if revision is not None:  # open_clip reads the main branch only; a snapshot is a folder
                commit = find_model(
                    repository, "CLIP model", REMEDY, revision=revision, file="open_clip_config.json"
                ).commit
                place = f"local-dir:{_snapshot(repository, str(commit))}"
        elif revision is not None:
            raise ValueError(f"only hf-hub: models have revisions; {name!r} with revision {revision!r} is not one")
        elif name.startswith("local-dir:"):
            label = find_model(
                name.removeprefix("local-dir:"), "CLIP model", REMEDY, file="open_clip_config.json"
            ).label
        else:
            place, _, pretrained = name.partition("/")
            label = f"{place} {pretrained}"
            if not pretrained:
                known = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none: no such model"
                raise ValueError(f"which weights of the CLIP model {name!r}? Give {name}/WEIGHTS; known: {known}")
        try:
            self.model, self.transform = open_clip.create_model_from_pretrained(place, pretrained, device=self.device)
            self.tokenizer = open_clip.get_tokenizer(place)
        except (OSError, RuntimeError) as error:
            raise FileNotFoundError(f"cannot load the CLIP model {name!r}: {first_line(error)}. {REMEDY}") from error
        self.model.eval()
        self.context = int(self.tokenizer.context_length)
        self.provenance = {
            "encoder": f"CLIP {label}",
            "weights": weights_digest(self.model),
            "dtype": dtype,
            **({"revision": commit} if commit else {}),
        }
        self.dim = self.texts([""]).shape[1]

    def images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """``[b, d]`` float32 of norm 1."""
        import torch

        with computing(self.device, self.dtype):
            pixels = torch.stack([self.transform(image) for image in images]).to(self.device)  # [b, 3, H, W]
            return _unit(self.model.encode_image(pixels).float().cpu().numpy())

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """``[b, d]`` float32 of norm 1; what is longer than the tower's context is cut off."""
        with computing(self.device, self.dtype):
            tokens = self.tokenizer(list(texts)).to(self.device)  # [b, context]
            return _unit(self.model.encode_text(tokens).float().cpu().numpy())


def _snapshot(repository: str, commit: str) -> str:
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.txt", "*.model"]
    try:
        for weights in ("*.safetensors", "*.bin"):  # the same once more in another format is not wanted
            folder = snapshot_download(repository, revision=commit, allow_patterns=[*patterns, weights])
            if any(Path(folder).glob(weights)):
                break
    except OSError as error:
        raise FileNotFoundError(f"cannot load the CLIP model {repository!r}: {first_line(error)}. {REMEDY}") from error
    return folder


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def check_template(template: str) -> str:
    """A prompt with a place for the text.

    Raises:
        ValueError: it has none, or several.
    """
    if template.count("{}") != 1:
        raise ValueError(f"the template {template!r} needs one {{}}, where the text goes")
    return template
