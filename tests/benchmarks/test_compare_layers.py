import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import inference
from benchmarks.common import slug
from benchmarks.compare_layers import MEASURES, RATIOS, as_markdown, measure
from benchmarks.one_side import NETWORKS, SIZES, network
from benchmarks.stock_models import LAYERS, build
from motionbench.models.networks import build_model
from motionbench.params.schema import Params


@pytest.mark.parametrize("model", LAYERS)
def test_stock_layers_compute_what_ours_do(model: str, params_with: Callable[[dict[str, Any]], Params]) -> None:
    section, clip_shape = params_with({}).model(model), (8, 24, 24, 3)
    stock, ours = (builder(model, section, clip_shape, 4) for builder in (build, build_model))
    ours.set_weights(stock.get_weights())
    clips = np.random.default_rng(0).integers(0, 256, (2, *clip_shape), np.uint8)
    np.testing.assert_allclose(ours(clips), stock(clips), rtol=1e-4)


@pytest.mark.parametrize("model", LAYERS)
def test_the_first_size_is_that_of_params_yaml(model: str, params_with: Callable[[dict[str, Any]], Params]) -> None:
    params = params_with({})
    assert network(model, next(iter(SIZES))) == (params.model(model), params.data.clip_shape())


def test_each_type_of_cpu_has_a_file_of_its_own() -> None:
    assert slug("Intel(R) Xeon(R) Processor @ 2.60GHz, AVX512_SPR") == "intel-xeon-processor-2-60ghz-avx512-spr"
    assert slug("AMD EPYC, X86_V3") != slug("AMD EPYC, AVX512_ICL")


def test_page_shows_how_many_times_as_fast() -> None:
    figures = {"stock": 12.0, "ours": 4.0, "torch": 6.0, "torch compiled": 5.0}
    results = {each: {side: dict.fromkeys(MEASURES, value) for side, value in figures.items()} for each in NETWORKS}
    page = "\n".join(as_markdown(results, 3))
    assert page.count("| 3.00 ") == len(NETWORKS) * len(RATIOS)
    assert page.count("| 1.25 ") == len(NETWORKS) * len(RATIOS)
    assert page.count("| 6 (2.00) ") == len(NETWORKS) * len(MEASURES)
    without = {each: {side: sides[side] for side in ("stock", "ours")} for each, sides in results.items()}
    assert "| against torch" not in "\n".join(as_markdown(without, 3))


@pytest.mark.slow
def test_a_side_measures_all_that_the_page_shows() -> None:
    figures = measure("ours", "cnn3d", "20x50x130x1")
    assert figures.keys() == MEASURES.keys()
    assert all(value > 0 for value in figures.values())


def test_inference_shows_medians_and_the_medians_of_paired_ratios() -> None:
    sides = {inference.OURS: [2.0, 10.0, 3.0], "stock Keras": [8.0, 20.0, 9.0]}
    cases = [(*case, *each) for case in product(inference.COUNTS, inference.THREADS) for each in NETWORKS]
    page = "\n".join(inference.as_markdown(dict.fromkeys(cases, sides), 3))
    assert page.count("| 3 ") == page.count("| 9 (3.00) ") == len(cases) == 36
    assert "\n## 32 clips, 1 thread\n" in page


@pytest.mark.slow
def test_each_side_classifies_in_a_process_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results").mkdir()
    monkeypatch.setattr(sys, "argv", ["", "1"])
    for name, value in (("HERE", tmp_path), ("THREADS", (1,)), ("NETWORKS", [("20x50x130x1", "cnn3d")])):
        monkeypatch.setattr(inference, name, value)
    inference.main()
    [page] = tmp_path.glob("results/inference-*.md")
    assert page.read_text(encoding="utf-8") == capsys.readouterr().out
    assert page.read_text(encoding="utf-8").count("| cnn3d, 20x50x130x1 |") == 2
