"""Full-ranking evaluation: every user with a target against the whole catalogue, per user first, mean second."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, get_args

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from seqmm.checks import check_choice
from seqmm.data.corpus import Corpus
from seqmm.data.interactions import Ragged
from seqmm.distributed import placed
from seqmm.evaluation.metrics import LIST_METRICS, METRICS, TopK, count_ranks, listed, mean_popularity, place
from seqmm.models.base import Recommender, bound
from seqmm.names import EvaluatedSplit, Ideal, Mask, MaskChoice, Split
from seqmm.random import hash_ints

if TYPE_CHECKING:
    from accelerate import Accelerator

Batch = dict[str, Tensor]
Scorer = Callable[[Batch], Callable[[slice], Tensor]]
"""Takes a scoring batch, returns what gives ``[B, n]`` scores of a slice of the items: a new tensor, written into."""

HISTORY_MASKED = ("leave_one_out", "temporal", "cold")
"""Protocols whose "auto" masks all that is known of a user; the papers on ratio and given mask train alone."""

BLOCK = 1 << 25
"""Scores held at a time: users x items of a block (128 MB in float32)."""


class Evaluator:
    """Ranks one split of a corpus.

    The mask names the items left out of a user's ranking: ``history`` (all that is known of the user: train, at test
    train + validation; "auto" for leave_one_out, temporal and cold), ``train`` (MMRec's and MMSSL's protocol, "auto"
    for ratio and given) or ``none`` (repeat consumption). A target that is itself masked counts as missed, and a
    warning says how many there are.

    Users are cut into the same blocks for any number of processes and the blocks are dealt out, so results do not
    depend on it, bit by bit. Memory: ``batch_size`` users x a block of items, 128 MB, whatever the catalogue.

    Args:
        corpus: the corpus.
        split: "validation" or "test".
        ks: cut-offs.
        metrics: of recall, precision, ndcg, map, mrr, hit (ties: :mod:`seqmm.evaluation.metrics`), and coverage (share
            of the catalogue in any list) and popularity (mean train interactions of the listed items).
        mask: "auto", "train", "history" or "none".
        ideal: NDCG's ideal list, "test" or "retrieved" (list of max(ks) items).
        batch_size: users at a time.
        max_users: of validation, users ranked: a sample that depends on nothing but the users who have a target, so it
            is the same for every model, seed, epoch and process; a smaller sample is part of a larger one. 0 = all.

    Raises:
        ValueError: for an unknown metric or mask, a K larger than the catalogue, a split without rows, a sample of the
            test split.

    >>> import seqmm
    >>> corpus = seqmm.synthetic_corpus(num_users=60, num_items=40, protocol="ratio")
    >>> evaluator = seqmm.Evaluator(corpus, "validation", ks=[10], metrics=["recall"])
    >>> print(evaluator.describe())
    synthetic, ratio, validation: 60 users with 63 targets, ranked among all 40 items, mask = train, ideal = test
    >>> values = evaluator(None, seqmm.make_model("item_knn", corpus))
    >>> evaluator.per_user["recall@10"].shape
    (60,)
    """

    def __init__(
        self,
        corpus: Corpus,
        split: EvaluatedSplit,
        *,
        ks: Sequence[int] = (5, 10, 20),
        metrics: Sequence[str] = ("recall", "ndcg"),
        mask: MaskChoice = "auto",
        ideal: Ideal = "test",
        batch_size: int = 1024,
        max_users: int = 0,
    ):
        self.max_users = max_users
        self.corpus, self.split, self.ideal, self.batch_size = corpus, split, ideal, batch_size
        self.ks, self.metrics = tuple(sorted(set(ks))), tuple(metrics)
        if mask == "auto":
            mask = "history" if corpus.protocol in HISTORY_MASKED else "train"
        self.mask: Mask = mask
        """The rule in force: train, history or none."""
        self._check()
        before: dict[Mask, Split | None] = {"train": "train", "history": split, "none": None}
        seen = before[self.mask]
        self._seen = None if seen is None else corpus.histories(seen)
        targets = corpus.targets(split)
        key = np.unique(np.repeat(np.arange(corpus.num_users), targets.lengths) * corpus.num_items + targets.values)
        self.users_with_targets = len(np.unique(key // corpus.num_items))
        """Of whom :attr:`users` are all, or a sample."""
        key = self._sampled(key)
        self.targets = key % corpus.num_items
        """``[T]`` target items, sorted by user; a pair counts once."""
        self.users, self._starts = np.unique(key // corpus.num_items, return_index=True)
        """``[N]`` users with at least one target (that are sampled), ascending; the rows of :attr:`per_user`."""
        self._row = np.repeat(np.arange(len(self.users)), np.diff([*self._starts, len(key)]))
        self._starts = np.append(self._starts, len(key))
        self.train_counts = np.bincount(corpus.splits["train"].item, minlength=corpus.num_items)
        """``[num_items]`` train interactions."""
        self.per_user: dict[str, np.ndarray] = {}
        """Values of the last evaluation, "recall@20" -> ``[N]`` float64; significance needs them."""
        self._greater = self._equal = np.zeros(0, dtype=np.int64)
        self._warn_masked(key)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the metrics it computes: "recall@5", …"""
        return tuple(f"{metric}@{k}" for metric in self.metrics for k in self.ks)

    @property
    def rules(self) -> dict[str, str]:
        """How it ranks: the mask in force, NDCG's ideal list, and which users."""
        return {"mask": self.mask, "ideal": self.ideal, "users": self.sample or "all"}

    @property
    def sample(self) -> str | None:
        """ "validation on 2,000 of 39,387 users"; None where all are ranked."""
        ranked, all_users = len(self.users), self.users_with_targets
        return None if ranked == all_users else f"{self.split} on {ranked:,} of {all_users:,} users"

    @property
    def masked(self) -> str:
        """The mask in force and what it leaves out: "history (train + validation)"."""
        known = "train + validation" if self.split == "test" else "train"
        return f"history ({known})" if self.mask == "history" else self.mask

    def describe(self) -> str:
        """One line to print with every table."""
        c = self.corpus
        return (
            f"{c.name}, {c.protocol}, {self.sample or f'{self.split}: {len(self.users)} users'} with "
            f"{len(self.targets)} targets, ranked among all {c.num_items} items, mask = {self.masked}, "
            f"ideal = {self.ideal}"
        )

    def __call__(self, accelerator: Accelerator | None, model: torch.nn.Module) -> dict[str, float]:
        """Evaluates a model (wrapped or not) on all processes; each gets the same result.

        Args:
            accelerator: None = this process alone, on the model's device.
            model: bound to the corpus.

        Raises:
            ValueError: if the model scores NaN.
        """
        plain: Recommender = model if accelerator is None else accelerator.unwrap_model(model)  # type: ignore[assignment]
        training = plain.training
        device = plain.device if accelerator is None else accelerator.device
        plain.eval()
        try:
            with torch.no_grad(), placed(plain, device):
                tables = plain.tables()
                scorer = model_scorer(plain, tables)
                return self.evaluate(scorer, plain.history_length, accelerator, device=plain.device)
        finally:
            plain.train(training)

    @torch.no_grad()
    def evaluate(
        self,
        scorer: Scorer,
        history_length: int | None = 0,
        accelerator: Accelerator | None = None,
        *,
        device: str | torch.device = "cpu",
    ) -> dict[str, float]:
        """Evaluates any scoring function; :meth:`__call__` is this for a model.

        Args:
            scorer: see :data:`Scorer`. Scores are on the device; -inf = not ranked.
            history_length: latest items put in a batch; None = all.
            accelerator: says the device and the processes; None = this process alone.
            device: of the scores, without an accelerator.

        Returns:
            "metric@k" -> mean over users (coverage: over the catalogue).
        """
        device = torch.device(device) if accelerator is None else accelerator.device
        rank, world = (0, 1) if accelerator is None else (accelerator.process_index, accelerator.num_processes)
        greater, equal = torch.zeros(2, len(self.targets), dtype=torch.int64)
        wanted = [name for name in self.metrics if name in LIST_METRICS]
        popularity = torch.zeros(len(self.ks), len(self.users), dtype=torch.float64)
        covered = torch.zeros(len(self.ks), self.corpus.num_items, dtype=torch.bool)
        counts = torch.from_numpy(self.train_counts)
        starts = range(rank * self.batch_size, len(self.users), world * self.batch_size)
        for start in tqdm(starts, desc=f"evaluate {self.split}", disable=True if rank else None, delay=3, leave=False):
            stop = min(start + self.batch_size, len(self.users))
            first, last = self._starts[start], self._starts[stop]
            batch = scoring_batch(self.corpus.histories(self.split), self.users[start:stop], history_length, device)
            placed, lists = self._rank(scorer(batch), start, stop, device, need_lists=bool(wanted))
            greater[first:last], equal[first:last] = placed
            if lists is not None:
                for i, k in enumerate(self.ks):
                    popularity[i, start:stop] = mean_popularity(lists, k, counts)
                    covered[i] |= listed(lists, k, self.corpus.num_items)
        if accelerator is not None and world > 1:
            greater, equal, popularity, shown = (
                accelerator.reduce(x.to(device), "sum").cpu() for x in (greater, equal, popularity, covered.long())
            )
            covered = shown > 0
        self._greater, self._equal = greater.numpy(), equal.numpy()
        self.per_user = self._measure(np.arange(len(self.targets)))
        for i, k in enumerate(self.ks):
            if "popularity" in wanted:
                self.per_user[f"popularity@{k}"] = popularity[i].numpy()
        coverage = {f"coverage@{k}": float(covered[i].double().mean()) for i, k in enumerate(self.ks)}
        names = [f"{name}@{k}" for name in self.metrics for k in self.ks]
        return {name: coverage[name] if name in coverage else float(self.per_user[name].mean()) for name in names}

    def breakdown(self) -> dict[str, dict[str, float]]:
        """The last evaluation by kind of target; each part counts only its own targets, ranked among all items.

        Returns:
            "cold" (targets without a train row), "warm", and three popularity buckets of about equally many warm
            targets, named by their train counts ("train 1-4") -> {"users", "targets", "recall@20", …}; no empty parts.
        """
        count = self.train_counts[self.targets]
        parts = {"cold": count == 0, "warm": count > 0}
        warm = np.sort(count[count > 0])
        low = 1
        for third in (1, 2, 3):
            if len(warm) and (high := int(warm[(len(warm) * third - 1) // 3])) >= low:
                parts[f"train {low}-{high}"] = (count >= low) & (count <= high)
                low = high + 1
        table = {}
        for name, chosen in parts.items():
            targets = np.flatnonzero(chosen)
            if len(targets):
                values = self._measure(targets)
                sizes = {"users": float(len(np.unique(self._row[targets]))), "targets": float(len(targets))}
                table[name] = sizes | {metric: float(value.mean()) for metric, value in values.items()}
        return table

    def _rank(
        self, score: Callable[[slice], Tensor], start: int, stop: int, device: torch.device, need_lists: bool
    ) -> tuple[tuple[Tensor, Tensor], Tensor | None]:
        """``(greater, equal)`` of the targets of users ``start .. stop - 1``, and their lists ``[B, K]`` if needed."""
        n, k = self.corpus.num_items, self.ks[-1]
        mine = slice(self._starts[start], self._starts[stop])
        row = torch.from_numpy(self._row[mine] - start).to(device)
        item = torch.from_numpy(self.targets[mine]).to(device)
        masked_row, masked_item = self._masked(start, stop, device)
        block = max(1, BLOCK // (stop - start))
        # few targets, one block: comparing beats top-k 2-3x; otherwise one pass of top-k, as scores come only once
        counting = block >= n and not need_lists and len(row) <= 2 * (stop - start)
        target_scores = torch.empty(len(row), device=device)
        top = TopK(k)
        for begin in range(0, n, block):
            items = slice(begin, min(begin + block, n))
            scores = score(items).float()
            if bool(scores.amax(1).isnan().any()):
                user = int(self.users[start + int(scores.isnan().any(1).int().argmax())])
                raise ValueError(
                    f"the model scores NaN for user {user}; it has diverged, or reads an empty history or feature row"
                )
            here = (masked_item >= items.start) & (masked_item < items.stop)
            scores.index_put_((masked_row[here], masked_item[here] - begin), scores.new_tensor(-torch.inf))
            inside = (item >= items.start) & (item < items.stop)
            target_scores[inside] = scores[row[inside], item[inside] - begin]
            if counting:
                return count_ranks(scores, row, target_scores), None
            top.update(scores, begin)
        return top.ranks(row, target_scores), top.items.cpu() if need_lists else None

    def _masked(self, start: int, stop: int, device: torch.device) -> tuple[Tensor, Tensor]:
        if self._seen is None:
            empty = torch.zeros(0, dtype=torch.int64, device=device)
            return empty, empty
        row, item = flat_rows(self._seen, self.users[start:stop])
        return torch.from_numpy(row).to(device), torch.from_numpy(item).to(device)

    def _measure(self, chosen: np.ndarray) -> dict[str, np.ndarray]:
        """Per-user values counting only the chosen targets (ascending), for users who have one."""
        users, row = np.unique(self._row[chosen], return_inverse=True)
        greater, equal = (torch.from_numpy(x[chosen]) for x in (self._greater, self._equal))
        hits = place(torch.from_numpy(row), greater, equal, len(users), self.ks[-1])
        values = {}
        for name in self.metrics:
            options = {"ideal": self.ideal} if name == "ndcg" else {}
            for k in self.ks if name in METRICS else ():
                values[f"{name}@{k}"] = METRICS[name](hits, k, **options).numpy()
        return values

    def _check(self) -> None:
        where, num_items = f"corpus {self.corpus.name!r} ({self.corpus.protocol})", self.corpus.num_items
        known = (*METRICS, *LIST_METRICS)
        for name in self.metrics:
            check_choice("metric", name, known)
        check_choice("mask", self.mask, get_args(MaskChoice))
        check_choice("ideal", self.ideal, get_args(Ideal))
        check_choice("split to evaluate", self.split, get_args(EvaluatedSplit))
        if not self.ks or self.ks[0] < 1:
            raise ValueError(f"cut-offs must be positive, got ks = {self.ks}")
        if self.ks[-1] > num_items:
            raise ValueError(f"K = {self.ks[-1]} is larger than the catalogue of {where}, {num_items} items; lower ks")
        if self.max_users < 0 or (self.max_users and self.split != "validation"):
            raise ValueError(
                f"max_users = {self.max_users} of {self.split}: choose 1 or more users of validation, or 0 for all; "
                "test is always ranked whole"
            )
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be positive, got {self.batch_size}")
        if len(self.corpus.splits[self.split]) == 0:
            raise ValueError(f"the {self.split} split of {where} has no rows; prepare it with another protocol")

    def _sampled(self, key: np.ndarray) -> np.ndarray:
        """The targets ``user * num_items + item`` of the users who are ranked."""
        user = key // self.corpus.num_items
        everyone = np.unique(user)
        if not 0 < self.max_users < len(everyone):
            return key
        chosen = everyone[np.argsort(hash_ints("validation users", 0, everyone), kind="stable")[: self.max_users]]
        return key[np.isin(user, chosen)]

    def _warn_masked(self, target_keys: np.ndarray) -> None:
        if self._seen is None:
            return
        row, item = flat_rows(self._seen, self.users)
        lost = int(np.isin(target_keys, self.users[row] * self.corpus.num_items + item).sum())
        if lost:
            warnings.warn(
                f"{lost} of {len(self.targets)} {self.split} targets of {self.corpus.name!r} are in the user's masked "
                f"{self.mask}: they count as missed; mask = none ranks repeated items too",
                stacklevel=3,
            )


def evaluate(
    model: Recommender,
    corpus: Corpus,
    split: EvaluatedSplit = "test",
    *,
    ks: Sequence[int] = (5, 10, 20),
    metrics: Sequence[str] = ("recall", "ndcg"),
    mask: MaskChoice = "auto",
    ideal: Ideal = "test",
    batch_size: int = 1024,
) -> dict[str, float]:
    """Measures a model on a split by full ranking: every user with a target against the whole catalogue.

    Args:
        model: bound to the corpus, or to none yet; on the device it is to run on.
        corpus: what is ranked.
        split: "validation" chooses, "test" is read once.
        ks: cut-offs.
        metrics: as of :class:`Evaluator`.
        mask: the seen items that are left out, as of :class:`Evaluator`.
        ideal: NDCG's ideal list, as of :class:`Evaluator`.
        batch_size: users at a time.

    Returns:
        "metric@k" -> mean over users (coverage: over the catalogue).

    Raises:
        ValueError: as :class:`Evaluator`; the model is bound to another corpus.

    A ranking by popularity, and one target a user:

    >>> import seqmm
    >>> corpus = seqmm.synthetic_corpus(num_users=60, num_items=40)
    >>> model = seqmm.make_model("popularity", corpus)
    >>> {name: round(value, 4) for name, value in seqmm.evaluate(model, corpus, ks=(5, 10)).items()}
    {'recall@5': 0.25, 'recall@10': 0.3958, 'ndcg@5': 0.1781, 'ndcg@10': 0.2228}
    """
    evaluator = Evaluator(corpus, split, ks=ks, metrics=metrics, mask=mask, ideal=ideal, batch_size=batch_size)
    return evaluator(None, bound(model, corpus))


def model_scorer(model: Recommender, tables: dict[str, Tensor]) -> Scorer:
    """A model as a :data:`Scorer`; a dot-product model represents a batch once for all blocks of items."""

    def begin(batch: Batch) -> Callable[[slice], Tensor]:
        if not model.dot_product:
            return lambda items: model.score(batch, tables, items)
        query = model.represent(batch, tables)  # [B, d]
        return lambda items: query @ tables["items"][items].T

    return begin


def scoring_batch(histories: Ragged, users: np.ndarray, length: int | None, device: torch.device) -> Batch:
    """``user [B]``, ``history [B, L]`` (oldest first, right-padded with 0) and ``mask [B, L]``: the latest items.

    Args:
        histories: rows by user.
        users: ``[B]``.
        length: latest items kept; None = all. L = the longest row kept.
        device: where the tensors go.
    """
    lengths = histories.lengths[users]
    if length is not None:
        lengths = np.minimum(lengths, length)
    place = np.arange(lengths.max(initial=0))
    mask = place < lengths[:, None]  # [B, L]
    index = histories.offsets[users + 1][:, None] - lengths[:, None] + place
    history = (
        np.where(mask, histories.values[np.where(mask, index, 0)], 0)
        if mask.any()
        else np.zeros(mask.shape, dtype=np.int64)
    )
    return {name: torch.from_numpy(x).to(device) for name, x in (("user", users), ("history", history), ("mask", mask))}


def flat_rows(rows: Ragged, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(position in which, value)`` of every entry of the chosen rows, in order."""
    lengths = rows.lengths[which]
    position = np.repeat(np.arange(len(which)), lengths)
    inside = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return position, rows.values[rows.offsets[which][position] + inside]
