import numpy as np
import pytest

from motionbench.data.synthetic.frames import draw_sliced


@pytest.mark.parametrize(
    ("row", "lit"),
    [(2, []), (3, [0, 1, 2, 3, 4, 5]), (48, [45, 46, 47, 48, 49]), (53, []), (-4, [43, 44, 45, 46, 47, 48])],
)
def test_sliced_drawing_is_numpys_slicing(row: int, lit: list[int]) -> None:
    frame = np.zeros((50, 130), dtype=np.uint8)
    frame[row - 3 : row + 3, 57:63] = 255
    drawn = draw_sliced(np.array([[[row, 60.0]]]), 50, 130, 6)[0, 0, :, :, 0]
    np.testing.assert_array_equal(drawn, frame)
    assert np.flatnonzero(drawn.any(axis=1)).tolist() == lit
