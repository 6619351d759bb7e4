"""The width at which the Jacobian norm peaks has far fewer parameters than n d."""

from dataclasses import replace

import numpy as np

from smoothdescent.tables.experiment import ExperimentTables
from smoothdescent.verdict.evidence import HOLDS, UNDECIDED, Evidence, TooLittleData, compare
from smoothdescent.verdict.peaks import peak, peak_location
from smoothdescent.verdict.reading import final_measure, image_side, training_samples
from smoothdescent.verdict.statement import FIGURES_OF_MEASURES, statement

FEWER = 0.1  # 'far fewer': by an order of magnitude


@statement(figures=FIGURES_OF_MEASURES, statistic="parameters at the peak over n d", general=True)
def decide(experiment: ExperimentTables) -> Evidence:
    """Holds if the bootstrap interval of the ratio ends below one tenth, fails if it begins above.
    Undecided, with the ratio and its interval, if the peak is not told from the noise.
    """
    samples, side = training_samples(experiment.config), image_side(experiment.config)
    if samples is None or side is None:
        raise TooLittleData("the number of training samples or the images' size is not known")
    table = next((t for t in (experiment.history, experiment.sharpness) if "parameters" in t), None)
    if table is None:
        raise TooLittleData("neither table has a column 'parameters'")
    parameters = table.dropna(subset=["parameters"]).groupby("width")["parameters"].first()
    curve = final_measure(experiment, "jacobian_norm", 0)
    if len(curve.x) < 3:
        raise TooLittleData(f"{len(curve.x)} widths, at least 3 are needed")
    found = peak(curve, None, "Jacobian norm", "times")
    width, low, high = peak_location(curve, None, "jacobian_norm")
    scale = samples * 3 * side**2
    ratio = float(parameters[width]) / scale
    known = np.isfinite(low)
    evidence = compare(
        ratio,
        float(parameters[low]) / scale if known else -np.inf,
        float(parameters[high]) / scale if known else np.inf,
        below=FEWER,
        unit="of n d",
        subject="parameters where the Jacobian norm peaks over n d",
        words=f"the peak at w = {width:g} has {parameters[width]:.0f} parameters, {ratio:.3g} of "
        f"n d = {samples} x {3 * side**2}",
        curve=curve,
    )
    if found.result != HOLDS:
        # Without a peak there is no such width.
        return replace(evidence, result=UNDECIDED, text=f"{found.text} {evidence.text}")
    return evidence
