"""JSON and YAML that say what a folder is: damaged, of other types, nested deep, with code in them."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.faults.doors.payloads import evil_pickle, evil_torch
from tests.faults.hostile import EITHER, REFUSED, SOUND, Case, Door, canary
from tests.faults.snapshots import state_place

DEEP = 50_000
WRONG: tuple[Any, ...] = (None, -1, "x", [], {}, True, 1e300, [[1]], "../../escape", float("nan"))
"""What no key can be; some are right for some keys, and then change what comes out or nothing."""


def nothing(folder: Path) -> None:
    """Beside what is copied."""


RECOMMEND = ("recommend", "--checkpoint", "content", "--user", "user-3", "--k", "5")
CHECKPOINT = Door("checkpoint", ("content", "corpus"), nothing, RECOMMEND)
CORPUS = Door("corpus", ("content", "corpus"), nothing, RECOMMEND)


def _resumed(folder: Path) -> str | None:
    """A state that was accepted, or the one before it, goes on to the very weights of the sound one."""
    right = Path(os.environ["FAULTS_PLACE"]).parent / "right-weights"
    weights = (folder / "finished" / "model.safetensors").read_bytes()
    if not right.is_file():  # the sound one comes first
        right.write_bytes(weights)
    return None if weights == right.read_bytes() else "other weights than from the sound state"


RESUME = Door(
    "state",
    ("finished", "corpus", "bpr.yaml"),
    nothing,
    (
        "train",
        "--config",
        "bpr.yaml",
        "--train.output-dir",
        "finished",
        "--train.resume",
        "True",
        "--train.epochs",
        "6",
    ),
    _resumed,
)
CELLS = Door(
    "benchmark",
    ("finished", "corpus", "table"),
    nothing,
    ("benchmark", "--runs", "finished", "--output", "table", "--probes", "False"),
    lambda folder: None,
    lambda out: None if "| finished" in out else "no row of the run",
)
CARD = Door(
    "card",
    ("finished", "corpus"),
    nothing,
    ("publish", "--model", "finished", "--repo", "org/model", "--dry-run", "True"),
    lambda folder: None,
)
YAML = Door("run", ("corpus", "bpr.yaml"), nothing, ("train", "--config", "bpr.yaml", "--train.output-dir", "out"),
            lambda folder: None)  # fmt: skip


def _write(name: str, content: str | bytes) -> Callable[[Path], object]:
    data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    return lambda folder: (folder / name).write_bytes(data)


def _edit(name: str, change: Callable[[str], str | bytes]) -> Callable[[Path], object]:
    """Another text of a file, made of the sound one."""

    def spoil(folder: Path) -> None:
        made = change((folder / name).read_text())
        (folder / name).write_bytes(made if isinstance(made, bytes) else made.encode("utf-8", "surrogatepass"))

    return spoil


def damages(door: Door, file: str, names: str | None = None) -> Iterator[Case]:
    """A JSON file as no program of ours writes it."""
    called = Path(file).parent.name if names is None else names
    changes: dict[str, tuple[Callable[[str], str | bytes], str]] = {
        "empty": (lambda text: "", REFUSED),
        "cut short": (lambda text: text[: len(text) // 2], REFUSED),
        "of a word": (lambda text: "sorry", REFUSED),
        "null": (lambda text: "null", REFUSED),
        "a list": (lambda text: f"[{text}]", REFUSED),
        "a number": (lambda text: "3", REFUSED),
        "a text": (lambda text: '"x"', REFUSED),
        "no key at all": (lambda text: "{}", EITHER),
        "nested deep": (lambda text: text.rstrip()[:-1] + ', "deep": ' + "[" * DEEP + "]" * DEEP + "}", EITHER),
        "objects nested deep": (lambda text: '{"a":' * DEEP + "1" + "}" * DEEP, REFUSED),
        "a key twice": (lambda text: text.replace("{", '{"twice": 1, "twice": 2,', 1), EITHER),
        "another key": (lambda text: text.replace("{", '{"other": 1,', 1), EITHER),
        "with BOM": (lambda text: b"\xef\xbb\xbf" + text.encode(), EITHER),
        "UTF-16": (lambda text: text.encode("utf-16"), EITHER),
        "latin-1": (lambda text: text.encode().replace(b"{", b'{"\xe9": 1,', 1), REFUSED),
        "a trailing comma": (lambda text: text.rstrip()[:-1] + ",}", REFUSED),
        "a large number": (lambda text: text.replace("{", '{"large": ' + "9" * 5000 + ",", 1), EITHER),
        "a lone surrogate": (lambda text: text.replace("{", '{"\\ud800": 1,', 1), EITHER),
        "a megabyte of spaces": (lambda text: text + " " * 1_000_000, EITHER),
    }
    for name, (change, right) in changes.items():
        yield Case(door, f"{file} {name}", _edit(file, change), right, called)
    yield Case(door, f"{file} a folder", lambda folder: ((folder / file).unlink(), (folder / file).mkdir()), REFUSED)
    yield Case(door, f"{file} missing", lambda folder: (folder / file).unlink(), EITHER)


def wrong_values(door: Door, file: str, keys: tuple[str, ...], each: int = 2) -> Iterator[Case]:
    """Values that a key cannot have, and its absence: refused, naming the folder, or the answer stays what it is."""
    called = Path(file).parent.name
    for key in keys:
        draws = random.Random(f"{file} {key}")
        for value in draws.sample(WRONG, each):
            yield Case(door, f"{file} {key} = {value!r}", _edit(file, _with(key, value)), EITHER, called)
        yield Case(door, f"{file} without {key}", _edit(file, _without(key)), EITHER, called)


def _with(path: str, value: Any) -> Callable[[str], str]:
    def change(text: str) -> str:
        values = json.loads(text)
        *outer, last = path.split("/")
        place = values
        for key in outer:
            place = place[key]
        place[last] = value
        return json.dumps(values)

    return change


def _without(path: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        values = json.loads(text)
        *outer, last = path.split("/")
        place = values
        for key in outer:
            place = place[key]
        del place[last]
        return json.dumps(values)

    return change


# -- YAML --------------------------------------------------------------------------------------------------------------


def _bomb(levels: int = 9) -> str:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(rows) + "\n"


def _bomb_within(levels: int = 9) -> str:
    rows = [f"  no_decay: [&b0 [x, x]{''.join(f', &b{n} [*b{n - 1}, *b{n - 1}]' for n in range(1, 60))}]"]
    return "train:\n" + "\n".join(rows) + "\n"


_CODE = {
    "a Python object": "model: !!python/object/apply:os.system ['touch EXECUTED']\n",
    "a Python name": "model: !!python/name:os.system\n",
    "a Python module": "model: !!python/module:os\n",
    "a new object": "model: !!python/object/new:os.system ['touch ../EXECUTED']\n",
    "an unknown tag": "model: !evil {model_type: bpr}\n",
    "binary": "model: !!binary aGVsbG8=\n",
    "a set": "model: !!set {model_type, bpr}\n",
}
_SECTION = "model:\n  model_type: bpr\n  hidden_size: 8\ndata:\n  path: corpus\ntrain:\n  epochs: 1\n  batch_size: 64\n"
_TEXTS = {
    "a list": "- model\n- data\n",
    "a word": "model\n",
    "tabs": "model:\n\tmodel_type: bpr\n",
    "cut short": "model: {model_type: bpr, hidden",
    "two documents": _SECTION + "---\n" + _SECTION,
    "a bomb": _SECTION + _bomb(),
    "a bomb in a section": _SECTION.replace("train:\n", _bomb_within()),
    "itself": "model: &m\n  model_type: *m\n",
    "a key twice": _SECTION + "  epochs: 2\n",
    "a section twice": _SECTION + "model:\n  model_type: bpr\n",
    "an unknown section": _SECTION + "extra:\n  a: 1\n",
    "an unknown key": _SECTION + "  epoch: 1\n",
    "nested deep": "model: " + "[" * DEEP + "]" * DEEP + "\n",
    "a section that is a list": "model: [bpr]\n",
    "a section that is a word": "model: bpr\n",
    "a merge of another section": "model: &m\n  model_type: bpr\ntrain:\n  <<: *m\n",
    "keys that are numbers": "model:\n  1: bpr\n",
    "keys that are lists": "model:\n  ? [a, b]\n  : bpr\n",
    "no model": "data:\n  path: corpus\n",
    "a model nobody knows": "model:\n  model_type: nobody\n",
    "a model that is a path": "model:\n  model_type: ../../evil\n",
    "a module that is not there": "model:\n  model_type: evil_module:Model\n",
    "a function for a model": "model:\n  model_type: os:system\n",
}
_VALUES = {
    "model": {
        "hidden_size": ("-1", "x", "null", "8.5", "[8]", "true", "1e300", ".nan"),
        "regularization": (".nan", "x", ".inf"),
    },
    "data": {
        "path": ("3", "[corpus]", "nowhere", "null"),
        "protocol": ("random", "3"),
        "features": ("text_nobody", "[3]", "{a: b}"),
    },
    "train": {
        "epochs": ("-1", "x", "1.5", "true", "null", "[1]", "2020-01-01"),
        "batch_size": ("0", "x", "1_0x"),
        "learning_rate": (".nan", ".inf", "-0.1", "0", "x", "[0.1]"),
        "seed": ("x", "1.5", "null"),
        "optimizer": ("Eval", "os.system", "3"),
        "adam_betas": ("[0.9]", "[0.9, 2]", "x", "[0.9, 0.99, 0.999]"),
        "report_to": ("3", "{a: b}"),
        "save_every": ("-1", "x"),
    },
    "eval": {
        "ks": ("[0]", "[-5]", "x", "[5.5]", "[]"),
        "metrics": ("[fame]", "3"),
        "monitor": ("fame@5", "ndcg@7"),
        "mask": ("seen",),
    },
}


def _yaml_cases() -> Iterator[Case]:
    for name, text in {**_TEXTS, **_CODE}.items():
        right = EITHER if name in ("two documents", "a merge of another section") else REFUSED
        yield Case(
            YAML, name, _write("bpr.yaml", text), right, "" if "module" in name or "function" in name else ".yaml"
        )
    yield Case(YAML, "empty", _write("bpr.yaml", ""), EITHER)
    yield Case(YAML, "noise", _write("bpr.yaml", bytes(range(256))), REFUSED, "bpr.yaml")
    yield Case(YAML, "latin-1", _write("bpr.yaml", _SECTION.encode() + b"  no_decay: [\xe9]\n"), REFUSED, "bpr.yaml")
    yield Case(YAML, "UTF-16", _write("bpr.yaml", _SECTION.encode("utf-16")), EITHER, "bpr.yaml")
    yield Case(YAML, "BOM", _write("bpr.yaml", b"\xef\xbb\xbf" + _SECTION.encode()), EITHER, "bpr.yaml")
    yield Case(YAML, "Windows' line ends", _write("bpr.yaml", _SECTION.replace("\n", "\r\n")), SOUND)
    for section, keys in _VALUES.items():
        for key, values in keys.items():
            for value in values:
                lines = _SECTION.replace(f"  {key}: {dict(epochs=1, batch_size=64).get(key)}\n", "")
                lines = lines.replace("  path: corpus\n", "") if key == "path" else lines
                lines = lines.replace("  hidden_size: 8\n", "") if key == "hidden_size" else lines
                head = f"{section}:\n"
                lines = (
                    lines.replace(head, f"{head}  {key}: {value}\n")
                    if head in lines
                    else f"{lines}{head}  {key}: {value}\n"
                )
                yield Case(
                    YAML, f"{section}.{key} = {value}", _write("bpr.yaml", lines), REFUSED, "" if key == "path" else key
                )


# -- the cases ---------------------------------------------------------------------------------------------------------

STATE = "finished/checkpoints"


def _newest(folder: Path) -> Path:
    return max((folder / STATE).iterdir(), key=lambda path: state_place(path.name))


def _each_file(change: Callable[[Path], object]) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        for file in _newest(folder).iterdir():
            change(file)

    return spoil


def _state_cases() -> Iterator[Case]:
    for name, change in {
        "files cut short": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
        "files empty": lambda file: file.write_bytes(b""),
        "files of noise": lambda file: file.write_bytes(b"\xa5" * 300),
        "files gone": lambda file: file.unlink(),
        "one letter changed": lambda file: file.write_bytes(file.read_bytes()[:-9] + b"#" + file.read_bytes()[-8:]),
    }.items():
        yield Case(RESUME, name, _each_file(change), EITHER)
    for name in (
        "custom_checkpoint_0.pkl",
        "random_states_0.pkl",
        "optimizer.bin",
        "scheduler.bin",
        "pytorch_model.bin",
    ):
        yield Case(
            RESUME,
            f"a pickle called {name}",
            lambda folder, name=name: (_newest(folder) / name).write_bytes(evil_pickle(folder)),
            EITHER,
        )
        yield Case(
            RESUME,
            f"torch's pickle called {name}",
            lambda folder, name=name: (_newest(folder) / name).write_bytes(evil_torch(folder)),
            EITHER,
        )
    for file in ("state.json", "trainer.json", "optimizer.json"):
        yield Case(
            RESUME,
            f"{file} nested deep",
            lambda folder, file=file: (_newest(folder) / file).write_text("[" * DEEP),
            EITHER,
        )
    yield Case(RESUME, "a state with a name of its own", lambda folder: (folder / STATE / "state-x-y").mkdir(), EITHER)
    yield Case(
        RESUME,
        "an empty state that is newer",
        lambda folder: (folder / STATE / "state-99-99").mkdir(),
        EITHER,
    )
    yield Case(
        RESUME,
        "a file for a state",
        lambda folder: (folder / STATE / "state-99-99").write_text("x"),
        EITHER,
    )


CONFIG_KEYS = ("model_type", "num_items", "num_users", "hidden_size", "features", "feature_order", "corpus",
               "architectures", "corpus/fingerprint", "dtype")  # fmt: skip
CORPUS_KEYS = ("format", "protocols", "num_users", "num_items", "users", "items", "protocols/leave_one_out",
               "protocols/leave_one_out/fingerprint", "protocols/leave_one_out/rows")  # fmt: skip
FEATURE_KEYS = ("kind", "dim", "rows", "provenance", "sha256", "items")


def _code_in_config(**more: Any) -> Callable[[Path], object]:
    def change(text: str) -> str:
        return json.dumps(json.loads(text) | more)

    def spoil(folder: Path) -> None:
        (folder / "content" / "evil.py").write_text(
            f"open({str(canary(folder))!r}, 'w')\nclass Model: pass\nclass Config: pass\n"
        )
        (folder / "evil.py").write_text(f"open({str(canary(folder))!r}, 'w')\nclass Model: pass\nclass Config: pass\n")
        _edit("content/config.json", change)(folder)

    return spoil


CASES: list[Case] = [
    *damages(CHECKPOINT, "content/config.json"),
    *wrong_values(CHECKPOINT, "content/config.json", CONFIG_KEYS),
    Case(
        CHECKPOINT,
        "config names code by auto_map",
        _code_in_config(auto_map={"AutoModel": "evil.Model", "AutoConfig": "evil.Config"}),
        EITHER,
    ),
    Case(CHECKPOINT, "config names a module as its model", _code_in_config(model_type="evil:Model"), REFUSED, "evil"),
    Case(CHECKPOINT, "config names a class", _code_in_config(architectures=["evil.Model"]), EITHER),
    Case(
        CHECKPOINT,
        "config of another model",
        _code_in_config(model_type="lightgcn", architectures=["LightGCN"]),
        REFUSED,
    ),
    Case(
        CHECKPOINT,
        "config wants quantisation by code",
        _code_in_config(quantization_config={"quant_method": "evil"}),
        EITHER,
    ),
    Case(CHECKPOINT, "config of a format to come", _code_in_config(format=99), EITHER),
    *damages(CORPUS, "corpus/corpus.json"),
    *wrong_values(CORPUS, "corpus/corpus.json", CORPUS_KEYS),
    *damages(CORPUS, "corpus/text_vector/features.json"),
    *wrong_values(CORPUS, "corpus/text_vector/features.json", FEATURE_KEYS),
    *damages(CELLS, "table/cells/finished-seed0.json"),
    *damages(CARD, "finished/metrics.json"),
    *wrong_values(CARD, "finished/metrics.json", ("validation", "mask", "epochs", "best_epoch", "test")),
    *_yaml_cases(),
    *_state_cases(),
]
