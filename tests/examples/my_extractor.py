"""Letters: how often each letter occurs in an item's title, an extractor of one's own in twenty lines.

In the folder of this file, with its own flags, which ``--features my_extractor:Letters --help`` shows:

  python …/recipes/extract.py --corpus corpora/mine --features my_extractor:Letters --letters aeiou
"""

from dataclasses import dataclass

import numpy as np

import seqmm


@dataclass(frozen=True)
class LettersOptions(seqmm.Options):
    """Letters' options."""

    letters: str = seqmm.option("abcdefghijklmnopqrstuvwxyz", "Letters that are counted.")


@seqmm.register
class Letters(seqmm.Extractor):
    """A vector of how often each letter occurs in the item's title."""

    name = "letters"  # of the feature set, too
    options_class = LettersOptions
    columns = ("title",)  # of the items table

    def __init__(self, letters: str):
        self.letters, self.dim = letters, len(letters)
        self.provenance = {"encoder": "letters", "letters": letters}  # what decides the numbers

    def __call__(self, rows, advance):
        titles = [(row["title"] or "").lower() for row in rows]
        counts = [np.array([[title.count(letter) for letter in self.letters]], np.float32) for title in titles]
        return [seqmm.Found(row) if row.any() else seqmm.Found(row[:0], "no letters") for row in counts]
