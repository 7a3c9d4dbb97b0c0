"""How a method trains: optimizer, parameter groups, schedule and moving average."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from adaptsr.adaptation.reparametrization import adaptation_state, load_adaptation, trainable_parameters
from adaptsr.config import schema
from adaptsr.training.checkpoints import Stateful

AVERAGE = "ema"


def _lion(groups: Any, **options: Any) -> torch.optim.Optimizer:
    from timm.optim import Lion  # timm takes seconds to import

    lion: torch.optim.Optimizer = Lion(groups, **options)
    return lion


def _sgd(groups: Any, betas: tuple[float, float], **options: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, momentum=betas[0], **options)


def _adam(groups: Any, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(groups, fused=True, **options)


def _adamw(groups: Any, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, fused=True, **options)


OPTIMIZERS: Mapping[str, tuple[Callable[..., torch.optim.Optimizer], tuple[float, float], int]] = {
    "adam": (_adam, (0.9, 0.999), 2),
    "adamw": (_adamw, (0.9, 0.999), 2),
    "sgd": (_sgd, (0.9, 0.999), 1),
    "lion": (_lion, (0.9, 0.99), 1),
}
"""How each is made, its default betas, and how many numbers it keeps for each parameter.

Lion: Chen et al., "Symbolic Discovery of Optimization Algorithms", NeurIPS 2023; timm's implementation.
"""


def learning_rate(training: schema.Training, iteration: int) -> float:
    """Return the learning rate of an iteration for parameters that are in no group."""
    if training.schedule == "cosine":
        factor = 0.5 * (1 + math.cos(math.pi * iteration / training.iterations))
    else:
        factor = training.decay ** sum(iteration >= part * training.iterations for part in training.milestones)
    rising = training.warmup * training.iterations
    if iteration < rising:
        factor *= (iteration + 1) / math.ceil(rising)
    return float(training.lr * factor)


def unused_groups(training: schema.Training, model: nn.Module) -> list[str]:
    """Return the patterns of `groups` that match no trained parameter."""
    names = list(trainable_parameters(model))
    return [pattern for pattern in training.groups if not fnmatch.filter(names, pattern)]


def as_used(training: schema.Training) -> dict[str, Any]:
    """Return a schedule for a record, with the optimizer's own betas where none are stated."""
    return {**training.model_dump(mode="json"), "betas": list(_betas(training))}


def _betas(training: schema.Training) -> tuple[float, float]:
    return training.betas or OPTIMIZERS[training.optimizer][1]


class MovingAverage:
    """An exponential moving average of the trained parameters."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self._parameters = list(parameters.values())
        self._advance = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self.values = {name: parameter.detach().clone() for name, parameter in parameters.items()}

    def update(self) -> None:
        self._advance(list(self.values.values()), self._parameters, None)

    @torch.no_grad()
    def settle(self) -> None:
        """Copy the average into the model."""
        for parameter, value in zip(self._parameters, self.values.values(), strict=True):
            parameter.copy_(value)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the model have the average for a while."""
        kept = [parameter.detach().clone() for parameter in self._parameters]
        self.settle()
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, value in zip(self._parameters, kept, strict=True):
                    parameter.copy_(value)


class Best:
    """The adaptation that did best so far; before any is noted, that of the unadapted backbone."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.note()

    def note(self) -> None:
        """Remember the adaptation that the model has now."""
        self._values = {name: tensor.clone() for name, tensor in adaptation_state(self._model).items()}

    def settle(self) -> None:
        """Give the model the remembered adaptation."""
        load_adaptation(self._model, self._values, "the best weights")

    def state(self) -> dict[str, torch.Tensor]:
        return dict(self._values)

    def load_state(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self._values = {name: tensors[name].to(value) for name, value in self._values.items()}


class Trainer:
    """Trains the parameters of a model that have `requires_grad`, by the recipe of a schedule.

    companions: what else is trained beside the model and enters its checkpoints, by name.
    """

    def __init__(
        self, model: nn.Module, training: schema.Training, companions: Mapping[str, Stateful] | None = None
    ) -> None:
        self._training = training
        self._companions = dict(companions or {})
        self.parameters = trainable_parameters(model)
        make, _, self._kept = OPTIMIZERS[training.optimizer]
        groups: dict[tuple[float, float], list[str]] = {}
        for name in self.parameters:
            groups.setdefault(_factors(training, name), []).append(name)
        self._order = [name for names in groups.values() for name in names]
        self.optimizer = make(
            [
                {
                    "params": [self.parameters[name] for name in names],
                    "weight_decay": training.weight_decay * decay,
                    "factor": factor,
                }
                for (factor, decay), names in groups.items()
            ],
            lr=training.lr,
            betas=_betas(training),
        )
        if training.compile == "graphs":
            self._hold_rates_on_the_device()
        self.average = MovingAverage(self.parameters, training.ema) if training.ema else None

    @property
    def copies(self) -> int:
        """How many numbers a trained parameter needs besides itself: its gradient, the optimizer's state, the average."""
        return 1 + self._kept + (self.average is not None)

    def begin(self, iteration: int) -> None:
        """Set the learning rates of an iteration and drop the gradients of the one before."""
        rate = learning_rate(self._training, iteration)
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate * group["factor"])
            else:
                group["lr"] = rate * group["factor"]
        self.optimizer.zero_grad(set_to_none=True)

    def _hold_rates_on_the_device(self) -> None:
        """Let a captured step read its rates: it would repeat a number of the host for ever."""
        for group in self.optimizer.param_groups:
            group["lr"] = torch.tensor(group["lr"], device=group["params"][0].device)
            group["capturable"] = True

    def step(self, loss: torch.Tensor) -> None:
        """Take one step down the gradient of a loss."""
        loss.backward()  # type: ignore[no-untyped-call]
        if self._training.clip_norm:
            nn.utils.clip_grad_norm_(self.parameters.values(), self._training.clip_norm)
        self.optimizer.step()
        if self.average:
            self.average.update()

    @contextmanager
    def scored_weights(self) -> Iterator[None]:
        """Let the model have the weights that would be scored if training ended now."""
        if self.average is None:
            yield
            return
        with self.average.in_place():
            yield

    def finish(self) -> None:
        """Leave the model with the weights to score."""
        if self.average:
            self.average.settle()

    def state(self) -> dict[str, torch.Tensor]:
        """Return what a step needs besides the parameters: `<what>.<parameter>` to tensor."""
        tensors = {
            f"{key}.{name}": value
            for name, parameter in self.parameters.items()
            for key, value in self.optimizer.state[parameter].items()
            if value is not None
        }
        if self.average:
            tensors |= {f"{AVERAGE}.{name}": value for name, value in self.average.values.items()}
        for beside, companion in self._companions.items():
            tensors |= {f"{beside}.{name}": value for name, value in companion.state().items()}
        return tensors

    def load_state(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Restore a state of `state`."""
        parts: dict[str, dict[str, torch.Tensor]] = {}
        for label, tensor in tensors.items():
            key, _, name = label.partition(".")
            parts.setdefault(key, {})[name] = tensor
        for beside, companion in self._companions.items():
            companion.load_state(parts.pop(beside))
        averages = parts.pop(AVERAGE, {})
        if self.average:
            for name, value in self.average.values.items():
                value.copy_(averages[name])
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, values in parts.items():
            for name, tensor in values.items():
                state.setdefault(self._order.index(name), {})[key] = self._laid_out(tensor, name)
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})

    def _laid_out(self, tensor: torch.Tensor, name: str) -> torch.Tensor:
        """Give moments the memory layout of their parameter: a fused step walks through memory in order."""
        parameter = self.parameters[name]
        return torch.empty_like(parameter).copy_(tensor) if tensor.shape == parameter.shape else tensor


def _factors(training: schema.Training, name: str) -> tuple[float, float]:
    """Return the factors of learning rate and weight decay of a parameter."""
    groups = [group for pattern, group in training.groups.items() if fnmatch.fnmatchcase(name, pattern)]
    return math.prod(group.lr for group in groups), math.prod(group.weight_decay for group in groups)
