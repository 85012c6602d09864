"""The card of a prepared corpus."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from seqmm.data.feature_store import feature_names, read_about
from seqmm.data.store import CorpusRecord, ProtocolRecord, read_record
from seqmm.files import file_digest, read_text, write_json, write_text
from seqmm.foreign import code, front, inline, literal
from seqmm.names import SPLITS, Protocol

KEPT = "<!-- what you write below this line is kept -->"


def write_card(folder: str | Path) -> None:
    """README.md: front matter from what the folder holds, statistics, and the text under ``KEPT`` as it was."""
    folder = Path(folder)
    record = read_record(folder)
    file = folder / "README.md"
    text = card_text(folder, record) + kept_text(file)
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        write_text(file, text)


def kept_text(card: Path) -> str:
    """The line ``KEPT`` and what its owner wrote below it."""
    old = read_text(card) if card.is_file() else ""
    _, line, below = f"\n{old}".partition(f"\n{KEPT}")  # a line of its own: a corpus may be called anything
    return KEPT + (below if line else "\n")


def write_license(folder: str | Path, license: Mapping[str, str]) -> None:
    """Records under which licence the corpus is published, in corpus.json and in the card, where later writes keep it.

    Args:
        folder: of the corpus.
        license: front matter of the card: ``license``, and for "other" ``license_name`` and ``license_link``.
    """
    folder = Path(folder)
    write_json(folder / "corpus.json", {**read_record(folder), "license": dict(license)})
    write_card(folder)


def card_text(folder: Path, record: CorpusRecord, address: str = "THIS_FOLDER_OR_REPOSITORY") -> str:
    """The card down to ``KEPT``.

    Args:
        folder: of the corpus.
        record: its corpus.json.
        address: what its code examples load.
    """
    import yaml

    protocol = next(iter(record["protocols"]))
    total = sum(record["protocols"][protocol]["rows"][split] for split in SPLITS)
    head = {
        "pretty_name": front(record["name"]),
        **license_of_record(record),
        "size_categories": [_size_category(total)],
        "tags": ["recommendation", "seqmm"],  # the Hub has no task category for recommendation
        "configs": _configs(folder, record),
    }
    density = total / max(record["num_users"] * record["num_items"], 1)
    lines = [
        "---",
        yaml.safe_dump(head, sort_keys=False, allow_unicode=True).strip(),
        "---",
        "",
        f"# {inline(record['name'])}",
        "",
        "A recommendation corpus prepared by seqmm.",
        "",
        f"{record['num_users']:,} users, {record['num_items']:,} items, {total:,} interactions ({inline(protocol)}), "
        f"sparsity {1 - density:.2%}.",
        "",
        *_loading(feature_names(folder), protocol, address),
        *_tables(folder, record),
        "",
        "",
    ]
    return "\n".join(lines)


def license_of_record(record: CorpusRecord) -> dict[str, str]:
    """What a corpus.json says of the licence, as front matter; nothing else that stands there."""
    said = record.get("license", {})
    return {key: front(said[key]) for key in ("license", "license_name", "license_link") if key in said}


def _configs(folder: Path, record: CorpusRecord) -> list[dict[str, Any]]:
    """What ``datasets.load_dataset(folder, name)`` loads.

    datasets keys its cache of a folder by the folder's name and these entries, so each says in its description what the
    rows are: two folders of one name, or one prepared again, are not taken for each other.
    """
    configs: list[dict[str, Any]] = [
        {
            "config_name": name,
            **({"default": True} if name == "items" else {}),
            "description": f"sha256 {(file_digest(folder / name / f'{name}.parquet') or '')[:16]}",
            "data_files": f"{name}/*.parquet",
        }
        for name in ("items", "users")
    ]
    for name, protocol in record["protocols"].items():
        # datasets cannot read a parquet file without rows, so an empty split is not listed
        files = [{"split": split, "path": f"{name}/{split}.parquet"} for split in SPLITS if protocol["rows"][split]]
        said = f"fingerprint {protocol['fingerprint'][:16]}"
        configs.append({"config_name": name, "description": said, "data_files": files})
    for made in feature_names(folder):
        said = f"sha256 {read_about(folder, made)['sha256'][:16]}"
        configs.append({"config_name": made, "description": said, "data_files": f"{made}/*.parquet"})
    return configs


def _loading(sets: list[str], protocol: str, address: str) -> list[str]:
    """The code that loads the corpus."""
    streamed = [("items", "items"), ("interactions", protocol), *(("features", name) for name in sets[:1])]
    return [
        "```python",
        "import seqmm",
        "",
        f"corpus = seqmm.load_corpus({literal(address)}, protocol={literal(protocol)}, features={literal(sets)})",
        "```",
        "",
        "Only the protocol and the feature sets asked for are downloaded. Or row by row, fetched some 32 MB at a time:",
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        *(
            f'{what} = load_dataset({literal(address)}, {literal(name)}, split="train", streaming=True)'
            for what, name in streamed
        ),
        "for row in items:",
        "    ...",
        "```",
        "",
    ]


def _tables(folder: Path, record: CorpusRecord) -> list[str]:
    """Splits, feature sets, statistics and settings."""
    protocols = record["protocols"]
    lines = ["| protocol | train | validation | test | fingerprint |", "|---|---|---|---|---|"]
    for name, protocol in protocols.items():
        rows = " | ".join(f"{protocol['rows'][split]:,}" for split in SPLITS)
        lines.append(f"| {inline(name)} | {rows} | {code(protocol['fingerprint'][:16])} |")
    sets = []
    for made in feature_names(folder):
        about = read_about(folder, made)
        cells = [
            made,
            about["kind"],
            about["dim"],
            about["provenance"],
            about.get("source") or "",
            about.get("notes") or "",
        ]
        sets.append(f"| {' | '.join(map(_cell, cells))} |")
    if sets:
        lines += [
            "",
            "| features | kind | width | provenance | read from | items without |",
            "|---|---|---|---|---|---|",
        ]
        lines += sets
    if spread := _by_protocol(protocols, "statistics"):
        lines += ["", "| protocol | statistic | value |", "|---|---|---|", *spread]
    lines += ["", "How it was prepared:", "", "| protocol | setting | value |", "|---|---|---|"]
    return lines + _by_protocol(protocols, "info")


def _by_protocol(protocols: Mapping[Protocol, ProtocolRecord], what: Literal["statistics", "info"]) -> list[str]:
    """Rows of a table of all settings; protocols that agree in one share its row."""
    keys = dict.fromkeys(key for protocol in protocols.values() for key in protocol[what])
    rows = []
    for key in keys:
        agreeing: dict[str, list[str]] = {}
        for name, protocol in protocols.items():
            if key in protocol[what]:
                agreeing.setdefault(_cell(protocol[what][key]), []).append(name)
        for value, names in agreeing.items():
            who = "all" if len(names) == len(protocols) > 1 else ", ".join(names)
            rows.append(f"| {inline(who)} | {inline(key)} | {value} |")
    return rows


def _size_category(rows: int) -> str:
    """In the Hub's words: "n<1K", "1K<n<10K", …, "n>1T"."""
    bounds = [f"{digit}{unit}" for unit in ("K", "M", "B", "T") for digit in (1, 10, 100)][:10]  # 1K … 1T
    place = sum(rows >= 10 ** (3 + power) for power in range(len(bounds)))
    if place in (0, len(bounds)):
        return f"n<{bounds[0]}" if place == 0 else f"n>{bounds[-1]}"
    return f"{bounds[place - 1]}<n<{bounds[place]}"


def _cell(value: object) -> str:
    if isinstance(value, dict):
        value = ", ".join(f"{key}: {what}" for key, what in value.items())
    return inline(value)
