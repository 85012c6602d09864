"""The contract every model keeps, and nothing else: no path, no device, no trainer."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, NotRequired, Required, Self, TypedDict, get_type_hints

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from seqmm.data.collators import Collator
from seqmm.data.corpus import Corpus
from seqmm.data.feature_sets import Features
from seqmm.data.identity import DescriptionRecord, describe, match_sets
from seqmm.hub.access import local_folder, quietly
from seqmm.models.paper import Paper
from seqmm.models.weights import FORMAT, read_config, weights_for, write_weights
from seqmm.names import Objective, Protocol, brief
from seqmm.options import check_keys, check_options, option, option_fields, refuse_plain_fields
from seqmm.registry import MODELS, Registry
from seqmm.schema import Count, Digest, Name, check_record

TRANSFORMERS = frozenset(each.name for each in fields(PreTrainedConfig))
PASSED_BY_TRANSFORMERS = frozenset(
    ("attn_implementation", "experts_implementation", "model_type", "name_or_path", "output_attentions", "torch_dtype")
)
"""What loading a checkpoint gives a config beside its fields."""


class CorpusOfModel(TypedDict, total=False):
    """The corpus a model was built on."""

    name: Required[Name]
    protocol: Required[Protocol]
    fingerprint: Required[Digest]
    repository: str
    revision: str


class Started(CorpusOfModel, total=False):
    """The corpus and the checkpoint a model started from."""

    checkpoint: str
    weights: Digest
    checkpoint_revision: str


class Empty(TypedDict):
    """Of a model that started from nothing."""


class FilledRecord(TypedDict):
    """What config.json holds of a corpus and of transformers; the options beside it check themselves."""

    num_users: Count
    num_items: Count
    corpus: CorpusOfModel
    features: NotRequired[dict[str, DescriptionRecord]]
    feature_order: NotRequired[list[str]]
    pretrained_on: NotRequired[Empty | Started]
    architectures: NotRequired[list[str]]
    dtype: NotRequired[Literal["float16", "bfloat16", "float32", "float64"]]
    model_type: NotRequired[str]
    transformers_version: NotRequired[str]


class RecommenderConfig(PreTrainedConfig):
    """What every model has. Sizes and features are filled in by :meth:`Recommender.for_corpus`, not by hand.

    >>> from seqmm.models.collaborative.lightgcn import LightGCNConfig
    >>> LightGCNConfig(num_layers=3).num_layers
    3
    """

    model_type = "recommender"

    hidden_size: int = option(64, "Width of the representations.", least=1)

    # from the corpus: no options, so no flag and no YAML key
    num_users: int = 0
    num_items: int = 0
    features: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Feature sets the model was built on: name -> {"kind", "dim", "provenance"} (of tags "vocabulary"; of a set that a
    checkpoint knew by another name, that name as "pretrained_as"); those it reads are checked at bind."""
    feature_order: list[str] = field(default_factory=list)
    """Names of the feature sets in the order they were loaded; a config file sorts the keys of ``features``."""
    corpus: dict[str, Any] = field(default_factory=dict)
    """Name, protocol and fingerprint of the corpus the model was built on, and where on the Hub it was loaded from."""

    pretrained_on: dict[str, Any] = field(default_factory=dict)
    """The corpus and checkpoint the encoder was pretrained on, when it was."""
    seqmm_format: int = FORMAT
    """Of the checkpoint; a newer one is refused, and said to be newer."""

    def __init_subclass__(cls, *args: Any, **kwargs: Any) -> None:
        """Makes the dataclass, as transformers does; every field is an option."""
        super().__init_subclass__(*args, **kwargs)
        filled = {each.name for each in fields(RecommenderConfig)} - {
            each.name for each in option_fields(RecommenderConfig)
        }
        refuse_plain_fields(cls, TRANSFORMERS | filled)

    @classmethod
    def own_fields(cls) -> list[str]:
        """Names of the fields that are not transformers'."""
        return [each.name for each in fields(cls) if each.name not in TRANSFORMERS]

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **options: Any) -> Any:
        """As transformers', of a file's values: what a corpus decides is there, and of its type.

        Raises:
            ValueError: naming the key.
        """
        made = {key: value for key, value in config_dict.items() if key in get_type_hints(FilledRecord)}
        checked = check_record(made, FilledRecord, "")
        names = list(checked.get("features", {}))
        if sorted(order := checked.get("feature_order", [])) != sorted(names):
            raise ValueError(f"feature_order is {brief(order)}; expected the names of features, {brief(names)}")
        return super().from_dict(config_dict, **options)

    def reads(self) -> list[str]:
        """Names of the feature sets a model of this config reads, in its order; of the others nothing is asked."""
        return list(self.feature_order)

    def __post_init__(self, **rest: Any) -> None:
        """Checks every option; ``rest`` is what has no field: what transformers passes, or a misspelt key.

        Raises:
            OptionError: an unknown key, or a value that an option cannot have.
        """
        cls = type(self)
        unknown = [key for key in rest if not key.startswith("_") and key not in PASSED_BY_TRANSFORMERS]
        check_keys(unknown, cls.own_fields(), cls.__name__)
        super().__post_init__(**rest)
        check_options(self)
        self.check()

    def check(self) -> None:
        """Refuses combinations of values that are each right alone; subclasses raise :class:`OptionError`."""


@dataclass(frozen=True)
class Stage:
    """A part of an epoch: its collator, and the phases (forward, backward, step) each of its batches goes through."""

    collator: type[Collator]
    phases: tuple[str, ...] = ("main",)


class Recommender(PreTrainedModel):
    """Base of all models.

    ``forward(batch, phase)`` returns ``{"loss": scalar, part: scalar, …}``; everything differentiable passes through
    it, and the loss is that of the global batch (:mod:`seqmm.distributed`). Scoring works on ``tables()``, made once an
    evaluation: ``represent(batch, tables) [B, d]`` against ``tables["items"] [num_items, d]``.

    A training batch is what the stage's collator makes, plus ``step_seed`` (0-d int64, equal on all ranks; on the CPU,
    where generators read it, unless DDP moves it). A scoring batch holds ``user [B]``, ``history [B, L]`` (oldest
    first, right-padded with 0) and ``mask [B, L]`` (True = real).

    >>> import seqmm
    >>> corpus = seqmm.synthetic_corpus(num_users=60, num_items=40)
    >>> model = seqmm.make_model("lightgcn", corpus, hidden_size=16)
    >>> isinstance(model, seqmm.Recommender), model.tables()["items"].shape
    (True, torch.Size([40, 16]))
    """

    registry: ClassVar[Registry] = MODELS
    objective: ClassVar[Objective] = "recommendation"
    """What it is trained for: "pretraining" on the head of a two-stage model that is finetuned later."""
    paper: ClassVar[Paper | None] = None
    """What the model card cites."""
    config_class = RecommenderConfig
    config: RecommenderConfig
    base_model_prefix = "encoder"
    main_input_name = "user"
    supports_gradient_checkpointing = False
    stages: ClassVar[tuple[Stage, ...]] = ()
    """What an epoch does; () = nothing to train (popularity)."""
    dot_product: ClassVar[bool] = True
    """Whether score = represent @ items.T, so that a nearest-neighbour index serves the model."""

    def __init__(self, config: RecommenderConfig):
        super().__init__(config)
        self.hook_state: dict[str, Tensor] = {}  # what set_state was given, by name

    # -- files --------------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: Any = None,
        *model_args: Any,
        config: RecommenderConfig | None = None,
        revision: str | None = None,
        **options: Any,
    ) -> Any:
        """The model of a checkpoint, whole: transformers would start what is missing at random.

        Args:
            pretrained_model_name_or_path: a folder, or ``org/name`` on the Hub.
            model_args: as transformers takes them.
            config: in place of the checkpoint's.
            revision: of a Hub repository: a branch, tag or commit; None = main.
            options: fields of the config to have other values, and what transformers takes (``dtype``, …).

        Raises:
            FileNotFoundError: no such folder or repository, or one without a model.
            ValueError: a tensor that is missing, unknown, of another shape or not finite; another model's config.
        """
        if options.get("state_dict") is not None:
            return super().from_pretrained(pretrained_model_name_or_path, *model_args, config=config, **options)
        directory = local_folder(str(pretrained_model_name_or_path), revision=revision)
        changed = {name: options.pop(name) for name in cls.config_class.own_fields() if name in options}
        signed = config is None and not changed
        made = config if config is not None else read_config(directory, cls.config_class, **changed)
        weights = weights_for(cls, made, directory, signed=signed)
        with quietly():
            return super().from_pretrained(None, *model_args, config=made, state_dict=weights, **options)

    def save_pretrained(self, save_directory: Any, **options: Any) -> None:  # type: ignore[override]
        """As transformers'; the weights are one file, which says besides to which model's settings they belong."""
        if options.pop("push_to_hub", False):
            raise ValueError(
                "push_to_hub=True is not known here: save the model, then seqmm.publish_model(folder, repo)"
            )
        tensors = options.pop("state_dict", None)
        with quietly():
            super().save_pretrained(save_directory, state_dict={}, **options)  # config.json, no tensor
        if options.get("is_main_process", True):
            write_weights(Path(save_directory), self, self.state_dict() if tensors is None else tensors)

    # -- construction and binding -------------------------------------------------------------------------------------

    @classmethod
    def for_corpus(cls, config: RecommenderConfig, corpus: Corpus) -> Self:
        """A new model sized for ``corpus``: construct, :meth:`initialise`, :meth:`bind`."""
        model = cls(fill(config, corpus))
        model.initialise(corpus)
        return model.bind(corpus)

    def initialise(self, corpus: Corpus) -> None:
        """Copies features into trainable tables, once; for models that have such."""

    def bind(self, corpus: Corpus) -> Self:
        """Attaches graphs and features, after construction or loading. Writes no parameter.

        Subclasses call ``super().bind(corpus)`` first; it checks sizes and features.

        Raises:
            ValueError: if the corpus has other sizes, or a feature set of another encoder, kind or width.
        """
        for what in ("num_users", "num_items"):
            ours, theirs = getattr(self.config, what), getattr(corpus, what)
            if what in self.sized_by and ours != theirs:
                raise ValueError(
                    f"the model was built for {what} = {ours} but corpus {corpus.name!r} has {theirs}; "
                    "use the corpus it was trained on, or recipes/finetune.py to start from its weights"
                )
        self.feature_sets(corpus)
        self.bound_to = corpus.fingerprint()
        return self

    bound_to: str | None = None
    """Fingerprint of the corpus the model is bound to; None = of none yet."""

    def feature_sets(self, corpus: Corpus) -> dict[str, Features]:
        """The feature sets the model reads by the names it knows them under, whatever ``corpus`` calls them.

        Raises:
            ValueError: the corpus was loaded without one of them, or it is another encoder's.
        """
        names = match_sets(
            {name: self.config.features[name] for name in self.config.reads()},
            {name: describe(feature) for name, feature in corpus.features.items()},
            who="the model",
            whose=f"corpus {corpus.name!r}",
            remedy="load the corpus with the feature sets that the model was trained on, and no others like them",
        )
        return {name: corpus.features[found] for name, found in names.items()}

    encoder_fields: ClassVar[tuple[str, ...]] = ()
    """Hyper-parameters that finetuning must share with the checkpoint it starts from."""
    sized_by: ClassVar[tuple[str, ...]] = ("num_users", "num_items")
    """Which corpus sizes the parameters depend on; a model without user ids drops ``num_users``."""

    def _init_weights(self, module: nn.Module) -> None:
        """Called by transformers for every module that was not in a checkpoint. Subclasses cover what they add."""

    # -- training -----------------------------------------------------------------------------------------------------

    def collator_options(self, stage: int) -> dict[str, object]:
        """Keyword arguments of the stage's collator."""
        return {}

    def forward(self, batch: Mapping[str, Tensor], phase: str = "main") -> dict[str, Tensor]:
        raise NotImplementedError(f"{type(self).__name__} is not trained")

    def parameter_groups(self, phase: str) -> list[dict[str, Any]]:
        """Adam groups of a phase; absent keys (lr, betas, weight_decay) come from the training arguments.

        ``decoupled_weight_decay`` chooses AdamW's form. The default puts every parameter under "main".
        """
        return [{"params": list(self.parameters())}] if phase == "main" else []

    def on_stage_start(self, stage: int, epoch: int, generator: torch.Generator) -> None:
        """Edge pruning, graph refresh, k-means. What it makes goes through :meth:`set_state`."""

    def on_step_end(self, step: int) -> None:
        """Momentum encoders, learned-graph rebuilds; after a real optimiser step only."""

    def set_state(self, name: str, tensor: Tensor, publish: bool = False) -> None:
        """Keeps what a hook made: saved and restored with the training state, broadcast from rank 0.

        ``publish`` also writes it into checkpoints; such a name must be registered as a buffer in ``__init__``.
        Not re-made on resume: :meth:`on_state` is called instead.
        """
        self.hook_state[name] = tensor
        if publish:
            getattr(self, name).copy_(tensor)
        self.on_state(name, tensor)

    def on_state(self, name: str, tensor: Tensor) -> None:
        """Rebuilds what depends on a piece of state (a pruned graph from its kept edges)."""

    # -- scoring ------------------------------------------------------------------------------------------------------

    @property
    def history_length(self) -> int | None:
        """How many of the latest items a scoring batch holds; None = all, 0 = none are read."""
        return 0

    def tables(self) -> dict[str, Tensor]:
        """At least ``{"items": [num_items, d]}``; everything that does not depend on the batch."""
        raise NotImplementedError

    def represent(self, batch: Mapping[str, Tensor], tables: Mapping[str, Tensor]) -> Tensor:
        """``[B, d]``."""
        raise NotImplementedError

    def score(self, batch: Mapping[str, Tensor], tables: Mapping[str, Tensor], items: slice = slice(None)) -> Tensor:
        """``[B, n]`` scores of the items in the slice."""
        return self.represent(batch, tables) @ tables["items"][items].T


def bound(model: Recommender, corpus: Corpus) -> Recommender:
    """The model, bound to ``corpus`` if it is bound to none.

    Raises:
        ValueError: it is bound to another corpus, or does not fit this one.
    """
    if model.bound_to is None:
        return model.bind(corpus)
    if model.bound_to != corpus.fingerprint():
        trained = model.config.corpus.get("name", "another")
        raise ValueError(
            f"the {model.config.model_type} is bound to another corpus than {corpus.name!r} ({corpus.protocol}); use "
            f"that one (it was made for {trained!r}), or bind it to this one first: model.bind(corpus)"
        )
    return model


def fill(config: RecommenderConfig, corpus: Corpus) -> RecommenderConfig:
    """A copy of a config with what a corpus decides written into it; the one given is not changed.

    Raises:
        ValueError: a feature set has a name that a model's modules cannot have.
    """
    for name in corpus.features:
        if hasattr(nn.ModuleDict(), name):
            raise ValueError(
                f"a model cannot read a feature set called {name!r}, which is a name of torch's own (nn.ModuleDict."
                f"{name}); make it again under another name, such as {name}_vectors"
            )
    config = copy.deepcopy(config)
    config.num_users, config.num_items = corpus.num_users, corpus.num_items
    config.features = {name: describe(feature) for name, feature in corpus.features.items()}
    config.feature_order = list(corpus.features)
    config.corpus = {"name": corpus.name, "protocol": corpus.protocol, "fingerprint": corpus.fingerprint()}
    config.corpus |= corpus.origin
    return config
