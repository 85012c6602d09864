"""Refusals of values that no option checks: a function's choices, and counts that the corpus bounds."""

from __future__ import annotations

from collections.abc import Iterable

from seqmm.names import nearest


def check_choice(what: str, value: object, choices: Iterable[str]) -> None:
    """Raises ValueError unless ``value`` is one of the choices, naming the nearest one."""
    choices = list(choices)
    if value not in choices:
        raise ValueError(f"unknown {what} {value!r}{nearest(value, choices)}")


def check_count(field: str, count: int, num_items: int, kind: str = "items") -> None:
    """Raises ValueError if ``count``, the value of a model's ``field``, is more than the number of items (or users)."""
    if count > num_items:
        raise ValueError(f"model.{field} is {count}, but the corpus has {num_items} {kind}; choose 1 to {num_items}")


def check_edge_keep(share: float, num_edges: int) -> None:
    """Raises ValueError unless ``share`` is at least one of the edges."""
    if int(share * num_edges) == 0:
        raise ValueError(
            f"model.edge_keep is {share}, which keeps none of the {num_edges} edges; choose a larger share"
        )
