"""An extractor of one's own: how often each letter occurs in an item's title.

In the folder of this file:

  python …/recipes/extract.py --corpus corpora/mine --features my_extractor:Letters --letters aeiou

makes the feature set "letters"; --features my_extractor:Letters --help shows its flags.
"""

from dataclasses import dataclass

import numpy as np

from seqmm import Extractor, Found, Options, option


@dataclass(frozen=True)
class LettersOptions(Options):
    letters: str = option("abcdefghijklmnopqrstuvwxyz", "Letters that are counted.")


class Letters(Extractor):
    """A vector of how often each letter occurs in the item's title."""

    name = "letters"
    Options = LettersOptions
    columns = ("title",)  # of the items table

    def __init__(self, letters: str):
        self.letters, self.dim = letters, len(letters)
        self.provenance = {"encoder": "letters", "letters": letters}  # what decides the numbers

    def __call__(self, rows, advance):
        titles = [(row["title"] or "").lower() for row in rows]
        counts = [np.array([[title.count(letter) for letter in self.letters]], np.float32) for title in titles]
        return [Found(count) if count.any() else Found(count[:0], "no letters") for count in counts]
