"""Sounds of an item through an audio encoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from seqmm.data.item_files import Unreadable
from seqmm.features.extractors.multimodal import BLOCK
from seqmm.features.shards import Found

if TYPE_CHECKING:
    from seqmm.features.encoders.audio import AudioEncoder
    from seqmm.features.readers.sounds import AudioFiles
    from seqmm.features.shards import Transform


class Audio:
    """A vector an item: its sound file through an audio encoder.

    Args:
        encoder: of sounds.
        files: sounds by item id; an item's first is read.
    """

    kind: Literal["dense"] = "dense"
    columns: tuple[str, ...] = ()
    transform: Transform | None = None

    def __init__(self, encoder: AudioEncoder, files: AudioFiles):
        self.encoder, self.files, self.dim = encoder, files, encoder.dim
        self.provenance, self.source = {**encoder.provenance, "unit": "item"}, {"sounds": files.digest()}

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
