"""What the launcher says through the environment: shown in run.yaml, without effect, or refused."""

import logging
from dataclasses import replace

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState

from seqmm.arguments import TrainArguments
from seqmm.files import read_yaml
from seqmm.models.base import Recommender
from seqmm.run.run import Run
from seqmm.training.launching import make_accelerator
from tests.cases import CASES

SGD = TrainArguments(epochs=1, batch_size=64, learning_rate=0.1, optimizer="SGD")  # Adam would hide a factor


@pytest.fixture
def fresh():
    """As in a process of its own: accelerate keeps its state for a process."""
    for state in (AcceleratorState, GradientState):
        state._reset_state()
    yield
    for state in (AcceleratorState, GradientState):
        state._reset_state()


def _fitted(folder) -> Run:
    case = CASES["bpr"]
    corpus = case.corpus()
    run = Run.of(case.model(corpus).config, corpus, train=replace(SGD, output_dir=str(folder)))
    run.fit()
    return run


def _same(one: Recommender, other: Recommender) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(
    ("name", "value"),
    [("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4"), ("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR")],
)
def test_what_would_change_the_mathematics_is_ignored_and_named(tmp_path, fresh, monkeypatch, caplog, name, value):
    plain = _fitted(tmp_path / "a")
    AcceleratorState._reset_state()
    GradientState._reset_state()
    monkeypatch.setenv(name, value)
    with caplog.at_level(logging.WARNING, "seqmm"):
        other = _fitted(tmp_path / "b")
    assert f"{name}={value} is ignored" in caplog.text
    assert _same(plain.model, other.model)


@pytest.mark.parametrize(
    ("name", "value"), [("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1"), ("ACCELERATE_DYNAMO_BACKEND", "NO")]
)
def test_what_the_launcher_always_sets_is_no_warning(fresh, monkeypatch, caplog, name, value):
    monkeypatch.setenv(name, value)
    make_accelerator()
    assert not caplog.text


@pytest.mark.parametrize("name", ["FSDP", "DEEPSPEED", "MEGATRON_LM", "PARALLELISM_CONFIG"])
def test_sharded_models_are_refused_by_name(fresh, monkeypatch, name):
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with pytest.raises(ValueError, match=f"ACCELERATE_USE_{name}=true .*cuts models over processes"):
        make_accelerator()


def test_the_launchers_precision_stands_in_run_yaml(tmp_path, fresh, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    run = _fitted(tmp_path / "a")
    assert run.settings.train.mixed_precision == "bf16"
    assert read_yaml(tmp_path / "a" / "run.yaml")["train"]["mixed_precision"] == "bf16"
    AcceleratorState._reset_state()
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION")
    _fitted(tmp_path / "b")
    assert read_yaml(tmp_path / "b" / "run.yaml")["train"]["mixed_precision"] == "no"


def test_a_precision_that_no_run_can_have_is_refused(fresh, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp8")
    with pytest.raises(ValueError, match="ACCELERATE_MIXED_PRECISION=fp8 .*none of no, bf16, fp16"):
        make_accelerator()
    if not torch.cuda.is_available():
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
        with pytest.raises(ValueError, match="fp16 needs a GPU"):
            make_accelerator()
