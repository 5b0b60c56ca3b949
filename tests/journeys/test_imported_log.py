"""A log nobody here made: imported, served, and a real reader gets recommendations with reasons that add up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("PRESSLAB_DATA", ROOT.parent / "shared" / "data"))
READER = "3302556033962996625"  # reads often in the last weeks of the log


def presslab(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "web", *arguments], capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.mark.long
@pytest.mark.skipif(not (DATA / "deskdrop").exists(), reason="needs ../shared/data/deskdrop (not present)")
def test_after_importing_deskdrop_a_real_reader_gets_als_with_reasons_that_add_up(home: Path) -> None:
    brought = presslab("data", "import", "deskdrop", str(DATA / "deskdrop"), "--home", str(home), "--json")
    told = json.loads(brought.stdout)
    assert (told["read"], told["articles"], told["readers"]) == (72_312, 2_987, 1_895)
    again = json.loads(presslab("data", "import", "deskdrop", str(DATA / "deskdrop"), "--home", str(home), "--json").stdout)
    assert again["kept"] == told["kept"]
    assert len(list((home / "lake").glob("*.parquet"))) == 1

    trained = presslab("model", "train", "als", "--home", str(home), "--json")
    assert json.loads(trained.stdout.splitlines()[-1])["state"] == "published"
    explained = presslab("model", "explain", "als", f"--reader={READER}", "--home", str(home), "--json")
    found = json.loads(explained.stdout)
    assert found["items"]
    assert found["largest_gap"] < 1e-6
    for item in found["items"]:
        assert sum(reason["weight"] for reason in item["reasons"]) == pytest.approx(item["score"], abs=1e-6)
        assert {reason["article"] for reason in item["reasons"]} <= set(found["reads"])
    assert presslab("model", "explain", "als", "--reader=nobody", "--home", str(home)).returncode == 5
