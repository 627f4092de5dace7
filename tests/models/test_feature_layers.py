import numpy as np

from motionbench.models.feature_layers import FrameDifferences, LessMeanOverTime, MeansOverTime, cell_weights


def test_differences_of_frames_are_averaged_over_cells_of_one_size() -> None:
    clips = np.random.default_rng(0).integers(0, 256, (2, 3, 6, 8, 3), dtype=np.uint8)
    differences = np.abs(np.diff(clips.mean(axis=-1), axis=1)) / 255
    cells = differences.reshape(2, 2, 2, 3, 2, 4).mean(axis=(3, 5))[..., np.newaxis]
    found = FrameDifferences(2)(clips).numpy()
    np.testing.assert_allclose(found[:, 1:], cells, rtol=1e-5)
    assert not found[:, 0].any(), "nothing comes before the first frame"
    # Pixels on borders: as if each pixel were four times as many each way.
    finer = FrameDifferences(4)(clips.repeat(4, axis=2).repeat(4, axis=3))
    np.testing.assert_allclose(FrameDifferences(4)(clips), finer, rtol=1e-5)
    np.testing.assert_allclose(cell_weights(2, 5).sum(axis=1), 1, rtol=1e-6)


def test_sums_over_time_see_the_order_or_do_not() -> None:
    features = np.random.default_rng(0).normal(size=(2, 8, 2, 2, 3)).astype("float16")
    backwards = features[:, ::-1]
    in_order, bag = MeansOverTime(in_order=True), MeansOverTime(in_order=False)
    np.testing.assert_allclose(bag(backwards), bag(features), atol=1e-5)
    assert bag(features).shape == (2, 24)
    mean, changes, *quarters = np.split(in_order(features).numpy(), 6, axis=1)
    mean_back, changes_back, *quarters_back = np.split(in_order(backwards).numpy(), 6, axis=1)
    np.testing.assert_allclose((mean_back, changes_back), (mean, changes), atol=1e-5)
    np.testing.assert_allclose(quarters_back, quarters[::-1], atol=1e-5)
    flat = features.reshape(2, 8, 12).astype(float)
    np.testing.assert_allclose(quarters[0], flat[:, :2].mean(axis=1) - flat.mean(axis=1), atol=1e-3)
    np.testing.assert_allclose(LessMeanOverTime()(features).numpy().mean(axis=1), 0, atol=1e-5)
