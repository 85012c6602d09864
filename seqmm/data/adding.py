"""Adding a feature set to a prepared corpus, and its line to the card."""

from __future__ import annotations

from pathlib import Path

from seqmm.data.card import write_card
from seqmm.data.feature_sets import Features
from seqmm.data.feature_store import feature_folder, feature_names, hash_rows, read_about, write_feature_files
from seqmm.data.store import FEATURE_FILES, read_ids, read_record
from seqmm.files import replacing
from seqmm.leftovers import tidy_inside


def is_stored(folder: str | Path, name: str, features: Features) -> bool:
    """Whether a prepared corpus has this very feature set: the same numbers, made by the same."""
    folder = Path(folder)
    record = read_record(folder)
    if name not in feature_names(folder):
        return False
    about = read_about(folder, name)
    vocabulary = None if features.vocabulary is None else list(features.vocabulary)
    return (about["kind"], about["provenance"], about.get("vocabulary"), about["items"], about["sha256"]) == (
        features.kind,
        dict(features.provenance),
        vocabulary,
        record["items"],
        hash_rows(features.values, features.offsets, features.missing),
    )


def write_features(folder: str | Path, name: str, features: Features) -> None:
    """Adds or replaces a feature set of a prepared corpus, and its line in the card.

    Raises:
        FileNotFoundError: ``folder`` holds no corpus.
        ValueError: rows unlike the items, NaN, a name that is taken.
    """
    folder = Path(folder)
    record = read_record(folder)
    tidy_inside(folder)
    _, ids = read_ids(folder, "items", record)
    with replacing(folder / feature_folder(name), FEATURE_FILES) as temporary:
        write_feature_files(temporary, name, features, record["num_items"], ids)
    write_card(folder)
