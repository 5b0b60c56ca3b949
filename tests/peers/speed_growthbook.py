"""How many readers a second the growthbook SDK puts into the arms of one experiment; prints JSON. Needs growthbook alone.

Usage: PYTHON SCRIPT READERS. The quickest of three ways: one client for all with the reader's id set anew, one client a reader
(as its guide has it), and its own hash and ranges without a client.
"""

import json
import sys
import time
from importlib.metadata import version

from growthbook import Experiment, GrowthBook
from growthbook.core import chooseVariation, gbhash, getBucketRanges

ARMS = ["status_quo", "front"]
EXPERIMENT = Experiment(key="bench", variations=ARMS, weights=[0.5, 0.5])


def one_client(readers):
    client = GrowthBook(attributes={"id": ""})
    found = []
    for reader in readers:
        client.set_attributes({"id": reader})
        found.append(client.run(EXPERIMENT).value)
    return found


def a_client_each(readers):
    return [GrowthBook(attributes={"id": reader}).run(EXPERIMENT).value for reader in readers]


def no_client(readers):
    ranges = getBucketRanges(2, 1, [0.5, 0.5])
    return [ARMS[chooseVariation(gbhash("bench", reader, 1), ranges)] for reader in readers]


def main(n):
    readers = [f"{i:032x}" for i in range(n)]
    rates, answers = {}, []
    for way in (one_client, a_client_each, no_client):
        spent = []
        for _ in range(3):
            start = time.process_time()
            found = way(readers)
            spent.append(time.process_time() - start)
        rates[way.__name__] = n / min(spent)
        answers.append(found)
    assert answers[0] == answers[1] == answers[2]
    sys.stdout.write(json.dumps({"version": version("growthbook"), "per_second": rates}) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
