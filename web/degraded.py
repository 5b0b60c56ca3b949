"""A page that went out as in the status quo because its events were late is counted under the arm that was due."""

from __future__ import annotations

import logging

from experiments.assignment import Assignment
from experiments.errors import OutboxError
from experiments.events.outbox import Outbox, OutboxFull
from experiments.experiment import Experiment
from web.records import Visit, degraded

__all__ = ["leave_degraded"]

log = logging.getLogger("presslab.degraded")


def leave_degraded(
    outbox: Outbox, error: OutboxError, *, visit: Visit, assignment: Assignment | None, experiment: Experiment | None
) -> None:
    """Leave a row in the store that says: this page was due to show the arm, and did not.

    The page's own exposure may still become durable (a commit that runs on, or failed in doubt) although its reader
    did not see the slot; then both rows are stored and the page counts as degraded. The reader does not wait for the
    row: what cannot be queued is lost, in every arm alike.

    Parameters
    ----------
    error : why the page's events were not acknowledged; a full outbox kept nothing and is spared another attempt.
    assignment, experiment : None where the slot belongs to no experiment; then nothing is left.
    """
    if assignment is None or experiment is None or isinstance(error, OutboxFull):
        return
    try:
        outbox.offer([degraded(visit, assignment, experiment)])
    except OutboxError as again:
        log.error("the page is not counted as degraded: %s", again)
