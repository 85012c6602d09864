"""Numbers of public implementations, read from ``<name>_<n>.npz`` files; nothing in them goes unread unsaid."""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from seqmm.data.corpus import Corpus
from seqmm.data.feature_sets import Features
from seqmm.data.interactions import Interactions
from seqmm.evaluation.evaluator import Evaluator
from seqmm.models.base import Recommender
from seqmm.models.collaborative.base import ContentRecommender
from tests.conftest import GOLDENS

UNCHECKED: dict[str, dict[str, str]] = {}
"""What nobody checks: golden -> pattern of array names -> reason. Filled by :func:`golden_files`."""
MODULES: dict[str, str] = {}
"""The test module of each golden."""


def golden_files(name: str, unchecked: Mapping[str, str] | None = None) -> list[Path]:
    """The files of a golden; a test is parametrised over them.

    Args:
        name: of the golden, without the number.
        unchecked: patterns of array names no test reads, each with the reason. With :func:`reading`, any other array
            that is not read is a failure.
    """
    files = sorted(GOLDENS.glob(f"{name}_[0-9]*.npz"))
    assert files, f"no {name}_<n>.npz in {GOLDENS}"
    UNCHECKED[name] = dict(unchecked or {})
    MODULES[name] = sys._getframe(1).f_globals["__name__"]
    return files


class Golden(Mapping[str, np.ndarray]):
    """A file's arrays; remembers which were read."""

    def __init__(self, file: Path):
        self.name = file.stem.rsplit("_", 1)[0]
        self._arrays = dict(np.load(file))
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> np.ndarray:
        self.read.add(key)
        return self._arrays[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def number(self, key: str) -> float:
        return float(self[key].item())


@contextmanager
def reading(file: Path) -> Iterator[Golden]:
    """Opens a golden; at the end every array must have been read or be listed as unchecked, and not both."""
    golden = Golden(file)
    yield golden
    patterns = UNCHECKED[golden.name]
    listed = {key for key in golden if any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns)}
    assert not (unread := sorted(set(golden) - golden.read - listed)), f"{file.name}: nobody reads {unread}"
    assert not (both := sorted(listed & golden.read)), f"{file.name}: listed as unchecked, but read: {both}"
    idle = [pattern for pattern in patterns if not fnmatch.filter(golden, pattern)]
    assert not idle, f"{file.name}: {idle} match no array"


def train_only_corpus(
    user: np.ndarray,
    item: np.ndarray,
    num_users: int,
    num_items: int,
    features: Mapping[str, np.ndarray] | None = None,
) -> Corpus:
    order = np.lexsort((item, user))
    nothing = np.zeros(0, np.int64)
    empty = Interactions(nothing, nothing, nothing)
    train = Interactions(user[order], item[order], np.arange(len(user)))
    dense = {name: Features("dense", values.astype(np.float32)) for name, values in (features or {}).items()}
    splits = {"train": train, "validation": empty, "test": empty}
    return Corpus("golden", "given", num_users, num_items, splits, dense)


def golden_corpus(golden: Golden, modalities: Mapping[str, str] | None = None) -> Corpus:
    """The train split of a file, and its features: our name -> ``in.`` array (default: image v_feat, text t_feat)."""
    names = {"image": "in.v_feat", "text": "in.t_feat"} if modalities is None else modalities
    features = {ours: golden[theirs] for ours, theirs in names.items()}
    sizes = int(golden["in.n_users"]), int(golden["in.n_items"])
    return train_only_corpus(golden["in.train_users"], golden["in.train_items"], *sizes, features)


def detail_corpus(golden: Golden) -> Corpus:
    """The three splits and the features of a ``*_detail`` file."""
    features = {"image": golden["v_feat"], "text": golden["t_feat"]}
    sizes = int(golden["n_users"]), int(golden["n_items"])
    corpus = train_only_corpus(golden["train_u"], golden["train_i"], *sizes, features)
    splits = dict(corpus.splits)
    for ours, theirs in (("validation", "valid"), ("test", "test")):
        user, item = golden[theirs][np.lexsort(golden[theirs].T[::-1])].T
        splits[ours] = Interactions(user, item, np.arange(len(user)))
    return replace(corpus, splits=splits)


def detail_batch(golden: Golden) -> dict[str, torch.Tensor]:
    names = (("user", "users"), ("positive", "pos"), ("negative", "neg"))
    return {ours: torch.from_numpy(golden["batch_" + theirs]) for ours, theirs in names}


def assert_detail_edges(model: Recommender, golden: Golden, share: float) -> None:
    """Our edges are the recorded ones, and a draw of a share follows the recorded probabilities."""
    user, item = model.interactions.edge_index
    assert np.array_equal(user, golden["edge_order_u"])
    assert np.array_equal(item - model.config.num_users, golden["edge_order_i"])
    race = torch.empty(len(user), dtype=torch.float64).exponential_(generator=torch.Generator().manual_seed(5))
    race /= torch.from_numpy(golden["edge_prob_unnormalised"])
    expected = race.argsort()[: len(golden["kept_edge_positions"])].sort().values
    assert torch.equal(model.interactions.sample_edges(share, torch.Generator().manual_seed(5)), expected)


def assert_detail_evaluation(model: Recommender, corpus: Corpus, golden: Golden) -> None:
    """Lists of 20 and the official evaluator's numbers on test, train items masked, against our evaluator's."""
    names = ("recall", "ndcg", "precision", "map")
    evaluator = Evaluator(corpus, "test", ks=(5, 10, 20), metrics=names, mask="train")
    found = evaluator(Accelerator(), model)
    assert found == pytest.approx({key: golden.number(f"eval.{key}") for key in found}, abs=1e-6)
    assert np.array_equal(evaluator.users, golden["eval.users"])
    model.eval()
    with torch.no_grad():
        scores = model.score({"user": torch.from_numpy(evaluator.users)}, model.tables())
    for user, row, expected in zip(evaluator.users, scores, golden["eval.top20"], strict=True):
        row[corpus.histories("train")[user]] = -torch.inf
        real = min(20, int(row.isfinite().sum()))  # what follows them in a list is arbitrary
        assert np.array_equal(row.topk(real).indices, expected[:real])


def golden_batch(golden: Golden) -> dict[str, torch.Tensor]:
    names = (("user", "users"), ("positive", "pos"), ("negative", "neg"))
    return {ours: torch.from_numpy(golden["batch." + theirs]) for ours, theirs in names}


def edge_positions(model: Recommender, kept: np.ndarray) -> torch.Tensor:
    """Positions in ``model.interactions.edge_index`` of recorded (user, item) pairs ``[2, K]``."""
    user, item = model.interactions.edge_index
    key = user * model.config.num_items + item - model.config.num_users
    wanted = torch.from_numpy(kept[0] * model.config.num_items + kept[1])
    return torch.searchsorted(key, wanted.sort().values)


def set_neighbours(model: Recommender, golden: Golden) -> None:
    """Gives a model with a user-user graph the recorded neighbour lists ``[U, k]``, and compares the graphs."""
    row, column = model.shared_items.edge_index
    assert_near(model.shared_items.dense(), golden["graph.user_cooccurrence_counts"], 0)
    users, neighbours = model.config.num_users, torch.from_numpy(golden["rand.user_neighbours_k40"])
    order = torch.argsort(row * users + column)
    wanted = torch.arange(users)[:, None] * users + neighbours
    model.on_state("neighbours", order[torch.searchsorted((row * users + column)[order], wanted)])
    expected = np.zeros((users, users))
    np.add.at(expected, (np.arange(users)[:, None], neighbours.numpy()), golden["rand.user_neighbour_weights_k40"])
    assert_near(model.training_user_graph.dense(), expected, 1e-6)


def load(model: Recommender, golden: Mapping[str, np.ndarray], names: Mapping[str, str]) -> Recommender:
    """Copies ``param.<theirs>`` into our parameters, in float64, so that what differs is not rounding."""
    model.load_state_dict({ours: torch.from_numpy(golden[f"param.{theirs}"]) for ours, theirs in names.items()})
    return in_double(model)


def in_double(model: Recommender) -> Recommender:
    """Parameters and features in float64."""
    if isinstance(model, ContentRecommender):  # raw features are attributes, which .double() does not reach
        for table in model.feature_tables.values():
            table._means[model.device] = table.means(model.device).double()
    return model.double()


def assert_near(found: torch.Tensor, expected: np.ndarray, tolerance: float) -> None:
    """Within ``tolerance`` of the expected array's largest magnitude."""
    error = np.abs(found.detach().numpy() - expected).max()
    assert error <= tolerance * np.abs(expected).max(), f"error {error:.2e}"


def assert_gradients(
    model: Recommender, golden: Mapping[str, np.ndarray], names: Mapping[str, str], tolerance: float = 2e-5
) -> None:
    """Every parameter's gradient against ``grad.<theirs>``."""
    for ours, theirs in names.items():
        gradient = model.get_parameter(ours).grad
        assert gradient is not None, f"{ours} has no gradient"
        expected = golden[f"grad.{theirs}"]
        error = np.abs(gradient.numpy() - expected).max()
        assert error <= tolerance * np.abs(expected).max(), f"{ours}: error {error:.2e} of {np.abs(expected).max():.2e}"
