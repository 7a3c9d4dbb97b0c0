"""Optimizers, groups, schedules and averages do what their names say, and go on after a checkpoint to the bit."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from adaptsr.adaptation.baseline_files import read_literals
from adaptsr.adaptation.contract.subjects import Subject
from adaptsr.config import schema
from adaptsr.training.checkpoints import TIMES, WINDOW, Checkpoints, History
from adaptsr.training.recipe import OPTIMIZERS, Trainer, learning_rate, unused_groups
from tests.factories import matrix_of, refusal, tiny_profile

Json = dict[str, Any]

RECIPES: dict[str, Json] = {
    **{name: {"optimizer": name} for name in OPTIMIZERS},
    "everything": {
        "optimizer": "adamw",
        "weight_decay": 0.1,
        "betas": (0.8, 0.95),
        "schedule": "cosine",
        "warmup": 0.3,
        "clip_norm": 0.5,
        "ema": 0.9,
        "groups": {"*.bias": {"lr": 2.0, "weight_decay": 0.0}, "1.*": {"lr": 3.0}},
    },
}


def training_of(**recipe: Any) -> schema.Training:
    base = {"iterations": 10, "batch_size": 2, "crop": 32, "lr": 0.01, "validate_every": 10}
    return schema.Training.model_validate({**base, **recipe})


def small_model() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)).to(memory_format=torch.channels_last)
    model[0].bias.requires_grad_(False)
    return model


def loss_of(model: nn.Module, iteration: int) -> torch.Tensor:
    torch.manual_seed(100 + iteration)
    output: torch.Tensor = model(torch.rand(2, 3, 8, 8))
    return (output - 1).abs().mean()


def train(model: nn.Module, trainer: Trainer, iterations: range) -> None:
    for iteration in iterations:
        trainer.begin(iteration)
        trainer.step(loss_of(model, iteration))


def everything(model: nn.Module, trainer: Trainer) -> dict[str, torch.Tensor]:
    return {**{name: value.clone() for name, value in model.state_dict().items()}, **trainer.state()}


@pytest.mark.parametrize("recipe", RECIPES)
def test_going_on_from_a_checkpoint_changes_no_bit(tmp_path: Path, recipe: str) -> None:
    training = training_of(**RECIPES[recipe])
    model = small_model()
    trainer = Trainer(model, training)
    train(model, trainer, range(4))
    Checkpoints(tmp_path, "key").save(4, model, trainer, History())
    train(model, trainer, range(4, 10))

    resumed = small_model()
    again = Trainer(resumed, training)
    iteration, _ = Checkpoints(tmp_path, "key").resume(resumed, again)
    train(resumed, again, range(iteration, 10))
    expected, found = everything(model, trainer), everything(resumed, again)
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []


@pytest.mark.parametrize("recipe", RECIPES)
def test_it_trains_what_is_to_be_trained_and_counts_what_it_keeps(recipe: str) -> None:
    model = small_model()
    before = copy.deepcopy(model.state_dict())
    trainer = Trainer(model, training_of(**RECIPES[recipe]))
    train(model, trainer, range(3))
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"0.weight", "1.weight", "1.bias"}
    assert loss_of(model, 0) < loss_of(small_model(), 0)
    trained = sum(parameter.numel() for parameter in trainer.parameters.values())
    kept = sum(value.numel() for value in trainer.state().values() if value.dim())
    assert (trainer.copies - 1) * trained == kept


def test_the_default_is_torchs_adam() -> None:
    model, plain = small_model(), small_model()
    train(model, Trainer(model, training_of(milestones=[0.5])), range(10))
    adam = torch.optim.Adam([p for p in plain.parameters() if p.requires_grad], lr=0.01, fused=True)
    for iteration in range(10):
        adam.param_groups[0]["lr"] = 0.01 * 0.75 ** (iteration >= 5)
        adam.zero_grad()
        loss_of(plain, iteration).backward()
        adam.step()
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in model.state_dict().items())


def test_lion_is_the_papers() -> None:
    """Algorithm 2 of Chen et al.: the sign of one interpolation, decoupled decay, the momentum of another one."""
    model, plain = small_model(), small_model()
    train(model, Trainer(model, training_of(optimizer="lion", weight_decay=0.1)), range(3))
    parameters = [p for p in plain.parameters() if p.requires_grad]
    momenta = [torch.zeros_like(p) for p in parameters]
    for iteration in range(3):
        gradients = torch.autograd.grad(loss_of(plain, iteration), parameters)
        with torch.no_grad():
            for p, m, g in zip(parameters, momenta, gradients, strict=True):
                update = (0.9 * m + 0.1 * g).sign()
                p.sub_(0.01 * (update + 0.1 * p))
                m.copy_(0.99 * m + 0.01 * g)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, plain.state_dict()[name])


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ({}, [1.0] * 10),
        ({"milestones": [0.5, 0.7], "decay": 0.5}, [1.0] * 5 + [0.5] * 2 + [0.25] * 3),
        ({"schedule": "cosine"}, [0.5 * (1 + math.cos(math.pi * i / 10)) for i in range(10)]),
        ({"schedule": "cosine", "milestones": [0.5]}, [0.5 * (1 + math.cos(math.pi * i / 10)) for i in range(10)]),
        ({"warmup": 0.4}, [0.25, 0.5, 0.75] + [1.0] * 7),
        ({"warmup": 0.05}, [1.0] * 10),
    ],
)
def test_learning_rates(recipe: Json, expected: list[float]) -> None:
    training = training_of(lr=1.0, **recipe)
    assert [learning_rate(training, i) for i in range(10)] == pytest.approx(expected)


def test_factors_of_all_matching_groups_multiply() -> None:
    training = training_of(lr=1.0, weight_decay=0.1, groups=RECIPES["everything"]["groups"])
    trainer = Trainer(small_model(), training)
    trainer.begin(0)
    found = {
        name: (group["lr"], group["weight_decay"])
        for name, parameter in trainer.parameters.items()
        for group in trainer.optimizer.param_groups
        if any(parameter is one for one in group["params"])
    }
    assert found == {"0.weight": (1.0, 0.1), "1.weight": (3.0, 0.1), "1.bias": (6.0, 0.0)}
    assert unused_groups(training_of(groups={"*.b": {"lr": 2.0}, "1.*": {"lr": 2.0}}), small_model()) == ["*.b"]


def test_gradients_are_clipped_together() -> None:
    model = small_model()
    trainer = Trainer(model, training_of(optimizer="sgd", lr=1.0, clip_norm=0.01, betas=(0.5, 0.5)))
    before = [parameter.detach().clone() for parameter in trainer.parameters.values()]
    train(model, trainer, range(1))
    steps = [now.detach() - then for now, then in zip(trainer.parameters.values(), before, strict=True)]
    assert math.sqrt(sum(float(step.square().sum()) for step in steps)) == pytest.approx(0.01, rel=1e-3)


def test_the_average_is_scored_and_training_goes_on_from_the_parameters() -> None:
    model, plain = small_model(), small_model()
    trainer, without = Trainer(model, training_of(ema=0.8)), Trainer(plain, training_of())
    average = plain.get_parameter("1.weight").detach().clone()
    for iteration in range(4):
        train(model, trainer, range(iteration, iteration + 1))
        train(plain, without, range(iteration, iteration + 1))
        average = 0.8 * average + 0.2 * plain.get_parameter("1.weight").detach()
        with trainer.scored_weights():
            torch.testing.assert_close(model.get_parameter("1.weight").detach(), average)
        assert torch.equal(model.get_parameter("1.weight"), plain.get_parameter("1.weight"))
    trainer.finish()
    torch.testing.assert_close(model.get_parameter("1.weight").detach(), average)


@pytest.mark.parametrize(
    ("losses", "at"),
    [
        ([1.0] * 300, None),
        ([1.0, math.nan], 2),
        ([math.inf], 1),
        ([1.0] * WINDOW + [9.0] * 200, None),
        ([100.0, *[0.1] * 300], None),
        # A mean of 50 ones and elevens passes 10 with the 46th eleven: 4 + 46 x 11 = 510.
        ([1.0] * WINDOW + [11.0] * WINDOW, WINDOW + 46),
    ],
    ids=["steady", "nan", "infinite", "nine times", "a hard first batch", "eleven times"],
)
def test_divergence_is_a_mean_ten_times_that_of_the_beginning(losses: list[float], at: int | None) -> None:
    history = History()
    found = None
    for number, loss in enumerate(losses, start=1):
        if history.diverges(loss):
            found = number
            break
        history = History.load(history.dump())  # a checkpoint in between makes no difference
    assert found == at
    assert TIMES == 10


BASELINE = '''"""A method of a test."""
OPTIONS = {"rate": 1.0, "size": 3}
VARIANTS = {"plain": {}, "fast": {"rate": 16.0}}
ROWS = ["plain", "fast"]
PROTOCOL = 1
RECIPE = %s
def plan(backbone, sites, options, calibration, seed): ...
def attach(model, plan): ...
'''


def written(folder: Path, recipe: str) -> Path:
    path = folder / "mine.py"
    path.write_text(BASELINE % recipe)
    return path


def test_a_recipe_takes_the_values_of_options(tmp_path: Path) -> None:
    file = read_literals(written(tmp_path, '{"optimizer": "adamw", "groups": {"*.b": {"lr": "{rate}"}}}'))
    assert file.recipe["optimizer"] == "adamw"
    matrix = matrix_of(tiny_profile())
    keys = {row: matrix.variant_key("safmn", row) for row in ("lora/r8", "lora/r8-plus")}
    assert len(set(keys.values())) == 2
    assert matrix.training(matrix.variant("lora/r8"), "safmn") == matrix.profile.training
    assert matrix.training(matrix.variant("lora/r8-plus"), "safmn").groups == {"*.b": schema.Group(lr=16.0)}


def test_lora_plus_trains_every_b_sixteen_times_as_fast() -> None:
    matrix = matrix_of(tiny_profile())
    variant = matrix.variant("lora/r8-plus")
    model = Subject.of(variant, "batchnorm").attached
    training = matrix.training(variant, "safmn")
    trainer = Trainer(model, training)
    trainer.begin(0)
    rates = {id(one): group["lr"] for group in trainer.optimizer.param_groups for one in group["params"]}
    factors = {name: rates[id(parameter)] / training.lr for name, parameter in trainer.parameters.items()}
    assert {name for name, factor in factors.items() if factor == 16} == {n for n in factors if n.endswith("0.b")}
    assert set(factors.values()) == {1.0, 16.0}
    assert unused_groups(training, model) == []


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ('{"optimiser": "adam"}', "RECIPE: unknown key 'optimiser'; allowed are"),
        ('{"lr": 0.1}', "RECIPE: unknown key 'lr' (a profile states it; give a factor in `groups`)"),
        ('{"optimizer": "lamb"}', "RECIPE: optimizer: Input should be 'adam', 'adamw', 'sgd' or 'lion', found 'lamb'"),
        ('{"groups": {"*": {"lr": "{ratio}"}}}', "RECIPE: groups.*.lr: Input should be a valid number"),
        ('{"ema": 1.0}', "RECIPE: ema: Input should be less than 1, found 1.0"),
        ('{"objective": {"terms": {"l2": 1.0}}}', "RECIPE: objective.terms.l2"),
        ("[1]", "RECIPE: expected dict, found [1]"),
        ("dict(lr=1)", "RECIPE must be a literal"),
    ],
)
def test_a_wrong_recipe_is_one_line(tmp_path: Path, recipe: str, said: str) -> None:
    message = refusal(lambda: read_literals(written(tmp_path, recipe)))
    assert message.startswith(f"{tmp_path}/mine.py: ")
    assert said in message


def test_a_profile_overrides_a_recipe(tmp_path: Path) -> None:
    """A variant's own changes go over its baseline's, those over what is stated for all, and all of it over the file."""
    recipe = {"optimizer": "adamw", "weight_decay": 0.5, "decay": 0.1, "milestones": [0.1], "ema": 0.9, "warmup": 0.1}
    path = written(tmp_path, repr(recipe))
    content = tiny_profile(weight_decay=0.25, milestones=[0.5], decay=0.75)
    plain = matrix_of(copy.deepcopy(content))
    own = {"training": {"decay": 0.5, "warmup": 0.2}, "variants": {"fast": {"training": {"warmup": 0.3}}}}
    content["baselines"]["mine"] = own
    profile = schema.Profile.model_validate(content)
    matrix = replace(plain, profile=profile, baselines={**plain.baselines, "mine": read_literals(path)})
    expected = {**recipe, "weight_decay": 0.25, "milestones": [0.5], "decay": 0.5}
    for row, warmup in (("mine/plain", 0.2), ("mine/fast", 0.3)):
        training = matrix.training(matrix.variant(row), "safmn").model_dump()
        assert {key: training[key] for key in recipe} == {**expected, "warmup": warmup}
    assert matrix.training(matrix.variant("lora/r1"), "safmn").optimizer == "adam"
