"""The class of a model by its ``model_type``, and the list of all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seqmm.registry import MODELS

if TYPE_CHECKING:
    from seqmm.models.base import Recommender
    from seqmm.names import Objective


def model_class(model_type: str, *, pretraining: bool = False) -> type[Recommender]:
    """The class that recommends, or the one that pretrains.

    Raises:
        ValueError: an unknown name, or a model without such a head.
    """
    objective: Objective = "pretraining" if pretraining else "recommendation"
    found = _heads(model_type).get(objective)
    if found is None:
        can = ", ".join(name for name in MODELS.names() if objective in _heads(name)) or "none"
        other = "recipes/train.py" if pretraining else "recipes/pretrain.py"
        raise ValueError(f"{model_type} has no {objective} head; models that have one: {can}. Use {other} instead")
    return found


def model_index() -> str:
    """All registered models as a Markdown table: name, first sentence, paper (docs/models.md is made of it)."""
    lines = ["| `model_type` | | Paper |", "|---|---|---|"]
    for name in sorted(MODELS.names()):
        cls = model_class(name)
        paper = "" if cls.paper is None else str(cls.paper)
        if cls.paper is not None and cls.paper.url:
            paper = f"[{paper}]({cls.paper.url})"
        lines.append(f"| `{name}` | {(cls.__doc__ or '').splitlines()[0]} | {paper} |")
    return "\n".join(lines)


def _heads(model_type: str) -> dict[Objective, type[Recommender]]:
    return {cls.objective: cls for cls in MODELS.classes(model_type)}
