"""Images as samples: how their pixels lie, and which numbers stand for black, for white and for the ground."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

USUAL = ((0.0, 1.0), (-0.5, 0.5), (-1.0, 1.0), (0.0, 16.0), (0.0, 255.0), (0.0, 65535.0))
"""What stands for black and white, by custom; the narrowest first."""

_LOOKED_AT = 2**22
"""Values of images that tell the rest."""


@dataclass(frozen=True)
class Layout:
    """How the pixels of an image lie in a sample.

    Attributes:
        rows, columns: Of the image.
        bands: 1 of grey, 3 of colours, 4 of colours and how opaque they are.
        first: Whether the bands lie one after the other, rather than those of each pixel together.
    """

    rows: int
    columns: int
    bands: int = 1
    first: bool = False

    @classmethod
    def of(cls, shape: tuple[int, ...]) -> Layout | None:
        """The layout of samples of that shape; None if they are no images."""
        if len(shape) == 2:
            return cls(*shape)
        if len(shape) == 3 and shape[0] in (1, 3):
            return cls(shape[1], shape[2], shape[0], first=True)
        return cls(*shape) if len(shape) == 3 and shape[2] in (1, 3, 4) else None

    def flat(self, pixels: np.ndarray) -> np.ndarray:
        """The sample that (rows, columns) or (rows, columns, bands) pixels are."""
        return (pixels.transpose(2, 0, 1) if self.first and pixels.ndim == 3 else pixels).reshape(-1)

    def edges(self, x: np.ndarray) -> np.ndarray:
        """The outermost pixels of (N, I) samples, in no order."""
        lead, behind = (len(x) * self.bands, 1) if self.first else (len(x), self.bands)
        images = x.reshape(lead, self.rows, self.columns, behind)
        sides = images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]
        return np.concatenate([side.reshape(-1) for side in sides])


@dataclass(frozen=True)
class Shades:
    """The numbers of images that stand for something.

    Attributes:
        black, white: The ends of the range.
        ground: What is around the things that are shown.
    """

    black: float
    white: float
    ground: float


def shades_of(x: np.ndarray, rows: np.ndarray, shape: tuple[int, ...]) -> Shades | None:
    """What stands for black, white and the ground in images, told from some that lie evenly among them.

    Black and white are the ends of the narrowest range of custom that holds all values, and of which they fill the
    more part: bytes up to 16 are of 0 to 16, others of 0 to 255, floats of 0 to 1. Where there is none, as with
    standardized images, they are the lowest and the highest value. The ground is the median of the outermost pixels.

    Args:
        x: (N, I) samples.
        rows: The numbers of those to look at.
        shape: Of a sample.

    Returns:
        None where the samples are no images, or are of one shade.
    """
    layout = Layout.of(shape)
    if layout is None:
        return None
    seen = x[rows[:: -(-len(rows) * x.shape[1] // _LOOKED_AT)]]
    low, high = float(seen.min()), float(seen.max())
    if not low < high:
        return None
    black, white = next((ends for ends in USUAL if _fills(low, high, ends, of_bytes=x.dtype == np.uint8)), (low, high))
    return Shades(black, white, float(np.median(layout.edges(seen))))


def _fills(low: float, high: float, ends: tuple[float, float], *, of_bytes: bool) -> bool:
    """Whether values from low to high lie between these ends and fill the more part; bytes may all be dark."""
    black, white = ends
    size = white - black
    return black <= low and high <= white and (of_bytes or (low - black <= size / 4 and white - high <= size / 2))
