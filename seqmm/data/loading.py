"""A corpus by the name people give it: a folder, or a dataset repository on the Hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from seqmm.data.corpus import Corpus
from seqmm.data.feature_store import stored_sets
from seqmm.data.identity import Description, match_sets
from seqmm.hub.access import corpus_files, local_folder, origin_of
from seqmm.names import Protocol


def load_corpus(
    path_or_repo: str | Path,
    *,
    protocol: Protocol = "leave_one_out",
    features: Sequence[str] = (),
    revision: str | None = None,
) -> Corpus:
    """Reads a prepared corpus from a folder or a Hub dataset repository.

    Args:
        path_or_repo: folder, or ``org/name`` on the Hub. Of a repository only the ids, this protocol and these
            feature sets are downloaded.
        protocol: which of its split protocols.
        features: names of the feature sets to load; () = none.
        revision: of a Hub repository: a branch, tag or commit; None = main.

    Raises:
        FileNotFoundError: no such folder or repository, the Hub out of reach, a file missing.
        ValueError: no such protocol or feature set; damaged or inconsistent files.

    >>> import seqmm
    >>> seqmm.synthetic_corpus(num_users=60, num_items=40).save("corpora/some")
    >>> corpus = seqmm.load_corpus("corpora/some", protocol="leave_one_out", features=["text_vector"])
    >>> corpus.num_items, corpus.features["text_vector"].dim
    (40, 16)
    """
    path = str(path_or_repo)
    folder = local_folder(path, revision=revision, kind="dataset", files=corpus_files(protocol, features))
    return Corpus.load(folder, protocol=protocol, features=features, origin=origin_of(path, folder))


def find_features(
    path_or_repo: str | Path,
    known: Mapping[str, Description],
    names: Sequence[str] = (),
    *,
    rename: Mapping[str, str] = MappingProxyType({}),
    revision: str | None = None,
) -> tuple[str, ...]:
    """What a corpus calls the feature sets that a checkpoint knows: what to load for it.

    Args:
        path_or_repo: folder, or ``org/name`` on the Hub.
        known: the checkpoint's sets, name -> description.
        names: the sets that are wanted, by the corpus' names or else the checkpoint's; () = all of ``known``.
        rename: sets of the corpus -> the checkpoint's that they are, where their provenance does not tell.
        revision: of a Hub repository: a branch, tag or commit; None = main.

    Raises:
        FileNotFoundError: no such folder or repository.
        ValueError: the corpus has no such set, or several.
    """
    folder = local_folder(str(path_or_repo), revision=revision, kind="dataset", files=corpus_files())
    have = stored_sets(folder)
    own = [name for name in names if name in have]
    asked = {name: known[name] for name in names or known if name in known and name not in own}
    found = match_sets(
        asked,
        {name: about for name, about in have.items() if name not in own},
        rename={theirs: ours for ours, theirs in rename.items() if theirs in asked},
        who="the checkpoint",
        whose=f"corpus {path_or_repo}",
        remedy="name it (`data.rename=OURS=THEIRS`), or the sets to do with (`data.features`)",
    )
    return tuple(found.get(name, name) for name in names or known)
