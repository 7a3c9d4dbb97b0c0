# Train runs. A job ensures that the runs of one variant on one backbone exist for some seeds. Runs lie outside the declared
# output, which Snakemake deletes before it repeats a job; a finished run with the right key is not trained again.


rule train:
    input:
        training_inputs,
        rules.accepted.output,
    output:
        f"results/{NAME}/{{backbone}}/{{baseline}}/{{variant}}/runs.{{seeds}}.json",
    log:
        f"results/{NAME}/logs/train/{{backbone}}/{{baseline}}/{{variant}}/{{seeds}}.log",
    threads: PROFILE.compute.threads
    resources:
        **requested(training_minutes),
    params:
        key=variant_key,
        seeds=lambda wildcards: wildcards.seeds.replace("-", " "),
    message:
        "Training {wildcards.baseline}/{wildcards.variant} on {wildcards.backbone}, seeds {params.seeds}"
    shell:
        "adaptsr train {PROFILE_ARGUMENTS} --backbone {wildcards.backbone} "
        "--variant {wildcards.baseline}/{wildcards.variant} --seeds {params.seeds} --out {output} 2>&1 | tee {log} >&2"
