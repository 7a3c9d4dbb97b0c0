# The benchmark as a workflow: data -> training -> scores -> reports.
# `snakemake --cores 8 all` runs the demo; add `--configfile config/paper.yaml` for the paper's matrix.
from snakemake.utils import min_version

min_version("9.27")


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/backbones.smk"
include: "workflow/rules/tune.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/score.smk"
include: "workflow/rules/report.smk"


# Every table, the significance tests and what they are made from.
rule all:
    default_target: True
    input:
        rules.scores.output,
        all_reports(),
