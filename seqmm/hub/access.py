"""Reaching the Hub: a folder or a repository id, and every failure in one line with its remedy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from seqmm import __version__
from seqmm.leftovers import put_back
from seqmm.names import RepositoryKind

if TYPE_CHECKING:
    from huggingface_hub import HfApi


MODEL_FILES = ("config.json", "model.safetensors", "README.md", "run.yaml", "metrics.json")


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


def local_folder(
    path: str,
    *,
    revision: str | None = None,
    kind: RepositoryKind = "model",
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
    put_back(Path(path))  # what a killed process had moved aside
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
        why = explain(error, f"{kind} repository {path}", revision, reading=True)
        raise FileNotFoundError(f"no folder {path}, and {why}") from error
    except HFValidationError as error:
        raise FileNotFoundError(
            f"no folder {path}, and it cannot be a repository's name ({one_line(error)})"
        ) from error


def corpus_files(protocol: str | None = None, features: Sequence[str] = ()) -> list[str]:
    """Patterns of what reading a corpus needs: the ids, and only the protocol and the feature sets asked for.

    ``features.json`` of every set comes along, so that an unknown name is answered with those there are.
    """
    folders = ["items", "users", *([protocol] if protocol else []), *features]
    return ["README.md", "corpus.json", "*/features.json", *(f"{name}/*" for name in folders)]


def origin_of(path: str, folder: Path) -> dict[str, str]:
    """What :func:`local_folder` answered for ``path`` as ``{"repository", "revision"}``; {} for a folder."""
    return {} if Path(path).is_dir() else {"repository": path, "revision": folder.name}  # snapshots/<commit>


def explain(error: BaseException, what: str, revision: str | None, *, reading: bool) -> str:
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
            f"the Hub at {constants.ENDPOINT} cannot be reached ({type(chain[-1]).__name__}: {one_line(chain[-1])})"
            + (f" and {what} is {partly} in the cache" if reading else "")
            + ": check the network, a proxy (HTTPS_PROXY) and HF_ENDPOINT"
        )
    status, said = answered.response.status_code, one_line(answered.server_message or answered)
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


def one_line(message: object) -> str:
    return " ".join(str(message).split())


def check_repository_name(repo_id: str) -> None:
    """Raises ValueError unless it has the form ``org/name``."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(f"{repo_id!r} cannot be a repository's name: {one_line(error)}") from error
    if "/" not in repo_id:
        raise ValueError(f"{repo_id!r} must have the form org/name (your user name or an organisation)")


def open_repository(repo_id: str, kind: RepositoryKind, *, private: bool = True) -> str:
    """Makes the repository if there is none, and returns its address.

    Raises:
        ValueError: it is public and ``private`` was asked for.
        OSError: the Hub cannot be reached or refuses.
    """
    check_repository_name(repo_id)
    with explained(f"{kind} repository {repo_id}"):
        api = hub_api()
        url = str(api.create_repo(repo_id, repo_type=kind, private=private, exist_ok=True))
        if private and not api.repo_info(repo_id, repo_type=kind).private:
            raise ValueError(
                f"{url} is public, and a private repository was asked for: make it private in its settings, or push "
                "with `private=False` (at the end of a run `hub.private=False`)"
            )
    return url


def hub_api() -> HfApi:
    from huggingface_hub import HfApi

    return HfApi(library_name="seqmm", library_version=__version__)


@contextmanager
def explained(what: str, revision: str | None = None) -> Iterator[None]:
    """Turns what goes wrong while pushing into an error of one line with its remedy."""
    from huggingface_hub.errors import OfflineModeIsEnabled
    from huggingface_hub.utils import httpx

    try:
        yield
    except (httpx.HTTPError, OfflineModeIsEnabled) as error:
        raise OSError(f"cannot push: {explain(error, what, revision, reading=False)}") from error
    except ValueError as error:  # huggingface_hub's own: a card the Hub does not accept
        raise ValueError(one_line(error)) from error
