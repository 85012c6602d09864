"""What an extractor is: a class that turns rows of the items table into vectors, with options of its own.

Every extractor of the package is a file of :mod:`seqmm.features.extractors`; one of one's own is a class like those, in
a file of one's own, and ``--features my_module:MyExtractor`` names it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from seqmm.names import VectorKind
from seqmm.options import Options as NoOptions
from seqmm.options import option_fields
from seqmm.registry import EXTRACTORS, Registry

if TYPE_CHECKING:
    from seqmm.features.tools import Tools


@dataclass
class Found:
    """Holds what an extractor made of one item.

    >>> import numpy as np
    >>> import seqmm
    >>> seqmm.Found(np.zeros((0, 4), np.float32), note="no text").note
    'no text'
    """

    vectors: np.ndarray
    """``[n, d]`` float32; n = 0: nothing to be had, n = 1 in a dense set."""
    note: str = ""
    """What is missing or wrong, as ``what`` or ``what: detail``; the card counts by ``what``."""
    words: Sequence[str] = ()
    """What a person can read of each vector (keywords, a caption), or none at all."""


class Transform(Protocol):
    """What needs all items at once: PCA, a mean over all images."""

    dim: int
    """Width of the result."""
    passes: int
    """How often it must see all vectors before it can be applied."""
    settings: dict[str, str]
    """What it was made with, beside what the extractor's provenance and source say already."""
    provenance: dict[str, str]
    """Known after the last pass."""

    def update(self, number: int, vectors: np.ndarray) -> None:
        """A block ``[N, d]`` of pass ``number``."""
        ...

    def end_pass(self, number: int) -> None:
        """All blocks of it were seen."""
        ...

    def __call__(self, vectors: np.ndarray) -> tuple[np.ndarray, list[str] | None]:
        """``[N, d] -> [N, dim]``, and a string of words for each row if it makes some. Affine for a dense set."""
        ...


class Extractor(ABC):
    """Turns rows of the items table into vectors; what it gives for an item depends on its shard's rows alone.

    A subclass says ``name``, ``columns``, ``dim`` and ``provenance`` and is called with rows. Its flags are the fields
    of its ``options_class``; without a :meth:`make` of its own, they are its constructor's arguments.

    >>> import numpy as np
    >>> import seqmm
    >>> class Length(seqmm.Extractor):
    ...     name, columns, dim, provenance = "length", ("title",), 1, {"encoder": "length of the title"}
    ...
    ...     def __call__(self, rows, advance):
    ...         return [seqmm.Found(np.float32([[len(row["title"])]])) for row in rows]
    >>> [found.vectors.tolist() for found in Length()([{"id": "1", "title": "tea"}], advance=print)]
    [[[3.0]]]
    """

    registry: ClassVar[Registry] = EXTRACTORS
    name: ClassVar[str]
    """Of the extractor, and of the feature set it makes."""
    options_class: ClassVar[type[Any]] = NoOptions
    """A frozen dataclass of :func:`seqmm.options.option` fields: its flags."""

    kind: VectorKind = "dense"
    """One vector an item, or any number."""
    columns: tuple[str, ...] = ()
    """Columns of the items table it reads, beside ``id``."""
    dim: int
    """Width of what it makes, before the transform."""
    provenance: dict[str, str]
    """Encoder, weights, pooling, prompt …: two sets with the same provenance are comparable, whatever they were read
    from. A checkpoint refuses others."""
    source: Mapping[str, str] = MappingProxyType({})
    """What is read (columns and recipe, files, a vocabulary; digested where long): shards of another are refused."""
    transform: Transform | None = None
    """What needs all items at once."""

    @classmethod
    def make(cls, options: Any, tools: Tools) -> Extractor:
        """An extractor by its options, for a corpus.

        Args:
            options: an object of ``options_class``.
            tools: the corpus, the device, and encoders that are loaded already.
        """
        return cls(**{each.name: getattr(options, each.name) for each in option_fields(cls.options_class)})

    @abstractmethod
    def __call__(self, rows: list[dict[str, Any]], advance: Callable[[int], object]) -> list[Found]:
        """One entry a row; ``advance(n)`` moves the progress bar by n rows."""

    def beside(self, name: str) -> dict[str, str]:
        """Text files that are written into the corpus' folder beside the finished set: file name -> text.

        Args:
            name: of the set.
        """
        return {}
