"""Select the nodes of a graph that are needed, and order them for reading."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any


def needed(nodes: Sequence[Any], outputs: Sequence[str]) -> list[Any]:
    """List the nodes that an output depends on, each after those it depends on, else in the file's order.

    A ValueError says that two nodes give one value, that there is no output, or that nodes depend on each
    other in a cycle.
    """
    makers: dict[str, int] = {}
    for i, node in enumerate(nodes):
        for name in node.output:
            if name in makers:
                raise ValueError(f"two nodes give a value {name!r}")
            if name:
                makers[name] = i
    wanted = list(outputs)
    if not wanted:
        raise ValueError("expected a graph with an output, got none")
    before: dict[int, set[int]] = {}
    while wanted:
        at = makers.get(wanted.pop())
        if at is not None and at not in before:
            taken = taken_by(nodes[at])
            before[at] = {makers[name] for name in taken if name in makers}
            wanted.extend(taken)
    after: dict[int, list[int]] = {}
    for i, sources in before.items():
        for source in sources:
            after.setdefault(source, []).append(i)
    ready = [i for i, sources in before.items() if not sources]
    heapq.heapify(ready)
    ordered = []
    while ready:
        at = heapq.heappop(ready)
        ordered.append(nodes[at])
        for i in after.get(at, ()):
            before[i].discard(at)
            if not before[i]:
                heapq.heappush(ready, i)
    if len(ordered) < len(before):
        stuck = next(nodes[i] for i, sources in before.items() if sources)
        raise ValueError(f"node {stuck.name or ', '.join(stuck.output)!r} is in a cycle, or depends on one")
    return ordered


def taken_by(node: Any) -> list[str]:
    """List the values that a node takes, and that the graphs inside it do."""
    found, inside = list(node.input), [node]
    while inside:
        for attribute in inside.pop().attribute:
            if attribute.HasField("g"):
                found += [entry.name for entry in attribute.g.output]
                for each in attribute.g.node:
                    found += each.input
                    inside.append(each)
    return found
