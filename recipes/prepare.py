"""Prepare a corpus: read interactions and items, filter, order, split, number, and write a Hub-shaped folder.

From Amazon's files (reviews and metadata of one category; brand and categories become tags):

  python recipes/prepare.py --kind amazon2023 --interactions Baby_Products.jsonl.gz \\
      --items meta_Baby_Products.jsonl.gz --output corpora/baby
  python recipes/prepare.py --kind amazon2014 --interactions ratings_Beauty.csv --output corpora/beauty

From GroupLens' files, with a table of overviews; tokenized/movielens/build.py does this and the features in one:

  python recipes/prepare.py --kind movielens --interactions ml-latest-small --items overviews.tsv.gz \\
      --output corpora/movies

From a table (.csv, .tsv, .parquet, also .gz), with its split labels and feature vectors:

  python recipes/prepare.py --interactions inter.tsv.gz --items items.tsv --rename title=name --tags brand \\
      --split x_label --protocol given --feature image=image_feat.npy text=text_by_id.parquet --output corpora/mine

Another protocol into the same folder: the same command with another --protocol. That works where the protocol keeps the
same users and items: leave_one_out and ratio do, given does with the others' --k-core (its own is 0). temporal and cold
drop users without a train interaction, and then the folder refuses them: give them an --output of their own.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from seqmm.cli import run_recipe
from seqmm.data.readers.columns import TableArguments
from seqmm.names import pairs

if TYPE_CHECKING:
    import polars as pl

    from seqmm.data.filtering import Log


@dataclass
class Arguments:
    """Prepare a corpus."""

    interactions: Path
    """File of interactions; for movielens the folder of GroupLens' files, or ml-100k (out of a package)."""
    output: Path
    """Folder to write. One with the same users and items gets another protocol; with others it is refused."""
    kind: Literal["table", "amazon2014", "amazon2018", "amazon2023", "movielens"] = "table"
    """What the files are: a table with the columns named below, Amazon's reviews and metadata, or MovieLens."""
    items: Path | None = None
    """Items table (also .json, .jsonl), or Amazon's metadata, or MovieLens' overviews (movie_id, overview, and if there
    tagline and keywords)."""
    name: str | None = None
    """Of the corpus; the folder's name if absent."""

    table: tyro.conf.OmitArgPrefixes[TableArguments] = field(default_factory=TableArguments)
    tags: tuple[str, ...] | None = None
    """Items columns that become tag features; if absent brand and categories for Amazon, genres for MovieLens."""
    feature: tuple[str, ...] = ()
    """Feature sets, name=file: .parquet, .csv, .tsv, .pt, .safetensors by id; or rows (.npy, .pt, .safetensors), where
    row r belongs to row r of the items table, without one to the item with id r."""
    encoder: tuple[str, ...] = ()
    """What made a feature set, name=encoder, kept as its provenance; the file's name if absent."""

    duplicate_items: Literal["first", "refuse"] = "first"
    """An id with several rows in the items table: the first counts, or an error."""
    unknown_items: Literal["keep", "drop", "refuse"] = "keep"
    """Interactions with items that are not in the items table: keep them (without text), drop them, or an error."""

    protocol: Literal["leave_one_out", "ratio", "temporal", "cold", "given"] = "leave_one_out"
    """How to split: last item, per-user random 8:1:1, global time, items held out, or labels of the file."""
    k_core: int | None = None
    """Iterated: users and items with fewer interactions are dropped; 5 if absent, and 0 with the protocol given."""
    duplicates: Literal["first", "last", "keep"] = "first"
    """Which of a user's interactions with one item stays."""
    tie_order: Literal["seeded", "source"] = "seeded"
    """Order of a user's interactions at one time: a seeded hash, or as in the file (which can tell the label)."""
    index_order: Literal["permuted", "source"] = "permuted"
    """Numbering of users and items: seeded random, or the file's (which can tell the label)."""
    drop_untrained: bool = False
    """With given: drop users without a train interaction instead of refusing them."""
    validation: float = 0.1
    """Share of interactions (temporal) or items (cold)."""
    test: float = 0.1
    """The same."""
    seed: int = 0
    """Of the numbering, the ties, and the random protocols."""
    overwrite: bool = False
    """Replace a folder that holds another corpus."""


def main() -> None:
    arguments = tyro.cli(Arguments, description=__doc__, config=(tyro.conf.FlagConversionOff,))

    from seqmm.data.prepare import prepare, statistics

    started = time.perf_counter()
    log, items = read(arguments)
    encoders = pairs(arguments.encoder, "--encoder")
    files = {name: Path(file) for name, file in pairs(arguments.feature, "--feature").items()}
    for name in sorted(encoders.keys() - files.keys()):
        raise ValueError(
            f"--encoder {name}=…: no such feature set in --feature, which has: {', '.join(files) or 'none'}"
        )
    usual = {"table": (), "movielens": ("genres",)}.get(arguments.kind, ("brand", "categories"))
    prepared = prepare(
        log,
        name=arguments.name or arguments.output.resolve().name,
        protocol=arguments.protocol,
        seed=arguments.seed,
        k=arguments.k_core if arguments.k_core is not None else 0 if arguments.protocol == "given" else 5,
        duplicates=arguments.duplicates,
        tie_order=arguments.tie_order,
        index_order=arguments.index_order,
        drop_untrained=arguments.drop_untrained,
        validation=arguments.validation,
        test=arguments.test,
        items=items,
        tags=arguments.tags if arguments.tags is not None else usual if items is not None else (),
        features={name: (file, encoders.get(name, file.name)) for name, file in files.items()},
        id_column=arguments.table.item if arguments.kind == "table" else None,
        duplicate_items=arguments.duplicate_items,
        unknown_items=arguments.unknown_items,
    )
    print("\n".join(statistics(prepared)))
    prepared.save(arguments.output, overwrite=arguments.overwrite)
    print(f"written      {arguments.output} in {time.perf_counter() - started:.1f} s")


def read(arguments: Arguments) -> tuple[Log, pl.DataFrame | None]:
    """The log and the items table, if there is one."""
    from seqmm.data.readers.amazon import YEARS, read_metadata, read_reviews
    from seqmm.data.readers.movielens import read_movielens, read_overviews, with_overviews

    if arguments.kind != "table":
        arguments.table.refuse(f"a column of a table, which --kind {arguments.kind} is none of")
    if arguments.kind in YEARS:
        year = YEARS[arguments.kind]
        log = read_reviews(arguments.interactions, year)
        return log, None if arguments.items is None else read_metadata(arguments.items, year, log.item_ids)
    if arguments.kind == "movielens":
        overviews = None if arguments.items is None else read_overviews(arguments.items)
        log, movies = read_movielens(arguments.interactions)
        return log, with_overviews(movies, overviews)
    log = arguments.table.read_log(arguments.interactions)
    return log, None if arguments.items is None else arguments.table.read_items(arguments.items)


if __name__ == "__main__":
    run_recipe(main)
