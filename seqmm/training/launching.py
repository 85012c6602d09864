"""The accelerator of a run: the launcher says where and on how many processes, and nothing that run.yaml does not show.

``accelerate launch`` speaks through environment variables. Of those it sets, the number of processes, devices and
threads are the launcher's (results do not depend on them), and ``ACCELERATE_MIXED_PRECISION`` is the default of
``train.mixed_precision``: what it came to is written into run.yaml. All others that change the mathematics are held
here: ignored with a warning where a run can go on without them, refused where it cannot.
"""

from __future__ import annotations

import logging
import os
from typing import Any, get_args

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DistributedDataParallelKwargs,
    GradientAccumulationPlugin,
    TorchDynamoPlugin,
)

from seqmm.distributed import on_cpu
from seqmm.names import MixedPrecision

logger = logging.getLogger(__name__)

PRECISION = "ACCELERATE_MIXED_PRECISION"
IGNORED = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": (
        "1",
        "train.gradient_accumulation_steps says how many batches a step has",
    ),
    "ACCELERATE_DYNAMO_BACKEND": ("no", "models are not compiled"),
}
"""Variable -> (the value under which it does nothing, what holds instead)."""
REFUSED = (
    "ACCELERATE_USE_DEEPSPEED",
    "ACCELERATE_USE_FSDP",
    "ACCELERATE_USE_MEGATRON_LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG",
)
"""Variables that cut a model over processes: every process holds all of it (DDP)."""


def make_accelerator(mixed_precision: str | None = None, **options: Any) -> Accelerator:
    """An accelerator that depends on its arguments and on the launcher's processes alone.

    Args:
        mixed_precision: no, bf16 or fp16; None = what the launcher says, else no.
        options: more of accelerate's arguments.

    Raises:
        ValueError: the launcher asks for what would change a run unseen: sharded models, or another precision.
    """
    for name in REFUSED:
        if os.environ.get(name, "false").lower() in ("1", "true", "yes", "on", "y", "t"):
            raise ValueError(
                f"{name}={os.environ[name]} (accelerate launch or its configuration set it) cuts models over "
                "processes, which they are not made for; launch with distributed_type MULTI_GPU instead, or unset it"
            )
    said = os.environ.get(PRECISION, "no").lower()
    if mixed_precision is None and said not in get_args(MixedPrecision):
        raise ValueError(
            f"{PRECISION}={said} (accelerate launch or its configuration set it) is none of "
            f"{', '.join(get_args(MixedPrecision))}; choose one of these, there or with train.mixed_precision"
        )
    if (mixed_precision or said) == "fp16" and not torch.cuda.is_available():
        raise ValueError("train.mixed_precision fp16 needs a GPU and none is visible; use bf16 or no")
    for name, (idle, instead) in IGNORED.items():
        if os.environ.get(name, idle).lower() != idle:
            logger.warning("%s=%s is ignored: %s", name, os.environ[name], instead)
    return Accelerator(
        cpu=on_cpu(),
        mixed_precision=mixed_precision,
        # given, they win over the environment
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        dynamo_plugin=TorchDynamoPlugin(backend="no"),
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=True)],
        **options,
    )
