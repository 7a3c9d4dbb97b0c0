# Data sets: made ready under resources/<dataset>/, the manifest written last.


rule dataset:
    output:
        "resources/{dataset}/manifest.json",
    log:
        f"results/{NAME}/logs/dataset/{{dataset}}.log",
    params:
        listing=lambda wildcards: listing(wildcards.dataset),
    threads: PROFILE.compute.threads
    message:
        "Preparing dataset {wildcards.dataset}"
    shell:
        "adaptsr data prepare {wildcards.dataset} {PROFILE_ARGUMENTS} 2>&1 | tee {log} >&2"
