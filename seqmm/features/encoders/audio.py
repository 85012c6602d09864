"""Sound to vectors: any audio encoder of transformers."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from seqmm.features.encoders.loading import (
    choose_device,
    computing,
    find_model,
    first_line,
    load_model,
    settings_digest,
    weights_digest,
)
from seqmm.features.readers.sounds import MAX_SECONDS, waveform
from seqmm.names import AudioPooling, EncoderPrecision

REMEDY = "Offline, give a model's folder"

_BY_FRAME = frozenset({"data2vec-audio", "hubert", "sew", "sew-d", "unispeech", "unispeech-sat", "wav2vec2",
                       "wav2vec2-bert", "wav2vec2-conformer", "wavlm"})  # fmt: skip
"""Models whose states are the sound's frames and nothing else, if it is not padded."""


class AudioEncoder:
    """An audio model of transformers: wav2vec 2.0, HuBERT, WavLM, Whisper's encoder, AST, CLAP's audio tower …

    Sounds of one length are encoded together and none is padded to another's, so a vector depends on its sound alone
    also for models that were trained without an attention mask.

    Args:
        name: Hub id or folder.
        pooling: ``mean`` over the sound's frames (wav2vec 2.0 and its kin, Whisper), or ``pooler``: the model's own
            pooled output (AST, CLAP's audio tower).
        layer: index into the hidden states; -1 = the last, after its final norm.
        seconds: a sound's first seconds that are read.
        loop: repeat shorter sounds until they are so long.
        batch_size: sounds of a batch.
        revision: Hub revision.
        device: torch device; None = a GPU if there is one.
        dtype: precision of the computation.

    Raises:
        FileNotFoundError: the weights cannot be had.
        ValueError: the model has no such pooling or layer; its feature extractor holds less than ``seconds``.
    """

    def __init__(
        self,
        name: str,
        *,
        pooling: AudioPooling = "mean",
        layer: int = -1,
        seconds: float = MAX_SECONDS,
        loop: bool = False,
        batch_size: int = 8,
        revision: str | None = None,
        device: str | None = None,
        dtype: EncoderPrecision = "float32",
    ):
        from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

        if pooling == "pooler" and layer != -1:
            raise ValueError(f"the pooler belongs to the last layer; with layer {layer} give pooling 'mean'")
        self.device, self.dtype, self.pooling, self.layer = choose_device(device), dtype, pooling, layer
        self.seconds, self.loop, self.batch_size = seconds, loop, batch_size
        source = find_model(name, "audio encoder", REMEDY, revision=revision)
        try:
            config = AutoConfig.from_pretrained(source.place, revision=source.commit)
            self.extractor: Any = AutoFeatureExtractor.from_pretrained(source.place, revision=source.commit)
        except OSError as error:
            raise FileNotFoundError(f"cannot load the audio encoder {name!r}: {first_line(error)}. {REMEDY}") from error
        self.kind = config.model_type
        settings = self.extractor.to_dict()
        if pooling == "mean" and self.kind not in {*_BY_FRAME, "whisper"}:
            raise ValueError(f"which states of a {self.kind} are padding is not known; give pooling 'pooler'")
        if settings.get("truncation") == "fusion":
            raise ValueError(
                f"{source.label} hears one sound of a batch, drawn at random, as a long one; give a CLAP without fusion"
            )
        model, missing = load_model(AutoModel, source, "audio encoder", REMEDY)
        if missing and pooling == "pooler":
            raise ValueError(f"{source.label} has a pooler without trained weights; give pooling 'mean'")
        if self.kind == "whisper":
            model = model.get_encoder()
        elif self.kind == "clap":
            model = model.audio_model
        self.model = model.to(self.device).eval()
        self.rate = int(self.extractor.sampling_rate)
        holds = settings.get("chunk_length") or settings.get("max_length_s")
        if holds and seconds > holds:
            raise ValueError(f"{source.label} hears {holds} s at a time, not {seconds}; give at most so many seconds")
        self.provenance = {
            **source.provenance,
            "weights": weights_digest(self.model, missing),
            "pooling": f"{pooling} of frames" if pooling == "mean" else pooling,
            "layer": str(layer),
            "seconds": f"first {seconds:g}" + (", looped" if loop else ""),
            "rate": str(self.rate),
            "dtype": dtype,
            "preprocessing": settings_digest({key: settings.get(key) for key in _PREPROCESSING}),
        }
        try:
            self.dim = self([np.zeros(round(min(seconds, 1.0) * self.rate), np.float32)]).shape[1]
        except IndexError as error:
            raise ValueError(f"{source.label} has no layer {layer}") from error

    def read(self, content: bytes) -> np.ndarray:
        """A sound file's bytes as :meth:`__call__` wants them: :func:`waveform`."""
        return waveform(content, self.rate, seconds=self.seconds, loop=self.loop)

    def __call__(self, sounds: Sequence[np.ndarray]) -> np.ndarray:
        """Waveforms ``[n]`` out of :meth:`read` to ``[b, d]`` float32."""
        lengths: defaultdict[int, list[int]] = defaultdict(list)
        for row, sound in enumerate(sounds):
            lengths[len(sound)].append(row)
        vectors: dict[int, np.ndarray] = {}
        with computing(self.device, self.dtype):
            for length, rows in lengths.items():
                for start in range(0, len(rows), self.batch_size):
                    part = rows[start : start + self.batch_size]
                    vectors.update(zip(part, self._encode([sounds[row] for row in part], length), strict=True))
        return np.stack([vectors[row] for row in range(len(sounds))])

    def _encode(self, sounds: list[np.ndarray], length: int) -> np.ndarray:
        """Sounds of one length."""
        inputs = self.extractor(sounds, sampling_rate=self.rate, return_tensors="pt").to(self.device)
        output = self.model(**inputs, output_hidden_states=self.layer != -1)
        if self.pooling == "pooler":
            if output.get("pooler_output") is None:
                raise ValueError(f"{self.provenance['encoder']} has no pooler; give pooling 'mean'")
            return output.pooler_output.float().cpu().numpy()
        states = output.last_hidden_state if self.layer == -1 else output.hidden_states[self.layer]  # [b, t, d]
        if self.kind == "whisper":  # it pads all to 30 s; a state is two steps of the spectrogram
            states = states[:, : math.ceil(length / self.extractor.hop_length / 2)]
        return states.float().mean(1).cpu().numpy()


_PREPROCESSING = (
    "sampling_rate", "feature_size", "do_normalize", "return_attention_mask", "padding_value", "num_mel_bins",
    "max_length", "mean", "std", "hop_length", "n_fft", "chunk_length", "max_length_s", "truncation", "padding",
    "frequency_min", "frequency_max", "stride",
)  # fmt: skip
