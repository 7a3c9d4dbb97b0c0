"""The discriminator of the loss `gan`, trained beside a model in turns with it, as Real-ESRGAN does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch

from adaptsr import randomness
from adaptsr.basicsr_compat import basicsr_module
from adaptsr.config import schema
from adaptsr.training.recipe import Trainer

GAN: Final = "gan"
NETWORK = "network."


class Adversary:
    """basicsr's U-Net with spectral normalisation, which learns to tell a model's images from HR."""

    def __init__(self, training: schema.Training, seed: int, device: torch.device) -> None:
        declared = training.objective.discriminator
        # basicsr draws the weights from the global generator, which every step seeds anew.
        randomness.seed_globals(seed, "discriminator")
        self.network = basicsr_module("archs.discriminator_arch").UNetDiscriminatorSN(3, declared.channels).to(device)
        self._loss = basicsr_module("losses.gan_loss").GANLoss(declared.loss, loss_weight=training.objective.terms[GAN])
        of_its_own = {name: getattr(declared, name) for name in ("lr", "betas")}
        schedule = training.model_dump(include={"iterations", "schedule", "milestones", "decay", "warmup"})
        unused = {"batch_size": 1, "crop": 8, "validate_every": 1}
        self._trainer = Trainer(self.network, schema.Training.model_validate({**schedule, **of_its_own, **unused}))

    def loss(self, restored: torch.Tensor) -> torch.Tensor:
        """Return the weighted loss of a model by how well its images are told from HR."""
        self.network.requires_grad_(False)
        loss: torch.Tensor = self._loss(self.network(restored), True, is_disc=False)
        return loss

    def begin(self, iteration: int) -> None:
        """Prepare for the step of an iteration."""
        self._trainer.begin(iteration)

    def step(self, restored: torch.Tensor, hr: torch.Tensor) -> None:
        """Learn from a batch of HR and one of restored images."""
        self.network.requires_grad_(True)
        self._loss(self.network(hr), True, is_disc=True).backward()
        self._trainer.step(self._loss(self.network(restored.detach()), False, is_disc=True))

    def state(self) -> dict[str, torch.Tensor]:
        """Return the network, the vectors of its power iterations included, and its optimizer's state."""
        return {f"{NETWORK}{name}": value for name, value in self.network.state_dict().items()} | self._trainer.state()

    def load_state(self, tensors: Mapping[str, torch.Tensor]) -> None:
        own = {name: tensor for name, tensor in tensors.items() if name.startswith(NETWORK)}
        self.network.load_state_dict({name.removeprefix(NETWORK): tensor for name, tensor in own.items()})
        self._trainer.load_state({name: tensor for name, tensor in tensors.items() if name not in own})
