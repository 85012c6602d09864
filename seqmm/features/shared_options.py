"""Options that several extractors share, each with one home, and what is made of them.

An extractor's ``Options`` inherits the groups it uses; several extractors of one command then have one flag each.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from seqmm.data.item_images import ImageFiles
from seqmm.features.encoders.clip import Clip
from seqmm.features.encoders.images import ImageEncoder, image_encoder
from seqmm.features.encoders.multimodal import read_prompt
from seqmm.features.encoders.text import ClipTextEncoder, Encoder, TextEncoder, TfidfEncoder
from seqmm.features.readers.item_text import Recipe
from seqmm.features.readers.products import ProductReader
from seqmm.features.readers.texts import all_texts
from seqmm.features.tools import Tools
from seqmm.features.vocabulary import build_vocabulary, part_of_speech, read_vocabulary
from seqmm.names import ImagePooling, TextPooling
from seqmm.options import OptionError, Options, option

log = logging.getLogger("seqmm")

CLIP = "clip:ViT-B-32/laion2b_s34b_b79k"
BERT = "bert-base-uncased"


@dataclass(frozen=True)
class TextEncoderOptions(Options):
    """Which text encoder, and what an item's text is, of which tfidf learns its words."""

    text_encoder: str = option(
        BERT,
        "A BERT-family or sentence-transformers model (folder or Hub id), minilm or mpnet (out of packages), "
        "clip:MODEL (a CLIP's text tower), or tfidf (no model: TF-IDF and SVD over the corpus' texts).",
    )
    pooling: TextPooling | None = option(
        None,
        "How a text encoder that is no sentence-transformers model makes one vector of its tokens'; cls for the "
        "default encoder.",
    )
    max_tokens: int | None = option(
        None, "Tokens of a text; longer ones are cut. What the encoder takes if absent.", least=1
    )
    revision: str | None = option(None, "Hub revision of the text encoder.")
    text_recipe: Recipe = option(
        "plain",
        "How an item's columns become its text, which tfidf learns from, too: plain (clean text), or exactly as "
        "MMRec's or UniSRec's features.",
    )
    text_columns: tuple[str, ...] | None = option(
        None,
        "Columns of the text recipe plain; if absent title, brand, categories, genres, description, overview and "
        "text, those that are there.",
    )
    seed: int = option(0, "Seed of the words that text_word_drop leaves out, and of tfidf.")

    def reads(self) -> tuple[str, ...]:
        """Which of text_recipe, text_columns and seed the extractor reads, beside tfidf."""
        return ()

    def idle(self) -> dict[str, str]:
        """See :meth:`seqmm.options.Options.idle`."""
        read = self.reads()
        unread = [] if self.text_encoder == "tfidf" else ["text_recipe", "text_columns", "seed"]
        why = "nothing but tfidf would read it; leave it out"
        return super().idle() | {name: why for name in unread if name not in read}


def text_encoder(options: TextEncoderOptions, tools: Tools) -> Encoder:
    """The text encoder that options name.

    Raises:
        OptionError: an option that this encoder does not have.
        FileNotFoundError, ValueError: it cannot be had.
    """
    name = options.text_encoder
    if name == "tfidf" or name.startswith("clip:"):
        for other in ("pooling", "max_tokens", *(["revision"] if name == "tfidf" else [])):
            if getattr(options, other) is not None:
                problem = f" {getattr(options, other)} is not an option of the text encoder {name}; leave it out"
                raise OptionError(type(options).__name__, other, problem)
    if name == "tfidf":
        return tools.once(_tfidf, tools.folder, options.text_recipe, options.text_columns, options.seed)
    if name.startswith("clip:"):
        clip = tools.load(Clip, name.removeprefix("clip:"), revision=options.revision)
        return tools.once(ClipTextEncoder, clip)
    return tools.load(
        TextEncoder,
        name,
        pooling="cls" if name == BERT and options.pooling is None else options.pooling,
        max_tokens=options.max_tokens,
        revision=options.revision,
    )


def _tfidf(folder: Path, recipe: Recipe, fields: tuple[str, ...] | None, seed: int) -> TfidfEncoder:
    return TfidfEncoder(all_texts(folder, recipe, fields), seed=seed)


@dataclass(frozen=True)
class ImageFileOptions(Options):
    """Where the items' images are."""

    images: tuple[Path, ...] = option((), "Folders or tar files with the items' images, <item id>.jpg.")

    needs_images: ClassVar[bool] = True
    """Whether the extractor cannot do without."""

    def check(self) -> None:
        """See :meth:`seqmm.options.Options.check`."""
        super().check()
        if self.needs_images and not self.images:
            raise OptionError(type(self).__name__, "images", " is needed: folders or tar files of <item id>.jpg")


def image_files(options: ImageFileOptions, tools: Tools) -> ImageFiles:
    """The images that options name, by item id."""
    return tools.once(_image_files, tools, options.images)


def _image_files(tools: Tools, places: tuple[Path, ...]) -> ImageFiles:
    return ImageFiles(places, tools.ids)


@dataclass(frozen=True)
class ImageEncoderOptions(Options):
    """Which image encoder."""

    image_encoder: str = option(
        CLIP,
        "clip:MODEL/WEIGHTS, clip:hf-hub:org/name, clip:local-dir:FOLDER, timm:MODEL, hf:MODEL (transformers), or "
        "efficientnet-lite0 (out of a package).",
    )
    image_revision: str | None = option(None, "Hub revision of the image encoder.")
    image_pooling: ImagePooling | None = option(
        None, "How an hf: image encoder makes one vector of an image; its own pooler if absent."
    )
    image_layer: int | None = option(None, "Hidden layer of an hf: image encoder; the last if absent.")


def chosen_image_encoder(options: ImageEncoderOptions, tools: Tools) -> ImageEncoder:
    """The image encoder that options name.

    Raises:
        FileNotFoundError, ValueError: it cannot be had, or has no such option.
    """
    return tools.once(
        _image_encoder,
        tools,
        options.image_encoder,
        options.image_pooling,
        options.image_layer,
        options.image_revision,
    )


def _image_encoder(
    tools: Tools,
    name: str,
    pooling: ImagePooling | None,
    layer: int | None,
    revision: str | None,
) -> ImageEncoder:
    return image_encoder(
        name,
        pooling=pooling,
        layer=layer,
        revision=revision,
        device=tools.device,
        dtype=tools.dtype,
        load_clip=lambda *names, **options: tools.once(Clip, *names, **options),
    )


@dataclass(frozen=True)
class VocabularyOptions(Options):
    """The words that describe images."""

    vocabulary: Path | None = option(
        None, "A file with the words that images are described by, one a line; from the items' texts if absent."
    )
    part_of_speech: Literal["textblob", "nltk"] | None = option(
        None,
        "Keeps the common nouns and adjectives of the items' texts, by this package's tagger; by simple rules if "
        "absent.",
    )
    min_count: int = option(5, "Items whose texts a word of the vocabulary must occur in.", least=1)
    max_words: int = option(20_000, "Upper bound of the vocabulary.", least=1)

    def idle(self) -> dict[str, str]:
        """See :meth:`seqmm.options.Options.idle`."""
        if self.vocabulary is None:
            return super().idle()
        why = "the words come from `vocabulary`; leave one of the two out"
        return super().idle() | dict.fromkeys(("part_of_speech", "min_count", "max_words"), why)


def vocabulary(options: VocabularyOptions, tools: Tools, columns: Sequence[str] | None, words: int) -> list[str]:
    """The words that options name; says how many, and whether they are few.

    Args:
        options: of the vocabulary.
        tools: of the corpus.
        columns: whose texts are read; the usual ones if None.
        words: that an image will get.

    Raises:
        FileNotFoundError, ValueError: no such file; fewer words than an image should get.
    """
    if options.vocabulary is not None:
        found = read_vocabulary(options.vocabulary)
    else:
        found = build_vocabulary(
            all_texts(tools.folder, fields=columns),
            min_count=options.min_count,
            max_words=options.max_words,
            part_of_speech=None if options.part_of_speech is None else part_of_speech(options.part_of_speech),
        )
    if len(found) < words:
        raise ValueError(
            f"a vocabulary of {len(found)} words cannot give {words} keywords an image; lower `min_count`, or give a "
            "larger `vocabulary`"
        )
    few = "; so few that most images get the same: lower `min_count`, or give a larger `vocabulary`"
    warning = few if len(found) < 10 * words else ""
    log.info("%d keywords an image, of a vocabulary of %s words%s", words, f"{len(found):,}", warning)
    return found


@dataclass(frozen=True, kw_only=True)
class MultimodalModelOptions(ImageFileOptions):
    """Which multimodal language model, and what it is asked."""

    mllm: str = option(MISSING, "An image-text-to-text model of transformers with a chat template: folder or Hub id.")
    mllm_revision: str | None = option(None, "Hub revision of the multimodal language model.")
    mllm_prompt: Path | None = option(
        None, "A text with {product} in it that the model is asked, not the built-in one."
    )
    mllm_batch: int = option(8, "Items that the multimodal language model reads at a time.", least=1)

    needs_images: ClassVar[bool] = False


def conversation(options: MultimodalModelOptions) -> dict[str, Any]:
    """Arguments that the two encoders of :mod:`seqmm.features.encoders.multimodal` share."""
    return {
        "prompt": read_prompt(options.mllm_prompt),
        "batch_size": options.mllm_batch,
        "revision": options.mllm_revision,
    }


def products(options: MultimodalModelOptions, tools: Tools) -> ProductReader:
    """What reads the items' fields and, if there are any, images."""
    return ProductReader(tools.columns, image_files(options, tools) if options.images else None)
