# Scoring, apart from training: a new metric must not retrain. One job a backbone, so that imports, decoding and the HR
# features are paid once; the scores of a run are kept beside it and only made where they are missing or stale.


rule metric_weights:
    output:
        f"results/{NAME}/metric_weights.json",
    log:
        f"results/{NAME}/logs/metric_weights.log",
    params:
        metrics=lambda wildcards: PROFILE.scoring.model_dump(mode="json"),
    localrule: True
    message:
        "Fetching the network weights that metrics need"
    shell:
        "adaptsr fetch-metric-weights {PROFILE_ARGUMENTS} --out {output} 2>&1 | tee {log} >&2"


rule score:
    input:
        runs=trained,
        data=manifests(MATRIX.tests),
        backbone=lambda wildcards: weights(wildcards.backbone),
        metrics=rules.metric_weights.output,
    output:
        f"results/{NAME}/scores/{{backbone}}.parquet",
    log:
        f"results/{NAME}/logs/score/{{backbone}}.log",
    params:
        key=scoring_key,
    threads: PROFILE.compute.threads
    resources:
        **ON_GPU,
    message:
        "Scoring all runs on {wildcards.backbone}"
    shell:
        "adaptsr evaluate {PROFILE_ARGUMENTS} --backbone {wildcards.backbone} --out {output} 2>&1 | tee {log} >&2"


# Restored images of other models, scored as they are.
rule score_outputs:
    input:
        data=manifests(MATRIX.tests),
        models=lambda wildcards: checkpoints(PROFILE.outputs.values()),
        metrics=rules.metric_weights.output,
    output:
        f"results/{NAME}/scores/{OUTPUTS}.parquet",
    log:
        f"results/{NAME}/logs/score/{OUTPUTS}.log",
    params:
        key=outputs_key,
    threads: PROFILE.compute.threads
    resources:
        **ON_GPU,
    message:
        "Scoring the outputs of other models"
    shell:
        "adaptsr evaluate {PROFILE_ARGUMENTS} --outputs --out {output} 2>&1 | tee {log} >&2"


rule scores:
    input:
        scored(),
    output:
        f"results/{NAME}/scores.parquet",
    log:
        f"results/{NAME}/logs/scores.log",
    localrule: True
    message:
        "Gathering the scores of all backbones"
    shell:
        "adaptsr gather {input} --out {output} 2>&1 | tee {log} >&2"
