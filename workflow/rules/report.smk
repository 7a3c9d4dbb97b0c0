# Render reports: one rule for each table of the profile, named like the table; `significance`; `audit` of the paper; and
# `report`, the page with all of them, figures and pictures.

for name in tested_reports():

    rule:
        name:
            name
        input:
            rules.scores.output,
        output:
            report(
                report_files(name)[0],
                caption="../report/significance.rst" if name == "significance" else "../report/table.rst",
                category="Tables",
                labels={"report": name},
            ),
            report_files(name)[1:],
        log:
            f"results/{NAME}/logs/report/{name}.log",
        localrule: True
        params:
            name=name,
            key=report_key,
            part=PART_ARGUMENTS,
        message:
            "Rendering {params.name}"
        shell:
            "adaptsr report {params.name} {PROFILE_ARGUMENTS} {params.part} 2>&1 | tee {log} >&2"


if audit_report():

    rule audit:
        output:
            report(audit_report()[0], caption="../report/audit.rst", category="Tables", labels={"report": "audit"}),
        log:
            f"results/{NAME}/logs/report/audit.log",
        localrule: True
        message:
            "Checking the paper's numbers by arithmetic"
        shell:
            "adaptsr audit-page {PROFILE_ARGUMENTS} 2>&1 | tee {log} >&2"


# How stable importance scores are needs no run: backbones, training data and the profile's `stability`.
if PROFILE.stability:

    rule agreement:
        input:
            lambda wildcards: training_files(wildcards.backbone) + loss_weights(),
        output:
            f"results/{NAME}/stability/{{backbone}}.json",
        log:
            f"results/{NAME}/logs/stability/{{backbone}}.log",
        threads: PROFILE.compute.threads
        resources:
            **requested(),
        params:
            key=lambda wildcards: stability_key(),
        message:
            "Measuring how stable importance scores are on {wildcards.backbone}"
        shell:
            "adaptsr stability {PROFILE_ARGUMENTS} --backbone {wildcards.backbone} --out {output} 2>&1 | tee {log} >&2"

    rule stability:
        input:
            expand(f"results/{NAME}/stability/{{backbone}}.json", backbone=PROFILE.backbones),
        output:
            report(
                stability_report()[0],
                caption="../report/stability.rst",
                category="Tables",
                labels={"report": "stability"},
            ),
            stability_report()[1:],
        log:
            f"results/{NAME}/logs/report/stability.log",
        localrule: True
        params:
            key=report_key,
            part=PART_ARGUMENTS,
        message:
            "Rendering stability"
        shell:
            "adaptsr report stability {PROFILE_ARGUMENTS} {params.part} 2>&1 | tee {log} >&2"


rule report:
    input:
        scores=rules.scores.output,
        stability=stability_report(),
        tables=[path for name in tested_reports() for path in report_files(name)],
        audit=audit_report(),
        costs=rules.costs.output if PROFILE.report.cost else [],
    output:
        page=f"reports/{NAME}/index.html",
        seeds=f"reports/{NAME}/seeds.csv",
        figures=report(
            directory(f"reports/{NAME}/figures"),
            patterns=["{figure,(?:(?!-narrow).)+}.svg"],
            caption="../report/figure.rst",
            category="Figures",
        ),
        pictures=directory(f"reports/{NAME}/pictures"),
        records=directory(f"reports/{NAME}/records"),
        archive=report(f"reports/{NAME}.zip", caption="../report/archive.rst", category="Everything"),
    log:
        f"results/{NAME}/logs/report/report.log",
    localrule: True
    params:
        key=report_key,
        part=PART_ARGUMENTS,
    message:
        "Rendering the report: {output.page}"
    shell:
        "adaptsr report {PROFILE_ARGUMENTS} {params.part} 2>&1 | tee {log} >&2"
