"""Images from files, made into what a model of images was trained on."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xpnet.data.images import Layout, Shades
from xpnet.data.reading import reading, refuse_too_large
from xpnet.errors import DataError
from xpnet.network import MLP

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg")

_PIXELS = 2**26
"""Of an image, at most."""

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's names of what a pixel is, by the number of bands."""

_UNSEEN = 8
"""Steps of 255 by which nothing in a picture stands out."""

_PLAIN = 95.0
"""Of 255, what a ground is at least away from the middle that is dark or light."""

_OLD = Shades(0, 255, 0)
"""What is taken for a model that does not say it."""


def are_images(paths: Sequence[str]) -> bool:
    """Whether these are the names of images."""
    return all(Path(path).suffix.lower() in SUFFIXES for path in paths)


class Reader:
    """Reads images as samples of a network: (N, I), from its black to its white.

    Args:
        network: Whose samples they are.
        tell: Called with what else a person should know.

    Raises:
        DataError: The samples of the network are no images.
    """

    def __init__(self, network: MLP, *, tell: Callable[[str], None] = print) -> None:
        shape = network.image_shape
        layout = None if shape is None else Layout.of(shape)
        if layout is None:
            kind = f"{network.sizes[0]} numbers" if shape is None else f"shape {' x '.join(map(str, shape))}"
            raise DataError(f"data: got images for a model of samples of {kind}: give these, as .npy or .npz")
        shades = network.image_shades or _OLD
        if network.image_shades is None:
            tell("the model does not say which numbers are black and white: 0 and 255 taken; if wrong, train it anew")
        self._layout, self._tell = layout, tell
        size = shades.white - shades.black
        self._black, self._step = shades.black, size / 255
        self._ground = round(255 * ((shades.ground - shades.black) / size))
        self._told_apart = network.image_shades is not None and abs(self._ground - 127.5) > _PLAIN
        self._read = self._turned = 0

    def __call__(self, paths: Sequence[str]) -> np.ndarray:
        """The images of these paths."""
        pixels = np.stack([self._layout.flat(read_image(path, self._layout, ground=self._ground)) for path in paths])
        grounds = np.array([np.median(self._layout.edges(image[None])) for image in pixels])
        self._read += len(pixels)
        self._turned += int((np.abs(grounds - self._ground) > 127.5).sum())
        return self._black + self._step * pixels

    def tell_of_grounds(self) -> None:
        """Tell of the images that are light at the edges where those of the training were dark, or dark for light."""
        if self._turned and self._told_apart:
            these, those = ("light", "dark") if self._ground < 127.5 else ("dark", "light")
            self._tell(
                f"{self._turned:,} of {self._read:,} images are {these} at their edges, those of the training {those}: "
                "if they are drawn the other way round, invert them"
            )


def read_image(path: str, layout: Layout, *, ground: int = 0) -> np.ndarray:
    """An image as (rows, columns) or (rows, columns, bands) from 0 to 255: upright, in grey or colours, scaled to size.

    Args:
        path: Of a PNG or JPEG.
        layout: Of the samples.
        ground: The shade, from 0 to 255, that is put behind what is transparent.

    Raises:
        DataError: It cannot be read, is too large, or draws with the ground's own shade on what is transparent.
    """
    from PIL import Image, ImageOps

    if not os.path.exists(path):
        raise DataError(f"{path}: there is no such file; give the path of an image")
    with reading(Path(path), "an image"), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # larger ones than that are refused
        try:
            opened = Image.open(path, formats=("PNG", "JPEG"))
        except Image.DecompressionBombError:
            raise DataError(f"{path} has more than {_PIXELS:,} pixels: make it smaller") from None
        with opened as image:
            if image.width * image.height > _PIXELS:
                refuse_too_large(path, image.width * image.height * 4)
                raise DataError(f"{path} has {image.width} x {image.height} pixels: make it smaller")
            upright = _of_bytes(ImageOps.exif_transpose(image))
            if layout.bands < 4:
                upright = _opaque(upright, path, ground)
            return np.asarray(upright.convert(_MODES[layout.bands]).resize((layout.columns, layout.rows)), np.uint8)


def _of_bytes(image: Image) -> Image:
    """The image with 8 bits in place of 16, if it has so many."""
    from PIL import Image

    if not image.mode.startswith("I"):  # by the version of Pillow it is I or I;16
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


def _opaque(image: Image, path: str, ground: int) -> Image:
    """The image before the ground, if any of it is transparent."""
    from PIL import Image

    if "A" not in image.getbands() and "transparency" not in image.info:
        return image
    drawn = image.convert("RGBA")
    whole = Image.alpha_composite(Image.new("RGBA", image.size, (ground, ground, ground, 255)), drawn)
    if _range(drawn.getchannel("A")) > _UNSEEN >= _range(whole.convert("L")):
        raise DataError(
            f"{path} is drawn in the shade of the model's own ground, {ground} of 255, on a transparent one, so that "
            "nothing is to be seen: save it in other colours, or without transparency"
        )
    return whole


def _range(image: Image) -> int:
    return int(np.ptp(np.asarray(image)))
