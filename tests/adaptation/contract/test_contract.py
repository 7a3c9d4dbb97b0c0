"""Every file of baselines/ keeps the contract, by being there; and the contract notices when one does not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adaptsr.adaptation.baseline_files import BaselineFile, Variant, discover, read_literals
from adaptsr.adaptation.contract.backbones import BACKBONES, BatchNormBackbone, small_backbone
from adaptsr.adaptation.contract.checks import CHECKS, check_literals
from adaptsr.adaptation.contract.run import check_baseline, check_fresh_process, check_subject
from adaptsr.adaptation.contract.subjects import Subject, chosen_variants, subjects
from adaptsr.errors import UserError

FILES = discover()
# The bridge has twenty methods that are somebody else's code: the backbone with everything in it is enough every day.
SLOW = {("peft_library", backbone) for backbone in BACKBONES[1:]}
SUBJECTS = [
    pytest.param(
        variant,
        backbone,
        id=f"{variant.row}-{backbone}",
        marks=[pytest.mark.slow] if (file.name, backbone) in SLOW else [],
    )
    for file in FILES.values()
    for variant, backbone in subjects(file)
]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """The models are so small that more threads only get in each other's way."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def needs(file: BaselineFile) -> None:
    if file.name == "peft_library":
        pytest.importorskip("peft")


@pytest.mark.parametrize("file", FILES.values(), ids=FILES)
def test_literals(file: BaselineFile) -> None:
    check_literals(file)


@pytest.mark.parametrize(("variant", "backbone"), SUBJECTS)
def test_keeps_the_contract(variant: Variant, backbone: str, runs: Path) -> None:
    """All checks of `contract.checks.CHECKS`; a backbone that the variant refuses is skipped with its message."""
    needs(variant.baseline)
    subject = Subject.of(variant, backbone)
    results = list(check_subject(subject))
    if results[0].status == "skipped":
        pytest.skip(results[0].message)
    assert [str(result) for result in results if result.status == "failed"] == []
    assert [result.check for result in results] == list(CHECKS)
    subject.save(runs / variant.row / backbone)


@pytest.mark.parametrize("file", FILES.values(), ids=FILES)
def test_takes_a_backbone(file: BaselineFile) -> None:
    """Every variant can be attached to at least one of the backbones."""
    needs(file)

    def takes(variant: Variant, backbone: str) -> bool:
        try:
            return bool(Subject.of(variant, backbone).attached)
        except UserError:
            return False

    for variant in chosen_variants(file):
        assert any(takes(variant, backbone) for backbone in BACKBONES), variant.row


def test_comes_back_in_a_fresh_process(runs: Path) -> None:
    """Adaptations saved above give the same output in a new process, which has their plans and no data."""
    folders = sorted(path.parent for path in runs.rglob("subject.json"))
    if not folders:
        Subject.of(chosen_variants(FILES["lora"])[0], "batchnorm").save(runs / "lora")
        folders = [runs / "lora"]
    results = check_fresh_process(folders)
    assert len(results) == len(folders)
    assert [str(result) for result in results if result.status != "passed"] == []


class TestSubjects:
    def test_small_backbones_are_the_same_everywhere(self) -> None:
        """Their weights are keyed, not drawn from the global generator, which is left alone."""
        state = torch.get_rng_state()
        first = {name: dict(small_backbone(name).state_dict()) for name in BACKBONES}
        small_backbone.cache_clear()
        torch.rand(7)
        for name in BACKBONES:
            again = small_backbone(name).state_dict()
            assert all(torch.equal(first[name][key], value) for key, value in again.items())
        torch.set_rng_state(state)

    def test_every_row_and_every_option_is_covered(self) -> None:
        """All ROWS, and of other variants one for each option and value."""
        for file in FILES.values():
            chosen = [variant.name for variant in chosen_variants(file)]
            assert chosen[: len(file.rows)] == list(file.rows)
            assert len(set(chosen)) == len(chosen)
        assert {"r8-1x1-kxk", "r8-kxk-1x1", "r8-separate-qkv", "table4-mlp"} <= {
            variant.name for variant in chosen_variants(FILES["lora"])
        }
        assert "r2" not in {variant.name for variant in chosen_variants(FILES["lora"])}
        on = {name: [b for variant, b in subjects(FILES["lora"]) if variant.name == name] for name in ("r1", "r4")}
        assert on == {"r1": list(BACKBONES), "r4": ["batchnorm"]}

    def test_what_the_own_backbone_has(self) -> None:
        """Batch normalisation, Linear layers without a bias, a grouped convolution, and all three kinds of sites."""
        sites = Subject.of(chosen_variants(FILES["lora"])[0], "batchnorm").sites
        assert {site.kind for site in sites} == {"conv", "attention", "mlp"}
        assert any(site.grouped for site in sites)
        assert any(not site.bias for site in sites)
        assert any(site.upsampling for site in sites)
        assert any(isinstance(module, torch.nn.BatchNorm2d) for module in BatchNormBackbone().modules())


HEAD = '''"""A method that trains a scale per output (nobody, nowhere)."""

import random

import numpy as np
import torch
from torch import nn

from adaptsr import randomness
from adaptsr.backbones.sites import select
from adaptsr.errors import UserError
from adaptsr.adaptation.reparametrization import Plan, reparametrize_bias, reparametrize_weight

TITLE = "Scale ({size})"
OPTIONS = {"size": 4}
VARIANTS = {"small": {}}
ROWS = ["small"]
PROTOCOL = 1


class Scale(nn.Module):
    def __init__(self, values):
        super().__init__()
        self.values = nn.Parameter(values)

    def forward(self, weight):
        return weight * self.values.view(-1, *([1] * (weight.dim() - 1)))


class Noise(nn.Module):
    """W + s N, N drawn at attaching."""

    def __init__(self, noise):
        super().__init__()
        self.register_buffer("noise", noise)
        self.s = nn.Parameter(torch.zeros(1))

    def forward(self, weight):
        return weight + self.s * self.noise


'''

PLAN = """
def plan(backbone, sites, options, calibration, seed):
    return Plan({"sites": {site.name: list(site.shape) for site in select(sites)}, "seed": seed})

"""

ATTACH = """
def attach(model, plan):
    for name, shape in plan.settings["sites"].items():
        reparametrize_weight(model.get_submodule(name), Scale(torch.ones(shape[0])))
"""


def attach_noise(draw: str) -> str:
    return f"""
def attach(model, plan):
    for name, shape in plan.settings["sites"].items():
        noise = {draw}
        reparametrize_weight(model.get_submodule(name), Noise(noise))
"""


def plan_with(statement: str) -> str:
    return f"""
def plan(backbone, sites, options, calibration, seed):
    settings = {{"sites": {{site.name: list(site.shape) for site in select(sites)}}, "seed": seed}}
    {statement}
    return Plan(settings)

"""


def attach_with(statement: str) -> str:
    return ATTACH + f"    {statement}\n"


SOUND = {
    "scale": PLAN + ATTACH,
    "noise": PLAN + attach_noise("torch.randn(shape, generator=randomness.generator(plan.settings['seed'], name))"),
    "drawn but not used": plan_with("torch.rand(3, generator=torch.Generator().manual_seed(0))") + ATTACH,
    "own merge": PLAN
    + """
class Doubled(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.gain * self.layer(x)


def attach(model, plan):
    model.set_submodule("conv_first", Doubled(model.conv_first))


def merge(model, plan):
    wrapped = model.conv_first
    wrapped.layer.weight.mul_(wrapped.gain)
    wrapped.layer.bias.mul_(wrapped.gain)
    model.set_submodule("conv_first", wrapped.layer)
    return model
""",
}

BROKEN = {
    "global torch": (
        PLAN + attach_noise("torch.randn(shape)"),
        "attach is a function of the plan",
        "attach draws from torch's global generator",
    ),
    "global numpy": (
        plan_with("np.random.rand()") + ATTACH,
        "plan is a function of the seed",
        "plan draws from numpy's global generator",
    ),
    "global python": (
        plan_with("random.random()") + ATTACH,
        "plan is a function of the seed",
        "plan draws from python's global generator",
    ),
    "global state read": (
        plan_with("settings['x'] = torch.initial_seed()") + ATTACH,
        "plan is a function of the seed",
        "plan gives two plans for one seed",
    ),
    "seed not used": (
        PLAN + attach_noise("torch.randn(shape, generator=torch.Generator().manual_seed(3))"),
        "seeds differ",
        "draw random numbers but give the same result for seeds 1 and 2",
    ),
    "plan changes the backbone": (
        plan_with("backbone.conv_first.weight.data.zero_()") + ATTACH,
        "plan is a function of the seed",
        "plan changes conv_first.weight of the backbone",
    ),
    "plan is no JSON": (
        plan_with("settings['pair'] = (1, 2)") + ATTACH,
        "plan is a function of the seed",
        "settings are not plain JSON",
    ),
    "attach needs what is not saved": (
        plan_with("settings = type('Settings', (dict,), {'secret': 2.0})(settings)")
        + ATTACH.replace("torch.ones(shape[0])", "torch.full((shape[0],), getattr(plan.settings, 'secret', 1.0))"),
        "attach is a function of the plan",
        "values for one plan",
    ),
    "start": (
        PLAN + ATTACH.replace("torch.ones(shape[0])", "torch.full((shape[0],), 1.1)"),
        "starts at the backbone",
        "before the first step",
    ),
    "batch normalisation moves": (
        PLAN + attach_with("model.norm.eval = lambda: model.norm.train(True)"),
        "only what is declared trains",
        "norm.running_mean and 2 more is frozen but changes in training",
    ),
    "parameter without effect": (
        PLAN + attach_with("model.spare = nn.Parameter(torch.zeros(2))"),
        "only what is declared trains",
        "spare is trainable but does not move within 3 steps",
    ),
    "a pattern of the recipe matches nothing": (
        PLAN + ATTACH + "\n\nRECIPE = {'groups': {'*.gone': {'lr': 2.0}}}\n",
        "trains by a recipe",
        "RECIPE: groups: '*.gone' matches no trained parameter",
    ),
    "forward is no function of the weight": (
        PLAN
        + attach_with("model.conv_first.gain = nn.Parameter(torch.ones(1))")
        + "    model.conv_first.register_forward_hook(lambda module, inputs, output: output * module.gain)\n",
        "merges",
        "the merged model's output differs",
    ),
    "merge loses everything": (
        PLAN
        + attach_with("pass")
        + """

def merge(model, plan):
    for name in plan.settings["sites"]:
        nn.utils.parametrize.remove_parametrizations(model.get_submodule(name), "weight", leave_parametrized=False)
    return model
""",
        "merges",
        "it must contain the adaptation",
    ),
    "shape": (
        PLAN
        + attach_with("pass")
        + """

def merge(model, plan):
    layer = model.conv_first
    nn.utils.parametrize.remove_parametrizations(layer, "weight")
    layer.weight = nn.Parameter(layer.weight[:, :2])
    return model
""",
        "merges",
        "merged conv_first.weight has shape (8, 2, 3, 3), the backbone has (8, 3, 3, 3)",
    ),
    "wrong count": (
        plan_with("settings['trainable'] = 7") + ATTACH,
        "counts",
        "the plan declares 7 trainable parameters",
    ),
    "shared memory": (
        PLAN + attach_with("model.extra = nn.Parameter(model.conv_first.parametrizations.weight[0].values.data)"),
        "counts",
        "share memory",
    ),
    "crash": (
        plan_with("[][0]") + ATTACH,
        "takes this backbone",
        "IndexError: list index out of range",
    ),
}


def written(folder: Path, body: str, head: str = HEAD) -> BaselineFile:
    path = folder / "dropped_in.py"
    path.write_text(head + body, encoding="utf-8")
    return read_literals(path)


@pytest.mark.parametrize("body", SOUND.values(), ids=SOUND)
def test_sound_files_pass(tmp_path: Path, body: str) -> None:
    """Small methods of every sort keep the contract, among them one that draws in vain and one with its own merge."""
    file = written(tmp_path, body)
    results = list(check_subject(Subject.of(Variant(file, "small", file.options), "batchnorm")))
    assert [str(result) for result in results if result.status != "passed"] == []


@pytest.mark.parametrize(("body", "check", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_files_are_caught(tmp_path: Path, body: str, check: str, message: str) -> None:
    """Each way of breaking the contract fails the check that is for it, in one line that says what happens."""
    file = written(tmp_path, body)
    results = list(check_subject(Subject.of(Variant(file, "small", file.options), "batchnorm")))
    failed = {result.check: result.message for result in results if result.status == "failed"}
    assert check in failed
    assert message in failed[check]
    assert not any("\n" in line for line in failed.values())


@pytest.mark.parametrize(
    ("head", "body", "message"),
    [
        (HEAD.replace("{size}", "{width}"), PLAN + ATTACH, "TITLE: {width} is not in OPTIONS"),
        (HEAD, PLAN.replace(", seed)", ")") + ATTACH, "plan must take (backbone, sites, options, calib"),
        (HEAD, PLAN + ATTACH + "\n\nVARIANTS['large'] = {}\n", "VARIANTS changes while the file runs"),
    ],
)
def test_literals_are_caught(tmp_path: Path, head: str, body: str, message: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check_literals(written(tmp_path, body, head))
    assert message in str(caught.value)


class TestDroppedIn:
    """`check_baseline`, as the shell calls it on a file of one's own."""

    def test_sound_file(self, tmp_path: Path) -> None:
        """Checked on every backbone and in a fresh process, line by line as it goes."""
        lines: list[str] = []
        results = check_baseline(written(tmp_path, SOUND["scale"]).path, lines.append)
        assert {result.status for result in results} == {"passed"}
        assert lines == [f"dropped_in/small on {backbone}: ok" for backbone in BACKBONES]
        checks = {result.check for result in results}
        assert checks == {"literals", *CHECKS, "fresh process", "takes a backbone"}
        assert sum(result.check == "fresh process" for result in results) == len(BACKBONES)

    def test_broken_file(self, tmp_path: Path) -> None:
        lines: list[str] = []
        results = check_baseline(written(tmp_path, BROKEN["wrong count"][0]).path, lines.append)
        assert sum(result.status == "failed" for result in results) == len(BACKBONES)
        assert "failed: counts: the plan declares 7" in lines[0]
        assert str(next(r for r in results if r.status == "failed")).startswith(
            "failed: dropped_in/small on batchnorm: counts: the plan declares 7"
        )

    def test_file_that_refuses_every_backbone(self, tmp_path: Path) -> None:
        """A refusal skips a backbone; refusing them all breaks the contract."""
        refusing = plan_with("raise UserError('scale: nothing here is to my taste')") + ATTACH
        results = check_baseline(written(tmp_path, refusing).path)
        assert [result.status for result in results] == ["passed", *["skipped"] * len(BACKBONES), "failed"]
        assert "the file refuses every backbone; batchnorm with: scale: nothing here" in results[-1].message

    def test_file_that_cannot_be_merged(self, tmp_path: Path) -> None:
        """A `merge` that says it cannot is no fault; all else is checked."""
        merge = "\n\ndef merge(model, plan):\n    raise UserError('scale: has no plain form')\n"
        file = written(tmp_path, SOUND["scale"] + merge)
        results = list(check_subject(Subject.of(Variant(file, "small", file.options), "batchnorm")))
        assert {r.check: r.message for r in results if r.status != "passed"} == {"merges": "scale: has no plain form"}

    def test_no_baseline_file(self, tmp_path: Path) -> None:
        (tmp_path / "mine.py").write_text('"""A method."""\nROWS = []\n', encoding="utf-8")
        with pytest.raises(UserError, match=r"mine\.py: VARIANTS is missing"):
            check_baseline(tmp_path / "mine.py")
