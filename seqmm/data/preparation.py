"""Settings of how interactions become a corpus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from seqmm.names import DuplicateItems, Duplicates, IndexOrder, Protocol, TieOrder, UnknownItems
from seqmm.options import OptionError, Options, option


@dataclass(frozen=True)
class Treatment(Options):
    """What is done to interactions and items whatever the protocol."""

    duplicates: Duplicates = option("first", "Which of a user's interactions with one item stays.")
    tie_order: TieOrder = option(
        "seeded",
        "Order of a user's interactions at one time: a seeded hash, or as in the file (which can tell the label).",
    )
    index_order: IndexOrder = option(
        "permuted", "Numbering of users and items: seeded random, or the file's (which can tell the label)."
    )
    validation: float = option(
        0.1, "Share of the interactions (temporal) or items (cold) for the validation split.", above=0, below=1
    )
    test: float = option(
        0.1, "Share of the interactions (temporal) or items (cold) for the test split.", above=0, below=1
    )
    seed: int = option(0, "Seed of the numbering, the ties, and the random protocols.")
    duplicate_items: DuplicateItems = option(
        "first", "An id with several rows in the items table: the first counts, or an error."
    )
    unknown_items: UnknownItems = option(
        "keep",
        "Interactions with items that are not in the items table: keep them (without text), drop them (as UniSRec "
        "does), or an error.",
    )

    def check(self) -> None:
        if self.validation + self.test >= 1:
            problem = f" is {self.validation} and test {self.test}; choose two shares whose sum is below 1"
            raise OptionError(type(self).__name__, "validation", problem)


@dataclass(frozen=True)
class Preparation(Treatment):
    """How one protocol is made of a log."""

    protocol: Protocol = option("leave_one_out", "How to split: see :data:`seqmm.names.PROTOCOLS`.")
    k_core: int = option(
        5, "Users and items with fewer interactions are dropped, again and again; 0 or 1 = none.", least=0
    )
    drop_untrained: bool = option(
        False,
        "With the protocol given, drop users without a train interaction instead of refusing them; temporal and cold "
        "always drop them.",
    )


class PreparationValues(TypedDict, total=False):
    """The options of :class:`Preparation` as keyword arguments."""

    protocol: Protocol
    k_core: int
    drop_untrained: bool
    duplicates: Duplicates
    tie_order: TieOrder
    index_order: IndexOrder
    validation: float
    test: float
    seed: int
    duplicate_items: DuplicateItems
    unknown_items: UnknownItems
