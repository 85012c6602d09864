"""What the training recipes share: corpus, model, fit. Each recipe stays a page that reads from top to bottom."""

from __future__ import annotations

import platform
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from shlex import quote
from typing import Any

import torch

from seqmm.arguments import DEFAULT_CORPUS, DataArguments, HubArguments
from seqmm.building.default import build_default_corpus
from seqmm.data.corpus import Corpus
from seqmm.data.joining import concat_corpora
from seqmm.data.loading import find_features, load_corpus
from seqmm.distributed import on_cpu
from seqmm.evaluation.evaluator import Evaluator
from seqmm.files import write_json, write_yaml
from seqmm.hub.access import corpus_files, local_folder, open_repository
from seqmm.hub.licences import check_license
from seqmm.models.base import Recommender, RecommenderConfig
from seqmm.names import EvaluatedSplit, pairs
from seqmm.publishing.cards import write_model_card
from seqmm.publishing.push import publish_model
from seqmm.random import derive_seed
from seqmm.run.settings import RunConfig
from seqmm.run.variants import reference, run_name
from seqmm.training.trainer import Trainer


def open_corpus(data: DataArguments, start: RecommenderConfig | None = None) -> tuple[Corpus, DataArguments]:
    """Loads the corpus of a run; the default one is built first if it is not there (under two minutes).

    Args:
        data: what to read.
        start: of a checkpoint, whose feature sets are found in the corpus whatever they are called there.

    Returns:
        The corpus, and the arguments that name it exactly: of Hub repositories the revisions are commits and of the
        feature sets the names are the corpus' own, so that run.yaml repeats the run on these very data.

    Raises:
        FileNotFoundError, ValueError: as :func:`~seqmm.data.loading.load_corpus`; ``data.rename`` without a checkpoint.
    """
    from accelerate import PartialState

    if data.path == DEFAULT_CORPUS and not Path(data.path).exists():
        with PartialState(cpu=on_cpu()).local_main_process_first():
            if not Path(data.path).exists():
                print(f"building the default corpus {data.path} (once)")
                build_default_corpus(data.path, say=print)
    if start is not None:
        known = {name: start.features[name] for name in start.reads()}
        rename = pairs(data.rename, "data.rename")
        with _one_downloads(data.path):
            found = find_features(data.path, known, data.features, rename=rename, revision=data.revision)
        data = replace(data, features=found)
    elif data.rename:
        raise ValueError(
            f"data.rename {' '.join(data.rename)} says which sets of a checkpoint those of the corpus are; this run "
            "starts from none: leave it out, or finetune (recipes/finetune.py --train.init-from)"
        )
    corpus = _load(data, data.path, data.revision)
    more = []
    for place in data.joined:
        path, _, revision = (place, "", "") if Path(place).exists() else place.partition("@")
        more.append(_load(data, path, revision or None))
    joined = tuple(
        f"{other.origin['repository']}@{other.origin['revision']}" if other.origin else place
        for place, other in zip(data.joined, more, strict=True)
    )
    exact = replace(data, revision=corpus.origin.get("revision", data.revision), joined=joined)
    return concat_corpora([corpus, *more]) if more else corpus, exact


def _load(data: DataArguments, path: str, revision: str | None) -> Corpus:
    with _one_downloads(path):
        local_folder(path, revision=revision, kind="dataset", files=corpus_files(data.protocol, data.features))
    return load_corpus(path, protocol=data.protocol, features=data.features, revision=revision)


def _one_downloads(path: str) -> AbstractContextManager[None]:
    """Of the Hub, one process of a machine downloads and the others find it in the cache."""
    from accelerate import PartialState

    return nullcontext() if Path(path).exists() else PartialState(cpu=on_cpu()).local_main_process_first()


def seed_weights(seed: int) -> None:
    """Call before a model is made: its first weights are a function of the seed alone."""
    torch.manual_seed(derive_seed("weights", seed))


def fit(run: RunConfig, model: Recommender, corpus: Corpus, recipe: str) -> dict[str, Any]:
    """Trains, and writes everything that is needed to repeat or use the result into the run's folder.

    ``config.json`` + ``model.safetensors`` (best weights), ``run.yaml``, ``metrics.json``, ``log.jsonl``, ``README.md``
    (model card), ``checkpoints/`` (training state).

    Returns:
        What metrics.json holds: ``{"validation": {…}, "test": {…} | None, …}``.
    """
    file, variant = reference(run.variant or "")
    license = check_license(run.hub.license, run.hub.license_name, run.hub.license_link)
    output = Path(run.train.output_dir or f"runs/{run_name(run.model.model_type, corpus.name, recipe, variant)}")
    started_from = model.config.pretrained_on.get("checkpoint_revision", run.train.init_revision)
    run = replace(run, train=replace(run.train, output_dir=str(output), init_revision=started_from))
    validation = evaluator(run, corpus, "validation")
    trainer = Trainer(model, corpus, run.train, evaluator=validation, monitor=run.eval.monitor, output_dir=output)
    accelerator = trainer.accelerator
    if accelerator.is_main_process:
        weights = sum(p.numel() for p in model.parameters())
        processes = f"{accelerator.num_processes} x {accelerator.device.type}"
        print(f"{run.model.model_type} on {corpus}, {weights:,} parameters, {processes}")
    trainer.open_output()
    if run.hub.push_to and accelerator.is_main_process:  # no access is known before training, not after
        open_repository(run.hub.push_to, "model", private=run.hub.private)
    if accelerator.is_main_process:  # before training: an interrupted run keeps its settings
        settings = run.to_dict()
        settings["train"] |= {"resume": False, "overwrite": False}
        again = f"accelerate launch recipes/{recipe}.py --config {output}/run.yaml"
        comment = f"{again} --train.overwrite True\nor, to go on: {again} --train.resume True"
        if variant is not None:
            comment += f"\nmade of: accelerate launch recipes/{recipe}.py --config {file} --variant {quote(variant)}"
        write_yaml(output / "run.yaml", settings, comment)
    state = trainer.train()
    metrics: dict[str, Any] = {
        "validation": state.validation,
        "test": evaluator(run, corpus, "test")(accelerator, model) if run.eval.test else None,
        "mask": validation.mask,
        "best_epoch": state.best_epoch,
        "epochs": state.epoch,
        "seconds": round(state.seconds, 1),
    }
    if accelerator.is_main_process:
        write_json(output / "metrics.json", metrics | {"environment": environment()})
        write_model_card(output, license)
        shown = "  ".join(f"{name} {value:.4f}" for name, value in state.validation.items())
        print(f"best epoch {state.best_epoch} of {state.epoch}; validation ({validation.mask} masked): {shown}")
        if metrics["test"]:
            print(f"test ({validation.mask} masked): " + "  ".join(f"{k} {v:.4f}" for k, v in metrics["test"].items()))
        print(f"written to {output}")
        if run.hub.push_to:
            _push(run.hub, output)
    accelerator.wait_for_everyone()
    return metrics


def _push(hub: HubArguments, output: Path) -> None:
    assert hub.push_to is not None
    try:
        pushed = publish_model(
            output, hub.push_to, corpus_repo=hub.corpus_repo, private=hub.private, revision=hub.revision
        )
    except OSError as error:
        later = f"python recipes/publish.py --model {output} --repo {hub.push_to}"
        raise OSError(f"{error}; the run is whole in {output}, push it later: {later}") from error
    print(f"pushed to {pushed.url}, commit {pushed.commit}")


def evaluator(run: RunConfig, corpus: Corpus, split: EvaluatedSplit) -> Evaluator:
    """The evaluator a run's arguments ask for."""
    return Evaluator(
        corpus,
        split,
        ks=run.eval.ks,
        metrics=run.eval.metrics,
        mask=run.eval.mask,
        ideal=run.eval.ideal,
        batch_size=run.eval.batch_size,
    )


def environment() -> dict[str, str]:
    """Versions that a result depends on."""
    names = ("seqmm", "torch", "transformers", "accelerate", "datasets", "numpy")
    return {"python": platform.python_version()} | {name: version(name) for name in names}
