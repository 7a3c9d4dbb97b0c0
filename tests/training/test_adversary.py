"""The discriminator learns as Real-ESRGAN's does, moves nothing but what trains, and goes on to the bit."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from adaptsr.basicsr_compat import basicsr_module
from adaptsr.config import schema
from adaptsr.runs.validation import check
from adaptsr.training.adversary import Adversary
from adaptsr.training.checkpoints import Checkpoints, History
from adaptsr.training.recipe import Trainer
from tests.factories import matrix_of, refusal, tiny_profile

SMALL: dict[str, Any] = {"terms": {"l1": 1.0, "gan": 0.1}, "discriminator": {"channels": 4, "lr": 0.01}}


def training_of(**recipe: Any) -> schema.Training:
    base = {"iterations": 8, "batch_size": 2, "crop": 32, "lr": 0.01, "validate_every": 8, "objective": SMALL}
    return schema.Training.model_validate({**base, **recipe})


def begun(training: schema.Training) -> tuple[nn.Module, Adversary, Trainer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1))
    model[0].requires_grad_(False)
    adversary = Adversary(training, 1, torch.device("cpu"))
    return model, adversary, Trainer(model, training, {"adversary": adversary})


def batch(iteration: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(100 + iteration)
    return torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)


def train(model: nn.Module, adversary: Adversary, trainer: Trainer, iterations: range) -> None:
    for iteration in iterations:
        lr, hr = batch(iteration)
        trainer.begin(iteration)
        restored = model(lr)
        trainer.step(functional.l1_loss(restored, hr) + adversary.loss(restored))
        adversary.begin(iteration)
        adversary.step(restored, hr)


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("loss", ["vanilla", "lsgan", "hinge", "wgan_softplus"])
def test_both_learn_as_in_real_esrgan(loss: str) -> None:
    """The order of `optimize_parameters` there: the generator with a frozen discriminator, then HR, then restored images."""
    own = {**SMALL["discriminator"], "loss": loss}
    training = training_of(milestones=[0.5], objective={**SMALL, "discriminator": own})
    model, adversary, trainer = begun(training)
    plain, discriminator = copy.deepcopy(model), copy.deepcopy(adversary.network)
    train(model, adversary, trainer, range(6))

    gan = basicsr_module("losses.gan_loss").GANLoss(loss, loss_weight=0.1)
    adam = torch.optim.Adam(plain[1].parameters(), lr=0.01)
    beside = torch.optim.Adam(discriminator.parameters(), lr=0.01, betas=(0.9, 0.99))
    for iteration in range(6):
        for optimizer in (adam, beside):
            optimizer.param_groups[0]["lr"] = 0.01 * 0.75 ** (iteration >= 4)
        lr, hr = batch(iteration)
        discriminator.requires_grad_(False)
        adam.zero_grad()
        restored = plain(lr)
        (functional.l1_loss(restored, hr) + gan(discriminator(restored), True, is_disc=False)).backward()
        adam.step()
        discriminator.requires_grad_(True)
        beside.zero_grad()
        gan(discriminator(hr), True, is_disc=True).backward()
        gan(discriminator(restored.detach().clone()), False, is_disc=True).backward()
        beside.step()
    for ours, theirs in ((model, plain), (adversary.network, discriminator)):
        for name, value in ours.state_dict().items():
            torch.testing.assert_close(value, theirs.state_dict()[name], rtol=1e-4, atol=1e-5)


def test_a_step_of_the_model_touches_only_what_it_trains() -> None:
    model, adversary, trainer = begun(training_of())
    frozen, beside = copy.deepcopy(model[0].state_dict()), dict(adversary.network.named_parameters())
    before = {name: value.detach().clone() for name, value in beside.items()}
    restored = model(batch(0)[0])
    trainer.begin(0)
    trainer.step(adversary.loss(restored))
    assert equal(model[0].state_dict(), frozen)
    assert equal({name: value.detach() for name, value in beside.items()}, before)
    assert model[1].weight.grad.abs().sum() > 0
    moved = copy.deepcopy(model.state_dict())
    adversary.begin(0)
    adversary.step(restored, batch(0)[1])
    assert equal(model.state_dict(), moved)
    assert not equal({name: value.detach() for name, value in beside.items()}, before)


def test_going_on_from_a_checkpoint_changes_no_bit(tmp_path: Path) -> None:
    """Spectral normalisation iterates with vectors of its own, which are part of the checkpoint."""
    training = training_of(ema=0.9, optimizer="lion")
    undisturbed = begun(training)
    train(*undisturbed, range(4))
    Checkpoints(tmp_path, "key").save(4, undisturbed[0], undisturbed[2], History())
    train(*undisturbed, range(4, 8))
    resumed = begun(training)
    assert Checkpoints(tmp_path, "key").resume(resumed[0], resumed[2])[0] == 4
    train(*resumed, range(4, 8))
    assert any(name.endswith("weight_u") for name in undisturbed[2].state())
    assert equal(undisturbed[2].state(), resumed[2].state())
    assert equal(undisturbed[0].state_dict(), resumed[0].state_dict())


def test_seeds_give_other_discriminators_and_one_seed_the_same() -> None:
    states = [Adversary(training_of(), seed, torch.device("cpu")).network.state_dict() for seed in (1, 1, 2)]
    assert equal(states[0], states[1])
    assert not equal(states[0], states[2])


def test_what_cannot_be_is_refused_before_any_work() -> None:
    content = tiny_profile(crop=36, objective=SMALL)
    assert "training.crop: 36 is not a multiple of 8" in refusal(lambda: check(matrix_of(content)))
    content = tiny_profile(objective={"terms": {"gan": 1.0}})
    assert "`gan` needs another loss beside it" in refusal(lambda: matrix_of(content))


@pytest.mark.parametrize(
    ("training", "found"),
    [
        ({"objective": {"terms": {"l1": 1, "gan": 0.1}}}, "the loss `gan` of full_finetuning/all"),
        ({"optimizer": "lion"}, "the optimizer lion of full_finetuning/all"),
    ],
)
def test_a_captured_step_takes_neither_an_adversary_nor_an_optimizer_of_the_host(
    training: dict[str, Any], found: str
) -> None:
    content = tiny_profile(rows={"full_finetuning": ["all"]})
    content["training"] |= {"compile": "graphs", "crop": 64}
    check(matrix_of(content), weights=False)
    content["training"] |= training
    assert f"training.compile: graphs cannot capture {found}" in refusal(
        lambda: check(matrix_of(content), weights=False)
    )
