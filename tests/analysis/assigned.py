"""Readers whom a plan really assigns to an arm: events about others are rightly distrusted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count

from experiments.assignment import allocation, assign, reader_key
from experiments.experiment import Experiment


def readers_of(plan: Experiment, arm: str, shares: Mapping[str, float] | None = None) -> Iterator[str]:
    """Reader ids that the plan assigns to ``arm``, without end."""
    rule = allocation(plan, shares)
    for number in count():
        reader = f"r{number:06d}"
        assignment = assign(rule, reader_key(reader))
        if assignment is not None and assignment.arm == arm:
            yield reader
