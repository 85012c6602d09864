"""Datasets of the Hub, and folders that the library ``datasets`` reads."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqmm.data.filtering import Log
from seqmm.data.readers.columns import items_of, log_of
from seqmm.data.readers.frames import columns_of, describe, frame_of
from seqmm.data.readers.roles import roles_of
from seqmm.data.sources.base import Source, SourceData
from seqmm.data.sources.table import ColumnOptions
from seqmm.data.splits import LABELS
from seqmm.hub.access import explain, hub_api, one_line
from seqmm.options import option
from seqmm.registry import register

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, kw_only=True)
class DatasetsOptions(ColumnOptions):
    """Where the two tables are."""

    interactions: str = option(
        MISSING, "Dataset with the interactions: org/name on the Hub, or a folder that datasets.load_dataset reads."
    )
    interactions_config: str | None = option(None, "Configuration of the interactions' dataset, if it has several.")
    interactions_split: tuple[str, ...] = option(
        ("train",),
        "Splits of the interactions' dataset to read. Of several, each train, validation or test, the names become the "
        "labels of the protocol given, unless a column has them.",
    )
    items: str | None = option(
        None, "Dataset with the items; that of the interactions if absent and a configuration of items is given."
    )
    items_config: str | None = option(None, "Configuration of the items' dataset, if it has several.")
    items_split: str = option("train", "Split of the items' dataset to read.")
    items_columns: tuple[str, ...] | None = option(None, "Items columns to read, the ids among them; all if absent.")
    revision: str | None = option(None, "Branch, tag or commit of the interactions' dataset (and of the items' in it).")
    streaming: bool = option(
        False,
        "Read rows as they come, without a copy in datasets' cache; only the columns needed are fetched. A folder is "
        "always read so.",
    )


@register
class Datasets(Source):
    """Reads a dataset of the Hub, or a folder that datasets.load_dataset reads, streaming or not."""

    name = "datasets"
    options_class = DatasetsOptions
    options: DatasetsOptions

    def read(self) -> SourceData:
        options = self.options
        commit = commit_of(options.interactions, options.revision)
        parts = [
            load(options.interactions, options.interactions_config, split, commit, options.streaming)
            for split in options.interactions_split
        ]
        info = self._origin(parts[0]) | ({"revision": commit} if commit else {})
        return SourceData(self._log(parts), self._items(commit), id_column=options.item, info=info)

    def _items(self, commit: str | None) -> pl.DataFrame | None:
        options = self.options
        if options.items is None and options.items_config is None:
            return None
        place = options.items or options.interactions
        revision = commit if place == options.interactions else commit_of(place, None)
        table = load(place, options.items_config, options.items_split, revision, options.streaming)
        return items_of(frame_of(table, options.items_columns), place, **options.item_columns())

    def _log(self, parts: list[Any]) -> Log:
        import polars as pl

        where, names = self.options.interactions, self.options.interactions_split
        roles = roles_of(columns_of(parts[0]), where, **self.options.columns())
        frames = [frame_of(part, list(roles.values())) for part in parts]
        if "split" not in roles and len(parts) > 1:
            for name in names:
                if name.lower() not in LABELS:
                    raise ValueError(
                        f"interactions_split {' '.join(names)}: of several splits each must be train, validation or "
                        f"test, {name!r} is not; or name the column of labels (`split`)"
                    )
            roles |= {"split": "split"}
            frames = [frame.with_columns(split=pl.lit(name)) for frame, name in zip(frames, names, strict=True)]
        whole = pl.concat(frames, how="vertical_relaxed")
        return log_of(whole, roles, where, source=describe(parts[0]), **self.options.times())

    def _origin(self, part: Any) -> dict[str, object]:
        """What the dataset says of itself."""
        options, info = self.options, part.info
        said = {
            "licence": info.license,
            "citation": one_line(info.citation or ""),
            "from": info.homepage or options.interactions,
            "dataset": options.interactions,
            "config": options.interactions_config,
            "splits": " ".join(options.interactions_split),
        }
        return {key: text for key, text in said.items() if text}

    def corpus_name(self) -> str:
        return Path(self.options.interactions).name


def commit_of(path: str, revision: str | None) -> str | None:
    """Which commit of a Hub's dataset is read, so that all its parts are of one and the card says which.

    Returns:
        ``revision`` itself for a folder, and offline, where only what is in the cache can be read.

    Raises:
        FileNotFoundError: there is no such dataset, or the Hub cannot be reached.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import httpx

    if Path(path).exists() or constants.HF_HUB_OFFLINE:
        return revision
    try:
        return hub_api().dataset_info(path, revision=revision).sha
    except httpx.HTTPError as error:
        why = explain(error, f"dataset {path}", revision, reading=True)
        raise FileNotFoundError(f"no folder {path}, and {why}") from error


def load(path: str, config: str | None, split: str, revision: str | None, streaming: bool) -> Any:
    """One split of a dataset.

    Raises:
        FileNotFoundError: there is none, or the Hub cannot be reached.
        ValueError: an unknown configuration or split, files that cannot be read.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError, DatasetsError
    from huggingface_hub.utils import httpx

    streaming = streaming or Path(path).exists()  # datasets' cache takes two folders of one name for each other
    try:
        return load_dataset(path, config, split=split, revision=revision, streaming=streaming)
    except (DatasetNotFoundError, ConnectionError, httpx.HTTPError) as error:
        why = explain(error, f"dataset {path}", revision, reading=True)
        raise FileNotFoundError(f"no folder {path}, and {why}") from error
    except (DatasetsError, ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read as a dataset: {one_line(error)}") from error
