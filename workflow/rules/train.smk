# Training. A job ensures the runs of one variant on one backbone for some seeds; each run is written atomically outside the
# declared output, which Snakemake deletes before a rerun, and a run that is there with the right key is not done again.


rule train:
    input:
        training_inputs,
    output:
        f"results/{NAME}/{{backbone}}/{{baseline}}/{{variant}}/runs.{{seeds}}.json",
    log:
        f"results/{NAME}/logs/train/{{backbone}}/{{baseline}}/{{variant}}/{{seeds}}.log",
    params:
        key=variant_key,
        seeds=lambda wildcards: wildcards.seeds.replace("-", " "),
    threads: PROFILE.compute.threads
    resources:
        **ON_GPU,
    retries: 1
    message:
        "Training {wildcards.baseline}/{wildcards.variant} on {wildcards.backbone}, seeds {params.seeds}"
    shell:
        "adaptsr train {PROFILE_ARGUMENTS} --backbone {wildcards.backbone} "
        "--variant {wildcards.baseline}/{wildcards.variant} --seeds {params.seeds} --out {output} 2>&1 | tee {log} >&2"
