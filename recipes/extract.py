"""Extract features of a prepared corpus' items: texts, images, image keywords, fused vectors, audio.

Texts, and the sentences of titles and descriptions, by BERT; the same without any model:

  accelerate launch recipes/extract.py --corpus corpora/mine --features text text_sentences

  python recipes/extract.py --corpus corpora/mine --features text --text-encoder tfidf

Photos named <item id>.jpg (more of an item: <item id>_2.jpg …, or a folder <item id>), in folders or tar files: CLIP's
vectors, and the keywords CLIP sees in them, encoded by the text encoder (MSM4SR); offline, an ImageNet classifier:

  accelerate launch recipes/extract.py --corpus corpora/mine --features image image_keywords --images photos

  python recipes/extract.py --corpus corpora/mine --features image image_keywords --images photos \\
      --image-encoder efficientnet-lite0 --tagger imagenet --text-encoder minilm

Photo and text through a multimodal language model (USERec), sound files, vectors that are already there:

  accelerate launch recipes/extract.py --corpus corpora/mine --features fused --images photos --mllm org/model
  accelerate launch recipes/extract.py --corpus corpora/mine --features audio --audio sounds
  python recipes/extract.py --corpus corpora/mine --vectors image=image_feat.npy text=vectors.parquet

On several processes: accelerate launch --multi_gpu --num_processes N recipes/extract.py … (each takes shards of 1,024
items; on several machines, of a folder they share). What was stopped goes on where it was: run the same command again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from seqmm.cli import run_recipe

if TYPE_CHECKING:
    from seqmm.data.item_images import ImageFiles
    from seqmm.features.encoders.text import Encoder
    from seqmm.features.shards import Extractor

Kind = Literal["text", "text_word_drop", "text_sentences", "image", "image_keywords", "fused", "captions", "audio"]


@dataclass
class Arguments:
    """Extract features of a prepared corpus' items."""

    corpus: Path
    """Folder of a prepared corpus."""
    features: tuple[Kind, ...] = ()
    """What to extract. text: a vector an item; text_word_drop: the same with words left out (UniSRec's second copy);
    text_sentences: a vector a sentence; image: a vector of the item's image; image_keywords: a vector of the words seen
    in each of its images; fused: text and image through a multimodal language model; captions: what such a model says,
    encoded as text; audio: a vector of the item's sound."""
    vectors: tuple[str, ...] = ()
    """Feature sets that are there already, name=file: .npy, .safetensors or .pt, row r for row r of the source items
    table (or id -> vector), or a table (.parquet, .csv) with a column of ids."""
    vectors_made_by: tuple[str, ...] = ()
    """Encoders of these, name=encoder, kept as their provenance; the file's name if absent."""
    suffix: str = ""
    """Appended to the feature sets' names, so that two encoders' sets can stand side by side."""
    overwrite: bool = False
    """Replace feature sets of the same names that were made otherwise."""
    storage: Literal["float32", "float16"] = "float32"
    """How vectors are stored; they are read as float32."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """What encoders compute in; bfloat16 on a GPU, float32 without one."""
    threads: int | None = None
    """CPU threads of a process; the cores divided by the processes if absent. A vector's last bits may depend on it."""

    text_encoder: str = "bert-base-uncased"
    """A BERT-family or sentence-transformers model (folder or Hub id), minilm or mpnet (out of packages), clip:MODEL
    (a CLIP's text tower), or tfidf (no model: TF-IDF and SVD over the corpus' texts)."""
    pooling: Literal["mean", "cls"] | None = None
    """Of a model that is no sentence-transformers one; cls for the default encoder."""
    max_tokens: int | None = None
    """Longer texts are cut."""
    text_recipe: Literal["plain", "mmrec", "unisrec"] = "plain"
    """How an item's columns become its text: plain (clean text), or exactly as MMRec's or UniSRec's features."""
    text_columns: tuple[str, ...] | None = None
    """Columns of plain; if absent title, brand, categories, genres, description, overview and text, those that are
    there."""
    sentence_columns: tuple[str, ...] = ("title", "description", "tagline", "overview", "text")
    """Columns cut into sentences, those that are there."""
    max_sentences: int = 10
    """Sentences kept of an item."""
    word_drop: float = 0.15
    """Probability of leaving a word out, for text_word_drop."""
    seed: int = 0
    """Of the words left out, and of tfidf."""
    revision: str | None = None
    """Hub revision of the text encoder."""

    images: tuple[Path, ...] = ()
    """Folders or tar files with the items' images."""
    image_encoder: str = "clip:ViT-B-32/laion2b_s34b_b79k"
    """clip:MODEL/WEIGHTS, clip:hf-hub:org/name, clip:local-dir:FOLDER, timm:MODEL, hf:MODEL (transformers), or
    efficientnet-lite0 (out of a package)."""
    image_revision: str | None = None
    """Hub revision of the image encoder."""
    image_pooling: Literal["pooler", "mean", "cls"] | None = None
    """Of an hf: encoder; its pooler if absent."""
    image_layer: int | None = None
    """Of an hf: encoder; the last if absent."""
    image_limit: int = 1
    """Images, or frames of a video, of which the mean is taken for image."""
    image_dim: int | None = None
    """Width after PCA over all items; no PCA if absent."""
    tagger: str = "clip:ViT-B-32/laion2b_s34b_b79k"
    """What sees the keywords: clip:…, as above, or imagenet (the classes of the image encoder, not CLIP)."""
    tagger_revision: str | None = None
    """Hub revision of the tagger."""
    vocabulary: Path | None = None
    """The words to choose from, one a line; from the items' texts if absent."""
    part_of_speech: Literal["textblob", "nltk"] | None = None
    """Keeps common nouns and adjectives of the items' texts, by this package's tagger; by simple rules if absent."""
    min_count: int = 5
    """Items whose texts a word of the vocabulary must occur in."""
    max_words: int = 20_000
    """Upper bound of the vocabulary."""
    prompt: str = "{}"
    """What CLIP reads in place of a word; the paper's is the bare word."""
    keywords: int = 15
    """Words of an image."""
    keywords_limit: int = 10
    """Images of an item that are tagged."""

    mllm: str | None = None
    """An image-text-to-text model with a chat template, for fused and captions: folder or Hub id."""
    mllm_revision: str | None = None
    """Hub revision of it."""
    mllm_layer: int = -2
    """Hidden states that become the vector."""
    mllm_pooling: Literal["mean", "last"] = "mean"
    """Over its tokens."""
    mllm_prompt: Path | None = None
    """A text with {product} in it, in place of the built-in one."""
    mllm_batch: int = 8
    """Items of a batch."""
    fused_dim: int | None = 768
    """Width of fused after PCA; None = no PCA."""
    caption_tokens: int = 256
    """Upper bound of a caption."""

    audio: tuple[Path, ...] = ()
    """Folders or tar files with the items' sounds, <item id>.wav (.flac, .ogg, .mp3)."""
    audio_encoder: str = "facebook/wav2vec2-base"
    """An audio model of transformers: folder or Hub id."""
    audio_revision: str | None = None
    """Hub revision of it."""
    audio_pooling: Literal["mean", "pooler"] = "mean"
    """Mean over frames, or the model's own (AST, CLAP)."""
    audio_seconds: float = 10.0
    """Seconds of a sound that are read."""


def main() -> None:
    arguments = tyro.cli(Arguments, description=__doc__, config=(tyro.conf.FlagConversionOff,))
    if not arguments.features and not arguments.vectors:
        raise ValueError("nothing to extract: name some of --features text text_sentences …, or --vectors name=file")

    import torch
    from accelerate import PartialState

    from seqmm.data.store import read_record
    from seqmm.distributed import on_cpu
    from seqmm.features.extract import extract
    from seqmm.files import write_text

    read_record(arguments.corpus)
    state = PartialState(cpu=on_cpu())
    torch.set_num_threads(arguments.threads or max(1, (os.cpu_count() or 1) // state.num_processes))
    if state.is_main_process:
        add_vectors(arguments)
    tools = Tools(arguments, str(state.device))
    for kind in dict.fromkeys(arguments.features):
        report = extract(
            arguments.corpus,
            kind + arguments.suffix,
            tools.extractor(kind),
            dtype=arguments.storage,
            overwrite=arguments.overwrite,
            rank=state.process_index,
            world=state.num_processes,
        )
        print(report.line(), flush=True)
        if kind == "image_keywords" and state.is_main_process:  # the set is there now, of these very words
            words = "\n".join(tools.vocabulary) + "\n"
            write_text(arguments.corpus / f"image{arguments.suffix}_vocabulary.txt", words)


def add_vectors(arguments: Arguments) -> None:
    """Writes the feature sets of --vectors."""
    from seqmm.data.adding import write_features
    from seqmm.data.feature_sets import Features
    from seqmm.data.feature_store import feature_names
    from seqmm.data.readers.vectors import read_corpus_vectors
    from seqmm.names import pairs

    made_by, files = pairs(arguments.vectors_made_by, "--vectors-made-by"), pairs(arguments.vectors, "--vectors")
    for name in sorted(made_by.keys() - files.keys()):
        raise ValueError(
            f"--vectors-made-by {name}=…: no such set in --vectors, which has: {', '.join(files) or 'none'}"
        )
    for name, file in files.items():
        if name in feature_names(arguments.corpus) and not arguments.overwrite:
            raise ValueError(f"{arguments.corpus} has a feature set {name!r}; add --overwrite True to replace it")
        found = read_corpus_vectors(arguments.corpus, file)
        provenance = {"encoder": made_by.get(name, Path(file).name)}
        missing = found.missing if found.missing.any() else None
        if missing is not None:
            provenance["missing"] = "mean vector"
        features = Features("dense", found.values, provenance=provenance, missing=missing)
        write_features(arguments.corpus, name, features)
        print(f"{name:<16}{found.report.describe(len(found.values))}", flush=True)


class Tools:
    """The encoders the arguments name, each made once, when first needed."""

    def __init__(self, arguments: Arguments, device: str):
        self.arguments, self.device = arguments, device
        self.dtype = arguments.dtype or ("bfloat16" if device.startswith("cuda") else "float32")
        from seqmm.features.encoders.clip import Clip
        from seqmm.features.readers.items import item_columns

        self.clip = cache(Clip)  # of one CLIP image, image_keywords and text may all be made

        self.columns = item_columns(arguments.corpus)

    def extractor(self, kind: Kind) -> Extractor:
        """What makes the feature set."""
        from seqmm.features.encoders.images import image_encoder
        from seqmm.features.extractors.images import Images
        from seqmm.features.extractors.text import text_sentences, text_vectors
        from seqmm.features.pca import Pca

        arguments = self.arguments
        if kind == "image":
            files = self.images
            encoder = image_encoder(
                arguments.image_encoder,
                pooling=arguments.image_pooling,
                layer=arguments.image_layer,
                revision=arguments.image_revision,
                device=self.device,
                dtype=self.dtype,
                load_clip=self.clip,
            )
            transform = None if arguments.image_dim is None else Pca(arguments.image_dim)
            return Images(encoder, files, arguments.image_limit, transform)
        if kind == "image_keywords":
            return self.keywords()
        if kind in ("fused", "captions"):
            return self.fused(kind)
        if kind == "audio":
            return self.audio()
        if kind == "text_sentences":
            return text_sentences(self.text, self.columns, arguments.sentence_columns, arguments.max_sentences)
        dropped = arguments.word_drop if kind == "text_word_drop" else 0.0
        return text_vectors(
            self.text, self.columns, arguments.text_recipe, arguments.text_columns, dropped, arguments.seed
        )

    def keywords(self) -> Extractor:
        """What makes image_keywords."""
        from seqmm.features.encoders.images import ImageBackbone, image_encoder
        from seqmm.features.encoders.taggers import ClipTagger, ImageNetTagger
        from seqmm.features.extractors.keywords import ImageKeywords, ImageNetKeywords

        arguments, files = self.arguments, self.images
        options = {"top": arguments.keywords, "limit": arguments.keywords_limit}
        if arguments.tagger == "imagenet":
            backbone = image_encoder(arguments.image_encoder, device=self.device, dtype=self.dtype)
            if not isinstance(backbone, ImageBackbone):
                raise ValueError(
                    f"--tagger imagenet needs an ImageNet classifier; {arguments.image_encoder} is none: "
                    "--image-encoder efficientnet-lite0, or timm:MODEL"
                )
            classes = ImageNetTagger(backbone, self.text)
            return ImageNetKeywords(classes, self.text, files, self.vocabulary, **options)
        if not arguments.tagger.startswith("clip:"):
            raise ValueError(f"--tagger {arguments.tagger}: expected clip:MODEL/WEIGHTS, clip:local-dir:…, or imagenet")
        name = arguments.tagger.removeprefix("clip:")
        clip = self.clip(name, revision=arguments.tagger_revision, device=self.device, dtype=self.dtype)
        tagger = ClipTagger(clip, arguments.prompt)
        return ImageKeywords(tagger, self.text, files, self.vocabulary, **options)

    def fused(self, kind: Literal["fused", "captions"]) -> Extractor:
        """What makes fused or captions; without --images, of texts alone."""
        from seqmm.features.encoders.multimodal import FusedCaption, FusedEncoder, read_prompt
        from seqmm.features.extractors.multimodal import Captions, Fused

        arguments = self.arguments
        if arguments.mllm is None:
            raise ValueError(f"{kind} needs --mllm: an image-text-to-text model of transformers with a chat template")
        options: dict[str, Any] = {
            "prompt": read_prompt(arguments.mllm_prompt),
            "batch_size": arguments.mllm_batch,
            "revision": arguments.mllm_revision,
            "device": self.device,
            "dtype": self.dtype,
        }
        files = self.images if arguments.images else None
        if kind == "captions":
            writer = FusedCaption(arguments.mllm, max_new_tokens=arguments.caption_tokens, **options)
            return Captions(writer, self.text, self.columns, files)
        encoder = FusedEncoder(arguments.mllm, layer=arguments.mllm_layer, pooling=arguments.mllm_pooling, **options)
        return Fused(encoder, self.columns, files, arguments.fused_dim)

    def audio(self) -> Extractor:
        """What makes audio."""
        from seqmm.features.encoders.audio import AudioEncoder
        from seqmm.features.extractors.audio import Audio
        from seqmm.features.readers.sounds import AudioFiles

        arguments = self.arguments
        if not arguments.audio:
            raise ValueError("audio needs --audio: folders or tar files of <item id>.wav")
        files = AudioFiles(arguments.audio, self.ids)
        encoder = AudioEncoder(
            arguments.audio_encoder,
            pooling=arguments.audio_pooling,
            seconds=arguments.audio_seconds,
            revision=arguments.audio_revision,
            device=self.device,
            dtype=self.dtype,
        )
        return Audio(encoder, files)

    @cached_property
    def vocabulary(self) -> list[str]:
        """The words an image is described by."""
        from seqmm.features.extractors.text import all_texts
        from seqmm.features.vocabulary import build_vocabulary, part_of_speech, read_vocabulary

        arguments = self.arguments
        if arguments.vocabulary is not None:
            words = read_vocabulary(arguments.vocabulary)
        else:
            texts = all_texts(arguments.corpus, fields=arguments.text_columns)
            tag = None if arguments.part_of_speech is None else part_of_speech(arguments.part_of_speech)
            words = build_vocabulary(
                texts, min_count=arguments.min_count, max_words=arguments.max_words, part_of_speech=tag
            )
        if len(words) < arguments.keywords:
            raise ValueError(
                f"a vocabulary of {len(words)} words cannot give {arguments.keywords} keywords an image; lower "
                "--min-count, or give a larger --vocabulary"
            )
        few = len(words) < 10 * arguments.keywords
        warning = (
            "; so few that most images get the same: lower --min-count, or give a larger --vocabulary" if few else ""
        )
        print(f"{arguments.keywords} keywords an image, of a vocabulary of {len(words):,} words{warning}", flush=True)
        return words

    @cached_property
    def images(self) -> ImageFiles:
        """Where the items' images are."""
        from seqmm.data.item_images import ImageFiles

        if not self.arguments.images:
            raise ValueError("image and image_keywords need --images: folders or tar files of <item id>.jpg")
        return ImageFiles(self.arguments.images, self.ids)

    @cached_property
    def ids(self) -> list[str]:
        """The items' ids."""
        from seqmm.features.readers.items import item_shards

        return [row["id"] for _, rows in item_shards(self.arguments.corpus, ()) for row in rows]

    @cached_property
    def text(self) -> Encoder:
        """The text encoder."""
        from seqmm.features.encoders.text import ClipTextEncoder, TextEncoder, TfidfEncoder
        from seqmm.features.extractors.text import all_texts

        arguments, name = self.arguments, self.arguments.text_encoder
        if name == "tfidf" or name.startswith("clip:"):
            not_its: dict[str, object] = {"--pooling": arguments.pooling, "--max-tokens": arguments.max_tokens}
            if name == "tfidf":
                not_its["--revision"] = arguments.revision
            for flag, value in not_its.items():
                if value is not None:
                    raise ValueError(f"{flag} {value} is not an option of --text-encoder {name}; leave it out")
        if name == "tfidf":
            texts = all_texts(arguments.corpus, arguments.text_recipe, arguments.text_columns)
            return TfidfEncoder(texts, seed=arguments.seed)
        if name.startswith("clip:"):
            name = name.removeprefix("clip:")
            return ClipTextEncoder(self.clip(name, revision=arguments.revision, device=self.device, dtype=self.dtype))
        default = name == Arguments.text_encoder and arguments.pooling is None
        return TextEncoder(
            name,
            pooling="cls" if default else arguments.pooling,
            max_tokens=arguments.max_tokens,
            revision=arguments.revision,
            device=self.device,
            dtype=self.dtype,
        )


if __name__ == "__main__":
    run_recipe(main)
