"""A generated corpus with planted structure: for tests, and for use without any download."""

from __future__ import annotations

from math import cos, pi, sin
from pathlib import Path

import numpy as np

from seqmm.checks import check_choice
from seqmm.data import splits
from seqmm.data.corpus import Corpus
from seqmm.data.feature_sets import Features
from seqmm.data.interactions import Interactions
from seqmm.names import PROTOCOLS, IndexOrder, Protocol

DAY = 86_400
IMAGE_SIZE = 64  # pixels
COLOURS = ("red", "blue", "green", "yellow", "purple", "orange", "grey", "white")
SHAPES = ("circle", "square", "triangle", "cross", "ring", "star", "bar", "diamond")


def synthetic_corpus(
    num_users: int = 200,
    num_items: int = 100,
    *,
    protocol: Protocol = "leave_one_out",
    seed: int = 0,
    modalities: tuple[str, ...] = ("text", "image"),
    clusters: int = 8,
    mean_length: int = 12,
    missing: float = 0.0,
    index_order: IndexOrder = "permuted",
) -> Corpus:
    """Draws users with a taste cluster, items with a cluster, and sequences that follow planted successors.

    A user's next item is the successor of the last one (.6), an item of his cluster (.3), or any item by popularity
    (.1), never one he had. A share of neighbouring rows share a timestamp.

    Args:
        num_users: users; each has at least 5 interactions (fewer only if there are fewer items).
        num_items: items; some may have no interaction.
        protocol: any of :data:`~seqmm.names.PROTOCOLS`; ``given`` is a per-user random split.
        seed: of everything.
        modalities: each name gets a ragged feature set ``name`` (1 to 4 vectors an item, 16 wide, the next modality 20
            wide, …) and a dense one ``name_vector`` (its row means); both correlate with the items' clusters. The tags
            ``genre`` are always there.
        clusters: of users and of items.
        mean_length: mean interactions a user.
        missing: share of items without a vector in the ragged sets (a zero row in the dense ones).
        index_order: ``source`` numbers users by their smallest item over all splits, the leak of the public Amazon
            files; ``permuted`` does not.

    >>> import seqmm
    >>> corpus = seqmm.synthetic_corpus(num_users=60, num_items=40)
    >>> corpus.titles[:2]
    ('blue square number 0', 'grey bar number 1')
    """
    check_choice("protocol", protocol, PROTOCOLS)
    rng = np.random.default_rng(seed)
    taste = rng.integers(clusters, size=num_users)
    kind = np.arange(num_items) % clusters
    rng.shuffle(kind)
    user, item = _sequences(rng, taste, kind, rng.pareto(1.5, num_items) + 0.2, mean_length)
    if index_order == "source":
        user, item = _leaking_order(user, item, num_users, num_items)
    rows = _timed(rng, user, item, num_users)
    features: dict[str, Features] = {}
    for number, name in enumerate(modalities):
        features |= _views(rng, name, kind, 16 + 4 * number, missing)
    return Corpus(
        name="synthetic",
        protocol=protocol,
        num_users=num_users,
        num_items=num_items,
        splits=splits.split(rows, _labels(protocol, rows, num_items, seed)),
        features=features | {"genre": _genres(rng, kind, clusters)},
        user_ids=tuple(f"user-{u}" for u in range(num_users)),
        item_ids=tuple(f"item-{i}" for i in range(num_items)),
        titles=tuple(f"{_look(k)} number {i}" for i, k in enumerate(kind)),
        info={"source": "synthetic", "seed": seed, "index_order": index_order},
    )


def _leaking_order(user: np.ndarray, item: np.ndarray, num_users: int, num_items: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows with users numbered by their smallest item over all splits."""
    smallest = np.full(num_users, num_items)
    np.minimum.at(smallest, user, item)
    rank = np.empty(num_users, np.int64)
    rank[np.argsort(smallest, kind="stable")] = np.arange(num_users)
    order = np.argsort(rank[user], kind="stable")
    return rank[user][order], item[order]


def _timed(rng: np.random.Generator, user: np.ndarray, item: np.ndarray, num_users: int) -> Interactions:
    """The rows with positions, and times of which a share of neighbours have the same."""
    count = np.bincount(user, minlength=num_users)
    position = np.arange(len(user)) - np.repeat(np.cumsum(count) - count, count)
    step = np.where(position == 0, rng.integers(200, size=len(user)), rng.integers(0, 60, len(user)) // 20 * 20)
    elapsed = np.cumsum(step)
    start = np.repeat(elapsed[np.cumsum(count) - count] - step[np.cumsum(count) - count], count)
    return Interactions(user, item, position, 1_400_000_000 + (elapsed - start) * DAY)


def _labels(protocol: Protocol, rows: Interactions, num_items: int, seed: int) -> np.ndarray:
    """The split of each row, -1 for those of users without a train row."""
    timestamp = rows.timestamp
    assert timestamp is not None
    labels = {
        "leave_one_out": lambda: splits.leave_one_out(rows.user, rows.position),
        "ratio": lambda: splits.ratio(rows.user, seed),
        "given": lambda: splits.ratio(rows.user, seed + 1),
        "temporal": lambda: splits.temporal(timestamp),
        "cold": lambda: splits.cold(rows.item, num_items, seed),
    }[protocol]()
    labels[~splits.has_train(rows.user, labels)] = -1
    return labels


def _genres(rng: np.random.Generator, kind: np.ndarray, clusters: int) -> Features:
    """Two tags an item: its cluster, and a mood that says nothing."""
    tags = np.stack([kind, clusters + rng.integers(4, size=len(kind))], axis=1)
    vocabulary = tuple(f"genre {g}" for g in range(clusters)) + tuple(f"mood {m}" for m in range(4))
    offsets = 2 * np.arange(len(kind) + 1)
    return Features("tags", tags.reshape(-1), offsets, vocabulary, {"source": "synthetic"})


def write_synthetic(folder: str | Path, corpus: Corpus) -> None:
    """Saves a synthetic corpus with what features are extracted from: texts in the items table, pictures in images/.

    An item's title, its description (three sentences) and its picture ``images/<item id>.png`` all show the colour and
    the shape of its cluster.
    """
    kind = corpus.features["genre"].values[::2]
    corpus.save(folder, item_columns={"description": [_describe(k, i) for i, k in enumerate(kind)]})
    images = Path(folder) / "images"
    images.mkdir(exist_ok=True)
    for item, name in enumerate(corpus.item_ids):
        _draw(kind[item], item, images / f"{name}.png")


def _describe(kind: np.integer, item: int) -> str:
    made, weight = ("wood", "glass", "paper", "steel")[item % 4], 1 + item % 9
    return f"A {_look(kind)} made of {made}. It weighs {weight} kilograms. People who like {_look(kind)}s like it."


def _draw(kind: np.integer, item: int, file: Path) -> None:
    """The cluster's shape in its colour, of a size and at a place that vary with the item."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (IMAGE_SIZE, IMAGE_SIZE), (245, 245, 240))
    pen, colour, shape = ImageDraw.Draw(image), COLOURS[kind % len(COLOURS)], SHAPES[kind % len(SHAPES)]
    x, y, r = 28 + item * 7 % 9, 28 + item * 5 % 9, 14 + item * 3 % 7
    box, width = (x - r, y - r, x + r, y + r), r // 2
    corners = {"square": 4, "triangle": 3, "diamond": 4, "star": 10}
    if shape == "circle":
        pen.ellipse(box, fill=colour, outline="black")
    elif shape == "ring":
        pen.ellipse(box, outline=colour, width=width)
    elif shape in ("cross", "bar"):
        pen.line((x - r, y, x + r, y), fill=colour, width=width)
        if shape == "cross":
            pen.line((x, y - r, x, y + r), fill=colour, width=width)
    else:
        turn = pi / 4 if shape == "square" else 0
        radii = [r if shape != "star" or corner % 2 == 0 else r / 2 for corner in range(corners[shape])]
        angles = [turn + 2 * pi * corner / len(radii) for corner in range(len(radii))]
        points = [(x + size * sin(a), y - size * cos(a)) for size, a in zip(radii, angles, strict=True)]
        pen.polygon(points, fill=colour, outline="black")
    image.save(file)


def _look(kind: np.integer) -> str:
    return f"{COLOURS[kind % len(COLOURS)]} {SHAPES[kind % len(SHAPES)]}"


def _sequences(
    rng: np.random.Generator, taste: np.ndarray, kind: np.ndarray, popularity: np.ndarray, mean_length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows (user, item), users ascending, each user's in order, without repeats."""
    num_users, num_items, clusters = len(taste), len(kind), int(max(taste.max(), kind.max())) + 1
    successor = np.empty(num_items, np.int64)
    for cluster in range(clusters):  # a cycle through each cluster
        members = rng.permutation(np.flatnonzero(kind == cluster))
        successor[members] = np.roll(members, -1)
    share = popularity / popularity.sum()
    in_cluster = np.where(kind == np.arange(clusters)[:, None], share, 0) + 1e-12  # [clusters, items]
    cumulative = np.cumsum(in_cluster / in_cluster.sum(1, keepdims=True), axis=1)
    anywhere = np.cumsum(share)

    length = np.minimum(np.maximum(rng.poisson(mean_length, num_users), 5), num_items)
    seen = np.zeros((num_users, num_items), bool)
    last = rng.integers(num_items, size=num_users)
    everyone = np.arange(num_users)
    steps: list[tuple[np.ndarray, np.ndarray]] = []
    for step in range(int(length.max())):
        draw, coin = rng.random(num_users), rng.random(num_users)
        own = (cumulative[taste] < draw[:, None]).sum(1)
        following = successor[last] if step else own
        item = np.select([coin < 0.6, coin < 0.9], [following, own], np.searchsorted(anywhere, draw))
        item = np.minimum(item, num_items - 1)
        repeated = seen[everyone, item]
        fresh = np.argmax(~seen * rng.random((num_users, num_items)), axis=1)  # a random unseen item
        item = np.where(repeated, fresh, item)
        active = step < length
        seen[everyone[active], item[active]] = True
        steps.append((everyone[active], item[active]))
        last = item
    user, items = (np.concatenate(column) for column in zip(*steps, strict=True))
    order = np.argsort(user, kind="stable")
    return user[order], items[order]


def _views(rng: np.random.Generator, modality: str, kind: np.ndarray, dim: int, missing: float) -> dict[str, Features]:
    """A ragged set and its row means: cluster centre + item offset + noise."""
    num_items = len(kind)
    centre = rng.normal(size=(int(kind.max()) + 1, dim))
    lengths = rng.integers(1, 5, num_items) * (rng.random(num_items) >= missing)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    row = np.repeat(np.arange(num_items), lengths)
    own = centre[kind] + 0.5 * rng.normal(size=(num_items, dim))
    values = (own[row] + 0.3 * rng.normal(size=(len(row), dim))).astype(np.float32)
    sums = np.zeros((num_items, dim), np.float32)
    np.add.at(sums, row, values)
    provenance = {"encoder": "synthetic", "modality": modality}
    means = sums / np.maximum(lengths, 1).astype(np.float32)[:, None]
    return {
        modality: Features("ragged", values, offsets, None, provenance),
        f"{modality}_vector": Features("dense", means, None, None, provenance | {"pooling": "mean"}),
    }
