"""Counter-based randomness: every draw is a pure function of integers.

A draw from ``(seed, epoch, row, k)`` needs no state, so it is the same for any number of processes or workers, and a
resumed run repeats it. The mixer is SplitMix64 (Steele, Lea and Flood, OOPSLA 2014). The numpy and the torch variant
give the same bits, on any device.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

_GOLDEN, _MIX1, _MIX2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_INT64 = 1 << 63
_UINT64 = (1 << 64) - 1


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(_MIX1)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(_MIX2)
    return x ^ (x >> np.uint64(31))


def _mix_int(state: int, value: int) -> int:
    x = (state ^ value & _UINT64) + _GOLDEN & _UINT64
    x = (x ^ x >> 30) * _MIX1 & _UINT64
    x = (x ^ x >> 27) * _MIX2 & _UINT64
    return x ^ x >> 31


def hash_ints(*keys: int | str | np.ndarray) -> np.ndarray:
    """Mixes integers (broadcast against each other) into uint64 hashes. A string key names a stream ("negatives")."""
    state: int | np.ndarray = 0
    with np.errstate(over="ignore"):
        for key in keys:
            value = zlib.crc32(key.encode()) if isinstance(key, str) else key
            if isinstance(state, int) and isinstance(value, int):
                state = _mix_int(state, value)  # Python's integers: numpy's scalars take ten times as long
            else:
                state = _mix(
                    (np.uint64(state) ^ np.asarray(value).astype(np.int64).astype(np.uint64)) + np.uint64(_GOLDEN)
                )
    return np.asarray(state, dtype=np.uint64)


def hash_uniform(*keys: int | str | np.ndarray) -> np.ndarray:
    """Uniform float64 in [0, 1), one for each broadcast combination of ``keys``."""
    return (hash_ints(*keys) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def derive_seed(*keys: int | str) -> int:
    """One seed in [0, 2^63) for ``torch.Generator.manual_seed`` from any number of keys."""
    return int(hash_ints(*keys) >> np.uint64(1))


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= _INT64 else value


def _shift(x: torch.Tensor, bits: int) -> torch.Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)  # logical shift: torch has no uint64 arithmetic


def torch_hash(*keys: int | str | torch.Tensor) -> torch.Tensor:
    """:func:`hash_ints` on torch tensors (int64 holding the same 64 bits); at least one key must be a tensor."""
    import torch

    device = next(key.device for key in keys if isinstance(key, torch.Tensor))
    state = torch.zeros((), dtype=torch.int64, device=device)
    for key in keys:
        value = zlib.crc32(key.encode()) if isinstance(key, str) else key
        x = (state ^ value) + _signed(_GOLDEN)
        x = (x ^ _shift(x, 30)) * _signed(_MIX1)
        x = (x ^ _shift(x, 27)) * _signed(_MIX2)
        state = x ^ _shift(x, 31)
    return state


def torch_uniform(*keys: int | str | torch.Tensor) -> torch.Tensor:
    """Uniform float32 in [0, 1) for each broadcast combination of ``keys``; the twin of :func:`hash_uniform`."""
    import torch

    return _shift(torch_hash(*keys), 40).to(torch.float32) * 2.0**-24


def step_generator(seed: torch.Tensor, stream: int | str, device: torch.device | None = None) -> torch.Generator:
    """A generator for noise over full tables inside a forward, the same on all ranks.

    Args:
        seed: the batch's ``step_seed``; read as a number, so one on a GPU is waited for.
        stream: names the draw, so that two draws of one step differ.
        device: where the draws are wanted; None = the seed's.
    """
    import torch

    generator = torch.Generator(seed.device if device is None else device)
    return generator.manual_seed(derive_seed(int(seed), stream))
