"""All that a run must have again to go on exactly: taken as plain values and tensors, checked, and put back."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import gather_object
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from seqmm.models.base import Recommender
from seqmm.training.checkpoints import TENSORS, WEIGHTS, Saved
from seqmm.training.packing import pack, unpack
from seqmm.training.state import TrainState
from seqmm.training.tracking import LossSums


class Snapshot:
    """What a run consists of while it trains: weights, optimisers by parameter name, schedulers, where it is.

    Nothing is put back before all of it is known to fit: an optimiser's kernels read what they are given unchecked.

    Args:
        accelerator: of the run; its gradient scaler is part of it.
        model: without its wrapper, so that the number of processes may change.
        optimizers: by phase.
        schedulers: by phase.
        state: where the run is.
        losses: of the epoch under way.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: Recommender,
        optimizers: Mapping[str, Optimizer],
        schedulers: Mapping[str, LRScheduler],
        state: TrainState,
        losses: LossSums,
    ):
        self.accelerator, self.model, self.state, self.losses = accelerator, model, state, losses
        self.optimizers = {phase: _bare(optimizer) for phase, optimizer in optimizers.items()}
        self.schedulers = dict(schedulers)
        self._names = {id(parameter): name for name, parameter in model.named_parameters()}

    # -- taking -------------------------------------------------------------------------------------------------------

    def gather(self) -> list[dict[str, Any]]:
        """What each process has of its own: its global random generators."""
        return list(gather_object([_random_state(self.accelerator)]))

    def take(self, everyone: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
        """Plain values, and the tensors of each file; one process takes it for all.

        Args:
            everyone: what :meth:`gather` gave.

        Raises:
            FloatingPointError: a weight or an optimiser's state is not finite.
            ValueError: an optimiser or a scheduler holds what cannot be saved.
        """
        tensors: dict[str, Tensor] = {}
        values = self._courses(tensors)
        weights = self.model.state_dict()
        check_finite({f"weight {name}": tensor for name, tensor in weights.items()}, self.state.step)
        values |= {
            "state": self.state.state_dict(),
            "losses": pack(self.losses.state_dict(), tensors, "losses"),
            "hooks": pack(self.model.hook_state, tensors, "hooks"),
            "random": everyone,
        }
        return values, {WEIGHTS: _separate(weights), TENSORS: _separate(tensors)}

    def check_packable(self) -> None:
        """Raises ValueError if an optimiser or a scheduler holds what cannot be saved: before training, not after."""
        self._courses({})

    def _courses(self, tensors: dict[str, Tensor]) -> dict[str, Any]:
        optimizers = {phase: self._optimizer_values(phase) for phase in self.optimizers}
        schedulers = {phase: scheduler.state_dict() for phase, scheduler in self.schedulers.items()}
        scaler = self.accelerator.scaler
        packed = {
            "optimizers": pack(optimizers, tensors, "optimizers"),
            "schedulers": pack(schedulers, tensors, "schedulers"),
            "scaler": pack(None if scaler is None else scaler.state_dict(), tensors, "scaler"),
        }
        shapes = {tuple(parameter.shape) for parameter in self.model.parameters()}
        kept = {name: tensor for name, tensor in tensors.items() if tuple(tensor.shape) in shapes}
        check_finite({name: each for name, each in kept.items() if name.startswith("optimizers.")}, self.state.step)
        return packed

    def _optimizer_values(self, phase: str) -> dict[str, Any]:
        """An optimiser's state_dict with the names of parameters for their numbers."""
        whole, names = self.optimizers[phase].state_dict(), self._parameter_names(phase)
        groups = [{**group, "params": [names[number] for number in group["params"]]} for group in whole["param_groups"]]
        state = {names.get(key, key): value for key, value in whole["state"].items()}
        return {**whole, "state": state, "param_groups": groups}

    def _parameter_names(self, phase: str) -> dict[Any, str]:
        """The name of each parameter of an optimiser, by its number in the state_dict."""
        optimizer = self.optimizers[phase]
        numbers = [number for group in optimizer.state_dict()["param_groups"] for number in group["params"]]
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if any(id(parameter) not in self._names for parameter in parameters):
            raise ValueError(f"the optimiser of phase {phase!r} trains a tensor that is no parameter of the model")
        return {number: self._names[id(each)] for number, each in zip(numbers, parameters, strict=True)}

    # -- putting back -------------------------------------------------------------------------------------------------

    def restore(self, saved: Saved) -> None:
        """Puts a saved state back, once all of it is known to fit.

        Raises:
            ValueError: it does not fit, naming the state and what is wrong; nothing was changed.
        """
        values, device = saved.values, self.accelerator.device
        with saved.explained():
            weights, tensors = saved.tensors(WEIGHTS), saved.tensors(TENSORS)
            given = {
                name: unpack(values[name], tensors, device) for name in ("schedulers", "scaler", "losses", "hooks")
            }
            optimizers = unpack(values["optimizers"], tensors, device)
            _fits(self.model.state_dict(), weights, "weight ")
            _same_keys(self.optimizers, optimizers, "optimizers")
            loadable = {phase: self._checked(phase, held) for phase, held in optimizers.items()}
            _same_keys(self.schedulers, given["schedulers"], "schedulers")
            for phase, scheduler in self.schedulers.items():
                held, place = given["schedulers"][phase], f"schedulers.{phase}"
                _same_keys(scheduler.state_dict(), held, place, strict=_is_torchs(scheduler))
            if (given["scaler"] is None) != (self.accelerator.scaler is None):
                raise ValueError("mixed precision fp16 was on in one of the runs only")
            losses, state = LossSums(), TrainState()
            losses.load_state_dict(given["losses"])
            state.load_state_dict(values["state"])
            if not all(isinstance(tensor, Tensor) for tensor in given["hooks"].values()):
                raise ValueError("hooks holds other values than tensors")
            self.model.load_state_dict(weights)
            for phase, whole in loadable.items():
                self._load_optimizer(phase, whole)
            for phase, scheduler in self.schedulers.items():
                scheduler.load_state_dict(given["schedulers"][phase])
            if self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(given["scaler"])
            self.losses.load_state_dict(given["losses"])
            self.state.load_state_dict(values["state"])
            _set_random_state(self.accelerator, values["random"])
        for name, tensor in given["hooks"].items():
            self.model.set_state(name, tensor)

    def _checked(self, phase: str, held: dict[str, Any]) -> dict[str, Any]:
        """The state_dict to load of what was saved of an optimiser.

        Raises:
            ValueError: it is of other parameters or options, or a tensor has another shape or type.
        """
        place, optimizer, names = f"optimizers.{phase}", self.optimizers[phase], self._parameter_names(phase)
        numbers = {name: number for number, name in names.items()}
        fresh, strict = self._optimizer_values(phase), _is_torchs(optimizer)
        _same_keys(fresh, held, place, strict=strict)
        if len(fresh["param_groups"]) != len(held["param_groups"]):
            raise ValueError(f"{place} has {len(held['param_groups'])} groups, not {len(fresh['param_groups'])}")
        for number, (ours, theirs) in enumerate(zip(fresh["param_groups"], held["param_groups"], strict=True)):
            _same_keys(ours, theirs, f"{place}.param_groups.{number}", strict=strict)
            if ours["params"] != theirs["params"]:
                raise ValueError(f"{place}.param_groups.{number} is of other parameters: {theirs['params']}")
            for key, value in ours.items() if strict else ():
                _same_kind(value, theirs[key], f"{place}.param_groups.{number}.{key}")
        if strange := [key for key in held["state"] if isinstance(key, str) and key not in numbers]:
            raise ValueError(f"{place}.state is of {strange[0]!r}, which is no parameter of that phase")
        expected = _after_a_step(optimizer, {numbers[key] for key in held["state"] if key in numbers})
        for number, reference in expected.items():
            _fits(reference, held["state"][names[number]], f"{place}.state.{names[number]}.", strict=strict)
        groups = [{**group, "params": [numbers[name] for name in group["params"]]} for group in held["param_groups"]]
        state = {numbers.get(key, key): value for key, value in held["state"].items()}
        return {**held, "state": state, "param_groups": groups}

    def _load_optimizer(self, phase: str, whole: dict[str, Any]) -> None:
        """Loads a state_dict; what torch would cast to the parameter's type keeps its own."""
        optimizer, kept = self.optimizers[phase], dict(whole["state"])
        optimizer.load_state_dict(whole)
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        numbers = [number for group in whole["param_groups"] for number in group["params"]]
        for number, parameter in zip(numbers, parameters, strict=True):
            if number in kept and parameter in optimizer.state:
                optimizer.state[parameter] = _exact(optimizer.state[parameter], kept[number])


def check_finite(tensors: Mapping[str, Tensor], step: int) -> None:
    """Raises FloatingPointError, naming the tensor, if a value is not finite: such a state is never saved."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise FloatingPointError(
                f"{name} is not finite at step {step}, so it is not saved (what was saved before is untouched); lower "
                "train.learning_rate, set train.max_grad_norm, or train without mixed precision"
            )


def _bare(optimizer: Any) -> Optimizer:
    """Without accelerate's wrapper."""
    return optimizer.optimizer if isinstance(optimizer, AcceleratedOptimizer) else optimizer


def _is_torchs(made: object) -> bool:
    """Whether all that it holds is known; another's may get keys only after its first step."""
    return type(made).__module__.startswith("torch.optim")


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, each with memory of its own, as safetensors wants it (tied weights share theirs)."""
    seen: set[int] = set()
    made: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        place = plain.untyped_storage().data_ptr()
        made[name] = plain.clone() if place in seen else plain
        seen.add(place)
    return made


def _after_a_step(optimizer: Optimizer, numbers: set[Any]) -> dict[Any, dict[str, Any]]:
    """What a copy of an optimiser holds of some parameters after a step of gradient 0: the shapes it must have.

    Nothing, where the optimiser cannot be copied or makes no step without more.
    """
    with contextlib.suppress(Exception), torch.random.fork_rng(devices=[]):
        twin = copy.deepcopy(optimizer)
        order = [number for group in optimizer.state_dict()["param_groups"] for number in group["params"]]
        parameters = [parameter for group in twin.param_groups for parameter in group["params"]]
        for number, parameter in zip(order, parameters, strict=True):
            parameter.grad = torch.zeros_like(parameter) if number in numbers else None
        type(twin).step(twin)
        return {number: twin.state[each] for number, each in zip(order, parameters, strict=True) if number in numbers}
    return {}


def _fits(reference: Any, held: Any, place: str, *, strict: bool = True) -> None:
    """Raises ValueError if the tensors of a dict are not of the reference's shapes and types, or one is missing."""
    if not isinstance(held, dict):
        raise ValueError(f"{place.rstrip('.')} is no dict")
    if strict and (missing := [name for name in reference if name not in held]):
        raise ValueError(f"{place}{missing[0]} is missing")
    if place.startswith("weight") and (extra := [name for name in held if name not in reference]):
        raise ValueError(f"{place}{extra[0]} is no weight of this model")
    for name in reference.keys() & held.keys():
        ours, theirs = reference[name], held[name]
        if isinstance(ours, Tensor) != isinstance(theirs, Tensor):
            raise ValueError(f"{place}{name} is a {type(theirs).__name__}, not a {type(ours).__name__}")
        if isinstance(ours, Tensor) and (ours.shape != theirs.shape or ours.dtype != theirs.dtype):
            raise ValueError(
                f"{place}{name} is {list(theirs.shape)} {theirs.dtype}, not {list(ours.shape)} {ours.dtype}"
            )


def _same_keys(ours: Any, theirs: Any, place: str, *, strict: bool = True) -> None:
    """Raises ValueError if a key is missing; if ``strict``, also if one is unknown."""
    if not isinstance(theirs, dict):
        raise ValueError(f"{place} is no dict")
    if differing := [key for key in [*ours, *(theirs if strict else ())] if (key in ours) != (key in theirs)]:
        raise ValueError(f"{place}.{differing[0]} is {'missing' if differing[0] in ours else 'unknown'}")


def _same_kind(ours: Any, theirs: Any, place: str) -> None:
    """Numbers for numbers, sequences for sequences; None and bool may stand for each other."""
    kinds = [
        "number" if isinstance(value, int | float) or value is None else type(value).__name__
        for value in (ours, theirs)
    ]
    wrong = isinstance(ours, Tensor) and isinstance(theirs, Tensor) and ours.shape != theirs.shape
    if kinds[0] != kinds[1] or wrong or (isinstance(ours, tuple) and len(ours) != len(theirs)):
        raise ValueError(f"{place} is {theirs!r}, not like {ours!r}")


def _exact(loaded: Any, saved: Any) -> Any:
    """What was loaded, with the saved tensor wherever its type or place was changed."""
    if isinstance(loaded, Tensor) and isinstance(saved, Tensor):
        kept = loaded.shape == saved.shape and (loaded.dtype != saved.dtype or loaded.device.type != saved.device.type)
        return saved if kept else loaded
    if isinstance(loaded, dict) and isinstance(saved, dict) and loaded.keys() == saved.keys():
        for key in loaded:
            loaded[key] = _exact(loaded[key], saved[key])
        return loaded
    if isinstance(loaded, list | tuple) and type(loaded) is type(saved) and len(loaded) == len(saved):
        return type(loaded)(_exact(*each) for each in zip(loaded, saved, strict=True))
    return loaded


def _random_state(accelerator: Accelerator) -> dict[str, Any]:
    """This process' global generators. seqmm draws from none of them between two steps; a model of one's own may."""
    kind, keys, *rest = np.random.get_state()
    version, numbers, gauss = random.getstate()
    state = {
        "python": [version, list(numbers), gauss],
        "numpy": [kind, np.asarray(keys).tolist(), *rest],
        "torch": _hex(torch.get_rng_state()),
    }
    if accelerator.device.type == "cuda":
        state["cuda"] = _hex(torch.cuda.get_rng_state(accelerator.device))
    return state


def _set_random_state(accelerator: Accelerator, everyone: list[dict[str, Any]]) -> None:
    if accelerator.process_index >= len(everyone):
        return  # there were fewer processes
    state = everyone[accelerator.process_index]
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    np.random.set_state(tuple(state["numpy"]))
    torch.set_rng_state(_unhex(state["torch"]))
    if "cuda" in state and accelerator.device.type == "cuda":
        torch.cuda.set_rng_state(_unhex(state["cuda"]), accelerator.device)


def _hex(state: Tensor) -> str:
    return state.numpy().tobytes().hex()


def _unhex(text: str) -> Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
