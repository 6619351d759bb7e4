"""How far a verdict depends on the seeds: an experiment's, divided into two halves in all ways.

    python benchmarks/seed_sets.py results/small/convnet-cifar10-noise20

For each division, the verdicts of both halves by statement (`+` holds, `-` fails, `.` undecided),
and how many come out the same. At the end, all of these counts.
"""

import argparse
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from smoothdescent.tables.experiment import ExperimentTables, read_all_tables
from smoothdescent.verdict.evidence import FAILS, HOLDS, UNDECIDED
from smoothdescent.verdict.findings import decide_all

SIGNS = {HOLDS: "+", FAILS: "-", UNDECIDED: "."}


def decide(experiment: ExperimentTables, seeds: set[int]) -> dict[int, str]:
    """Return the sign of each statement's result, from some of an experiment's seeds."""
    history, sharpness = (
        table[table["seed"].isin(seeds)].reset_index(drop=True)
        for table in (experiment.history, experiment.sharpness)
    )
    some = replace(experiment, history=history, sharpness=sharpness)
    findings = [f for f in decide_all({some.name: some}) if f.experiment == some.name]
    return {finding.number: SIGNS[finding.result] for finding in findings}


def main() -> None:
    """Print the verdicts of all divisions."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="results of an experiment, with its tables")
    [experiment] = read_all_tables([parser.parse_args().folder]).values()
    seeds = set(map(int, experiment.history["seed"].unique()))
    every = decide(experiment, seeds)
    print(f"{'':14}", *(f"{number:>2}" for number in every))
    print(f"{'all':14}", *(f"{sign:>2}" for sign in every.values()))
    same, contradictions = [], 0
    for half in combinations(sorted(seeds), len(seeds) // 2):
        rest = seeds - {*half}
        if len(half) == len(rest) and min(seeds) in rest:
            continue  # seen the other way round
        verdicts = [decide(experiment, {*half}), decide(experiment, rest)]
        for chosen, verdict in zip((half, sorted(rest)), verdicts, strict=True):
            print(f"{' '.join(map(str, chosen)):14}", *(f"{s:>2}" for s in verdict.values()))
        pairs = [(verdicts[0][number], verdicts[1][number]) for number in every]
        same.append(sum(one == other for one, other in pairs))
        contradictions += sum({*pair} == {"+", "-"} for pair in pairs)
        print(f"{'':14}  {same[-1]} of {len(every)} the same")
    print(f"the same, sorted: {sorted(same)}; one holds where the other fails: {contradictions}")


if __name__ == "__main__":
    main()
