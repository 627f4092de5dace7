"""Progress of clips, replicates and trials: bars on a terminal; elsewhere one line per epoch or trial."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from motionbench.core.paths import ReplicateKey


def _bars(measured: str) -> Progress:
    """Return bars that show `measured` beside them; disabled where there is no terminal."""
    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(measured))
    remaining = TimeRemainingColumn(elapsed_when_finished=True)
    return Progress(*columns, remaining, console=console, disable=not console.is_terminal)


@contextmanager
def epoch_progress(
    model_name: str, keys: Sequence[ReplicateKey], epochs: int
) -> Iterator[Callable[[ReplicateKey, Mapping[str, Any]], None]]:
    """Yield a function that shows a finished epoch of a replicate.

    The time left is that to the last epoch, if none stops early.
    """
    losses = (
        "validation loss {task.fields[validation_loss]:.3f} accuracy {task.fields[validation_accuracy]:.3f} at most"
    )
    unknown: dict[str, Any] = {"validation_loss": float("nan"), "validation_accuracy": float("nan")}
    line = (
        "{} {} epoch {epoch}: loss {loss:.4f}, validation loss {validation_loss:.4f}, "
        "validation accuracy {validation_accuracy:.4f}"
    )
    with _bars(losses) as progress:
        bars = {key: progress.add_task(f"{model_name} {key}", total=epochs, **unknown) for key in keys}

        def show(key: ReplicateKey, epoch: Mapping[str, Any]) -> None:
            progress.update(bars[key], completed=epoch["epoch"], **{key: epoch[key] for key in unknown})
            if progress.disable:
                print(line.format(model_name, key, **epoch), flush=True)

        yield show


@contextmanager
def clip_progress(stage: str, total: int, what: str) -> Iterator[Callable[[], None]]:
    """Yield a function that shows that one more of `total` is done, of `what`, as in "clips decoded"."""
    with _bars(what) as progress:
        bar = progress.add_task(stage, total=total)
        yield lambda: progress.advance(bar)


@contextmanager
def trial_progress(study_name: str, total: int) -> Iterator[Callable[[int, int, float | None, str], None]]:
    """Yield a function that shows the number of trials done and pruned, the best loss, and a line of text.

    The line is printed only where there is no terminal.
    """
    with _bars("{task.fields[pruned]} pruned, best {task.fields[best]}") as progress:
        bar = progress.add_task(study_name, total=total, pruned=0, best="-")

        def show(done: int, pruned: int, best: float | None, line: str) -> None:
            progress.update(bar, completed=done, pruned=pruned, best="-" if best is None else f"{best:.3g}")
            if progress.disable and line:
                print(f"{study_name}: {line} ({done} of {total} done)", flush=True)

        yield show
