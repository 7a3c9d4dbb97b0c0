"""Find the network among what a checkpoint holds: in which container, behind which prefix, averaged or not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from adaptsr.backbones.architectures.family import StateDict
from adaptsr.errors import UserError

Fits = Callable[[StateDict], bool]

DEEPEST = 4
"""How many containers inside each other are searched."""

_WRAPPERS = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\.")
"""Name parts that torch.compile and distributed training add anywhere in a key."""
_PREFIXES = re.compile(r"module|(.*_)?(model|net|network|generator|backbone|module|student|sr|g)(_.*)?|net_?g.*", re.I)
"""Names under which a network's keys may lie below the first level of prefixes."""
_AVERAGED = re.compile(r"(^|[^a-zA-Z])ema($|[^a-zA-Z])|EMA|[aA]verage|(^|_)swa(_|$)|shadow")
_OF_OTHERS = re.compile(r"disc|(^|_)(net_?)?d(_|$)|critic|optim|loss", re.I)
_COUNTER = "n_averaged"
"""Key that torch's `AveragedModel` adds to its averaged weights."""


@dataclass(frozen=True)
class Network:
    """A candidate: tensors under the network's own key names, and where in the file they are."""

    state: dict[str, torch.Tensor]
    containers: tuple[str, ...]
    prefix: str
    counted: bool

    @property
    def averaged(self) -> bool:
        return self.counted or any(_AVERAGED.search(name) for name in (*self.containers, self.prefix))

    @property
    def place(self) -> str:
        """How to name it in a message."""
        return (
            repr(".".join((*self.containers, self.prefix)).rstrip("."))
            if self.containers or self.prefix
            else "the file itself"
        )


def find_network(content: Any, fits: Fits, where: str) -> tuple[Network, list[str]]:
    """Return the one network of a checkpoint that fits, the averaged one if there are both, and notes on the choice.

    Without one that fits, returns the candidate with the most tensors, for the caller to say what does not fit. Raises
    `UserError` if the file has no tensors, if several networks fit, or if it has averaged weights in an unknown form.
    """
    tables = list(_tables(content, ()))
    if not tables:
        raise UserError(
            f"{where}: no state dict found; expected a mapping of names to tensors, bare or under 'params' or 'params_ema'"
        )
    fitting = _different([found for table in tables for found in _fitting(table, fits)])
    averaged = [network for network in fitting if network.averaged]
    chosen = averaged or fitting or [max(tables, key=lambda table: len(table.state))]
    if len(chosen) > 1:
        places = ", ".join(network.place for network in chosen)
        raise UserError(
            f"{where}: holds several networks that fit: {places}; save the one to adapt as a file of its own"
        )
    network = chosen[0]
    others = _others(content, network)
    hidden = [name for name, values in others.items() if any(_holds_averages(name, value) for value in values)]
    if fitting and hidden and not network.averaged:
        raise UserError(
            f"{where}: holds averaged (EMA) weights under {hidden[0]!r} in an unknown form; save them as a state dict of their own"
        )
    return network, _notes(network, [other.place for other in fitting if not other.averaged], list(others))


def _notes(network: Network, raw: list[str], others: list[str]) -> list[str]:
    """Say what was taken and left, unless the file holds one network in a plain container."""
    if not (network.averaged or network.prefix or others):
        return []
    kind = "averaged (EMA) weights" if network.averaged else "weights"
    note = f"takes the {kind} in {network.place}"
    if network.averaged and raw:
        note += f", not the raw ones in {', '.join(raw)}"
    if network.prefix:
        note += f", without the prefix {network.prefix!r} of their keys"
    left = [repr(name) for name in others if name != _COUNTER and repr(name) not in raw]
    if left:
        note += f"; leaves out {', '.join(left[:8])}{', ...' if len(left) > 8 else ''}"
    return [note]


def _tables(content: Any, containers: tuple[str, ...]) -> Iterator[Network]:
    """Yield every mapping of names to tensors, those inside others too."""
    if not isinstance(content, Mapping) or len(containers) > DEEPEST:
        return
    tensors = {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
    if tensors and all(isinstance(name, str) for name in tensors):
        counted = tensors.pop(_COUNTER, None) is not None
        yield Network({_WRAPPERS.sub("", name): value for name, value in tensors.items()}, containers, "", counted)
    for name, value in content.items():
        yield from _tables(value, (*containers, str(name)))


def _fitting(network: Network, fits: Fits, whole: bool = True) -> Iterator[Network]:
    """Yield the networks in a table that fit: as it is, or below a prefix; `whole` if the table is all of its container."""
    if fits(network.state):
        yield network
        return
    groups: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in network.state.items():
        first, dot, rest = name.partition(".")
        if dot:
            groups.setdefault(first, {})[rest] = value
    for first, state in groups.items():
        shared = len(state) == len(network.state)
        if whole or shared or _PREFIXES.fullmatch(first):
            below = Network(state, network.containers, f"{network.prefix}{first}.", network.counted)
            yield from _fitting(below, fits, whole and shared)


def _different(networks: list[Network]) -> list[Network]:
    """Return the networks without those that equal an earlier one of the same kind, averaged or not."""
    kept: list[Network] = []
    for network in networks:
        if not any(network.averaged == other.averaged and _equal(network.state, other.state) for other in kept):
            kept.append(network)
    return kept


def _equal(one: StateDict, other: StateDict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _others(content: Any, network: Network) -> dict[str, list[Any]]:
    """Return what the file holds beside a network: other entries of its containers, and keys with other first parts."""
    others: dict[str, list[Any]] = {}
    for container in network.containers:
        others |= {str(name): [value] for name, value in content.items() if str(name) != container}
        content = next(value for name, value in content.items() if str(name) == container)
    for name, value in content.items():
        key = _WRAPPERS.sub("", str(name))
        if not key.startswith(network.prefix) or key.removeprefix(network.prefix) not in network.state:
            others.setdefault(key.removeprefix(network.prefix).partition(".")[0], []).append(value)
    return others


def _holds_averages(name: str, content: Any, named: bool = False, depth: int = DEEPEST) -> bool:
    """Tell whether tensors lie under a name that says they are averages, unless it names another network."""
    if _OF_OTHERS.search(name) or depth < 0:
        return False
    named = named or bool(_AVERAGED.search(name))
    if isinstance(content, Mapping):
        return any(_holds_averages(str(inner), value, named, depth - 1) for inner, value in content.items())
    if isinstance(content, list | tuple):
        return any(_holds_averages("", value, named, depth - 1) for value in content)
    return named and isinstance(content, torch.Tensor)
