"""Optimisers and learning rates: what is asked for is used, and goes on exactly after an interruption."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau

from seqmm.arguments import TrainArguments
from seqmm.names import OPTIMIZERS
from seqmm.training.callbacks import Callback
from seqmm.training.optimisation import make_optimizer, rate_factor
from seqmm.training.trainer import Trainer
from tests.cases import CASES

ARGS = TrainArguments(epochs=3, batch_size=64, learning_rate=0.01)


class Rates(Callback):
    """Learning rates after each step; asks to stop after one of them."""

    def __init__(self, stop_at=None):
        self.stop_at, self.rates = stop_at, []

    def on_step_end(self, trainer, losses):
        self.rates.append([group["lr"] for o in trainer.optimizers.values() for group in o.param_groups])
        if trainer.state.step == self.stop_at:
            trainer.interrupt()


def make(name, folder=None, callbacks=(), optimizer=None, scheduler=None, **more):
    corpus = CASES[name].corpus()
    given = {"callbacks": callbacks, "optimizer": optimizer, "scheduler": scheduler}
    return Trainer(CASES[name].model(corpus), corpus, replace(ARGS, **more), output_dir=folder, **given)


def same(one, two):
    for (key, ours), theirs in zip(one.model.state_dict().items(), two.model.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), key


def test_schedules():
    cosine = replace(ARGS, epochs=10, schedule="cosine", warmup_ratio=0.1)
    factors = [rate_factor(cosine, epoch, 0, 5) for epoch in range(10)]
    assert factors[0] < factors[1] == pytest.approx(1.0) and factors[-1] < 0.05
    assert sorted(factors[1:], reverse=True) == factors[1:]
    assert rate_factor(replace(ARGS, schedule="decay"), 100, 0, 5) == pytest.approx(0.96**2)
    assert rate_factor(ARGS, 7, 3, 5) == 1.0


def cycle(optimizer, steps):
    return OneCycleLR(optimizer, 0.1, steps)


@pytest.mark.parametrize("name", ["bpr", "mmssl"])
def test_a_torch_scheduler_steps_with_its_optimiser_and_resumes_exactly(tmp_path, name):
    seen = Rates()
    straight = make(name, tmp_path / "a", [seen], scheduler=cycle)
    state = straight.train()
    plain = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)
    reference = cycle(plain, state.step)
    for rates in seen.rates:
        plain.step()
        reference.step()
        assert rates == [plain.param_groups[0]["lr"]] * len(rates)
    assert len(seen.rates) == state.step and seen.rates[-1][0] < 0.001 < 0.09 < max(seen.rates)[0]
    stopped = Rates(stop_at=state.step // 2 + 1)
    with pytest.raises(KeyboardInterrupt):
        make(name, tmp_path / "b", [stopped], scheduler=cycle).train()
    rest = Rates()
    resumed = make(name, tmp_path / "b", [rest], scheduler=cycle, resume=True)
    resumed.train()
    assert stopped.rates + rest.rates == seen.rates
    same(straight, resumed)


def test_schedulers_that_cannot_be(tmp_path):
    with pytest.raises(ValueError, match="choose one of them"):
        make("bpr", scheduler=cycle, schedule="cosine")
    with pytest.raises(ValueError, match="ReduceLROnPlateau needs a metric"):
        make("bpr", scheduler=lambda optimizer, steps: ReduceLROnPlateau(optimizer)).train()
    make("bpr", tmp_path).train()
    with pytest.raises(ValueError, match=r"train.optimizer Adam, this run has torch.optim.*SGD"):
        make("bpr", tmp_path, optimizer=torch.optim.SGD, resume=True).train()


def test_any_optimiser(tmp_path):
    """Adagrad with options, through a function; its states are saved like Adam's."""
    adagrad = partial(torch.optim.Adagrad, initial_accumulator_value=0.5)
    straight = make("bpr", tmp_path / "a", optimizer=adagrad)
    state = straight.train()
    (optimizer,) = straight.optimizers.values()
    assert isinstance(optimizer.optimizer, torch.optim.Adagrad)
    with pytest.raises(KeyboardInterrupt):
        make("bpr", tmp_path / "b", [Rates(stop_at=state.step - 1)], optimizer=adagrad).train()
    resumed = make("bpr", tmp_path / "b", optimizer=adagrad, resume=True)
    resumed.train()
    same(straight, resumed)


def test_settings_name_any_optimiser_of_torch_and_its_options(tmp_path):
    made = make("bpr", tmp_path / "a", optimizer=torch.optim.SGD, learning_rate=0.05)
    made.train()
    by_name = replace(ARGS, learning_rate=0.05, optimizer="SGD")
    named = Trainer(CASES["bpr"].model(made.corpus), made.corpus, by_name, output_dir=tmp_path / "b")
    named.train()
    same(made, named)
    momentum = replace(by_name, optimizer_options={"momentum": 0.9})
    heavy = Trainer(CASES["bpr"].model(made.corpus), made.corpus, momentum, output_dir=tmp_path / "c")
    heavy.train()
    assert heavy.optimizers["main"].param_groups[0]["momentum"] == 0.9
    assert any(not torch.equal(a, b) for a, b in zip(heavy.model.parameters(), made.model.parameters(), strict=True))


def test_wrong_optimisers_are_refused(tmp_path):
    def train(**more):
        args = replace(ARGS, **more)
        Trainer(CASES["bpr"].model(corpus), corpus, args, output_dir=tmp_path).train()

    corpus = CASES["bpr"].corpus()
    with pytest.raises(ValueError, match="optimizer is 'AdamV'; choose one of .*did you mean 'Adam"):
        train(optimizer="AdamV")
    with pytest.raises(ValueError, match="train.optimizer SGD: .*momentom"):
        train(optimizer="SGD", optimizer_options={"momentom": 0.9})
    with pytest.raises(ValueError, match="decoupled_weight_decay"):
        replace(ARGS, optimizer="SGD", decoupled_weight_decay=True)
    with pytest.raises(ValueError, match="optimizer_options"):
        replace(ARGS, optimizer_options={"momentum": 0.9})


def test_names_of_optimisers_are_those_of_torch():
    theirs = {name for name, kind in vars(torch.optim).items() if isinstance(kind, type)}
    theirs = {name for name in theirs if issubclass(getattr(torch.optim, name), torch.optim.Optimizer)}
    assert set(OPTIMIZERS) == theirs - {"Optimizer", "LBFGS"}  # LBFGS needs a closure


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "Adam"])
def test_every_optimiser_is_made_without_decay_where_none_is_asked_for(name):
    groups = [{"params": [torch.nn.Parameter(torch.ones(2, 2))]}]
    (group,) = make_optimizer(TrainArguments(optimizer=name), groups).param_groups
    assert group.get("weight_decay", 0) == 0  # AdamW's own default is 0.01


def test_options_of_an_optimiser_may_be_numbers_switches_and_pairs():
    def options(name, **values):
        groups = [{"params": [torch.nn.Parameter(torch.ones(2, 2))]}]
        return make_optimizer(TrainArguments(optimizer=name, optimizer_options=values), groups).param_groups[0]

    assert options("AdamW", betas=[0.8, 0.9])["betas"] == (0.8, 0.9)
    heavy = options("SGD", momentum=0.9, nesterov=True)
    assert heavy["nesterov"] is True and heavy["momentum"] == 0.9
    with pytest.raises(ValueError, match="train.optimizer Rprop: .*weight_decay"):
        make_optimizer(TrainArguments(optimizer="Rprop", weight_decay=0.1), [])
    with pytest.raises(ValueError, match="choose true or false or a number or a list of numbers"):
        TrainArguments(optimizer="SGD", optimizer_options={"momentum": "much"})
    with pytest.raises(ValueError, match="choose names, each with true or false or a number or a list of numbers"):
        TrainArguments(optimizer="SGD", optimizer_options=["momentum"])


def test_a_refused_optimiser_replaces_no_run(tmp_path):
    make("bpr", tmp_path).train()
    before = sorted(path.name for path in tmp_path.rglob("*"))
    for options in ({"momentom": 0.9}, {"momentum": -1.0}):
        with pytest.raises(ValueError, match="train.optimizer SGD: .*moment"):
            args = replace(ARGS, overwrite=True, optimizer="SGD", optimizer_options=options)
            corpus = CASES["bpr"].corpus()
            Trainer(CASES["bpr"].model(corpus), corpus, args, output_dir=tmp_path).train()
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_an_error_of_a_maker_names_the_maker():
    def my_maker(groups, rate):
        raise AssertionError

    with pytest.raises(ValueError, match="optimizer .*my_maker, called with lr: .*unexpected keyword argument 'lr'"):
        make_optimizer(ARGS, [], my_maker)


def test_parameters_spared_from_decay_keep_it_off_and_the_others_on(tmp_path):
    trainer = make("sasrec", tmp_path, weight_decay=0.1, no_decay=("bias", "norm"), epochs=1)
    trainer.train()
    groups = trainer.optimizers["main"].param_groups
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    names = {id(each): name for name, each in trainer.model.named_parameters()}
    spared = {names[id(each)] for each in groups[1]["params"]}
    assert spared == {name for name in names.values() if "bias" in name or "norm" in name} and spared
    assert len(groups[0]["params"]) + len(spared) == len(names)
