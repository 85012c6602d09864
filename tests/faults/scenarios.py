"""Commands that are killed, and how a user goes on after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.server import recipe
from tests.faults.world import MODELS


@dataclass(frozen=True)
class Scenario:
    """A command in a folder of its own.

    Attributes:
        name: of it.
        command: recipe and arguments.
        inputs: what of the world it needs, copied beside it.
        more: arguments that a user adds to go on.
        foreign: folder in which files that are not ours lie from the start.
        before: commands that were run before, undisturbed.
        publishes: repository whose files count, too.
    """

    name: str
    command: tuple[str, ...]
    inputs: tuple[str, ...]
    more: tuple[str, ...] = ()
    foreign: str = ""
    before: tuple[tuple[str, ...], ...] = ()
    publishes: tuple[str, str] | None = None

    @property
    def short(self) -> bool:
        """Whether the short run has it."""
        return self.name in SHORT

    def start(self) -> Callable[[], None]:
        """The command as it is first given."""
        return recipe(*self.command)

    def again(self) -> Callable[[], None]:
        """The command as it is given to go on."""
        return recipe(*self.command, *self.more)


_TABLE = ("prepare", "table", "--interactions", "clicks.csv", "--items", "items.csv", "--tags", "brand")
_TABLES = ("clicks.csv", "items.csv", "newer.csv")
_RESUME = ("--train.resume", "True")


def _train(name: str, model: str, recipe_name: str = "train", *more: str, inputs: tuple[str, ...] = ()) -> Scenario:
    command = (recipe_name, "--config", f"{model}.yaml", "--train.output-dir", "out/run", *more)
    return Scenario(name, command, ("corpus", f"{model}.yaml", *inputs), _RESUME, foreign="out/run")


def _extract(name: str, *arguments: str, corpus: str = "corpus", inputs: tuple[str, ...] = ()) -> Scenario:
    return Scenario(name, ("extract", "--corpus", corpus, *arguments), (corpus, *inputs), foreign=corpus)


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "prepare",
        (*_TABLE, "--output", "out/mine", "--protocols", "leave_one_out", "ratio", "temporal", "cold"),
        _TABLES,
        foreign="out",
    ),
    Scenario(
        "prepare more",
        (*_TABLE, "--output", "out/mine", "--protocols", "ratio"),
        _TABLES,
        before=((*_TABLE, "--output", "out/mine", "--protocols", "leave_one_out"),),
        foreign="out/mine",
    ),
    Scenario(
        "prepare over",
        ("prepare", "table", "--interactions", "newer.csv", "--output", "out/mine", "--overwrite", "True"),
        _TABLES,
        before=((*_TABLE, "--output", "out/mine"),),
        foreign="out/mine",
    ),
    Scenario(
        "build folder", ("tokenized/folder/build", "--source", "shop", "--output", "out/shop"), ("shop",), foreign="out"
    ),
    Scenario(
        "build movielens",
        ("tokenized/movielens/build", "--source", "ml-tiny", "--output", "out/ml", "--encoder", "models/tiny-bert")
        + ("--pooling", "mean", "--k-core", "3"),
        ("ml-tiny", "models"),
        foreign="out",
    ),
    _extract("extract tfidf", "--features", "text", "--text-encoder", "tfidf", corpus="large"),
    _extract(
        "extract bert", "--features", "text", "text_sentences", "--text-encoder", "models/tiny-bert",
        "--pooling",
        "mean", "--suffix", "_b",
        inputs=("models",),
    ),
    _extract(
        "extract clip", "--features", "image", "--images", "photos", "--image-encoder",
        "clip:local-dir:models/clip", "--suffix", "_c", inputs=("models", "photos"),
    ),
    _extract("extract vectors", "--vectors", "mine=vectors.csv", inputs=("vectors.csv",)),
    *(_train(f"train {name}", name) for name in MODELS if name not in ("msm4sr", "bpr", "sasrecm")),
    _train("pretrain msm4sr", "msm4sr", "pretrain"),
    _train("finetune msm4sr", "msm4sr", "finetune", "--train.init-from", "pretrained", inputs=("pretrained",)),
    Scenario(
        "benchmark",
        ("benchmark", "--runs", "bpr.yaml", "lightgcn.yaml", "--seeds", "0", "1", "--output", "out/table"),
        ("corpus", "bpr.yaml", "lightgcn.yaml"),
        foreign="out/table",
    ),
    Scenario(
        "publish corpus",
        ("publish", "--corpus", "corpus", "--repo", "org/corpus", "--license", "cc-by-4.0"),
        ("corpus",),
        publishes=("dataset", "org/corpus"),
    ),
    Scenario(
        "publish model",
        ("publish", "--model", "finished", "--repo", "org/model"),
        ("finished", "corpus"),
        publishes=("model", "org/model"),
    ),
)  # fmt: skip
"""Every kind of command that writes."""
SHORT = ("prepare", "prepare over", "extract vectors", "train lightgcn", "benchmark", "publish model")
"""Those of the short run: a kind each, which need no encoder."""
