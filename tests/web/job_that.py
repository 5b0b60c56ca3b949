"""A job for tests: ``python -m tests.web.job_that fails|hangs|waits|tells|refuses``."""

import os
import sys
import time

if sys.argv[1] == "fails":
    raise ValueError("the data is gone")
if sys.argv[1] == "hangs":
    time.sleep(60)
if sys.argv[1] == "waits":
    sys.stdout.write(f'{{"reason": "threads that wait are {os.environ["OMP_WAIT_POLICY"]}"}}\n')
    raise SystemExit(3)
if sys.argv[1] == "tells":
    sys.stdout.write(f'{{"reason": "until {sys.argv[2]}"}}\n')
    raise SystemExit(3)
sys.stdout.write('{"reason": "not better than the rule"}\n')
raise SystemExit(3)
