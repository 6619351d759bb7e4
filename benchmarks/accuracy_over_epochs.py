"""Draw the training accuracy of each run over epochs, beside those of other settings.

    python benchmarks/accuracy_over_epochs.py accuracy.png --widths 3 4 5 \
        "rate 0.0025=results/small/convnet-cifar10-noise20" \
        "rate 0.005=results/rate/small/convnet-cifar10-noise20"

A panel for each width and settings, a line for each seed that all have: whether runs settle, and
where luck decides which do.
"""

import argparse
from pathlib import Path

from matplotlib import pyplot as plt

from smoothdescent.figures.style import BLUE, DOUBLE_COLUMN, look
from smoothdescent.files import read_table


def main() -> None:
    """Draw the panels."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", help="a picture")
    parser.add_argument("settings", nargs="+", metavar="NAME=DIR", help="folder of an experiment")
    parser.add_argument("--widths", nargs="+", type=int, required=True)
    args = parser.parse_args()
    named = [settings.split("=", 1) for settings in args.settings]
    tables = {n: read_table(Path(d) / "history.parquet").to_pandas() for n, d in named}
    seeds = set.intersection(*(set(table["seed"]) for table in tables.values()))
    with look():
        rows, columns = len(tables), len(args.widths)
        figure, axes = plt.subplots(
            rows,
            columns,
            figsize=(DOUBLE_COLUMN, 1.4 * rows),
            sharex=True,
            sharey=True,
            squeeze=False,
            layout="constrained",
        )
        for row, (name, table) in zip(axes, tables.items(), strict=True):
            row[0].set_ylabel("Training accuracy")
            evaluated = table.dropna(subset="train_accuracy_all")
            for panel, width in zip(row, args.widths, strict=True):
                panel.set_title(f"w = {width}, {name}", pad=4)
                for seed in sorted(seeds):
                    run = evaluated[(evaluated["width"] == width) & (evaluated["seed"] == seed)]
                    panel.plot(run["epoch"], run["train_accuracy_all"], color=BLUE, alpha=0.6)
        for panel in axes[-1]:
            panel.set_xlabel("Epoch")
        figure.savefig(args.output, dpi=200)


if __name__ == "__main__":
    main()
