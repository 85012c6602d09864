"""The card of a trained model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqmm.data.card import kept_text
from seqmm.files import read_text, write_text
from seqmm.foreign import code, front, inline, literal
from seqmm.hub.licences import as_license
from seqmm.models.registry import model_class
from seqmm.models.weights import read_run_file
from seqmm.parsing import parse_yaml
from seqmm.publishing.run_files import MetricsRecord, read_metrics, read_settings
from seqmm.schema import check_record


def write_model_card(
    folder: Path, license: str | Mapping[str, str] | None = None, corpus: Mapping[str, str] | None = None
) -> None:
    """README.md of a finished run's folder; see :func:`model_card`. None = what the card, or the run, has."""
    license = as_license(license) or license_of_card(folder)
    if not license:
        raise ValueError(f"{folder} has no card that names a licence; give one with `license`")
    write_text(folder / "README.md", model_card(folder, license, corpus=corpus))


def model_card(
    folder: Path,
    license: Mapping[str, str],
    *,
    corpus: Mapping[str, str] | None = None,
    address: str = "THIS_REPOSITORY_OR_FOLDER",
) -> str:
    """A card from what the folder holds: results as a model-index, the corpus, how to load; own text below KEPT stays.

    Args:
        folder: of a finished run.
        license: of :func:`check_license`.
        corpus: ``repository`` (and ``revision``) its corpus was published as; None = where it was loaded from.
        address: what its code loads.
    """
    config, metrics, run = read_run_file(folder / "config.json"), read_metrics(folder), read_settings(folder)
    corpus = corpus if corpus is not None else origin_in(config)
    lines = [
        "---",
        _front_matter(config, metrics, license, corpus),
        "---",
        "",
        f"# {inline(_name(config))}",
        "",
        *_about(config, metrics, run),
        "",
        *_results(metrics),
        "",
        *_loading(config, run, corpus, address),
        *_citation(config["model_type"]),
        "",
        "",
    ]
    return "\n".join(lines) + kept_text(folder / "README.md")


def _name(config: Mapping[str, Any]) -> str:
    return front(f"{config['model_type']}-{config['corpus']['name']}")


def _scored(metrics: MetricsRecord) -> dict[str, dict[str, float]]:
    """The splits that were evaluated: ``{split: {metric: value}}``."""
    splits = {"validation": metrics["validation"], "test": metrics["test"]}
    return {split: values for split, values in splits.items() if values}


def _front_matter(
    config: Mapping[str, Any], metrics: MetricsRecord, license: Mapping[str, str], corpus: Mapping[str, str]
) -> str:
    """What the Hub reads of a card: licence, tags, base model, results as a model-index."""
    from huggingface_hub import EvalResult, ModelCardData

    trained, started = config["corpus"], config.get("pretrained_on", {})
    results = [
        EvalResult(
            task_type="recommendation",
            dataset_type=front(corpus.get("repository", trained["name"])),
            dataset_name=front(trained["name"]),
            dataset_config=front(trained["protocol"]),
            dataset_split=split,
            dataset_revision=corpus.get("revision"),
            metric_type=metric.split("@")[0],
            metric_name=metric,
            metric_value=round(value, 5),
        )
        for split, values in _scored(metrics).items()
        for metric, value in values.items()
    ]
    data = ModelCardData(
        library_name="seqmm",
        license=license["license"],
        license_name=license.get("license_name"),
        license_link=license.get("license_link"),
        tags=["recommendation", config["model_type"]],
        datasets=[corpus["repository"]] if corpus else None,
        base_model=started["checkpoint"] if "checkpoint_revision" in started else None,
        model_name=_name(config),
        eval_results=results or None,
    )
    return str(data.to_yaml())


def _about(config: Mapping[str, Any], metrics: MetricsRecord, run: Mapping[str, Any]) -> list[str]:
    """What was trained, on what."""
    trained, started = config["corpus"], config.get("pretrained_on", {})
    recipe = recipe_of(run["train"])
    lines = [
        f"A {code(config['model_type'])} recommender trained by seqmm (`recipes/{recipe}.py`; settings: run.yaml).",
        "",
        f"- corpus: {inline(trained['name'])}, protocol {code(trained['protocol'])}, {config['num_users']:,} users, "
        f"{config['num_items']:,} items,",
        f"  fingerprint {code(trained['fingerprint'])}",
        f"- features: {inline(', '.join(config['feature_order'])) or 'none'}",
    ]
    if started:
        where = f"{inline(started['name'])} ({inline(started['protocol'])}"
        lines += [f"- pretrained on {where}, fingerprint {code(started['fingerprint'])})"]
    known = {"history": "history (train; of test train + validation)"}
    masked = f"- masked from the ranking: {inline(known.get(metrics['mask'], metrics['mask']))}"
    if "validation_users" in metrics:
        lines += [f"- weights chosen by {inline(metrics['validation_users'])}, a sample"]
    return [*lines, f"{masked}; best epoch {metrics['best_epoch']} of {metrics['epochs']}"]


def _results(metrics: MetricsRecord) -> list[str]:
    """A table with a row a split."""
    scored = _scored(metrics)
    if not scored:
        return ["Not evaluated."]
    names = list(next(iter(scored.values())))
    rows = [
        f"| {inline(split)} | " + " | ".join(f"{value:.4f}" for value in values.values()) + " |"
        for split, values in scored.items()
    ]
    return [f"| split | {' | '.join(map(inline, names))} |", "|---|" + "---|" * len(names), *rows]


def _loading(config: Mapping[str, Any], run: Mapping[str, Any], corpus: Mapping[str, str], address: str) -> list[str]:
    """The code that loads the model and its corpus."""
    trained, where = config["corpus"], corpus.get("repository", "FOLDER_OF_THE_CORPUS")
    pinned = f", revision={literal(corpus['revision'])}" if corpus.get("revision") else ""
    loading = f"protocol={literal(trained['protocol'])}, features={literal(config['feature_order'])}{pinned}"
    code = [f"corpus = seqmm.load_corpus({literal(where)}, {loading})"]
    if run["data"].get("joined"):
        places = [f"FOLDER_OF_{part}" for part in trained["name"].split("+")]
        code = [
            f"corpora = [seqmm.load_corpus(place, {loading}) for place in {literal(places)}]",
            "corpus = seqmm.concat_corpora(corpora)",
        ]
    model = f"model = seqmm.from_pretrained({literal(address)}).bind(corpus)"
    return ["```python", "import seqmm", "", *code, model, "```"]


def _citation(model_type: str) -> list[str]:
    """The model's paper in a line and as BibTeX; nothing for a model without one."""
    paper = model_class(model_type).paper
    return [] if paper is None else ["", f"Paper: {paper}.", "", "```bibtex", paper.bibtex(model_type), "```"]


def license_of_card(folder: Path) -> dict[str, str]:
    file = folder / "README.md"
    if not file.is_file():
        return {}
    found = re.match(r"---[ \t]*\r?\n(.*?)\r?\n---", read_text(file), re.DOTALL)
    try:
        said = (parse_yaml(found[1]) if found else None) or {}
        if not isinstance(said, dict):
            raise ValueError(f"a {type(said).__name__}, not a mapping")
        license = {key: said[key] for key in ("license", "license_name", "license_link") if key in said}
        return check_record(license, dict[str, str], "")
    except ValueError as error:
        raise ValueError(f"{file}: the front matter cannot be read ({error}); mend or remove it") from error


def origin_in(config: Mapping[str, Any]) -> dict[str, str]:
    """Where on the Hub the corpus of a model was loaded from."""
    return {key: config["corpus"][key] for key in ("repository", "revision") if key in config["corpus"]}


def recipe_of(train: Mapping[str, Any]) -> str:
    """Name of the recipe that does a run with these settings of ``train``."""
    if train.get("objective") == "pretraining":
        return "pretrain"
    return "finetune" if train.get("init_from") else "train"
