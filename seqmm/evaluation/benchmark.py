"""Models x seeds to one table: what recipes/benchmark.py is made of. Test splits are read here."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from accelerate import Accelerator

from seqmm.cli import folder
from seqmm.config import DataArguments, RunConfig, TrainArguments, load_run, read_yaml, sweep_of
from seqmm.data.corpus import Corpus
from seqmm.data.schema import hash_rows
from seqmm.evaluation.evaluator import Evaluator
from seqmm.evaluation.leakage import PROBES, renumbered, ties
from seqmm.evaluation.significance import Comparison, compare, over_seeds, standard_error
from seqmm.hub import from_pretrained, local_folder
from seqmm.models import model_class
from seqmm.models.base import Recommender, describe
from seqmm.retrieval import check_trained_on
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
    pretraining: Cell | None = None
    """Done first, if ``train.init_from`` is a YAML; ``run.train.init_from`` is then its folder."""

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
            evaluated as it is. Folders called ``name-seed0``, ``name-seed1`` … are seeds of one row. A YAML whose
            ``train.init_from`` is a YAML is pretrained by that one first, with the same seed; files that share it share
            the pretraining.
        seeds: for the YAML files.
        output: of the benchmark.
        corpus_path: instead of each source's own corpus; a pretraining on a corpus other than its source's keeps it.

    Raises:
        FileNotFoundError, ValueError: a source that is neither, or is for pretraining; two sources of one name and
            seed; seeds of one row with other hyper-parameters; files of different ``train.mixed_precision``.
    """
    cells: list[Cell] = []
    for source in sources:
        if Path(source).is_dir():
            file = Path(source) / "run.yaml"
            if not file.is_file():
                raise FileNotFoundError(f"{source} is no finished run: it has no run.yaml; train it, or name a YAML")
            _refuse_pretraining(file, source)
            run = load_run(["--config", str(file)])
            _use_corpus(run, corpus_path)
            name = Path(source).resolve().name
            label = re.sub(r"([-_]seed|-s)\d+$", "", name) or name
            cells.append(Cell(label, run.train.seed, source, run))
            continue
        file = _find(source)
        _refuse_pretraining(file, source)
        for options in sweep_of(file):
            run = load_run(["--config", str(file)], sweep=options)
            for seed in seeds if model_class(run.model.model_type).stages else seeds[:1]:
                cells.append(_to_train(file, seed, output, corpus_path, options))
    _check_precision(cells)
    pretrained: dict[str, Cell] = {}
    for first in (cell.pretraining for cell in cells if cell.pretraining is not None):
        other = pretrained.setdefault(first.name, first)
        if other.run.to_dict() != first.run.to_dict():
            raise ValueError(f"{first.source} and {other.source} are both {first.name}, but they differ; rename one")
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


def _to_train(
    file: Path, seed: int, output: Path, corpus_path: str | None, options: Mapping[str, Any] = MappingProxyType({})
) -> Cell:
    run = load_run(["--config", str(file), "--train.seed", str(seed)], sweep=options)
    before, own_path = None, run.data.path
    if run.train.init_from is not None and run.train.init_from.endswith(".yaml"):
        first = _find(run.train.init_from)
        pretrain = load_run(["--config", str(first), "--train.seed", str(seed)], pretraining=True)
        if pretrain.data.path == own_path:
            _use_corpus(pretrain, corpus_path)
        before = Cell(f"{_label(first)}-pretraining", seed, str(first), pretrain)
        _write_to(before, output)
        run.train.init_from = pretrain.train.output_dir
    _use_corpus(run, corpus_path)
    swept = [f"{key.rpartition('.')[2]}={value}" for key, value in options.items()]
    cell = Cell(" ".join([_label(file), *swept]), seed, str(file), run, before)
    _write_to(cell, output)
    return cell


def _label(file: Path) -> str:
    return f"{file.resolve().parent.name}/{file.stem}"


def _write_to(cell: Cell, output: Path) -> None:
    run, directory = cell.run, output / "runs" / cell.name
    if run.hub.push_to:
        raise ValueError(
            f"{cell.source}: hub.push_to {run.hub.push_to}, but a benchmark trains several and pushes none; leave "
            f"it out, and publish one: python recipes/publish.py --model {directory} --repo {run.hub.push_to}"
        )
    run.train = replace(run.train, output_dir=str(directory), resume=True, overwrite=False)
    run.eval.test = False


def _use_corpus(run: RunConfig, path: str | None) -> None:
    if path is not None:
        run.data = replace(run.data, path=path, revision=None)


def _find(path: str) -> Path:
    """A YAML file relative to the working directory, else ``recipes/…`` of the checkout or the installed package."""
    place = Path(path)
    if place.exists() or place.parts[:1] != ("recipes",):
        return place
    return folder("recipes").joinpath(*place.parts[1:])


def _refuse_pretraining(file: Path, source: str) -> None:
    train = read_yaml(file).get("train")
    if isinstance(train, dict) and train.get("objective") == "pretraining":
        raise ValueError(
            f"{source} is for pretraining, which has no row of its own; name the YAML that finetunes from it "
            "(…_finetune.yaml: train.init_from names the pretraining YAML, which is then run first)"
        )


def _check_precision(cells: Sequence[Cell]) -> None:
    """accelerate keeps one precision a process."""
    seen: dict[str | None, str] = {}
    for cell in cells:
        if cell.is_run:
            continue
        if not model_class(cell.run.model.model_type).stages:
            cell.run.train.mixed_precision = None
            continue
        for each in filter(None, (cell, cell.pretraining)):
            seen.setdefault(each.run.train.mixed_precision, each.source)
    if len(seen) > 1:
        said = ", ".join(f"{precision or 'not set'} in {source}" for precision, source in seen.items())
        raise ValueError(f"train.mixed_precision must be the same in all YAML files of a benchmark; it is {said}")


def mixed_precision(cells: Sequence[Cell]) -> str | None:
    """What the accelerator must be made with, before any cell is trained."""
    return next((c.run.train.mixed_precision for c in cells if not c.is_run and c.run.train.mixed_precision), None)


def popularity(like: Cell, output: Path) -> Cell:
    """The popularity row of the corpus ``like`` uses; it needs no YAML."""
    from seqmm.models.graph.popularity import PopularityConfig

    data = replace(like.run.data, features=())
    train = TrainArguments(output_dir=str(output / "runs" / "popularity"), resume=True)
    run = RunConfig(PopularityConfig(), data, train, replace(like.run.eval, test=False))
    return Cell("popularity", 0, "popularity", run)


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
    own = load_corpus(cell.run.data)
    if own.fingerprint() != corpus.fingerprint():
        raise ValueError(
            f"{cell.source} reads corpus {own.name!r} ({own.protocol}), but the benchmark's is {corpus.name!r} "
            f"({corpus.protocol}); one table holds one corpus: leave it out, or give --corpus and the same protocol"
        )
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
            write_json(identity, place)
    accelerator.wait_for_everyone()
    if before is not None:
        if accelerator.is_main_process:
            print(f"pretraining first: {before.source}, seed {before.seed}", flush=True)
        _train(before.run, load_corpus(before.run.data), pretraining=True)
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
        temporary = values_file.with_suffix(".tmp.npz")
        columns: dict[str, Any] = {"users": test.users, **test.per_user}
        np.savez_compressed(temporary, **columns)
        os.replace(temporary, values_file)
        write_json(result, file)
    accelerator.wait_for_everyone()
    return result


def _train(run: RunConfig, corpus: Corpus, pretraining: bool = False) -> Recommender:
    """Trains into the run's folder, on from its state; a finished run is only loaded."""
    seed_weights(run.train.seed)
    cls = model_class(run.model.model_type, pretraining=pretraining)
    if run.train.init_from is None or pretraining:
        model = cls.for_corpus(run.model, corpus)
    else:
        model = cls.from_pretraining(run.train.init_from, run.model, corpus, revision=run.train.init_revision)
    fit(run, model, corpus, recipe="pretrain" if pretraining else "finetune" if run.train.init_from else "train")
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
    from seqmm.hub import corpus_files, local_folder

    timed = all(part.timestamp is not None for part in corpus.splits.values())
    if data.joined or corpus.protocol != "leave_one_out" or not timed:
        return None
    items = read_items(local_folder(data.path, revision=data.revision, kind="dataset", files=corpus_files()))
    if "source_index" not in items.column_names:
        return None
    found = ties(corpus, items["source_index"].to_numpy())
    shared = f"Ties: {found.share:.1%} of neighbouring interactions share a time"
    if not found.users:
        return f"{shared}; no user's last one does."
    return (
        f"{shared}; of {found.users} users whose last one "
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
    """What a result depends on: not where it is written or read from, nor how it is resumed."""
    values = run.to_dict()
    places = ("output_dir", "resume", "overwrite", "report_to", "save_every", "save_steps", "log_every", "init_from")
    for key in (*places, "init_revision"):
        values["train"].pop(key)
    for key in ("path", "revision"):
        values["data"].pop(key)
    values.pop("hub")
    return values


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
        "run": _settings(cell.run),
        "weights": None if place is None else _digest(place / "model.safetensors"),
        "pretraining": None if before is None else _made_from(before, load_corpus(before.run.data)),
        "corpus": corpus.fingerprint(),
        "features": features,
    }


def _digest(weights: Path) -> str | None:
    if not weights.is_file():
        return None
    with weights.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_started(cell: Cell, identity: dict[str, Any], output: Path) -> dict[Path, dict[str, Any]]:
    """The file that says what the cell is made from, and what it must hold; an error if it holds something else."""
    file = output / "cells" / f"{cell.name}.started.json"
    identity = json.loads(json.dumps(identity))
    if file.is_file() and (old := json.loads(file.read_text())) != identity:
        raise ValueError(
            f"{output} holds {cell.name} made with other settings ({_difference(old, identity)}); choose another "
            f"--output, or delete cells/{cell.name}.* and runs/{cell.name} there"
        )
    return {file: identity}


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
