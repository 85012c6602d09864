"""Feature sets by what they are, not by what they are called."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NotRequired, TypedDict

from seqmm.data.feature_sets import Features
from seqmm.names import FeatureKind, first_difference
from seqmm.schema import Count, Name, ShortDigest

Description = Mapping[str, Any]
"""What a checkpoint remembers of a feature set: ``kind``, ``dim``, ``provenance``, and of tags ``vocabulary``."""


class DescriptionRecord(TypedDict):
    """A :data:`Description` as a config file holds it."""

    kind: FeatureKind
    dim: Count
    provenance: dict[str, str]
    vocabulary: NotRequired[ShortDigest]
    pretrained_as: NotRequired[Name]
    """What the checkpoint that the model started from called it, if something else."""


LABELS = {
    "weights": ("encoder", "revision"),
    "tagger_weights": ("tagger", "tagger_revision"),
    "caption_weights": ("caption", "caption_revision"),
}
"""Entries of a provenance that a digest of the weights makes idle: one encoder in a folder and on the Hub has two."""


def describe(features: Features) -> dict[str, Any]:
    """What a checkpoint remembers of a feature set in memory."""
    return description(features.kind, features.dim, features.provenance, features.vocabulary)


def description(
    kind: str, dim: int, provenance: Mapping[str, str], vocabulary: Sequence[str] | None = None
) -> dict[str, Any]:
    """A :data:`Description`; a vocabulary is kept as the first 16 hex digits of its sha256."""
    about: dict[str, Any] = {"kind": kind, "dim": dim, "provenance": dict(provenance)}
    if vocabulary is not None:
        about["vocabulary"] = hashlib.sha256("\0".join(vocabulary).encode()).hexdigest()[:16]
    return about


def identity(about: Description) -> dict[str, Any]:
    """What two feature sets must share for one model to read both.

    Of vectors kind, width and provenance (encoder, weights, pooling, unit, prompt …), without what does not touch the
    numbers of an item that has content: how missing items were filled, and the label and revision of weights whose
    digest is known. Of tags the vocabulary, since a model knows a tag by its number.
    """
    if about["kind"] == "tags":
        return {"kind": "tags", "vocabulary": about.get("vocabulary")}
    said = dict(about["provenance"])
    idle = {"missing"} | {label for digest, labels in LABELS.items() if digest in said for label in labels}
    made = {key: value for key, value in said.items() if key not in idle}
    return {"kind": about["kind"], "width": about["dim"], "provenance": made}


def difference(one: Description, other: Description) -> tuple[str, Any, Any] | None:
    """``(what, one's, the other's)`` of the first thing in which two sets' identities differ; None for equal sets."""
    ours, theirs = identity(one), identity(other)
    if ours != theirs and ours["kind"] == theirs["kind"] != "tags":
        keys = dict.fromkeys((*ours["provenance"], *theirs["provenance"]))  # of both what was recorded, idle or not
        for mine, about in ((ours, one), (theirs, other)):
            mine["provenance"] = {key: about["provenance"][key] for key in keys if key in about["provenance"]}
    return first_difference(ours, theirs)


def match_sets(
    wanted: Mapping[str, Description],
    given: Mapping[str, Description],
    *,
    rename: Mapping[str, str] = MappingProxyType({}),
    who: str,
    whose: str,
    remedy: str,
    needed: bool = True,
) -> dict[str, str]:
    """For each wanted feature set the name of the given one that is the same.

    First come pairs that ``rename`` names, of which only kind and width are compared; then equal sets of equal name;
    then the one equal set that is left. A set without provenance is nothing but its name.

    Args:
        wanted: name -> description.
        given: name -> description; more than are wanted may be given.
        rename: wanted name -> given name.
        who: wants, for the error.
        whose: are given, for the error.
        remedy: what to do, for the error.
        needed: whether a wanted set without any equal is an error; else it is left out.

    Raises:
        ValueError: a wanted set has none or several equal ones, or that of its name was made by another encoder.
    """
    found = _renamed(wanted, given, rename, who, whose)
    for name in wanted:
        taken = name in found or name in found.values()
        if name in given and not taken and identity(given[name]) == identity(wanted[name]):
            found[name] = name
    left = [name for name in wanted if name not in found]
    free = [name for name in given if name not in found.values()]
    equal = {name: [other for other in free if _equal(wanted[name], given[other])] for name in left}
    for name in left:
        rivals = [other for other in left if set(equal[other]) & set(equal[name])]
        if len(equal[name]) == 1 and len(rivals) == 1:
            found[name] = equal[name][0]
        elif equal[name]:
            raise ValueError(
                f"{_listed(rivals)} of {who} may be {_listed(equal[name])} of {whose}, all made by one encoder: which "
                f"is which? {remedy}"
            )
        elif name in given and (unlike := difference(wanted[name], given[name])) is not None:
            key, ours, theirs = unlike
            raise ValueError(
                f"feature set {name!r} of {whose} has {key} {theirs!r}, but that of {who} has {ours!r}; extract it "
                f"again with the same encoder, or: {remedy}"
            )
        elif needed:
            raise ValueError(
                f"{who} needs feature set {shown(name, wanted[name])}, and {whose} has no equal one; it has "
                f"{', '.join(shown(*item) for item in given.items()) or 'none'}: {remedy}"
            )
    return {name: found[name] for name in wanted if name in found}


def _renamed(
    wanted: Mapping[str, Description], given: Mapping[str, Description], rename: Mapping[str, str], who: str, whose: str
) -> dict[str, str]:
    for ours, theirs in rename.items():
        for name, known, place in ((ours, wanted, who), (theirs, given, whose)):
            if name not in known:
                raise ValueError(f"data.rename: {place} has no feature set {name!r}; it has {_listed(list(known))}")
        for key in ("kind", "dim"):
            if wanted[ours][key] != given[theirs][key]:
                raise ValueError(
                    f"data.rename: {shown(ours, wanted[ours])} of {who} cannot be {shown(theirs, given[theirs])} of "
                    f"{whose}: they differ in {key}"
                )
    if len(set(rename.values())) < len(rename):
        raise ValueError(f"data.rename: a name stands for two sets ({', '.join(map('='.join, rename.items()))})")
    return dict(rename)


def _equal(one: Description, other: Description) -> bool:
    """Whether two sets of different names are the same: vectors of an unknown encoder are not."""
    said = identity(one)
    return said == identity(other) and bool(said.get("provenance") or said.get("vocabulary"))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "none"


def shown(name: str, about: Description) -> str:
    """A feature set for an error: 'text' (dense, 384, all-MiniLM-L6-v2, item)."""
    said = about["provenance"]
    details = [about["kind"], str(about["dim"]), *(said[key] for key in ("encoder", "unit", "column") if key in said)]
    return f"{name!r} ({', '.join(details)})"
