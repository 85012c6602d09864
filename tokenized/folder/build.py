"""Build a corpus from a folder of your own: a table of interactions, a table of items, a folder of images.

  shop/interactions.csv     user_id, item_id, and if there is one a timestamp       (.csv, .tsv, .parquet, also .gz)
  shop/items.csv            item_id, title, description, brand, categories, …      (also .json, .jsonl)
  shop/images/              <item id>.jpg, further ones <item id>_2.jpg …           (or .tar files of them)

  python tokenized/folder/build.py --source shop

Columns of other names, lists in a cell, vectors that are there already, photos behind URLs:

  python tokenized/folder/build.py --source shop --user customer --item sku --timestamp when --rename title=name \\
      --lists categories='|' --tags brand categories --feature clip=shop/clip.parquet
  python tokenized/folder/build.py --source shop --download-images shop/images --image-column photo_url

Ids are text ("007" stays "007"). What does not fit is counted, printed and written into the card: rows without user or
item, items listed twice, items nobody had, interactions with items that are not in the table, images of no item.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from seqmm.cli import run_recipe
from seqmm.data.readers.columns import TableArguments
from seqmm.names import pairs


@dataclass
class Arguments:
    """Build a corpus from a folder of your own."""

    source: Path
    """The folder."""
    output: Path | None = None
    """Folder to write; tokenized/folder/<name of the source> if absent."""
    interactions: Path | None = None
    """Table of interactions; interactions.* in the source if absent."""
    items: Path | None = None
    """Table of items; items.* in the source if there is one."""
    images: tuple[Path, ...] | None = None
    """Folders or tar files of images; images/ in the source if there is one."""

    table: tyro.conf.OmitArgPrefixes[TableArguments] = field(default_factory=TableArguments)
    tags: tuple[str, ...] = ()
    """Items columns that become tag features."""
    feature: tuple[str, ...] = ()
    """Vectors that are there already, name=file; see recipes/prepare.py."""
    duplicate_items: Literal["first", "refuse"] = "first"
    """An id with several rows in the items table: the first counts, or an error."""
    unknown_items: Literal["keep", "drop", "refuse"] = "keep"
    """Interactions with items that are not in the items table: keep them (without text), drop them, or an error."""

    protocols: tuple[Literal["leave_one_out", "ratio", "temporal", "cold", "given"], ...] | None = None
    """How to split; given with labels, else leave_one_out (if there is an order) and ratio. temporal and cold get
    folders of their own beside the output: they keep other users and items."""
    k_core: int | None = None
    """Iterated: users and items with fewer interactions are dropped; 5 if absent, and 0 with split labels."""
    duplicates: Literal["first", "last", "keep"] = "first"
    """Which of a user's interactions with one item stays."""
    drop_untrained: bool = False
    """With split labels: drop users without a train interaction instead of refusing them."""
    seed: int = 0
    """Of the numbering, the ties, and the random splits."""
    download_images: Path | None = None
    """Folder to download the items' images into; nothing is downloaded without it."""
    image_column: str = "images"
    """Items column of the images' URLs."""
    images_per_item: int = 1
    """The first so many of an item's URLs."""
    overwrite: bool = False
    """Replace a corpus that is already there."""


def main() -> None:
    arguments = tyro.cli(Arguments, description=__doc__, config=(tyro.conf.FlagConversionOff,))

    from seqmm.building.build import build, count_images, download, next_steps, sensible_protocols
    from seqmm.data.readers.table import find_table

    source, photos = arguments.source, arguments.download_images
    log = arguments.table.read_log(arguments.interactions or find_table(source, "interactions"))
    table = arguments.items or find_table(source, "items", required=False)
    items = None if table is None else arguments.table.read_items(table)
    if photos is not None and (items is None or arguments.image_column not in items.columns):
        have = (
            f"{table} has the columns {', '.join(items.columns)}" if items is not None else f"{source} has no items.*"
        )
        raise ValueError(f"--download-images needs a column {arguments.image_column!r} of URLs; {have}")

    images = arguments.images
    if images is None:
        images = (source / "images",) if (source / "images").is_dir() else ()
    there = [path for path in images if photos is None or path.resolve() != photos.resolve()]
    files = {name: Path(file) for name, file in pairs(arguments.feature, "--feature").items()}
    built = build(
        log,
        items,
        arguments.output or Path("tokenized") / "folder" / source.resolve().name,
        protocols=sensible_protocols(log) if arguments.protocols is None else arguments.protocols,
        about=Path(__file__).with_name("README.md"),
        overwrite=arguments.overwrite,
        k=arguments.k_core if arguments.k_core is not None else 0 if log.label is not None else 5,
        duplicates=arguments.duplicates,
        drop_untrained=arguments.drop_untrained,
        seed=arguments.seed,
        tags=arguments.tags,
        features={name: (file, file.name) for name, file in files.items()},
        id_column=arguments.table.item,
        duplicate_items=arguments.duplicate_items,
        unknown_items=arguments.unknown_items,
        info=count_images(there, log, items) if there else {},
    )
    if photos is not None:
        download(built, photos, arguments.image_column, arguments.images_per_item)
        images = (*there, photos)
    print("\n".join(next_steps(built, images, arguments.image_column)))


if __name__ == "__main__":
    run_recipe(main)
