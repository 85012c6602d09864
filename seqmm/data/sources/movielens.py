"""MovieLens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from seqmm.data.readers.movielens import read_movielens, read_overviews, with_overviews
from seqmm.data.sources.base import Source, SourceData, about_in
from seqmm.options import Options, option
from seqmm.registry import register


@dataclass(frozen=True)
class MovieLensOptions(Options):
    """One edition."""

    source: str = option(
        "ml-100k", '"ml-100k" (out of the wheel of recbole 1.2.1), or a folder of GroupLens\' files of any edition.'
    )
    overviews: Path | None = option(
        None, "Table with the columns movie_id, overview and, if there, tagline and keywords."
    )


@register
class MovieLens(Source):
    """Reads MovieLens' ratings, titles and genres in every edition of GroupLens; ml-100k needs no download by hand."""

    name = "movielens"
    options_class = MovieLensOptions
    options: MovieLensOptions
    licence = (
        "MovieLens: GroupLens Research, University of Minnesota; research use, cite it, no commercial use without "
        "asking"
    )
    citation = "Harper, Konstan. The MovieLens Datasets: History and Context. ACM TiiS 5(4), 2015"
    homepage = "https://grouplens.org/datasets/movielens/"
    tags = ("genres",)

    def read(self) -> SourceData:
        log, movies = read_movielens(self.options.source)
        overviews = None if self.options.overviews is None else read_overviews(self.options.overviews)
        return SourceData(log, with_overviews(movies, overviews), protocols=("leave_one_out", "ratio"))

    def corpus_name(self) -> str:
        folder = Path(self.options.source).expanduser()
        return folder.resolve().name if folder.is_dir() else self.options.source

    def about(self) -> str:
        return about_in("movielens", "## Sources, licences, citations")
