"""Arguments of a run beside the model's own: data, training, evaluation, publishing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from seqmm.hub.licences import check_license
from seqmm.names import (
    Ideal,
    MaskChoice,
    MetricName,
    MixedPrecision,
    Objective,
    OptimizerName,
    Protocol,
    Schedule,
    pairs,
)
from seqmm.options import OptionError, Options, check_idle, option, result_values

DEFAULT_CORPUS = "tokenized/movielens/ml-100k"


@dataclass(frozen=True)
class DataArguments(Options):
    """What to read."""

    section: ClassVar[str] = "data"

    # a corpus is compared by its fingerprint, not by the place it was read from
    path: str | None = option(
        DEFAULT_CORPUS,
        "Prepared corpus: a folder, or a dataset repository on the Hub. The default one is built at first use. None in "
        "a run.yaml: the corpus was made in memory.",
        changes_result=False,
    )
    protocol: Protocol = option("leave_one_out", "Split protocol; a corpus may hold several.")
    features: tuple[str, ...] = option(
        (),
        "Feature sets to load, in this order; the model uses them all. In finetuning without any: those of the corpus "
        "that are the checkpoint's, whatever they are called.",
    )
    rename: tuple[str, ...] = option(
        (),
        "In finetuning, OURS=THEIRS: the corpus' feature set OURS is the checkpoint's THEIRS, which their provenance "
        "does not tell.",
    )
    revision: str | None = option(
        None,
        "Hub revision of the corpus: branch, tag or commit. run.yaml gets the commit it was.",
        changes_result=False,
    )
    joined: tuple[str, ...] = option(
        (),
        "More corpora with the same feature sets, for pretraining over several domains; users and items stay apart. "
        "One of the Hub is org/name or org/name@revision; run.yaml gets the commit it was.",
        changes_result=False,
    )

    def check(self) -> None:
        try:
            pairs(self.rename, "")
        except ValueError as error:
            raise OptionError(type(self).__name__, "rename", str(error)) from error


@dataclass(frozen=True)
class TrainArguments(Options):
    """How to train. Names follow transformers' TrainingArguments where the meaning is the same.

    >>> import seqmm
    >>> seqmm.TrainArguments(epochs=3, schedule="cosine").epochs
    3
    >>> seqmm.TrainArguments(epochs=-1)
    Traceback (most recent call last):
        ...
    seqmm.options.OptionError: TrainArguments.epochs is -1; choose 0 or more
    """

    section: ClassVar[str] = "train"

    output_dir: str = option("", 'Where everything goes; "" is runs/<model>-<corpus>-<recipe>.', changes_result=False)
    epochs: int = option(100, "Upper bound of epochs; early stopping usually ends a run sooner.", least=0)
    batch_size: int = option(
        2048, "Rows of the model's collator in a GLOBAL batch, which is split over processes.", least=1
    )
    gradient_accumulation_steps: int = option(1, "Batches of an optimiser step, weighted by their rows.", least=1)
    learning_rate: float = option(1e-3, "Learning rate, after the warm-up.", above=0)
    optimizer: OptimizerName = option("Adam", "Optimiser: a class of torch.optim.")
    optimizer_options: dict[str, bool | float | tuple[float, ...]] = option(
        {},
        "Options of an optimiser other than Adam, name value pairs such as momentum 0.9 nesterov True. In Python and "
        "YAML a value may be several numbers, such as betas.",
    )
    weight_decay: float = option(0.0, "Weight decay; Adam's L2 form unless decoupled_weight_decay.", least=0)
    no_decay: tuple[str, ...] = option(
        (), "Parameters whose name contains one of these words have no weight decay: bias norm embedding, say."
    )
    adam_betas: tuple[float, float] = option((0.9, 0.999), "Decays of Adam's two averages.", least=0, below=1)
    decoupled_weight_decay: bool = option(False, "Whether weight decay has AdamW's form instead of Adam's L2.")
    max_grad_norm: float = option(0.0, "Largest norm of the gradient, which is clipped to it; 0 = off.", least=0)
    schedule: Schedule = option(
        "constant",
        "Course of the learning rate: constant, linear warm-up and cosine to 0 over all epochs, or "
        "decay_rate ^ (epoch / decay_epochs).",
    )
    warmup_ratio: float = option(
        0.0, "Share of all steps that warm up linearly (schedule constant or cosine).", least=0, most=1
    )
    decay_rate: float = option(0.96, "Factor on the learning rate every decay_epochs (schedule decay).", above=0)
    decay_epochs: float = option(50.0, "Epochs between two factors of decay_rate (schedule decay).", above=0)
    seed: int = option(
        0, "Seed of weights, batch order, negatives and noise; every draw is a function of it, the epoch and the row."
    )
    patience: int = option(20, "Evaluations in a row without improvement that end training; 0 = none do.", least=0)
    eval_every: int = option(1, "Epochs between validations.", least=1)
    mixed_precision: MixedPrecision | None = option(
        None,
        "Precision of the products: no, bf16 or fp16 (needs a GPU); None = what accelerate launch says, else no. "
        "run.yaml gets which it was.",
    )
    num_workers: int = option(
        0,
        "Loader processes. 0 is right unless batches take longer to make than to train on.",
        least=0,
        changes_result=False,
    )
    log_every: int = option(
        50,
        "Optimiser steps between lines of log.jsonl with a step's losses, beside those of the epochs; 0 = none.",
        least=0,
        changes_result=False,
    )
    report_to: tuple[str, ...] = option(
        (),
        "More trackers by accelerate's names: tensorboard, wandb, trackio, mlflow and others; log.jsonl is always "
        "written.",
        changes_result=False,
    )
    save_every: int = option(
        1, "Epochs between saved training states; 0 = only when interrupted.", least=0, changes_result=False
    )
    save_steps: int = option(
        0, "Optimiser steps between saved training states, beside save_every; 0 = off.", least=0, changes_result=False
    )
    resume: bool = option(
        False,
        "Whether to go on from the state in output_dir, if there is one; a finished run is left as it is.",
        changes_result=False,
    )
    overwrite: bool = option(False, "Whether to replace a run that is already in output_dir.", changes_result=False)
    # weights to start from are compared by their digest, not by the place they were read from
    init_from: str | None = option(
        None,
        "Pretrained checkpoint to start from: a folder or Hub id (recipes/finetune.py). In recipes/benchmark.py also "
        "the YAML file of a pretraining run, which is done first, with the same seed.",
        changes_result=False,
    )
    init_revision: str | None = option(
        None,
        "Hub revision of init_from: branch, tag or commit. run.yaml gets the commit it was.",
        changes_result=False,
    )
    # the model's class says which head is trained
    objective: Objective | None = option(
        None,
        "Head of a two-stage model that a YAML file is meant for; another recipe refuses it. None = any.",
        changes_result=False,
    )

    def check(self) -> None:
        if self.optimizer != "Adam":
            check_idle(self, f"optimizer {self.optimizer} is not Adam", "adam_betas", "decoupled_weight_decay")
        else:
            check_idle(self, "optimizer Adam has options of its own", "optimizer_options")

    def course(self) -> dict[str, Any]:
        """What a run that goes on from a saved state must share with the one that saved it.

        All that changes a result but how long it goes on; a cosine stretches over the epochs, which then count.
        """
        values = result_values(self)
        if self.schedule != "cosine":
            del values["epochs"]
        return values


@dataclass(frozen=True)
class EvalArguments(Options):
    """How to evaluate. Validation chooses; test is read once.

    >>> import seqmm
    >>> seqmm.EvalArguments(ks=[10]).ks
    (10,)
    >>> seqmm.EvalArguments(mask="seen")
    Traceback (most recent call last):
        ...
    seqmm.options.OptionError: EvalArguments.mask is 'seen'; choose one of auto, train, history, none
    """

    section: ClassVar[str] = "eval"

    ks: tuple[int, ...] = option((5, 10, 20), "Lengths of the lists that are measured.", least=1)
    metrics: tuple[MetricName, ...] = option(
        ("recall", "ndcg"),
        "Metrics among recall, precision, ndcg, map, mrr, hit, coverage, popularity.",
    )
    monitor: str = option("ndcg@10", "Metric of validation that chooses the weights and stops training.")
    mask: MaskChoice = option(
        "auto",
        "Seen items left out of the ranking: train (auto for ratio and given), history = train, at test train + "
        "validation (auto for leave_one_out, temporal, cold), or none.",
    )
    ideal: Ideal = option(
        "test",
        "Ideal list of NDCG: of the test items, or of the hits in the retrieved list (as MMSSL prints it).",
    )
    max_users: int = option(
        0, "Users that validation ranks, the same sample in every epoch and run; 0 = all. Test ranks all.", least=0
    )
    batch_size: int = option(1024, "Users scored at a time.", least=1, changes_result=False)
    test: bool = option(
        False,
        "Whether to read the test split once, after training, with the weights validation chose.",
        changes_result=False,
    )

    def check(self) -> None:
        computed = [f"{metric}@{k}" for metric in self.metrics for k in self.ks]
        if self.monitor not in computed:
            problem = (
                f" is {self.monitor!r}, which is not computed; metrics and ks give {', '.join(computed) or 'none'}"
            )
            raise OptionError(type(self).__name__, "monitor", problem)


@dataclass(frozen=True)
class HubArguments(Options):
    """Where to publish the trained model."""

    section: ClassVar[str] = "hub"

    push_to: str | None = option(
        None,
        'Model repository "org/name"; None = do not push. recipes/publish.py does it later.',
        changes_result=False,
    )
    private: bool = option(
        True, "Whether the repository is made private; one that is public is then refused.", changes_result=False
    )
    revision: str | None = option(None, "Branch to push to, made if there is none; None = main.", changes_result=False)
    license: str = option(
        "apache-2.0",
        "Licence written into the model card: an identifier of the Hub, or other.",
        changes_result=False,
    )
    license_name: str | None = option(None, 'Name of the licence where license is "other".', changes_result=False)
    license_link: str | None = option(
        None, 'URL of the licence\'s text where license is "other".', changes_result=False
    )
    corpus_repo: str | None = option(
        None,
        "Dataset repository the corpus was published as, for the card, where data.path is a folder.",
        changes_result=False,
    )

    def check(self) -> None:
        try:
            check_license(self.license, self.license_name, self.license_link)
        except ValueError as error:
            raise OptionError(type(self).__name__, "license", f": {error}") from error
