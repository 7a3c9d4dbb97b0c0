"""The schema of a profile: what is run, on what, how it is trained, scored and reported.

A profile is one YAML file, read whole. These models are the only description of it: the JSON schema for editors and
the reference in `config/README.md` are generated from them. Importing this module costs no torch: the workflow parses
with it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import pydantic
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from adaptsr.errors import listing, suggestion

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,99}")


UNADAPTED = "unadapted"


EXTERNAL = "external"


AUTO = "auto"


RESERVED_DATASETS = ("archives", "demo", "external", "weights")
"""Folders of `resources/` that are no datasets."""
RESERVED_BACKBONES = (EXTERNAL, "logs", "pretrained", "scores", "superseded")
"""Folders of `results/<profile>/` that are no backbones."""


def _check_name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError(
            f"{value!r} is no name: up to 100 lower-case letters, digits, '_', '-' and '.' are allowed, a letter or digit first"
        )
    return value


Name = Annotated[str, pydantic.AfterValidator(_check_name)]


class Section(pydantic.BaseModel):
    """A block of a profile; a key that is not in the schema is refused."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Compute(Section):
    device: Literal["cpu", "cuda", "auto"] = Field(
        "auto", description="where training and scoring run; `auto` takes CUDA where there is one"
    )
    threads: PositiveInt = Field(
        1,
        description="CPU threads of each process, the same on every machine: 1 and 2 threads give different last bits",
    )
    seeds_per_job: PositiveInt = Field(
        1,
        description="runs that share one process; more saves start-up time, fewer spreads over more machines",
    )
    jobs_per_gpu: PositiveInt = Field(
        1,
        description="training and scoring processes that share a GPU; 1 gives each a GPU to itself, as runs need whose time is to be compared; more fill a GPU that small backbones leave idle",
    )
    deterministic: bool = Field(
        True, description="only deterministic algorithms; the same seed then gives the same bits"
    )


class Blur(Section):
    """One order of the Real-ESRGAN degradation."""

    kernel_probabilities: tuple[float, float, float, float, float, float] = Field(
        (0.45, 0.25, 0.12, 0.03, 0.12, 0.03),
        description="probability of the kernels iso, aniso, generalized iso, generalized aniso, plateau iso, plateau aniso",
    )
    kernel_size_max: PositiveInt = Field(21, description="blur kernel sizes are odd numbers drawn from 7 to this")
    sinc_probability: NonNegativeFloat = Field(0.1, description="probability of a sinc kernel instead")
    blur_probability: NonNegativeFloat = Field(1.0, description="probability that this order blurs at all")
    blur_sigma: tuple[float, float] = Field((0.2, 3.0), description="range of the blur's standard deviation, pixels")
    generalized_beta: tuple[float, float] = Field((0.5, 4.0), description="range of the generalized kernels' shape")
    plateau_beta: tuple[float, float] = Field((1.0, 2.0), description="range of the plateau kernels' shape")
    resize_probabilities: tuple[float, float, float] = Field(
        (0.2, 0.7, 0.1), description="probability of resizing up, down, not at all"
    )
    resize_range: tuple[float, float] = Field((0.15, 1.5), description="range of the resize factor")
    gaussian_probability: NonNegativeFloat = Field(
        0.5, description="probability of Gaussian noise; Poisson noise otherwise"
    )
    gaussian_sigma: tuple[float, float] = Field(
        (1.0, 30.0), description="range of the Gaussian noise's standard deviation, of 255"
    )
    poisson_scale: tuple[float, float] = Field((0.05, 3.0), description="range of the Poisson noise's scale")
    grey_probability: NonNegativeFloat = Field(0.4, description="probability that noise is the same in all channels")
    jpeg_quality: tuple[float, float] = Field((30.0, 95.0), description="range of the JPEG quality")


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
    """Real-ESRGAN's second-order degradation; the defaults are the published ones (options/train_realesrnet_x4plus.yml)."""

    first: Blur = Field(default_factory=Blur, description="first order")
    second: Blur = Field(default_factory=_second_order, description="second order")
    final_sinc_probability: NonNegativeFloat = Field(0.8, description="probability of the last sinc filter")
    sharpen: bool = Field(
        False,
        description="sharpen HR by unsharp masking before degrading (Real-ESRNet does; the AdaptSR paper does not say)",
    )


class SampleImages(Section):
    """Photographs that ship inside installed packages, cut into patches; LR is made by bicubic or by the Real-ESRGAN degradation."""

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
    """A folder of LR/HR pairs of one's own."""

    kind: Literal["pairs"]
    lr: str = Field(description="folder of LR images")
    hr: str = Field(description="folder of HR images of the same names")
    split: dict[Literal["train", "validation", "test"], str] = Field(
        description="which pairs each split takes, in the order of their names: `all`, `none`, `rest` (what no other split takes), `first N`, `last N`, `N first of each GROUP` or `N last of each GROUP`, where GROUP is any word for what stands before the first '_' of a name (names without one are one group); splits may not overlap"
    )


class Archive(Section):
    """A data set of `config/datasets.tsv`, fetched and unpacked by the workflow."""

    kind: Literal["archive"]
    row: str = Field(description="name of the row in config/datasets.tsv")


AnyDataset = SampleImages | Pairs | Archive


DatasetConfig = Annotated[AnyDataset, Field(discriminator="kind")]


DATASET_KINDS = tuple(str(get_args(model.model_fields["kind"].annotation)[0]) for model in get_args(AnyDataset))


class Source(Section):
    """A part of the training data."""

    dataset: str = Field(description="name of a dataset of this profile")
    split: Literal["train", "validation", "test"] = "train"
    weight: PositiveFloat = Field(1.0, description="share of the crops drawn from here, relative to the other sources")
    degradation: Degradation | None = Field(
        None, description="make LR from HR on the fly; without it the dataset's own LR is used"
    )


class Split(Section):
    dataset: str = Field(description="name of a dataset of this profile")
    split: Literal["train", "validation", "test"] = "test"


class ScoredSplit(Split):
    optional: bool = Field(
        False,
        description="left out, and said so in the tables, as long as an archive of it that only a person can get is not there",
    )


class Data(Section):
    train: list[Source] = Field(min_length=1, description="where training crops come from")
    validation: Split = Field(
        description="the small set whose PSNR-Y is followed during training; never used to choose anything"
    )
    test: list[ScoredSplit] = Field(min_length=1, description="what is scored, one block of the tables each")


class Backbone(Section):
    architecture: str = Field(
        description="`edsr`, an architecture id that spandrel knows (`SAFMN`, `SwinIR`, `DRCT`, ...), or `auto`: what the weights file is found to be"
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="constructor arguments; without them those of the weights file are used",
    )
    weights: str | None = Field(
        None,
        description="checkpoint of the bicubic-trained backbone: a path, or the name of a row in config/weights.tsv",
    )
    title: str | None = Field(None, description="name shown in reports")
    kinds: dict[str, Literal["conv", "attention", "mlp", "skip"]] = Field(
        default_factory=dict,
        description="corrections of the kinds found for sites: a site's name or a pattern with `*` to its kind; `skip` is never adapted",
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
        if self.architecture == AUTO and (self.weights is None or self.options):
            what = "needs weights to be found in" if self.weights is None else "takes no options: the file has them"
            raise ValueError(f"architecture: `{AUTO}` {what}")
        return self


class Training(Section):
    iterations: PositiveInt = Field(description="optimizer steps")
    batch_size: PositiveInt = Field(description="crops of one step")
    crop: PositiveInt = Field(description="side of an HR crop, pixels; a multiple of the scale")
    lr: PositiveFloat = Field(description="learning rate of Adam(0.9, 0.999), without weight decay")
    milestones: list[PositiveFloat] = Field(
        default_factory=list,
        description="fractions of the iterations after which the learning rate is multiplied by `decay`",
    )
    decay: PositiveFloat = Field(0.75, description="factor at each milestone")
    validate_every: PositiveInt = Field(description="iterations between two validations")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="of forward and backward: `bfloat16` is automatic mixed precision, with parameters and Adam in float32",
    )
    checkpoint_minutes: PositiveFloat = Field(10.0, description="minutes between two checkpoints")
    checkpoint_iterations: PositiveInt | None = Field(
        None, description="iterations between two checkpoints, in addition to the minutes"
    )
    diverged_above: PositiveFloat = Field(
        10.0, description="a training loss (L1, of values in [0, 1]) above this counts as diverged"
    )


class TrainingChanges(Section):
    """What differs from `training` for one baseline; the names and meanings are those of `training`."""

    iterations: PositiveInt | None = None
    batch_size: PositiveInt | None = None
    lr: PositiveFloat | None = None
    milestones: list[PositiveFloat] | None = None
    decay: PositiveFloat | None = None
    validate_every: PositiveInt | None = None


class Baseline(Section):
    """What this profile changes for one file of `baselines/`."""

    variants: dict[Name, dict[str, Any]] = Field(
        default_factory=dict, description="variants of this profile's own: name to options"
    )
    rows: list[str] | None = Field(
        None,
        description="variants that are run: names or patterns with `*`; the file's ROWS without it, none if empty",
    )
    only: dict[str, list[str]] = Field(
        default_factory=dict,
        description="variants (names or patterns with `*`) that are run on some backbones only, to the names of those",
    )
    training: TrainingChanges = Field(
        default_factory=TrainingChanges, description="what differs from `training` for this baseline"
    )


class External(Section):
    """An external model: its restored test images, or its weights. Scored as it is, a row of the tables."""

    title: str = Field(description="name shown in reports")
    folders: dict[str, str] = Field(
        default_factory=dict,
        description="test dataset to the folder of its restored images; `resources/external/<name>/<dataset>` without it; a folder that is not there is a dash with the reason",
    )
    weights: str | None = Field(
        None,
        description="instead of folders, a checkpoint that spandrel loads and that restores the test images: a path, or the name of a row in config/weights.tsv",
    )
    parameters: PositiveInt | None = Field(None, description="number of parameters, as its authors state it")
    source: str = Field("", description="where model or images come from")

    @pydantic.model_validator(mode="after")
    def _one_origin(self) -> External:
        if self.weights and self.folders:
            raise ValueError("folders and weights exclude each other: images are taken as they are or restored here")
        return self


class Pretraining(Section):
    """How the demo's own backbones are made (target `demo_weights`)."""

    dataset: str = Field(description="dataset whose train split is used")
    training: Training


class Metric(Section):
    name: str = Field(description="name of a full-reference metric of pyiqa")
    title: str | None = Field(None, description="column heading")
    options: dict[str, Any] = Field(default_factory=dict, description="options of the metric, as pyiqa takes them")


class Scoring(Section):
    metrics: dict[Name, Metric] = Field(
        min_length=1, description="columns of the tables, in their order: our name to pyiqa's metric"
    )
    crop_border: NonNegativeInt = Field(0, description="pixels left out at each border, for every metric")
    missing_weights: Literal["dash", "error"] = Field(
        "dash",
        description="what to do when a metric's network weights are unavailable: a dash with the reason, or an error",
    )
    rows_per_job: PositiveInt = Field(
        1,
        description="rows (with all their seeds) that one scoring job restores and scores on a backbone and test dataset; fewer spread over more GPUs, more save start-up time",
    )


class Table(Section):
    title: str = Field(description="heading")
    rows: list[str] = Field(
        description="rows in their order: `<baseline>/<variant>` or patterns with `*`; rows that no table names are added to all"
    )
    metrics: list[str] | None = Field(None, description="columns; all metrics without it")
    datasets: list[str] | None = Field(None, description="test datasets; all without it")
    published: str | None = Field(
        None, description="published numbers shown beside, a file of published/ in the folder of `paper`"
    )


class Comparison(Section):
    """A family of paired tests: each of `rows` against `compared_with`."""

    title: str
    rows: list[str] = Field(description="`<baseline>/<variant>` or patterns with `*`")
    compared_with: str = Field(description="the row that each of `rows` is compared with")


class Report(Section):
    tables: dict[Name, Table]
    comparisons: list[Comparison] = Field(default_factory=list)
    comparable_with_paper: bool = Field(
        False, description="whether this profile is the paper's; reports say plainly when it is not"
    )
    note: str = Field("", description="a sentence under every table")
    pictures: list[str] = Field(
        default_factory=list,
        description="names of test images shown restored by every row; only these are kept, of the first seed",
    )


class Profile(Section):
    name: Name = Field(description="names the folders under results/ and reports/")
    title: str
    protocol: NonNegativeInt = Field(
        1,
        description="raised by hand when a change outside this file changes results: every run is then stale",
    )
    paper: Name | None = Field(
        None,
        description="the paper whose published numbers stand beside the measured ones and whose claims are audited: a folder of papers/",
    )
    scale: PositiveInt = Field(4, description="upscaling factor")
    seeds: list[NonNegativeInt] = Field(min_length=1, description="every variant is trained once for each")
    compute: Compute = Field(default_factory=Compute)
    datasets: dict[Name, DatasetConfig]
    data: Data
    backbones: dict[Name, Backbone] = Field(min_length=1)
    training: Training
    baselines: dict[Name, Baseline] = Field(
        default_factory=dict,
        description="changes per file of baselines/; a file that is not named runs its ROWS",
    )
    external: dict[Name, External] = Field(
        default_factory=dict, description="external models, scored as they are: the rows `external/<name>`"
    )
    pretraining: Pretraining | None = None
    scoring: Scoring
    report: Report

    @pydantic.field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: list[int]) -> list[int]:
        repeated = sorted({seed for seed in seeds if seeds.count(seed) > 1})
        if repeated:
            raise ValueError(f"seed {repeated[0]} stands there twice; every seed is run once")
        return seeds

    @pydantic.field_validator("datasets")
    @classmethod
    def _datasets_have_folders_of_their_own(cls, datasets: dict[str, DatasetConfig]) -> dict[str, DatasetConfig]:
        for name in datasets:
            if name in RESERVED_DATASETS:
                raise ValueError(f"{name!r} is taken: resources/{name}/ holds something else; choose another name")
        return datasets

    @pydantic.field_validator("backbones")
    @classmethod
    def _backbones_have_folders_of_their_own(cls, backbones: dict[str, Backbone]) -> dict[str, Backbone]:
        for name in backbones:
            if name in RESERVED_BACKBONES:
                raise ValueError(
                    f"{name!r} is taken: a folder of this name beside those of the backbones holds something else; choose another name"
                )
        return backbones

    @pydantic.model_validator(mode="after")
    def _parts_exist(self) -> Profile:
        tests = [split.dataset for split in self.data.test]
        for name in tests:
            if tests.count(name) > 1:
                raise ValueError(f"data.test: the dataset {name!r} is listed twice; a table has one block for each")
        named = [(f"report.tables.{key}.datasets", table.datasets or []) for key, table in self.report.tables.items()]
        named += [(f"external.{key}.folders", list(model.folders)) for key, model in self.external.items()]
        for where, datasets in named:
            for name in datasets:
                if name not in tests:
                    raise ValueError(
                        f"{where}: no test dataset {name!r}{suggestion(name, tests)}; there are {listing(tests)}"
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
    def _datasets_exist(self) -> Profile:
        used = [(f"data.train.{i}.dataset", source.dataset) for i, source in enumerate(self.data.train)]
        used.append(("data.validation.dataset", self.data.validation.dataset))
        used += [(f"data.test.{i}.dataset", split.dataset) for i, split in enumerate(self.data.test)]
        if self.pretraining:
            used.append(("pretraining.dataset", self.pretraining.dataset))
        for where, name in used:
            if name not in self.datasets:
                raise ValueError(
                    f"{where}: no dataset {name!r} in this profile{suggestion(name, self.datasets)}; there are {listing(self.datasets)}"
                )
        if self.training.crop % self.scale:
            raise ValueError(f"training.crop: {self.training.crop} is not a multiple of the scale {self.scale}")
        return self
