"""image_keywords: a vector of the words seen in each of an item's images, as in MSM4SR."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from seqmm.data.item_images import ImageFiles
from seqmm.features.encoders.clip import Clip
from seqmm.features.encoders.images import ImageBackbone, encode_images
from seqmm.features.encoders.taggers import TOP_WORDS, ClipTagger, ImageNetTagger, rank_words
from seqmm.features.encoders.text import Encoder
from seqmm.features.extractor import Extractor, Found
from seqmm.features.extractors.text import encoded
from seqmm.features.readers.images import MAX_FRAMES
from seqmm.features.shared_options import (
    CLIP,
    ImageEncoderOptions,
    ImageFileOptions,
    TextEncoderOptions,
    VocabularyOptions,
    chosen_image_encoder,
    image_files,
    text_encoder,
    vocabulary,
)
from seqmm.features.tools import Tools
from seqmm.options import OptionError, option
from seqmm.registry import register


@dataclass(frozen=True)
class ImageKeywordsOptions(VocabularyOptions, ImageEncoderOptions, ImageFileOptions, TextEncoderOptions):
    """Options of image_keywords."""

    tagger: str = option(
        CLIP,
        "What sees the keywords: clip:MODEL/WEIGHTS, clip:hf-hub:org/name, clip:local-dir:FOLDER, or imagenet (the "
        "classes of the image encoder, not CLIP).",
    )
    tagger_revision: str | None = option(None, "Hub revision of the tagger.")
    prompt: str = option("{}", "What CLIP reads in place of a word; the paper's is the bare word.")
    keywords: int = option(TOP_WORDS, "Words of an image.", least=1)
    keywords_limit: int = option(MAX_FRAMES, "Images of an item that are tagged.", least=1)

    def check(self) -> None:
        """See :meth:`seqmm.options.Options.check`."""
        super().check()
        if self.tagger != "imagenet" and not self.tagger.startswith("clip:"):
            problem = f" is {self.tagger!r}; choose clip:MODEL/WEIGHTS, clip:local-dir:…, or imagenet"
            raise OptionError(type(self).__name__, "tagger", problem)

    def reads(self) -> tuple[str, ...]:
        """See :class:`seqmm.features.shared_options.TextEncoderOptions`."""
        return ("text_columns",) if self.vocabulary is None else ()

    def idle(self) -> dict[str, str]:
        """See :meth:`seqmm.options.Options.idle`."""
        if self.tagger == "imagenet":
            return super().idle() | dict.fromkeys(("tagger_revision", "prompt"), "the tagger imagenet has none")
        unread = ("image_encoder", "image_revision", "image_pooling", "image_layer")
        return super().idle() | dict.fromkeys(unread, "only the tagger imagenet, or the extractor image, reads it")


@register
class ImageKeywords(Extractor):
    """A vector for each of the item's images: the words CLIP sees in it, encoded as one text (MSM4SR).

    Args:
        tagger: CLIP.
        encoder: of texts.
        files: images by item id.
        vocabulary: the words to choose from; encoded once.
        top: words an image gets.
        limit: images read of an item, evenly spaced where there are more.
    """

    name: ClassVar[str] = "image_keywords"
    options_class: ClassVar[type[Any]] = ImageKeywordsOptions
    kind = "ragged"

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

    @classmethod
    def make(cls, options: ImageKeywordsOptions, tools: Tools) -> Extractor:
        """See :meth:`seqmm.features.extractor.Extractor.make`."""
        files, words = image_files(options, tools), tools.once(_words, options, tools)
        encoder, top, limit = text_encoder(options, tools), options.keywords, options.keywords_limit
        if options.tagger == "imagenet":
            backbone = chosen_image_encoder(options, tools)
            if not isinstance(backbone, ImageBackbone):
                problem = (
                    f" is {options.image_encoder}, which is no ImageNet classifier as the tagger imagenet needs it; "
                    "choose efficientnet-lite0, or timm:MODEL"
                )
                raise OptionError(type(options).__name__, "image_encoder", problem)
            return ImageNetKeywords(ImageNetTagger(backbone, encoder), encoder, files, words, top, limit)
        name, revision = options.tagger.removeprefix("clip:"), options.tagger_revision
        tagger = ClipTagger(tools.load(Clip, name, revision=revision), options.prompt)
        return cls(tagger, encoder, files, words, top, limit)

    def beside(self, name: str) -> dict[str, str]:
        """The words that were chosen from."""
        return _vocabulary_file(name, self.vocabulary)

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


class ImageNetKeywords(Extractor):
    """The same where no CLIP weights can be had: the words nearest to an ImageNet classifier's classes.

    A shard holds class probabilities; they are weighed against those of all images at the end.

    Args: as of :class:`ImageKeywords`.
    """

    kind = "ragged"

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
        self.vocabulary = vocabulary
        self.transform = ClassesToWords(tagger, encoder, vocabulary, top)
        self.provenance = _keywords_provenance(tagger, encoder, top)
        self.source = _keywords_source(files, vocabulary, limit)

    def beside(self, name: str) -> dict[str, str]:
        """The words that were chosen from."""
        return _vocabulary_file(name, self.vocabulary)

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
        """See :class:`seqmm.features.extractor.Transform`."""
        if len(vectors):
            part = vectors if number == 0 else self.tagger.place(vectors, self._mean(0))
            self._sums[number] += part.sum(0, dtype=np.float64)
            self._counts[number] += len(vectors)

    def end_pass(self, number: int) -> None:
        """See :class:`seqmm.features.extractor.Transform`."""
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


def _vocabulary_file(name: str, vocabulary: Sequence[str]) -> dict[str, str]:
    return {f"{name.replace('image_keywords', 'image')}_vocabulary.txt": "\n".join(vocabulary) + "\n"}


def _words(options: ImageKeywordsOptions, tools: Tools) -> list[str]:
    return vocabulary(options, tools, options.text_columns, options.keywords)
