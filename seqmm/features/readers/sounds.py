"""Sounds by item id, decoded."""

from __future__ import annotations

import io
import math
from typing import ClassVar

import numpy as np

from seqmm.data.item_files import ItemFiles, Unreadable, reading

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")

MAX_SECONDS = 10.0
"""Of a sound; the rest is cut off."""

MIN_SECONDS = 0.1
"""A shorter sound counts as broken: encoders make a frame of 20 to 25 ms."""

RATES = (1_000, 768_000)
"""Samples a second; a header may claim any number, and the resampling filter grows with it."""


MAX_CHANNELS = 64
"""Of a sound; a header may claim any number, and all are unpacked."""


class AudioFiles(ItemFiles):
    """Sounds by item id. See :class:`seqmm.data.item_files.ItemFiles`."""

    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES
    what: ClassVar[str] = "sound"


def waveform(content: bytes, rate: int, *, seconds: float = MAX_SECONDS, loop: bool = False) -> np.ndarray:
    """A sound file's bytes as one channel ``[n]`` float32 at ``rate``, its first ``seconds``.

    Args:
        content: WAV, FLAC, OGG or MP3; channels are averaged.
        rate: samples a second wanted (resampled by a polyphase filter).
        seconds: what is longer is cut off, and not even decoded.
        loop: repeat what is shorter until it is so long.

    Raises:
        ValueError: with a short reason: empty, no sound, shorter than :data:`MIN_SECONDS`, not finite; no soundfile.
    """
    from scipy.signal import resample_poly

    try:
        import soundfile
    except ModuleNotFoundError as error:
        raise ValueError(f'sounds need soundfile ({error}): pip install "seqmm[audio]"') from error
    with reading(content, "sound"), soundfile.SoundFile(io.BytesIO(content)) as file:
        source = file.samplerate
        if not RATES[0] <= source <= RATES[1]:
            raise Unreadable(f"{source} samples a second; {RATES[0]} to {RATES[1]:,} can be used")
        if file.channels > MAX_CHANNELS:
            raise Unreadable(f"{file.channels} channels, more than {MAX_CHANNELS}")
        samples = file.read(math.ceil(seconds * source), dtype="float32", always_2d=True).mean(1)
        if len(samples) < MIN_SECONDS * source:
            raise Unreadable(f"{len(samples) / source:.3f} s of sound, less than {MIN_SECONDS} s")
        if not np.isfinite(samples).all():
            raise Unreadable("samples that are not finite")
    if source != rate:
        common = math.gcd(source, rate)
        samples = resample_poly(samples, rate // common, source // common).astype(np.float32)
    length = round(seconds * rate)
    return np.resize(samples, length) if loop else samples[:length]  # np.resize repeats
