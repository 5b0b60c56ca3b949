"""``presslab off-policy``: what another policy would have earned on a log, or why the log cannot say."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from web.cli.main import Json, app

__all__ = ["off_policy"]

SAYS = {
    "ipw": "weighted clicks per row",
    "snipw": "weighted clicks per weight",
    "dm": "from smoothed click rates alone; may be off without notice, by more than its range",
    "dr": "click rates, corrected by the weighted misses",
}


@app.command("off-policy")
def off_policy(
    log: Annotated[
        Path,
        typer.Argument(
            help="CSV or Parquet: article, slot, click and propensity per row, optionally reader (else each row counts as a reader)."
        ),
    ],
    target: Annotated[
        Path, typer.Option(help="The new policy: probability per article and slot, or per row of the log; or a log that it showed.")
    ],
    *,
    seed: int = 0,
    as_json: Json = False,
) -> None:
    """What another policy would have earned on this log; exit 3 when the two overlap too little to say."""
    from recsys.logged import read_logged, read_policy
    from recsys.off_policy import evaluate_policy
    from web.cli.output import print_json

    read = read_logged(log)
    found = asdict(evaluate_policy(read, read_policy(target, read), seed=seed))
    if as_json:
        print_json(found)
    else:
        _show(found)
    if found["refused"]:
        raise typer.Exit(3)


def _show(found: dict[str, Any]) -> None:
    """Overlap first, then ranges, then points."""
    from web.cli.output import print_table, tell

    if found["ess"] is not None and found["max_weight_share"] is not None:
        tell(
            f"Overlap: {found['rows']:,} rows of {found['readers']:,} readers are worth {found['ess']:,.0f} shown by the new policy; the heaviest carries "
            f"{found['max_weight_share']:.1%} of the weight; the mean weight is {found['mean_weight']:.2f}."
        )
    if found["refused"]:
        tell(f"No value: {found['refused']}")
        return
    rows = [(name, f"{e['low']:.5f} to {e['high']:.5f}", f"{e['value']:.5f}", SAYS[name]) for name, e in found["estimators"].items()]
    print_table("Clicks per row under the new policy", ("estimator", "range ", "value ", "how"), rows)
