"""Arguments of a run beside the model's own: data, training, evaluation, publishing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DEFAULT_CORPUS = "tokenized/movielens/ml-100k"


@dataclass
class DataArguments:
    """What to read."""

    path: str = DEFAULT_CORPUS
    """A prepared corpus: a folder, or a dataset repository on the Hub. The default one is built at first use."""
    protocol: Literal["leave_one_out", "ratio", "temporal", "cold", "given"] = "leave_one_out"
    """Split protocol; a corpus may hold several."""
    features: tuple[str, ...] = ()
    """Feature sets to load, in this order; the model uses them all."""
    revision: str | None = None
    """Hub revision of the corpus: branch, tag or commit. run.yaml gets the commit it was."""
    joined: tuple[str, ...] = ()
    """More corpora with the same feature sets, for pretraining over several domains; users and items stay apart. Of the
    Hub org/name or org/name@revision; run.yaml gets the commit it was."""


@dataclass
class TrainArguments:
    """How to train. Names follow transformers' TrainingArguments where the meaning is the same."""

    output_dir: str = ""
    """Where everything goes; "" = runs/<model>-<corpus>-<recipe>."""
    epochs: int = 100
    """Upper bound; early stopping usually ends a run sooner."""
    batch_size: int = 2048
    """GLOBAL batch, in rows of the model's collator; split over processes."""
    gradient_accumulation_steps: int = 1
    """Batches per optimiser step, weighted by their rows."""
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    adam_betas: tuple[float, float] = (0.9, 0.999)
    decoupled_weight_decay: bool = False
    """AdamW's form instead of Adam's L2."""
    max_grad_norm: float = 0.0
    """Clip the gradient's norm; 0 = off."""
    schedule: Literal["constant", "cosine", "decay"] = "constant"
    """Learning rate: constant, linear warm-up + cosine to 0 over all epochs, or decay_rate ^ (epoch / decay_epochs)."""
    warmup_ratio: float = 0.0
    """Share of all steps that warm up linearly (constant and cosine)."""
    decay_rate: float = 0.96
    decay_epochs: float = 50.0
    seed: int = 0
    """Seeds weights, batch order, negatives and noise; every draw is a function of it, the epoch and the row."""
    patience: int = 20
    """Stop after this many evaluations in a row without improvement; 0 = never."""
    eval_every: int = 1
    """Epochs between validations."""
    mixed_precision: Literal["no", "bf16", "fp16"] | None = None
    """None = what accelerate launch says. fp16 needs a GPU."""
    num_workers: int = 0
    """Loader processes. 0 is right unless batches take longer to make than to train on."""
    log_every: int = 50
    """Optimiser steps between lines of log.jsonl (an epoch always gets one)."""
    report_to: tuple[str, ...] = ()
    """More trackers by accelerate's names: tensorboard, wandb, trackio, mlflow …; log.jsonl is always written."""
    save_every: int = 1
    """Epochs between saved training states; 0 = only when interrupted."""
    save_steps: int = 0
    """Also save every so many optimiser steps; 0 = off."""
    resume: bool = False
    """Go on from the state in output_dir, if there is one; a finished run is left as it is."""
    overwrite: bool = False
    """Replace a run that is already in output_dir."""
    init_from: str | None = None
    """Pretrained checkpoint to start from: a folder or Hub id (recipes/finetune.py). In recipes/benchmark.py also the
    YAML file of a pretraining run, which is done first, with the same seed."""
    init_revision: str | None = None
    """Hub revision of init_from: branch, tag or commit. run.yaml gets the commit it was."""
    objective: Literal["pretraining", "recommendation"] | None = None
    """Which head of a two-stage model a YAML file is meant for; another recipe refuses it. None = any."""


@dataclass
class EvalArguments:
    """How to evaluate. Validation chooses; test is read once."""

    ks: tuple[int, ...] = (5, 10, 20)
    """Cut-offs."""
    metrics: tuple[str, ...] = ("recall", "ndcg")
    """recall, precision, ndcg, map, mrr, hit."""
    monitor: str = "ndcg@10"
    """The validation metric that chooses weights and stops training."""
    mask: Literal["auto", "train", "history", "none"] = "auto"
    """Seen items left out of the ranking: train (auto for ratio, given, temporal, cold), history = train + validation
    (auto for leave_one_out), or none."""
    ideal: Literal["test", "retrieved"] = "test"
    """NDCG's ideal list: of the test items, or of the hits in the retrieved list (as MMSSL prints it)."""
    batch_size: int = 1024
    """Users at a time."""
    test: bool = False
    """Read the test split once, after training, with the weights validation chose."""


@dataclass
class HubArguments:
    """Where to publish the trained model."""

    push_to: str | None = None
    """Model repository "org/name"; None = do not push. recipes/publish.py does it later."""
    private: bool = True
    """Make it a private one; a public one is then refused."""
    revision: str | None = None
    """Branch to push to, made if there is none; None = main."""
    license: str = "apache-2.0"
    """Licence written into the model card: an identifier of the Hub, or other."""
    license_name: str | None = None
    """Of the licence "other"."""
    license_link: str | None = None
    """Of the licence "other": URL of its text."""
    corpus_repo: str | None = None
    """Dataset repository the corpus was published as, for the card, where data.path is a folder."""
