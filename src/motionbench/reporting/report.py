"""The comparison as tables: on the terminal, as Markdown and as one self-contained HTML page."""

import base64
import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from motionbench.evaluation.results import Models
from motionbench.models.registry import CONTENDERS
from motionbench.reporting.tables import (
    class_rows,
    perturbation_header,
    perturbation_rows,
    perturbed_clips,
    summary_rows,
)


def write_reports(
    folder: Path, models: Models, class_names: Sequence[str], sentences: Sequence[str], pictures: Mapping[str, str],
    origin: Mapping[str, str],
) -> None:  # fmt: skip
    """Write report.md, which links the pictures in `folder`, and report.html, which holds them.

    Args:
        sentences: the verdict, and what else there is to say before the evidence.
        pictures: name to caption, as `draw_pictures` returns them.
        origin: run_id, url and commit of the run that drew them.
    """
    environment = Environment(
        loader=PackageLoader("motionbench.reporting"),
        autoescape=select_autoescape(["html.j2"]), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters["data_url"] = lambda name: _data_url(folder / f"{name}.png")
    # Neither tags nor links, of which some load pictures.
    environment.filters["markdown"] = lambda text: re.sub(r"([\\`|\[\]])", r"\\\1", html.escape(text))
    for name in ("report.md", "report.html"):
        text = environment.get_template(f"{name}.j2").render(
            sentences=sentences,
            models=list(models),
            title=", ".join(CONTENDERS[:-1]) + f" or {CONTENDERS[-1]}?",
            summary=summary_rows(models),
            perturbation_header=perturbation_header(models),
            perturbations=perturbation_rows(models),
            perturbed_clips=perturbed_clips(models),
            classes=class_rows(models, class_names),
            pictures=pictures,
            origin=origin,
        )
        (folder / name).write_text(text, encoding="utf-8")


def _data_url(picture: Path) -> str:
    content = base64.b64encode(picture.read_bytes()).decode()
    return f"data:image/png;base64,{content}"
