# Reads and checks the profile; what the other rule files share. No rules here.
import shlex
import sys
from functools import cache
from pathlib import Path

from adaptsr import devices
from adaptsr.adaptation.baseline_files import FOLDER
from adaptsr.config.reading import load_profile
from adaptsr.config.schema import EXTERNAL
from adaptsr.data.catalogue import read_catalogue, weights_file
from adaptsr.data.kinds import kind_of
from adaptsr.data.manifest import manifest_path
from adaptsr.errors import UserError
from adaptsr.files import expanded
from adaptsr.runs import validation
from adaptsr.runs.matrix import Matrix
from adaptsr.scoring.external import folders_as_they_are
from adaptsr.scoring.table import metric_key


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
    # `--config baselines=DIR:DIR` names folders of baseline files; it is not a setting of the profile.
    folders = [str(expanded(folder)) for folder in settings.pop("baselines", "").split(":") if folder]
    words = ["--profile", str(path), *(word for name, value in settings.items() for word in ("--set", f"{name}={value}"))]
    words += [word for folder in folders for word in ("--baselines", folder)]
    matrix = Matrix.of(load_profile(path, settings), str(path), [FOLDER, *map(Path, folders)])
    validation.check(matrix)
    return matrix, shlex.join(words)


try:
    MATRIX, PROFILE_ARGUMENTS = load_matrix()
except UserError as mistake:
    raise SystemExit(f"adaptsr: {mistake}") from None

PROFILE = MATRIX.profile
# Jobs work in this folder, wherever the Snakefile is, and find `adaptsr` beside the Python that runs snakemake, whether or
# not its environment is activated.
shell.prefix(f"set -euo pipefail; export ADAPTSR_ROOT=$PWD; PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH; ")
NAME = PROFILE.name

# Jobs take their GPU themselves and wait for one; counting keeps them from waiting on cores that others could use. The
# count of a cluster is not that of the machine which submits.
ON_GPU = {} if PROFILE.compute.device == "cpu" else {"gpu": 1}
if ON_GPU and "gpu" not in workflow.global_resources and workflow.nodes is None:
    SLOTS = PROFILE.compute.jobs_per_gpu * len(devices.shared_gpus())
    if SLOTS:
        workflow.register_resource("gpu", SLOTS)


wildcard_constraints:
    backbone="|".join([*PROFILE.backbones, EXTERNAL]),
    baseline=r"[a-z0-9][a-z0-9_]*",
    variant=r"[a-z0-9][a-z0-9_.-]*",
    seeds=r"\d+(-\d+)*",
    dataset="|".join(PROFILE.datasets),
    block=r"[a-z0-9][a-z0-9_.-]*",


def manifests(datasets):
    """The manifests of datasets of the profile, each once."""
    return sorted({str(manifest_path(dataset)) for dataset in datasets})


@cache
def listing(dataset):
    """What makes a dataset stale: its declaration, and of a folder of pairs the names, sizes and times of its files."""
    declared = PROFILE.datasets[dataset]
    return kind_of(declared).listing(declared)


def checkpoints(models):
    """The weights of backbones or external models, where the profile names some: a path, or the file that a name of config/weights.tsv is fetched to."""
    return [str(weights_file(model.weights) or model.weights) for model in models if model.weights]


@cache
def weights(backbone):
    """The weights of a backbone, or of all external models."""
    return checkpoints(PROFILE.external.values() if backbone == EXTERNAL else [PROFILE.backbones[backbone]])


def weights_source(file):
    """The row of config/weights.tsv that is fetched to this file: its name, and what tells its content from another's."""
    models = [*PROFILE.backbones.values(), *PROFILE.external.values()]
    name = next(model.weights for model in models if checkpoints([model]) == [f"resources/weights/{file}"])
    row = read_catalogue().weights[name]
    return {"name": name, "version": row.version, "checksum": row.checksum}


def training_inputs(wildcards):
    used = [*(source.dataset for source in PROFILE.data.train), PROFILE.data.validation.dataset]
    return manifests(used) + weights(wildcards.backbone)


def variant_key(wildcards):
    """What makes the runs of a job stale, besides its files; each run's own key is checked when the job starts."""
    return cached_variant_key(wildcards.backbone, f"{wildcards.baseline}/{wildcards.variant}")


cached_variant_key = cache(MATRIX.variant_key)


def backbone_of(wildcards):
    """The backbone of a scoring job; None for external models."""
    return None if wildcards.backbone == EXTERNAL else wildcards.backbone


blocks = cache(MATRIX.blocks)


def trained(wildcards):
    """The run lists of the rows that a scoring job scores."""
    return [
        f"results/{NAME}/{wildcards.backbone}/{row.name}/runs.{seeds}.json"
        for row in blocks(backbone_of(wildcards))[wildcards.block]
        if row.trained
        for seeds in MATRIX.seed_groups
    ]


def block_rows(wildcards):
    return [row.name for row in blocks(backbone_of(wildcards))[wildcards.block]]


def scoring_key(wildcards):
    """What makes scores stale, besides files: metrics without their names, pictures, rows; of external models their images."""
    key = [sorted({metric_key(PROFILE.scoring, column) for column in PROFILE.scoring.metrics}), PROFILE.report.pictures, block_rows(wildcards)]
    return [*key, folders_as_they_are(PROFILE, [wildcards.dataset])] if wildcards.backbone == EXTERNAL else key


def scored():
    """The lists of what every scoring job scored: backbone x block of rows x test dataset."""
    return [
        f"results/{NAME}/scores/{backbone or EXTERNAL}/{test.dataset}/{block}.json"
        for backbone in MATRIX.backbones
        for block in blocks(backbone)
        for test in MATRIX.tests
    ]


def columns(wildcards):
    """The names of metrics in the score file, with what they name, and the rows in it."""
    named = {column: metric_key(PROFILE.scoring, column) for column in PROFILE.scoring.metrics}
    return [named, [row.name for row in MATRIX.rows]]


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
    """What pages show besides scores: titles of rows and metrics, and the paper. A function, as all keys: Snakemake would take braces in a title for wildcards."""
    shown = [PROFILE.report, PROFILE.scoring]
    return [PROFILE.title, PROFILE.paper, *(part.model_dump(mode="json") for part in shown), [[row.name, row.title] for row in MATRIX.rows]]
