# Unbuilt: tests/test_supply.py checks this file against the tree and the Makefile, on machines without Docker.
#   docker build -t adaptsr .
#   docker run --rm -v "$PWD/results:/adaptsr/results" -v "$PWD/reports:/adaptsr/reports" adaptsr
# On a GPU, add `--gpus all` and a command: adaptsr snakemake --cores 8 all --configfile config/paper.yaml
FROM python:3.12-slim-bookworm

RUN apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*

WORKDIR /adaptsr
COPY Makefile pyproject.toml requirements.lock README.md LICENSE Snakefile ./
COPY adaptsr adaptsr
COPY baselines baselines
COPY config config
COPY papers papers
COPY profiles profiles
COPY resources/demo resources/demo
COPY workflow workflow
RUN PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 make env

ENV PATH=/adaptsr/.venv/bin:$PATH
CMD ["make", "all"]
