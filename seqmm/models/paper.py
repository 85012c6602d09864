"""The paper a model is from, as data on its class: model cards and the paper index print it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Paper:
    """Cites a paper; what is not known is left empty and printed nowhere.

    >>> paper = Paper("A Title", ("He", "others"), "SIGIR", 2020)
    >>> str(paper)
    'He et al., A Title, SIGIR 2020'
    >>> print(paper.bibtex("lightgcn"))
    @inproceedings{lightgcn,
      title = {{A Title}},
      author = {He and others},
      booktitle = {SIGIR},
      year = {2020},
    }
    """

    title: str
    authors: tuple[str, ...]
    """Family names; "others" at the end stands for the rest of them."""
    venue: str
    """Conference or journal; "" for a preprint."""
    year: int
    kind: Literal["conference", "journal", "preprint"] = "conference"
    arxiv: str = ""
    """Number on arXiv: 2002.02126."""

    @property
    def url(self) -> str:
        """Its page on arXiv, or ""."""
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else ""

    def __str__(self) -> str:
        names = self.authors[:-1] if self.authors[-1:] == ("others",) else self.authors
        who = ", ".join(names[:-1]) + " and " * (len(names) > 1) + "".join(names[-1:])
        who += " et al." if names != self.authors else ""
        where = self.venue or (f"arXiv {self.arxiv}," if self.arxiv else "")
        return ", ".join(part for part in (who, self.title, f"{where} {self.year}".strip()) if part)

    def bibtex(self, key: str) -> str:
        """An entry for a bibliography, under a key of one's choice."""
        entry, place = {
            "conference": ("inproceedings", "booktitle"),
            "journal": ("article", "journal"),
            "preprint": ("misc", "howpublished"),
        }[self.kind]
        fields = {
            "title": f"{{{self.title}}}" if self.title else "",  # doubled braces keep the capitals
            "author": " and ".join(self.authors),
            place: self.venue,
            "year": str(self.year),
            "eprint": self.arxiv,
            "archiveprefix": "arXiv" if self.arxiv else "",
        }
        lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
        return "\n".join([f"@{entry}{{{key},", *lines, "}"])
