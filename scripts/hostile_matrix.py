"""Attacks every command with everything that a stranger can write, and prints the table of attacks by commands.

    python scripts/hostile_matrix.py                            one cell of each field and of each file: a minute
    python scripts/hostile_matrix.py --each 20 --seed 7
    python scripts/hostile_matrix.py --all                      every field, value and command: hours
    python scripts/hostile_matrix.py --only "a pipe" --command verify --show

The tables of attacks and commands, and what is a failure, are in tests/hostile. Prints a Markdown table with the
numbers of cells refused (one sentence) and harmless (success, without what the stranger wanted), then each failure;
exits with 1 where there are any.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from hostile.commands import COMMANDS
from hostile.matrix import FAILURE, FIELDS, FILES, attacks_of, cells_of, counted, made_home, run_all, sampled


def main() -> int:
    """Run, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="every cell")
    parser.add_argument("--each", type=int, default=1, help="cells of each field, and of each attack on a file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", choices=[FIELDS, FILES], help="only the manifest's fields, or only the rest")
    parser.add_argument("--only", default="", help="words in the name of the attack")
    parser.add_argument("--command", default="", help="words in the name of the command; every cell of it")
    parser.add_argument("--show", action="store_true", help="print what comes of each cell")
    options = parser.parse_args()
    results = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        home = made_home(Path(place) / "home")
        for part in [options.part] if options.part else [FIELDS, FILES]:
            attacks = [attack for attack in attacks_of(home, part).values() if options.only in attack.name]
            commands = [row for row in COMMANDS.values() if options.command in row.name]
            if options.all or options.command:
                cells = list(cells_of(attacks, commands))
            else:
                cells = sampled(attacks, part, options.seed, each=options.each)
            for cell, outcome in run_all(home, part, cells):
                results.append((cell, outcome))
                if options.show:
                    print(f"{outcome.kind} {outcome.seconds:.2f} s {cell.name}: {outcome.note!a}", flush=True)
    print("\n".join(counted(results)))
    failures = [(cell, outcome) for cell, outcome in results if outcome.kind == FAILURE]
    print(f"\n{len(failures)} failures of {len(results)} cells, {time.monotonic() - began:.0f} s")
    for cell, outcome in failures:
        print(f"  {cell.name}: {outcome.note!a}")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
