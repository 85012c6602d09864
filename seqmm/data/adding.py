"""Adding a feature set to a prepared corpus, and its line to the card."""

from __future__ import annotations

from pathlib import Path

from seqmm.data.card import write_card
from seqmm.data.feature_sets import Features
from seqmm.data.feature_store import feature_folder, write_feature_files
from seqmm.data.store import read_ids, read_record
from seqmm.files import replacing


def write_features(folder: str | Path, name: str, features: Features) -> None:
    """Adds or replaces a feature set of a prepared corpus, and its line in the card.

    Raises:
        FileNotFoundError: ``folder`` holds no corpus.
        ValueError: rows unlike the items, NaN, a name that is taken.
    """
    folder = Path(folder)
    record = read_record(folder)
    _, ids = read_ids(folder, "items", record)
    with replacing(folder / feature_folder(name)) as temporary:
        write_feature_files(temporary, name, features, record["num_items"], ids)
    write_card(folder)
