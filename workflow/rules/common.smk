# Read and check the profile; define what the other rule files share. No rules here.
import shlex
import sys
from functools import cache, partial
from pathlib import Path

from adaptsr import devices
from adaptsr.adaptation.baseline_files import FOLDER
from adaptsr.config.reading import load_profile
from adaptsr.config.schema import EXTERNAL
from adaptsr.data.catalogue import read_catalogue, weights_file
from adaptsr.data.kinds import kind_of
from adaptsr.data.manifest import manifest_path
from adaptsr.errors import UserError
from adaptsr.exchange.moves import recover
from adaptsr.files import expanded, read_json
from adaptsr.metrics.conventions import whole_scoring
from adaptsr.metrics.weights import next_attempt
from adaptsr.runs import job_requests, validation
from adaptsr.runs.matrix import Matrix
from adaptsr.runs.parts import Part, take_part
from adaptsr.scoring.external import folders_as_they_are
from adaptsr.scoring.table import metric_key


def raw_setting(name, value):
    """Return a --config value as it was typed: Snakemake reads 007 as 7."""
    given = [word.removeprefix(f"{name}=") for word in sys.argv if word.startswith(f"{name}=")]
    return given[-1] if given else str(value)


def load_matrix():
    if len(workflow.configfiles) > 1:
        raise UserError("--configfile: one profile was expected, found several; a profile is read whole, never layered")
    path = workflow.configfiles[0] if workflow.configfiles else Path("config/demo.yaml")
    path = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    settings = {name: raw_setting(name, value) for name, value in workflow.config_settings.config.items()}
    # `--config baselines=DIR:DIR` names folders of baseline files; it sets nothing in the profile.
    folders = [str(expanded(folder)) for folder in settings.pop("baselines", "").split(":") if folder]
    # `--config backbones=... seeds=... rows=...` names a part of the matrix.
    part = Part(*(settings.pop(name, None) for name in Part._fields))
    words = [
        "--profile",
        str(path),
        *(word for name, value in settings.items() for word in ("--set", f"{name}={value}")),
    ]
    words += [word for folder in folders for word in ("--baselines", folder)]
    matrix = Matrix.of(load_profile(path, settings), str(path), [FOLDER, *map(Path, folders)])
    validation.check(matrix)
    recover(matrix.results)
    return take_part(matrix, part), shlex.join(words), part


try:
    MATRIX, PROFILE_ARGUMENTS, PART = load_matrix()
except UserError as mistake:
    raise SystemExit(f"adaptsr: {mistake}") from None

PROFILE = MATRIX.profile
PART_ARGUMENTS = shlex.join(PART.arguments)
PART_SEEDS = shlex.join(Part(seeds=PART.seeds).arguments)
# Jobs work in this folder, wherever the Snakefile is. They find `adaptsr` beside the Python that runs snakemake, so that
# its environment need not be activated.
shell.prefix(
    f"set -euo pipefail; export ADAPTSR_ROOT=$PWD; PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH; "
)
NAME = PROFILE.name

# A job takes its GPU itself and waits for one. The count here keeps a waiting job from holding cores that others could use.
# On a cluster nothing is counted: the machine that submits has other GPUs than the nodes.
ON_GPU = {} if PROFILE.compute.device == "cpu" else {"gpu": 1}
if ON_GPU and "gpu" not in workflow.global_resources and workflow.nodes is None:
    SLOTS = PROFILE.compute.jobs_per_gpu * len(devices.shared_gpus())
    if SLOTS:
        workflow.register_resource("gpu", SLOTS)


MEMORY = job_requests.training_mb(PROFILE, PROFILE.training)
PRETRAINING = PROFILE.pretraining.training if PROFILE.pretraining else PROFILE.training


def requested(minutes=job_requests.UNKNOWN_MINUTES, memory=MEMORY, on=ON_GPU):
    """Return the resources of a job, as a cluster gets them; `--set-resources RULE:NAME=VALUE` replaces one.

    On a GPU the process that samples batches has a core of its own.
    """
    return {**on, "mem_mb": memory, "runtime": minutes, "cpus_per_task": PROFILE.compute.threads + len(on)}


wildcard_constraints:
    backbone="|".join([*PROFILE.backbones, EXTERNAL]),
    baseline=r"[a-z0-9][a-z0-9_]*",
    variant=r"[a-z0-9][a-z0-9_.-]*",
    seeds=r"\d+(-\d+)*",
    dataset="|".join(PROFILE.datasets),
    block=r"[a-z0-9][a-z0-9_.-]*",


def manifests(datasets):
    """Return the manifests of these datasets, each once."""
    return sorted({str(manifest_path(dataset)) for dataset in datasets})


@cache
def listing(dataset):
    """Return what makes a dataset stale: its declaration and, for a folder of pairs, the names, sizes and times of its files."""
    declared = PROFILE.datasets[dataset]
    return kind_of(declared).listing(declared)


def checkpoints(models):
    """Return the weights files of these backbones or external models. A name of config/weights.tsv becomes the file it is fetched to."""
    return [str(weights_file(model.weights) or model.weights) for model in models if model.weights]


@cache
def weights(backbone):
    """Return the weights file of a backbone, or those of all external models."""
    return checkpoints(PROFILE.external.values() if backbone == EXTERNAL else [PROFILE.backbones[backbone]])


def weights_source(file):
    """Return the row of config/weights.tsv that is fetched to this file: its name, version and checksum."""
    models = [*PROFILE.backbones.values(), *PROFILE.external.values()]
    name = next(model.weights for model in models if checkpoints([model]) == [f"resources/weights/{file}"])
    row = read_catalogue().weights[name]
    return {"name": name, "version": row.version, "checksum": row.checksum}


@cache
def training_files(backbone):
    """The manifests of the datasets that training reads, and the weights it starts from."""
    used = [*PROFILE.data.train, *PROFILE.data.followed]
    return manifests(part.dataset for part in used) + weights(backbone)


def training_inputs(wildcards):
    path = choice_path(wildcards.backbone, row_of(wildcards))
    start = MATRIX.start(row_of(wildcards))
    before = [f"results/{NAME}/{wildcards.backbone}/{start}/runs.{wildcards.seeds}.json"] if start else []
    return training_files(wildcards.backbone) + loss_weights() + before + ([str(path)] if path else [])


def loss_weights():
    """Return the list of network weights, if an objective needs some."""
    return [f"results/{NAME}/metric_weights.json"] if loss_networks() else []


@cache
def loss_networks():
    """Return the objectives that need network weights."""
    return [objective.model_dump() for objective in MATRIX.objectives if objective.networks]


def weights_attempt():
    """Return the number of the attempt to fetch network weights that this call of Snakemake needs."""
    if not workflow.is_main_process:
        return 0
    try:
        last = read_json(Path(f"results/{NAME}/metric_weights.json"), "what `adaptsr fetch-metric-weights` writes")
    except UserError:  # there is none, or a torn one that the job replaces
        last = {}
    return next_attempt(PROFILE.scoring, MATRIX.objectives if last.get("missing") else [], last)


ATTEMPT = weights_attempt()


def row_of(wildcards):
    return f"{wildcards.baseline}/{wildcards.variant}"


def variant_key(wildcards):
    """Return what makes a training job stale besides its files. The job itself checks the key of each run."""
    return cached_variant_key(wildcards.backbone, row_of(wildcards))


cached_variant_key = cache(MATRIX.untuned.variant_key)


def training_minutes(wildcards):
    seeds = len(wildcards.seeds.split("-"))
    return cached_training_minutes(wildcards.backbone, row_of(wildcards), seeds)


cached_training_minutes = cache(partial(job_requests.training_minutes, MATRIX))


def tuning_inputs(wildcards):
    """Tuning refuses validation images that are test images, so it needs both."""
    return training_files(wildcards.backbone) + manifests(test.dataset for test in MATRIX.tests)


choice_path = cache(MATRIX.choice_path)


def tuning_key(wildcards):
    """Return what makes a tuning job stale besides its files: what it tries, and what it selects by."""
    return MATRIX.asked_of_tuning(wildcards.backbone, row_of(wildcards))


def tuning_minutes(wildcards):
    return job_requests.tuning_minutes(MATRIX, wildcards.backbone, row_of(wildcards))


def made_choices():
    """Return the choices that the workflow makes, whether or not `tuning.choices` has them."""
    return [
        f"results/{NAME}/tuning/choices/{backbone}/{row.name}.json"
        for backbone in PROFILE.backbones
        for row in MATRIX.rows_on(backbone)
        if row.trained and MATRIX.points(row.name)
    ]


def backbone_of(wildcards):
    """Return the backbone of a scoring job, None for external models."""
    return None if wildcards.backbone == EXTERNAL else wildcards.backbone


blocks = cache(MATRIX.blocks)


def trained(wildcards):
    """Return the run lists of the rows that a scoring job scores."""
    return [
        f"results/{NAME}/{wildcards.backbone}/{row.name}/runs.{seeds}.json"
        for row in blocks(backbone_of(wildcards))[wildcards.block]
        if row.trained
        for seeds in MATRIX.seed_groups
    ]


def block_rows(wildcards):
    """Return the names of the rows that a scoring job scores."""
    return [row.name for row in blocks(backbone_of(wildcards))[wildcards.block]]


def scoring_minutes(wildcards):
    subject = backbone_of(wildcards), block_rows(wildcards), wildcards.dataset
    return job_requests.scoring_minutes(MATRIX, *subject)


def metric_keys():
    """Return the metrics without their names and titles: renaming a column scores nothing again."""
    return sorted({metric_key(PROFILE.scoring, column) for column in PROFILE.scoring.metrics})


def scoring_key(wildcards):
    """Return what makes a scoring job stale besides its files: metrics, pictures, rows, external images."""
    key = [metric_keys(), PROFILE.report.pictures, block_rows(wildcards)]
    return [*key, folders_as_they_are(PROFILE, [wildcards.dataset])] if wildcards.backbone == EXTERNAL else key


def costs_key():
    """Return what makes the measured costs stale besides the weights."""
    measured = [PROFILE.report.cost, *PROFILE.backbones.values(), *PROFILE.external.values()]
    return [part.model_dump(mode="json") for part in measured if part]


def scored():
    """Return the lists that scoring jobs write, one for each backbone, block of rows and test dataset."""
    return [
        f"results/{NAME}/scores/{backbone or EXTERNAL}/{test.dataset}/{block}.json"
        for backbone in MATRIX.backbones
        for block in blocks(backbone)
        for test in MATRIX.tests
    ]


def columns(wildcards):
    """Return the columns of scores.parquet with the metrics they name, and its rows."""
    scoring = whole_scoring(PROFILE)
    named = {column: metric_key(scoring, column) for column in scoring.metrics}
    return [named, [row.name for row in MATRIX.rows]]


def audit_report():
    """Return the page with the audit of the paper, if the profile names a paper."""
    return [f"reports/{NAME}/audit.html"] if PROFILE.paper else []


def stability_key():
    """Return what makes a measurement of stability stale besides its files."""
    measured = [PROFILE.stability, PROFILE.training]
    return [*(part.model_dump(mode="json") for part in measured), MATRIX.whole.profile.seeds[0], PROFILE.protocol]


def stability_report():
    """Return the pages about importance scores, if the profile measures them."""
    return [f"reports/{NAME}/stability.{kind}" for kind in ("html", "csv")] if PROFILE.stability else []


def tested_reports():
    """Return the names of the reports made from scores alone: the tables and, if the profile names comparisons, the tests."""
    return [*PROFILE.report.tables, *(["significance"] if PROFILE.report.comparisons else [])]


def report_files(name):
    """Return the files of one report, the page first."""
    kinds = ["html", "csv"] if name == "significance" else ["html", "md", "csv", "tex"]
    return [f"reports/{NAME}/{name}.{kind}" for kind in kinds]


def all_reports():
    """Return every file under reports/ that `rule all` asks for."""
    files = [path for name in tested_reports() for path in report_files(name)]
    return [*files, *audit_report(), *stability_report(), f"reports/{NAME}/index.html", f"reports/{NAME}.zip"]


def report_key(wildcards):
    """Return what makes a report stale besides scores: titles, metrics, paper. A function, since Snakemake would read braces in a title as wildcards."""
    shown = [PROFILE.report, PROFILE.scoring]
    rows = [[row.name, row.title] for row in MATRIX.rows]
    return [PROFILE.title, PROFILE.paper, *(part.model_dump(mode="json") for part in shown), rows]
