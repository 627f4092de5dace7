"""Frames of any size, orientation and colour as pictures of one size."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import cache
from typing import Any, cast

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from numpy.typing import NDArray

from motionbench.core.errors import UserError
from motionbench.data.params import Preprocessing

MAX_ASPECT = 100  # of a frame: to fill a clip with a narrower one could take any amount of memory
# FULL_CHR_H_INT: or else white would become 253, and small coloured pictures would have half their colours.
SCALING = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.BITEXACT | Interpolation.FULL_CHR_H_INT

Scale = Callable[[VideoFrame], NDArray[np.uint8]]
"""Returns a frame as a picture, uint8, shape (height, width, channels)."""


def scaler(preprocessing: Preprocessing, pixel_aspect: Fraction) -> Scale:
    """Return a function that scales frames.

    It raises a `UserError` for a frame that is too narrow.

    Args:
        pixel_aspect: the width of a pixel divided by its height.
    """
    _, height, width, colour, resize = preprocessing
    reformatter = VideoReformatter()  # one for all frames: to set one up takes longer than to scale
    layout, channels = ("gray", 1) if colour == "grey" else ("rgb24", 3)

    @cache  # what a frame takes beside its scaling counts in small videos
    def scaled_size(columns: int, rows: int) -> tuple[int, int]:
        if max(columns, rows) > MAX_ASPECT * min(columns, rows):
            raise UserError(f"frames of {columns}x{rows} pixels: too narrow")
        if resize == "stretch":
            return width, height
        ratios = (width / columns, height / rows)
        ratio = min(ratios) if resize == "pad" else max(ratios)
        return max(1, round(columns * ratio)), max(1, round(rows * ratio))

    def scale(frame: VideoFrame) -> NDArray[np.uint8]:
        swapped, upside_down, mirrored = _orientation(frame)
        size = scaled_size(*displayed_size(frame, pixel_aspect))
        columns, rows = size[::-1] if swapped else size
        scaled = reformatter.reformat(
            frame, columns, rows, layout, interpolation=SCALING, dst_color_range=ColorRange.JPEG, threads=1
        )
        picture = cast("NDArray[np.uint8]", scaled.to_ndarray()).reshape(rows, columns, channels)
        picture = picture.swapaxes(0, 1) if swapped else picture
        picture = picture[:: -1 if upside_down else 1, :: -1 if mirrored else 1]
        return picture if picture.shape[:2] == (height, width) else _centred(picture, height, width)

    return scale


def displayed_size(frame: VideoFrame, pixel_aspect: Fraction) -> tuple[int, int]:
    """Return width and height with square pixels, after rotation."""
    size = (max(1, round(frame.width * pixel_aspect)), frame.height)
    return size[::-1] if _orientation(frame)[0] else size


def _orientation(frame: VideoFrame) -> tuple[bool, bool, bool]:
    """Return whether a player swaps rows and columns, then turns upside down, then mirrors, to a quarter turn."""
    matrix = cast("Mapping[str, Any]", frame.side_data).get("DISPLAYMATRIX")
    if matrix is None:
        return False, False, False
    a, b, _, c, d, *_ = np.frombuffer(matrix, np.int32).tolist()  # x becomes ax + cy, and y becomes bx + dy
    return (True, b < 0, c < 0) if abs(b) > abs(a) else (False, d < 0, a < 0)


def _centred(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Cut off what is larger than a size, and add black around what is smaller."""
    top, left = ((found - wanted) // 2 for found, wanted in zip(picture.shape, (height, width), strict=False))
    cut = picture[max(0, top) : max(0, top) + height, max(0, left) : max(0, left) + width]
    canvas = np.zeros((height, width, picture.shape[2]), np.uint8)
    canvas[max(0, -top) : max(0, -top) + cut.shape[0], max(0, -left) : max(0, -left) + cut.shape[1]] = cut
    return canvas
