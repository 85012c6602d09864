"""Refusals of options that are out of range or do nothing, called where the options are read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from seqmm.names import nearest


def check_choice(what: str, value: object, choices: Iterable[str]) -> None:
    """Raises ValueError unless ``value`` is one of the choices, naming the nearest one."""
    choices = list(choices)
    if value not in choices:
        raise ValueError(f"unknown {what} {value!r}{nearest(value, choices)}")


def check_count(field: str, count: int, num_items: int, kind: str = "items") -> None:
    """Raises ValueError unless ``count``, the value of a model's ``field``, is 1 to the number of items (or users)."""
    if not 1 <= count <= num_items:
        raise ValueError(f"model.{field} is {count}, but the corpus has {num_items} {kind}; choose 1 to {num_items}")


def check_edge_keep(share: float, num_edges: int) -> None:
    """Raises ValueError unless ``share`` is above 0 and at most 1, and at least one of the edges."""
    if not 0 < share <= 1:
        raise ValueError(
            f"model.edge_keep is {share}, a share of the edges; choose above 0 and at most 1 (all of them)"
        )
    if int(share * num_edges) == 0:
        raise ValueError(
            f"model.edge_keep is {share}, which keeps none of the {num_edges} edges; choose a larger share"
        )


def check_share(*, whole: bool = False, section: str = "model", **shares: float) -> None:
    """Raises ValueError unless the options, given by name, are at least 0 and below 1 (or at most 1, if ``whole``)."""
    for option, share in shares.items():
        if not (0 <= share <= 1 if whole else 0 <= share < 1):
            most = "at most 1" if whole else "below 1"
            raise ValueError(f"{section}.{option} is {share}, a share; choose at least 0 and {most}")


def check_least(least: float, section: str = "model", **counts: float) -> None:
    """Raises ValueError unless the options, given by name, are at least ``least``."""
    for option, count in counts.items():
        if not count >= least:  # nor NaN
            raise ValueError(f"{section}.{option} is {count}; choose {least} or more")


def check_positive(section: str = "model", **values: float) -> None:
    """Raises ValueError unless the options, given by name, are above 0."""
    for option, value in values.items():
        if not value > 0:
            raise ValueError(f"{section}.{option} is {value}; choose a number above 0")


def check_idle(because: str, **options: tuple[Any, Any]) -> None:
    """Raises ValueError if an option is set although it does nothing ``because`` of another one.

    Args:
        because: the other option and what it does.
        options: by name, the value and that of a config where it is not set.
    """
    for option, (value, unset) in options.items():
        if value != unset:
            raise ValueError(f"model.{option} is {value}, but does nothing: {because}; leave {option} out")
