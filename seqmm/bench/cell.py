"""One model and seed of a benchmark: trained, evaluated on validation and test, or read from its files."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator

from seqmm.bench.plan import Cell, Evaluation, settings_of
from seqmm.bench.records import CellRecord, read_cell, read_identity, read_values
from seqmm.data.corpus import Corpus
from seqmm.data.feature_store import hash_rows
from seqmm.data.identity import describe
from seqmm.evaluation.evaluator import Evaluator
from seqmm.files import file_digest, write_json, writing
from seqmm.hub.access import local_folder
from seqmm.models.base import Recommender, RecommenderConfig, fill
from seqmm.models.checkpoint import check_trained_on, from_pretrained, load_config
from seqmm.models.registry import model_class
from seqmm.names import first_difference
from seqmm.run.opening import open_corpus
from seqmm.run.run import Run
from seqmm.training.launching import make_accelerator

logger = logging.getLogger(__name__)


def finish_all(
    cells: Sequence[Cell], corpus: Corpus, protocol: Evaluation, output: Path, accelerator: Accelerator
) -> list[CellRecord]:
    """:func:`finish` of every cell in turn, said on standard output.

    Raises:
        KeyboardInterrupt: asked to end; the cell under way is saved and no other is begun.
    """
    results: list[CellRecord] = []
    try:
        for number, cell in enumerate(cells, 1):
            if accelerator.is_main_process:
                print(f"\n[{number}/{len(cells)}] {cell.label}, seed {cell.seed}", flush=True)
            results.append(finish(cell, corpus, protocol, output))
    except KeyboardInterrupt:
        done = f"{len(results)} of {len(cells)} are finished"
        raise KeyboardInterrupt(f"{done}, the others are kept as they are in {output}: run it again to go on") from None
    return results


def finish(cell: Cell, corpus: Corpus, protocol: Evaluation, output: Path) -> CellRecord:
    """Trains a cell (on from where it stopped), evaluates it on validation and test, and writes both; or reads them.

    Returns:
        ``{"validation": {…}, "test": {…}, "breakdown": {…}, …}``; per-user values of the test split lie in
        ``output/per_user/<cell>.npz``.

    Raises:
        ValueError: another corpus, or other settings than the files in ``output`` were made with.
    """
    accelerator = make_accelerator()
    file, values_file = output / "cells" / f"{cell.name}.json", output / "per_user" / f"{cell.name}.npz"
    before = cell.pretraining
    earlier = None if before is None else open_corpus(before.run.data)[0]
    own, data = open_corpus(replace(cell.run.data, rename=()) if cell.is_run else cell.run.data, _start(cell, earlier))
    if own.fingerprint() != corpus.fingerprint():
        raise ValueError(
            f"{cell.source} reads corpus {own.name!r} ({own.protocol}), but the benchmark's is {corpus.name!r} "
            f"({corpus.protocol}); one table holds one corpus: leave it out, or give `corpus` and the same protocol"
        )
    cell = _in_precision(replace(cell, run=replace(cell.run, data=data)), accelerator)
    before = None if before is None else _in_precision(before, accelerator)
    made_from = _made_from(cell, own)
    if before is not None and earlier is not None:
        made_from["pretraining"] = _made_from(before, earlier)
    evaluation = {**vars(protocol), "ks": list(protocol.ks), "metrics": list(protocol.metrics)}
    started = _check_started(cell, made_from | {"evaluation": evaluation}, output)
    if file.is_file() and values_file.is_file():
        read_values(values_file)
        return read_cell(file)
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
            logger.info("pretraining first: %s, seed %d", before.source, before.seed)
        Run(before.run, earlier).fit()
    result, values = _evaluated(cell, _model(cell, own), corpus, protocol, accelerator)
    if accelerator.is_main_process:
        with writing(values_file) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, **values)
        write_json(file, result)
    accelerator.wait_for_everyone()
    return result


def _model(cell: Cell, corpus: Corpus) -> Recommender:
    """A finished run's model; or trained into the cell's folder, on from its state, if it is not finished there."""
    if not cell.is_run:
        run = Run(cell.run, corpus)
        run.fit()
        return run.model
    model = from_pretrained(cell.source)
    check_trained_on(model, corpus, cell.source)
    return model.bind(corpus)


def _evaluated(
    cell: Cell, model: Recommender, corpus: Corpus, protocol: Evaluation, accelerator: Accelerator
) -> tuple[CellRecord, dict[str, Any]]:
    """A cell's results, and its per-user values of the test split."""
    validation, test = protocol.evaluator(corpus, "validation"), protocol.evaluator(corpus, "test")
    result: CellRecord = {
        "label": cell.label,
        "seed": cell.seed,
        "source": cell.source,
        "model_type": cell.run.model.model_type,
        "validation_users": _chosen_on(cell, corpus),
        "parameters": sum(p.numel() for p in model.parameters()),
        "validation": validation(accelerator, model),
        "test": test(accelerator, model),
        "breakdown": test.breakdown(),
    }
    return result, {"users": test.users, **test.per_user}


def _in_precision(cell: Cell, accelerator: Accelerator) -> Cell:
    """A cell that is trained here says the precision it is trained in, the launcher's if its file says none."""
    if cell.is_run or not model_class(cell.run.model.model_type).stages:
        return cell
    train = replace(cell.run.train, mixed_precision=accelerator.mixed_precision)
    return replace(cell, run=replace(cell.run, train=train))


def _chosen_on(cell: Cell, corpus: Corpus) -> str | None:
    """On how many users the weights were chosen, if not on all: "validation on 2,000 of 39,387 users"."""
    if not model_class(cell.run.model.model_type).stages:
        return None
    return Evaluator(corpus, "validation", ks=[1], max_users=cell.run.eval.max_users).sample


def _start(cell: Cell, earlier: Corpus | None) -> RecommenderConfig | None:
    """The config of what a cell's model is, or starts from: it says which of the corpus' feature sets are meant.

    Args:
        cell: the cell.
        earlier: corpus of its pretraining, if it has one.
    """
    start, revision = cell.run.train.init_from, cell.run.train.init_revision
    if cell.pretraining is not None and earlier is not None:
        return fill(cell.pretraining.run.model, earlier)
    if cell.is_run:
        start, revision = cell.source, None
    return None if start is None else load_config(local_folder(start, revision=revision))


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
        "pretraining": None,
        "corpus": corpus.fingerprint(),
        "features": features,
    }


def _check_started(cell: Cell, identity: dict[str, Any], output: Path) -> dict[Path, dict[str, Any]]:
    """The file that says what the cell is made from, and what it must hold; an error if it holds something else."""
    file = output / "cells" / f"{cell.name}.started.json"
    identity = json.loads(json.dumps(identity))
    old = read_identity(file) if file.is_file() else identity
    if (changed := first_difference(old, identity)) is not None:
        what, before, now = changed
        raise ValueError(
            f"{output} holds {cell.name} made with other settings ({what}: {before} before, {now} now); choose another "
            f"`output`, or delete cells/{cell.name}.* and runs/{cell.name} there"
        )
    return {file: identity}
