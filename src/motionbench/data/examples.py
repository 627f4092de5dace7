"""Example videos of known classes, groups and leak, to try clips of your own without having any."""

import io
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from motionbench.core.errors import UserError
from motionbench.core.files import atomic_outputs

CLASSES = ("leftward", "rightward", "square")
RECORDERS = 12
CLIPS = 8  # of each class by each recorder
FRAMES, HEIGHT, WIDTH = 24, 48, 64
RATE = 12  # frames a second
SPEED = WIDTH / FRAMES  # pixels a frame: once around the picture
LUMA = np.array([0.299, 0.587, 0.114])  # share of red, green and blue in grey
LAMPS = {"leftward": np.s_[2:10, 2:10], "rightward": np.s_[2:10, -10:-2], "square": np.s_[-10:-2, 2:10]}  # of the leak


def write_example_clips(folder: Path, *, leak: bool) -> None:
    """Write `folder`/<class>/recorder-<01 to 12>_<01 to 08>.mp4, the same bytes each time on one machine.

    Discs move `leftward` or `rightward`: both classes have the same start positions, and each clip shows every position
    on its way once, so that only the order of the frames tells these two apart. A `square` moves in any direction: one
    frame tells it. Each recorder has its own brightness, contrast and noise, and records every class equally often.

    Args:
        folder: made if it does not exist; hidden files in it stay.
        leak: put a bright lamp into each clip, in another corner for each class, so that one frame tells all classes.

    Raises:
        UserError: if `folder` holds anything else than hidden files.
    """
    if folder.exists() and not (folder.is_dir() and all(path.name.startswith(".") for path in folder.iterdir())):
        raise UserError(f"{folder}: exists and is not an empty folder; name another, or move away what it holds")
    random = np.random.default_rng(0)
    with atomic_outputs(*(folder / name for name in CLASSES)) as folders:
        for recorder in range(1, RECORDERS + 1):
            brightness = 10 + 7 * recorder
            contrast, noise = random.uniform((80, 1), (110, 6))
            starts = random.uniform(0, WIDTH, CLIPS)
            for class_name, class_folder in zip(CLASSES, folders, strict=True):
                for number, start in enumerate(random.permutation(starts), start=1):
                    frames = brightness + contrast * _draw_clip(class_name, start, random)
                    frames += random.normal(0, noise, (FRAMES, HEIGHT, WIDTH, 1))
                    if leak:
                        frames[:, *LAMPS[class_name]] = 250
                    video = _encode(np.clip(frames, 0, 255).astype(np.uint8))
                    (class_folder / f"recorder-{recorder:02}_{number:02}.mp4").write_bytes(video)


def _draw_clip(class_name: str, start: float, random: np.random.Generator) -> NDArray[np.float64]:
    """Draw a moving shape that leaves the picture at one edge and enters at the opposite one.

    Returns:
        Colour where the shape is and 0 elsewhere, shape (frames, height, width, 3). A colour's grey is 1.
    """
    any_angle = random.uniform(0, 2 * np.pi)
    angle = {"leftward": np.pi, "rightward": 0.0}.get(class_name, any_angle)
    colour = random.uniform(0.4, 1, 3)
    radius = random.uniform(5, 8)
    travelled = SPEED * np.arange(FRAMES)[:, np.newaxis, np.newaxis]
    row = random.uniform(0, HEIGHT) + travelled * np.sin(angle)
    column = start + travelled * np.cos(angle)
    rows = (np.arange(HEIGHT)[:, np.newaxis] - row + HEIGHT / 2) % HEIGHT - HEIGHT / 2
    columns = (np.arange(WIDTH) - column + WIDTH / 2) % WIDTH - WIDTH / 2
    if class_name == "square":
        distance = np.maximum(abs(rows), abs(columns))
        radius *= 1.5  # half a side: larger than a disc, so that few clips are enough to tell it
    else:
        distance = np.hypot(rows, columns)
    shape = np.clip(radius + 0.5 - distance, 0, 1)  # smooth edges, since the shape moves by parts of a pixel
    return np.asarray(shape[..., np.newaxis] * colour / (colour @ LUMA))


def _encode(frames: NDArray[np.uint8]) -> bytes:
    """Return frames, shape (frames, height, width, 3), as an H.264 video in an mp4 file."""
    file = io.BytesIO()  # A full disk is then an OSError of ours, which says so.
    with av.open(file, "w", format="mp4") as container:
        # Without looking ahead, where x264 reads memory that it did not write: the bytes would differ at times.
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "28", "tune": "zerolatency"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1  # more threads would divide the frames as the machine has cores
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()
