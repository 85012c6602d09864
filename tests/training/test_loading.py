"""Loader processes: started once, and what they make is a function of (seed, epoch, rows) all the same."""

import os
import signal

import pytest
import torch

from seqmm.arguments import TrainArguments
from seqmm.data.collators import PairCollator
from seqmm.training.launching import make_accelerator
from seqmm.training.loading import Loader
from seqmm.training.trainer import Trainer
from tests.cases import CASES


class Told(PairCollator):
    """Says which process made a batch."""

    def __call__(self, epoch, rows):
        return super().__call__(epoch, rows) | {"process": torch.tensor([os.getpid()])}


def _epoch(loader: Loader, epoch: int, start: int = 0):
    batches = loader.collator.batches(epoch, 64)
    return [share.tensors for step in loader.steps(epoch, batches, start) for share in step]


def test_workers_live_through_epochs_and_make_the_same_batches():
    corpus = CASES["bpr"].corpus()
    accelerator = make_accelerator()
    alone, helped = (Loader(Told(corpus, 3), accelerator, workers, 1) for workers in (0, 2))
    processes = []
    for epoch, start in ((0, 0), (1, 2), (0, 0)):
        ours, theirs = _epoch(alone, epoch, start), _epoch(helped, epoch, start)
        assert len(ours) == len(theirs) > 2
        for one, other in zip(ours, theirs, strict=True):
            assert one.keys() == other.keys()
            assert all(torch.equal(one[name], other[name]) for name in one if name != "process")
        processes.append({int(batch["process"]) for batch in theirs})
    assert len(processes[0]) == 2 and os.getpid() not in processes[0]
    assert processes[0] == processes[1] == processes[2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_takes_no_batch(number):
    loader = Loader(Told(CASES["bpr"].corpus(), 0), make_accelerator(), 1, 1)
    steps = loader.steps(0, loader.collator.batches(0, 64), 0)
    worker = int(next(steps)[0].tensors["process"])
    os.kill(worker, number)
    left = [step[0].tensors for step in steps]
    assert left and {int(batch["process"]) for batch in left} == {worker}


def test_training_with_workers_is_training_without(tmp_path):
    weights = []
    for workers in (0, 1):
        case = CASES["bpr"]
        corpus = case.corpus()
        args = TrainArguments(epochs=2, batch_size=64, num_workers=workers)
        trainer = Trainer(case.model(corpus), corpus, args)
        trainer.train()
        weights.append(trainer.model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
