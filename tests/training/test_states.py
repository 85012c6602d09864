"""Training states: whole or not there, two of them, no code in them, and resume works from every moment."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import signal
from collections import Counter
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.optim import lr_scheduler

from seqmm.arguments import EvalArguments, TrainArguments
from seqmm.names import OPTIMIZERS
from seqmm.run.run import Run
from seqmm.training import checkpoints
from seqmm.training.callbacks import Callback
from seqmm.training.checkpoints import latest_checkpoint, newest, states
from seqmm.training.packing import pack, unpack
from seqmm.training.tracking import JsonlTracker
from seqmm.training.trainer import Trainer
from tests.cases import CASES

CORPUS = CASES["bpr"].corpus()


class Killed(BaseException):
    """The process ends here."""


def trainer(folder, *callbacks, optimizer=None, scheduler=None, monitor=None, **more):
    args = TrainArguments(**({"epochs": 2, "batch_size": 100, "learning_rate": 0.01, "log_every": 2} | more))
    given = {"callbacks": callbacks, "optimizer": optimizer, "scheduler": scheduler}
    return Trainer(CASES["bpr"].model(CORPUS), CORPUS, args, output_dir=folder, **given)


def run(folder, **more):
    train = TrainArguments(
        **({"epochs": 2, "batch_size": 100, "learning_rate": 0.05, "log_every": 2, "save_steps": 3} | more),
        output_dir=str(folder),
    )
    return Run.of("bpr", CORPUS, train=train, eval=EvalArguments(ks=(10,), test=True), hidden_size=8)


def without_times(values):
    if isinstance(values, dict):
        return {key: without_times(value) for key, value in values.items() if "seconds" not in key}
    return values


def outcome(folder: Path) -> dict[str, object]:
    """All that a finished run leaves, times and its own place left out."""
    names = sorted(path.name for path in folder.iterdir())
    log = [without_times(json.loads(line)) for line in (folder / "log.jsonl").read_text().splitlines()]
    metrics = without_times(json.loads((folder / "metrics.json").read_text()))
    saved = {path.name: (path / "model.safetensors").read_bytes() for path in (folder / "checkpoints").iterdir()}
    card = (folder / "README.md").read_text()
    return {"names": names, "log": log, "metrics": metrics, "states": saved, "card": card} | {
        name: (folder / name).read_bytes() for name in ("model.safetensors", "config.json")
    }


@contextmanager
def failing(monkeypatch, number, error):
    """Raises at the ``number``-th write: a rename, a line of the log, a file of tensors. Yields a list of them."""
    calls: list[str] = []

    def wrapped(function, name):
        def call(*given, **options):
            calls.append(name)
            if len(calls) == number:
                raise error
            return function(*given, **options)

        return call

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", wrapped(os.replace, "replace"))
        patched.setattr(os, "rename", wrapped(os.rename, "rename"))
        patched.setattr(JsonlTracker, "log", wrapped(JsonlTracker.log, "log"))
        patched.setattr(checkpoints, "save_file", wrapped(save_file, "tensors"))
        patched.setattr(checkpoints.shutil, "rmtree", wrapped(checkpoints.shutil.rmtree, "remove"))
        yield calls


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    run(folder).fit()
    return outcome(folder)


@pytest.fixture(scope="module")
def moments(tmp_path_factory):
    """How many writes a run makes."""
    with pytest.MonkeyPatch.context() as patch, failing(patch, 0, Killed()) as calls:
        run(tmp_path_factory.mktemp("counted")).fit()
    assert {"replace", "rename", "log", "tensors", "remove"} == set(calls)
    return len(calls)


def check_killed_at(folder, straight, number, monkeypatch, error=None):
    with failing(monkeypatch, number, error or Killed()), pytest.raises(Killed if error is None else OSError) as said:
        run(folder).fit()
    run(folder, resume=True).fit()
    assert outcome(folder) == straight, number
    return said


@pytest.mark.parametrize("part", [0.15, 0.5, 0.75, 0.95])
def test_killed_at_a_write_a_run_ends_as_if_nothing_had_been(tmp_path, straight, moments, part, monkeypatch):
    check_killed_at(tmp_path, straight, int(moments * part), monkeypatch)


@pytest.mark.exhaustive  # some forty pairs of runs
def test_killed_at_every_write_a_run_ends_as_if_nothing_had_been(tmp_path, straight, moments, monkeypatch):
    for number in range(1, moments + 1):
        check_killed_at(tmp_path / str(number), straight, number, monkeypatch)


@pytest.mark.exhaustive  # some forty pairs of runs
def test_a_full_disk_at_every_write_is_named_and_the_run_goes_on(tmp_path, straight, moments, monkeypatch):
    for number in range(1, moments + 1):
        full = OSError(errno.ENOSPC, "No space left on device")
        check_killed_at(tmp_path / str(number), straight, number, monkeypatch, full)


def test_a_full_disk_before_the_first_state_starts_anew(tmp_path, monkeypatch):
    def full(*given):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "save_file", full)
        with pytest.raises(OSError, match=r"disk full while writing .*checkpoints .*untouched.*train.resume = True"):
            trainer(tmp_path).train()
    assert list((tmp_path / "checkpoints").iterdir()) == []
    assert trainer(tmp_path, resume=True).train().finished


class KillAt(Callback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, trainer, losses):
        if trainer.state.step == self.step:
            raise Killed


@pytest.mark.parametrize("more", [{"save_every": 0}, {"save_every": 5}, {}])
def test_resume_without_a_state_yet_starts_anew(tmp_path, more):
    whole = trainer(tmp_path / "whole")
    whole.train()
    with pytest.raises(Killed):
        trainer(tmp_path / "cut", KillAt(3), **more).train()
    again = trainer(tmp_path / "cut", resume=True, **more)
    assert again.train().step == whole.state.step
    assert (tmp_path / "cut/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()
    with pytest.raises(ValueError, match="already holds"):
        trainer(tmp_path / "cut").train()


# -- generations and damage -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    trainer(folder).train()
    return folder


@pytest.fixture
def copied(finished, tmp_path):
    import shutil

    return Path(shutil.copytree(finished, tmp_path / "run"))


def resume(folder, **more):
    made = trainer(folder, resume=True, **more)
    made.train()
    return made


DAMAGE = {
    "model.safetensors": lambda file: file.write_bytes(file.read_bytes()[:100]),
    "tensors.safetensors": lambda file: file.unlink(),
    "training.json": lambda file: file.write_text(file.read_text().replace('"epoch": 2', '"epoch": 1')),
    "manifest.json": lambda file: file.write_text("{"),
    "": lambda folder: (folder / "manifest.json").unlink(),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_newest_state_is_named_and_the_one_before_is_used(copied, finished, name, caplog):
    before, last = states(copied / "checkpoints")
    DAMAGE[name](last / name)
    with caplog.at_level(logging.WARNING, "seqmm"):
        resume(copied)
    (warning,) = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert str(last) in warning and name in warning and before.name in warning
    assert (copied / "model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()
    log = [json.loads(line) for line in (copied / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in log if "train/loss" in line] == [1, 2]
    assert newest(copied / "checkpoints").values["state"]["epoch"] == 2
    assert [before.name, last.name] == [path.name for path in states(copied / "checkpoints")]


def test_when_all_states_are_damaged_the_remedy_works(copied):
    for state in states(copied / "checkpoints"):
        (state / "model.safetensors").write_bytes(b"")
    before = (copied / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match=r"no training state can be read.*differs from its checksum.*overwrite = True"):
        resume(copied)
    assert (copied / "model.safetensors").read_bytes() == before
    assert trainer(copied, overwrite=True).train().finished


def test_a_newer_format_is_said_to_be_newer(copied):
    file = states(copied / "checkpoints")[-1] / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"version": 2}))
    with pytest.raises(ValueError, match="of format 2, this version of seqmm reads 1: it is newer"):
        resume(copied)


def sealed(state: Path) -> None:
    """Writes the checksums anew, as somebody who changes a state on purpose would."""
    manifest = json.loads((state / "manifest.json").read_text())
    manifest["files"] = {name: hashlib.sha256((state / name).read_bytes()).hexdigest() for name in manifest["files"]}
    (state / "manifest.json").write_text(json.dumps(manifest))


TENSORS = "tensors.safetensors"
MOMENT = "optimizers.main.state.item.weight.exp_avg"


@pytest.mark.parametrize(
    ("file", "name", "change", "said"),
    [
        (TENSORS, MOMENT, lambda x: x[:2].clone(), r"item.weight.exp_avg is \[2, "),
        (TENSORS, MOMENT, lambda x: x.double(), "exp_avg is .*float64, not"),
        (TENSORS, MOMENT, lambda x: None, "lacks 'optimizers.main.state.item.weight.exp_avg'"),
        (TENSORS, MOMENT.replace("exp_avg", "step"), lambda x: x.repeat(3), r"step is \[3\] .*, not \[\]"),
        ("model.safetensors", "item.weight", lambda x: x[:, :3].clone(), r"weight item.weight is \["),
        ("model.safetensors", "item.weight", lambda x: None, "weight item.weight is missing"),
        ("model.safetensors", "more", lambda x: torch.zeros(2), "weight more is no weight of this model"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_before_any_is_loaded(copied, file, name, change, said):
    state = states(copied / "checkpoints")[-1]
    tensors = load_file(state / file)
    changed = change(tensors.pop(name, None))
    save_file(tensors | ({} if changed is None else {name: changed}), state / file)
    sealed(state)
    made = trainer(copied, resume=True)
    before = {key: value.clone() for key, value in made.model.state_dict().items()}
    with pytest.raises(ValueError, match=rf"training state .* cannot be read \(.*{said}"):
        made.train()
    assert all(torch.equal(before[key], value) for key, value in made.model.state_dict().items())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("state", "epoch"), "two"),
        (("state", "step"), -1),
        (("state", "more"), 1),
        (("optimizers",), 3),
        (("optimizers",), {"code": "import os"}),
        (("losses",), {"dict": []}),
        (("random",), [{}]),
        (("log",), "x"),
        (("state", "config"), []),
    ],
)
def test_values_of_another_kind_are_refused(copied, path, value):
    state = states(copied / "checkpoints")[-1]
    values = json.loads((state / "training.json").read_text())
    place = values
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (state / "training.json").write_text(json.dumps(values))
    sealed(state)
    with pytest.raises(ValueError, match=r"cannot be read|was trained with"):
        resume(copied)


def test_a_state_holds_no_pickle(finished):
    for state in states(finished / "checkpoints"):
        assert {path.suffix for path in state.iterdir()} == {".json", ".safetensors"}


def test_what_is_not_finite_is_never_saved(tmp_path):
    class Break(Callback):
        def on_step_end(self, trainer, losses):
            if trainer.state.step == 7:
                with torch.no_grad():
                    trainer.model.item.weight[3, 1] = float("nan")
                trainer.interrupt()

    with pytest.raises(FloatingPointError, match=r"item.weight is not finite at step 7, so it is not saved"):
        trainer(tmp_path, Break(), save_steps=2).train()
    assert [path.name for path in states(tmp_path / "checkpoints")] == ["state-5-1", "state-6-1"]
    assert resume(tmp_path, save_steps=2).state.finished


# -- optimisers -------------------------------------------------------------------------------------------------------


class Odd(torch.optim.Optimizer):
    """Keeps all that an optimiser may keep, in other types than its parameters'."""

    def __init__(self, params, lr, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            group["seen"] = group.get("seen", 0) + 1
            for each in group["params"]:
                if each.grad is None:
                    continue
                state = self.state[each]
                if not state:
                    wide = torch.zeros_like(each, dtype=torch.float64)
                    state.update(
                        sum=wide, last=[None, {"at": (0, -float("inf"))}], signs=torch.zeros(3, dtype=torch.int64)
                    )
                state["sum"] += each.grad.double() ** 2
                state["signs"] += torch.tensor([1, 2, 3])
                state["last"] = [each.grad.mean(), {"at": (group["seen"], float(each.grad.norm()))}]
                each.sub_(group["lr"] * each.grad / (state["sum"].sqrt().float() + 0.1 + state["last"][1]["at"][0]))


class Stop(Callback):
    def on_step_end(self, trainer, losses):
        if trainer.state.step == 4:
            trainer.interrupt()


TORCHS = [
    partial(getattr(torch.optim, name)) for name in OPTIMIZERS if name not in ("Adam", "SparseAdam", "LBFGS", "Muon")
]


@pytest.mark.parametrize(
    "optimizer",
    [pytest.param(Odd, id="odd"), *[pytest.param(each, id=each.func.__name__) for each in TORCHS[:3]]]
    + [pytest.param(each, id=each.func.__name__, marks=pytest.mark.slow) for each in TORCHS[3:]],
)  # the rest: the same code, ten more pairs of runs
def test_any_optimiser_goes_on_exactly(tmp_path, optimizer):
    whole = trainer(tmp_path / "whole", optimizer=optimizer, epochs=1)
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path / "cut", Stop(), optimizer=optimizer, epochs=1).train()
    again = resume(tmp_path / "cut", optimizer=optimizer, epochs=1)
    for (key, ours), theirs in zip(whole.model.state_dict().items(), again.model.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), key
    a, b = (latest_checkpoint(tmp_path / name / "checkpoints") / TENSORS for name in ("whole", "cut"))
    ours, theirs = load_file(a), load_file(b)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype and torch.equal(tensor, theirs[name]), name


SCHEDULERS = {
    "multi": lambda o, steps: lr_scheduler.MultiStepLR(o, [2, 2, 6]),
    "lambda": lambda o, steps: lr_scheduler.LambdaLR(o, lambda step: 0.9**step),
    "sequence": lambda o, steps: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.1, 3), lr_scheduler.CosineAnnealingLR(o, 9)], milestones=[3]
    ),
    "cyclic": lambda o, steps: lr_scheduler.CyclicLR(o, 0.01, 0.1, 3, cycle_momentum=False),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_any_scheduler_goes_on_exactly(tmp_path, name):
    def made(folder, *callbacks, **more):
        return trainer(
            tmp_path / folder, *callbacks, scheduler=SCHEDULERS[name], optimizer=torch.optim.SGD, epochs=1, **more
        )

    whole, cut = made("whole"), made("cut", Stop())
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        cut.train()
    again = made("cut", resume=True)
    again.train()
    assert torch.equal(whole.model.item.weight, again.model.item.weight)
    assert whole.schedulers["main"].state_dict() == again.schedulers["main"].state_dict()


def test_what_cannot_be_saved_is_named_before_training(tmp_path):
    class Named(torch.optim.SGD):
        def __init__(self, params, lr):
            super().__init__(params, lr)
            self.param_groups[0]["helper"] = object()

    with pytest.raises(ValueError, match=r"optimizers.main.param_groups.0.helper is a object, which a training state"):
        trainer(tmp_path, optimizer=Named).train()


def test_packing_gives_back_what_was_put_in():
    value = {
        "none": None, "switch": True, 3: [1, 2.5, -0.0], "text": "ü", "far": (float("inf"), [float("nan")]),
        "tensors": [torch.arange(3), {"deep": torch.tensor(1.5, dtype=torch.bfloat16)}],
        "counts": Counter({4: 2}), "empty": {},
    }  # fmt: skip
    tensors: dict[str, torch.Tensor] = {}
    plain = json.loads(json.dumps(pack(value, tensors, "v"), allow_nan=False))
    back = unpack(plain, tensors, torch.device("cpu"))
    assert repr(back) == repr(value) and type(back["counts"]) is Counter and list(back) == list(value)
    for odd, said in [
        ({"a": [object()]}, r"v\.a\.0 is a object"),
        ({(1, 2): 3}, r"v has the key \(1, 2\)"),
        ({"s": torch.eye(2).to_sparse()}, r"v\.s is a torch.sparse_coo tensor"),
        ({"n": 1j}, r"v\.n is a complex"),
    ]:
        with pytest.raises(ValueError, match=said):
            pack(odd, {}, "v")


# -- interrupts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["on_epoch_end", "on_step_end"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_being_asked_to_end_counts_in_the_last_epoch_too(tmp_path, number, when):
    whole = trainer(tmp_path / "whole")
    whole.train()

    class Ask(Callback):
        def _ask(self, trainer, *more):
            last = trainer.state.epoch == 2 if when == "on_epoch_end" else trainer.state.step == whole.state.step
            if last:
                os.kill(os.getpid(), number)

    setattr(Ask, when, Ask._ask)
    with pytest.raises(KeyboardInterrupt, match=r"State saved in .*; go on with train.resume = True"):
        trainer(tmp_path / "asked", Ask(), save_every=5).train()
    assert resume(tmp_path / "asked", save_every=5).state.step == whole.state.step
    assert (tmp_path / "asked/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


def test_means_are_of_the_whole_epoch_after_an_interruption(tmp_path):
    whole = trainer(tmp_path / "whole", epochs=1)
    whole.train()
    with pytest.raises(Killed):
        trainer(tmp_path / "cut", KillAt(5), epochs=1, save_steps=2).train()
    resume(tmp_path / "cut", epochs=1, save_steps=2)
    logs = [
        [without_times(json.loads(line)) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("whole", "cut")
    ]
    assert logs[0] == logs[1] and any("step/loss" in line for line in logs[0])


def test_the_best_weights_are_those_of_the_state(copied):
    """A killed run may have written better ones of a later epoch, or somebody may have taken them away."""
    before = {name: (copied / name).read_bytes() for name in ("model.safetensors", "config.json")}
    folder = copied.parent / "scored"
    run(folder).fit()
    before = {name: (folder / name).read_bytes() for name in before}
    (folder / "model.safetensors").write_bytes(b"of a later epoch")
    (folder / "config.json").unlink()
    run(folder, resume=True).fit()
    assert {name: (folder / name).read_bytes() for name in before} == before
