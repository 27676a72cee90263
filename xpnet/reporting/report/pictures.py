"""Samples and weights as pictures within the page."""

from __future__ import annotations

import base64
import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from xpnet.network import MLP

LONGEST = 64
"""Pixels of a picture's side; larger ones are made smaller."""

MOST_UNITS = 48
"""Units of the first layer whose weights are shown."""

_POSITIVE, _NEGATIVE = (76, 139, 208), (232, 105, 90)

COLOURS = 3


def picture_shape(network: MLP) -> tuple[int, ...] | None:
    """(rows, columns), perhaps with 3 colours before or behind them, where samples can be shown as such; else None."""
    shape = network.image_shape
    if shape is None or math.prod(shape) != network.sizes[0]:
        return None
    shape = tuple(side for side in shape if side > 1)
    return shape if len(shape) == 2 or (len(shape) == 3 and COLOURS in (shape[0], shape[-1])) else None


def of_samples(x: Any, shape: tuple[int, ...], *, low: float, high: float) -> list[str]:
    """Each row of x: (N, I) as the address of a picture, black at `low` and white at `high`."""
    scaled = (_as_pixels(np.asarray(x, np.float64), shape) - low) / ((high - low) or 1.0)
    return [_address((np.clip(image, 0, 1) * 255).round().astype(np.uint8)) for image in scaled]


def of_weights(network: MLP, shape: tuple[int, ...]) -> list[str]:
    """What the largest units of the first layer look for, as the addresses of pictures.

    Without colours blue is positive and red is negative, and nothing is seen through; with them gray is zero.
    """
    w = network.device.to_host(network.parameters.w[0]).astype(np.float64)
    largest = np.sort(np.argsort(-np.linalg.norm(w, axis=0), kind="stable")[:MOST_UNITS])
    images = _as_pixels(w.T[largest], shape)
    return [_address(_coloured(image / (np.abs(image).max() or 1.0))) for image in images]


def _coloured(image: np.ndarray) -> np.ndarray:
    """Values from -1 to 1 as RGB, or those without colours as RGBA."""
    if image.ndim == 3:
        return (127.5 * (image + 1)).round().astype(np.uint8)
    colours = np.where(image[..., None] > 0, _POSITIVE, _NEGATIVE)
    return np.dstack([colours, 255 * np.abs(image)]).round().astype(np.uint8)


def _as_pixels(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(N, I) -> (N, rows, columns), or with colours behind them."""
    images = x.reshape(len(x), *shape)
    return np.moveaxis(images, 1, -1) if len(shape) == 3 and shape[-1] != COLOURS else images


def _address(pixels: np.ndarray) -> str:
    from PIL import Image

    image, file = Image.fromarray(pixels), io.BytesIO()
    image.thumbnail((LONGEST, LONGEST))  # does nothing to smaller ones
    image.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
