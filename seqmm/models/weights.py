"""The two files of a checkpoint as they are read: nothing is run, and nothing is filled in that is not there."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seqmm.files import read_json, writing
from seqmm.names import SHOWN, brief, first_difference, nearest
from seqmm.options import plain_values

logger = logging.getLogger(__name__)

FORMAT = 1
"""Of the checkpoints that are written; ``seqmm_format`` of config.json."""
CONFIG, WEIGHTS = "config.json", "model.safetensors"
MADE_BY = "seqmm"
"""Key of a weights file's metadata: the settings of the model whose weights they are."""
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".h5", ".msgpack")
"""Endings of other weights, of which most run code when they are read."""
WRITTEN_BY_TRANSFORMERS = frozenset(("architectures", "dtype", "model_type", "torch_dtype", "transformers_version"))
"""What config.json holds beside a config's own fields; more of what transformers knows (kernels, quantisers, other
configuration files) could fetch or run something."""


# -- config.json -------------------------------------------------------------------------------------------------------


def read_run_file(file: Path) -> dict[str, Any]:
    """A JSON file of a run's folder.

    Raises:
        FileNotFoundError, ValueError: naming the file.
    """
    return read_json(file, dict[str, Any], "not a trained model's folder", "the checkpoint is damaged, copy it again")


def config_values(directory: Path) -> dict[str, Any]:
    """What config.json holds, of the format that is read here.

    Raises:
        FileNotFoundError, ValueError: naming the file.
    """
    file = directory / CONFIG
    values = read_run_file(file)
    made = values.get("seqmm_format", FORMAT)
    if type(made) is not int or made < 1:
        raise ValueError(f"{file}: seqmm_format is {made!r}, not a number from 1 on; copy the checkpoint again")
    if made > FORMAT:
        raise ValueError(
            f"{file}: made by a newer seqmm (checkpoint format {made}, this one reads up to {FORMAT}); "
            "update it: pip install -U seqmm"
        )
    return values


def read_config(directory: Path, config_class: Any, **changed: Any) -> Any:
    """The config of a checkpoint folder, which must be of that class.

    Args:
        directory: of the checkpoint.
        config_class: of the model.
        changed: fields to have other values.

    Raises:
        FileNotFoundError, ValueError: naming the file.
    """
    file, values = directory / CONFIG, config_values(directory)
    if values.get("model_type") != config_class.model_type:
        raise ValueError(f"{file} is of a {values.get('model_type')}, not of a {config_class.model_type}")
    known = set(config_class.own_fields()) | WRITTEN_BY_TRANSFORMERS
    if strange := sorted(set(values) - known):
        near = nearest(strange[0], known)
        hint = near if "did you mean" in near else "; remove it"
        raise ValueError(
            f"{file}: unknown key {brief(strange[0], 80)}; a {config_class.model_type} has none such{hint}"
        )
    try:
        return config_class.from_dict(values | changed)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


# -- model.safetensors -------------------------------------------------------------------------------------------------


@contextmanager
def explain_damage(directory: Path) -> Iterator[None]:
    """Turns what safetensors says of a truncated file into a ValueError that names it."""
    from safetensors import SafetensorError

    try:
        yield
    except (SafetensorError, OSError) as error:
        weights = directory / WEIGHTS
        raise ValueError(f"{weights} cannot be read ({error}); it is truncated or damaged, copy it again") from error


def write_weights(directory: Path, model: Any, tensors: Mapping[str, Tensor]) -> None:
    """Writes the weights file, in one rename, with whose they are in it: another model's config is then noticed."""
    from safetensors.torch import save_file

    plain = {key: tensor.detach().contiguous() for key, tensor in tensors.items()}
    with writing(directory / WEIGHTS) as temporary:
        save_file(plain, temporary, {"format": "pt", MADE_BY: json.dumps(signature(type(model), model.config))})
        _order_metadata(temporary)


def signature(cls: type, config: Any) -> dict[str, Any]:
    """What the weights of a model belong to: its class, its options, the sizes and features it was made for."""
    sizes = {name: getattr(config, name) for name in ("num_users", "num_items", "feature_order")}
    named = {"model_type": config.model_type, "architecture": cls.__name__}
    whole: dict[str, Any] = json.loads(json.dumps(named | sizes | plain_values(config)))
    return whole


def weights_for(cls: Any, config: Any, directory: Path, *, signed: bool = True) -> dict[str, Tensor]:
    """The weights of a checkpoint folder by key, all of a ``cls`` of ``config``: see :func:`read_weights`.

    Args:
        cls: of the model.
        config: of the model.
        directory: of the checkpoint.
        signed: whether they must be of a model with these settings, if they say of which they are.

    Raises:
        FileNotFoundError, ValueError: naming the file, and the tensors.
    """
    from safetensors import safe_open

    file = find_weights(directory)
    if others := _other_weights(directory):
        logger.warning("%s: %s is not read, only %s is", directory, others, WEIGHTS)
    if signed:
        with explain_damage(directory), safe_open(file, framework="pt") as stored:
            _check_signature(file, stored.metadata() or {}, signature(cls, config))
    try:
        with torch.device("meta"):
            outline = cls(config)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError) as error:
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ValueError(f"{directory / CONFIG} describes no {cls.__name__} that can be made ({what})") from error
    return read_weights(directory, outline)


def read_weights(directory: Path, outline: nn.Module) -> dict[str, Tensor]:
    """The weights of a checkpoint folder by key: all of a model's, no other, each of its shape and finite.

    Args:
        directory: of the checkpoint.
        outline: the model they are for, on any device ("meta" will do).

    Raises:
        FileNotFoundError, ValueError: naming the file, and the tensors.
    """
    from safetensors import safe_open

    file, expected = find_weights(directory), outline.state_dict()
    with explain_damage(directory), safe_open(file, framework="pt") as stored:
        shapes = {key: tuple(stored.get_slice(key).get_shape()) for key in stored.keys()}  # noqa: SIM118 (no mapping)
        _check_outline(file, shapes, expected)
        # a copy: the file may be replaced while the model lives
        weights = {key: stored.get_tensor(key).clone() for key in shapes}
    wrong = [
        f"{key} is {weight.dtype}, not {expected[key].dtype}"
        for key, weight in weights.items()
        if weight.dtype != expected[key].dtype and not _both_real(weight, expected[key])
    ]
    wrong += [said for key, weight in weights.items() if (said := _not_finite(key, weight))]
    if wrong:
        raise ValueError(f"{file}: {_some(wrong)}; the checkpoint is damaged, copy it again or train the model again")
    return weights


def find_weights(directory: Path) -> Path:
    """The weights file of a checkpoint folder.

    Raises:
        FileNotFoundError: there is none; the text names what lies there instead.
    """
    if (directory / WEIGHTS).is_file():
        return directory / WEIGHTS
    instead = "not a trained model's folder"
    if others := _other_weights(directory):
        instead = (
            f"{others} is not read, since pickles may run code and weights in several files may lie anywhere. Load it "
            f"with what wrote it, and save it whole (model.save_pretrained)"
        )
    raise FileNotFoundError(f"{directory} holds no {WEIGHTS}: {instead}")


def _order_metadata(file: Path) -> None:
    """Puts a file's metadata in the order of their keys, which safetensors draws anew for every file it writes."""
    with file.open("r+b") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(size)
        if len(text) != size:
            raise RuntimeError(f"the header of {file} is written otherwise than safetensors does; report it")
        stream.seek(8)
        stream.write(text)


def _other_weights(directory: Path) -> str:
    """Names of files that other programs keep weights in."""
    names = sorted(each.name for each in directory.glob("*") if not each.name.startswith("."))
    found = [name for name in names if name.endswith(PICKLES) or "safetensors.index" in name]
    return ", ".join(found[:SHOWN])


def _check_signature(file: Path, metadata: Mapping[str, str], mine: Mapping[str, Any]) -> None:
    """Whether config.json is that of the weights; weights that another program wrote do not say."""
    if MADE_BY not in metadata:
        return
    try:
        theirs = json.loads(metadata[MADE_BY])
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{file}: its metadata is not valid JSON ({error}); copy the checkpoint again") from error
    both = [key for key in mine if key in theirs] if isinstance(theirs, dict) else []  # an option may be newer
    if changed := first_difference({key: theirs[key] for key in both}, {key: mine[key] for key in both}):
        what, was, now = changed
        raise ValueError(
            f"{file} holds weights made with {what} {was!r}, but {CONFIG} beside it says {now!r}: it is another "
            "model's, or was changed by hand; copy both files of one checkpoint"
        )


def _check_outline(file: Path, found: Mapping[str, tuple[int, ...]], expected: Mapping[str, Tensor]) -> None:
    """Raises ValueError unless the names and shapes are the model's."""
    lacking, more = (sorted(one.keys() - other.keys()) for one, other in ((expected, found), (found, expected)))
    shapes = {key: (shape, tuple(expected[key].shape)) for key, shape in found.items() if key in expected}
    other = [f"{key} is {was}, not {right}" for key, (was, right) in sorted(shapes.items()) if was != right]
    parts = [f"lacks {_some(lacking)}"] * bool(lacking) + [f"has {_some(more)} besides"] * bool(more)
    parts += [f"has other shapes: {_some(other)}"] * bool(other)
    if parts:
        raise ValueError(
            f"{file} does not hold the weights of the model that {CONFIG} beside it describes: it {'; it '.join(parts)}"
            ". Copy both files of one checkpoint, or train the model again"
        )


def _both_real(one: Tensor, other: Tensor) -> bool:
    return all(each.dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16) for each in (one, other))


def _not_finite(key: str, weight: Tensor) -> str:
    """Where a tensor is NaN or infinite; "" if nowhere."""
    # the extremes tell, without a mask as large as the tensor
    if not weight.is_floating_point() or not weight.numel() or bool(torch.stack(weight.aminmax()).isfinite().all()):
        return ""
    places = (~weight.isfinite()).nonzero()
    first = places[0].tolist()
    return f"{key}{first} is {weight[tuple(first)].item()}" + f" ({len(places):,} such values)" * (len(places) > 1)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
