"""What a run's folder says beside its weights: the settings in run.yaml, the results in metrics.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

from seqmm.arguments import DataArguments, EvalArguments, HubArguments, TrainArguments
from seqmm.files import read_json, read_yaml
from seqmm.names import Mask, brief, nearest
from seqmm.options import OptionError, Options, checked_values, plain_values
from seqmm.registry import MODELS
from seqmm.schema import Count, Least

SECTIONS: tuple[type[Options], ...] = (DataArguments, TrainArguments, EvalArguments, HubArguments)
"""Of run.yaml, beside ``model``."""


class Results(TypedDict):
    """What a run gave."""

    validation: dict[str, float]
    test: dict[str, float] | None
    mask: Mask
    best_epoch: Count
    epochs: Count
    seconds: Annotated[float, Least(0)]
    validation_users: NotRequired[str]
    """Which ones were ranked, if not all."""


class MetricsRecord(Results):
    """metrics.json of a run."""

    environment: dict[str, str]
    """Versions that a result depends on."""


def read_metrics(folder: Path) -> MetricsRecord:
    """metrics.json of a finished run.

    Raises:
        FileNotFoundError, ValueError: naming the file and the key.
    """
    return read_json(
        folder / "metrics.json", MetricsRecord, "not a finished run's folder", "the run is damaged, copy it again"
    )


def read_settings(folder: Path) -> dict[str, Any]:
    """run.yaml: plain values by section, those it leaves out at their defaults.

    Raises:
        FileNotFoundError, ValueError: naming the file and the key.
    """
    if not (folder / "run.yaml").is_file():
        raise FileNotFoundError(f"{folder} holds no run.yaml, which a run (seqmm.Run, or a recipe) writes")
    file = folder / "run.yaml"
    values = read_yaml(file)
    known = ["model", *(cls.section for cls in SECTIONS)]
    for section, entries in values.items():
        if section not in known:
            raise ValueError(f"{file}: unknown section {section!r}{nearest(section, known)}")
        if not isinstance(entries, dict):
            raise ValueError(f"{file}: section {section!r} must be a mapping of keys, it is {brief(entries, 80)}")
    try:
        model = _model(values.get("model", {}))
        return {"model": model} | {
            cls.section: plain_values(cls.from_values(values.get(cls.section, {}))) for cls in SECTIONS
        }
    except OptionError as error:
        raise ValueError(f"{file}: {error}") from error


def _model(values: Mapping[str, Any]) -> dict[str, Any]:
    """The section ``model``, whose keys are the options of the model it names."""
    kind = values.get("model_type")
    if kind is not None and kind not in MODELS.names():
        problem = f" is {brief(kind, 80)}, which is not registered{nearest(kind, MODELS.names())}"
        raise OptionError("model", "model_type", problem)
    if kind is not None:
        own = {key: value for key, value in values.items() if key != "model_type"}
        checked_values(MODELS.classes(kind)[0].config_class, own, "model")
    return dict(values)
