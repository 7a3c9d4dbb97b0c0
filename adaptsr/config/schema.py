"""The schema of a profile: what to run, on which data, and how to train, score and report it.

A profile is one YAML file, read whole. The JSON schema for editors and the reference in `config/README.md` are generated
from these models. Importing this module does not import torch: the workflow parses with it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import pydantic
from annotated_types import Ge, Gt, Le, Lt
from pydantic import Field

from adaptsr.errors import UserError, listing, suggestion

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,99}")
UNADAPTED = "unadapted"
EXTERNAL = "external"
AUTO = "auto"
DRIFT = "drift"
"""The column that `data.drift` makes."""

RESERVED_DATASETS = ("archives", "demo", "external", "weights")
"""Folders of `resources/` that are not datasets."""
RESERVED_BACKBONES = (EXTERNAL, "logs", "pretrained", "scores", "superseded", "tuning")
"""Folders of `results/<profile>/` that are not backbones."""
MOST_POINTS = 1000
"""Most points of a tuning grid."""


def _check_name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError(f"invalid name {value!r}: use 1 to 100 of a-z 0-9 _ - . and start with a letter or digit")
    return value


Name = Annotated[str, pydantic.AfterValidator(_check_name)]
Loss = Literal["l1", "charbonnier", "fft", "ssim", "lpips", "dists", "perceptual", "gan"]
WITH_NETWORKS = ("lpips", "dists", "perceptual")
"""Losses that need network weights."""


def _check_layer(value: str) -> str:
    if not re.fullmatch(r"(conv|relu)([12]_[12]|[345]_[1-4])|pool[1-5]", value):
        raise ValueError(f"{value!r} is not a layer of VGG19; there are conv1_2, relu3_4, pool5 and so on")
    return value


Layer = Annotated[str, pydantic.AfterValidator(_check_layer)]


def _check_number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("expected a number")
    return value


def _check_probabilities(values: tuple[float, ...]) -> tuple[float, ...]:
    if abs(sum(values) - 1) > _SUM_TOLERANCE:
        raise ValueError(f"expected probabilities that sum to 1, found {_text(values)}, which sum to {sum(values):g}")
    return values


def _check_milestones(values: list[float]) -> list[float]:
    if any(not low < high for low, high in zip([0, *values], [*values, 1], strict=True)):
        raise ValueError(
            "expected increasing fractions of the iterations, above 0 and below 1, such as [0.5, 0.8], "
            f"found {_text(values)}; divide numbers of iterations by `iterations`"
        )
    return values


def _range(lowest: float, highest: float = math.inf, around: float | None = None) -> pydantic.AfterValidator:
    """Check (low, high): `lowest` <= low <= high <= `highest`, and `around` between the two if it is given."""

    def check(values: tuple[float, float]) -> tuple[float, float]:
        low, high = values
        if not lowest <= low <= high <= highest or (around is not None and not low <= around <= high):
            limits = f"from {lowest:g} to {highest:g}" if highest < math.inf else f"of at least {lowest:g}"
            between = f", with {around:g} between them" if around is not None else ""
            raise ValueError(f"expected two numbers {limits}, the smaller first{between}, found {_text(values)}")
        return values

    return pydantic.AfterValidator(check)


def _text(values: Sequence[float]) -> str:
    return f"[{', '.join(f'{value:g}' for value in values)}]"


SMALLEST_KERNEL = 7
_SUM_TOLERANCE = 0.002
"""How far probabilities may miss a sum of 1: three times 0.333 is meant as a third each."""
_SMALLEST = 0.01
"""The smallest number where 0 would divide by zero."""
_Number = pydantic.BeforeValidator(_check_number)
PositiveInt = Annotated[int, Gt(0), _Number]
NonNegativeInt = Annotated[int, Ge(0), _Number]
PositiveFloat = Annotated[float, Gt(0), _Number]
NonNegativeFloat = Annotated[float, Ge(0), _Number]
Probability = Annotated[float, Ge(0), Le(1), _Number]
Share = Annotated[float, Gt(0), Lt(1), _Number]
Milestones = Annotated[list[Annotated[float, _Number]], pydantic.AfterValidator(_check_milestones)]
_Chances = pydantic.AfterValidator(_check_probabilities)
Pair = tuple[Annotated[float, _Number], Annotated[float, _Number]]


def _check_seeds(seeds: list[int]) -> list[int]:
    repeated = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    if repeated:
        raise ValueError(f"seed {repeated[0]} is listed twice; list every seed once")
    return seeds


Seeds = Annotated[list[NonNegativeInt], Field(min_length=1), pydantic.AfterValidator(_check_seeds)]


class Section(pydantic.BaseModel):
    """A block of a profile; unknown keys are refused."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Compute(Section):
    device: Literal["cpu", "cuda", "mps", "auto"] = Field(
        "auto",
        description="device for training and scoring; `auto` uses CUDA if available. `mps`, Apple's GPUs, is untested",
    )
    threads: PositiveInt = Field(
        1,
        description="CPU threads per process, the same on every machine: another number gives other last bits",
    )
    seeds_per_job: PositiveInt = Field(
        1,
        description="runs that share one process: more save start-up time, fewer spread over more machines",
    )
    jobs_per_gpu: PositiveInt = Field(
        1,
        description="training and scoring processes that share a GPU: use 1 to compare training times, more to fill a GPU with small backbones",
    )
    deterministic: bool = Field(
        True, description="use only deterministic algorithms: the same seed gives the same bits"
    )


def _check_kernel(size: int) -> int:
    if size < SMALLEST_KERNEL or size % 2 == 0:
        raise ValueError(f"expected an odd number of at least {SMALLEST_KERNEL}")
    return size


class Blur(Section):
    """One order of the Real-ESRGAN degradation."""

    kernel_probabilities: Annotated[
        tuple[Probability, Probability, Probability, Probability, Probability, Probability], _Chances
    ] = Field(
        (0.45, 0.25, 0.12, 0.03, 0.12, 0.03),
        description="probabilities of the kernels: iso, aniso, generalized iso, generalized aniso, plateau iso, plateau aniso",
    )
    kernel_size_max: Annotated[PositiveInt, pydantic.AfterValidator(_check_kernel)] = Field(
        21, description="largest kernel size; sizes are odd numbers from 7"
    )
    sinc_probability: Probability = Field(0.1, description="probability of a sinc kernel instead of a blur kernel")
    blur_probability: Probability = Field(1.0, description="probability that this order blurs")
    blur_sigma: Annotated[Pair, _range(_SMALLEST)] = Field(
        (0.2, 3.0), description="range of the blur's standard deviation, in pixels"
    )
    generalized_beta: Annotated[Pair, _range(_SMALLEST, around=1)] = Field(
        (0.5, 4.0), description="range of the generalized kernels' shape"
    )
    plateau_beta: Annotated[Pair, _range(_SMALLEST, around=1)] = Field(
        (1.0, 2.0), description="range of the plateau kernels' shape"
    )
    resize_probabilities: Annotated[tuple[Probability, Probability, Probability], _Chances] = Field(
        (0.2, 0.7, 0.1), description="probabilities of resizing up, resizing down, keeping the size"
    )
    resize_range: Annotated[Pair, _range(_SMALLEST, around=1)] = Field(
        (0.15, 1.5), description="range of the resize factor"
    )
    gaussian_probability: Probability = Field(0.5, description="probability of Gaussian instead of Poisson noise")
    gaussian_sigma: Annotated[Pair, _range(0)] = Field(
        (1.0, 30.0), description="range of the Gaussian noise's standard deviation, in levels of 255"
    )
    poisson_scale: Annotated[Pair, _range(0)] = Field((0.05, 3.0), description="range of the Poisson noise's scale")
    grey_probability: Probability = Field(0.4, description="probability that noise is the same in all channels")
    jpeg_quality: Annotated[Pair, _range(1, 99)] = Field((30.0, 95.0), description="range of the JPEG quality")


def _second_order() -> Blur:
    return Blur(
        blur_probability=0.8,
        blur_sigma=(0.2, 1.5),
        resize_probabilities=(0.3, 0.4, 0.3),
        resize_range=(0.3, 1.2),
        gaussian_sigma=(1.0, 25.0),
        poisson_scale=(0.05, 2.5),
    )


class Degradation(Section):
    """Real-ESRGAN's second-order degradation; defaults as published (options/train_realesrnet_x4plus.yml)."""

    first: Blur = Field(default_factory=Blur, description="first order")
    second: Blur = Field(default_factory=_second_order, description="second order")
    final_sinc_probability: Probability = Field(0.8, description="probability of the final sinc filter")
    sharpen: bool = Field(
        False,
        description="sharpen HR by unsharp masking before degrading it, as Real-ESRNet does; the AdaptSR paper does not say",
    )


class SampleImages(Section):
    """Patches cut from photographs in installed packages; LR made by bicubic or the Real-ESRGAN degradation."""

    kind: Literal["sample_images"]
    scenes: dict[Literal["train", "validation", "test"], list[str]] = Field(
        description="photographs of each split, `<package>/<file>`; `a+b` are several photographs of one scene"
    )
    patch: PositiveInt = Field(description="side of an HR patch, pixels")
    patches_per_scene: dict[Literal["train", "validation", "test"], PositiveInt] = Field(
        description="patches kept of each photograph, the most detailed first"
    )
    degradation: Degradation | Literal["bicubic"] = Field(description="how LR is made")
    seed: NonNegativeInt = Field(0, description="seed of the degradation")


class Pairs(Section):
    """Your own LR/HR pairs, in two folders."""

    kind: Literal["pairs"]
    lr: str = Field(description="folder of LR images")
    hr: str = Field(description="folder of HR images with the same names")
    split: dict[Literal["train", "validation", "test"], str] = Field(
        description="pairs of each split, in the order of their names: `all`, `none`, `rest` (pairs in no other split), `first N`, `last N`, `N first of each GROUP` or `N last of each GROUP`, the last four also of what other splits leave, as in `first 5 of rest`; GROUP is any word and means the part of a name before the first '_' (names without '_' form one group); splits must not overlap"
    )


class Unpaired(Section):
    """Photographs without HR, to be restored and scored by metrics without a reference; all of them are the split `test`."""

    kind: Literal["unpaired"]
    lr: str = Field(description="folder of the photographs")


class Archive(Section):
    """A dataset of `config/datasets.tsv`; the workflow fetches and unpacks it."""

    kind: Literal["archive"]
    row: str = Field(description="name of the row in config/datasets.tsv")


AnyDataset = SampleImages | Pairs | Archive | Unpaired


DatasetConfig = Annotated[AnyDataset, Field(discriminator="kind")]


DATASET_KINDS = tuple(str(get_args(model.model_fields["kind"].annotation)[0]) for model in get_args(AnyDataset))


class Source(Section):
    """A part of the training data."""

    dataset: str = Field(description="name of a dataset of this profile")
    split: Literal["train", "validation", "test"] = "train"
    weight: PositiveFloat = Field(1.0, description="share of the crops drawn from here, relative to the other sources")
    degradation: Degradation | None = Field(
        None, description="how to make LR from HR on the fly; default: use the dataset's own LR"
    )


class Split(Section):
    dataset: str = Field(description="name of a dataset of this profile")
    split: Literal["train", "validation", "test"] = "test"


class ScoredSplit(Split):
    optional: bool = Field(
        False,
        description="skip it, with a note in the tables, until its manually downloaded archive is in place",
    )


class Data(Section):
    train: list[Source] = Field(
        default_factory=list, description="sources of the training crops; none are needed if no row trains"
    )
    validation: Split | None = Field(
        None,
        description="small set for PSNR-Y during training; it selects nothing but the choices of `tuning`, and with `training.keep: best` the weights that a run ends with; not needed if no row trains",
    )
    test: list[ScoredSplit] = Field(min_length=1, description="datasets to score, each a block of the tables")
    drift: Split | None = Field(
        None,
        description="bicubic pairs such as the backbones were trained on: PSNR-Y on them is the column Drift of every table, what an adapted model forgets; default: no such column",
    )

    @property
    def followed(self) -> list[Split]:
        """The validation split, if there is one."""
        return [self.validation] if self.validation else []

    @property
    def scored(self) -> list[ScoredSplit]:
        """The test datasets, and last the one of the column Drift."""
        return [*self.test, *([ScoredSplit(**self.drift.model_dump())] if self.drift else [])]


class Backbone(Section):
    architecture: str = Field(
        description="`edsr`, an architecture id of spandrel (`SAFMN`, `SwinIR`, `DRCT`, ...), or `auto` to detect it from the weights file"
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="constructor arguments; default: those found in the weights file. With `auto`, options to use in place of those found: a file does not show `res_scale`, `img_range`, `rgb_mean` and some others",
    )
    weights: str | None = Field(
        None,
        description="checkpoint of the bicubic-trained backbone: a path, or the name of a row in config/weights.tsv",
    )
    below_bicubic: NonNegativeFloat = Field(
        3.0,
        description="how far below bicubic enlargement the backbone of `weights` may restore the validation pairs, dB of PSNR over RGB: one that restores worse is refused before training",
    )
    title: str | None = Field(None, description="name shown in reports")
    kinds: dict[str, Literal["conv", "attention", "mlp", "skip"]] = Field(
        default_factory=dict,
        description="corrections of the detected kinds of sites: a site's name or a pattern with `*` to its kind; `skip` sites are never adapted",
    )

    @pydantic.model_validator(mode="before")
    @classmethod
    def _titled_by_its_file(cls, content: Any) -> Any:
        if (
            isinstance(content, dict)
            and content.get("architecture") == AUTO
            and isinstance(content.get("weights"), str)
        ):
            return {"title": Path(content["weights"]).stem, **content}
        return content

    @pydantic.model_validator(mode="after")
    def _found_by_its_file(self) -> Backbone:
        if self.architecture == AUTO and self.weights is None:
            raise ValueError(f"architecture: `{AUTO}` needs weights to detect it from")
        return self


class Group(Section):
    """How the learning rate and weight decay of some trained parameters differ. Factors of all matching patterns multiply."""

    lr: PositiveFloat = Field(1.0, description="factor of the learning rate")
    weight_decay: NonNegativeFloat = Field(1.0, description="factor of `weight_decay`; 0 switches it off")


class Discriminator(Section):
    """The network of the loss `gan`: a U-Net with spectral normalisation; defaults as published for Real-ESRGAN."""

    channels: PositiveInt = Field(64, description="channels of its first layer")
    loss: Literal["vanilla", "lsgan", "hinge", "wgan_softplus"] = Field(
        "vanilla", description="kind of adversarial loss"
    )
    lr: PositiveFloat = Field(1e-4, description="learning rate of its Adam, which follows the schedule of `training`")
    betas: tuple[Share, Share] = Field((0.9, 0.99), description="betas of its Adam")


class Objective(Section):
    """The weighted sum of losses that training minimises; importance scores take its gradients."""

    terms: dict[Loss, PositiveFloat] = Field(
        {"l1": 1.0},
        min_length=1,
        description="losses with their weights, of values in [0, 1]: `l1`; `charbonnier` (eps 1e-12); `fft` (L1 of the unnormalised Fourier transforms); `ssim` (1 - SSIM of RGB); `lpips`; `dists`; `perceptual` (L1 of VGG19 features); `gan`, beside another one (a discriminator's, in no importance score)",
    )
    lpips_network: Literal["vgg", "alex", "squeeze"] = Field(
        "vgg", description="network of `lpips`; another one than that of an LPIPS column judges more fairly"
    )
    perceptual_layers: dict[Layer, PositiveFloat] = Field(
        {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1.0, "conv4_4": 1.0, "conv5_4": 1.0},
        min_length=1,
        description="layers of VGG19 with their weights in `perceptual`; default: Real-ESRGAN's",
    )
    discriminator: Discriminator = Field(default_factory=Discriminator, description="network of `gan`")
    missing_weights: Literal["error", "leave_out"] = Field(
        "error",
        description="what to do when the network weights of a loss are unavailable: fail, or leave the loss out, with the reason in the record and a mark in the tables",
    )

    @pydantic.field_validator("terms")
    @classmethod
    def _not_gan_alone(cls, terms: dict[Loss, float]) -> dict[Loss, float]:
        if set(terms) == {"gan"}:
            raise ValueError("`gan` needs another loss beside it, such as l1")
        return terms

    @property
    def networks(self) -> list[str]:
        """The losses that need network weights."""
        return [name for name in WITH_NETWORKS if name in self.terms]


class Recipe(Section):
    """How a method trains. A baseline file may state these keys in `RECIPE`; what a profile states overrides them."""

    optimizer: Literal["adam", "adamw", "sgd", "lion"] = Field(
        "adam", description="`adam` adds weight decay to the gradient, `adamw` and `lion` decouple it"
    )
    betas: tuple[Share, Share] | None = Field(
        None, description="default: 0.9 and 0.999; 0.9 and 0.99 for `lion`. `sgd` takes the first as its momentum"
    )
    weight_decay: NonNegativeFloat = Field(0.0, description="weight decay")
    groups: dict[str, Group] = Field(
        default_factory=dict,
        description="patterns with `*` of the names of trained parameters, such as `*.b`, to how these differ",
    )
    schedule: Literal["milestones", "cosine"] = Field(
        "milestones", description="how the learning rate falls; `cosine` falls to 0 and ignores milestones"
    )
    milestones: Milestones = Field(
        default_factory=list,
        description="increasing fractions of the iterations after which the learning rate is multiplied by `decay`",
    )
    decay: Annotated[PositiveFloat, Le(1)] = Field(0.75, description="factor at each milestone")
    warmup: Annotated[Probability, Lt(1)] = Field(
        0.0, description="fraction of the iterations in which the learning rate rises linearly from 0"
    )
    clip_norm: PositiveFloat | None = Field(None, description="largest norm of all gradients together; default: any")
    ema: Share | None = Field(
        None,
        description="decay of an exponential moving average of the trained parameters, which is then what a run ends with: validated, saved and scored; default: none",
    )
    objective: Objective = Field(default_factory=Objective, description="what training minimises")

    @pydantic.field_validator("groups")
    @classmethod
    def _without_groups_that_change_nothing(cls, groups: dict[str, Group]) -> dict[str, Group]:
        return {pattern: group for pattern, group in groups.items() if group != Group()}


class Training(Recipe):
    iterations: PositiveInt = Field(description="optimizer steps")
    batch_size: PositiveInt = Field(description="crops per step")
    crop: PositiveInt = Field(description="side of an HR crop in pixels, a multiple of the scale")
    images: PositiveInt | None = Field(
        None,
        description="images of each source of `data.train` that crops come from, drawn anew with each seed; of two numbers, the larger keeps the images of the smaller and adds to them; default: all",
    )
    lr: PositiveFloat = Field(description="learning rate")
    validate_every: PositiveInt = Field(description="iterations between two validations")
    validate_images: PositiveInt | None = Field(
        None,
        description="images of the validation split that a validation restores, evenly spread in its order; default: all. Tuning scores all",
    )
    keep: Literal["last", "best"] = Field(
        "last",
        description="weights that a run ends with: the last ones, or those with the best PSNR-Y on the validation split, which the record names. `best` is what `adaptsr adapt` writes; comparisons of methods use `last`",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="precision of the forward and backward pass; `bfloat16` is automatic mixed precision: parameters and the optimizer stay in float32",
    )
    compile: Literal["none", "regions", "graphs"] = Field(
        "none",
        description="`regions`: the blocks that a backbone repeats run compiled, each kind compiled once; `graphs`: and the whole step is one CUDA graph, which needs a GPU, Adam or AdamW, and an objective without `gan`",
    )
    checkpoint_minutes: PositiveFloat = Field(10.0, description="minutes between two checkpoints")
    checkpoint_iterations: PositiveInt | None = Field(
        None, description="iterations between two checkpoints, in addition to the minutes"
    )
    diverged_above: PositiveFloat = Field(
        10.0,
        description="a run diverges if the L1 distance of a batch, of values in [0, 1], exceeds this, whatever the objective; so does one whose loss is not finite, or whose mean of 50 losses exceeds ten times that of its first 50",
    )

    def validated(self, images: int) -> list[int]:
        """Return which images of a validation split of so many a validation restores."""
        chosen = min(images, self.validate_images or images)
        return [index * images // chosen for index in range(chosen)]


class TrainingChanges(Section):
    """Changes to `training` for one baseline, one variant, or all tuning; same keys and meanings."""

    iterations: PositiveInt | None = None
    batch_size: PositiveInt | None = None
    images: PositiveInt | None = None
    lr: PositiveFloat | None = None
    validate_every: PositiveInt | None = None
    optimizer: Literal["adam", "adamw", "sgd", "lion"] | None = None
    betas: tuple[Share, Share] | None = None
    weight_decay: NonNegativeFloat | None = None
    groups: dict[str, Group] | None = None
    schedule: Literal["milestones", "cosine"] | None = None
    milestones: Milestones | None = None
    decay: Annotated[PositiveFloat, Le(1)] | None = None
    warmup: Annotated[Probability, Lt(1)] | None = None
    clip_norm: PositiveFloat | None = None
    ema: Share | None = None
    objective: Objective | None = None


class VariantChanges(Section):
    """A variant of this profile: its options, such as `rank: 4`, and what differs in its training.

    Without options, a variant of the file keeps the file's.
    """

    model_config = pydantic.ConfigDict(extra="allow", frozen=True)

    training: TrainingChanges = Field(
        default_factory=TrainingChanges,
        description="changes to `training` for this variant, over those of its baseline",
    )
    start: str | None = Field(
        None,
        description="`<baseline>/<variant>` with the same options: a run goes on from that one's with the same seed, with its plan and what it trained; default: it starts from the backbone",
    )

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Baseline(Section):
    """Changes of this profile to one file of `baselines/`."""

    variants: dict[Name, VariantChanges] = Field(
        default_factory=dict, description="variants that this profile defines: name to options, and to `training`"
    )
    rows: list[str] | None = Field(
        None,
        description="variants to run: names or patterns with `*`; default: this profile's `variants`, or else the file's ROWS; an empty list runs none",
    )
    only: dict[str, list[str]] = Field(
        default_factory=dict,
        description="variants (names or patterns with `*`) to the only backbones they run on",
    )
    training: TrainingChanges = Field(
        default_factory=TrainingChanges, description="changes to `training` for this baseline"
    )


class Tuning(Section):
    """Tuning: every variant is tried at every point of one grid, and the best on the validation split is what runs use."""

    grid: dict[str, list[Any]] = Field(
        min_length=1,
        description="what is tried: keys of `training`, such as `lr`, or options of methods, such as `alpha`, each with its values; every combination is a point. An option is tried for the variants that have it and do not set it themselves",
    )
    seeds: Seeds = Field(description="seeds of the tuning runs; none of them may be a seed of the profile")
    training: TrainingChanges = Field(
        default_factory=TrainingChanges,
        description="changes to `training` while tuning, such as fewer iterations, for every variant alike",
    )
    metric: Name = Field(
        description="column of `scoring.metrics` that selects: its mean over validation images and tuning seeds"
    )
    choices: str | None = Field(
        None,
        description="folder of choices made before, used as long as they are of this grid; default: every variant is tuned first",
    )

    @pydantic.field_validator("grid")
    @classmethod
    def _values_can_be_tried(cls, grid: dict[str, list[Any]]) -> dict[str, list[Any]]:
        points = math.prod(map(len, grid.values()))
        if points > MOST_POINTS:
            raise ValueError(f"{points:,} points, at most {MOST_POINTS} are allowed; try fewer values")
        return {key: _values_to_try(key, values) for key, values in grid.items()}


def _values_to_try(key: str, values: list[Any]) -> list[Any]:
    if key in ("iterations", "validate_every"):
        raise ValueError(f"{key} is the same at every point: set it in `tuning.training`")
    if key in ("groups", "objective"):
        raise ValueError(f"{key} is not one value: tune an option that `groups` names, or make a variant for each")
    if key in TrainingChanges.model_fields:
        try:
            values = [TrainingChanges.model_validate({key: value}).model_dump(mode="json")[key] for value in values]
        except pydantic.ValidationError as error:
            raise ValueError(f"{key}: {error.errors()[0]['msg']}, found {error.errors()[0]['input']!r}") from None
    if len(values) < 2 or None in values or any(value in values[:index] for index, value in enumerate(values)):
        raise ValueError(f"{key}: expected two or more different values, found {values}")
    return values


class External(Section):
    """A model to score without adapting it, given by its restored test images or its weights; a row of the tables."""

    title: str = Field(description="name shown in reports")
    folders: dict[str, str] = Field(
        default_factory=dict,
        description="test dataset to the folder of its restored images; default: `resources/external/<name>/<dataset>`; a missing folder gives a dash with the reason",
    )
    weights: str | None = Field(
        None,
        description="instead of folders, a checkpoint that spandrel loads, to restore the test images with: a path, or the name of a row in config/weights.tsv",
    )
    parameters: PositiveInt | None = Field(None, description="number of parameters stated by its authors")
    source: str = Field("", description="where the model or its images come from")

    @pydantic.model_validator(mode="after")
    def _one_origin(self) -> External:
        if self.weights and self.folders:
            raise ValueError("give either `folders` (restored images) or `weights` (a model to restore them with)")
        return self


class Pretraining(Section):
    """Pretraining of the demo's own backbones (target `demo_weights`)."""

    dataset: str = Field(description="dataset to pretrain on, its train split")
    training: Training


class Metric(Section):
    name: str = Field(description="name of a metric of pyiqa, with or without a reference")
    title: str | None = Field(None, description="column heading")
    options: dict[str, Any] = Field(default_factory=dict, description="options that pyiqa's metric takes")


class Scoring(Section):
    metrics: dict[Name, Metric] = Field(
        min_length=1, description="columns of the tables, in this order: name of the column to pyiqa's metric"
    )
    crop_border: NonNegativeInt = Field(0, description="pixels to crop at each border, for every metric")
    missing_weights: Literal["dash", "error"] = Field(
        "dash",
        description="what to do when a metric's weights are unavailable: show a dash with the reason, or fail",
    )
    rows_per_job: PositiveInt = Field(
        1,
        description="rows (with all their seeds) per scoring job of a backbone and test dataset: more save start-up time, fewer spread over more GPUs",
    )


class Stability(Section):
    """How far mini-batches agree on the importance of sites: Spearman correlations, the target `stability`."""

    scores: list[Literal["gradient", "fisher", "activation", "snip"]] = Field(
        ["gradient"], min_length=1, description="importance scores"
    )
    batches: Annotated[int, Ge(2), _Number] = Field(50, description="mini-batches, each scored alone")
    batch_sizes: list[PositiveInt] = Field(
        default_factory=list, description="crops in a mini-batch; default: `training.batch_size`"
    )


class Table(Section):
    title: str = Field(description="heading")
    rows: list[str] = Field(
        description="rows in this order: `<baseline>/<variant>` or patterns with `*`; rows that no table names are added to every table"
    )
    metrics: list[str] | None = Field(None, description="columns; default: all metrics")
    per_seed: bool = Field(False, description="show each seed of a row in a line of its own below it")
    datasets: list[str] | None = Field(None, description="test datasets; default: all")
    published: str | None = Field(
        None, description="published numbers to show beside: a file in `published/` of the folder of `paper`"
    )
    published_datasets: dict[Name, str] = Field(
        default_factory=dict,
        description="test dataset to the dataset of `published` whose numbers stand beside it; no others are shown",
    )


class Comparison(Section):
    """Paired tests of each of `rows` against `compared_with`, on every backbone and test dataset.

    Those in the first metric of `scoring.metrics` are the primary family, those in the other metrics an exploratory one;
    Holm's method corrects each as a whole.
    """

    title: str
    rows: list[str] = Field(description="`<baseline>/<variant>` or patterns with `*`")
    compared_with: str = Field(description="the row that each of `rows` is compared with")


class Cost(Section):
    """What restoring one image costs each backbone, and each external model given by its weights: a table of the page."""

    side: PositiveInt = Field(256, description="side of the LR image, pixels")
    runs: Annotated[int, Ge(2), _Number] = Field(10, description="runs to time, one after the other")


class Report(Section):
    tables: dict[Name, Table]
    comparisons: list[Comparison] = Field(default_factory=list)
    margins: dict[Name, PositiveFloat] = Field(
        default_factory=dict,
        description="metric to the largest difference that does not matter, in its unit; default: 0.05 dB for a PSNR, none for other metrics",
    )
    comparable_with_paper: bool = Field(
        False, description="true if results may be compared with the paper's; if false, reports say so"
    )
    cost: Cost | None = Field(None, description="what to measure the cost of restoring with; default: not measured")
    note: str = Field("", description="sentence to show under every table")
    pictures: list[str] = Field(
        default_factory=list,
        description="test images to show as restored by every row with its first seed; no other restored images are kept",
    )


class Profile(Section):
    name: Name = Field(description="name of the folders under results/ and reports/")
    title: str
    protocol: NonNegativeInt = Field(
        1,
        description="number to raise by hand when a change outside this file changes results; it makes every run stale",
    )
    paper: Name | None = Field(
        None,
        description="folder of papers/: the paper whose published numbers are shown beside the measured ones and whose claims are audited",
    )
    scale: PositiveInt = Field(4, description="upscaling factor")
    seeds: Seeds = Field(description="seeds; every variant is trained once with each")
    compute: Compute = Field(default_factory=Compute)
    datasets: dict[Name, DatasetConfig]
    data: Data
    backbones: dict[Name, Backbone] = Field(
        default_factory=dict,
        description="models to adapt, also scored unadapted; may be left out where only external models are scored",
    )
    training: Training | None = Field(
        None,
        description="how methods train; without it, the rows are the unadapted backbones and the external models",
    )
    baselines: dict[Name, Baseline] = Field(
        default_factory=dict,
        description="changes to files of baselines/, by file name; any other file runs its ROWS",
    )
    tuning: Tuning | None = Field(
        None,
        description="choose options of every variant on the validation split; default: train with those given here",
    )
    external: dict[Name, External] = Field(
        default_factory=dict, description="external models, scored without adapting them: the rows `external/<name>`"
    )
    pretraining: Pretraining | None = None
    stability: Stability | None = Field(
        None, description="measure how stable importance scores are; default: they are not measured"
    )
    scoring: Scoring
    report: Report

    @property
    def schedule(self) -> Training:
        """How methods train. Raises `UserError` for a profile without `training`."""
        if self.training is None:
            raise UserError(f"profile {self.name}: training: missing; without it nothing trains")
        return self.training

    @property
    def validation(self) -> Split:
        """The split that training follows. Raises `UserError` for a profile without one."""
        if self.data.validation is None:
            raise UserError(f"profile {self.name}: data.validation: missing; training needs it")
        return self.data.validation

    @pydantic.field_validator("datasets")
    @classmethod
    def _datasets_have_folders_of_their_own(cls, datasets: dict[str, DatasetConfig]) -> dict[str, DatasetConfig]:
        for name in datasets:
            if name in RESERVED_DATASETS:
                raise ValueError(f"{name!r} is reserved: resources/{name}/ is not a dataset; choose another name")
        return datasets

    @pydantic.field_validator("backbones")
    @classmethod
    def _backbones_have_folders_of_their_own(cls, backbones: dict[str, Backbone]) -> dict[str, Backbone]:
        for name in backbones:
            if name in RESERVED_BACKBONES:
                raise ValueError(
                    f"{name!r} is reserved: results/<profile>/{name}/ is not a backbone; choose another name"
                )
        return backbones

    @pydantic.model_validator(mode="after")
    def _parts_exist(self) -> Profile:
        tests = [split.dataset for split in self.data.test]
        for name in tests:
            if tests.count(name) > 1:
                raise ValueError(f"data.test: the dataset {name!r} is listed twice; list every dataset once")
        if self.data.drift and self.data.drift.dataset in tests:
            raise ValueError(f"data.drift: {self.data.drift.dataset!r} is a test dataset already; give another one")
        if self.data.drift and DRIFT in self.scoring.metrics:
            raise ValueError(f"scoring.metrics: {DRIFT!r} is the name of the column that data.drift makes; rename it")
        if not self.backbones and (self.training or not self.external):
            raise ValueError(
                "backbones: nothing to adapt; name one, or leave `training` out and name `external` models"
            )
        if self.training is None and self.baselines:
            raise ValueError("baselines: nothing trains without `training`; add it, or leave `baselines` out")
        named = [(f"report.tables.{key}.datasets", table.datasets or []) for key, table in self.report.tables.items()]
        named += [
            (f"report.tables.{key}.published_datasets", list(t.published_datasets))
            for key, t in self.report.tables.items()
        ]
        named += [(f"external.{key}.folders", list(model.folders)) for key, model in self.external.items()]
        for where, datasets in named:
            for name in datasets:
                if name not in tests:
                    raise ValueError(
                        f"{where}: no test dataset {name!r}{suggestion(name, tests)}; there are {listing(tests)}"
                    )
        for name in self.report.margins:
            if name not in self.scoring.metrics:
                raise ValueError(
                    f"report.margins: no metric {name!r}{suggestion(name, self.scoring.metrics)}; scoring.metrics has {listing(self.scoring.metrics)}"
                )
        for key, table in self.report.tables.items():
            if table.published and self.paper is None:
                raise ValueError(
                    f"report.tables.{key}.published: this profile names no paper; add `paper: <folder of papers/>`"
                )
        for key, baseline in self.baselines.items():
            for name in (name for backbones in baseline.only.values() for name in backbones):
                if name not in self.backbones:
                    raise ValueError(
                        f"baselines.{key}.only: no backbone {name!r}{suggestion(name, self.backbones)}; there are {listing(self.backbones)}"
                    )
        return self

    @pydantic.model_validator(mode="after")
    def _tuning_is_apart(self) -> Profile:
        if self.tuning is None:
            return self
        if self.training is None:
            raise ValueError("tuning: nothing trains without `training`; add it, or leave `tuning` out")
        metric, metrics = self.tuning.metric, self.scoring.metrics
        if metric not in metrics:
            raise ValueError(
                f"tuning.metric: no metric {metric!r}{suggestion(metric, metrics)}; there are {listing(metrics)}"
            )
        reported = sorted(set(self.tuning.seeds) & set(self.seeds))
        if reported:
            raise ValueError(
                f"tuning.seeds: seed {reported[0]} is reported (`seeds`); give tuning seeds that no reported run uses"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _datasets_exist(self) -> Profile:
        used = [(f"data.train.{i}.dataset", source.dataset) for i, source in enumerate(self.data.train)]
        used += [(f"data.test.{i}.dataset", split.dataset) for i, split in enumerate(self.data.test)]
        others = {
            "data.validation": self.data.validation,
            "data.drift": self.data.drift,
            "pretraining": self.pretraining,
        }
        used += [(f"{where}.dataset", part.dataset) for where, part in others.items() if part]
        for where, name in used:
            if name not in self.datasets:
                raise ValueError(
                    f"{where}: no dataset {name!r} in this profile{suggestion(name, self.datasets)}; there are {listing(self.datasets)}"
                )
        unpaired = {name for name, declared in self.datasets.items() if declared.kind == "unpaired"}
        for where, name in used:
            if name in unpaired and not where.startswith("data.test"):
                raise ValueError(f"{where}: the photographs of {name!r} have no HR; give a dataset of pairs")
        drift = self.datasets[self.data.drift.dataset] if self.data.drift else None
        if isinstance(drift, SampleImages) and drift.degradation != "bicubic":
            raise ValueError("data.drift.dataset: its LR is not bicubic; give bicubic pairs")
        if self.training and self.training.crop % self.scale:
            raise ValueError(f"training.crop: {self.training.crop} is not a multiple of the scale {self.scale}")
        return self
