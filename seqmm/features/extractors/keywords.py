"""Keywords of an item's images, encoded as text (MSM4SR)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from seqmm.features.encoders.images import encode_images
from seqmm.features.encoders.taggers import TOP_WORDS, rank_words
from seqmm.features.encoders.text import Encoder
from seqmm.features.extractors.text import encoded
from seqmm.features.readers.images import MAX_FRAMES
from seqmm.features.shards import Found

if TYPE_CHECKING:
    from seqmm.data.item_images import ImageFiles
    from seqmm.features.encoders.taggers import ClipTagger, ImageNetTagger
    from seqmm.features.shards import Transform


class ImageKeywords:
    """A vector for each of an item's images: the words CLIP sees in it, encoded as one text (MSM4SR).

    Args:
        tagger: CLIP.
        encoder: of texts.
        files: images by item id.
        vocabulary: the words to choose from; encoded once.
        top: words an image gets.
        limit: images read of an item, evenly spaced where there are more.
    """

    kind: Literal["ragged"] = "ragged"
    columns: tuple[str, ...] = ()
    transform: Transform | None = None

    def __init__(
        self,
        tagger: ClipTagger,
        encoder: Encoder,
        files: ImageFiles,
        vocabulary: Sequence[str],
        top: int = TOP_WORDS,
        limit: int = MAX_FRAMES,
    ):
        self.tagger, self.encoder, self.files, self.vocabulary, self.top = tagger, encoder, files, vocabulary, top
        self.limit, self.dim = limit, encoder.dim
        self.words = tagger.words(vocabulary)  # [V, d]
        self.provenance = _keywords_provenance(tagger, encoder, top)
        self.source = _keywords_source(files, vocabulary, limit)

    def __call__(self, rows: list[dict[str, Any]], advance: Callable[[int], object]) -> list[Found]:
        ids = [row["id"] for row in rows]
        seen, notes = encode_images(
            self.tagger.see, self.tagger.dim, self.files, ids, limit=self.limit, advance=advance
        )
        flat = np.concatenate(seen)
        words = rank_words(flat, self.words, self.vocabulary, self.top)
        strings = iter([" ".join(row) for row in words])
        texts = [[next(strings) for _ in part] for part in seen]
        found = encoded(texts, self.encoder, lambda count: None, "")
        return [Found(part.vectors, note, text) for part, note, text in zip(found, notes, texts, strict=True)]


class ImageNetKeywords:
    """The same where no CLIP weights can be had: the words nearest to an ImageNet classifier's classes.

    A shard holds class probabilities; they are weighed against those of all images at the end.

    Args: as of :class:`ImageKeywords`.
    """

    kind: Literal["ragged"] = "ragged"
    columns: tuple[str, ...] = ()

    def __init__(
        self,
        tagger: ImageNetTagger,
        encoder: Encoder,
        files: ImageFiles,
        vocabulary: Sequence[str],
        top: int = TOP_WORDS,
        limit: int = MAX_FRAMES,
    ):
        self.tagger, self.files, self.limit, self.dim = tagger, files, limit, tagger.dim
        self.transform = ClassesToWords(tagger, encoder, vocabulary, top)
        self.provenance = _keywords_provenance(tagger, encoder, top)
        self.source = _keywords_source(files, vocabulary, limit)

    def __call__(self, rows: list[dict[str, Any]], advance: Callable[[int], object]) -> list[Found]:
        ids = [row["id"] for row in rows]
        seen, notes = encode_images(self.tagger.see, self.dim, self.files, ids, limit=self.limit, advance=advance)
        return [Found(part, note) for part, note in zip(seen, notes, strict=True)]


class ClassesToWords:
    """Class probabilities of all images to encoded words, by :class:`ImageNetTagger`'s two means."""

    passes = 2

    def __init__(self, tagger: ImageNetTagger, encoder: Encoder, vocabulary: Sequence[str], top: int):
        self.tagger, self.encoder, self.vocabulary, self.top, self.dim = tagger, encoder, vocabulary, top, encoder.dim
        self.settings: dict[str, str] = {}
        self.provenance: dict[str, str] = {}
        self._sums: list[Any] = [0.0, 0.0]
        self._counts = [0, 0]
        self._words: np.ndarray | None = None

    def update(self, number: int, vectors: np.ndarray) -> None:
        """See :class:`seqmm.features.shards.Transform`."""
        if len(vectors):
            part = vectors if number == 0 else self.tagger.place(vectors, self._mean(0))
            self._sums[number] += part.sum(0, dtype=np.float64)
            self._counts[number] += len(vectors)

    def end_pass(self, number: int) -> None:
        """See :class:`seqmm.features.shards.Transform`."""
        if number == 1:
            self._words = self.tagger.words(self.vocabulary)  # [V, d]

    def __call__(self, vectors: np.ndarray) -> tuple[np.ndarray, list[str] | None]:
        """``[N, 1000] -> [N, d]`` and the words of each row."""
        assert self._words is not None  # all passes are over
        if not len(vectors):
            return np.zeros((0, self.dim), np.float32), []
        placed = self.tagger.place(vectors, self._mean(0)) - self._mean(1)
        strings = [" ".join(row) for row in rank_words(placed, self._words, self.vocabulary, self.top)]
        return self.encoder.encode(strings, label=None), strings

    def _mean(self, number: int) -> np.ndarray:
        return np.asarray(self._sums[number] / max(self._counts[number], 1), np.float32)


def _keywords_provenance(tagger: ClipTagger | ImageNetTagger, encoder: Encoder, top: int) -> dict[str, str]:
    return {**encoder.provenance, "unit": "keywords", **tagger.provenance, "words": str(top)}


def _keywords_source(files: ImageFiles, vocabulary: Sequence[str], limit: int) -> dict[str, str]:
    listed = hashlib.sha256("\n".join(vocabulary).encode()).hexdigest()[:16]
    return {
        "images": files.digest(),
        "images an item": str(limit),
        "vocabulary": f"{len(vocabulary):,} words, {listed}",
    }
