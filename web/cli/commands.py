"""Puts every command of a noun in its place."""

from __future__ import annotations

__all__ = ["install"]


def install() -> None:
    """Import the modules that declare commands; they import nothing heavy themselves."""
    from web.cli import arms, backup, calibrate, data, experiment, ladder, off_policy, operate, science, selftest, token, versions

    _ = (arms, backup, calibrate, data, experiment, ladder, off_policy, operate, science, selftest, token, versions)
