import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from smoothdescent.errors import UserError
from smoothdescent.sharpness import hessian_norm


def test_the_two_normalisations():
    assert hessian_norm(9.0, 4, 0.1) == pytest.approx(3 / (16 * 0.01))
    assert hessian_norm(9.0, 4, 0.1, "rms") == pytest.approx(3 / (2 * 0.1))
    column = pd.Series([4.0, 16.0])
    assert hessian_norm(column, 1, 1.0).tolist() == [2.0, 4.0]
    np.testing.assert_array_equal(hessian_norm(column.to_numpy(), 1, 1.0, "rms"), [2.0, 4.0])


@pytest.mark.parametrize("arguments", [(0, 0.1), (4, 0.0), (4, 0.1, "mean")])
def test_wrong_arguments(arguments):
    with pytest.raises(UserError):
        hessian_norm(1.0, *arguments)


def test_it_needs_no_torch():
    code = (
        "import sys; from smoothdescent.sharpness import hessian_norm; hessian_norm(1., 1, 1.); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
