"""A folder of one's own."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from pathlib import Path

from seqmm.data.readers.table import find_table
from seqmm.data.sources.base import Source, SourceData, about_in, named_paths
from seqmm.data.sources.table import ColumnOptions
from seqmm.options import option
from seqmm.registry import register


@dataclass(frozen=True, kw_only=True)
class FolderOptions(ColumnOptions):
    """Where things are in the folder."""

    source: Path = option(
        MISSING, "Folder with a table of interactions, and if you have them one of items, and images."
    )
    interactions: Path | None = option(None, "Table of interactions; interactions.* in the folder if absent.")
    items: Path | None = option(None, "Table of items; items.* in the folder if there is one.")
    images: tuple[Path, ...] | None = option(
        None, "Folders or tar files of images; images/ in the folder if there is one."
    )


@register
class Folder(Source):
    """Reads a folder of your own: interactions.csv, items.csv, and images named by item."""

    name = "folder"
    options_class = FolderOptions
    options: FolderOptions

    def read(self) -> SourceData:
        options = self.options
        log = options.read_log(options.interactions or find_table(options.source, "interactions"))
        table = options.items or find_table(options.source, "items", required=False)
        return SourceData(
            log,
            None if table is None else options.read_items(table),
            id_column=options.item,
            images=named_paths(options.images, options.source / "images"),
            k_core=None if log.label is None else 0,
        )

    def corpus_name(self) -> str:
        return self.options.source.resolve().name

    def about(self) -> str:
        return about_in("folder")
