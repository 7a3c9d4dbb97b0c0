# Score runs. A job scores one block of rows of one backbone on one test dataset, so that several GPUs can work on a backbone,
# and imports, decoding and HR features are paid once for the block. The scores of a run lie in its own folder; a job makes
# only those that are missing or stale.


# Each call of Snakemake tries again for what is missing, but only if the files are here by now or their host has them.
rule metric_weights:
    output:
        f"results/{NAME}/metric_weights.json",
    log:
        f"results/{NAME}/logs/metric_weights.log",
    localrule: True
    params:
        metrics=lambda wildcards: metric_keys() + loss_networks() + [ATTEMPT] * (ATTEMPT > 0),
        attempt=lambda wildcards, output: ATTEMPT,  # Snakemake does not compare what is derived from outputs
    message:
        "Fetching the network weights that metrics and losses need"
    shell:
        "adaptsr fetch-metric-weights {PROFILE_ARGUMENTS} --attempt {params.attempt} --out {output} 2>&1 | tee {log} >&2"


rule score:
    input:
        runs=trained,
        data=lambda wildcards: manifests([wildcards.dataset]),
        weights=lambda wildcards: weights(wildcards.backbone),
        metrics=rules.metric_weights.output,
    output:
        f"results/{NAME}/scores/{{backbone}}/{{dataset}}/{{block}}.json",
    log:
        f"results/{NAME}/logs/score/{{backbone}}/{{dataset}}/{{block}}.log",
    threads: PROFILE.compute.threads
    resources:
        **requested(scoring_minutes, job_requests.SCORING_MB),
    params:
        key=scoring_key,
        subject=lambda wildcards: "--external" if wildcards.backbone == EXTERNAL else f"--backbone {wildcards.backbone}",
        rows=block_rows,
        part=PART_SEEDS,
    message:
        "Scoring on {wildcards.dataset}: {wildcards.backbone}, rows from {wildcards.block}"
    shell:
        "adaptsr score-runs {PROFILE_ARGUMENTS} {params.part} {params.subject} --dataset {wildcards.dataset} --rows {params.rows} "
        "--out {output} 2>&1 | tee {log} >&2"


rule costs:
    input:
        [path for backbone in MATRIX.backbones for path in weights(backbone or EXTERNAL)],
    output:
        f"results/{NAME}/costs.json",
    log:
        f"results/{NAME}/logs/costs.log",
    threads: PROFILE.compute.threads
    resources:
        **requested(memory=job_requests.SCORING_MB),
    params:
        key=lambda wildcards: costs_key(),
    message:
        "Measuring what restoring an image costs"
    shell:
        "adaptsr measure-costs {PROFILE_ARGUMENTS} --out {output} 2>&1 | tee {log} >&2"


rule scores:
    input:
        scored(),
    output:
        f"results/{NAME}/scores.parquet",
    log:
        f"results/{NAME}/logs/scores.log",
    localrule: True
    params:
        columns=columns,
        part=PART_ARGUMENTS,
    message:
        "Gathering the scores of all runs"
    shell:
        "adaptsr gather {PROFILE_ARGUMENTS} {params.part} --out {output} 2>&1 | tee {log} >&2"
