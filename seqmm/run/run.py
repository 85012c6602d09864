"""One run: settings, corpus and folder. It trains and evaluates; its caller checks licences before and pushes after."""

from __future__ import annotations

import logging
import platform
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from seqmm.arguments import EvalArguments, TrainArguments
from seqmm.data.corpus import Corpus
from seqmm.evaluation.evaluator import Evaluator
from seqmm.files import write_json, write_yaml
from seqmm.foreign import path_name, word
from seqmm.hub.access import local_folder
from seqmm.models.base import Recommender, RecommenderConfig
from seqmm.models.checkpoint import load_config
from seqmm.models.making import class_and_config, make_model
from seqmm.names import EvaluatedSplit, Objective, pairs
from seqmm.publishing.cards import recipe_of, write_model_card
from seqmm.publishing.run_files import MetricsRecord, Results
from seqmm.registry import register
from seqmm.run.opening import named, open_corpus
from seqmm.run.settings import RunConfig
from seqmm.run.variants import reference
from seqmm.training.callbacks import Callback
from seqmm.training.disk import explain_full_disk
from seqmm.training.trainer import Trainer

logger = logging.getLogger(__name__)


class Run:
    """Trains one model on one corpus into one folder, and can be repeated from the ``run.yaml`` it leaves there.

    Args:
        settings: everything the run depends on; its ``data`` opens the corpus.
        corpus: one that is there already. ``run.yaml`` then names this one, not what ``settings.data`` says: the folder
            or repository it was loaded from, its protocol and features; ``path: null`` if it was made in memory.

    >>> import seqmm, tempfile
    >>> corpus = seqmm.synthetic_corpus(num_users=60, num_items=40)
    >>> args = seqmm.TrainArguments(epochs=2, output_dir=tempfile.mkdtemp())
    >>> run = seqmm.Run.of("lightgcn", corpus, train=args, hidden_size=8)
    >>> sorted(run.fit())
    ['best_epoch', 'epochs', 'mask', 'seconds', 'test', 'validation']
    >>> seqmm.from_pretrained(run.output).config.hidden_size
    8
    """

    def __init__(self, settings: RunConfig, corpus: Corpus | None = None):
        if corpus is None:
            corpus, data = open_corpus(settings.data, _checkpoint(settings))
        else:
            data = named(corpus, settings.data)
        name = path_name(
            settings.model.model_type,
            corpus.name,
            recipe_of(vars(settings.train)),
            reference(settings.variant or "")[1],
        )
        train = replace(settings.train, output_dir=settings.train.output_dir or f"runs/{name}")
        self.corpus = corpus
        self.settings = replace(settings, data=data, train=train)
        """As they are written: the corpus named exactly, the output folder filled in."""

    @classmethod
    def of(
        cls,
        model: str | type[Recommender] | RecommenderConfig,
        corpus: Corpus,
        *,
        train: TrainArguments | None = None,
        eval: EvalArguments | None = None,
        **options: Any,
    ) -> Run:
        """A run from Python, without a file.

        Args:
            model: its ``model_type``, its class (which is registered, since ``run.yaml`` names it), or its config.
            corpus: to train on.
            train: how to train; None = the defaults.
            eval: how to evaluate; None = the defaults.
            options: of the model, where ``model`` is a name or a class.

        Raises:
            ValueError: an unknown model, option or value; options beside a config; a class that cannot be registered,
                or whose head is not that of ``train.objective``.
        """
        train = train or TrainArguments()
        objective: Objective = train.objective or "recommendation"
        found, config = class_and_config(model, options, objective=objective)
        if isinstance(model, type):
            register(found)
            if found.objective != objective:
                raise ValueError(f"{found.__name__} is for {found.objective}: give train.objective {found.objective!r}")
        return cls(RunConfig(config, train=train, eval=eval or EvalArguments()), corpus)

    @property
    def output(self) -> Path:
        """The run's folder."""
        return Path(self.settings.train.output_dir)

    @cached_property
    def model(self) -> Recommender:
        """Made when first asked for; ``train.seed`` decides its weights, or the checkpoint it starts from does."""
        train, pretraining = self.settings.train, self.settings.train.objective == "pretraining"
        start: dict[str, Any] = {}
        if train.init_from is not None and not pretraining:
            rename = pairs(self.settings.data.rename, "data.rename")
            start = {"init_from": train.init_from, "init_revision": train.init_revision, "rename": rename}
        objective: Objective = "pretraining" if pretraining else "recommendation"
        return make_model(self.settings.model, self.corpus, seed=train.seed, objective=objective, **start)

    def evaluator(self, split: EvaluatedSplit) -> Evaluator:
        """What the settings' ``eval`` asks for."""
        asked = self.settings.eval
        return Evaluator(
            self.corpus,
            split,
            ks=asked.ks,
            metrics=asked.metrics,
            mask=asked.mask,
            ideal=asked.ideal,
            batch_size=asked.batch_size,
            max_users=asked.max_users if split == "validation" else 0,
        )

    def fit(self, callbacks: Sequence[Callback] = ()) -> Results:
        """Trains, evaluates, and writes everything that is needed to repeat or use the result into the run's folder.

        ``config.json`` + ``model.safetensors`` (best weights), ``run.yaml``, ``metrics.json``, ``log.jsonl``,
        ``README.md`` (model card), ``checkpoints/`` (training state).

        Returns:
            What metrics.json holds: ``{"validation": {…}, "test": {…} | None, …}``.
        """
        validation, train = self.evaluator("validation"), self.settings.train
        commit = self.model.config.pretrained_on.get("checkpoint_revision", train.init_revision)
        self.settings = replace(self.settings, train=replace(train, init_revision=commit))
        train, monitor = self.settings.train, self.settings.eval.monitor
        watching = [*callbacks, _WriteSettings(self)]
        trainer = Trainer(self.model, self.corpus, train, evaluator=validation, monitor=monitor, callbacks=watching)
        accelerator = trainer.accelerator
        self.settings = replace(self.settings, train=trainer.args)  # the launcher's precision is written, too
        if accelerator.is_main_process:
            weights = sum(p.numel() for p in self.model.parameters())
            processes = f"{accelerator.num_processes} x {accelerator.device.type}"
            logger.info(
                "%s on %s, %s parameters, %s", self.settings.model.model_type, self.corpus, f"{weights:,}", processes
            )
            if validation.sample:
                logger.info("%s chooses the weights", validation.sample)
        with trainer.output("run.yaml", "metrics.json", "README.md"):
            state = trainer.train()
            metrics: Results = {
                "validation": state.validation,
                "test": self.evaluator("test")(accelerator, self.model) if self.settings.eval.test else None,
                "mask": validation.mask,
                "best_epoch": state.best_epoch,
                "epochs": state.epoch,
                "seconds": round(state.seconds, 1),
            }
            if validation.sample:
                metrics["validation_users"] = validation.sample
            if accelerator.is_main_process:
                self._write_results(metrics)
            accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            logger.info(
                "best epoch %d of %d; validation %s", state.best_epoch, state.epoch, _shown(metrics, "validation")
            )
            if metrics["test"]:
                logger.info("test %s", _shown(metrics, "test"))
            logger.info("written to %s", self.output)
        return metrics

    def _write_results(self, metrics: Results) -> None:
        record: MetricsRecord = {**metrics, "environment": environment()}
        with explain_full_disk(self.output):
            write_json(self.output / "metrics.json", record)
            hub = self.settings.hub
            license = {"license": hub.license, "license_name": hub.license_name, "license_link": hub.license_link}
            write_model_card(self.output, {key: value for key, value in license.items() if value is not None})

    def write_settings(self) -> None:
        """Writes run.yaml; a comment at its head says how to repeat the run."""
        values = self.settings.to_dict()
        values["train"] |= {"resume": False, "overwrite": False}
        recipe = recipe_of(vars(self.settings.train))
        file, variant = reference(self.settings.variant or "")
        found = type(self.model)
        ours, place = found.__module__.startswith("seqmm."), f"{found.__module__}:{found.__qualname__}"
        plugin = "" if ours else f" --plugin {word(place)}"
        again = f"accelerate launch recipes/{recipe}.py --config {word(self.output / 'run.yaml')}{plugin}"
        comment = f"{again} --train.overwrite True\nor, to go on: {again} --train.resume True"
        if variant is not None:
            made_of = f"recipes/{recipe}.py --config {word(file)} --variant {word(variant)}{plugin}"
            comment += f"\nmade of: accelerate launch {made_of}"
        if found.__module__ == "__main__":
            comment += f"\n{place} is of a script or notebook: put it into a module, and give that with --plugin"
        if self.settings.data.path is None:
            comment += (
                f"\nthe corpus {self.corpus.name!r} was made in memory and lies in no folder (fingerprint "
                f"{self.corpus.fingerprint()}): save it, and give its folder with --data.path"
            )
        write_yaml(self.output / "run.yaml", values, comment)


class _WriteSettings(Callback):
    """Before training, so that an interrupted run keeps them; but after all that may refuse the run."""

    def __init__(self, run: Run):
        self.run = run

    def on_train_start(self, trainer: Trainer) -> None:
        if trainer.accelerator.is_main_process:
            with explain_full_disk(self.run.output):
                self.run.write_settings()


def _checkpoint(settings: RunConfig) -> RecommenderConfig | None:
    """The config of the checkpoint that the run's model starts from."""
    train = settings.train
    if train.init_from is None or train.objective == "pretraining":
        return None
    return load_config(local_folder(train.init_from, revision=train.init_revision))


def environment() -> dict[str, str]:
    """Versions that a result depends on."""
    names = ("seqmm", "torch", "transformers", "accelerate", "datasets", "numpy")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def _shown(metrics: Results, split: EvaluatedSplit) -> str:
    values = "  ".join(f"{name} {value:.4f}" for name, value in (metrics[split] or {}).items())
    sample = metrics.get("validation_users") if split == "validation" else None
    return f"({f'{sample}, ' if sample else ''}{metrics['mask']} masked): {values}"
