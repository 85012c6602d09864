"""Optimisers and learning rates."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from seqmm.arguments import TrainArguments
from seqmm.names import nearest

OptimizerMaker = Callable[..., Optimizer]
"""Called with parameter groups and the keywords ``lr``, ``weight_decay``: a class of torch.optim, or a function."""
SchedulerMaker = Callable[[Optimizer, int], LRScheduler]
"""Called with an optimiser and how many steps it will make in all; its scheduler makes a step after each of them."""


def make_optimizer(
    args: TrainArguments, groups: list[dict[str, Any]], maker: OptimizerMaker | None = None
) -> Optimizer:
    """The optimiser of a phase; each group's own learning rate is kept as ``initial_lr``.

    Args:
        args: ``optimizer`` names a class of torch.optim where no ``maker`` is given.
        groups: of the model's parameters, see :func:`without_decay`.
        maker: see :data:`OptimizerMaker`.

    Raises:
        ValueError: torch.optim has no such class, or the class no such option.
    """
    defaults: dict[str, Any] = {"lr": args.learning_rate, "weight_decay": args.weight_decay}
    if maker is None and args.optimizer == "Adam":
        # one fused pass over a table instead of one per operation: 6x on 7,050 x 4,096 (fp32 on CPU and GPU)
        adam: dict[str, Any] = {"betas": args.adam_betas, "decoupled_weight_decay": args.decoupled_weight_decay}
        optimizer: Optimizer = torch.optim.Adam(groups, fused=True, **defaults, **adam)
    else:
        try:
            options = defaults | args.optimizer_options
            optimizer = (maker or optimizer_class(args.optimizer))(groups, **options)
        except TypeError as error:
            raise ValueError(f"train.optimizer {args.optimizer}: {error}; see torch.optim for its options") from error
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


def optimizer_class(name: str) -> type[Optimizer]:
    """A class of torch.optim by name.

    Raises:
        ValueError: there is none; the text says the nearest.
    """
    classes = {key: kind for key, kind in vars(torch.optim).items() if isinstance(kind, type)}
    known = {key: kind for key, kind in classes.items() if issubclass(kind, Optimizer) and kind is not Optimizer}
    if name not in known:
        raise ValueError(f"train.optimizer {name!r} is no optimiser of torch.optim{nearest(name, known)}")
    return known[name]


def without_decay(groups: list[dict[str, Any]], model: nn.Module, words: Sequence[str]) -> list[dict[str, Any]]:
    """Each group in two, if some of its parameters are called by one of ``words``: these have no weight decay."""
    spared = {id(each) for name, each in model.named_parameters() if any(word in name.lower() for word in words)}
    found: list[dict[str, Any]] = []
    for group in groups:
        decayed = [each for each in group["params"] if id(each) not in spared]
        rest = [each for each in group["params"] if id(each) in spared]
        found += [{**group, "params": decayed}] * bool(decayed)
        found += [{**group, "params": rest, "weight_decay": 0.0}] * bool(rest)
    return found


def make_scheduler(maker: SchedulerMaker, optimizer: Optimizer, steps: int) -> LRScheduler:
    """The scheduler of a phase's optimiser.

    Raises:
        ValueError: it is one that waits for a metric.
    """
    scheduler = maker(optimizer, steps)
    if isinstance(scheduler, ReduceLROnPlateau):
        raise ValueError("a scheduler makes a step after each of the optimiser's, and ReduceLROnPlateau needs a metric")
    return scheduler


def rate_factor(args: TrainArguments, epoch: int, batch: int, num_batches: int) -> float:
    """Factor on the learning rate at batch ``batch`` of ``num_batches`` of an epoch: a function of the position alone.

    Both count from 0; so a resumed run needs no state of a schedule.
    """
    if args.schedule == "decay":
        return args.decay_rate ** (epoch / args.decay_epochs)
    done = (epoch + batch / num_batches) / args.epochs
    warmup = args.warmup_ratio
    if done < warmup:
        return (done * args.epochs * num_batches + 1) / (warmup * args.epochs * num_batches + 1)
    if args.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))
    return 1.0
