"""What all encoders share: where a model is, how it is loaded, device and precision, pooling, the weights' digest.

An encoder is a plain class with ``dim``, ``provenance`` (whatever decides its numbers, never a path), and a call that
maps a list of inputs to float32 rows. It is deterministic, and what it gives for a list depends on that list alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from seqmm.hub.access import quietly
from seqmm.names import EncoderPrecision

if TYPE_CHECKING:
    from torch import Tensor, nn


class Source(NamedTuple):
    """Where a model is."""

    place: str
    """A folder, or a Hub id."""
    label: str
    """Its name in a provenance: no path, which differs between machines."""
    commit: str | None = None
    """Of a Hub repository."""

    @property
    def provenance(self) -> dict[str, str]:
        return {"encoder": self.label, **({"revision": self.commit} if self.commit else {})}


def find_model(name: str, what: str, remedy: str, *, revision: str | None = None, file: str = "config.json") -> Source:
    """A model's folder or Hub repository, whose revision is resolved to a commit.

    Args:
        name: a folder, or a Hub id.
        what: the kind of model, for the error.
        remedy: what to do offline, for the error.
        revision: branch, tag or commit of a Hub repository.
        file: one that every such model has.

    Raises:
        FileNotFoundError: no such folder or repository, or the Hub is out of reach.
        ValueError: a revision of a folder.
    """
    if Path(name).is_dir():
        if revision is not None:
            raise ValueError(f"{name} is a folder and has no revision {revision!r}; give a Hub id, or no revision")
        if not (Path(name) / file).is_file():
            raise FileNotFoundError(f"{name} holds no {what}: no {file} in it. {remedy}")
        return Source(name, Path(name).resolve().name)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise FileNotFoundError(f"no folder {name} with a {what}. {remedy}")

    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError

    try:
        found = Path(hf_hub_download(name, file, revision=revision))
    except (OSError, HFValidationError) as error:
        raise FileNotFoundError(f"cannot load the {what} {name!r}: {first_line(error)}. {remedy}") from error
    return Source(name, name, found.parent.name)  # …/snapshots/<commit>/config.json


def load_model(
    loader: Any, source: Source, what: str, remedy: str, *, dtype: Any = None, **options: Any
) -> tuple[Any, frozenset[str]]:
    """A pretrained transformers model in evaluation mode, and its tensors that the checkpoint lacks.

    These are random. A pooler is often among them (a masked language model has none); anything else is an error.

    Args:
        loader: an ``AutoModel…`` class.
        source: from :func:`find_model`.
        what: the kind of model, for the error.
        remedy: what to do instead, for the error.
        dtype: of the weights; None = float32, whatever the checkpoint's is.
        options: of ``from_pretrained``.

    Raises:
        FileNotFoundError: the weights cannot be had.
        ValueError: they are not this model's.
    """
    import torch

    try:
        with quietly():  # what is missing is returned; unused heads are no news
            model, info = loader.from_pretrained(
                source.place, revision=source.commit, dtype=dtype or torch.float32, output_loading_info=True, **options
            )
    except OSError as error:
        raise FileNotFoundError(f"cannot load the {what} {source.label!r}: {first_line(error)}. {remedy}") from error
    missing = frozenset(info["missing_keys"])
    wrong = sorted(
        {name for name in missing if "pooler" not in name.split(".")} | {str(k) for k in info["mismatched_keys"]}
    )
    if wrong:
        raise ValueError(
            f"{source.label} has no weights for {len(wrong)} tensors of a {what}, {wrong[0]} first. {remedy}"
        )
    return model.eval(), missing


def first_line(error: Exception) -> str:
    """Of its message; the Hub's go on over many lines."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")


def choose_device(device: str | None) -> str:
    """The device named, or a GPU if there is one."""
    import torch

    return device or ("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def computing(device: str, dtype: EncoderPrecision) -> Iterator[None]:
    """Without gradients, and under autocast if the precision is bfloat16."""
    import torch

    if dtype not in ("float32", "bfloat16"):
        raise ValueError(f"an encoder computes in float32 or bfloat16, not {dtype!r}")
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        if dtype == "bfloat16":
            stack.enter_context(torch.autocast(torch.device(device).type, torch.bfloat16))
        yield


def masked_mean(states: Tensor, mask: Tensor) -> Tensor:
    """Mean over the positions kept, in float32: ``[b, t, d], [b, t] -> [b, d]``; 0 where none is."""
    weight = mask.to(states.device).float().unsqueeze(-1)  # [b, t, 1]
    return (states.float() * weight).sum(1) / weight.sum(1).clamp(min=1)


def settings_digest(settings: Mapping[str, Any]) -> str:
    """First 16 hex digits of sha256 over named settings (sizes, means): they decide the numbers as weights do."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def weights_digest(model: nn.Module, without: Collection[str] = ()) -> str:
    """First 16 hex digits of sha256 over a model's tensors in order: the same for any storage format.

    Args:
        model: any.
        without: names of tensors left out (random ones that are not used).
    """
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if name in without:
            continue
        digest.update(name.rsplit(".", 1)[-1].encode() + str(tuple(tensor.shape)).encode())
        digest.update(tensor.detach().cpu().flatten().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
