"""Models and corpora as Hub repositories: cards, push, and loading by folder or repository id."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqmm.config import RunConfig
    from seqmm.data.corpus import Corpus
    from seqmm.models.base import Recommender, RecommenderConfig

_UPLOADED = ["config.json", "model.safetensors", "README.md", "run.yaml", "metrics.json"]


def from_pretrained(path: str, *, revision: str | None = None) -> Recommender:
    """The model of a run folder or a Hub repository, not yet bound: call ``.bind(corpus)`` before use.

    Raises:
        FileNotFoundError: for a folder without a model, or a repository that cannot be reached.
        ValueError: for a file that is no seqmm checkpoint, or is truncated.
    """
    from seqmm.models import MODELS, model_class

    directory = local_folder(path, revision=revision)
    config = load_config(directory)
    if not (directory / "model.safetensors").is_file():
        raise FileNotFoundError(f"{path} holds no model.safetensors: not a trained model's folder")
    head = (config.architectures or [""])[0]
    cls = model_class(config.model_type, pretraining=head == MODELS[config.model_type].pretraining)
    with explain_damage(directory), quietly():
        return cls.from_pretrained(directory)


@contextmanager
def explain_damage(directory: Path) -> Iterator[None]:
    """Turns what safetensors says of a truncated file into a ValueError that names it."""
    from safetensors import SafetensorError

    try:
        yield
    except (SafetensorError, OSError) as error:
        weights = directory / "model.safetensors"
        raise ValueError(f"{weights} cannot be read ({error}); it is truncated or damaged, copy it again") from error


@contextmanager
def quietly() -> Iterator[None]:
    """Silences transformers' progress bars and load report; what must not be missing is checked by the caller."""
    from transformers.utils import logging

    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def load_config(directory: Path) -> RecommenderConfig:
    """The config of a checkpoint folder.

    Raises:
        FileNotFoundError, ValueError: naming the file.
    """
    from seqmm.models import MODELS, model_class

    file = directory / "config.json"
    if not file.is_file():
        raise FileNotFoundError(f"{directory} holds no config.json: not a trained model's folder")
    try:
        model_type = json.loads(file.read_text()).get("model_type")
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is not valid JSON ({error}); the checkpoint is damaged, copy it again") from error
    if model_type not in MODELS:
        raise ValueError(f"{file}: model_type {model_type!r} is not one of seqmm's: {', '.join(MODELS)}")
    return model_class(model_type).config_class.from_pretrained(directory)


def local_folder(path: str, *, revision: str | None = None, kind: str = "model") -> Path:
    """``path`` if it is a folder, else the downloaded snapshot of that Hub repository.

    Raises:
        FileNotFoundError: if it is neither, or the Hub cannot be reached.
    """
    if Path(path).is_dir():
        return Path(path)
    if path.count("/") != 1 or path.startswith((".", "/", "~")):
        raise FileNotFoundError(f"no folder {path} (and it does not have the form org/name of a Hub repository)")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(path, repo_type=kind, revision=revision))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise FileNotFoundError(
            f"no folder {path}, and no {kind} repository of that name could be fetched from the Hub "
            f"({type(error).__name__}); check the name, the network, HF_TOKEN for a private one, or HF_HUB_OFFLINE"
        ) from error


def publish_model(folder: str | Path, repo_id: str, *, private: bool = True) -> str:
    """Pushes a run's folder (weights, config, card, run.yaml, metrics) and returns the repository's address."""
    from huggingface_hub import HfApi

    api = HfApi()
    url = api.create_repo(repo_id, private=private, exist_ok=True)
    api.upload_folder(folder_path=folder, repo_id=repo_id, allow_patterns=_UPLOADED, commit_message="Upload by seqmm")
    return str(url)


def publish_corpus(folder: str | Path, repo_id: str, *, private: bool = True) -> str:
    """Pushes a prepared corpus, which already is a dataset repository on disk."""
    from huggingface_hub import HfApi

    if not (Path(folder) / "README.md").is_file():
        raise FileNotFoundError(
            f"{folder} is not a prepared corpus: it has no README.md; make it with recipes/prepare.py"
        )
    api = HfApi()
    url = api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
    api.upload_folder(folder_path=folder, repo_id=repo_id, repo_type="dataset", commit_message="Upload by seqmm")
    return str(url)


def write_model_card(folder: Path, run: RunConfig, corpus: Corpus, metrics: dict[str, Any], recipe: str) -> None:
    """README.md with the results as a model-index, the corpus it was trained on, and how to load it."""
    from huggingface_hub import EvalResult, ModelCardData

    source = corpus.name if Path(run.data.path).exists() else run.data.path  # a Hub id; no path of this machine
    results = [
        EvalResult(
            task_type="recommendation",
            dataset_type=source,
            dataset_name=corpus.name,
            dataset_config=corpus.protocol,
            dataset_split=split,
            metric_type=name.split("@")[0],
            metric_name=name,
            metric_value=round(value, 5),
        )
        for split in ("validation", "test")
        for name, value in (metrics[split] or {}).items()
    ]
    name = f"{run.model.model_type}-{corpus.name}"
    data = ModelCardData(
        library_name="seqmm",
        license=run.hub.license,
        tags=["recommendation", run.model.model_type],
        model_name=name,
        eval_results=results or None,
    )
    rows = "\n".join(
        f"| {split} | " + " | ".join(f"{value:.4f}" for value in metrics[split].values()) + " |"
        for split in ("validation", "test")
        if metrics[split]
    )
    names = list(metrics["validation"] or {})
    table = f"| split | {' | '.join(names)} |\n|{'---|' * (len(names) + 1)}\n{rows}\n" if names else "Not evaluated.\n"
    features = ", ".join(corpus.features) or "none"
    text = f"""---
{data.to_yaml()}
---

# {name}

A `{run.model.model_type}` recommender trained by seqmm (`recipes/{recipe}.py`, settings in run.yaml).

- corpus: {corpus.name}, protocol `{corpus.protocol}`, {corpus.num_users:,} users, {corpus.num_items:,} items,
  fingerprint `{corpus.fingerprint()}`
- features: {features}
- masked from the ranking: {metrics["mask"]}; best epoch {metrics["best_epoch"]} of {metrics["epochs"]}

{table}
```python
import seqmm

corpus = seqmm.Corpus.load({source!r}, protocol={corpus.protocol!r}, features={list(corpus.features)!r})
model = seqmm.from_pretrained("THIS_REPOSITORY_OR_FOLDER").bind(corpus)
```
"""
    temporary = folder / "README.md.tmp"
    temporary.write_text(text)
    temporary.replace(folder / "README.md")
