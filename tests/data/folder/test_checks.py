"""Copies with two labels or in two parts are refused; equal pixels from different files are warned of."""

import shutil
from pathlib import Path
from typing import Any

import av
import pytest

from motionbench.core.errors import UserError
from motionbench.data.folder.cache import DecodedClip, decode_clips
from motionbench.data.folder.checks import misleading, refuse_copies, refuse_overlaps, warn_of_equal_pixels
from motionbench.data.folder.listing import ClipFile
from motionbench.data.params import Preprocessing
from tests.data.folder.recordings import record


@pytest.fixture(autouse=True)
def _one_process(working_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")  # each process takes a second to start


def copy(name: str, other: str) -> None:
    Path("clips", other).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path("clips", name), Path("clips", other))


def repack(name: str, other: str) -> None:
    """Write the same stream into another container."""
    Path("clips", other).parent.mkdir(parents=True, exist_ok=True)
    with av.open(Path("clips", name)) as source, av.open(Path("clips", other), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)


def decode(*names: str, start: float | None = None, end: float | None = None) -> list[DecodedClip]:
    files = [ClipFile(Path("clips", name), name, name.split("/")[0], name, start=start, end=end) for name in names]
    clips, bad = decode_clips(files, Preprocessing(4, 12, 16, "grey", "pad"), 1_000_000)
    assert not bad
    return clips


def test_all_copies_with_two_values_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("bow/a.mp4", "bow/b.mp4", "bow/d\n.mp4"):
        record(Path("clips", name))
    copies = [("bow/a.mp4", "wave/a.mp4"), ("bow/a.mp4", "wave/a2.mp4"), ("bow/b.mp4", "bow/b2.mp4")]
    for name, other in (*copies, ("bow/d\n.mp4", "wave/d.mp4")):
        copy(name, other)
    clips = decode(*sorted(path.relative_to("clips").as_posix() for path in Path("clips").glob("*/*")))
    refuse_copies(clips, "part", ["train"] * len(clips), "")
    assert warn_of_equal_pixels(clips, ["train"] * len(clips)) is None, "copies have no other content"
    assert capsys.readouterr().err == ""
    message = "^folder.path: files of the same content differ in label, as listed above; do this$"
    with pytest.raises(UserError, match=message):
        refuse_copies(clips, "label", [clip.file.label for clip in clips], "do this")
    assert capsys.readouterr().err.splitlines() == [
        "the same content: bow/a.mp4 (label bow), wave/a.mp4 (label wave), wave/a2.mp4 (label wave)",
        "the same content: bow/d\\n.mp4 (label bow), wave/d.mp4 (label wave)",
    ]
    twice = [clips[0], clips[0]._replace(file=clips[0].file._replace(label="wave"))]  # by a manifest
    with pytest.raises(UserError, match=message):
        refuse_copies(twice, "label", [clip.file.label for clip in twice], "do this")


def test_pieces_are_copies_where_content_and_times_are_the_same() -> None:
    record(Path("clips/bow/a.mp4"))
    copy("bow/a.mp4", "wave/a.mp4")
    [whole], [first] = decode("bow/a.mp4"), decode("wave/a.mp4", start=0.0, end=0.12)
    [from_the_start] = decode("wave/a.mp4", start=0.0)
    refuse_copies([whole, first], "label", ["bow", "wave"], "")
    with pytest.raises(UserError, match="differ in label"):
        refuse_copies([whole, from_the_start], "label", ["bow", "wave"], "")


def test_equal_pixels_are_named_with_what_differs() -> None:
    others = ["bow/0.mkv", "bow/1.mkv", "wave/2.mkv", "wave/3.mkv", "bow/4.mkv", "bow/5.mkv", "bow/6.mkv"]
    for take, other in enumerate(others):
        record(Path(f"clips/bow/{take}.mp4"))
        repack(f"bow/{take}.mp4", other)
    names = [name for take, other in enumerate(others) for name in (f"bow/{take}.mp4", other)]
    parts = {"bow/1.mkv": "test", "wave/3.mkv": "test"}
    some, all_of_them = (
        warn_of_equal_pixels(decode(*its_names), [parts.get(name, "train") for name in its_names])
        for its_names in (names[:8], names)
    )
    assert some == (
        "equal pixels from different files: bow/3.mp4 and wave/3.mkv (labels and parts differ), bow/1.mp4 and "
        "bow/1.mkv (parts differ), bow/2.mp4 and wave/2.mkv (labels differ), bow/0.mp4 and bow/0.mkv (same label and "
        "part)"
    )
    assert all_of_them == f"{some}, bow/4.mp4 and bow/4.mkv (same label and part) and 2 more pairs"


def test_pieces_that_overlap_in_two_parts_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    record(Path("clips/bow/a.mp4"))
    clips = [decode("bow/a.mp4", start=start, end=end)[0] for start, end in ((0, 0.12), (0.08, 0.2), (0.2, 0.24))]
    refuse_overlaps(clips, ["train", "train", "test"], "")
    with pytest.raises(
        UserError, match=r"^folder.path: pieces that overlap are in two parts, as listed above; do this$"
    ):
        refuse_overlaps([*clips, decode("bow/a.mp4", start=0.16)[0]], ["train", "test", "test", "train"], "do this")
    part = "the same frames: bow/a.mp4 (part"
    assert capsys.readouterr().err.splitlines() == [
        f"{part} train), bow/a.mp4 (part test)",
        f"{part} test), bow/a.mp4 (part train)",
        f"{part} train), bow/a.mp4 (part test)",
    ]


def test_rates_and_sizes_that_are_all_different_are_compared_with_the_class() -> None:
    record(Path("clips/bow/a.mp4"))
    [clip] = decode("bow/a.mp4")
    clips = [
        clip._replace(
            file=clip.file._replace(label=label), facts=clip.facts._replace(rate=rate + take / 50, width=width + take)
        )
        for label, rate, width in (("bow", 29.0, 100), ("wave", 30.0, 150))
        for take in range(40)
    ]
    rates, sizes, _ = misleading(clips, None)
    assert rates.startswith(
        "frame rates go with the class (bow mostly 29 to 29.38 per second, wave mostly 30 to 30.38 "
    )
    assert sizes.startswith("frame sizes go with the class (bow mostly ")
    shuffled = [
        one._replace(file=one.file._replace(label="bow" if take % 2 else "wave")) for take, one in enumerate(clips)
    ]
    assert misleading(shuffled, None) == []


def test_one_common_rate_hides_no_others_and_sizes_no_proportions() -> None:
    record(Path("clips/bow/a.mp4"))
    [clip] = decode("bow/a.mp4")

    def warned(label: str, **facts: Any) -> DecodedClip:
        return clip._replace(file=clip.file._replace(label=label), facts=clip.facts._replace(**facts))

    clips = [warned("bow", rate=30.0) for _ in range(100)] + [
        warned("wave", rate=29.5 + take / 100) for take in range(25)
    ]
    [rates] = misleading(clips, None)
    assert "(bow mostly 30 per second, wave mostly 29.5 to 29.74 per second)" in rates
    clips = [warned("bow", width=300 + take, height=200) for take in range(40)] + [
        warned("wave", width=200, height=300 + take) for take in range(40)
    ]
    [proportions] = misleading(clips, None)
    assert proportions.startswith("frame proportions (width / height) go with the class (bow mostly 1.")


def test_sizes_of_one_area_have_no_ranges() -> None:
    record(Path("clips/bow/a.mp4"))
    [clip] = decode("bow/a.mp4")
    sizes = [(320, 240), (240, 320), (640, 120), (120, 640), (480, 160), (160, 480)]
    clips = [
        clip._replace(
            file=clip.file._replace(label="bow" if take % 2 else "wave"),
            facts=clip.facts._replace(width=width, height=height),
        )
        for take, (width, height) in enumerate(sizes * 2)
    ]
    assert not [warning for warning in misleading(clips, None) if "thousand pixels" in warning]


def test_pieces_of_copies_overlap_too() -> None:
    record(Path("clips/bow/a.mp4"))
    shutil.copy("clips/bow/a.mp4", "clips/bow/copy.mp4")
    clips = [*decode("bow/a.mp4", start=0.0, end=0.12), *decode("bow/copy.mp4", start=0.04, end=0.16)]
    with pytest.raises(UserError, match="pieces that overlap are in two parts"):
        refuse_overlaps(clips, ["train", "test"], "do this")
