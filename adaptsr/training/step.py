"""One training step: sample, restore, measure the loss, follow its gradient."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from adaptsr import randomness
from adaptsr.adaptation.reparametrization import training_mode
from adaptsr.config import schema
from adaptsr.errors import UserError
from adaptsr.training.adversary import GAN, Adversary
from adaptsr.training.capture import Captured
from adaptsr.training.context import TrainingContext
from adaptsr.training.memory import StepMemory
from adaptsr.training.objectives import objective_of
from adaptsr.training.recipe import Best, Trainer


class Step:
    """Takes the training steps of one run. Raises `UserError` if the schedule asks for what the device cannot do."""

    def __init__(self, context: TrainingContext, model: nn.Module, training: schema.Training, seed: int) -> None:
        self._context, self._training, self._seed = context, training, seed
        self.model = model.eval()
        self._objective = objective_of(training, context.device)
        self._adversary = Adversary(training, seed, context.device) if GAN in training.objective.terms else None
        self.best = Best(model) if training.keep == "best" else None
        companions = {"adversary": self._adversary, "best": self.best}
        self.trainer = Trainer(model, training, {name: beside for name, beside in companions.items() if beside})
        self.memory = StepMemory(model, self.trainer.copies)
        self._compute = self._computed if training.compile != "graphs" else Captured(self._computed)
        if training.compile == "graphs" and context.device.type != "cuda":
            raise UserError("training.compile: graphs needs a CUDA device; use regions or none here")

    def __call__(self, iteration: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Take the step of an iteration; return the batch's loss, without the adversary's part, and its L1 distance."""
        # DropPath and similar layers draw from the global generators.
        randomness.seed_globals(self._seed, "step", iteration)
        lr, hr = self._context.sample(self._training, self._seed, iteration, "train")
        if not self.model.training:  # before the first step, and after a validation
            training_mode(self.model)
        self.trainer.begin(iteration)
        if self._adversary:
            self._adversary.begin(iteration)
        return self._compute(lr, hr)

    def _computed(self, lr: torch.Tensor, hr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mixed = self._training.precision == "bfloat16"
        with self.memory.watch_once(), torch.autocast(lr.device.type, torch.bfloat16, enabled=mixed):
            restored = self.model(lr)
        restored = restored.float()
        loss = self._objective(restored, hr)
        self.trainer.step(loss + self._adversary.loss(restored) if self._adversary else loss)
        if self._adversary:
            self._adversary.step(restored, hr)
        return loss.detach(), functional.l1_loss(restored.detach(), hr)
