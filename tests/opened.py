"""Sites that tests opened: their threads write to SQLite, and a process that is forked meanwhile may wait for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from web.site import NewsSite

SITES: list[NewsSite] = []
