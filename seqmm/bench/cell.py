"""One model and seed of a benchmark: trained, evaluated on validation and test, or read from its files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator

from seqmm.bench.plan import Cell, Protocol, settings_of
from seqmm.data.corpus import Corpus
from seqmm.data.feature_store import hash_rows
from seqmm.data.identity import describe
from seqmm.files import file_digest, write_json, writing
from seqmm.hub.access import local_folder
from seqmm.models.base import Recommender, RecommenderConfig, fill
from seqmm.models.checkpoint import check_trained_on, from_pretrained, load_config, start_from
from seqmm.models.registry import model_class
from seqmm.names import first_difference, pairs
from seqmm.run.fit import fit, open_corpus, seed_weights
from seqmm.run.settings import RunConfig


def finish(cell: Cell, corpus: Corpus, protocol: Protocol, output: Path) -> dict[str, Any]:
    """Trains a cell (on from where it stopped), evaluates it on validation and test, and writes both; or reads them.

    Returns:
        ``{"validation": {…}, "test": {…}, "breakdown": {…}, …}``; per-user values of the test split lie in
        ``output/per_user/<cell>.npz``.

    Raises:
        ValueError: another corpus, or other settings than the files in ``output`` were made with.
    """
    accelerator = Accelerator()
    file, values_file = output / "cells" / f"{cell.name}.json", output / "per_user" / f"{cell.name}.npz"
    cell, own = _open(cell, corpus)
    made_from = _made_from(cell, own)
    evaluation = {**vars(protocol), "ks": list(protocol.ks), "metrics": list(protocol.metrics)}
    started = _check_started(cell, made_from | {"evaluation": evaluation}, output)
    if file.is_file() and values_file.is_file():
        return json.loads(file.read_text())
    before = cell.pretraining
    started |= _check_started(before, made_from["pretraining"], output) if before is not None else {}
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        file.parent.mkdir(parents=True, exist_ok=True)
        values_file.parent.mkdir(parents=True, exist_ok=True)
        for place, identity in started.items():
            write_json(place, identity)
    accelerator.wait_for_everyone()
    if before is not None:
        if accelerator.is_main_process:
            print(f"pretraining first: {before.source}, seed {before.seed}", flush=True)
        first, data = open_corpus(before.run.data)
        _train(replace(before.run, data=data), first, pretraining=True)
    if cell.is_run:
        model = from_pretrained(cell.source)
        check_trained_on(model, own, cell.source)
        model = model.bind(own).to(accelerator.device)
    else:
        model = _train(cell.run, own)
    validation, test = protocol.evaluator(corpus, "validation"), protocol.evaluator(corpus, "test")
    result: dict[str, Any] = {
        "label": cell.label,
        "seed": cell.seed,
        "source": cell.source,
        "model_type": cell.run.model.model_type,
        "parameters": sum(p.numel() for p in model.parameters()),
        "validation": validation(accelerator, model),
        "test": test(accelerator, model),
        "breakdown": test.breakdown(),
    }
    if accelerator.is_main_process:
        columns: dict[str, Any] = {"users": test.users, **test.per_user}
        with writing(values_file) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, **columns)
        write_json(file, result)
    accelerator.wait_for_everyone()
    return result


def _open(cell: Cell, corpus: Corpus) -> tuple[Cell, Corpus]:
    """The cell with its corpus named exactly, and that corpus, which must be the benchmark's."""
    rename = () if cell.is_run else cell.run.data.rename  # of a finished run they were for what it started from
    own, data = open_corpus(replace(cell.run.data, rename=rename), _start(cell))
    if own.fingerprint() != corpus.fingerprint():
        raise ValueError(
            f"{cell.source} reads corpus {own.name!r} ({own.protocol}), but the benchmark's is {corpus.name!r} "
            f"({corpus.protocol}); one table holds one corpus: leave it out, or give --corpus and the same protocol"
        )
    return replace(cell, run=replace(cell.run, data=data)), own


def _start(cell: Cell) -> RecommenderConfig | None:
    """The config of what a cell's model is, or starts from: it says which of the corpus' feature sets are meant."""
    start, revision = cell.run.train.init_from, cell.run.train.init_revision
    if cell.pretraining is not None:
        first = cell.pretraining.run
        return fill(first.model, open_corpus(first.data)[0])
    if cell.is_run:
        start, revision = cell.source, None
    return None if start is None else load_config(local_folder(start, revision=revision))


def _train(run: RunConfig, corpus: Corpus, pretraining: bool = False) -> Recommender:
    """Trains into the run's folder, on from its state; a finished run is only loaded."""
    seed_weights(run.train.seed)
    cls = model_class(run.model.model_type, pretraining=pretraining)
    if run.train.init_from is None or pretraining:
        model = cls.for_corpus(run.model, corpus)
    else:
        rename = pairs(run.data.rename, "data.rename")
        model = start_from(cls, run.train.init_from, run.model, corpus, run.train.init_revision, rename=rename)
    fit(run, model, corpus, recipe="pretrain" if pretraining else "finetune" if run.train.init_from else "train")
    return model


def _made_from(cell: Cell, corpus: Corpus) -> dict[str, Any]:
    """What a cell's weights depend on; ``corpus`` is the cell's own, with its features."""
    before, start = cell.pretraining, cell.run.train.init_from
    place = Path(cell.source) if cell.is_run else None
    if place is None and start is not None and before is None:
        place = local_folder(start, revision=cell.run.train.init_revision)
    features = {
        name: describe(made) | {"vocabulary": made.vocabulary, "sha256": hash_rows(made.values, made.offsets)}
        for name, made in corpus.features.items()
    }
    return {
        "run": settings_of(cell.run),
        "weights": None if place is None else file_digest(place / "model.safetensors"),
        "pretraining": None if before is None else _made_from(before, open_corpus(before.run.data)[0]),
        "corpus": corpus.fingerprint(),
        "features": features,
    }


def _check_started(cell: Cell, identity: dict[str, Any], output: Path) -> dict[Path, dict[str, Any]]:
    """The file that says what the cell is made from, and what it must hold; an error if it holds something else."""
    file = output / "cells" / f"{cell.name}.started.json"
    identity = json.loads(json.dumps(identity))
    old = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else identity
    if (changed := first_difference(old, identity)) is not None:
        what, before, now = changed
        raise ValueError(
            f"{output} holds {cell.name} made with other settings ({what}: {before} before, {now} now); choose another "
            f"--output, or delete cells/{cell.name}.* and runs/{cell.name} there"
        )
    return {file: identity}
