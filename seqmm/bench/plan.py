"""Which models and seeds a benchmark trains: its cells."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seqmm.arguments import TrainArguments
from seqmm.data.corpus import Corpus
from seqmm.evaluation.evaluator import Evaluator
from seqmm.files import installed_folder, read_yaml
from seqmm.foreign import path_name, word
from seqmm.models.checkpoint import whole_weights
from seqmm.models.collaborative.popularity import PopularityConfig
from seqmm.models.registry import model_class
from seqmm.names import EvaluatedSplit, Ideal, MaskChoice, nearest
from seqmm.options import result_values
from seqmm.run.settings import ARGUMENTS, RunConfig, load_run
from seqmm.run.variants import ALL, Point, chosen, is_configuration, merged, reference, sweep_of, variants_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """How every row of the table is evaluated."""

    ks: tuple[int, ...]
    metrics: tuple[str, ...]
    mask: MaskChoice = "auto"
    ideal: Ideal = "test"

    def evaluator(self, corpus: Corpus, split: EvaluatedSplit) -> Evaluator:
        return Evaluator(corpus, split, ks=self.ks, metrics=self.metrics, mask=self.mask, ideal=self.ideal)


@dataclass(frozen=True)
class Cell:
    """One model and seed: a configuration to train, or a finished run's folder."""

    label: str
    """Row of the table; cells of one label differ in their seed."""
    seed: int
    source: str
    """The run's folder, or ``file.yaml`` or ``file.yaml#variant``."""
    run: RunConfig
    pretraining: Cell | None = None
    """Done first, if ``train.init_from`` is a YAML; ``run.train.init_from`` is then its folder."""

    @property
    def name(self) -> str:
        return path_name(self.label, f"seed{self.seed}")

    @property
    def is_run(self) -> bool:
        return Path(self.source).is_dir()


def plan(
    sources: Sequence[str],
    seeds: Sequence[int],
    output: Path,
    corpus_path: str | None,
    variants: Sequence[str] = (),
) -> list[Cell]:
    """The cells of a benchmark, in the order of ``sources``.

    Args:
        sources: YAML files, each trained with every seed (once, if there is nothing to train); and run folders, each
            evaluated as it is. Folders called ``name-seed0``, ``name-seed1`` … are seeds of one row. A YAML whose
            ``train.init_from`` is a YAML is pretrained by that one first, with the same seed; files that share it share
            the pretraining. ``file.yaml#variant`` is one variant alone, a YAML with a sweep is a row for each
            combination.
        seeds: for the YAML files.
        output: of the benchmark.
        corpus_path: instead of each source's own corpus; a pretraining on a corpus other than its source's keeps it.
        variants: each a row more beside the YAML files that have it; ``all`` = all they have on their own corpus.

    Raises:
        FileNotFoundError, ValueError: a source that is neither, or is for pretraining; a variant no file has; two
            sources of one name and seed, or two rows of a file that are the same run; seeds of one row with other
            hyper-parameters; files of different ``train.mixed_precision``.
    """
    cells: list[Cell] = []
    for source in sources:
        if Path(source).is_dir():
            cells.append(_finished(source, corpus_path))
            continue
        for place in _rows_of(source, variants):
            run = load_run(["--config", place])
            for seed in seeds if model_class(run.model.model_type).stages else seeds[:1]:
                cells.append(_to_train(place, _seeded(run, seed), output, corpus_path))
    _check_variants(variants, sources)
    cells = [_trained_in_no_precision(cell) for cell in cells]
    _check_precision(cells)
    _check_names(cells)
    return cells


def _check_names(cells: Sequence[Cell]) -> None:
    """One name is one cell, one label one model, and two rows of a file are two runs."""
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
        if settings_of(first.run)["model"] != settings_of(cell.run)["model"]:
            raise ValueError(
                f"{cell.source} and {first.source} would be one row, {cell.label}, but their models differ; rename one"
            )
        for other in names.values():
            same_file = not cell.is_run and reference(other.source)[0] == reference(cell.source)[0]
            if same_file and _weights_of(other) == _weights_of(cell):
                raise ValueError(f"{cell.source} and {other.source} are the same run, seed {cell.seed}; leave one out")
        names[cell.name] = cell


def _weights_of(cell: Cell) -> tuple[Any, ...]:
    run = cell.run
    return settings_of(run), run.data.path, run.data.revision, run.train.init_from, run.train.init_revision


def _finished(source: str, corpus_path: str | None) -> Cell:
    file = Path(source) / "run.yaml"
    if not file.is_file():
        raise FileNotFoundError(f"{source} is no finished run: it has no run.yaml; train it, or name a YAML")
    _refuse_pretraining(read_yaml(file), source)
    whole_weights(Path(source))  # a damaged run is named before hours of training, not after
    run = _use_corpus(load_run(["--config", str(file)]), corpus_path)
    name = Path(source).resolve().name
    return Cell(re.sub(r"([-_]seed|-s)\d+$", "", name) or name, run.train.seed, source, run)


def _rows_of(source: str, variants: Sequence[str]) -> list[str]:
    """``file.yaml``, or ``file.yaml#name`` of each combination of its sweep, and of the variants asked for."""
    place, named = reference(source)
    file = _find(place)
    values = read_yaml(file)
    if named is not None:
        _refuse_pretraining(chosen(values, named, file), source)
        return [f"{file}#{named}"]
    _refuse_pretraining(values, source)
    points = variants_of(values, file)
    left = _other_corpora(values, points, file) if ALL in variants else [*points]
    names = [name for name in points if name in variants or name not in left]
    swept = sweep_of(values, file)
    return [*([] if swept else [str(file)]), *(f"{file}#{name}" for name in [*swept, *names])]


def _other_corpora(values: Mapping[str, Any], points: Mapping[str, Point], file: Path) -> list[str]:
    """The variants that read another corpus than the file: ``all`` leaves them out."""

    def corpus(point: Point) -> tuple[Any, ...]:
        data = merged(values, point).get("data") or {}
        return tuple(data.get(key) for key in ("path", "revision", "joined", "protocol"))

    found = [name for name, point in points.items() if corpus(point) != corpus({})]
    if found:
        logger.warning("%s: %s left out: one table holds one corpus, they read another", file, ", ".join(found))
    return found


def _check_variants(variants: Sequence[str], sources: Sequence[str]) -> None:
    """Whether each variant asked for is some file's."""
    files = [_find(source) for source in sources if not Path(source).is_dir() and reference(source)[1] is None]
    known = [name for file in files for name in variants_of(read_yaml(file), file)]
    for name in variants:
        if name not in known and not (name == ALL and known):
            which = ", ".join(map(str, files)) or "no YAML file is named in `runs`"
            raise ValueError(f"`variants` {name}: none of the files has it{nearest(name, known)} ({which})")


def _to_train(place: str, run: RunConfig, output: Path, corpus_path: str | None) -> Cell:
    before, seed = None, run.train.seed
    if run.train.init_from is not None and is_configuration(run.train.init_from):
        file, variant = reference(run.train.init_from)
        first = "#".join(filter(None, (str(_find(file)), variant)))
        pretrain = _seeded(load_run(["--config", first], pretraining=True), seed)
        if pretrain.data.path == run.data.path:
            pretrain = _use_corpus(pretrain, corpus_path)
        before = _written_to(Cell(f"{_label(first)}-pretraining", seed, first, pretrain), output)
        run = replace(run, train=replace(run.train, init_from=before.run.train.output_dir))
    return _written_to(Cell(_label(place), seed, place, _use_corpus(run, corpus_path), before), output)


def _seeded(run: RunConfig, seed: int) -> RunConfig:
    return replace(run, train=replace(run.train, seed=seed))


def _label(place: str) -> str:
    file, variant = reference(place)
    path = Path(file).resolve()
    return " ".join(filter(None, (f"{path.parent.name}/{path.stem}", variant)))


def _written_to(cell: Cell, output: Path) -> Cell:
    run, directory = cell.run, output / "runs" / cell.name
    if run.hub.push_to:
        raise ValueError(
            f"{cell.source}: hub.push_to {run.hub.push_to}, but a benchmark trains several and pushes none; leave it "
            f"out, and publish one: python recipes/publish.py --model {word(directory)} --repo {word(run.hub.push_to)}"
        )
    train = replace(run.train, output_dir=str(directory), resume=True, overwrite=False)
    return replace(cell, run=replace(run, train=train, eval=replace(run.eval, test=False)))


def _use_corpus(run: RunConfig, path: str | None) -> RunConfig:
    return run if path is None else replace(run, data=replace(run.data, path=path, revision=None))


def _find(path: str) -> Path:
    """A YAML file relative to the working directory, else ``recipes/…`` of the checkout or the installed package."""
    place = Path(path)
    if place.exists() or place.parts[:1] != ("recipes",):
        return place
    return installed_folder("recipes").joinpath(*place.parts[1:])


def _refuse_pretraining(values: Mapping[str, Any], source: str) -> None:
    train = values.get("train")
    if isinstance(train, dict) and train.get("objective") == "pretraining":
        raise ValueError(
            f"{source} is for pretraining, which has no row of its own; name the YAML that finetunes from it "
            "(…_finetune.yaml: train.init_from names the pretraining YAML, which is then run first)"
        )


def _trained_in_no_precision(cell: Cell) -> Cell:
    """Of a model that is not trained: it asks for no precision."""
    if cell.is_run or model_class(cell.run.model.model_type).stages:
        return cell
    return replace(cell, run=replace(cell.run, train=replace(cell.run.train, mixed_precision=None)))


def _check_precision(cells: Sequence[Cell]) -> None:
    """accelerate keeps one precision a process."""
    seen: dict[str | None, str] = {}
    for cell in cells:
        if cell.is_run or not model_class(cell.run.model.model_type).stages:
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
    data = replace(like.run.data, features=(), rename=())
    train = TrainArguments(output_dir=str(output / "runs" / "popularity"), resume=True)
    run = RunConfig(PopularityConfig(), data, train, replace(like.run.eval, test=False))
    return Cell("popularity", 0, "popularity", run)


def settings_of(run: RunConfig) -> dict[str, Any]:
    """The options that a result depends on, as they say themselves (``changes_result``)."""
    sections = {cls.section: result_values(getattr(run, cls.section)) for cls in ARGUMENTS}
    return {"model": {"model_type": run.model.model_type, **result_values(run.model)}, **sections}
