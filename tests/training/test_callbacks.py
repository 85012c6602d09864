"""What may look into a run: hooks in their order, a clock around each part, and nothing left behind on the model."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from seqmm.arguments import TrainArguments
from seqmm.evaluation.evaluator import Evaluator
from seqmm.training.callbacks import Callback
from seqmm.training.trainer import Trainer
from tests.cases import CASES

ARGS = TrainArguments(epochs=2, batch_size=64, learning_rate=0.01)


class Recorder(Callback):
    """Writes down what is called, and whether parts nest."""

    def __init__(self):
        self.calls, self.parts, self.open = [], Counter(), []

    def on_train_start(self, trainer):
        self.calls.append(("start", trainer.state.step))

    def on_step_end(self, trainer, losses):
        assert all(not value.requires_grad for value in losses.values())
        self.calls.append(("step", trainer.state.step, tuple(losses)))

    def on_epoch_end(self, trainer):
        self.calls.append(("epoch", trainer.state.epoch))

    def on_evaluate(self, trainer, metrics):
        self.calls.append(("evaluate", trainer.state.epoch, metrics[trainer.monitor]))

    @contextmanager
    def timed(self, part):
        assert not self.open, "parts do not overlap, so that their times add up"
        self.open.append(part)
        yield
        self.parts[self.open.pop()] += 1


def make(name, folder=None, callbacks=(), model=None, **more):
    corpus = CASES[name].corpus()
    model = CASES[name].model(corpus) if model is None else model
    evaluator = Evaluator(corpus, "validation", ks=(10,), metrics=("ndcg",))
    return Trainer(model, corpus, replace(ARGS, **more), evaluator=evaluator, output_dir=folder, callbacks=callbacks)


def test_hooks_are_called_in_turn(tmp_path):
    recorder = Recorder()
    trainer = make("mmssl", tmp_path, [recorder])
    state = trainer.train()
    steps = state.step // 2
    names = [call[0] for call in recorder.calls]
    assert names == ["start", *2 * [*steps * ["step"], "epoch", "evaluate"]]
    assert [call[1] for call in recorder.calls if call[0] == "step"] == list(range(1, 2 * steps + 1))
    losses = next(call[2] for call in recorder.calls if call[0] == "step")
    assert "loss" in losses and "critic/loss" in losses, "both phases of a step"
    assert max(call[2] for call in recorder.calls if call[0] == "evaluate") == state.best
    parts = recorder.parts
    assert parts["forward"] == parts["backward"] == parts["optimise"] == 2 * state.step  # two phases
    assert parts["evaluate"] == 2 and parts["sample"] >= state.step and parts["hooks"] == state.step + 2


def test_a_callback_may_end_a_run(tmp_path):
    class Enough(Callback):
        def on_epoch_end(self, trainer):
            trainer.state.finished = trainer.state.epoch == 2

    state = make("bpr", tmp_path, [Enough()], epochs=50).train()
    assert state.epoch == 2 and state.finished and state.validation, "the epoch is still validated"


def test_looking_on_changes_nothing():
    bare, watched = make("sasrec"), make("sasrec", callbacks=[Recorder()])
    bare.train()
    watched.train()
    for (key, ours), theirs in zip(bare.model.state_dict().items(), watched.model.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), key


def test_without_a_folder_nothing_stays_on_disk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    trainer = make("bpr", epochs=8, learning_rate=0.2)
    state = trainer.train()
    assert list(tmp_path.iterdir()) == []
    metrics = trainer.evaluator(trainer.accelerator, trainer.model)
    assert metrics["ndcg@10"] == pytest.approx(state.best, abs=1e-6), "the model holds the best weights"
    with pytest.raises(ValueError, match="train.resume needs train.output_dir"):
        make("bpr", resume=True)


def left(model):
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    return flags, model.training, model.device, sorted(set(vars(model)) & {"forward", "_original_forward"})


def test_a_two_phase_model_trains_twice():
    first = make("mmssl")
    model, before = first.model, left(first.model)
    first.train()
    assert left(model) == before and all(parameter.grad is None for parameter in model.parameters())
    middle = {name: value.clone() for name, value in model.state_dict().items()}
    second = make("mmssl", model=model)
    assert second.train().epoch == 2
    assert left(model) == before
    assert any(not torch.equal(value, middle[name]) for name, value in model.state_dict().items())


def test_after_an_exception_the_model_is_as_before():
    class Stop(Callback):
        def on_step_end(self, trainer, losses):
            assert not all(parameter.requires_grad for parameter in trainer.model.parameters())
            raise RuntimeError("stop")

    trainer = make("mmssl", callbacks=[Stop()])
    before = left(trainer.model.eval())
    with pytest.raises(RuntimeError, match="stop"):
        trainer.train()
    assert left(trainer.model) == before
    make("mmssl", model=trainer.model).train()
