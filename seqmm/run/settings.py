"""One run, one configuration: class default < YAML file < its variant < flag.

An unknown key is an error that names the nearest one. Every key has one home: the model's config class or one of the
argument classes below. Their attribute docstrings are the help texts.
"""

from __future__ import annotations

import copy
import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from seqmm.arguments import DataArguments, EvalArguments, HubArguments, TrainArguments
from seqmm.files import read_yaml
from seqmm.models.registry import model_class
from seqmm.names import Objective, nearest
from seqmm.options import about, default_of, hints, option_fields, plain, plain_values
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
        model = {"model_type": self.model.model_type}
        model |= {name: getattr(self.model, name) for name, *_ in own_fields(type(self.model))}
        sections = {name: plain_values(getattr(self, name)) for name in ("data", "train", "eval", "hub")}
        return {"model": plain(model), **sections}


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
        ValueError: for an unknown key, section or model; the text names the file, the key and the nearest valid one.
        SystemExit: by the flag parser, for --help (0) or a bad flag (2).

    >>> import seqmm
    >>> run = seqmm.load_run(["--model.model-type", "lightgcn", "--model.num-layers", "3", "--train.seed", "1"])
    >>> run.model.num_layers, run.train.seed
    (3, 1)
    """
    import tyro

    args = list(sys.argv[1:] if argv is None else argv)
    description = "\n\n".join(line for line in description.splitlines() if line.strip())  # tyro joins lines otherwise

    def parse(sections: type, args: list[str], note: str = "") -> Any:
        whole_words = (tyro.conf.FlagConversionOff,)  # --x True, so that YAML values and flags have one form
        return tyro.cli(sections, args=args, description=description + note, prog=_program(), config=whole_words)

    config_path, args = _take(args, "--config")
    variant, args = _take(args, "--variant")
    flags = args
    model_type, args = _take(args, "--model.model-type", "--model.model_type")
    wants_help = "--help" in args or "-h" in args
    if config_path is None and model_type is None and (variant or not wants_help):
        config_path = default_config
    values, config_path = _from_file(config_path, variant)
    in_file = values.get("model", {}).pop("model_type", None) if isinstance(values.get("model"), dict) else None
    model_type = model_type or in_file
    if model_type is None:
        if not wants_help:
            raise ValueError(
                "which model? Pass --config recipes/configs/<model>/<corpus>.yaml or --model.model-type NAME"
            )
        default = f" Without either, {default_config} is used." if default_config else ""
        note = f"\n\nModel options: add --config FILE or --model.model-type NAME to --help.{default}"
        parse(_sections(None), args, note)
        raise SystemExit(0)

    model_type = MODELS.imported(model_type)  # of one's own settings: module:Class
    config_class = model_class(model_type, pretraining=pretraining).config_class
    sections = _sections(config_class)
    _check_keys(values, sections, str(config_path))
    parsed = parse(sections, [*_as_flags(values), *args])
    objective: Objective = "pretraining" if pretraining else "recommendation"
    if parsed.train.objective not in (None, objective):
        other = "recipes/train.py or recipes/finetune.py" if pretraining else "recipes/pretrain.py"
        raise ValueError(f"{config_path or 'this configuration'} is for {parsed.train.objective}: use it with {other}")
    model = config_class(**{f.name: getattr(parsed.model, f.name) for f in dataclasses.fields(parsed.model)})
    made: dict[str, Any] = {cls.section: cls(**vars(getattr(parsed, cls.section))) for cls in ARGUMENTS}
    made["train"] = dataclasses.replace(made["train"], objective=objective)
    run = RunConfig(model, **made, variant=config_path if config_path and reference(config_path)[1] else None)
    if run.variant is not None:
        _check_differs(run, flags, pretraining)
    return run


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


def own_fields(config_class: type[RecommenderConfig]) -> list[tuple[str, Any, Any, str]]:
    """``(name, type, default, help)`` of a model's hyper-parameters, without transformers' and those a corpus fills."""
    return [(f.name, hints(config_class)[f.name], default_of(f), about(f).help) for f in option_fields(config_class)]


def _sections(config_class: type[RecommenderConfig] | None) -> type:
    sections: list[Any] = []
    for cls in ARGUMENTS:
        fields = [(f.name, hints(cls)[f.name], f.default, about(f).help) for f in option_fields(cls)]
        sections.append(_section(cls.section, fields, cls.__doc__))
    if config_class is not None:
        sections.insert(0, _section("model", own_fields(config_class), f"Options of {config_class.model_type}."))
    run = dataclasses.make_dataclass("Run", sections)
    run.__doc__ = "A run."
    return run


def _section(name: str, own: list[tuple[str, Any, Any, str]], text: str | None) -> tuple[str, Any, Any]:
    import tyro

    fields = []
    for key, hint, default, text in own:
        typed = Annotated[hint, tyro.conf.arg(help=text)] if text else hint
        fields.append((key, typed, field(default_factory=partial(copy.deepcopy, default))))
    made = dataclasses.make_dataclass(name, fields)
    made.__doc__ = text
    return name, made, field(default_factory=made)


def _check_keys(values: dict[str, Any], sections: type, file: str) -> None:
    known = {f.name: f.type for f in dataclasses.fields(sections)}
    for section, entries in values.items():
        if section not in known:
            raise ValueError(f"{file}: unknown section {section!r}{nearest(section, list(known))}")
        if not isinstance(entries, dict):
            raise ValueError(f"{file}: section {section!r} must be a mapping of keys, it is {entries!r}")
        keys = [f.name for f in dataclasses.fields(known[section])]  # type: ignore[arg-type]
        for key in entries:
            if key not in keys:
                raise ValueError(f"{file}: unknown key {section}.{key}{nearest(str(key), keys)}")


def _as_flags(values: dict[str, Any]) -> list[str]:
    """YAML values as the flags that would set them, so that one parser checks both."""
    flags: list[str] = []
    for section, entries in values.items():
        for key, value in entries.items():
            flags.append(f"--{section}.{key}".replace("_", "-"))
            if isinstance(value, dict):
                flags += [str(part) for pair in value.items() for part in pair]
            elif isinstance(value, list | tuple):
                flags += [str(part) for part in value]
            else:
                flags.append(str(value))
    return flags


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


def _program() -> str:
    return Path(sys.argv[0]).name
