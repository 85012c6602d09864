"""What the builders share: protocols into one folder, the card's text, what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqmm.data.filtering import Log
from seqmm.data.image_download import corpus_urls, download_images
from seqmm.data.item_images import ImageFiles
from seqmm.data.prepare import prepare, statistics
from seqmm.data.store import read_items
from seqmm.features.readers.item_text import PLAIN_FIELDS
from seqmm.files import replacing
from seqmm.names import Protocol

if TYPE_CHECKING:
    import polars as pl


OWN_FOLDER = ("temporal", "cold")
"""Protocols that drop users without a train interaction, so that their users and items are not those of the others."""


@dataclass(frozen=True)
class Built:
    """A folder that was written."""

    folder: Path
    protocols: tuple[Protocol, ...]


def sensible_protocols(log: Log) -> tuple[Protocol, ...]:
    """The protocols a log allows that keep all its users: its own labels, or else by order and at random."""
    if log.label is not None:
        return ("given",)
    return ("ratio",) if log.timestamp is None and log.position is None else ("leave_one_out", "ratio")


def count_images(paths: Sequence[Path], log: Log, items: pl.DataFrame | None) -> dict[str, object]:
    """For the card: how many of the source's items have an image, and how many images are of no item.

    Raises:
        FileNotFoundError, ValueError: see :class:`seqmm.data.item_files.ItemFiles`.
    """
    ids = dict.fromkeys([*log.item_ids, *(items["id"].drop_nulls().to_list() if items is not None else ())])
    files = ImageFiles(paths, ids)
    counts = [len(files.places(item)) for item in ids]
    return {
        "items_with_image": f"{sum(map(bool, counts)):,} of the source's {len(ids):,}",
        "images_of_no_item": len(files) - sum(counts),
    }


def build(
    log: Log,
    items: pl.DataFrame | None,
    folder: Path,
    *,
    protocols: Sequence[Protocol],
    about: Path,
    overwrite: bool = False,
    extract: Callable[[Path], None] | None = None,
    **settings: Any,
) -> list[Built]:
    """Prepares a log under several protocols and writes them, each folder whole or not at all; prints what came out.

    The protocols share ``folder``; ``temporal`` and ``cold``, which have other users and items, get folders of their
    own beside it (``<folder>-temporal``), unless one of them is the only one.

    Args:
        log: of a reader.
        items: of a reader, or None.
        folder: to write.
        protocols: any of :data:`seqmm.names.PROTOCOLS`.
        about: Markdown file; the part from its heading "What is in it" goes into the card, under what is kept.
        overwrite: replace a corpus that is there.
        extract: adds feature sets to a folder before it takes its place.
        settings: of :func:`seqmm.data.prepare.prepare`; its ``features`` are files of vectors.

    Raises:
        ValueError: a folder holds something; what :func:`~seqmm.data.prepare.prepare` refuses.
    """
    if not protocols:
        raise ValueError("no protocol to prepare: name one (--protocols leave_one_out)")
    plan = list(_folders(folder, list(dict.fromkeys(protocols))))
    for target, _ in plan:
        _check_free(target, overwrite)
    kept = about.read_text(encoding="utf-8")
    kept = kept[kept.index("## What is in it") :]
    with ExitStack() as stack:  # all are written before the first takes its place
        for target, names in plan:
            temporary = stack.enter_context(replacing(target))
            for protocol in names:
                prepared = prepare(log, name=target.name, protocol=protocol, items=items, **settings)
                prepared.save(temporary)
                print(f"{target}\n  " + "\n  ".join(statistics(prepared)))
            with (temporary / "README.md").open("a", encoding="utf-8") as card:
                card.write("\n" + kept)
            if extract is not None:
                extract(temporary)
    return [Built(target, tuple(names)) for target, names in plan]


def _folders(folder: Path, protocols: list[Protocol]) -> Iterator[tuple[Path, list[Protocol]]]:
    shared = [protocol for protocol in protocols if protocol not in OWN_FOLDER]
    if shared:
        yield folder, shared
    for protocol in protocols:
        if protocol in OWN_FOLDER:
            yield folder if protocols == [protocol] else folder.with_name(f"{folder.name}-{protocol}"), [protocol]


def _check_free(folder: Path, overwrite: bool) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    corpus = (folder / "corpus.json").is_file()
    if not (corpus and overwrite):
        hint = "add --overwrite True to replace it" if corpus else "choose another --output"
        raise ValueError(f"{folder} exists and is not empty; {hint}")


def next_steps(built: Sequence[Built], images: Sequence[Path] = (), image_column: str | None = None) -> list[str]:
    """The commands that make features of what was built, for the terminal.

    Args:
        built: what :func:`build` returned.
        images: folders of the items' images, which is what "image" features are made of.
        image_column: a column with their URLs, where they were not downloaded.
    """
    out = []
    for one in built:
        corpus = shlex.quote(str(one.folder))
        have = read_items(one.folder).column_names
        own = [name for name in have if name not in ("item", "id", "source_index", "source_row", image_column)]
        kinds = ["text", "text_sentences"] if any(name in PLAIN_FIELDS for name in own) else []
        flags = ""
        if images:
            kinds += ["image", "image_keywords"]
            flags = " --images " + shlex.join(map(str, images))
        if kinds:
            features = " ".join(kinds)
            out.append(f"next: accelerate launch recipes/extract.py --corpus {corpus} --features {features}{flags}")
            unread = [name for name in own if name not in PLAIN_FIELDS]
            if unread:
                out.append(
                    f"text: of {', '.join(name for name in own if name in PLAIN_FIELDS)}; not of {', '.join(unread)}, "
                    "which features do not know by these names (--rename description=…)"
                )
        elif own:
            out.append(
                f"next: rename the columns with texts (--rename title=…; there are {', '.join(own)}; features know "
                f"{', '.join(PLAIN_FIELDS)})"
            )
        else:
            out.append(
                "next: accelerate launch recipes/train.py --config recipes/configs/lightgcn/movielens.yaml "
                f"--data.path {corpus} --data.protocol {one.protocols[0]}"
            )
        if image_column in have and not images:
            out.append(f"images: their URLs are in the column {image_column!r}; add --download-images DIR to get them")
    return out


def download(built: Sequence[Built], images: Path, column: str, images_per_item: int) -> None:
    """Downloads the images of what was built into one folder, and prints how it went."""
    urls: Mapping[str, list[str]] = {}
    for one in built:
        urls = {**urls, **corpus_urls(one.folder, column)}
    print("\n".join(download_images(urls, images, images_per_item=images_per_item).lines()))
