"""Names that stand in several places: choices and splits, how a wrong one is answered, how a few of many are shown."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

Split = Literal["train", "validation", "test"]
EvaluatedSplit = Literal["validation", "test"]
Protocol = Literal["leave_one_out", "ratio", "temporal", "cold", "given"]
"""How interactions are split: last item, per-user random 8:1:1, global time, items held out, labels of the source."""
Mask = Literal["train", "history", "none"]
"""Seen items left out of a ranking: those of train, all that is known (at test train + validation), or none."""
MaskChoice = Literal["auto", "train", "history", "none"]
"""auto = history for leave_one_out, temporal and cold, train for ratio and given."""
Ideal = Literal["test", "retrieved"]
"""NDCG's ideal list: of the test items, or of the hits in the retrieved list (as MMSSL prints it)."""
MetricName = Literal["recall", "precision", "ndcg", "map", "mrr", "hit", "coverage", "popularity"]
FeatureKind = Literal["dense", "ragged", "tags"]
TieOrder = Literal["seeded", "source"]
IndexOrder = Literal["permuted", "source"]
Duplicates = Literal["first", "last", "keep"]
DuplicateItems = Literal["first", "refuse"]
UnknownItems = Literal["keep", "drop", "refuse"]
TimeUnit = Literal["auto", "s", "ms", "us", "ns"]
"""Of numbers since 1970; auto = told by their size."""
Objective = Literal["pretraining", "recommendation"]
"""Which head of a two-stage model is trained."""
MixedPrecision = Literal["no", "bf16", "fp16"]
OptimizerName = Literal[
    "Adam", "AdamW", "SGD", "Adadelta", "Adafactor", "Adagrad", "Adamax", "ASGD", "Muon", "NAdam", "RAdam", "RMSprop",
    "Rprop", "SparseAdam",
]  # fmt: skip
"""Classes of torch.optim that make a step without a closure."""
Schedule = Literal["constant", "cosine", "decay"]
Storage = Literal["float32", "float16"]
"""How vectors are stored; they are read as float32."""
TextPooling = Literal["mean", "cls"]
"""What of a text encoder's tokens is a text's vector: their mean, or the first one."""
ImagePooling = Literal["pooler", "mean", "cls"]
AudioPooling = Literal["mean", "pooler"]
StatePooling = Literal["mean", "last"]
"""What of a language model's states is a product's vector."""
EncoderPrecision = Literal["float32", "bfloat16"]
"""What an encoder computes in."""
VectorKind = Literal["dense", "ragged"]
"""One vector an item, or several."""
RepositoryKind = Literal["model", "dataset"]
Targets = Literal["every", "prefix"]
"""What a history trains: each position predicts the next, or each prefix is an example of its own."""
PositionCode = Literal["sincos", "random", "none"]
Fuse = Literal["sum", "concat", "gate"]
EdgeWeight = Literal["binary", "cosine"]
"""Of a kNN graph."""
Normalisation = Literal["sym", "rw", "rw_sqrt", "sym_self", "rw_self"]
CriticNorm = Literal["none", "layer", "batch"]
CriticOutput = Literal["linear", "sigmoid"]
MissingVector = Literal["mean", "error"]
"""What an item without a vector gets: the mean of the others, or an error."""

Backend = Literal["exact", "faiss"]
"""Of an index: every item is scored, or an inner-product index is searched."""

SPLITS: tuple[Split, ...] = get_args(Split)
PROTOCOLS: tuple[str, ...] = get_args(Protocol)
OPTIMIZERS: tuple[str, ...] = get_args(OptimizerName)

SHOWN = 5
"""Ids named of those that are counted."""


def nearest(name: object, known: Iterable[str]) -> str:
    """The end of an error's sentence: "; did you mean 'lightgcn'?", or all that is known where nothing is near."""
    known = list(known)
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known) or 'none'}"


def brief(value: object, limit: int = 200) -> str:
    """A value as Python writes it, in one line of at most ``limit`` characters, however large it is or deep."""
    text = _brief(value, 4)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _brief(value: object, depth: int) -> str:
    if isinstance(value, dict | list | tuple):
        left, right = "{}" if isinstance(value, dict) else "[]" if isinstance(value, list) else "()"
        if value and not depth:
            return f"{left}…{right}"
        first = list(itertools.islice(value.items() if isinstance(value, dict) else value, 40))
        if isinstance(value, dict):
            parts = [f"{_brief(key, depth - 1)}: {_brief(entry, depth - 1)}" for key, entry in first]
        else:
            parts = [_brief(entry, depth - 1) for entry in first]
        end = ", …" if len(value) > len(first) else "," if isinstance(value, tuple) and len(value) == 1 else ""
        return f"{left}{', '.join(parts)}{end}{right}"
    if isinstance(value, str | bytes):
        return repr(value) if len(value) <= 400 else f"{value[:400]!r}…"
    if isinstance(value, int) and value.bit_length() > 1000:
        return "a whole number of very many digits"
    return repr(value)


def counted(ids: Sequence[str]) -> str:
    """How many ids, and the first few: 7 ('a', 'b', 'c', 'd', 'e', …)."""
    if not ids:
        return "0"
    shown = ", ".join(map(repr, ids[:SHOWN]))
    return f"{len(ids):,} ({shown}{', …' if len(ids) > SHOWN else ''})"


def pairs(values: Sequence[str], flag: str) -> dict[str, str]:
    """What a flag of several ``name=value`` holds, as a dict.

    Raises:
        ValueError: one without "=", or a name given twice.
    """
    found: dict[str, str] = {}
    for value in values:
        name, equals, rest = value.partition("=")
        if not equals or not name:
            raise ValueError(f"{flag} {value}: expected name=value")
        if name in found:
            raise ValueError(f"{flag} {value}: {name!r} was given {found[name]!r} already")
        found[name] = rest
    return found


def first_difference(old: Any, new: Any, path: str = "") -> tuple[str, Any, Any] | None:
    """``(path, old, new)`` of the first entry in which two nested dicts differ; None if they are equal."""
    if old == new:
        return None
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            if key not in old or key not in new or old[key] != new[key]:
                return first_difference(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
    return path, old, new
