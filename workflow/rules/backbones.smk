# Fetch or train the weights of backbones.


rule weights:
    output:
        "resources/weights/{file}",
    log:
        f"results/{NAME}/logs/weights/{{file}}.log",
    localrule: True
    params:
        source=lambda wildcards: weights_source(wildcards.file),
    message:
        "Fetching the weights {params.source[name]}"
    shell:
        "adaptsr data fetch {params.source[name]} 2>&1 | tee {log} >&2"


# The demo's own backbones. Their weights are tracked files, so `all` does not make them; `snakemake demo_weights` does.
rule pretrained:
    input:
        manifests([PROFILE.pretraining.dataset]) if PROFILE.pretraining else [],
    output:
        weights=f"results/{NAME}/pretrained/{{backbone}}.safetensors",
        record=f"results/{NAME}/pretrained/{{backbone}}.json",
    log:
        f"results/{NAME}/logs/pretrained/{{backbone}}.log",
    threads: PROFILE.compute.threads
    resources:
        **requested(memory=job_requests.training_mb(PROFILE, PRETRAINING)),
    message:
        "Pretraining {wildcards.backbone} on bicubic pairs"
    shell:
        "adaptsr pretrain {PROFILE_ARGUMENTS} --backbone {wildcards.backbone} --out {output.weights} 2>&1 | tee {log} >&2"


rule demo_weights:
    input:
        expand(
            f"results/{NAME}/pretrained/{{backbone}}.{{kind}}",
            backbone=PROFILE.backbones,
            kind=["safetensors", "json"],
        ),
    log:
        f"results/{NAME}/logs/demo_weights.log",
    localrule: True
    message:
        "Installing the pretrained weights under resources/demo/"
    shell:
        "cp {input} resources/demo/ 2>&1 | tee {log} >&2"


# Check a backbone with every variant before anything trains: one step of each, merged and compared. A variant that is added
# later is checked by its own training job, so that the others stay up to date.
rule accepted:
    input:
        manifests(split.dataset for split in PROFILE.data.followed),
        lambda wildcards: weights(wildcards.backbone),
    output:
        f"results/{NAME}/accepted/{{backbone}}.json",
    log:
        f"results/{NAME}/logs/accepted/{{backbone}}.log",
    threads: PROFILE.compute.threads
    resources:
        **requested(),
    message:
        "Checking the backbone {wildcards.backbone} with every variant"
    shell:
        "adaptsr check-backbone {PROFILE_ARGUMENTS} {wildcards.backbone} --out {output} 2>&1 | tee {log} >&2"
