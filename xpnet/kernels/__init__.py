"""The mathematics: forward and backward kernels, written once for NumPy and CuPy.

`on(device)` gives the table that training uses. `<name>_forward` and `<name>_backward` are for plain arrays.
"""

from xpnet.kernels import textbook
from xpnet.kernels.activations import ACTIVATIONS
from xpnet.kernels.table import Table, on
from xpnet.kernels.textbook import *  # noqa: F403 - the pairs, listed in its __all__

__all__ = ["ACTIVATIONS", "Table", "on", *textbook.__all__]
