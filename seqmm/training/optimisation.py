"""Optimisers and learning rates."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from seqmm.arguments import TrainArguments
from seqmm.models.base import Recommender

OptimizerMaker = Callable[..., Optimizer]
"""Called with parameter groups and the keywords ``lr``, ``weight_decay``: a class of torch.optim, or a function.

One that has no ``weight_decay`` is called without it, if it is 0."""
SchedulerMaker = Callable[[Optimizer, int], LRScheduler]
"""Called with an optimiser and how many steps it will make in all; its scheduler makes a step after each of them."""


def make_optimizers(
    args: TrainArguments, model: Recommender, maker: OptimizerMaker | None = None
) -> dict[str, Optimizer]:
    """The optimiser of each of a model's phases.

    Raises:
        ValueError: a phase without parameters, or what :func:`make_optimizer` refuses.
    """
    made: dict[str, Optimizer] = {}
    for phase in dict.fromkeys(phase for stage in model.stages for phase in stage.phases):
        if not trained(model, phase):
            raise ValueError(f"{type(model).__name__} has no parameters for phase {phase!r}")
        groups = model.parameter_groups(phase)
        if args.no_decay:
            groups = without_decay(groups, model, args.no_decay)
        made[phase] = make_optimizer(args, groups, maker)
    return made


def trained(model: Recommender, phase: str) -> list[nn.Parameter]:
    """The parameters that a phase trains."""
    return [each for group in model.parameter_groups(phase) for each in group["params"] if each.requires_grad]


def make_optimizer(
    args: TrainArguments, groups: list[dict[str, Any]], maker: OptimizerMaker | None = None
) -> Optimizer:
    """The optimiser of a phase; each group's own learning rate is kept as ``initial_lr``.

    Args:
        args: ``optimizer`` names a class of torch.optim where no ``maker`` is given.
        groups: of the model's parameters, see :func:`without_decay`.
        maker: see :data:`OptimizerMaker`.

    Raises:
        ValueError: the class or the maker has no such option, or refuses its value.
    """
    defaults: dict[str, Any] = {"lr": args.learning_rate, "weight_decay": args.weight_decay}
    if maker is None and args.optimizer == "Adam":
        # one fused pass over a table instead of one per operation: 6x on 7,050 x 4,096 (fp32 on CPU and GPU)
        adam: dict[str, Any] = {"betas": args.adam_betas, "decoupled_weight_decay": args.decoupled_weight_decay}
        optimizer: Optimizer = torch.optim.Adam(groups, fused=True, **defaults, **adam)
    else:
        make: OptimizerMaker = maker or getattr(torch.optim, args.optimizer)
        if not args.weight_decay and not takes_weight_decay(make):
            del defaults["weight_decay"]
        try:
            optimizer = make(groups, **defaults | (args.optimizer_options if maker is None else {}))
        except (TypeError, ValueError) as error:
            if maker is not None:
                name = getattr(maker, "__qualname__", repr(maker))
                raise ValueError(f"Trainer's optimizer {name}, called with {', '.join(defaults)}: {error}") from error
            raise ValueError(f"train.optimizer {args.optimizer}: {error}; see torch.optim for its options") from error
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


def takes_weight_decay(maker: OptimizerMaker) -> bool:
    """Whether it has the keyword; AdamW's own default is not 0, so that 0 must be said where it can be."""
    parameters = inspect.signature(maker).parameters.values()
    return any(each.name == "weight_decay" or each.kind is each.VAR_KEYWORD for each in parameters)


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
