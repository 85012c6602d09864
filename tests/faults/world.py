"""What the harness feeds to recipes: small corpora, tables, photos, models, made once, by children."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.faults.server import Done, recipe, run

USERS, ITEMS = 40, 24
SMALL = {"hidden_size": 8}
SEQUENCE = {"hidden_size": 8, "max_length": 8, "num_layers": 1, "num_heads": 2, "inner_size": 16, "dropout": 0.1}
GRAPH = {"hidden_size": 8, "num_neighbors": 4}
DENSE, RAGGED = ["text_vector", "image_vector"], ["text", "image"]
MODELS: dict[str, tuple[dict[str, object], list[str]]] = {
    "lightgcn": (SMALL, []),
    "bpr": (SMALL, []),
    "mmssl": (GRAPH, DENSE),
    "bm3": (SMALL, DENSE),
    "mentor": (GRAPH | {"inner_size": 12}, DENSE),
    "freedom": (GRAPH | {"edge_keep": 0.6}, DENSE),
    "sasrec": (SEQUENCE, []),
    "sasrecm": (SEQUENCE | {"use_ids": False}, RAGGED),
    "msm4sr": (SEQUENCE | {"num_experts": 2}, RAGGED),
}
"""Options and feature sets of the models that are trained, by name: ``<name>.yaml`` in the world."""


class World:
    """A folder of inputs; what takes long is made when it is first needed.

    Args:
        folder: where it is made; what is there already is taken as it is.

    Raises:
        RuntimeError: a recipe does not even run undisturbed.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        if not folder.is_dir():
            folder.mkdir(parents=True)
            for part in (_corpora, _tables, _configurations, _photos):
                _must(run(part, folder))

    def need(self, name: str) -> Path:
        """The path of an input, which is made now if it is not there."""
        if not (self.folder / name).exists():
            for other in NEEDS.get(name, ()):
                self.need(other)
            _must(run(MADE[name], self.folder))
        return self.folder / name

    def copy(self, name: str, folder: Path) -> None:
        """Puts a copy of an input into a folder."""
        source = self.need(name)
        if source.is_dir():
            shutil.copytree(source, folder / name)
        else:
            shutil.copy2(source, folder / name)


def _must(done: Done) -> None:
    if done.code != 0:
        raise RuntimeError(f"the world cannot be made: {done.err[-3000:]}")


def _corpora() -> None:
    from seqmm.data.synthetic import synthetic_corpus

    shop = synthetic_corpus(60, 40, mean_length=9)
    words = [f"A {title} of the sea. It is {'red' if i % 2 else 'blue'}." for i, title in enumerate(shop.titles)]
    shop.save("corpus", item_columns={"description": words})
    synthetic_corpus(60, 40, mean_length=9, seed=5).save("other")
    large = synthetic_corpus(60, 2100, mean_length=9, modalities=())  # three shards
    large.save("large", item_columns={"description": [f"Thing {i % 97} made of {i % 13}" for i in range(2100)]})


def _tables() -> None:
    clicks = ["user_id,item_id,timestamp"]
    for user in range(USERS):
        clicks += [f"u{user},i{(user * (1 + step % 3) + step) % ITEMS},{1_600_000_000 + step}" for step in range(8)]
    Path("clicks.csv").write_text("\n".join(clicks) + "\n")
    more = [*clicks, *(f"u{user},i{user % ITEMS},{1_600_000_900 + user}" for user in range(USERS))]
    Path("newer.csv").write_text("\n".join(more) + "\n")
    items = [f'i{item},"Thing {item}, the",b{item % 3}' for item in range(ITEMS)]
    Path("items.csv").write_text("\n".join(["item_id,title,brand", *items]) + "\n")
    vectors = ["item_id," + ",".join(f"v{d}" for d in range(4))]
    vectors += [f"item-{item}," + ",".join(str(item * d / 7) for d in range(4)) for item in range(40)]
    Path("vectors.csv").write_text("\n".join(vectors) + "\n")
    movies = Path("ml-tiny")
    movies.mkdir()
    ratings = [f"{user},{movie},4,{1000 * movie + user}" for user in range(1, 13) for movie in range(1, 13)]
    (movies / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + "\n".join(ratings) + "\n")
    titles = [f'{movie},"toy story {movie}, The (19{70 + movie})",Red|Blue' for movie in range(1, 13)]
    (movies / "movies.csv").write_text("movieId,title,genres\n" + "\n".join(titles) + "\n")
    shop = Path("shop")
    shop.mkdir()
    shutil.copy("clicks.csv", shop / "interactions.csv")
    shutil.copy("items.csv", shop / "items.csv")
    new = [{"id": f"new-{n}", "title": f"New {n}", "text": [[0.1] * 16], "image": [[0.2] * 20]} for n in range(2)]
    Path("new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in new))


def _configurations() -> None:
    from seqmm.files import write_yaml

    for name, (options, features) in MODELS.items():
        data = {"path": "corpus", "features": features}
        train = {"epochs": 3, "batch_size": 64, "learning_rate": 0.01, "save_steps": 5}
        write_yaml(Path(f"{name}.yaml"), {"model": {"model_type": name} | options, "data": data, "train": train})


def _photos() -> None:
    import numpy as np
    from PIL import Image

    draws = np.random.default_rng(0)
    for folder, names in (("photos", [f"item-{i}" for i in range(40)]), ("shop/images", [f"i{i}" for i in range(9)])):
        Path(folder).mkdir()
        for name in names:
            Image.fromarray(draws.integers(0, 255, (24, 24, 3), np.uint8)).save(f"{folder}/{name}.png")


def _encoders() -> None:
    from tests.features.conftest import save_bert, save_clip

    Path("models/clip").mkdir(parents=True)
    save_clip(Path("models/clip"), 77)
    save_bert(Path("models/tiny-bert"))


def _finish(recipe_name: str, model: str, name: str) -> Callable[[], None]:
    return recipe(recipe_name, "--config", f"{model}.yaml", "--train.output-dir", name)


MADE: dict[str, Callable[[], None]] = {
    "models": _encoders,
    "pretrained": _finish("pretrain", "msm4sr", "pretrained"),
    "finished": _finish("train", "bpr", "finished"),
    "content": _finish("train", "bm3", "content"),
    "unnumbered": _finish("train", "sasrecm", "unnumbered"),
    "table": recipe("benchmark", "--runs", "finished", "--output", "table", "--probes", "False"),
}
"""Inputs that take long -> how they are made."""
NEEDS = {"table": ("finished",)}
