"""Publishing as one commit, so that every revision of a repository is whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqmm import __version__
from seqmm.data.card import write_card, write_license
from seqmm.data.feature_store import stored_sets
from seqmm.data.identity import identity
from seqmm.data.store import read_record
from seqmm.hub.access import check_repository_name, explained, hub_api, local_folder, open_repository, origin_of
from seqmm.hub.licences import as_license
from seqmm.leftovers import tidy_inside
from seqmm.models.weights import read_run_file
from seqmm.names import PROTOCOLS
from seqmm.publishing.cards import write_model_card
from seqmm.publishing.plans import Upload, plan_corpus, plan_model
from seqmm.publishing.run_files import read_settings


@dataclass(frozen=True)
class Pushed:
    """What :func:`push` did."""

    url: str
    commit: str
    changed: bool
    """False where the repository held all of it already; then ``commit`` is the one it had."""
    removed: tuple[str, ...]
    """Files of an earlier upload of the corpus that it has no more."""


def publish_corpus(
    folder: str | Path,
    repo_id: str,
    *,
    license: str | Mapping[str, str] | None = None,
    private: bool = True,
    revision: str | None = None,
    message: str | None = None,
) -> Pushed:
    """Pushes a prepared corpus, whole or not at all, and writes the licence into its card on disk.

    Args:
        folder: of the corpus.
        repo_id: dataset repository, made if there is none.
        license: an identifier of the Hub, or what :func:`check_license` gives; None = that of an earlier publication.
        private: whether only its owner may see it; a public repository is then refused.
        revision: branch, made if there is none; None = main.
        message: of the commit.

    Raises:
        FileNotFoundError, ValueError: as :func:`plan_corpus`.
        OSError: the Hub cannot be reached or refuses.

    >>> import seqmm
    >>> seqmm.synthetic_corpus(num_users=60, num_items=40).save("corpora/open")
    >>> seqmm.publish_corpus("corpora/open", "org/open", license="cc-by-4.0").changed
    True
    """
    license = as_license(license)
    upload = plan_corpus(folder, repo_id, license)
    tidy_inside(Path(folder))
    if license and read_record(Path(folder)).get("license") != license:
        write_license(folder, license)
    elif license:
        write_card(folder)  # one that was stopped after the record has the card of before
    return push(upload, repo_id, private=private, revision=revision, message=message)


def publish_model(
    folder: str | Path,
    repo_id: str,
    *,
    license: str | Mapping[str, str] | None = None,
    corpus_repo: str | None = None,
    private: bool = True,
    revision: str | None = None,
    message: str | None = None,
) -> Pushed:
    """Pushes a run's model, and writes licence and corpus into its card on disk.

    Args:
        folder: of a finished run.
        repo_id: model repository, made if there is none.
        license: an identifier of the Hub, or what :func:`check_license` gives; None = the card's.
        corpus_repo: dataset repository its corpus was published as; must hold that very corpus. None = where the corpus
            was loaded from, if that was a repository.
        private: whether only its owner may see it; a public repository is then refused.
        revision: branch, made if there is none; None = main.
        message: of the commit.

    Raises:
        FileNotFoundError, ValueError: as :func:`plan_model`; another corpus in ``corpus_repo``.
        OSError: the Hub cannot be reached or refuses.

    >>> import seqmm
    >>> seqmm.publish_model("runs/nothing", "org/nothing")
    Traceback (most recent call last):
        ...
    FileNotFoundError: runs/nothing holds no config.json: not a trained model's folder
    """
    folder = Path(folder)
    if corpus_repo is not None and (joined := read_settings(folder)["data"]["joined"]):
        raise ValueError(f"{folder} was trained on {1 + len(joined)} corpora; leave out `corpus_repo`, which is one")
    corpus = None if corpus_repo is None else find_corpus(corpus_repo, read_run_file(folder / "config.json"))
    upload = plan_model(folder, repo_id, license, corpus)
    write_model_card(folder, license, corpus)
    return push(upload, repo_id, private=private, revision=revision, message=message)


def find_corpus(repo_id: str, config: Mapping[str, Any]) -> dict[str, str]:
    """``repository`` and ``revision`` of the published corpus a model was trained on, checked against its config.

    Raises:
        FileNotFoundError: no such repository, or the Hub cannot be reached.
        ValueError: it holds another corpus, or lacks a feature set the model reads.
    """
    check_repository_name(repo_id)
    folder = local_folder(repo_id, kind="dataset", files=["corpus.json", "*/features.json"])
    trained = config["corpus"]
    about = read_record(folder)["protocols"].get(trained["protocol"])
    held = "no such protocol" if about is None else about["fingerprint"]
    if held != trained["fingerprint"]:
        raise ValueError(
            f"{repo_id} is not the corpus the model was trained on: its {trained['protocol']} has the fingerprint "
            f"{held[:16]}, the model's is {trained['fingerprint'][:16]}; publish that corpus, or name its repository"
        )
    there = stored_sets(folder)
    for name, made in config["features"].items():
        if name not in there or identity(there[name]) != identity(made):
            raise ValueError(
                f"{repo_id} has no feature set {name!r} as the model reads it ({made['kind']}, width {made['dim']}); "
                "publish the corpus again with it"
            )
    return origin_of(repo_id, folder)


def push(
    upload: Upload, repo_id: str, *, private: bool = True, revision: str | None = None, message: str | None = None
) -> Pushed:
    """Uploads as one commit. Files of a corpus' earlier upload that it has no more are removed in it.

    Raises:
        ValueError: a public repository where a private one was asked for; a card the Hub does not accept.
        OSError: the Hub cannot be reached or refuses.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    url = open_repository(repo_id, upload.kind, private=private)
    with explained(f"{upload.kind} repository {repo_id}", revision):
        api = hub_api()
        if revision not in (None, "main") and not revision.startswith("refs/"):
            api.create_branch(repo_id, branch=revision, repo_type=upload.kind, exist_ok=True)
        head = str(api.repo_info(repo_id, repo_type=upload.kind, revision=revision).sha)
        there = api.list_repo_files(repo_id, repo_type=upload.kind, revision=head)
        stale = _stale(there, upload)
        commit = api.create_commit(
            repo_id,
            [
                *(CommitOperationAdd(name, file) for name, file in upload.files.items()),
                *(CommitOperationDelete(name) for name in stale),
            ],
            commit_message=message or f"Upload by seqmm {__version__}",
            repo_type=upload.kind,
            revision=revision,
            parent_commit=head,  # what is stale was found in this one
        )
    return Pushed(url, commit.oid, commit.oid != head, stale)


def _stale(there: Sequence[str], upload: Upload) -> tuple[str, ...]:
    """Files of the corpus in the repository that it has no more: a split, a shard or a whole feature set."""
    if upload.kind == "model":
        return ()
    sets = {name.split("/")[0] for name in there if name.count("/") == 1 and name.endswith("/features.json")}
    folders = sets | {"items", "users", *PROTOCOLS}
    return tuple(
        name for name in there if name.count("/") == 1 and name.split("/")[0] in folders and name not in upload.files
    )
