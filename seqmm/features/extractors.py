"""What :func:`seqmm.features.extract.extract` runs over the items: texts, images, keywords, fused vectors, audio.

Each extractor joins a reader of an item's content with an encoder. The encoders know nothing of items.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from seqmm.features.extract import Found, item_columns, item_shards
from seqmm.features.files import Unreadable
from seqmm.features.fused import Product
from seqmm.features.images import MAX_FRAMES, encode_images, frames
from seqmm.features.item_text import (
    SENTENCE_FIELDS,
    Recipe,
    item_sentences,
    item_text,
    sentence_columns,
    text_columns,
    word_drop,
)
from seqmm.features.keywords import TOP_WORDS, rank_words
from seqmm.features.pca import StreamingPca, project
from seqmm.features.text import MAX_SENTENCES, Encoder

if TYPE_CHECKING:
    from seqmm.features.audio import AudioEncoder, AudioFiles
    from seqmm.features.extract import Transform
    from seqmm.features.fused import FusedCaption, FusedEncoder
    from seqmm.features.images import ImageEncoder, ImageFiles
    from seqmm.features.keywords import ClipTagger, ImageNetTagger


class Texts:
    """An item's texts through a text encoder: one vector (dense) or one for each string (ragged).

    Args:
        kind: ``dense``: ``read`` gives one string, or none; ``ragged``: any number.
        encoder: of texts.
        columns: of the items table, which ``read`` reads.
        read: row -> strings.
        unit: what a string is (item, sentence, keywords); part of the provenance.
        text: how it is made of the columns; part of the source.
    """

    transform: Transform | None = None

    def __init__(
        self,
        kind: Literal["dense", "ragged"],
        encoder: Encoder,
        columns: Sequence[str],
        read: Callable[[dict[str, Any]], Sequence[str]],
        *,
        unit: str,
        text: str,
    ):
        self.kind, self.encoder, self.columns, self.read, self.dim = kind, encoder, tuple(columns), read, encoder.dim
        self.provenance, self.source = {**encoder.provenance, "unit": unit}, {"text": text}

    def __call__(self, rows: list[dict[str, Any]], advance: Callable[[int], object]) -> list[Found]:
        return encoded([self.read(row) for row in rows], self.encoder, advance, "no text")


def text_vectors(
    encoder: Encoder,
    have: Sequence[str],
    recipe: Recipe = "plain",
    fields: Sequence[str] | None = None,
    dropped: float = 0.0,
    seed: int = 0,
) -> Texts:
    """One vector an item, of its text by a named recipe (:mod:`seqmm.features.item_text`).

    Args:
        encoder: of texts.
        have: columns of the items table.
        recipe: plain, mmrec or unisrec.
        fields: columns of ``plain``.
        dropped: probability of leaving a word out (UniSRec's second copy: 0.15).
        seed: of the words left out.
    """
    columns, text_of = _text_reader(have, recipe, fields)

    def read(row: dict[str, Any]) -> list[str]:
        text = text_of(row)
        return [word_drop(text, dropped, seed) if dropped else text] if text else []

    how = f"{recipe}: {', '.join(columns)}" + (f"; words dropped with p = {dropped}, seed {seed}" if dropped else "")
    return Texts("dense", encoder, columns, read, unit="item", text=how)


def text_sentences(
    encoder: Encoder, have: Sequence[str], fields: Sequence[str] = SENTENCE_FIELDS, limit: int = MAX_SENTENCES
) -> Texts:
    """A vector for each of an item's first sentences (MSM4SR)."""
    columns = sentence_columns(have, fields)
    how = f"first {limit} of {', '.join(columns)}"
    return Texts("ragged", encoder, columns, lambda row: item_sentences(row, columns, limit), unit="sentence", text=how)


def all_texts(folder: Path, recipe: Recipe = "plain", fields: Sequence[str] | None = None) -> Iterator[str]:
    """The texts of all items one after the other, those without one left out: for TF-IDF, and for a vocabulary."""
    columns, text_of = _text_reader(item_columns(folder), recipe, fields)
    return filter(None, (text_of(row) for _, rows in item_shards(folder, columns) for row in rows))


def _text_reader(
    have: Sequence[str], recipe: Recipe, fields: Sequence[str] | None
) -> tuple[tuple[str, ...], Callable[[dict[str, Any]], str]]:
    """The columns a recipe reads, and what makes a row's text of them; "" where there is none."""
    columns = text_columns(have, recipe, fields)
    chosen = columns if recipe == "plain" else None

    def text_of(row: dict[str, Any]) -> str:
        text = item_text({column: row[column] for column in columns}, recipe, chosen)
        return text if text.strip() else ""  # of an item with nothing, mmrec's text is blanks

    return columns, text_of


def encoded(
    texts: Sequence[Sequence[str]], encoder: Encoder, advance: Callable[[int], object], absent: str
) -> list[Found]:
    """Each item's strings encoded; ``absent`` notes an item without any."""
    flat = [text for row in texts for text in row]
    vectors = encoder.encode(flat, label=None) if flat else np.zeros((0, encoder.dim), np.float32)
    parts = np.split(vectors, np.cumsum([len(row) for row in texts])[:-1])
    advance(len(texts))
    return [Found(part, "" if row else absent) for part, row in zip(parts, texts, strict=True)]


class Images:
    """One vector an item: its image's, or the mean of its images' or frames'.

    Args:
        encoder: of images.
        files: images by item id.
        limit: images or frames read of an item, evenly spaced where there are more.
        transform: PCA.
    """

    kind: Literal["dense"] = "dense"
    columns: tuple[str, ...] = ()

    def __init__(self, encoder: ImageEncoder, files: ImageFiles, limit: int = 1, transform: Transform | None = None):
        self.encoder, self.files, self.limit, self.transform, self.dim = encoder, files, limit, transform, encoder.dim
        self.provenance = {**encoder.provenance, "unit": "item" if limit == 1 else f"mean of at most {limit} images"}
        self.source = {"images": files.digest()}

    def __call__(self, rows: list[dict[str, Any]], advance: Callable[[int], object]) -> list[Found]:
        ids = [row["id"] for row in rows]
        vectors, notes = encode_images(self.encoder, self.dim, self.files, ids, limit=self.limit, advance=advance)
        means = [part.mean(0, keepdims=True) if len(part) else part for part in vectors]
        return [Found(mean, note) for mean, note in zip(means, notes, strict=True)]


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


PRODUCT = ("title", "description", "price", "brand")
"""Columns a multimodal language model is told of."""

BLOCK = 32
"""Items whose images are in memory at a time."""


class _Products:
    """Items as a multimodal language model reads them: fields and, where there is one, an image."""

    transform: Transform | None = None

    def __init__(self, have: Sequence[str], files: ImageFiles | None):
        self.columns = tuple(column for column in PRODUCT if column in have)
        if not self.columns:
            raise ValueError(f"the items table has none of {', '.join(PRODUCT)}; it has: {', '.join(have)}")
        self.files = files
        self.source = {"text": ", ".join(self.columns), "images": "none" if files is None else files.digest()}

    def blocks(
        self, rows: list[dict[str, Any]], advance: Callable[[int], object]
    ) -> Iterator[tuple[list[Product], list[str]]]:
        """``(products, notes)``, :data:`BLOCK` items at a time."""
        for start in range(0, len(rows), BLOCK):
            block, notes = [], []
            for row in rows[start : start + BLOCK]:
                fields = {column: item_text({column: row[column]}, "plain", (column,)) for column in self.columns}
                images, problems = ([], []) if self.files is None else frames(self.files, row["id"], 1)
                block.append(Product(**fields, image=images[0] if images else None))
                lost = f"broken image: {'; '.join(problems)}" if problems else "no image"
                note = "" if images or self.files is None else lost
                notes.append("no text, no image" if block[-1].empty and not problems else note)
            yield block, notes
            advance(len(block))


class Fused(_Products):
    """A vector an item: its image and text through a multimodal language model (USERec), then PCA.

    Args:
        encoder: the model.
        have: columns of the items table.
        files: images by item id; None = texts alone.
        dim: width after PCA (USERec: 768); None = no PCA.
    """

    kind: Literal["dense"] = "dense"

    def __init__(self, encoder: FusedEncoder, have: Sequence[str], files: ImageFiles | None, dim: int | None = 768):
        super().__init__(have, files)
        self.encoder, self.dim, self.transform = encoder, encoder.dim, None if dim is None else Pca(dim)
        self.provenance = {**encoder.provenance, "unit": "item"}

    def __call__(self, rows: list[dict[str, Any]], advance: Callable[[int], object]) -> list[Found]:
        found = []
        for products, notes in self.blocks(rows, advance):
            vectors = iter(self.encoder([product for product in products if not product.empty]))
            for product, note in zip(products, notes, strict=True):
                vector = np.zeros((0, self.dim), np.float32) if product.empty else next(vectors)[None]
                found.append(Found(vector, note))
        return found


class Captions(_Products):
    """A vector an item: what a multimodal language model says of it, through a text encoder.

    Args:
        writer: the model.
        encoder: of texts.
        have: columns of the items table.
        files: images by item id; None = texts alone.
    """

    kind: Literal["dense"] = "dense"

    def __init__(self, writer: FusedCaption, encoder: Encoder, have: Sequence[str], files: ImageFiles | None):
        super().__init__(have, files)
        self.writer, self.encoder, self.dim = writer, encoder, encoder.dim
        self.provenance = {**encoder.provenance, **writer.provenance, "unit": "item"}

    def __call__(self, rows: list[dict[str, Any]], advance: Callable[[int], object]) -> list[Found]:
        captions: list[str] = []
        notes: list[str] = []
        for products, said in self.blocks(rows, advance):
            answers = iter(self.writer([product for product in products if not product.empty]))
            for product, note in zip(products, said, strict=True):
                captions.append("" if product.empty else next(answers))
                notes.append(note if captions[-1] or product.empty else "no caption")
        found = encoded([[text] if text else [] for text in captions], self.encoder, lambda count: None, "")
        return [
            Found(part.vectors, note, [text] if text else [])
            for part, note, text in zip(found, notes, captions, strict=True)
        ]


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
        """See :class:`seqmm.features.extract.Transform`."""
        if len(vectors):
            part = vectors if number == 0 else self.tagger.place(vectors, self._mean(0))
            self._sums[number] += part.sum(0, dtype=np.float64)
            self._counts[number] += len(vectors)

    def end_pass(self, number: int) -> None:
        """See :class:`seqmm.features.extract.Transform`."""
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


class Pca:
    """Principal components over all items (exact, in one pass)."""

    passes = 1

    def __init__(self, dim: int):
        self.dim, self.settings = dim, {"pca": str(dim)}
        self.provenance: dict[str, str] = {}
        self._statistics = StreamingPca(dim)

    def update(self, number: int, vectors: np.ndarray) -> None:
        """See :class:`seqmm.features.extract.Transform`."""
        self._statistics.update(vectors)

    def end_pass(self, number: int) -> None:
        """See :class:`seqmm.features.extract.Transform`."""
        self._mean, self._components, digest = self._statistics.finish()
        self.dim = self._components.shape[1]
        # two corpora's bases are unrelated; with the digest they are not taken for one another
        self.provenance = {"pca": f"{self.dim}, fitted on these items, basis {digest}"}

    def __call__(self, vectors: np.ndarray) -> tuple[np.ndarray, list[str] | None]:
        """``[N, d] -> [N, dim]``."""
        return project(vectors, self._mean, self._components), None


def _keywords_provenance(tagger: ClipTagger | ImageNetTagger, encoder: Encoder, top: int) -> dict[str, str]:
    return {**encoder.provenance, "unit": "keywords", **tagger.provenance, "words": str(top)}


def _keywords_source(files: ImageFiles, vocabulary: Sequence[str], limit: int) -> dict[str, str]:
    listed = hashlib.sha256("\n".join(vocabulary).encode()).hexdigest()[:16]
    return {
        "images": files.digest(),
        "images an item": str(limit),
        "vocabulary": f"{len(vocabulary):,} words, {listed}",
    }
