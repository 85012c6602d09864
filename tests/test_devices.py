"""Every graph model on a GPU that is not there: its parameters and batches are fake CUDA tensors, all else is real.

Mixed devices are an error then, as on a GPU. What waits for the device shows, too: values that are read, copies to or
from it. A step may do either the first time, when it prepares and caches, and not again.
"""

from __future__ import annotations

import traceback

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from seqmm.models.collaborative.base import PairRecommender
from seqmm.models.registry import model_class
from tests.cases import CASES, SLOW
from tests.test_contract import _first_batch

# MMSSL's critic phase, which cannot run here, waits as well: for how many items the batch's users have
WAITS = {
    "hccf": "the distinct users and items of a batch: how many there are must be known",
    "damrs": "the same",
    "idfree": "where the three kinds of edges end in a step's sample",
}
GRAPH = [name for name in SLOW if issubclass(model_class(CASES[name].model_type), PairRecommender)]
CUDA = torch.device("cuda", 0)
aten = torch.ops.aten


class _CudaGenerator(torch.Generator):
    device = property(lambda self: CUDA)  # type: ignore[assignment]


class FakeGPU(TorchDispatchMode):
    """Runs what touches a CUDA tensor without data, everything else as it is; collects what waits."""

    def __init__(self):
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        to = None if kwargs.get("device") is None else torch.device(kwargs["device"]).type
        if to != "cuda" and not any(isinstance(x, FakeTensor) for x in tree_leaves((args, kwargs))):
            with _disable_current_modes():
                return func(*args, **kwargs)
        copies = func is aten._to_copy.default and to is not None and to != args[0].device.type
        sized_by_data = (aten._unique2.default, aten.nonzero.default, aten.repeat_interleave.Tensor)
        reads = (aten._local_scalar_dense.default, aten.equal.default)
        if copies or func in (*reads, *sized_by_data):
            place = [frame for frame in traceback.extract_stack() if "/seqmm/" in frame.filename][-1]
            self.waits.append(f"{func}: {place.filename}:{place.lineno}: {place.line}")
        if copies and to == "cpu":
            with _disable_current_modes():
                return torch.zeros(args[0].shape, dtype=kwargs.get("dtype", args[0].dtype))
        if func in reads:
            return int(func is not aten.equal.default)
        if func in sized_by_data:  # some number of rows
            columns = [args[0].ndim] * (func is aten.nonzero.default)
            found = torch.empty(args[0].numel() // 2 + 1, *columns, dtype=torch.int64, device=CUDA)
            return (found, found, found) if func is aten._unique2.default else found
        if func is aten.bincount.default:
            return torch.empty(args[2], dtype=torch.int64, device=CUDA)  # input, weights, minlength
        return args[0] if func is aten.exponential_.default else func(*args, **kwargs)


@pytest.mark.slow
@pytest.mark.parametrize("name", GRAPH)
def test_a_step_mixes_no_devices_and_waits_for_none(name, monkeypatch):
    corpus = CASES[name].corpus()
    model = CASES[name].model(corpus).train()
    batches = [_first_batch(model, corpus, stage=number) for number in range(len(model.stages))]
    real = torch.Generator
    monkeypatch.setattr(torch, "Generator", lambda device="cpu": (_CudaGenerator if device != "cpu" else real)())
    with FakeTensorMode(allow_non_fake_inputs=True), FakeGPU() as gpu:
        for module in model.modules():
            for key, parameter in module.named_parameters(recurse=False):
                fake = torch.empty(parameter.shape, device=CUDA)
                module._parameters[key] = nn.Parameter(fake, requires_grad=parameter.requires_grad)
            for key, buffer in module.named_buffers(recurse=False):
                module._buffers[key] = torch.empty(buffer.shape, dtype=buffer.dtype, device=CUDA)
        for number, (stage, batch) in enumerate(zip(model.stages, batches, strict=True)):
            model.on_stage_start(number, 1, real().manual_seed(0))
            batch = {key: x if key == "step_seed" else torch.empty_like(x, device=CUDA) for key, x in batch.items()}
            for _ in range(3):
                gpu.waits.clear()
                for phase in stage.phases:
                    if phase != "critic":  # its forward takes a gradient, and a fake GPU has no stream
                        assert model(batch, phase)["loss"].device == CUDA
                model.on_step_end(1)
            assert bool(gpu.waits) == (CASES[name].model_type in WAITS), "\n".join(gpu.waits)
        with torch.no_grad():
            tables = model.eval().tables()
        assert all(table.device == CUDA for table in tables.values())
