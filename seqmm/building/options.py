"""What can be said about a corpus whatever its source is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from seqmm.data.preparation import Treatment
from seqmm.names import Protocol
from seqmm.options import option


@dataclass(frozen=True)
class CorpusOptions(Treatment):
    """How a corpus is made of what a source reads."""

    output: Path | None = option(
        None,
        "Folder to write. One that holds a corpus of the same interactions, users and items gets the protocols it "
        "lacks; one with others is refused.",
    )
    name: str | None = option(None, "Name of the corpus; the output folder's if absent.")
    protocols: tuple[Protocol, ...] | None = option(
        None,
        "How to split: last item (leave_one_out), per-user random 8:1:1 (ratio), global time (temporal), items held "
        "out (cold), labels of the source (given); if absent given with labels, else leave_one_out (if there is an "
        "order) and ratio. Beside others, temporal and cold get folders of their own, since they keep other users and "
        "items.",
    )
    k_core: int | None = option(
        None,
        "Users and items with fewer interactions are dropped, again and again; 0 = none. If absent 5, and 0 with the "
        "protocol given.",
        least=0,
    )
    drop_untrained: bool | None = option(
        None,
        "Whether users without a train interaction are dropped, or refused, with the protocol given; if absent what "
        "the source needs.",
    )
    tags: tuple[str, ...] | None = option(
        None, "Items columns that become tag features; if absent those that are usual for the source."
    )
    feature: tuple[str, ...] = option(
        (),
        "Feature sets, name=file: .parquet, .csv, .tsv, .pt, .safetensors by id; or rows (.npy, .pt, .safetensors), "
        "where row r belongs to row r of the items table, without one to the item with id r.",
    )
    encoder: tuple[str, ...] = option(
        (), "What made a feature set, name=encoder, kept as its provenance; the file's name if absent."
    )
    download_images: Path | None = option(
        None, "Folder to download the items' images into; nothing is downloaded without it."
    )
    image_column: str = option("images", "Items column of the images' URLs.")
    images_per_item: int = option(1, "How many of an item's images are downloaded.", least=1)
    overwrite: bool = option(False, "Replace a corpus that is already there.")
