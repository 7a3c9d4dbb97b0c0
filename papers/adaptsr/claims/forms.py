"""Check the form of low-rank deltas that the paper describes: factorization, ranks, shapes, biases."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from adaptsr.adaptation.lora import cost_per_rank

from ..counting import Counts
from ..printed import parse_set, parse_shape
from ..rules import REPEATED, Outcome, equal, literal, named, origin, same
from ..sources import Reader
from .common import FORMS, NUMBERS, SWINIR, UNIFORM, Check, TextCheck

TABLE4 = {"Convs, LoRA": "conv", "MLPs, LoRA": "mlp", "MSAs, LoRA": "attention"}


def _as_the_text_says(row: str, baseline: str = UNIFORM) -> Check:
    """Judge the count of the form that a sentence describes; the form behind the printed number explains a mismatch."""

    def judge(counts: Counts, reader: Reader, id: str) -> Outcome:
        readings = [
            literal(row, counts.trainable(SWINIR, row)),
            origin(baseline, counts.trainable(SWINIR, baseline)),
        ]
        return equal(reader.claim(id), readings)

    return judge


def _all_as_written(counts: Counts, reader: Reader, id: str) -> Outcome:
    """Judge the three sentences above together."""
    written = {"factorization": "1x1-kxk", "qkv": "separate"}
    readings = [
        literal("lora/r8 with all three", counts.trainable(SWINIR, UNIFORM, {**written, "biases": False})),
        named("lora/r8 with these two and biases", counts.trainable(SWINIR, UNIFORM, written)),
        origin(UNIFORM, counts.trainable(SWINIR, UNIFORM)),
    ]
    return equal(reader.claim(id), readings)


def _table4_rank(counts: Counts, reader: Reader, id: str) -> Outcome:
    """Find the ranks that give all three LoRA counts of Table 4, with or without trained biases."""
    sites = [site for site in counts.sites(SWINIR) if not site.upsampling and not site.grouped]
    printed = {kind: reader.printed("table4", label, "parameters") for label, kind in TABLE4.items()}
    costs = {kind: sum(cost_per_rank(site, "loralib") for site in sites if site.kind == kind) for kind in printed}
    biases = {kind: sum(site.out_features for site in sites if site.kind == kind and site.bias) for kind in printed}
    fitting = [
        rank
        for rank in range(1, 65)
        if any(
            all(
                number.matches(Fraction(rank * costs[kind] + trained * biases[kind]))
                for kind, number in printed.items()
            )
            for trained in (0, 1)
        )
    ]
    claimed = parse_set(reader.claim_text(id), reader.where(id))
    return same("ranks up to 64 that give all three counts", claimed, fitting, ", ")


def _mlp_shape(counts: Counts, reader: Reader, id: str) -> Outcome:
    first = next(site for site in counts.sites(SWINIR) if site.role == "fc1")
    sizes = {"d": first.in_features, "d_mlp": first.out_features}
    claimed = parse_shape(reader.claim_text(id), sizes, reader.where(id))
    return same(f"shape of {first.name} of {SWINIR}", claimed, first.shape, " x ")


def _attention_shape(counts: Counts, reader: Reader, id: str) -> Outcome:
    """Judge the shape of B A, computed from the shapes that the text gives its factors."""
    width = next(site for site in counts.sites(SWINIR) if site.role == "qkv").in_features
    heads = counts.matrix.profile.backbones[SWINIR].options["num_heads"][0]
    sizes = {"d": width, "d_k": width // heads, "r": 8}
    b = parse_shape(reader.claim_text("attention-b-shape"), sizes, reader.where("attention-b-shape"))
    a = parse_shape(reader.claim_text("attention-a-shape"), sizes, reader.where("attention-a-shape"))
    claimed = parse_shape(reader.claim_text(id), sizes, reader.where(id))
    return same(f"shape of B A for d = {width} and {heads} heads", claimed, (b[0], a[1]), " x ")


def _ranks(counts: Counts, reader: Reader, id: str) -> Outcome:
    labels = [line["label"] for line in reader.lines("table2") if line["label"].startswith("r = ")]
    claimed = parse_set(reader.claim_text(id), reader.where(id))
    return same("ranks with a row in Table 2", claimed, [int(label.removeprefix("r = ")) for label in labels], ", ")


CHECKS: Mapping[str, TextCheck] = {
    "eq2-factorization": TextCheck(
        FORMS, "trainable parameters with the factorization of Eq. (2)", _as_the_text_says("lora/r8-1x1-kxk")
    ),
    "only-a-and-b": TextCheck(FORMS, "trainable parameters without biases", _as_the_text_says("lora/r8-nobias")),
    "separate-qkv": TextCheck(
        FORMS,
        "trainable parameters with factors of their own for q, k and v",
        _as_the_text_says("lora/r8-separate-qkv"),
    ),
    "all-as-written": TextCheck(
        FORMS,
        "trainable parameters with Eq. (2)'s factorization, factors of their own for q, k and v, no biases",
        _all_as_written,
    ),
    "table4-rank": TextCheck(
        FORMS, "the ranks, with or without biases, that give Table 4's three LoRA counts", _table4_rank
    ),
    "mlp-shape": TextCheck(FORMS, "shape of the MLP's first layer", _mlp_shape),
    "attention-shape": TextCheck(FORMS, "shape of B A from the shapes the text gives B and A", _attention_shape),
    "ranks-swept": TextCheck(NUMBERS, "the uniform ranks that Table 2 has", _ranks),
    "ranks-caption": TextCheck(NUMBERS, "the uniform ranks that Table 2 has", _ranks, REPEATED),
}
