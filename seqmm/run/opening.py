"""The corpus of a run: opened by its settings, or named in them where it was given."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from seqmm.arguments import DEFAULT_CORPUS, DataArguments
from seqmm.building.default import build_default_corpus
from seqmm.data.corpus import Corpus
from seqmm.data.joining import concat_corpora
from seqmm.data.loading import find_features, load_corpus
from seqmm.distributed import on_cpu
from seqmm.hub.access import corpus_files, local_folder
from seqmm.models.base import RecommenderConfig
from seqmm.names import pairs

logger = logging.getLogger(__name__)


def open_corpus(data: DataArguments, start: RecommenderConfig | None = None) -> tuple[Corpus, DataArguments]:
    """Loads the corpus of a run; the default one is built first if it is not there (under two minutes).

    Args:
        data: what to read.
        start: of a checkpoint, whose feature sets are found in the corpus whatever they are called there.

    Returns:
        The corpus, and the arguments that name it exactly: of Hub repositories the revisions are commits and of the
        feature sets the names are the corpus' own, so that run.yaml repeats the run on these very data.

    Raises:
        FileNotFoundError, ValueError: as :func:`~seqmm.data.loading.load_corpus`; ``data.rename`` without a checkpoint.
    """
    from accelerate import PartialState

    if data.path is None:
        raise ValueError(
            "data.path is none: the corpus of that run was made in memory and lies in no folder; save it "
            "(corpus.save) and give its folder"
        )
    if data.path == DEFAULT_CORPUS and not Path(data.path).exists():
        with PartialState(cpu=on_cpu()).local_main_process_first():
            if not Path(data.path).exists():
                logger.info("building the default corpus %s (once)", data.path)
                build_default_corpus(data.path, say=logger.info)
    if start is not None:
        known = {name: start.features[name] for name in start.reads()}
        rename = pairs(data.rename, "data.rename")
        with _one_downloads(data.path):
            found = find_features(data.path, known, data.features, rename=rename, revision=data.revision)
        data = replace(data, features=found)
    elif data.rename:
        raise ValueError(
            f"data.rename {' '.join(data.rename)} says which sets of a checkpoint those of the corpus are; this run "
            "starts from none: leave it out, or finetune from a checkpoint (`train.init_from`)"
        )
    assert data.path is not None
    corpus = _load(data, data.path, data.revision)
    more = []
    for place in data.joined:
        path, _, revision = (place, "", "") if Path(place).exists() else place.partition("@")
        more.append(_load(data, path, revision or None))
    joined = tuple(
        f"{other.origin['repository']}@{other.origin['revision']}" if other.origin else place
        for place, other in zip(data.joined, more, strict=True)
    )
    exact = replace(data, revision=corpus.origin.get("revision", data.revision), joined=joined)
    return concat_corpora([corpus, *more]) if more else corpus, exact


def _load(data: DataArguments, path: str, revision: str | None) -> Corpus:
    with _one_downloads(path):
        local_folder(path, revision=revision, kind="dataset", files=corpus_files(data.protocol, data.features))
    return load_corpus(path, protocol=data.protocol, features=data.features, revision=revision)


def _one_downloads(path: str) -> AbstractContextManager[None]:
    """Of the Hub, one process of a machine downloads and the others find it in the cache."""
    from accelerate import PartialState

    return nullcontext() if Path(path).exists() else PartialState(cpu=on_cpu()).local_main_process_first()


def named(corpus: Corpus, data: DataArguments) -> DataArguments:
    """The arguments that open a corpus which is there already; ``path`` is None for one that lies in no folder."""
    first, *more = corpus.places or (None,)
    path, revision = first, None
    if first is not None and not Path(first).exists() and "@" in first:
        path, _, revision = first.partition("@")
    return replace(
        data,
        path=path,
        revision=revision,
        joined=tuple(more),
        protocol=corpus.protocol,
        features=tuple(corpus.features),
    )
