"""Amazon's reviews and product metadata."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from pathlib import Path

from seqmm.data.readers.amazon import Year, read_metadata, read_reviews
from seqmm.data.sources.base import Source, SourceData, about_in, stem
from seqmm.options import Options, option
from seqmm.registry import register

HOMEPAGES = {
    2014: "https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html",
    2018: "https://cseweb.ucsd.edu/~jmcauley/datasets/amazon_v2/",
    2023: "https://amazon-reviews-2023.github.io/",
}
CITATIONS = {
    2014: "McAuley, Targett, Shi, van den Hengel. SIGIR 2015; He and McAuley. WWW 2016",
    2018: "Ni, Li, McAuley. EMNLP-IJCNLP 2019",
    2023: "Hou, Li, He, Yan, Chen, McAuley. arXiv:2403.03952",
}


@dataclass(frozen=True)
class AmazonOptions(Options):
    """One category of one collection."""

    year: Year = option(MISSING, "Which of the three collections: their files differ.")
    interactions: Path = option(MISSING, "Reviews of a category (.json, .jsonl) or ratings only (.csv), also .gz.")
    items: Path | None = option(None, "Metadata of the same category; without it there is no text.")


@register
class Amazon(Source):
    """Reads Amazon's reviews and metadata of one category, of 2014, 2018 or 2023."""

    name = "amazon"
    options_class = AmazonOptions
    options: AmazonOptions
    licence = (
        "none stated by the authors; research use, cite them. The reviews and product texts are Amazon's and its users'"
    )
    tags = ("brand", "categories")

    def read(self) -> SourceData:
        year, file = self.options.year, self.options.items
        log = read_reviews(self.options.interactions, year)
        items = None if file is None else read_metadata(file, year, log.item_ids)
        return SourceData(log, items, protocols=("leave_one_out", "ratio"))

    def corpus_name(self) -> str:
        return f"{stem(self.options.interactions)}-{self.options.year}"

    def info(self) -> dict[str, object]:
        year = self.options.year
        return {
            "collection": year,
            "licence": self.licence,
            "citation": CITATIONS[year],
            "from": HOMEPAGES[year],
        }

    def about(self) -> str:
        return about_in("amazon")
