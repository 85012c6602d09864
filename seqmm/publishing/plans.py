"""What publishing uploads, planned without network, so that a dry run shows every file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from seqmm.data.card import card_text, kept_text, license_of_record
from seqmm.data.corpus import Corpus
from seqmm.data.feature_store import feature_folder, feature_names, read_features
from seqmm.data.store import CorpusRecord, read_record
from seqmm.files import json_text, yaml_text
from seqmm.hub.access import MODEL_FILES, check_repository_name
from seqmm.hub.licences import COMMON, OTHER, as_license, check_license, shown_license
from seqmm.models.checkpoint import whole_weights
from seqmm.models.weights import WEIGHTS, read_run_file
from seqmm.names import SPLITS, RepositoryKind
from seqmm.publishing.cards import license_of_card, model_card, origin_in, recipe_of
from seqmm.publishing.run_files import read_settings

LICENSE_FILES = ("LICENSE", "LICENSE.md")


@dataclass(frozen=True)
class Upload:
    """One commit, planned without network."""

    kind: RepositoryKind
    files: dict[str, Path | bytes]
    """Path in the repository -> file on disk, or the text itself where what goes up is not what lies on disk."""
    left_out: tuple[str, ...] = ()
    """Files of the folder that are none of the model's or the corpus'."""
    notes: tuple[str, ...] = ()
    """What its owner should know before it goes up."""

    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        return {
            name: len(file) if isinstance(file, bytes) else file.stat().st_size for name, file in self.files.items()
        }


def plan_corpus(folder: str | Path, repo_id: str, license: str | Mapping[str, str] | None = None) -> Upload:
    """What publishing a corpus uploads, after everything it holds was verified against its record.

    Args:
        folder: of a prepared corpus.
        repo_id: where it goes; the card's code names it.
        license: an identifier of the Hub, or what :func:`check_license` gives; None = that of an earlier publication.

    Raises:
        FileNotFoundError: no corpus in the folder, or a file of it is missing.
        ValueError: no licence; interactions, ids or features that are not those the record was written with.
    """
    folder = Path(folder)
    check_repository_name(repo_id)
    record = read_record(folder)
    license = as_license(license) or license_of_record(record)
    if not license:
        infos = [about["info"] for about in record["protocols"].values()]
        said = sorted({str(info["licence"]) for info in infos if "licence" in info})
        raise ValueError(
            f"under which licence is {folder} published? `license`: {COMMON} …, or {OTHER}"
            + (f". Its source says: {'; '.join(said)}" if said else "")
        )
    record |= {"license": dict(license)}
    sets = [feature_folder(name) for name in feature_names(folder)]
    own = ["items/items.parquet", "users/users.parquet"]
    own += [f"{name}/{split}.parquet" for name in record["protocols"] for split in SPLITS]
    for name in sets:
        own += [f"{name}/{file.name}" for file in sorted((folder / name).iterdir()) if _is_of_features(file)]
    own += [file.name for file in sorted(folder.glob("*")) if _is_beside_the_card(file)]
    _refuse_links(folder, [*own, "README.md", "corpus.json"])
    _verify(folder, record, sets)
    files: dict[str, Path | bytes] = {name: folder / name for name in own}
    kept = kept_text(folder / "README.md")
    files["README.md"] = (card_text(folder, record, repo_id) + kept).encode()
    files["corpus.json"] = json_text(record).encode()
    here = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    notes = [
        f"licence: {shown_license(license)}",
        "users/ holds the source's user ids as they are: may they be published?",
    ]
    notes += [
        f"README.md says {line.strip()!r}: write it there first" for line in kept.splitlines() if "*Write here" in line
    ]
    upload = Upload("dataset", dict(sorted(files.items())), tuple(sorted(here - set(files))), tuple(notes))
    _check_card(upload)
    return upload


def _verify(folder: Path, record: CorpusRecord, sets: Sequence[str]) -> None:
    """Reads all that a corpus holds, which raises ValueError where it is not what its records say."""
    from tqdm import tqdm

    total = len(record["protocols"]) + len(sets)
    with tqdm(total=total, desc="verifying", unit="config", leave=False, disable=None) as bar:
        for protocol in record["protocols"]:
            Corpus.load(folder, protocol=protocol)
            bar.update()
        for name in sets:
            read_features(folder, name, record["num_items"], record["items"])
            bar.update()


def _is_of_features(file: Path) -> bool:
    own = file.name == "features.json" or file.suffix == ".parquet"
    return file.is_file() and not file.name.startswith(".") and own


def _is_beside_the_card(file: Path) -> bool:
    """A licence's text, or a vocabulary that an extractor wrote."""
    known = file.name in LICENSE_FILES or file.name.endswith("_vocabulary.txt")
    return file.is_file() and known and not file.name.startswith(".")


def _refuse_links(folder: Path, names: Sequence[str]) -> None:
    """Raises ValueError for a file to be uploaded that lies elsewhere, or is a hidden one, through a link."""
    root = Path(os.path.realpath(folder))
    for name in names:
        place = Path(os.path.realpath(folder / name))  # which takes a circle of links for a place, too
        inside = place.relative_to(root).parts if place.is_relative_to(root) else None
        if inside is None or any(part.startswith(".") for part in inside):
            raise ValueError(
                f"{folder / name} is a link to {place}, which is not of the folder; nothing is published: put the file "
                "itself there, or remove it"
            )


def plan_model(
    folder: str | Path,
    repo_id: str,
    license: str | Mapping[str, str] | None = None,
    corpus: Mapping[str, str] | None = None,
) -> Upload:
    """What publishing a run uploads: weights, config, card, the run's YAML and metrics; no training state.

    No path of this machine goes up, and run.yaml does not push again when somebody repeats the run.

    Args:
        folder: of a finished run.
        repo_id: where it goes; the card's code names it.
        license: an identifier of the Hub, or what :func:`check_license` gives; None = the card's.
        corpus: ``repository`` (and ``revision``) its corpus was published as; None = where it was loaded from.

    Raises:
        FileNotFoundError: a file of the run is missing.
        ValueError: a damaged file.
    """
    folder = Path(folder)
    check_repository_name(repo_id)
    _refuse_links(folder, [*MODEL_FILES, *LICENSE_FILES])
    config = _finished(folder)
    run = read_settings(folder)
    given = as_license(license)
    license = given or license_of_card(folder) or check_license(run["hub"]["license"])
    corpus = corpus if corpus is not None else origin_in(config)
    card = model_card(folder, license, corpus=corpus, address=repo_id)
    _without_paths(config, run, corpus)
    again = f"accelerate launch recipes/{recipe_of(run['train'])}.py --config run.yaml"
    files: dict[str, Path | bytes] = {
        "README.md": card.encode(),
        "config.json": json_text(config, sort_keys=True).encode(),
        "metrics.json": folder / "metrics.json",
        WEIGHTS: folder / WEIGHTS,
        "run.yaml": yaml_text(run, again).encode(),
    }
    if license.get("license_link") in LICENSE_FILES:
        files[license["license_link"]] = folder / license["license_link"]
    left_out = tuple(sorted(file.name for file in folder.iterdir() if file.name not in files))
    note = f"licence: {shown_license(license)}" + ("" if given else ", as the run's card says; `license` says another")
    upload = Upload("model", dict(sorted(files.items())), left_out, (note,))
    _check_card(upload)
    return upload


def _finished(folder: Path) -> dict[str, Any]:
    """config.json of a run that is finished and whose weights can be read."""
    config = read_run_file(folder / "config.json")
    if not (folder / "metrics.json").is_file():
        raise FileNotFoundError(
            f"{folder} holds no metrics.json: the run is not finished (go on with it, resume True), or a Trainer "
            "alone made it, which leaves weights without settings and results; seqmm.Run.of(…).fit() leaves them all"
        )
    if not whole_weights(folder):
        raise ValueError(f"{folder / WEIGHTS} holds no weights; train the run again")
    return config


def _without_paths(config: dict[str, Any], run: dict[str, Any], corpus: Mapping[str, str]) -> None:
    """Makes a run's config and settings such as may be told to others, and such as do not push when repeated."""
    config["corpus"] |= corpus
    started = config.get("pretrained_on", {})
    if "checkpoint" in started:
        started["checkpoint"] = _portable(started["checkpoint"])
    data, train = run["data"], run["train"]
    if not corpus.get("repository") and data["path"] is None:
        raise ValueError(
            "the run's corpus was made in memory, so nobody could load it: publish it first (corpus.save, then "
            "publish_corpus), and say where it is (`corpus_repo=org/name`)"
        )
    data["path"] = corpus.get("repository") or _portable(data["path"])
    data["revision"] = corpus.get("revision")
    data["joined"] = [_portable(path) for path in data.get("joined", ())]
    train["output_dir"] = ""
    train["init_from"] = train["init_from"] and _portable(train["init_from"])
    run["hub"]["push_to"] = None


def _check_card(upload: Upload) -> None:
    """What the Hub would refuse of a card, found before anything is sent."""
    from huggingface_hub import DatasetCard, ModelCard

    text = upload.files["README.md"]
    assert isinstance(text, bytes)
    card = (DatasetCard if upload.kind == "dataset" else ModelCard)(text.decode())
    front = card.data.to_dict()
    check_license(front.get("license", ""), front.get("license_name"), front.get("license_link"))
    link = front.get("license_link")
    if link in LICENSE_FILES:
        file = upload.files.get(link)
        if not isinstance(file, Path) or not file.is_file():
            raise ValueError(f"the licence's text was said to be in {link}, which the folder does not have")
    for config in front.get("configs", []):
        files = config["data_files"]
        for pattern in [files] if isinstance(files, str) else [entry["path"] for entry in files]:
            if not any(fnmatchcase(name, pattern) for name in upload.files):
                raise ValueError(f"the card's config {config['config_name']!r} names {pattern}, which the folder lacks")


def _portable(path: str) -> str:
    """A path as it may be told to others: of an absolute one the last part."""
    return Path(path).name if Path(path).is_absolute() or path.startswith("~") else path
