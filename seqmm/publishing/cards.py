"""The card of a trained model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqmm.data.card import kept_text
from seqmm.files import read_yaml, write_text
from seqmm.hub.access import one_line
from seqmm.hub.licences import as_license
from seqmm.models.checkpoint import read_run_file


def write_model_card(
    folder: Path, license: str | Mapping[str, str] | None = None, corpus: Mapping[str, str] | None = None
) -> None:
    """README.md of a finished run's folder; see :func:`model_card`. None = what the card, or the run, has."""
    license = as_license(license) or license_of_card(folder)
    if not license:
        raise ValueError(f"{folder} has no card that names a licence; give one with --license")
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
    from huggingface_hub import EvalResult, ModelCardData

    config, metrics = (read_run_file(folder / name) for name in ("config.json", "metrics.json"))
    run = read_yaml(folder / "run.yaml")
    trained, started = config["corpus"], config.get("pretrained_on", {})
    corpus = corpus if corpus is not None else origin_in(config)
    name = f"{config['model_type']}-{trained['name']}"
    scored = {split: metrics[split] for split in ("validation", "test") if metrics[split]}
    results = [
        EvalResult(
            task_type="recommendation",
            dataset_type=corpus.get("repository", trained["name"]),
            dataset_name=trained["name"],
            dataset_config=trained["protocol"],
            dataset_split=split,
            dataset_revision=corpus.get("revision"),
            metric_type=metric.split("@")[0],
            metric_name=metric,
            metric_value=round(value, 5),
        )
        for split, values in scored.items()
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
        model_name=name,
        eval_results=results or None,
    )
    names = list(next(iter(scored.values()), ()))
    rows = [
        f"| {split} | " + " | ".join(f"{value:.4f}" for value in values.values()) + " |"
        for split, values in scored.items()
    ]
    table = [f"| split | {' | '.join(names)} |", "|---|" + "---|" * len(names), *rows] if rows else ["Not evaluated."]
    features = config["feature_order"]
    where = corpus.get("repository", "FOLDER_OF_THE_CORPUS")
    pinned = f", revision={corpus['revision']!r}" if corpus.get("revision") else ""
    loading = f"protocol={trained['protocol']!r}, features={features!r}{pinned}"
    code = [f"corpus = seqmm.load_corpus({where!r}, {loading})"]
    if run["data"].get("joined"):
        places = [f"FOLDER_OF_{part}" for part in trained["name"].split("+")]
        code = [
            f"corpora = [seqmm.load_corpus(place, {loading}) for place in {places!r}]",
            "corpus = seqmm.concat_corpora(corpora)",
        ]
    lines = [
        "---",
        data.to_yaml(),
        "---",
        "",
        f"# {name}",
        "",
        f"A `{config['model_type']}` recommender trained by seqmm (`recipes/{recipe_of(run)}.py`; settings: run.yaml).",
        "",
        f"- corpus: {trained['name']}, protocol `{trained['protocol']}`, {config['num_users']:,} users, "
        f"{config['num_items']:,} items,",
        f"  fingerprint `{trained['fingerprint']}`",
        f"- features: {', '.join(features) or 'none'}",
        *(
            [f"- pretrained on {started['name']} ({started['protocol']}, fingerprint `{started['fingerprint']}`)"]
            if started
            else []
        ),
        f"- masked from the ranking: {metrics['mask']}; best epoch {metrics['best_epoch']} of {metrics['epochs']}",
        "",
        *table,
        "",
        "```python",
        "import seqmm",
        "",
        *code,
        f'model = seqmm.from_pretrained("{address}").bind(corpus)',
        "```",
        "",
        "",
    ]
    return "\n".join(lines) + kept_text(folder / "README.md")


def license_of_card(folder: Path) -> dict[str, str]:
    import yaml
    from huggingface_hub import ModelCard

    file = folder / "README.md"
    if not file.is_file():
        return {}
    try:
        front = ModelCard.load(file).data.to_dict()
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{file}: the front matter cannot be read ({one_line(error)}); mend or remove it") from error
    return {key: front[key] for key in ("license", "license_name", "license_link") if key in front}


def origin_in(config: Mapping[str, Any]) -> dict[str, str]:
    """Where on the Hub the corpus of a model was loaded from."""
    return {key: config["corpus"][key] for key in ("repository", "revision") if key in config["corpus"]}


def recipe_of(run: Mapping[str, Any]) -> str:
    if run["train"].get("objective") == "pretraining":
        return "pretrain"
    return "finetune" if run["train"].get("init_from") else "train"
