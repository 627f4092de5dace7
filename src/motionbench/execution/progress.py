"""Progress of replicates and trials: bars on a terminal, one line per epoch or trial elsewhere."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def epoch_progress(model_name: str, seeds: Sequence[int], epochs: int) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Yield a function that shows a finished epoch. The time left is that to the last epoch, if none stops early."""
    console = Console()
    measured = "validation loss {task.fields[loss]:.3f} accuracy {task.fields[accuracy]:.3f}"
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(measured),
        TextColumn("at most"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bars = {
            seed: progress.add_task(f"{model_name} seed {seed}", total=epochs, loss=float("nan"), accuracy=float("nan"))
            for seed in seeds
        }

        def show(epoch: Mapping[str, Any]) -> None:
            bar = bars[epoch["seed"]]
            progress.update(
                bar, completed=epoch["epoch"], loss=epoch["validation_loss"], accuracy=epoch["validation_accuracy"]
            )
            if not console.is_terminal:
                print(
                    f"{model_name} seed {epoch['seed']} epoch {epoch['epoch']}: loss {epoch['loss']:.4f}, "
                    f"validation loss {epoch['validation_loss']:.4f}, "
                    f"validation accuracy {epoch['validation_accuracy']:.4f}",
                    flush=True,
                )

        yield show


@contextmanager
def trial_progress(study_name: str, total: int) -> Iterator[Callable[[int, int, float | None, str], None]]:
    """Yield a function that shows how many trials are done, how many of them pruned, the best loss, and a quiet line.

    The line is printed only where there is no terminal.
    """
    console = Console()
    measured = "{task.fields[pruned]} pruned, best {task.fields[best]}"
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(measured),
        TimeRemainingColumn(elapsed_when_finished=True),
    )  # fmt: skip
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task(study_name, total=total, pruned=0, best="-")

        def show(done: int, pruned: int, best: float | None, line: str) -> None:
            progress.update(bar, completed=done, pruned=pruned, best="-" if best is None else f"{best:.3g}")
            if not console.is_terminal and line:
                print(f"{study_name}: {line} ({done} of {total} done)", flush=True)

        yield show
