"""Folders as multimodal papers publish them: labelled interactions, and ``<modality>_feat.npy`` with a row an item.

==================================  ===================================================================================
``inter.tsv``, ``*.inter``          a table (also .gz) of user_id or userID, item_id or itemID, and the label: split or
                                    x_label, 0 train, 1 validation, 2 test (MMRec and its descendants)
``train.json val.json test.json``   ``{user: [items]}`` each (MMSSL and its descendants)
==================================  ===================================================================================

Matrices pickled by scipy (``train_mat``), which such folders hold too, are not read: loading one runs what it says.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from seqmm.data.filtering import Log
from seqmm.data.readers.columns import encode
from seqmm.data.readers.content import content_of
from seqmm.data.readers.json_records import parsed
from seqmm.data.readers.table import column_names, read_log

FORMATS = "inter.tsv[.gz], <name>.inter, or train.json + val.json + test.json"
_USERS, _ITEMS, _LABELS = ("user_id", "userID"), ("item_id", "itemID"), ("split", "x_label")
_VECTORS = ("_feat.npy", "_feat.pt", "_feat.safetensors")


class Published(NamedTuple):
    """A folder as read."""

    log: Log
    features: dict[str, Path]
    """Modality -> file of vectors."""


def read_published(folder: Path) -> Published:
    """Reads a folder of labelled interactions and vectors.

    Raises:
        FileNotFoundError: no such folder, or none of the known files in it.
        ValueError: a column is missing, a file is damaged.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}; expected one with {FORMATS}")
    features = {
        file.name.removesuffix(suffix): file for suffix in _VECTORS for file in sorted(folder.glob(f"*{suffix}"))
    }
    tables = [folder / name for name in ("inter.tsv", "inter.tsv.gz", "inter.csv", "inter.csv.gz")]
    tables = [file for file in tables if file.is_file()] or sorted(folder.glob("*.inter"))
    if tables:
        return Published(_read_inter(tables[0]), features)
    if (folder / "train.json").is_file():
        return Published(_read_json(folder), features)
    found = ", ".join(sorted(file.name for file in folder.iterdir())[:10]) or "nothing"
    pickled = "; train_mat and the like are pickles, which are not read" if (folder / "train_mat").exists() else ""
    raise FileNotFoundError(f"{folder} holds no labelled interactions: expected {FORMATS}; it has {found}{pickled}")


def _read_inter(file: Path) -> Log:
    have = column_names(file)
    chosen = []
    for names in (_USERS, _ITEMS, _LABELS):
        found = next((name for name in names if name in have), None)
        if found is None:
            raise ValueError(
                f"{file} has no column {' or '.join(names)}; it has: {', '.join(have)}. Rename the right one"
            )
        chosen.append(found)
    user, item, label = chosen
    order = {role: role if role in have else None for role in ("timestamp", "position")}
    return read_log(file, user=user, item=item, split=label, **order)  # type: ignore[arg-type]


def _read_json(folder: Path) -> Log:
    rows: list[tuple[str, str, int]] = []
    for label, names in enumerate((("train",), ("val", "valid"), ("test",))):
        file = next((folder / f"{name}.json" for name in names if (folder / f"{name}.json").is_file()), None)
        if file is None:
            raise FileNotFoundError(f"{folder} has no {names[0]}.json beside train.json; expected {FORMATS}")
        lists = parsed(content_of(file).decode("utf-8"), str(file))
        if not isinstance(lists, dict) or not all(isinstance(items, list) for items in lists.values()):
            raise ValueError(f"{file} is not {{user: [items]}} in JSON; fetch it again")
        for user, items in lists.items():
            for item in items:
                if not isinstance(item, str | int) or isinstance(item, bool):
                    raise ValueError(f"{file}: {item!r} in the list of user {user!r} is no item; correct or remove it")
                rows.append((user, str(item), label))
    import polars as pl

    if not rows:
        raise ValueError(f"{folder}: train.json, val.json and test.json hold no interaction")
    table = pl.DataFrame(rows, [("user", pl.String), ("item", pl.String), ("label", pl.Int8)], orient="row")
    user, user_ids = encode(table["user"])
    item, item_ids = encode(table["item"])
    label_of = table["label"].to_numpy().astype(np.int8)
    return Log(user, item, user_ids, item_ids, label=label_of, source=f"{folder.name}/{{train,val,test}}.json")
