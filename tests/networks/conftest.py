"""What several tests of networks use."""

import pytest
import torch


@pytest.fixture(params=[1, 2])
def threads(request):
    """Numbers of threads: the kernels for few channels are for one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)
