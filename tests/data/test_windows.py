from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from motionbench.core.errors import UserError
from motionbench.data import decoding
from motionbench.data.decoding import read_clip
from motionbench.data.video_files import Video, open_video
from motionbench.data.windows import read_windows, window_step, window_times
from tests.data.videos import SMALL, brightening, numbers, write_video


def test_windows_overlap_by_half_and_end_with_a_long_video() -> None:
    assert window_times(3.0, 2.0, 8) == []
    assert window_times(4.5, 2.0, 8) == [(0, 2), (1, 3), (2, 4), (2.5, 4.5)]
    assert window_times(4.5, 3.0, 3) == window_times(4.5, 3.0, 8) == []
    assert window_times(5.0, 3.0, 3) == [(0, 3), (2, 5)], "two of three frames later"


@pytest.mark.parametrize("frames", [1, 7, 8])
def test_windows_of_a_video_are_its_pieces_decoded_once(
    frames: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "x.mp4", brightening(40))
    wanted, step = SMALL._replace(frames=frames), 0.32 * window_step(frames) / frames
    times = [(start, start + 0.32) for start in (0.15 + step * number for number in range(4))]
    one_by_one = [read_clip(path, wanted, start=start, end=end)[0][0] for start, end in times]
    assert numbers(read_windows(path, SMALL, [(0.16, 0.48)])[0]) == [4, 5, 6, 7, 8, 9, 10, 11]
    opened: list[Path] = []

    def open_counted(path: Path, max_pixels: int) -> AbstractContextManager[Video]:
        opened.append(path)
        return open_video(path, max_pixels)

    monkeypatch.setattr(decoding, "open_video", open_counted)
    np.testing.assert_array_equal(read_windows(path, wanted, times), one_by_one)
    assert opened == [path], "one pass"
    with pytest.raises(UserError, match=r"x\.mp4: the end, 1\.800 s, is beyond the end of the video, 1\.600 s; give"):
        read_windows(path, SMALL, [(1.48, 1.8)])
