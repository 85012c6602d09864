"""Loading what was trained, from a folder or the Hub."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import torch
from torch import Tensor, nn

from seqmm.data.corpus import Corpus
from seqmm.data.identity import match_sets
from seqmm.files import file_digest
from seqmm.hub.access import local_folder, origin_of, quietly
from seqmm.models.base import Recommender, RecommenderConfig, fill
from seqmm.models.registry import model_class
from seqmm.models.weights import WEIGHTS, config_values, read_config, weights_for
from seqmm.names import brief, nearest
from seqmm.registry import MODELS

M = TypeVar("M", bound=Recommender)
logger = logging.getLogger(__name__)


def from_pretrained(path: str, *, revision: str | None = None) -> Recommender:
    """The model of a run folder or a Hub repository, not yet bound: call ``.bind(corpus)`` before use.

    Args:
        path: folder, or ``org/name`` on the Hub.
        revision: of a Hub repository: a branch, tag or commit; None = main.

    Raises:
        FileNotFoundError: for a folder without a model, or a repository that cannot be reached.
        ValueError: for a file that is no seqmm checkpoint, is truncated, is of a newer seqmm, or holds other tensors
            than the model has, or one that is not finite; the text names them.

    >>> import seqmm
    >>> corpus = seqmm.synthetic_corpus(num_users=60, num_items=40)
    >>> seqmm.make_model("bpr", corpus).save_pretrained("runs/bpr")
    >>> model = seqmm.from_pretrained("runs/bpr").bind(corpus)
    >>> model.config.model_type
    'bpr'
    """
    directory = local_folder(path, revision=revision)
    model: Recommender = class_in(directory).from_pretrained(directory)
    return model


def load_config(directory: Path) -> RecommenderConfig:
    """The config of a checkpoint folder. What it names is looked up among the registered models, never imported.

    Raises:
        FileNotFoundError, ValueError: naming the file.
    """
    config: RecommenderConfig = read_config(directory, class_in(directory).config_class)
    return config


def whole_weights(directory: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint folder by key, all of its model's and finite.

    Raises:
        FileNotFoundError, ValueError: naming the file, and the tensors.
    """
    return weights_for(class_in(directory), load_config(directory), directory)


def class_in(directory: Path) -> type[Recommender]:
    """The class of a checkpoint's model: of a two-stage model the head it was saved from.

    Raises:
        FileNotFoundError, ValueError: naming the file.
    """
    values, file = config_values(directory), directory / "config.json"
    model_type, named = values.get("model_type"), values.get("architectures")
    if model_type not in MODELS.names():
        raise ValueError(
            f"{file}: model_type {brief(model_type, 80)} is not registered"
            f"{nearest(model_type, MODELS.names())} (a model of one's own: call seqmm.register(ItsClass) first in "
            "Python, or give a recipe --plugin module:ItsClass)"
        )
    heads = {cls.__name__: cls for cls in MODELS.classes(model_type)}
    if named is None:
        return model_class(model_type)
    if not isinstance(named, list) or len(named) != 1 or named[0] not in [*heads]:
        raise ValueError(
            f"{file}: architectures is {brief(named, 80)}, but a {model_type} is {' or '.join(heads)}; "
            "it is another model's, copy both files of one checkpoint"
        )
    head: type[Recommender] = heads[named[0]]
    return head


def check_trained_on(model: Recommender, corpus: Corpus, folder: str) -> None:
    """Raises ValueError unless ``corpus`` is the one the checkpoint in ``folder`` was trained on."""
    trained = model.config.corpus
    if lacking := [key for key in ("name", "protocol", "fingerprint") if key not in trained]:
        raise ValueError(
            f"{folder}: config.json does not say which corpus the model was trained on (corpus.{lacking[0]} is "
            "missing); copy the checkpoint again"
        )
    if trained["fingerprint"] != corpus.fingerprint():
        raise ValueError(
            f"the checkpoint {folder} was trained on {trained['name']!r} ({trained['protocol']}, fingerprint "
            f"{trained['fingerprint'][:12]}), but the corpus given is {corpus.name!r} ({corpus.protocol}, "
            f"{corpus.fingerprint()[:12]}); name the former, or start from the checkpoint with recipes/finetune.py"
        )


def check_start(cls: type[Recommender], path: str, before: RecommenderConfig, config: RecommenderConfig) -> None:
    """Whether a ``cls`` of ``config`` can start from the checkpoint at ``path``, whose config is ``before``.

    Raises:
        ValueError: it is another model's, or has another encoder.
    """
    if before.model_type != config.model_type:
        raise ValueError(f"the checkpoint {path} is a {before.model_type}, not a {config.model_type}")
    for name in cls.encoder_fields:
        ours, theirs = getattr(config, name), getattr(before, name)
        if ours != theirs:
            raise ValueError(
                f"the checkpoint {path} was pretrained with {name} = {theirs}, this run has {ours}; "
                f"set `model.{name}={theirs}`"
            )


def start_from(
    cls: type[M],
    path: str,
    config: RecommenderConfig,
    corpus: Corpus,
    revision: str | None = None,
    *,
    rename: Mapping[str, str] = MappingProxyType({}),
) -> M:
    """A model for ``corpus`` whose encoder starts from the checkpoint at ``path``; the corpus may be another.

    Its feature sets are found among the checkpoint's by what they are (:mod:`seqmm.data.identity`), whatever either is
    called; the model may read fewer. What the checkpoint lacks (item ids, a new head) starts fresh. The checkpoint's
    corpus is recorded in ``config.pretrained_on``, with the sha256 of its weights and, of a Hub repository, the commit
    as ``checkpoint_revision``.

    Args:
        cls: of the model to be.
        path: folder, or ``org/name`` on the Hub.
        config: of the model to be; not changed.
        corpus: what it is for.
        revision: of a Hub repository: a branch, tag or commit; None = main.
        rename: feature sets of the corpus -> the checkpoint's that they are, where their provenance does not tell.

    Raises:
        ValueError: if an encoder weight is missing or of another shape, or a feature set is none, or may be several,
            of the checkpoint's.
    """
    directory = local_folder(path, revision=revision)
    before = load_config(directory)
    check_start(cls, path, before, config)
    config = fill(config, corpus)
    weights = whole_weights(directory)  # all the checkpoint's own, before any is left behind
    config.pretrained_on = before.corpus | {"checkpoint": path, "weights": file_digest(directory / WEIGHTS)}
    if origin := origin_of(path, directory):
        config.pretrained_on["checkpoint_revision"] = origin["revision"]
    names = match_sets(
        {name: config.features[name] for name in config.reads()},
        {name: before.features[name] for name in before.reads()},
        rename=rename,
        who=f"corpus {corpus.name!r}",
        whose=f"the checkpoint {path}",
        remedy="name the set (`data.rename=OURS=THEIRS`), or leave it out (`data.features`)",
        needed=bool(cls.encoder_fields),  # a new modality of an encoder would not be pretrained
    )
    if fresh := [name for name in config.reads() if name not in names]:
        logger.warning("%s has no feature set like %s, whose weights start fresh", path, ", ".join(fresh))
    _keep_order(config, before, names)
    model = _with_weights(cls, path, config, before, _named_as(cls, config, weights, before.reads(), names))
    if before.corpus.get("fingerprint") != config.corpus["fingerprint"]:
        for name, module in model.named_modules():  # ids of another corpus mean nothing here
            if isinstance(module, nn.Embedding) and not name.startswith(cls.base_model_prefix + "."):
                model._init_weights(module)
    model.initialise(corpus)
    return model.bind(corpus)


def _with_weights(
    cls: type[M], path: str, config: RecommenderConfig, before: RecommenderConfig, weights: dict[str, Tensor]
) -> M:
    """A model with the weights given; what they lack outside its encoder starts fresh."""
    with torch.device("meta"):
        expected = cls(config).state_dict()
    with quietly():
        model: M = cls.from_pretrained(None, config=config, state_dict=weights, ignore_mismatched_sizes=True)
    inside = cls.base_model_prefix + "."
    missing = sorted(key for key in expected.keys() - weights.keys() if key.startswith(inside))
    shapes = {key: (tuple(weights[key].shape), tuple(expected[key].shape)) for key in expected.keys() & weights.keys()}
    other = [
        f"{key} is {was}, here {now}"
        for key, (was, now) in sorted(shapes.items())
        if was != now and (key.startswith(inside) or not _resized(was, now, before, config))
    ]
    if missing or other:
        what = [f"it lacks {', '.join(missing)}"] * bool(missing) + [f"other shapes: {', '.join(other)}"] * bool(other)
        raise ValueError(
            f"the checkpoint {path} does not fit: {'; '.join(what)}. Use the features and the sizes of its run.yaml"
        )
    if not shapes:
        raise ValueError(f"the checkpoint {path} has no weight that a {config.model_type} of these options has")
    return model


def _resized(was: tuple[int, ...], now: tuple[int, ...], before: RecommenderConfig, config: RecommenderConfig) -> bool:
    """Whether two shapes differ in the number of users or items alone: a table that starts fresh on another corpus."""
    counts = {(getattr(before, name), getattr(config, name)) for name in ("num_users", "num_items")}
    counts |= {(before.num_users + before.num_items, config.num_users + config.num_items)}
    return len(was) == len(now) and all(a == b or (a, b) in counts for a, b in zip(was, now, strict=True))


def _keep_order(config: RecommenderConfig, before: RecommenderConfig, names: Mapping[str, str]) -> None:
    """Puts feature sets into the checkpoint's order, since weights that mix them know them by their place."""
    places = {name: place for place, name in enumerate(before.feature_order)}
    config.feature_order.sort(key=lambda name: places.get(names.get(name, ""), len(places)))
    for ours, theirs in names.items():
        known_as = before.features[theirs].get("pretrained_as", theirs)
        if known_as != ours:
            config.features[ours]["pretrained_as"] = known_as


def _named_as(
    cls: type[Recommender],
    config: RecommenderConfig,
    weights: dict[str, Tensor],
    theirs: Sequence[str],
    names: Mapping[str, str],
) -> dict[str, Tensor]:
    """A checkpoint's weights under the keys they have in a model of ``config``; those of a set it does not read go.

    Args:
        cls: of the model, whose modules and parameters by feature set say which part of a key is the name of one.
        config: of the model.
        weights: by the checkpoint's keys.
        theirs: names of the checkpoint's feature sets.
        names: the model's name of a set -> the checkpoint's.
    """
    if all(name == known for name, known in names.items()):
        return weights
    with torch.device("meta"):
        outline = cls(config)
    ours = {known: name for name, known in names.items()}
    moved: dict[str, str | None] = {}
    for place, module in outline.named_modules():
        if isinstance(module, nn.ModuleDict | nn.ParameterDict) and set(module) & set(names):
            moved |= {f"{place}.{known}": f"{place}.{ours[known]}" if known in ours else None for known in theirs}
    named = {}
    for key, value in weights.items():
        old = next((start for start in moved if key == start or key.startswith(f"{start}.")), None)
        if old is None:
            named[key] = value
        elif (new := moved[old]) is not None:
            named[new + key[len(old) :]] = value
    return named
