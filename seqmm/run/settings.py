"""One run, one configuration: class default < YAML file < its variant < flag.

Every key has one home, which says its help and its range and checks its value: the model's config class or one of the
argument classes (:mod:`seqmm.arguments`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NoReturn

from seqmm.arguments import DataArguments, EvalArguments, HubArguments, TrainArguments
from seqmm.files import read_yaml
from seqmm.flags import flag, parse_flags
from seqmm.models.registry import model_class
from seqmm.names import Objective, brief, nearest
from seqmm.options import OptionError, checked_values, plain_values
from seqmm.registry import MODELS
from seqmm.run.variants import chosen, reference, sweep_of

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
    variant: str | None = None
    """``file.yaml#variant`` the values came from; not among them, since run.yaml holds the merged ones."""

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
) -> RunConfig:
    """Reads a run's configuration from ``argv``.

    Args:
        argv: command line without the program's name; default ``sys.argv[1:]``. ``--config file.yaml --variant M1`` (or
            ``--config file.yaml#M1``) is one of the file's variants.
        description: the recipe's docstring, shown by --help.
        default_config: YAML file used when argv names neither --config nor --model.model-type.
        pretraining: whether the model's pretraining head is meant.

    Raises:
        ValueError: for an unknown key, section or model, a wrong value or combination; the text names the file (or the
            flag), the key, the value and what is valid.
        SystemExit: by the flag parser, for --help (0) or a bad flag (2).

    >>> from seqmm.run.settings import load_run
    >>> run = load_run(["--model.model-type", "lightgcn", "--model.num-layers", "3", "--train.seed", "1"])
    >>> run.model.num_layers, run.train.seed
    (3, 1)
    """
    args = list(sys.argv[1:] if argv is None else argv)
    file, args = _take(args, "--config")
    variant, args = _take(args, "--variant")
    flags = args
    model_type, args = _take(args, "--model.model-type", "--model.model_type")
    wants_help = "--help" in args or "-h" in args
    if file is None and model_type is None and (variant or not wants_help):
        file = default_config
    values, file = _from_file(file, variant)
    in_file = values["model"].pop("model_type", None) if isinstance(values.get("model"), dict) else None
    if in_file is not None and not isinstance(in_file, str):
        raise ValueError(f"{file}: model.model_type is {brief(in_file, 80)}; choose the name of a model")
    model_type = model_type or in_file
    if model_type is None:
        if not wants_help:
            raise _no_model(file)
        _help_without_a_model(args, description, default_config)
    try:
        name = MODELS.imported(model_type)  # of one's own settings: module:Class
        config_class = model_class(name, pretraining=pretraining).config_class
    except ValueError as error:
        raise ValueError(f"{file}: {error}" if model_type is in_file else str(error)) from error
    run = _made({"model": config_class, **{cls.section: cls for cls in ARGUMENTS}}, values, file, args, description)
    objective: Objective = "pretraining" if pretraining else "recommendation"
    if run.train.objective not in (None, objective):
        other = "recipes/train.py or recipes/finetune.py" if pretraining else "recipes/pretrain.py"
        raise ValueError(f"{file or 'this configuration'} is for {run.train.objective}: use it with {other}")
    run = replace(run, train=replace(run.train, objective=objective))
    if file is None or reference(file)[1] is None:
        return run
    run = replace(run, variant=file)
    _check_differs(run, flags, pretraining)
    return run


def _no_model(file: str | None) -> ValueError:
    if file is not None:
        return ValueError(f"{file}: model.model_type is missing; write it there, or pass --model.model-type NAME")
    return ValueError("which model? Pass --config recipes/configs/<model>/<corpus>.yaml or --model.model-type NAME")


def _help_without_a_model(args: list[str], description: str, default_config: str | None) -> NoReturn:
    """Imports no model, and so no torch."""
    default = f" Without either, {default_config} is used." if default_config else ""
    note = f"\n\nModel options: add --config FILE or --model.model-type NAME to --help.{default}"
    parse_flags({cls.section: cls for cls in ARGUMENTS}, args, description=description + note)
    raise SystemExit(0)


def _from_file(place: str | None, variant: str | None) -> tuple[dict[str, Any], str | None]:
    """The values of a file's variant, and ``file.yaml#variant``."""
    file, named = reference(place) if place else (None, None)
    if file is None:
        if variant is not None:
            raise ValueError(f"--variant {variant} is one of a file's: say which with --config FILE")
        return {}, None
    if None not in (variant, named) and variant != named:
        raise ValueError(f"--config {place} and --variant {variant} name two variants; leave one out")
    variant = variant or named
    return chosen(read_yaml(file), variant, file), file if variant is None else f"{file}#{variant}"


def _check_differs(run: RunConfig, flags: Sequence[str], pretraining: bool) -> None:
    """Whether the variant is another run than its file: its values may be the class' defaults, or flags' that win."""
    file, variant = reference(run.variant or "")
    if sweep_of(read_yaml(file), file):
        return  # there is no run without one
    base = load_run(["--config", file, *flags], pretraining=pretraining)
    if base.to_dict() == run.to_dict():
        raise ValueError(
            f"{file}: variant {variant} is the same run as the file without it: its values are the class' defaults, or "
            "flags win over them"
        )


def _made(
    sections: dict[str, Any], values: dict[str, Any], file: str | None, args: list[str], description: str
) -> RunConfig:
    """The options of all sections: a flag's value, else the file's, else the class' default.

    Raises:
        ValueError: a wrong key or value; of the file if it stands there, else of the flag.
    """
    _check_sections(values, sections, file)
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


def _check_sections(values: Mapping[str, Any], known: Iterable[str], file: object) -> None:
    """Raises ValueError, naming the file, for a section that is not known, or is no mapping."""
    known = list(known)
    for section, entries in values.items():
        if section not in known:
            raise ValueError(f"{file}: unknown section {section!r}{nearest(section, known)}")
        if not isinstance(entries, dict):
            raise ValueError(f"{file}: section {section!r} must be a mapping of keys, it is {brief(entries, 80)}")


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
