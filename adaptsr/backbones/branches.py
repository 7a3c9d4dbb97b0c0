"""Find the layers in which residual branches end, in the graph that autograd records of a forward pass."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from torch import nn

from adaptsr.backbones.probing import restored_pair, trainable_copy
from adaptsr.backbones.sites import Site

PASSED = re.compile(r"(Unsafe)?View|ReshapeAlias|Permute|Transpose|Clone|Slice|Squeeze|Unsqueeze|Roll|ToCopy|Mul|Div")
"""Operations through which a branch's output may pass before it is added: they move or scale values."""

Node = Any
"""A node of autograd's graph; a node points to those that made its operands."""


def branch_ends(model: nn.Module, sites: Sequence[Site]) -> list[str]:
    """Return the sites whose output, moved or scaled at most, is added to what their branch started from."""
    probed = trainable_copy(model)
    owners = {
        parameter: site.name
        for site in sites
        for parameter in probed.get_submodule(site.name).parameters(recurse=False)
    }
    ends = set()
    for node in _reachable([restored_pair(probed).grad_fn]):
        if _operation(node) == "Add":
            first, second = (operand for operand, _ in node.next_functions)
            for branch, other in ((first, second), (second, first)):
                end = _passed(branch)
                owner = _owner(end, owners)
                if owner and not _stream(other).isdisjoint(_reachable(_operands(end))):
                    ends.add(owner)
    return [site.name for site in sites if site.name in ends]


def _operation(node: Node) -> str:
    return re.sub(r"Backward\d*$", "", type(node).__name__)


def _operands(node: Node) -> list[Node]:
    return [operand for operand, _ in node.next_functions if operand is not None] if node is not None else []


def _reachable(nodes: Sequence[Node]) -> set[Node]:
    found: set[Node] = set()
    waiting = [node for node in nodes if node is not None]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += _operands(node)
    return found


def _passed(node: Node) -> Node:
    """Go back through operations with one operand that depends on the image."""
    while node is not None and PASSED.fullmatch(_operation(node)):
        inner = [operand for operand in _operands(node) if not hasattr(operand, "variable")]
        if len(inner) != 1:
            return node
        node = inner[0]
    return node


def _stream(node: Node) -> set[Node]:
    """Return what is added up in a node, and what was added up in its parts."""
    found: set[Node] = set()
    waiting = [node]
    while waiting:
        node = _passed(waiting.pop())
        if node is not None and node not in found:
            found.add(node)
            waiting += _operands(node) if _operation(node) == "Add" else []
    return found


def _owner(node: Node, owners: dict[Any, str]) -> str | None:
    """Return the site whose layer a node is, None for other operations."""
    if _operation(node) not in ("Convolution", "Addmm", "Mm"):
        return None
    for operand in _operands(node):
        leaf = next(iter(_operands(operand)), operand) if _operation(operand) == "T" else operand
        if (owner := owners.get(getattr(leaf, "variable", None))) is not None:
            return owner
    return None
