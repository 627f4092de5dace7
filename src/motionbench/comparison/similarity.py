"""How alike clips are: copies of one recording, and clips of one scene."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import permutation_test

FRAMES_SEEN, SIDE_SEEN = 8, 16  # of what is compared
NEIGHBOURS = 5  # of a clip, that may be copies of it
SAME_LEVELS, SAME_MOTION = 4, 0.95  # of 255, and a correlation: as alike as two copies of one recording
LARGEST_GROUP = 30  # clips
RESAMPLES = 499  # of labels: p-values from 0.002


class Neighbours(NamedTuple):
    """How often clips that look alike have one class."""

    same_class: float  # the share among the nearest clips
    chance: float  # that share, if looks do not go with classes
    p_value: float  # of a share so low
    nearest: NDArray[np.int64]  # numbers of the nearest clips of each, the nearest first


def look_at(clips: Iterable[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return eight frames of each clip, as small pictures: shape (clips, 8, 16, 16, channels).

    Args:
        clips: shape (frames, height, width, channels), of any size.
    """
    looks = []
    for clip in clips:
        frames = clip[np.linspace(0, len(clip) - 1, FRAMES_SEEN).round().astype(int)]
        pictures = [Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame) for frame in frames]
        looks.append([np.asarray(picture.resize((SIDE_SEEN, SIDE_SEEN), Image.Resampling.BOX)) for picture in pictures])
    return np.array(looks, np.uint8).reshape(len(looks), FRAMES_SEEN, SIDE_SEEN, SIDE_SEEN, -1)


def nearest(pictures: NDArray[np.float32], count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the numbers of the nearest ones to each picture, and how far they are apart, levels of 255.

    Args:
        pictures: shape (clips, pixels).

    Returns:
        Two arrays of shape (clips, `count`, or fewer if there are fewer).
    """
    from sklearn.neighbors import NearestNeighbors  # imported late, and slow: only folders need it

    count = min(count, len(pictures) - 1)
    distances, numbers = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(pictures).kneighbors()
    return numbers, distances / np.sqrt(pictures.shape[1])


def find_copies(looks: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """Return the pairs of clips that look the same and move in the same way, as numbers, the lower first."""
    frames = looks.mean(axis=-1, dtype=np.float32).reshape(len(looks), FRAMES_SEEN, -1)
    moving = (frames - frames.mean(axis=1, keepdims=True)).reshape(len(looks), -1)
    size = np.linalg.norm(moving, axis=1)
    numbers, levels = nearest(frames.reshape(len(looks), -1), NEIGHBOURS)
    one, place = np.nonzero(levels <= SAME_LEVELS)
    close = np.unique(np.sort([one, numbers[one, place]], axis=0), axis=1).T.tolist()
    return [
        (one, other) for one, other in close if moving[one] @ moving[other] >= SAME_MOTION * size[one] * size[other]
    ]


def compare_neighbours(pictures: NDArray[np.float32], labels: NDArray[np.int64]) -> Neighbours:
    """Test whether the nearest clips have the same class less often than chance gives.

    They do where each scene or person has clips of several classes, as often of one as of another. The statistic is the
    lowest share among the nearest 1, 2, ... 30 clips, each with the weight that its deviation has. Labels are permuted,
    so the p-value is exact whatever the pictures are.

    Args:
        pictures: shape (clips, pixels).
        labels: shape (clips,).
    """
    numbers, _ = nearest(pictures, LARGEST_GROUP)
    counts, sizes = np.bincount(labels), np.arange(1, numbers.shape[1] + 1)
    chance = float((counts * (counts - 1)).sum() / (len(labels) * (len(labels) - 1)))

    def shares(labels: NDArray[np.int64]) -> NDArray[np.float64]:
        same = (labels[..., numbers] == labels[..., np.newaxis]).mean(axis=-2)
        return np.asarray(same.cumsum(axis=-1) / sizes)

    def statistic(labels: NDArray[np.int64], axis: int = -1) -> NDArray[np.float64]:
        return np.asarray((np.sqrt(sizes) * (shares(labels) - chance)).min(axis=axis))

    test = permutation_test(
        (labels,), statistic, permutation_type="pairings", vectorized=True, n_resamples=RESAMPLES, batch=10,
        alternative="less", rng=np.random.default_rng(0),
    )  # fmt: skip # what belongs together on one line
    found = shares(labels)
    lowest = int((np.sqrt(sizes) * (found - chance)).argmin())
    return Neighbours(float(found[lowest]), chance, float(test.pvalue), numbers)
