"""A corpus by the name people give it: a folder, or a dataset repository on the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seqmm.data.corpus import Corpus
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
