"""Hugging Face PEFT as a bridge: any of its methods that supports a backbone's layers, by its name and options.

Needs the package peft (`make extras` installs it; github.com/huggingface/peft cites the paper of every method). A method
replaces layers by its own, so PEFT's own merge merges them. A layer stays unchanged if the method refuses it or merges
it to a different result; the plan lists it under `left_out` with the reason.
"""

from __future__ import annotations

import copy
import dataclasses
import os
import random
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from adaptsr import randomness
from adaptsr.adaptation.allocation import Calibration
from adaptsr.adaptation.reparametrization import Plan, freeze, trainable_count, trainable_parameters
from adaptsr.backbones.sites import Site, select
from adaptsr.errors import UserError, one_line

TITLE = "{method} (PEFT)"
TRAINS = "what the PEFT method adds to the layers that it takes"
OPTIONS: dict[str, Any] = {
    "method": "LORA",  # a name of PEFT's registry: LORA, LOHA, LOKR, OFT, BOFT, HRA, VERA, RANDLORA, ...
    "config": {},  # options of the method's configuration class, except the layers to adapt
    "upsampling": False,  # adapt layers that feed a pixel shuffle
    "kinds": ["conv", "attention", "mlp"],
}
VARIANTS: dict[str, dict[str, Any]] = {
    "lora": {"title": "LoRA, r = 8 (PEFT)"},
    "rslora": {"config": {"use_rslora": True}, "title": "rsLoRA, r = 8 (PEFT)"},
    "dora": {"config": {"use_dora": True}, "title": "DoRA, r = 8 (PEFT)"},
    "pissa": {"config": {"init_lora_weights": "pissa"}, "title": "PiSSA, r = 8 (PEFT)"},
    "loha": {"method": "LOHA", "title": "LoHa, r = 8 (PEFT)"},
    "lokr": {"method": "LOKR", "title": "LoKr, r = 8 (PEFT)"},
    "oft": {"method": "OFT", "title": "OFT (PEFT)"},
    "boft": {"method": "BOFT", "title": "BOFT (PEFT)"},
    "hra": {"method": "HRA", "title": "HRA, r = 8 (PEFT)"},
    "hira": {"method": "HIRA", "config": {"r": 8}, "title": "HiRA, r = 8 (PEFT)"},
    "vera": {"method": "VERA", "title": "VeRA, r = 256 (PEFT)"},
    "randlora": {"method": "RANDLORA", "title": "RandLoRA, r = 32 (PEFT)"},
    # The paper and PEFT start at random coefficients; `init_weights` starts them at zero, so at the backbone.
    "fourierft": {
        "method": "FOURIERFT",
        "config": {"n_frequency": 100, "init_weights": True},
        "title": "FourierFT (PEFT)",
    },
    "waveft": {"method": "WAVEFT", "config": {"n_frequency": 100}, "title": "WaveFT (PEFT)"},
    # PEFT gives all layers of one shape the same mask; `shira.py` draws one for each.
    "shira": {"method": "SHIRA", "config": {"r": 4}, "title": "SHiRA, r = 4 (PEFT)"},
    "delora": {"method": "DELORA", "title": "DeLoRA, r = 8 (PEFT)"},
    "gralora": {"method": "GRALORA", "config": {"r": 8}, "title": "GraLoRA, r = 8 (PEFT)"},
    "miss": {"method": "MISS", "config": {"r": 4}, "title": "MiSS, r = 4 (PEFT)"},
    "road": {"method": "ROAD", "config": {"group_size": 4}, "title": "RoAd (PEFT)"},
    "ia3": {"method": "IA3", "config": {"feedforward_modules": []}, "title": "(IA)3 on outputs (PEFT)"},
}
ROWS: list[str] = []
PROTOCOL = 1

ADAPTER = "default"
GROUPED = "a grouped convolution, which stays frozen in every baseline"
MERGE_TOLERANCE = 1e-3


def plan(
    backbone: nn.Module, sites: Sequence[Site], options: dict[str, Any], calibration: Calibration, seed: int
) -> Plan:
    method, settings = str(options["method"]).upper(), dict(options["config"])
    _make_config(method, settings, ["layer"], seed)
    chosen = select(sites, options["kinds"], options["upsampling"], grouped=True)
    left_out = _left_out(backbone, chosen, method, settings, seed)
    taken = [site.name for site in chosen if site.name not in left_out]
    if chosen and not taken:
        first = chosen[0].name
        raise UserError(f"peft_library: {method} takes no layer of this backbone; {first}: {left_out[first]}")
    made = Plan(
        {
            "method": method,
            "config": settings,
            "sites": taken,
            "left_out": left_out,
            "peft_version": _peft().__version__,
            "seed": seed,
        }
    )
    made.settings["trainable"] = _count(backbone, made)
    return made


def attach(model: nn.Module, plan: Plan) -> None:
    settings = plan.settings
    if settings["sites"]:
        _inject(model, settings["method"], settings["config"], settings["sites"], settings["seed"])


def merge(model: nn.Module, plan: Plan) -> nn.Module:
    """Return the model with every PEFT layer replaced by its original layer, into which PEFT merged it."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in list(model.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
            model.set_submodule(name, layer.get_base_layer())
    return model


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise UserError("peft_library: the package peft is missing; install it with `make extras`") from None
    return peft


def _make_config(method: str, settings: Mapping[str, Any], sites: Sequence[str], seed: int) -> Any:
    """Return the method's configuration for these sites.

    Derives the library's own seeds from ours: by default they are equal in every run, even SHiRA's None. Raises
    `UserError` for an unknown method or option.
    """
    peft = _peft()
    known = {kind.value: config for kind, config in peft.PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    tuners = {kind.value: tuner for kind, tuner in peft.PEFT_TYPE_TO_TUNER_MAPPING.items()}
    if method not in known:
        raise UserError(f"peft_library: method: peft has no {method!r}; there are {', '.join(sorted(known))}")
    fields = {field.name: field.default for field in dataclasses.fields(known[method])}
    if method not in tuners or "target_modules" not in fields:
        raise UserError(f"peft_library: method: {method} does not adapt a model's layers; choose another method")
    for name in settings:
        if name not in fields or name == "target_modules":
            raise UserError(f"peft_library: config: {method} has no option {name!r} here; it takes {', '.join(fields)}")
    seeds = {
        name: randomness.key_to_seed(seed, "peft", name) % 2**31
        for name, default in fields.items()
        if name.endswith(("seed", "prng_key")) and (default is None or isinstance(default, int))
    }
    pattern = "|".join(re.escape(name) for name in sites)
    try:
        config = known[method](**{**seeds, **settings, "target_modules": pattern})
    except (TypeError, ValueError) as error:
        raise UserError(f"peft_library: config: {method}: {one_line(error)}") from None
    if hasattr(tuners[method], "update_and_allocate") and getattr(config, "use_asa", True):
        raise UserError(
            f"peft_library: method: {method} re-allocates during training, which the training loop does not support"
        )
    return config


def _inject(model: nn.Module, method: str, settings: Mapping[str, Any], sites: Sequence[str], seed: int) -> None:
    """Let PEFT replace these layers; its initial values come from a stream keyed by the seed."""
    config = _make_config(method, settings, sites, seed)
    tuner = _peft().PEFT_TYPE_TO_TUNER_MAPPING[config.peft_type]
    with _global_chance(seed, "init"), _environment_kept(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tuner(model, config, ADAPTER)
    del model.peft_config


def _left_out(
    backbone: nn.Module, sites: Sequence[Site], method: str, settings: Mapping[str, Any], seed: int
) -> dict[str, str]:
    """Return the sites that the method cannot take, with the reason. Tries each kind of layer once."""
    tried: dict[str, str | None] = {}
    reasons = {}
    for site in sites:
        layer = backbone.get_submodule(site.name)
        if str(layer) not in tried:
            tried[str(layer)] = GROUPED if site.grouped else _reason_against(layer, method, settings, seed)
        reason = tried[str(layer)]
        if reason is not None:
            reasons[site.name] = reason
    return reasons


def _reason_against(layer: nn.Module, method: str, settings: Mapping[str, Any], seed: int) -> str | None:
    """Return why the method cannot adapt this layer, tried on a copy with random adapter weights, or None."""
    alone = nn.ModuleDict({"layer": copy.deepcopy(layer)})
    freeze(alone)
    generator = randomness.generator("peft", "probe")
    shape = (2, layer.in_features) if isinstance(layer, nn.Linear) else (1, layer.in_channels, 12, 12)
    assert isinstance(layer.weight, torch.Tensor)
    x = torch.randn(shape, generator=generator).to(layer.weight)  # type: ignore[arg-type]
    try:
        _inject(alone, method, settings, ["layer"], seed)
        for parameter in trainable_parameters(alone).values():
            parameter.data.add_(0.01 * torch.randn(parameter.shape, generator=generator).to(parameter))
        if not trainable_parameters(alone):
            return f"{method} leaves nothing to train in this kind of layer"
        with torch.no_grad(), _global_chance(seed, "probe"):
            expected = alone.eval()["layer"](x)
            found = merge(alone, Plan({}))["layer"](x)  # type: ignore[index]
    except Exception as error:
        return one_line(error)
    if not (found - expected).abs().max() <= MERGE_TOLERANCE * expected.abs().max():
        return f"merged by {method} this kind of layer computes something else than before"
    return None


def _count(backbone: nn.Module, plan: Plan) -> int:
    model = copy.deepcopy(backbone)
    try:
        attach(model, plan)
    except Exception as error:
        raise UserError(f"peft_library: {plan.settings['method']} cannot be attached: {one_line(error)}") from None
    return trainable_count(model)


@contextmanager
def _global_chance(*key: randomness.Key) -> Iterator[None]:
    """Seed the global generators from a key inside the block, then restore them: the library uses no others."""
    python, numpys = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        randomness.seed_globals("peft", *key)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpys)


@contextmanager
def _environment_kept() -> Iterator[None]:
    """Restore the environment after the block: BOFT leaves CC and CXX at gcc, which does not link what torch compiles."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
