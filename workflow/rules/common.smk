# Reads and checks the profile; what the other rule files share. No rules here.
import shlex
import sys
from functools import cache
from pathlib import Path

from adaptsr import devices
from adaptsr.config.reading import load_profile
from adaptsr.config.schema import OUTPUTS
from adaptsr.data.catalogue import weights_file
from adaptsr.data.manifest import manifest_path
from adaptsr.errors import UserError
from adaptsr.runs import validation
from adaptsr.runs.matrix import Matrix
from adaptsr.scoring.external import folders_as_they_are


def raw_setting(name, value):
    """A --config value as it was typed: Snakemake has already read 007 as 7."""
    given = [word.removeprefix(f"{name}=") for word in sys.argv if word.startswith(f"{name}=")]
    return given[-1] if given else str(value)


def load_matrix():
    if len(workflow.configfiles) > 1:
        raise UserError("--configfile: one profile was expected, found several; a profile is read whole, never layered")
    path = workflow.configfiles[0] if workflow.configfiles else Path("config/demo.yaml")
    path = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    settings = {name: raw_setting(name, value) for name, value in workflow.config_settings.config.items()}
    words = ["--profile", str(path), *(word for name, value in settings.items() for word in ("--set", f"{name}={value}"))]
    matrix = Matrix.of(load_profile(path, settings), str(path))
    validation.check(matrix)
    return matrix, shlex.join(words)


try:
    MATRIX, PROFILE_ARGUMENTS = load_matrix()
except UserError as mistake:
    raise SystemExit(f"adaptsr: {mistake}") from None

PROFILE = MATRIX.profile
# Jobs find `adaptsr` beside the python that runs snakemake, whether or not its environment is activated.
shell.prefix(f"set -euo pipefail; PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH; ")
NAME = PROFILE.name

# Jobs take their GPU themselves and wait for one; counting keeps them from waiting on cores that others could use. The
# count of a cluster is not that of the machine which submits.
ON_GPU = {} if PROFILE.compute.device == "cpu" else {"gpu": 1}
if ON_GPU and "gpu" not in workflow.global_resources and workflow.nodes is None:
    SLOTS = PROFILE.compute.jobs_per_gpu * len(devices.shared_gpus())
    if SLOTS:
        workflow.register_resource("gpu", SLOTS)


wildcard_constraints:
    backbone="|".join(PROFILE.backbones),
    baseline=r"[a-z0-9][a-z0-9_]*",
    variant=r"[a-z0-9][a-z0-9_.-]*",
    seeds=r"\d+(-\d+)*",
    dataset="|".join(PROFILE.datasets),


def manifests(splits):
    """Manifests of the datasets that these parts of the profile name."""
    return sorted({str(manifest_path(split.dataset)) for split in splits})


def checkpoints(models):
    """The weights of backbones or outputs, where the profile names some: a path, or what a name of config/weights.tsv is fetched to."""
    return [str(weights_file(model.weights) or model.weights) for model in models if model.weights]


@cache
def weights(backbone):
    return checkpoints([PROFILE.backbones[backbone]])


def weights_name(file):
    """The name in config/weights.tsv that is fetched to this file."""
    models = [*PROFILE.backbones.values(), *PROFILE.outputs.values()]
    return next(model.weights for model in models if checkpoints([model]) == [f"resources/weights/{file}"])


def training_inputs(wildcards):
    return manifests([*PROFILE.data.train, PROFILE.data.validation]) + weights(wildcards.backbone)


def job_key(wildcards):
    """What makes the runs of a job stale; the runs themselves are checked once more when the job starts."""
    return variant_key(wildcards.backbone, f"{wildcards.baseline}/{wildcards.variant}")


@cache
def variant_key(backbone, row):
    return MATRIX.job_key(backbone, MATRIX.variant(row))


def trained(wildcards):
    """The run lists of the variants that are run on one backbone."""
    return [
        f"results/{NAME}/{wildcards.backbone}/{row.name}/runs.{seeds}.json"
        for row in MATRIX.rows_on(wildcards.backbone)
        if row.seeded
        for seeds in MATRIX.seed_groups
    ]


def scoring_key(wildcards):
    rows = MATRIX.rows_on(wildcards.get("backbone", ""))
    return [PROFILE.scoring.model_dump(mode="json"), PROFILE.report.pictures, [row.name for row in rows]]


def outputs_key(wildcards):
    """Scores of outputs are stale when their images are others."""
    declared = {name: output.model_dump(mode="json", exclude={"title"}) for name, output in PROFILE.outputs.items()}
    return [*scoring_key(wildcards), declared, folders_as_they_are(PROFILE, [test.dataset for test in MATRIX.tests])]


def scored():
    """The scores of every backbone, and those of outputs where the profile has some."""
    names = [*PROFILE.backbones, *([OUTPUTS] if PROFILE.outputs else [])]
    return [f"results/{NAME}/scores/{name}.parquet" for name in names]


def audit_report():
    """The audit of the profile's paper, where it names one: a page of the report."""
    return [f"reports/{NAME}/audit.html"] if PROFILE.paper else []


def tested_reports():
    """What is made of the scores alone: the tables, and the tests where the profile names comparisons."""
    return [*PROFILE.report.tables, *(["significance"] if PROFILE.report.comparisons else [])]


def report_files(name):
    """The files of a table or of the tests, the page first."""
    kinds = ["html", "csv"] if name == "significance" else ["html", "md", "csv", "tex"]
    return [f"reports/{NAME}/{name}.{kind}" for kind in kinds]


def all_reports():
    files = [path for name in tested_reports() for path in report_files(name)]
    return [*files, *audit_report(), f"reports/{NAME}/index.html", f"reports/{NAME}.zip"]


def report_key(wildcards):
    """A function, as all keys: Snakemake would take braces in a title for wildcards."""
    return [PROFILE.title, PROFILE.report.model_dump(mode="json"), [[row.name, row.title] for row in MATRIX.rows]]
