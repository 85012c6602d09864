"""Models and corpora as Hub repositories: loading by folder or repository id, cards, and publishing.

What is published is planned without network (:func:`plan_corpus`, :func:`plan_model`), so that a dry run shows every
file, and goes up as one commit (:func:`push`), so that every revision of a repository is whole.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from seqmm.models.base import Recommender, RecommenderConfig

MODEL_FILES = ("config.json", "model.safetensors", "README.md", "run.yaml", "metrics.json")

# https://huggingface.co/docs/hub/repositories-licenses, without those of single language models
_IDENTIFIERS = """
apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0
lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl
openmdw-1.0 openmdw-1.1 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr
fair-noncommercial-research-license unknown other
"""
LICENSES = frozenset(_IDENTIFIERS.split())
_COMMON = "cc-by-4.0, cc-by-nc-4.0, cc0-1.0, odc-by, apache-2.0, mit, unknown"
_OTHER = '"other" with --license-name and --license-link'


# -- loading ----------------------------------------------------------------------------------------------------------


def from_pretrained(path: str, *, revision: str | None = None) -> Recommender:
    """The model of a run folder or a Hub repository, not yet bound: call ``.bind(corpus)`` before use.

    Args:
        path: folder, or ``org/name`` on the Hub.
        revision: of a Hub repository: a branch, tag or commit; None = main.

    Raises:
        FileNotFoundError: for a folder without a model, or a repository that cannot be reached.
        ValueError: for a file that is no seqmm checkpoint, or is truncated.
    """
    from seqmm.models import MODELS, model_class

    directory = local_folder(path, revision=revision)
    config = load_config(directory)
    if not (directory / "model.safetensors").is_file():
        raise FileNotFoundError(f"{path} holds no model.safetensors: not a trained model's folder")
    head = (config.architectures or [""])[0]
    cls = model_class(config.model_type, pretraining=head == MODELS[config.model_type].pretraining)
    with explain_damage(directory), quietly():
        return cls.from_pretrained(directory)


@contextmanager
def explain_damage(directory: Path) -> Iterator[None]:
    """Turns what safetensors says of a truncated file into a ValueError that names it."""
    from safetensors import SafetensorError

    try:
        yield
    except (SafetensorError, OSError) as error:
        weights = directory / "model.safetensors"
        raise ValueError(f"{weights} cannot be read ({error}); it is truncated or damaged, copy it again") from error


@contextmanager
def quietly() -> Iterator[None]:
    """Silences transformers' progress bars and load report; what must not be missing is checked by the caller."""
    from transformers.utils import logging

    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def load_config(directory: Path) -> RecommenderConfig:
    """The config of a checkpoint folder.

    Raises:
        FileNotFoundError, ValueError: naming the file.
    """
    from seqmm.models import MODELS, model_class

    model_type = _read_json(directory / "config.json").get("model_type")
    if model_type not in MODELS:
        raise ValueError(
            f"{directory / 'config.json'}: model_type {model_type!r} is not one of seqmm's: {', '.join(MODELS)}"
        )
    return model_class(model_type).config_class.from_pretrained(directory)


def _read_json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise FileNotFoundError(f"{file.parent} holds no {file.name}: not a trained model's folder")
    try:
        values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is not valid JSON ({error}); the checkpoint is damaged, copy it again") from error
    return values


def local_folder(
    path: str,
    *,
    revision: str | None = None,
    kind: Literal["model", "dataset"] = "model",
    files: Sequence[str] = MODEL_FILES,
) -> Path:
    """``path`` if it is a folder, else the downloaded snapshot of that Hub repository.

    Args:
        path: folder, or ``org/name`` on the Hub.
        revision: of a Hub repository; a folder has none.
        kind: of the repository.
        files: patterns of what is downloaded; of a corpus :func:`corpus_files`.

    Raises:
        FileNotFoundError: if it is neither, or the Hub cannot be reached; the text says what to do.
    """
    if Path(path).is_dir():
        return Path(path)
    if path.count("/") != 1 or path.startswith((".", "/", "~")):
        raise FileNotFoundError(f"no folder {path} (and it does not have the form org/name of a Hub repository)")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled
    from huggingface_hub.utils import httpx

    try:
        return Path(snapshot_download(path, repo_type=kind, revision=revision, allow_patterns=list(files)))
    except (httpx.HTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        why = _explain(error, f"{kind} repository {path}", revision, reading=True)
        raise FileNotFoundError(f"no folder {path}, and {why}") from error
    except HFValidationError as error:
        raise FileNotFoundError(f"no folder {path}, and it cannot be a repository's name ({_line(error)})") from error


def corpus_files(protocol: str | None = None, features: Sequence[str] = ()) -> list[str]:
    """Patterns of what reading a corpus needs: the ids, and only the protocol and the feature sets asked for.

    ``features.json`` of every set comes along, so that an unknown name is answered with those there are.
    """
    folders = ["items", "users", *([protocol] if protocol else []), *features]
    return ["README.md", "corpus.json", "*/features.json", *(f"{name}/*" for name in folders)]


def origin_of(path: str, folder: Path) -> dict[str, str]:
    """What :func:`local_folder` answered for ``path`` as ``{"repository", "revision"}``; {} for a folder."""
    return {} if Path(path).is_dir() else {"repository": path, "revision": folder.name}  # snapshots/<commit>


def _explain(error: BaseException, what: str, revision: str | None, *, reading: bool) -> str:
    """What went wrong between us and the Hub and what to do about it, in one line."""
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        IncompleteSnapshotError,
        OfflineModeIsEnabled,
        RevisionNotFoundError,
    )

    chain = [error]  # snapshot_download wraps what happened
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    partly = "only partly" if any(isinstance(link, IncompleteSnapshotError) for link in chain) else "not"
    if any(isinstance(link, OfflineModeIsEnabled) for link in chain):
        cached = f"no {what} in the cache" if partly == "not" else f"{what} is only partly in the cache"
        return (f"{cached}, and " if reading else "") + (
            "HF_HUB_OFFLINE=1 keeps us from the Hub: unset it" + (", or give a folder" if reading else "")
        )
    answered = next((link for link in chain if isinstance(link, HfHubHTTPError)), None)
    if answered is None:
        return (
            f"the Hub at {constants.ENDPOINT} cannot be reached ({type(chain[-1]).__name__}: {_line(chain[-1])})"
            + (f" and {what} is {partly} in the cache" if reading else "")
            + ": check the network, a proxy (HTTPS_PROXY) and HF_ENDPOINT"
        )
    status, said = answered.response.status_code, _line(answered.server_message or answered)
    login = "`hf auth login`, or set HF_TOKEN"
    if isinstance(answered, GatedRepoError):
        return f"{what} is gated: ask for access on its page at {constants.ENDPOINT}, then {login}"
    if isinstance(answered, RevisionNotFoundError):
        return f"{what} has no revision {revision!r}: give a branch, a tag or a commit that it has"
    if status == 401 and get_token() is None:
        where = f"there is no {what} at {constants.ENDPOINT}, or it is private and you" if reading else "you"
        return f"{where} are not logged in: check the name and {login}"
    if status == 401:
        return f"the Hub does not accept your token ({said}): {login} to a new one"
    if status == 403:
        doing = "read" if reading else "write to"
        return f"your token may not {doing} {what} ({said}): use one of an account, and with a permission, that may"
    if status == 404:
        return f"there is no {what} at {constants.ENDPOINT}, or your account may not see it: check the name"
    if status in (409, 412):
        return f"{what} was changed by someone else meanwhile ({said}): run the command again"
    if status == 429 or status >= 500:
        return f"the Hub answers {status} for {what} ({said}): try again later"
    return f"the Hub refuses {what} ({status}: {said})"


def _line(message: object) -> str:
    return " ".join(str(message).split())


# -- licences ---------------------------------------------------------------------------------------------------------


def check_license(license: str, name: str | None = None, link: str | None = None) -> dict[str, str]:
    """The card's front matter for a licence.

    Args:
        license: an identifier of the Hub's list.
        name: of a licence "other", such as ``movielens-1m``.
        link: to its text: a URL, or LICENSE or LICENSE.md for a file in the folder.

    Raises:
        ValueError: an unknown identifier, or "other" without name and link.
    """
    if license not in LICENSES:
        near = difflib.get_close_matches(license.lower(), LICENSES, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"licence {license!r} is not one of the Hub's identifiers: {hint}{_COMMON} …, or {_OTHER}")
    if license != "other":
        if name or link:
            raise ValueError(f"a licence's name and link belong to the licence 'other'; this one is {license!r}")
        return {"license": license}
    if not name or not link:
        raise ValueError("licence 'other' needs --license-name (an identifier) and --license-link (a URL, or LICENSE)")
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name):
        raise ValueError(f"licence name {name!r}: use small letters, digits, - and ., such as movielens-1m")
    if link not in ("LICENSE", "LICENSE.md") and not re.fullmatch(r"https?://\S+", link):
        raise ValueError(f"licence link {link!r} must be a URL, or LICENSE or LICENSE.md for a file in the folder")
    return {"license": license, "license_name": name, "license_link": link}


def _shown(license: Mapping[str, str]) -> str:
    return ", ".join(license.values())


def _as_license(license: str | Mapping[str, str] | None) -> dict[str, str]:
    return check_license(license) if isinstance(license, str) else dict(license or {})


# -- publishing -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Upload:
    """One commit, planned without network."""

    kind: Literal["model", "dataset"]
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


@dataclass(frozen=True)
class Pushed:
    """What :func:`push` did."""

    url: str
    commit: str
    changed: bool
    """False where the repository held all of it already; then ``commit`` is the one it had."""
    removed: tuple[str, ...]
    """Files of an earlier upload of the corpus that it has no more."""


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
    from tqdm import tqdm

    from seqmm.data.corpus import SPLITS
    from seqmm.data.schema import (
        card_text,
        feature_names,
        kept_text,
        load_corpus,
        read_features,
        read_record,
        record_text,
    )

    folder = Path(folder)
    check_repository_name(repo_id)
    record = read_record(folder)
    license = _as_license(license) or record.get("license")
    if not license:
        infos = [about["info"] for about in record["protocols"].values()]
        said = sorted({str(info["licence"]) for info in infos if "licence" in info})
        raise ValueError(
            f"under which licence is {folder} published? --license {_COMMON} …, or {_OTHER}"
            + (f". Its source says: {'; '.join(said)}" if said else "")
        )
    record |= {"license": dict(license)}
    sets = feature_names(folder)
    for name in tqdm([*record["protocols"], *sets], desc="verifying", unit="config", leave=False, disable=None):
        if name in sets:
            read_features(folder, name, record["num_items"], record["items"])
        else:
            load_corpus(folder, name, ())
    own = ["items/items.parquet", "users/users.parquet"]
    own += [f"{protocol}/{split}.parquet" for protocol in record["protocols"] for split in SPLITS]
    for name in sets:
        own += [f"{name}/{file.name}" for file in sorted((folder / name).iterdir()) if _is_of_features(file)]
    own += [file.name for file in sorted(folder.glob("*")) if _is_beside_the_card(file)]
    files: dict[str, Path | bytes] = {name: folder / name for name in own}
    kept = kept_text(folder / "README.md")
    files["README.md"] = (card_text(folder, record, repo_id) + kept).encode()
    files["corpus.json"] = record_text(record).encode()
    here = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    notes = [f"licence: {_shown(license)}", "users/ holds the source's user ids as they are: may they be published?"]
    notes += [
        f"README.md says {line.strip()!r}: write it there first" for line in kept.splitlines() if "*Write here" in line
    ]
    upload = Upload("dataset", dict(sorted(files.items())), tuple(sorted(here - set(files))), tuple(notes))
    _check_card(upload)
    return upload


def _is_of_features(file: Path) -> bool:
    return file.is_file() and not file.name.startswith(".") and file.suffix in (".parquet", ".json", ".txt")


def _is_beside_the_card(file: Path) -> bool:
    """A licence's text, or a vocabulary that an extractor wrote."""
    return file.is_file() and (file.name in ("LICENSE", "LICENSE.md") or file.name.endswith("_vocabulary.txt"))


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
    """
    from seqmm.data.schema import read_record, write_license

    license = _as_license(license)
    upload = plan_corpus(folder, repo_id, license)
    if license and read_record(Path(folder)).get("license") != license:
        write_license(folder, license)
    return push(upload, repo_id, private=private, revision=revision, message=message)


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
    from safetensors import safe_open

    from seqmm.config import read_yaml, yaml_text

    folder = Path(folder)
    check_repository_name(repo_id)
    config = _read_json(folder / "config.json")
    if not (folder / "metrics.json").is_file():
        raise FileNotFoundError(
            f"{folder} holds no metrics.json: the run is not finished; go on with it (--train.resume True) first"
        )
    run = read_yaml(folder / "run.yaml")
    with explain_damage(folder), safe_open(folder / "model.safetensors", framework="numpy") as weights:
        if not weights.keys():
            raise ValueError(f"{folder / 'model.safetensors'} holds no weights; train the run again")
    given = _as_license(license)
    license = given or _license_of_card(folder) or check_license(run["hub"]["license"])
    corpus = corpus if corpus is not None else _origin(config)
    card = model_card(folder, license, corpus=corpus, address=repo_id)

    config["corpus"] |= corpus
    started = config.get("pretrained_on", {})
    if "checkpoint" in started:
        started["checkpoint"] = _portable(started["checkpoint"])
    data, train = run["data"], run["train"]
    data["path"] = corpus.get("repository") or _portable(data["path"])
    data["revision"] = corpus.get("revision")
    data["joined"] = [_portable(path) for path in data.get("joined", ())]
    train["output_dir"] = ""
    train["init_from"] = train["init_from"] and _portable(train["init_from"])
    run["hub"]["push_to"] = None
    again = f"accelerate launch recipes/{_recipe(run)}.py --config run.yaml"
    files: dict[str, Path | bytes] = {
        "README.md": card.encode(),
        "config.json": (json.dumps(config, indent=2, sort_keys=True) + "\n").encode(),
        "metrics.json": folder / "metrics.json",
        "model.safetensors": folder / "model.safetensors",
        "run.yaml": yaml_text(run, again).encode(),
    }
    if license.get("license_link") in ("LICENSE", "LICENSE.md"):
        files[license["license_link"]] = folder / license["license_link"]
    left_out = tuple(sorted(file.name for file in folder.iterdir() if file.name not in files))
    note = f"licence: {_shown(license)}" + ("" if given else ", as the run's card says; --license says another")
    upload = Upload("model", dict(sorted(files.items())), left_out, (note,))
    _check_card(upload)
    return upload


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
    """
    from seqmm.config import read_yaml

    folder = Path(folder)
    if corpus_repo is not None and (joined := read_yaml(folder / "run.yaml")["data"].get("joined")):
        raise ValueError(f"{folder} was trained on {1 + len(joined)} corpora; leave out --corpus-repo, which is one")
    corpus = None if corpus_repo is None else find_corpus(corpus_repo, _read_json(folder / "config.json"))
    upload = plan_model(folder, repo_id, license, corpus)
    write_model_card(folder, license, corpus)
    return push(upload, repo_id, private=private, revision=revision, message=message)


def find_corpus(repo_id: str, config: Mapping[str, Any]) -> dict[str, str]:
    """``repository`` and ``revision`` of the published corpus a model was trained on, checked against its config.

    Raises:
        FileNotFoundError: no such repository, or the Hub cannot be reached.
        ValueError: it holds another corpus, or lacks a feature set the model reads.
    """
    from seqmm.data.schema import read_record

    check_repository_name(repo_id)
    folder = local_folder(repo_id, kind="dataset", files=["corpus.json", "*/features.json"])
    trained = config["corpus"]
    held = read_record(folder)["protocols"].get(trained["protocol"], {}).get("fingerprint", "no such protocol")
    if held != trained["fingerprint"]:
        raise ValueError(
            f"{repo_id} is not the corpus the model was trained on: its {trained['protocol']} has the fingerprint "
            f"{held[:16]}, the model's is {trained['fingerprint'][:16]}; publish that corpus, or name its repository"
        )
    for name, made in config["features"].items():
        file = folder / name / "features.json"
        there = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        if any(there.get(key) != made[key] for key in ("kind", "dim", "provenance")):
            raise ValueError(
                f"{repo_id} has no feature set {name!r} as the model reads it ({made['kind']}, width {made['dim']}); "
                "publish the corpus again with it"
            )
    return origin_of(repo_id, folder)


def check_repository_name(repo_id: str) -> None:
    """Raises ValueError unless it has the form ``org/name``."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(f"{repo_id!r} cannot be a repository's name: {_line(error)}") from error
    if "/" not in repo_id:
        raise ValueError(f"{repo_id!r} must have the form org/name (your user name or an organisation)")


def open_repository(repo_id: str, kind: Literal["model", "dataset"], *, private: bool = True) -> str:
    """Makes the repository if there is none, and returns its address.

    Raises:
        ValueError: it is public and ``private`` was asked for.
        OSError: the Hub cannot be reached or refuses.
    """
    check_repository_name(repo_id)
    with _explained(f"{kind} repository {repo_id}"):
        api = _api()
        url = str(api.create_repo(repo_id, repo_type=kind, private=private, exist_ok=True))
        if private and not api.repo_info(repo_id, repo_type=kind).private:
            raise ValueError(
                f"{url} is public, and a private repository was asked for: make it private in its settings, or push "
                "with --private False (at the end of a run --hub.private False)"
            )
    return url


def push(
    upload: Upload, repo_id: str, *, private: bool = True, revision: str | None = None, message: str | None = None
) -> Pushed:
    """Uploads as one commit. Files of a corpus' earlier upload that it has no more are removed in it.

    Raises:
        ValueError: a public repository where a private one was asked for; a card the Hub does not accept.
        OSError: the Hub cannot be reached or refuses.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    from seqmm import __version__

    url = open_repository(repo_id, upload.kind, private=private)
    with _explained(f"{upload.kind} repository {repo_id}", revision):
        api = _api()
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
    from seqmm.data.corpus import PROTOCOLS

    if upload.kind == "model":
        return ()
    sets = {name.split("/")[0] for name in there if name.count("/") == 1 and name.endswith("/features.json")}
    folders = sets | {"items", "users", *PROTOCOLS}
    return tuple(
        name for name in there if name.count("/") == 1 and name.split("/")[0] in folders and name not in upload.files
    )


def _api() -> HfApi:
    from huggingface_hub import HfApi

    from seqmm import __version__

    return HfApi(library_name="seqmm", library_version=__version__)


@contextmanager
def _explained(what: str, revision: str | None = None) -> Iterator[None]:
    """Turns what goes wrong while pushing into an error of one line with its remedy."""
    from huggingface_hub.errors import OfflineModeIsEnabled
    from huggingface_hub.utils import httpx

    try:
        yield
    except (httpx.HTTPError, OfflineModeIsEnabled) as error:
        raise OSError(f"cannot push: {_explain(error, what, revision, reading=False)}") from error
    except ValueError as error:  # huggingface_hub's own: a card the Hub does not accept
        raise ValueError(_line(error)) from error


def _check_card(upload: Upload) -> None:
    """What the Hub would refuse of a card, found before anything is sent."""
    from huggingface_hub import DatasetCard, ModelCard

    text = upload.files["README.md"]
    assert isinstance(text, bytes)
    card = (DatasetCard if upload.kind == "dataset" else ModelCard)(text.decode())
    front = card.data.to_dict()
    check_license(front.get("license", ""), front.get("license_name"), front.get("license_link"))
    link = front.get("license_link")
    if link in ("LICENSE", "LICENSE.md"):
        file = upload.files.get(link)
        if not isinstance(file, Path) or not file.is_file():
            raise ValueError(f"the licence's text was said to be in {link}, which the folder does not have")
    for config in front.get("configs", []):
        files = config["data_files"]
        for pattern in [files] if isinstance(files, str) else [entry["path"] for entry in files]:
            if not any(fnmatchcase(name, pattern) for name in upload.files):
                raise ValueError(f"the card's config {config['config_name']!r} names {pattern}, which the folder lacks")


# -- the model's card -------------------------------------------------------------------------------------------------


def write_model_card(
    folder: Path, license: str | Mapping[str, str] | None = None, corpus: Mapping[str, str] | None = None
) -> None:
    """README.md of a finished run's folder; see :func:`model_card`. None = what the card, or the run, has."""
    license = _as_license(license) or _license_of_card(folder)
    if not license:
        raise ValueError(f"{folder} has no card that names a licence; give one with --license")
    temporary = folder / "README.md.tmp"
    temporary.write_text(model_card(folder, license, corpus=corpus), encoding="utf-8")
    temporary.replace(folder / "README.md")


def model_card(
    folder: Path,
    license: Mapping[str, str],
    *,
    corpus: Mapping[str, str] | None = None,
    address: str = "THIS_REPOSITORY_OR_FOLDER",
) -> str:
    """A card from what the folder holds: results as a model-index, the corpus, how to load; own text below KEPT stays.

    Args:
        folder: of a finished run.
        license: of :func:`check_license`.
        corpus: ``repository`` (and ``revision``) its corpus was published as; None = where it was loaded from.
        address: what its code loads.
    """
    from huggingface_hub import EvalResult, ModelCardData

    from seqmm.config import read_yaml
    from seqmm.data.schema import kept_text

    config, metrics = _read_json(folder / "config.json"), _read_json(folder / "metrics.json")
    run = read_yaml(folder / "run.yaml")
    trained, started = config["corpus"], config.get("pretrained_on", {})
    corpus = corpus if corpus is not None else _origin(config)
    name = f"{config['model_type']}-{trained['name']}"
    scored = {split: metrics[split] for split in ("validation", "test") if metrics[split]}
    results = [
        EvalResult(
            task_type="recommendation",
            dataset_type=corpus.get("repository", trained["name"]),
            dataset_name=trained["name"],
            dataset_config=trained["protocol"],
            dataset_split=split,
            dataset_revision=corpus.get("revision"),
            metric_type=metric.split("@")[0],
            metric_name=metric,
            metric_value=round(value, 5),
        )
        for split, values in scored.items()
        for metric, value in values.items()
    ]
    data = ModelCardData(
        library_name="seqmm",
        license=license["license"],
        license_name=license.get("license_name"),
        license_link=license.get("license_link"),
        tags=["recommendation", config["model_type"]],
        datasets=[corpus["repository"]] if corpus else None,
        base_model=started["checkpoint"] if "checkpoint_revision" in started else None,
        model_name=name,
        eval_results=results or None,
    )
    names = list(next(iter(scored.values()), ()))
    rows = [
        f"| {split} | " + " | ".join(f"{value:.4f}" for value in values.values()) + " |"
        for split, values in scored.items()
    ]
    table = [f"| split | {' | '.join(names)} |", "|---|" + "---|" * len(names), *rows] if rows else ["Not evaluated."]
    features = config["feature_order"]
    where = corpus.get("repository", "FOLDER_OF_THE_CORPUS")
    pinned = f", revision={corpus['revision']!r}" if corpus.get("revision") else ""
    loading = f"protocol={trained['protocol']!r}, features={features!r}{pinned}"
    code = [f"corpus = seqmm.Corpus.load({where!r}, {loading})"]
    if run["data"].get("joined"):
        places = [f"FOLDER_OF_{part}" for part in trained["name"].split("+")]
        code = [
            f"corpora = [seqmm.Corpus.load(place, {loading}) for place in {places!r}]",
            "corpus = seqmm.Corpus.concat(corpora)",
        ]
    lines = [
        "---",
        data.to_yaml(),
        "---",
        "",
        f"# {name}",
        "",
        f"A `{config['model_type']}` recommender trained by seqmm (`recipes/{_recipe(run)}.py`, settings in run.yaml).",
        "",
        f"- corpus: {trained['name']}, protocol `{trained['protocol']}`, {config['num_users']:,} users, "
        f"{config['num_items']:,} items,",
        f"  fingerprint `{trained['fingerprint']}`",
        f"- features: {', '.join(features) or 'none'}",
        *(
            [f"- pretrained on {started['name']} ({started['protocol']}, fingerprint `{started['fingerprint']}`)"]
            if started
            else []
        ),
        f"- masked from the ranking: {metrics['mask']}; best epoch {metrics['best_epoch']} of {metrics['epochs']}",
        "",
        *table,
        "",
        "```python",
        "import seqmm",
        "",
        *code,
        f'model = seqmm.from_pretrained("{address}").bind(corpus)',
        "```",
        "",
        "",
    ]
    return "\n".join(lines) + kept_text(folder / "README.md")


def _license_of_card(folder: Path) -> dict[str, str]:
    import yaml
    from huggingface_hub import ModelCard

    file = folder / "README.md"
    if not file.is_file():
        return {}
    try:
        front = ModelCard.load(file).data.to_dict()
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{file}: the front matter cannot be read ({_line(error)}); mend or remove it") from error
    return {key: front[key] for key in ("license", "license_name", "license_link") if key in front}


def _origin(config: Mapping[str, Any]) -> dict[str, str]:
    """Where on the Hub the corpus of a model was loaded from."""
    return {key: config["corpus"][key] for key in ("repository", "revision") if key in config["corpus"]}


def _recipe(run: Mapping[str, Any]) -> str:
    if run["train"].get("objective") == "pretraining":
        return "pretrain"
    return "finetune" if run["train"].get("init_from") else "train"


def _portable(path: str) -> str:
    """A path as it may be told to others: of an absolute one the last part."""
    return Path(path).name if Path(path).is_absolute() or path.startswith("~") else path
