"""Reads damaged files one by one and prints what did harm: `python -m tests.fuzz READER --first=17 --number=1`."""

import argparse
import sys

from tests.fuzz.attack import attack

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--number", type=int, default=1000)
    parser.add_argument("--most", type=int, default=20, help="reports after which to stop")
    arguments = parser.parse_args()
    harms = attack(**vars(arguments))
    for harm in harms:
        print(harm, end="\n\n")
    print(f"{arguments.reader}: {arguments.number} files from {arguments.first} on, {len(harms)} kinds of harm")
    sys.exit(bool(harms))
