"""Nested values as JSON, their tensors beside them; what comes back is what was put in, types included."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def pack(value: Any, tensors: dict[str, Tensor], name: str) -> Any:
    """Plain values that JSON holds; tensors go into ``tensors``, by names that begin with ``name``.

    Args:
        value: None, a number, text, a tensor, or lists, tuples, dicts and Counters of such.
        tensors: gets those of the value.
        name: of the value, also for the error.

    Raises:
        ValueError: something else is in it; the text names it.
    """
    if value is None or type(value) in (bool, int, str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": str(float(value))}
    if isinstance(value, Tensor) and value.layout == torch.strided:
        tensors[name] = value.detach()
        return {"tensor": name, "on": "cpu" if value.device.type == "cpu" else "device"}
    if type(value) in (list, tuple):
        items = [pack(each, tensors, f"{name}.{number}") for number, each in enumerate(value)]
        return items if type(value) is list else {"tuple": items}
    if isinstance(value, dict):
        if odd := [key for key in value if type(key) not in (str, int, bool, type(None))]:
            raise ValueError(
                f"{name} has the key {odd[0]!r}, and a training state holds keys of text and numbers alone"
            )
        kind = "counter" if isinstance(value, Counter) else "dict"
        return {kind: [[key, pack(each, tensors, f"{name}.{key}")] for key, each in value.items()]}
    what = f"{value.layout} tensor" if isinstance(value, Tensor) else type(value).__name__
    raise ValueError(
        f"{name} is a {what}, which a training state cannot hold (dense tensors, numbers, text, None, and lists, "
        "tuples and dicts of them); keep it out of the state_dict, or as one of these"
    )


def unpack(packed: Any, tensors: Mapping[str, Tensor], device: torch.device) -> Any:
    """What :func:`pack` was given; tensors that were not on the CPU are on ``device``.

    Raises:
        ValueError, KeyError: it is not what :func:`pack` gives.
    """
    if packed is None or isinstance(packed, bool | int | float | str):
        return packed
    if isinstance(packed, list):
        return [unpack(each, tensors, device) for each in packed]
    if not isinstance(packed, dict) or not packed:
        raise ValueError(f"{packed!r} is no packed value")
    if "tensor" in packed:
        tensor = tensors[packed["tensor"]]
        return tensor.clone() if packed.get("on") == "cpu" else tensor.to(device, copy=True)
    ((kind, held),) = packed.items()
    if kind == "float" and held in ("nan", "inf", "-inf"):
        return float(held)
    if kind == "tuple":
        return tuple(unpack(each, tensors, device) for each in held)
    if kind in ("dict", "counter"):
        made = {key: unpack(each, tensors, device) for key, each in held}
        return made if kind == "dict" else Counter(made)
    raise ValueError(f"{kind!r} is no kind of packed value")
