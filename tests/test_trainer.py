"""The loop's promises: nothing saved is ever lost, wrong use is explained, hooks and phases run where they should."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from torch import nn

from seqmm.arguments import TrainArguments
from seqmm.data.collators import PairCollator
from seqmm.distributed import mean_over_ranks
from seqmm.evaluation.evaluator import Evaluator
from seqmm.models.base import Stage
from seqmm.models.checkpoint import check_start, from_pretrained, load_config, start_from
from seqmm.models.collaborative.bpr import BPR
from seqmm.models.registry import model_class
from seqmm.training.callbacks import Callback
from seqmm.training.checkpoints import latest_checkpoint
from seqmm.training.tracking import JsonlTracker
from seqmm.training.trainer import Trainer
from tests.cases import CASES

ARGS = TrainArguments(epochs=2, batch_size=64, learning_rate=0.01, log_every=1)


def _trainer(folder, name="bpr", corpus=None, *, callbacks=(), optimizer=None, scheduler=None, **more):
    corpus = corpus or CASES[name].corpus()
    model = CASES[name].model(corpus)
    evaluator = Evaluator(corpus, "validation", ks=(5, 10), metrics=("ndcg",))
    given = {"callbacks": callbacks, "optimizer": optimizer, "scheduler": scheduler}
    return Trainer(model, corpus, replace(ARGS, **more), evaluator=evaluator, output_dir=folder, **given)


def test_a_run_leaves_weights_state_and_log(tmp_path):
    trainer = _trainer(tmp_path)
    state = trainer.train()
    assert state.finished and state.epoch == 2 and set(state.validation) >= {"ndcg@5", "ndcg@10"}
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if "train/bpr" in line] == [1, 2]
    assert [line["validation/ndcg@10"] for line in lines if "validation/ndcg@10" in line][
        state.best_epoch - 1
    ] == state.best
    loaded = from_pretrained(str(tmp_path)).bind(trainer.corpus)
    for (key, ours), theirs in zip(trainer.model.state_dict().items(), loaded.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), key
    steps = [line["step"] for line in lines if "step/bpr" in line]
    assert steps == [*range(1, state.step + 1)], "log_every = 1"
    last = state.step // 2
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {f"state-{last}-1", f"state-{2 * last}-2"}


def test_early_stopping_keeps_the_best_weights(tmp_path):
    trainer = _trainer(tmp_path, epochs=50, patience=3, learning_rate=0.2)
    state = trainer.train()
    assert state.epoch == state.best_epoch + 3 < 50
    metrics = trainer.evaluator(trainer.accelerator, trainer.model)
    assert metrics["ndcg@10"] == pytest.approx(state.best, abs=1e-6)


@pytest.mark.parametrize("name", ["bpr", "sasrec"])
def test_accumulated_batches_equal_one_large_batch(tmp_path, name):
    """Accumulation weighted by targets: 5 + 15 + 16 rows step as one batch of 36 would."""

    sgd = {"optimizer": torch.optim.SGD, "learning_rate": 0.1, "epochs": 1}
    large = _trainer(tmp_path / "a", name, batch_size=36, **sgd)
    small = _trainer(tmp_path / "b", name, batch_size=12, gradient_accumulation_steps=3, **sgd)
    rows = large.collators[0].batches(0, 36)[0]
    large.collators[0].batches = lambda epoch, size: [rows]
    small.collators[0].batches = lambda epoch, size: np.split(rows, [5, 20])
    for trainer in (large, small):
        trainer.model.config.regularization = 0.0  # BPR's: a norm over the batch, not a mean over its rows
        trainer.train()
    assert large.state.step == small.state.step
    for (key, a), b in zip(large.model.state_dict().items(), small.model.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7, msg=key)


def test_an_output_in_use_is_not_overwritten_by_accident(tmp_path):
    _trainer(tmp_path).train()
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match="already holds a run.*resume.*overwrite"):
        _trainer(tmp_path).train()
    assert (tmp_path / "model.safetensors").read_bytes() == before
    finished = _trainer(tmp_path, resume=True)
    assert finished.train().step == len(finished.collators[0].batches(0, 64)) * 2
    assert (tmp_path / "model.safetensors").read_bytes() == before
    _trainer(tmp_path, overwrite=True, epochs=1).train()
    assert (tmp_path / "model.safetensors").read_bytes() != before


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"seed": 1}, "train.seed 0, this run has 1"),
        ({"batch_size": 32}, "train.batch_size 64, this run has 32"),
        ({"learning_rate": 0.5}, "train.learning_rate 0.01, this run has 0.5"),
    ],
)
def test_resume_refuses_other_settings(tmp_path, more, message):
    _trainer(tmp_path).train()
    with pytest.raises(ValueError, match=message):
        _trainer(tmp_path, resume=True, **more).train()


def test_resume_refuses_another_corpus_and_another_model(tmp_path):
    _trainer(tmp_path).train()
    other = CASES["bpr"].corpus(seed=9)
    with pytest.raises(ValueError, match="corpus"):
        _trainer(tmp_path, corpus=other, resume=True).train()
    corpus = CASES["bpr"].corpus()
    model = CASES["bpr"].model(corpus, hidden_size=8)
    evaluator = Evaluator(corpus, "validation", ks=(5, 10), metrics=("ndcg",))
    with pytest.raises(ValueError, match="hyper_parameters.hidden_size 16, this run has 8"):
        Trainer(model, corpus, replace(ARGS, resume=True), evaluator=evaluator, output_dir=tmp_path).train()


def test_resume_refuses_features_of_another_encoder(tmp_path):
    corpus = CASES["sasrecm"].corpus()
    _trainer(tmp_path, "sasrecm", corpus).train()
    text = corpus.features["text"]
    other = replace(corpus, features=corpus.features | {"text": replace(text, values=text.values + 1)})
    with pytest.raises(ValueError, match="features.text"):
        _trainer(tmp_path, "sasrecm", other, resume=True).train()


def test_resume_without_a_state_keeps_the_weights(tmp_path):
    _trainer(tmp_path).train()
    shutil.rmtree(tmp_path / "checkpoints")
    with pytest.raises(ValueError, match="no training state to resume from"):
        _trainer(tmp_path, resume=True).train()
    assert (tmp_path / "model.safetensors").exists()


def test_a_longer_run_goes_on_from_a_finished_one(tmp_path):
    _trainer(tmp_path / "short").train()
    longer = _trainer(tmp_path / "short", resume=True, epochs=4)
    longer.train()
    straight = _trainer(tmp_path / "straight", epochs=4)
    straight.train()
    for (key, a), b in zip(longer.model.state_dict().items(), straight.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), key


def test_models_that_are_not_trained_keep_the_rules(tmp_path):
    corpus = CASES["bpr"].corpus()
    _trainer(tmp_path, corpus=corpus).train()
    with pytest.raises(ValueError, match="already holds a run"):
        _trainer(tmp_path, "popularity", corpus).train()
    _trainer(tmp_path, "popularity", corpus, overwrite=True).train()
    assert "validation/ndcg@10" in (tmp_path / "log.jsonl").read_text()
    untrained = _trainer(tmp_path / "zero", "sasrec", epochs=0).train()
    assert untrained.finished and untrained.validation["ndcg@10"] >= 0


def test_finetuning_refuses_what_does_not_fit(tmp_path):
    case = CASES["msm4sr-pretraining"]
    corpus = case.corpus()
    case.model(corpus).save_pretrained(tmp_path / "pretrained")
    cls = model_class("msm4sr")
    fine = CASES["msm4sr"]

    def start(path, **options):
        return start_from(cls, str(path), cls.config_class(**(fine.options | options)), corpus)

    assert start(tmp_path / "pretrained").config.pretrained_on["fingerprint"] == corpus.fingerprint()
    with pytest.raises(ValueError, match="num_heads = 2, this run has 4"):
        start(tmp_path / "pretrained", num_heads=4)
    CASES["bpr"].model(corpus).save_pretrained(tmp_path / "bpr")
    with pytest.raises(ValueError, match="is a bpr, not a msm4sr"):
        start(tmp_path / "bpr")
    with pytest.raises(ValueError, match="here is a bpr, not a msm4sr"):  # needs no corpus
        check_start(cls, "here", load_config(tmp_path / "bpr"), cls.config_class(**fine.options))
    fine.model(corpus).save_pretrained(tmp_path / "fine")
    kept = start(tmp_path / "fine")
    elsewhere = fine.corpus(seed=9)
    fresh = start_from(cls, str(tmp_path / "fine"), cls.config_class(**fine.options), elsewhere)
    before = from_pretrained(str(tmp_path / "fine"))
    assert torch.equal(kept.item.weight, before.item.weight)
    assert not torch.equal(fresh.item.weight, before.item.weight), "item ids of another corpus"
    assert torch.equal(fresh.encoder.transformer.position.weight, before.encoder.transformer.position.weight)
    weights = tmp_path / "pretrained" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-30])
    with pytest.raises(ValueError, match="truncated"):
        start(tmp_path / "pretrained")


def test_a_truncated_checkpoint_is_named(tmp_path):
    _trainer(tmp_path).train()
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"model.safetensors cannot be read.*truncated"):
        from_pretrained(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        from_pretrained(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no folder"):
        from_pretrained(str(tmp_path / "nowhere"))


def test_wrong_arguments(tmp_path):
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="fp16 needs a GPU"):
            _trainer(tmp_path, mixed_precision="fp16")
    with pytest.raises(ValueError, match="TrainArguments.eval_every is 0; choose 1 or more"):
        _trainer(tmp_path, eval_every=0)
    good = _trainer(tmp_path)
    with pytest.raises(ValueError, match="recall@7.*ndcg@10"):
        Trainer(good.model, good.corpus, ARGS, evaluator=good.evaluator, monitor="recall@7", output_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    trainer = _trainer(tmp_path)
    forward = trainer.model.forward

    def broken(*given):
        losses = forward(*given)
        return losses | {"l2": losses["loss"].detach() * float("nan")}

    trainer.model.forward = broken
    with pytest.raises(FloatingPointError, match="'l2' is nan at step 1"):
        trainer.train()


def test_bf16_trains(tmp_path):
    AcceleratorState._reset_state(reset_partial_state=True)  # a process has one precision
    try:
        state = _trainer(tmp_path, name="sasrec", mixed_precision="bf16").train()
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    assert state.epoch == 2 and state.best is not None


def test_a_torn_last_log_line_is_cut(tmp_path):
    file = tmp_path / "log.jsonl"
    file.write_text('{"a": 1}\n{"b": ')
    JsonlTracker(file).log({"c": 3})
    assert [json.loads(line) for line in file.read_text().splitlines()] == [{"a": 1}, {"c": 3}]


SCRIPT = """
import sys, torch
sys.path.insert(0, {repository!r})
torch.set_num_threads(1)
from tests.test_trainer import _trainer
import time
from seqmm.training.callbacks import Callback
class Slow(Callback):
    def on_step_end(self, trainer, losses):
        time.sleep(0.02 * {slow})
_trainer({folder!r}, epochs=6, batch_size=16, save_steps=3, resume=True, patience=0, callbacks=[Slow()]).train()
"""


def _spawn(repository, folder, slow=True):
    code = SCRIPT.format(repository=str(repository), folder=str(folder), slow=slow)
    environment = os.environ | {"PYTHONPATH": str(repository)}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_at_any_moment_a_run_goes_on_as_if_nothing_had_been(tmp_path, repository, how):
    straight = _trainer(tmp_path / "straight", epochs=6, batch_size=16, patience=0)
    straight.train()
    folder = tmp_path / "killed"
    kills = 0
    for delay in (0.3, 0.7):
        process = _spawn(repository, folder)
        deadline = time.monotonic() + 60
        known = latest_checkpoint(folder / "checkpoints")
        while (
            latest_checkpoint(folder / "checkpoints") == known
            and process.poll() is None
            and time.monotonic() < deadline
        ):
            time.sleep(0.02)
        time.sleep(delay)
        if process.poll() is None:
            process.send_signal(how)
            kills += 1
        process.wait(30)
        process.stderr.close()
        saved = latest_checkpoint(folder / "checkpoints")
        assert saved is not None, "what was saved is gone"
    assert kills == 2, "the run ended before it could be killed: slow it down"
    final = _spawn(repository, folder, slow=False)
    assert final.wait(120) == 0, final.stderr.read()
    final.stderr.close()
    for name in ("model.safetensors",):
        assert (folder / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()
    a, b = (latest_checkpoint(tmp_path / run / "checkpoints") for run in ("straight", "killed"))
    assert a.name == b.name
    assert (a / "model.safetensors").read_bytes() == (b / "model.safetensors").read_bytes()
    shutil.rmtree(folder)


class Adversarial(BPR):
    """BPR with a critic: two phases a batch, then a second stage that trains the critic alone."""

    stages = (Stage(PairCollator, ("critic", "main")), Stage(PairCollator, ("critic",)))

    def __init__(self, config):
        super().__init__(config)
        self.critic = nn.Linear(config.hidden_size, 1)
        self.calls, self.losses = [], {"main": [], "critic": []}

    def parameter_groups(self, phase):
        critic = list(self.critic.parameters())
        mine = critic if phase == "critic" else [self.user.weight, self.item.weight]
        return [{"params": mine, "lr": 0.02, "decoupled_weight_decay": True, "weight_decay": 0.1}]

    def forward(self, batch, phase="main"):
        rows = self.item(batch["positive"])
        if phase == "critic":
            self.calls.append((phase, rows.requires_grad, self.critic.weight.requires_grad))
            loss = mean_over_ranks(self.critic(rows)[:, 0].square())
            self.losses[phase].append(float(loss.detach()))
            return {"loss": loss}
        self.calls.append((phase, rows.requires_grad, self.critic.weight.requires_grad))
        parts = super().forward(batch)
        self.losses[phase].append(float(parts["loss"].detach()))
        return parts | {"adversary": mean_over_ranks(self.critic(rows)[:, 0])}

    def on_stage_start(self, stage, epoch, generator):
        self.set_state(f"drawn {stage}", torch.rand(3, generator=generator))
        self.calls.append(("stage", stage, epoch))

    def on_step_end(self, step):
        self.calls.append(("step", step))


def test_stages_phases_and_hooks_run_in_turn(tmp_path):
    corpus = CASES["bpr"].corpus()
    model = Adversarial.for_corpus(BPR.config_class(hidden_size=8), corpus)
    args = replace(ARGS, epochs=2, batch_size=400)
    trainer = Trainer(model, corpus, args, output_dir=tmp_path)
    before = model.critic.weight.detach().clone()
    trainer.train()
    assert not torch.equal(before, model.critic.weight)
    batches = len(trainer.collators[0].batches(0, 400))
    first = [("critic", False, True), ("main", True, False)]
    epoch = [("stage", 0, 0)]
    step = 0
    for _ in range(batches):
        step += 1
        epoch += [*first, ("step", step)]
    epoch.append(("stage", 1, 0))
    for _ in range(batches):
        step += 1
        epoch += [("critic", False, True), ("step", step)]
    assert model.calls[: len(epoch)] == epoch
    group = trainer.optimizers["main"].param_groups[0]
    assert (group["lr"], group["weight_decay"], group["decoupled_weight_decay"]) == (0.02, 0.1, True)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines() if "epoch" in line]
    assert {"train/loss", "train/critic/loss", "train/adversary"} <= set(lines[0])
    for key, phase, of_epoch in (("train/loss", "main", batches), ("train/critic/loss", "critic", 2 * batches)):
        assert lines[0][key] == pytest.approx(np.mean(model.losses[phase][:of_epoch]), rel=1e-5)


def test_what_a_hook_made_is_state(tmp_path):
    corpus = CASES["bpr"].corpus()

    def trainer(*callbacks, **more):
        model = Adversarial.for_corpus(BPR.config_class(hidden_size=8), corpus)
        return Trainer(model, corpus, replace(ARGS, batch_size=64, **more), output_dir=tmp_path, callbacks=callbacks)

    class Stop(Callback):
        def on_step_end(self, trainer, losses):
            if trainer.state.step == 2:
                trainer.interrupt()

    first = trainer(Stop())
    with pytest.raises(KeyboardInterrupt):
        first.train()
    drawn = first.model.hook_state["drawn 0"]
    second = trainer(resume=True)
    second.train()
    assert ("stage", 0, 0) not in second.model.calls and ("stage", 1, 0) in second.model.calls
    assert second.model.calls[0] == ("critic", False, True), "a half-done stage does not run its hook again"
    assert not torch.equal(second.model.hook_state["drawn 0"], drawn), "the next epoch did"
