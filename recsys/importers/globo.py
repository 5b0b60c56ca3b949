"""The Globo.com click log: one Parquet file, or the original hourly CSV files (a folder or a zip of them).

Sessions are given; no title, no section, no text. The last gap of every session is exactly 30 seconds, so nobody may
compute dwell time from it. Source: de Souza Pereira Moreira, Jannach, da Cunha, IEEE Access 7, 2019.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from recsys.importers.rows import Columns, Parsed, assemble, untitled
from recsys.importers.source import integers, read_source, texts

__all__ = ["parse"]

COLUMNS = ("user_id", "session_id", "click_article_id", "click_timestamp")
SAID = {"device": "click_deviceGroup", "referrer": "click_referrer_type"}  # numbers whose meaning was not published
NOTES = (
    "Sessions with one click were removed at the source: views per session is conditional on two or more.",
    "The last gap of every session is 30,000 ms by construction: dwell time is not in this log.",
)


def parse(path: Path) -> Parsed:
    """Read Globo clicks; times are milliseconds since the epoch.

    Raises
    ------
    DataError
        The file is none of the two layouts; every missing column is named.
    """
    source = read_source(path, COLUMNS, tuple(SAID.values()))
    milliseconds, timed = integers(source.table["click_timestamp"])
    reader, session, article = (texts(source.table[name], name) for name in COLUMNS[:3])
    at = milliseconds.clip(-(1 << 52), 1 << 52) * 1_000
    said = {name: texts(source.table[column], column) for name, column in SAID.items() if column in source.table.column_names}
    codes = [np.asarray(pc.fill_null(pc.dictionary_encode(ids).indices, -1)) for ids in (reader, session, article)]  # texts take longer
    repeated = pd.DataFrame(dict(enumerate([*codes, at]))).duplicated().to_numpy(bool)
    parsed = assemble(Columns(reader, session, article, at, timed, source.lines, None, repeated, source.refused, said, source.files))
    return replace(parsed, articles=untitled(parsed.table), notes=NOTES)
