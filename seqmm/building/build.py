"""From what a source read to folders of corpora: protocols, the card's text, images, what to do next."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqmm.data.card import write_card
from seqmm.data.corpus import Corpus
from seqmm.data.filtering import Log, digest_of
from seqmm.data.image_download import corpus_urls, download_images
from seqmm.data.item_images import ImageFiles
from seqmm.data.one_source import check_digest
from seqmm.data.preparation import Preparation
from seqmm.data.prepare import prepare, statistics
from seqmm.data.sources.base import SourceData
from seqmm.data.store import ProtocolRecord, files_of, read_items, read_record
from seqmm.features.readers.item_text import PLAIN_FIELDS
from seqmm.files import check_free, replacing
from seqmm.leftovers import tidy, tidy_inside
from seqmm.names import Protocol
from seqmm.options import option_fields

if TYPE_CHECKING:
    import polars as pl

logger = logging.getLogger(__name__)

OWN_FOLDER = ("temporal", "cold")
"""Protocols that drop users without a train interaction, so that their users and items are not those of the others."""


@dataclass(frozen=True)
class Built:
    """A folder that was written."""

    folder: Path
    protocols: tuple[Protocol, ...]


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
    data: SourceData,
    folder: Path,
    *,
    protocols: Sequence[Protocol],
    name: str | None = None,
    about: str = "",
    overwrite: bool = False,
    extract: Callable[[Path], None] | None = None,
    say: Callable[[str], None] = logger.info,
    **settings: Any,
) -> list[Built]:
    """Prepares what a source read under several protocols and writes them; a new folder appears whole or not at all.

    The protocols share ``folder``; ``temporal`` and ``cold``, which have other users and items, get folders of their
    own beside it (``<folder>-temporal``), unless one of them is the only one. A folder that holds a corpus of the same
    interactions, users and items gets the protocols that it lacks; those that are there must be the same ones.

    Args:
        data: of a source.
        folder: to write.
        protocols: any of :data:`seqmm.names.PROTOCOLS`.
        name: of the corpus; the folder's if None.
        about: Markdown that goes into the card, under what is kept.
        overwrite: replace a corpus that is there.
        extract: adds feature sets to a folder before it takes its place.
        say: gets the lines about what came out.
        settings: of :class:`~seqmm.data.preparation.Preparation` and :func:`~seqmm.data.prepare.prepare`, whose
            ``features`` and ``info`` are the source's unless given.

    Raises:
        ValueError: a folder holds something; what :func:`~seqmm.data.prepare.prepare` refuses.
    """
    if not protocols:
        raise ValueError("no protocol to prepare: name one (protocols: leave_one_out)")
    how = {each.name: settings.pop(each.name) for each in option_fields(Preparation) if each.name in settings}
    settings = {"features": data.features, "info": data.info} | settings
    settings |= {"items": data.items, "id_column": data.id_column}
    plan = list(_folders(folder, list(dict.fromkeys(protocols))))
    _check_rooms(plan, overwrite, data.log)
    with ExitStack() as stack:  # all are written before the first takes its place
        for target, names in plan:
            fresh = overwrite or not (target / "corpus.json").is_file()
            place = stack.enter_context(replacing(target, files_of(target))) if fresh else target
            called = target.name if name is None else name + target.name.removeprefix(folder.name)
            ways = [Preparation(**how, protocol=protocol) for protocol in names]
            known = {} if fresh else _known(target)
            for prepared in [prepare(data.log, way, name=called, **settings) for way in ways]:
                if prepared.corpus.protocol in known:  # by a run that was killed before it had written all
                    _check_same(target, prepared.corpus, known)
                    say(f"{target}\n  {prepared.corpus.protocol} is there already, with the same interactions")
                    continue
                prepared.save(place)
                say(f"{target}\n  " + "\n  ".join(statistics(prepared)))
            if fresh and about:
                with (place / "README.md").open("a", encoding="utf-8") as card:
                    card.write("\n" + about)
            if extract is not None:
                extract(place)
    return [Built(target, tuple(names)) for target, names in plan]


def _check_rooms(plan: Sequence[tuple[Path, list[Protocol]]], overwrite: bool, log: Log) -> None:
    """Whether all the folders may be written; one that a killed run has written already is not in the way."""
    for target, _ in plan:
        tidy(target)  # of what a killed process left
    done = all(protocol in _known(target) for target, names in plan for protocol in names)
    for target, names in plan:
        _check_room(target, names if done else (), overwrite, log)


def _folders(folder: Path, protocols: list[Protocol]) -> Iterator[tuple[Path, list[Protocol]]]:
    shared = [protocol for protocol in protocols if protocol not in OWN_FOLDER]
    if shared:
        yield folder, shared
    for protocol in protocols:
        if protocol in OWN_FOLDER:
            yield folder if protocols == [protocol] else folder.with_name(f"{folder.name}-{protocol}"), [protocol]


def _check_room(folder: Path, protocols: Sequence[Protocol], overwrite: bool, log: Log) -> None:
    if overwrite or not (folder / "corpus.json").is_file():
        check_free(folder, "corpus.json", "a prepared corpus", overwrite=overwrite)
        return
    record = read_record(folder)
    check_digest(folder, record, digest_of(log), f"{len(log):,} of {log.source}")
    there = [protocol for protocol in protocols if protocol in record["protocols"]]
    if there:
        tidy_inside(folder)
        write_card(folder)  # one that was stopped after the record has the card of before
        raise ValueError(
            f"{folder} exists and is not empty: it holds {', '.join(there)}; set `overwrite=True` to replace it"
        )


def _known(folder: Path) -> Mapping[Protocol, ProtocolRecord]:
    """The protocols that a folder holds, if it holds a corpus."""
    return read_record(folder)["protocols"] if (folder / "corpus.json").is_file() else {}


def _check_same(folder: Path, corpus: Corpus, known: Mapping[Protocol, ProtocolRecord]) -> None:
    if known[corpus.protocol]["fingerprint"] != corpus.fingerprint():
        raise ValueError(
            f"{folder} exists and is not empty: it holds {corpus.protocol} of other interactions or settings; set "
            "`overwrite=True` to replace it"
        )


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


def download(built: Sequence[Built], images: Path, column: str, images_per_item: int) -> list[str]:
    """Downloads the images of what was built into one folder; says how it went, a line each."""
    urls: Mapping[str, list[str]] = {}
    for one in built:
        urls = {**urls, **corpus_urls(one.folder, column)}
    return download_images(urls, images, images_per_item=images_per_item).lines()
