"""Models x seeds to one table: what recipes/benchmark.py is made of. Test splits are read here."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from accelerate import Accelerator

from seqmm.config import DataArguments, RunConfig, TrainArguments, load_run
from seqmm.data.corpus import Corpus
from seqmm.evaluation.evaluator import Evaluator
from seqmm.evaluation.leakage import PROBES, renumbered, ties
from seqmm.evaluation.significance import Comparison, compare, over_seeds, standard_error
from seqmm.models import model_class
from seqmm.models.base import Recommender
from seqmm.retrieval import check_trained_on, open_checkpoint
from seqmm.training.run import fit, load_corpus, seed_weights
from seqmm.training.state import write_json


@dataclass(frozen=True)
class Protocol:
    """How every row of the table is evaluated."""

    ks: tuple[int, ...]
    metrics: tuple[str, ...]
    mask: Literal["auto", "train", "history", "none"] = "auto"
    ideal: Literal["test", "retrieved"] = "test"

    def evaluator(self, corpus: Corpus, split: str) -> Evaluator:
        return Evaluator(corpus, split, ks=self.ks, metrics=self.metrics, mask=self.mask, ideal=self.ideal)


@dataclass(frozen=True)
class Cell:
    """One model and seed: a configuration to train, or a finished run's folder."""

    label: str
    """Row of the table; cells of one label differ in their seed."""
    seed: int
    source: str
    run: RunConfig

    @property
    def name(self) -> str:
        return re.sub(r"[^\w.-]+", "-", f"{self.label}-seed{self.seed}")

    @property
    def is_run(self) -> bool:
        return Path(self.source).is_dir()


def plan(sources: Sequence[str], seeds: Sequence[int], output: Path, corpus_path: str | None) -> list[Cell]:
    """The cells of a benchmark, in the order of ``sources``.

    Args:
        sources: YAML files, each trained with every seed (once, if there is nothing to train); and run folders, each
            evaluated as it is. Folders called ``name-seed0``, ``name-seed1`` … are seeds of one row.
        seeds: for the YAML files.
        output: of the benchmark.
        corpus_path: instead of each source's own corpus.

    Raises:
        FileNotFoundError, ValueError: a source that is neither, two sources of one name and seed, or seeds of one row
            with other hyper-parameters.
    """
    cells: list[Cell] = []
    for source in sources:
        place = Path(source)
        if place.is_dir():
            if not (place / "run.yaml").is_file():
                raise FileNotFoundError(f"{place} is no finished run: it has no run.yaml; train it, or name a YAML")
            run = load_run(["--config", str(place / "run.yaml")])
            label = re.sub(r"[-_.]?s(eed)?[-_]?\d+$", "", place.resolve().name) or place.resolve().name
            cells.append(Cell(label, run.train.seed, source, run))
            continue
        run = load_run(["--config", source])
        label = f"{place.resolve().parent.name}/{place.stem}"
        for seed in seeds if model_class(run.model.model_type).stages else seeds[:1]:
            run = load_run(["--config", source, "--train.seed", str(seed)])
            cell = Cell(label, seed, source, run)
            folder = output / "runs" / cell.name
            cell.run.train = replace(run.train, output_dir=str(folder), resume=True, overwrite=False)
            if corpus_path is not None:
                cell.run.data.path = corpus_path
            cell.run.eval.test = False
            cells.append(cell)
    names: dict[str, Cell] = {}
    rows: dict[str, Cell] = {}
    for cell in cells:
        if cell.name in names:
            raise ValueError(f"{cell.source} and {names[cell.name].source} are both {cell.name}; rename one")
        first = rows.setdefault(cell.label, cell)
        if _settings(first.run)["model"] != _settings(cell.run)["model"]:
            raise ValueError(
                f"{cell.source} and {first.source} would be one row, {cell.label}, but their models differ; rename one"
            )
        names[cell.name] = cell
    return cells


def popularity(like: Cell, output: Path, corpus_path: str | None) -> Cell:
    """The popularity row of the corpus ``like`` uses; it needs no YAML."""
    from seqmm.models.graph.popularity import PopularityConfig

    data = replace(like.run.data, path=corpus_path or like.run.data.path, features=())
    train = TrainArguments(output_dir=str(output / "runs" / "popularity"), resume=True)
    run = RunConfig(PopularityConfig(), data, train, replace(like.run.eval, test=False))
    return Cell("popularity", 0, "popularity", run)


def finish(cell: Cell, corpus: Corpus, protocol: Protocol, output: Path, corpus_path: str | None) -> dict[str, Any]:
    """Trains a cell (on from where it stopped), evaluates it on validation and test, and writes both; or reads them.

    Returns:
        ``{"validation": {…}, "test": {…}, "breakdown": {…}, …}``; per-user values of the test split lie in
        ``output/per_user/<cell>.npz``.

    Raises:
        ValueError: another corpus, or other settings than the files in ``output`` were made with.
    """
    accelerator = Accelerator()
    file, values_file = output / "cells" / f"{cell.name}.json", output / "per_user" / f"{cell.name}.npz"
    identity = _identity(cell, corpus, protocol)
    started = output / "cells" / f"{cell.name}.started.json"
    if started.is_file() and (old := json.loads(started.read_text())) != identity:
        what = _difference(old, identity)
        raise ValueError(
            f"{output} holds {cell.name} made with other settings ({what}); choose another --output, or delete "
            f"cells/{cell.name}.* and runs/{cell.name} there"
        )
    if file.is_file() and values_file.is_file():
        return json.loads(file.read_text())
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        file.parent.mkdir(parents=True, exist_ok=True)
        values_file.parent.mkdir(parents=True, exist_ok=True)
        write_json(identity, started)
    accelerator.wait_for_everyone()
    model = _model(cell, corpus, corpus_path)
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
        temporary = values_file.with_suffix(".tmp.npz")
        columns: dict[str, Any] = {"users": test.users, **test.per_user}
        np.savez_compressed(temporary, **columns)
        os.replace(temporary, values_file)
        write_json(result, file)
    accelerator.wait_for_everyone()
    return result


def _model(cell: Cell, corpus: Corpus, corpus_path: str | None) -> Recommender:
    if cell.is_run:
        model, _ = open_checkpoint(cell.source, corpus_path)
        check_trained_on(model, corpus, cell.source)
        return model.to(Accelerator().device)
    run = cell.run
    own = load_corpus(run.data)
    if own.fingerprint() != corpus.fingerprint():
        raise ValueError(
            f"{cell.source} reads corpus {own.name!r} ({own.protocol}), but the benchmark's is {corpus.name!r} "
            f"({corpus.protocol}); one table holds one corpus: leave it out, or give --corpus and the same protocol"
        )
    seed_weights(run.train.seed)
    cls = model_class(run.model.model_type)
    if run.train.init_from is None:
        model = cls.for_corpus(run.model, own)
    else:
        model = cls.from_pretraining(run.train.init_from, run.model, own)
    fit(run, model, own, recipe="train" if run.train.init_from is None else "finetune")
    return model


@dataclass(frozen=True)
class Probe:
    """A leakage probe's test metrics on a corpus and on the same with users renumbered at random."""

    name: str
    values: dict[str, float]
    renumbered: dict[str, float]
    z: float
    """Difference in the monitored metric over its standard error; beyond 4 the numbering tells labels."""


def run_probes(corpus: Corpus, protocol: Protocol, monitor: str) -> list[Probe]:
    """Label-leak probes (:mod:`seqmm.evaluation.leakage`), evaluated as every model."""
    accelerator, other = Accelerator(), renumbered(corpus)
    found = []
    for name, probe in PROBES.items():
        ours, theirs = protocol.evaluator(corpus, "test"), protocol.evaluator(other, "test")
        values = ours.evaluate(probe(corpus), accelerator=accelerator)
        without = theirs.evaluate(probe(other), accelerator=accelerator)
        error = math.hypot(standard_error(ours.per_user[monitor]), standard_error(theirs.per_user[monitor]))
        found.append(Probe(name, values, without, (values[monitor] - without[monitor]) / max(error, 1e-12)))
    return found


def tie_report(corpus: Corpus, data: DataArguments) -> str | None:
    """One line on ties in time; None where the corpus has no times or its source order is not known."""
    from seqmm.data.schema import read_items
    from seqmm.hub import local_folder

    if corpus.protocol != "leave_one_out" or any(part.timestamp is None for part in corpus.splits.values()):
        return None
    items = read_items(local_folder(data.path, revision=data.revision, kind="dataset"))
    if "source_index" not in items.column_names:
        return None
    found = ties(corpus, items["source_index"].to_numpy())
    return (
        f"Ties: {found.share:.1%} of neighbouring interactions share a time; of {found.users} users whose last one "
        f"ties, it has the largest source id of its group for {found.largest:.1%} (by chance {found.chance:.1%}), "
        f"leak {found.score:.2f} of 1."
    )


@dataclass(frozen=True)
class Row:
    """A model of the table: its cells' results and per-user test values."""

    label: str
    results: list[dict[str, Any]]
    values: dict[str, np.ndarray]
    """"recall@20" -> ``[seeds, users]``."""

    def over_seeds(self, split: str) -> dict[str, tuple[float, float]]:
        return {name: over_seeds([result[split][name] for result in self.results]) for name in self.results[0][split]}


def read_rows(cells: Sequence[Cell], results: Sequence[dict[str, Any]], output: Path) -> list[Row]:
    """Gathers cells by label."""
    rows = []
    for label in dict.fromkeys(cell.label for cell in cells):
        mine = [(cell, result) for cell, result in zip(cells, results, strict=True) if cell.label == label]
        tables = [np.load(output / "per_user" / f"{cell.name}.npz") for cell, _ in mine]
        values = {name: np.stack([table[name] for table in tables]) for name in tables[0].files if name != "users"}
        rows.append(Row(label, [result for _, result in mine], values))
    return rows


def best_baseline(rows: Sequence[Row], monitor: str) -> Row | None:
    """The row other than the first that is best on validation; None if there is no other."""
    return max(rows[1:], key=lambda row: row.over_seeds("validation")[monitor][0], default=None)


def compare_all(rows: Sequence[Row], baseline: Row | None, monitor: str) -> dict[str, Comparison]:
    """Each row against the baseline, paired over users."""
    if baseline is None:
        return {}
    others = [row for row in rows if row.label != baseline.label]
    return {row.label: compare(row.values[monitor], baseline.values[monitor]) for row in others}


def report(
    rows: Sequence[Row],
    probes: Sequence[Probe],
    evaluator: Evaluator,
    monitor: str,
    notes: Sequence[str] = (),
) -> tuple[str, dict[str, Any]]:
    """The table as markdown, and everything in it as plain values."""
    baseline = best_baseline(rows, monitor)
    compared = compare_all(rows, baseline, monitor)
    names = list(rows[0].results[0]["test"])
    heads = ["model", "seeds", *names, f"± users ({monitor})"]
    if baseline is not None:
        heads += [f"Δ {monitor} [95 %]", "p"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    plain: list[dict[str, Any]] = []
    for row in rows:
        test = row.over_seeds("test")
        best = {name: max(other.over_seeds("test")[name][0] for other in rows) for name in names}
        shown = [_bold(_spread(*test[name]), test[name][0] == best[name] and len(rows) > 1) for name in names]
        users = row.values[monitor].mean(0)  # [users]
        error = standard_error(users)
        cells = [row.label, str(len(row.results)), *shown, _number(error)]
        against = compared.get(row.label)
        if against is not None:
            interval = f"{_number(against.difference)} [{_number(against.low)}, {_number(against.high)}]"
            cells += [interval, f"{against.p_t:.3g}"]
        elif baseline is not None:
            cells += ["best baseline", ""]
        lines.append(f"| {' | '.join(cells)} |")
        plain.append(
            {
                "label": row.label,
                "seeds": [result["seed"] for result in row.results],
                "validation": {k: {"mean": m, "std": s} for k, (m, s) in row.over_seeds("validation").items()},
                "test": {k: {"mean": m, "std": s} for k, (m, s) in test.items()},
                "standard_error_over_users": error,
                "against_baseline": None if against is None else vars(against),
                "cells": row.results,
            }
        )
    empty = " |" * (len(heads) - 2 - len(names))
    for probe in probes:
        for name, probed in ((probe.name, probe.values), (f"{probe.name}, users renumbered", probe.renumbered)):
            lines.append(f"| *{name}* | | {' | '.join(_number(probed[metric]) for metric in names)} |{empty}")
    text = [f"# {evaluator.corpus.name}", evaluator.describe() + "."]
    text.append(
        "Mean ± standard deviation over seeds; ± users is the standard error of the mean over users, which seeds do "
        f"not show. {_explain(baseline, monitor)}"
        + " Probes learn nothing: what they lose when users are renumbered was read out of the numbering."
        * bool(probes)
    )
    text += ["\n".join(lines), _parts(rows, monitor)]
    text += [*_warnings(probes, monitor), *notes]
    values: dict[str, Any] = {
        "protocol": evaluator.describe(),
        "mask": evaluator.mask,
        "corpus": {"name": evaluator.corpus.name, "fingerprint": evaluator.corpus.fingerprint()},
        "monitor": monitor,
        "baseline": None if baseline is None else baseline.label,
        "rows": plain,
        "probes": [vars(probe) for probe in probes],
        "notes": list(notes),
    }
    return "\n\n".join(part for part in text if part) + "\n", values


def _explain(baseline: Row | None, monitor: str) -> str:
    if baseline is None:
        return ""
    return (
        f"Δ is against {baseline.label}, the baseline (any row but the first) best in validation {monitor}; its "
        "interval is a paired bootstrap over users, p a paired t test."
    )


def _parts(rows: Sequence[Row], monitor: str) -> str:
    """A second table: the monitored metric by kind of target."""
    names = list(rows[0].results[0]["breakdown"])
    if "cold" not in names:
        names.remove("warm")  # all of them
    sizes = [f"{name} ({rows[0].results[0]['breakdown'][name]['targets']:.0f} targets)" for name in names]
    lines = [f"| {monitor} by target | {' | '.join(sizes)} |", "|---" * (len(names) + 1) + "|"]
    for row in rows:
        spread = (over_seeds([result["breakdown"][name][monitor] for result in row.results]) for name in names)
        lines.append(f"| {row.label} | {' | '.join(_spread(*pair) for pair in spread)} |")
    return "\n".join(lines)


def _warnings(probes: Sequence[Probe], monitor: str) -> list[str]:
    return [
        f"**Leak:** {probe.name} scores {probe.values[monitor]:.4f} in {monitor}, and {probe.renumbered[monitor]:.4f} "
        f"with users renumbered ({probe.z:.0f} standard errors less): the numbering tells labels. Prepare the corpus "
        "with index_order permuted."
        for probe in probes
        if probe.z > 4
    ]


def _settings(run: RunConfig) -> dict[str, Any]:
    """What a result depends on: not where it is written, nor how it is resumed."""
    values = run.to_dict()
    for key in ("output_dir", "resume", "overwrite", "report_to", "save_every", "save_steps", "log_every"):
        values["train"].pop(key)
    values.pop("hub")
    return values


def _identity(cell: Cell, corpus: Corpus, protocol: Protocol) -> dict[str, Any]:
    weights = Path(cell.source) / "model.safetensors"
    digest = None
    if cell.is_run and weights.is_file():
        with weights.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    identity = {
        "run": _settings(cell.run),
        "weights": digest,
        "corpus": corpus.fingerprint(),
        "evaluation": {**vars(protocol), "ks": list(protocol.ks), "metrics": list(protocol.metrics)},
    }
    return json.loads(json.dumps(identity))


def _difference(old: Any, new: Any, path: str = "") -> str:
    """The first entry in which two nested dicts differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            if old.get(key) != new.get(key):
                return _difference(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
    return f"{path}: {old} before, {new} now"


def _number(value: float) -> str:
    if np.isnan(value):
        return "–"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.1f}"


def _spread(mean: float, deviation: float) -> str:
    return _number(mean) if np.isnan(deviation) else f"{_number(mean)} ± {_number(deviation)}"


def _bold(text: str, yes: bool) -> str:
    return f"**{text}**" if yes else text
