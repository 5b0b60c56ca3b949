"""A job for tests: ``python -m tests.web.job_that fails|hangs|refuses``."""

import sys
import time

if sys.argv[1] == "fails":
    raise ValueError("the data is gone")
if sys.argv[1] == "hangs":
    time.sleep(60)
sys.stdout.write('{"reason": "not better than the rule"}\n')
raise SystemExit(3)
