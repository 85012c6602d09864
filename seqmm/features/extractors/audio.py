"""audio: a vector of an item's sound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from seqmm.data.item_files import Unreadable
from seqmm.features.encoders.audio import AudioEncoder
from seqmm.features.extractor import Extractor, Found
from seqmm.features.readers.products import BLOCK
from seqmm.features.readers.sounds import MAX_SECONDS, AudioFiles
from seqmm.features.tools import Tools
from seqmm.names import AudioPooling
from seqmm.options import OptionError, Options, option
from seqmm.registry import register


@dataclass(frozen=True)
class AudioOptions(Options):
    """Options of audio."""

    audio: tuple[Path, ...] = option(
        (), "Folders or tar files with the items' sounds, <item id>.wav (.flac, .ogg, .mp3)."
    )
    audio_encoder: str = option("facebook/wav2vec2-base", "An audio model of transformers: folder or Hub id.")
    audio_revision: str | None = option(None, "Hub revision of the audio encoder.")
    audio_pooling: AudioPooling = option(
        "mean", "How a sound becomes one vector: the mean over frames, or the audio encoder's own pooler (AST, CLAP)."
    )
    audio_seconds: float = option(MAX_SECONDS, "Seconds of a sound that are read.", above=0)

    def check(self) -> None:
        """See :meth:`seqmm.options.Options.check`."""
        super().check()
        if not self.audio:
            raise OptionError(type(self).__name__, "audio", " is needed: folders or tar files of <item id>.wav")


@register
class Audio(Extractor):
    """A vector of the item's sound through an audio encoder.

    Args:
        encoder: of sounds.
        files: sounds by item id; an item's first is read.
    """

    name: ClassVar[str] = "audio"
    options_class: ClassVar[type[Any]] = AudioOptions

    def __init__(self, encoder: AudioEncoder, files: AudioFiles):
        self.encoder, self.files, self.dim = encoder, files, encoder.dim
        self.provenance, self.source = {**encoder.provenance, "unit": "item"}, {"sounds": files.digest()}

    @classmethod
    def make(cls, options: AudioOptions, tools: Tools) -> Audio:
        """See :meth:`seqmm.features.extractor.Extractor.make`."""
        files = AudioFiles(options.audio, tools.ids)
        encoder = tools.load(
            AudioEncoder,
            options.audio_encoder,
            pooling=options.audio_pooling,
            seconds=options.audio_seconds,
            revision=options.audio_revision,
        )
        return cls(encoder, files)

    def __call__(self, rows: list[dict[str, Any]], advance: Callable[[int], object]) -> list[Found]:
        empty = np.zeros((0, self.dim), np.float32)
        found = []
        for start in range(0, len(rows), BLOCK):
            sounds, notes = [], []
            for row in rows[start : start + BLOCK]:
                places = self.files.places(row["id"])
                notes.append("" if places else "no sound")
                if places:
                    try:
                        sounds.append(self.encoder.read(self.files.open(places[0])))
                    except Unreadable as error:
                        notes[-1] = f"broken sound: {places[0].name}: {error}"
            vectors = iter(self.encoder(sounds) if sounds else empty)
            found += [Found(empty if note else next(vectors)[None], note) for note in notes]
            advance(len(notes))
        return found
