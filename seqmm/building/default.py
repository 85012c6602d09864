"""The default corpus: MovieLens with vectors of titles, genres and overviews, and with posters also of these.

Built once by whatever needs it, or by ``tokenized/movielens/build.py`` of any edition.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqmm.building.build import build
from seqmm.data.item_images import ImageFiles
from seqmm.data.sources.base import about_in
from seqmm.data.sources.movielens import MovieLens, MovieLensOptions
from seqmm.features.encoders.clip import Clip
from seqmm.features.encoders.images import ImageBackbone
from seqmm.features.encoders.taggers import TOP_WORDS, ClipTagger, ImageNetTagger
from seqmm.features.encoders.text import TextEncoder
from seqmm.features.extract import extract
from seqmm.features.extractors.image import Images
from seqmm.features.extractors.image_keywords import ImageKeywords, ImageNetKeywords
from seqmm.features.extractors.text import Texts
from seqmm.features.pca import Pca
from seqmm.features.readers.items import item_shards
from seqmm.features.readers.sentences import MAX_SENTENCES, split_sentences
from seqmm.features.vocabulary import build_vocabulary, read_vocabulary
from seqmm.flags import made_by_flags, parse_flags
from seqmm.names import Protocol, TextPooling
from seqmm.options import option

if TYPE_CHECKING:
    import polars as pl

    from seqmm.features.extractor import Extractor

logger = logging.getLogger(__name__)

PROTOCOLS: tuple[Protocol, ...] = ("leave_one_out", "ratio")
MIN_VOCABULARY = 500
TEXT, SENTENCES, KEYWORDS = (
    ("name", "genres", "overview"),
    ("name", "also", "year", "tagline", "overview"),
    ("genres", "keywords"),
)
"""Columns that each feature set's texts are made of."""


@dataclass(frozen=True)
class DefaultCorpusOptions(MovieLensOptions):
    """Of which edition and of which models the corpus is made."""

    output: Path | None = option(None, "Folder to write; tokenized/movielens/<name of the source> if absent.")
    posters: tuple[Path, ...] = option((), "Folders or tar files of <movieId>.jpg.")
    k_core: int = option(5, "Users and movies with fewer ratings are dropped, again and again; 0 = none.", least=0)
    seed: int = option(0, "Seed of the numbering, the ties, and the ratio split.")
    encoder: str = option("minilm", "Text encoder: minilm, a local folder, or a Hub id.")
    pooling: TextPooling | None = option(None, "Pooling of a text encoder that is no sentence-transformers model.")
    backbone: str = option("efficientnet-lite0", "Image backbone: efficientnet-lite0, or a timm model on the Hub.")
    image_dim: int = option(256, "Width of the image vectors after PCA.", least=1)
    clip: str | None = option(
        None,
        "open_clip model for the image keywords (MODEL/WEIGHTS, hf-hub:org/name, local-dir:folder); ImageNet classes "
        "if absent.",
    )
    vocabulary: Path | None = option(
        None, "Words for the image keywords, one a line; from the movies' texts if absent."
    )
    overwrite: bool = option(False, "Replace a corpus that is already there.")


def build_default_corpus(
    folder: str | Path | None = None,
    options: DefaultCorpusOptions | None = None,
    *,
    say: Callable[[str], None] = logger.info,
) -> Path:
    """Builds the corpus, whole or not at all.

    Args:
        folder: to write; the options' ``output`` if None.
        options: the default corpus' if None.
        say: gets the lines about what came out.

    Returns:
        The folder.

    Raises:
        FileNotFoundError, ValueError: a source, a package or a model is missing; a file cannot be read.
    """
    options = options or DefaultCorpusOptions()
    started = time.perf_counter()
    source = MovieLens(MovieLensOptions(options.source, options.overviews))
    target = Path(folder or options.output or Path("tokenized") / "movielens" / source.corpus_name())
    data = source.read()
    movies = data.items
    assert movies is not None  # MovieLens has titles
    build(
        data,
        target,
        protocols=PROTOCOLS,
        about=about_in("movielens"),
        overwrite=options.overwrite,
        extract=lambda place: add_features(place, movies, options, say),
        say=say,
        seed=options.seed,
        k_core=options.k_core,
        tags=source.tags,
        info=source.info(),
    )
    say(f"{target}: {time.perf_counter() - started:.0f} s")
    return target


def add_features(corpus: Path, movies: pl.DataFrame, options: DefaultCorpusOptions, say: Callable[[str], None]) -> None:
    """Extracts the feature sets into the corpus' folder."""
    texts = TextEncoder(options.encoder, pooling=options.pooling)
    extractors: dict[str, Extractor] = {
        "text": Texts("dense", texts, TEXT, lambda row: [whole_text(row)] * bool(whole_text(row)), unit="item",
                      text="title, genres, overview"),
        "text_sentences": Texts("ragged", texts, SENTENCES, sentences, unit="sentence",
                                 text="title, other titles, year, tag line, overview"),
        "text_keywords": Texts("ragged", texts, KEYWORDS, lambda row: [keywords(row)] * bool(keywords(row)),
                                unit="keywords", text="genres, keywords"),
    }  # fmt: skip
    if options.posters:
        words = read_vocabulary(options.vocabulary) if options.vocabulary else corpus_vocabulary(movies)
        files = ImageFiles(options.posters, [row["id"] for _, rows in item_shards(corpus, ()) for row in rows])
        network = ImageBackbone(options.backbone)
        extractors["image"] = Images(network, files, transform=Pca(options.image_dim))
        if options.clip is None:
            extractors["image_keywords"] = ImageNetKeywords(ImageNetTagger(network, texts), texts, files, words)
        else:
            extractors["image_keywords"] = ImageKeywords(ClipTagger(Clip(options.clip)), texts, files, words)
    for feature, extractor in extractors.items():
        say(f"  {extract(corpus, feature, extractor).line()}")


def sentences(movie: dict[str, Any]) -> list[str]:
    """A movie's sentences, at most ten: title, other titles, year, tag line, overview."""
    year = [f"Released in {movie['year']}."] if movie["year"] else []
    head = [title for title in (movie["name"], *movie["also"]) if title]
    more = [*split_sentences(movie["tagline"]), *split_sentences(movie["overview"])]
    return [*head, *year, *more][:MAX_SENTENCES]


def keywords(movie: dict[str, Any]) -> str:
    """Genres and the first keywords as one string, as the paper writes an image's words."""
    return " ".join([*movie["genres"], *movie["keywords"]][:TOP_WORDS])


def whole_text(movie: dict[str, Any]) -> str:
    """Title, genres and overview in one."""
    parts = [movie["name"], ", ".join(movie["genres"]), movie["overview"]]
    return ". ".join(part for part in parts if part)


def corpus_vocabulary(movies: pl.DataFrame) -> list[str]:
    """A vocabulary out of all movies' overviews, tag lines and keywords; ImageNet's words where these are few."""
    texts = [*movies["overview"], *movies["tagline"], *(", ".join(row) for row in movies["keywords"])]
    words = build_vocabulary(texts)
    if len(words) < MIN_VOCABULARY:
        words = build_vocabulary((", ".join(ImageBackbone.class_names()),), min_count=1)
    return words


def default_corpus_command(description: str = "") -> None:
    """Reads the command line, builds the corpus and prints what came out."""
    values = parse_flags({"": DefaultCorpusOptions}, description=description)[""]
    build_default_corpus(options=made_by_flags(DefaultCorpusOptions, values), say=print)
