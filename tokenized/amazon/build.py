"""Build a corpus from Amazon's reviews and metadata of one category: 2014, 2018 or 2023.

Download the two files of a category yourself (README.md beside this file says where), then:

  python tokenized/amazon/build.py --year 2014 --reviews ratings_Baby.csv --metadata meta_Baby.json.gz
  python tokenized/amazon/build.py --year 2018 --reviews Prime_Pantry.csv --metadata meta_Prime_Pantry.json.gz \\
      --unknown-items drop --duplicates keep     # as UniSRec does it, but for rows that are the same to the letter
  python tokenized/amazon/build.py --year 2023 --reviews All_Beauty.jsonl.gz --metadata meta_All_Beauty.jsonl.gz

With the product photos (once; what is there is not asked for again):

  python tokenized/amazon/build.py --year 2018 --reviews … --metadata … --download-images photos/pantry
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from seqmm.cli import run_recipe

SOURCES = {
    2014: "https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html",
    2018: "https://cseweb.ucsd.edu/~jmcauley/datasets/amazon_v2/",
    2023: "https://amazon-reviews-2023.github.io/",
}
CITATIONS = {
    2014: "McAuley, Targett, Shi, van den Hengel. SIGIR 2015; He and McAuley. WWW 2016",
    2018: "Ni, Li, McAuley. EMNLP-IJCNLP 2019",
    2023: "Hou, Li, He, Yan, Chen, McAuley. arXiv:2403.03952",
}
LICENCE = (
    "none stated by the authors; research use, cite them. The reviews and product texts are Amazon's and its users'"
)


@dataclass
class Arguments:
    """Build a corpus from Amazon's files."""

    reviews: Path
    """Reviews (.json, .jsonl) or ratings only (.csv), also .gz."""
    year: Literal[2014, 2018, 2023]
    """Which of the three collections: their files differ."""
    metadata: Path | None = None
    """Metadata of the same category; without it there is no text."""
    output: Path | None = None
    """Folder to write; tokenized/amazon/<name of the reviews>-<year> if absent."""
    protocols: tuple[Literal["leave_one_out", "ratio", "temporal", "cold"], ...] = ("leave_one_out", "ratio")
    """How to split. temporal and cold get folders of their own beside the output: they keep other users and items."""
    k_core: int = 5
    """Iterated: users and items with fewer interactions are dropped; 0 = none."""
    duplicates: Literal["first", "last", "keep"] = "first"
    """Which of a user's reviews of one item stays."""
    unknown_items: Literal["keep", "drop", "refuse"] = "keep"
    """Reviews of items without metadata: keep them (without text), drop them (UniSRec), or an error."""
    seed: int = 0
    """Of the numbering, the ties, and the random splits."""
    download_images: Path | None = None
    """Folder to download the items' photos into; nothing is downloaded without it."""
    images_per_item: int = 1
    """The first so many photos."""
    overwrite: bool = False
    """Replace a corpus that is already there."""


def main() -> None:
    arguments = tyro.cli(Arguments, description=__doc__, config=(tyro.conf.FlagConversionOff,))

    from seqmm.building.build import build, download, next_steps
    from seqmm.data.readers.amazon import read_metadata, read_reviews

    year, photos = arguments.year, arguments.download_images
    if photos is not None and arguments.metadata is None:
        raise ValueError("the photos' URLs are in the metadata: give --metadata, or leave --download-images out")
    category = arguments.reviews.name.split(".")[0]
    log = read_reviews(arguments.reviews, year)
    items = None if arguments.metadata is None else read_metadata(arguments.metadata, year, log.item_ids)
    built = build(
        log,
        items,
        arguments.output or Path("tokenized") / "amazon" / f"{category}-{year}",
        protocols=arguments.protocols,
        about=Path(__file__).with_name("README.md"),
        overwrite=arguments.overwrite,
        k=arguments.k_core,
        duplicates=arguments.duplicates,
        unknown_items=arguments.unknown_items,
        seed=arguments.seed,
        tags=() if items is None else ("brand", "categories"),
        info={"collection": year, "licence": LICENCE, "citation": CITATIONS[year], "from": SOURCES[year]},
    )
    if photos is not None:
        download(built, photos, "images", arguments.images_per_item)
    print("\n".join(next_steps(built, () if photos is None else (photos,), "images")))


if __name__ == "__main__":
    run_recipe(main)
