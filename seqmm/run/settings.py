"""One run, one configuration: class default < YAML file < flag. An unknown key is an error that names the nearest one.

Every key has one home, which says its help and its range and checks its value: the model's config class or one of the
argument classes (:mod:`seqmm.arguments`).
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from seqmm.arguments import DataArguments, EvalArguments, HubArguments, TrainArguments
from seqmm.files import read_yaml
from seqmm.flags import flag, parse_flags
from seqmm.models.registry import model_class
from seqmm.names import Objective, nearest
from seqmm.options import OptionError, checked_values, plain_values
from seqmm.registry import MODELS

if TYPE_CHECKING:
    from seqmm.models.base import RecommenderConfig

ARGUMENTS = (DataArguments, TrainArguments, EvalArguments, HubArguments)


@dataclass(frozen=True)
class RunConfig:
    """Everything a run depends on; written to run.yaml and accepted back as --config."""

    model: RecommenderConfig
    data: DataArguments = field(default_factory=DataArguments)
    train: TrainArguments = field(default_factory=TrainArguments)
    eval: EvalArguments = field(default_factory=EvalArguments)
    hub: HubArguments = field(default_factory=HubArguments)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as run.yaml holds them."""
        model = {"model_type": self.model.model_type, **plain_values(self.model)}
        return {"model": model, **{cls.section: plain_values(getattr(self, cls.section)) for cls in ARGUMENTS}}


def load_run(
    argv: Sequence[str] | None = None,
    *,
    description: str = "",
    default_config: str | None = None,
    pretraining: bool = False,
    sweep: Mapping[str, Any] = MappingProxyType({}),
) -> RunConfig:
    """Reads a run's configuration from ``argv``.

    Args:
        argv: command line without the program's name; default ``sys.argv[1:]``.
        description: the recipe's docstring, shown by --help.
        default_config: YAML file used when argv names neither --config nor --model.model-type.
        pretraining: whether the model's pretraining head is meant.
        sweep: one of :func:`sweep_of`'s runs: values that go before the file's own.

    Raises:
        ValueError: for an unknown key, section or model, a wrong value or combination; the text names the file (or the
            flag), the key, the value and what is valid.
        SystemExit: by the flag parser, for --help (0) or a bad flag (2).
    """
    args = list(sys.argv[1:] if argv is None else argv)
    file, args = _take(args, "--config")
    model_type, args = _take(args, "--model.model-type", "--model.model_type")
    wants_help = "--help" in args or "-h" in args
    if file is None and model_type is None and not wants_help:
        file = default_config
    values = read_configuration(file, sweep) if file else {}
    in_file = values["model"].pop("model_type", None) if isinstance(values.get("model"), dict) else None
    model_type = model_type or in_file
    if model_type is None:
        if not wants_help:
            raise ValueError(
                "which model? Pass --config recipes/configs/<model>/<corpus>.yaml or --model.model-type NAME"
            )
        default = f" Without either, {default_config} is used." if default_config else ""
        note = f"\n\nModel options: add --config FILE or --model.model-type NAME to --help.{default}"
        parse_flags({cls.section: cls for cls in ARGUMENTS}, args, description=description + note)
        raise SystemExit(0)

    try:
        name = MODELS.imported(str(model_type))  # of one's own settings: module:Class
        config_class = model_class(name, pretraining=pretraining).config_class
    except ValueError as error:
        raise ValueError(f"{file}: {error}" if model_type is in_file else str(error)) from error
    run = _made({"model": config_class, **{cls.section: cls for cls in ARGUMENTS}}, values, file, args, description)
    objective: Objective = "pretraining" if pretraining else "recommendation"
    if run.train.objective not in (None, objective):
        other = "recipes/train.py or recipes/finetune.py" if pretraining else "recipes/pretrain.py"
        raise ValueError(f"{file or 'this configuration'} is for {run.train.objective}: use it with {other}")
    return replace(run, train=replace(run.train, objective=objective))


def read_configuration(file: str | Path, sweep: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """The sections of a YAML file, as they are written.

    Args:
        file: a YAML file.
        sweep: one of :func:`sweep_of`'s runs: values that go before the file's own.

    Raises:
        ValueError: a sweep, of which no run is named.
    """
    values = read_yaml(file)
    if values.pop("sweep", None) is not None and not sweep:
        raise ValueError(f"{file} is a sweep, many runs: give it to recipes/benchmark.py --runs")
    for key, value in sweep.items():
        section, _, name = key.partition(".")
        values.setdefault(section, {})[name] = value
    return values


def _made(
    sections: dict[str, Any], values: dict[str, Any], file: str | None, args: list[str], description: str
) -> RunConfig:
    """The options of all sections: a flag's value, else the file's, else the class' default.

    Raises:
        ValueError: a wrong key or value; of the file if it stands there, else of the flag.
    """
    check_sections(values, sections, file)
    written = {}
    for name, entries in values.items():
        try:
            written[name] = checked_values(sections[name], entries, name)
        except OptionError as error:
            raise ValueError(f"{file}: {error}") from error
    found = parse_flags(sections, args, description=description, values=written)
    made: dict[str, Any] = {}
    for name, cls in sections.items():
        try:
            made[name] = cls(**found[name])
        except OptionError as error:
            own = written.get(name, {})
            in_file = error.name in own and own[error.name] == found[name][error.name]
            place = f"{file}: {name}.{error.name}" if in_file else flag(error.name, name)
            raise ValueError(f"{place}{error.problem}") from error
    return RunConfig(**made)


def check_sections(values: Mapping[str, Any], known: Iterable[str], file: object) -> None:
    """Raises ValueError, naming the file, for a section that is not known, or is no mapping."""
    known = list(known)
    for section, entries in values.items():
        if section not in known:
            raise ValueError(f"{file}: unknown section {section!r}{nearest(section, known)}")
        if not isinstance(entries, dict):
            raise ValueError(f"{file}: section {section!r} must be a mapping of keys, it is {entries!r}")


def sweep_of(path: str | Path) -> list[dict[str, Any]]:
    """The runs of a YAML file: its ``sweep``, a list of grids ``{section.key: [values]}``; every combination is a run.

    Returns:
        ``{section.key: value}`` of each run, for :func:`load_run`; ``[{}]`` for a file without a sweep.

    Raises:
        ValueError: for a sweep of another form, or two equal runs.
    """
    grids = read_yaml(path).get("sweep", [{}])
    lists = isinstance(grids, list) and grids and all(isinstance(grid, dict) for grid in grids)
    if not lists or not all(isinstance(values, list) and values for grid in grids for values in grid.values()):
        raise ValueError(f"{path}: sweep must be a list of grids, each a mapping of section.key to a list of values")
    runs = [dict(zip(grid, values, strict=True)) for grid in grids for values in itertools.product(*grid.values())]
    for number, run in enumerate(runs):
        if run in runs[:number]:
            raise ValueError(f"{path}: the sweep gives {run} twice")
    return runs


def _take(args: list[str], *names: str) -> tuple[str | None, list[str]]:
    """Takes ``--name VALUE`` or ``--name=VALUE`` (the last one wins) out of the arguments."""
    value, rest, i = None, [], 0
    while i < len(args):
        flag, _, inline = args[i].partition("=")
        if flag in names:
            if not inline and i + 1 >= len(args):
                raise ValueError(f"{flag} needs a value")
            value, i = (inline, i + 1) if inline else (args[i + 1], i + 2)
        else:
            rest.append(args[i])
            i += 1
    return value, rest
