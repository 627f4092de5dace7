"""The champion in use: promoted, chosen by hand, described, loaded."""

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

import mlflow
import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from motionbench.core.commands import deferred_interrupts
from motionbench.core.dvc_files import read_lock
from motionbench.core.errors import UserError, one_line
from motionbench.data.params import Preprocessing
from motionbench.data.splits import Clips
from motionbench.data.synthetic.frames import FRAME_SECONDS
from motionbench.tracking.address import store_name
from motionbench.tracking.errors import OutOfReachError, store_errors
from motionbench.tracking.from_files import clip_md5s
from motionbench.tracking.model_registry import find_version
from motionbench.tracking.record import REGISTERED
from motionbench.tracking.serving import LOGGER, describe_model
from motionbench.tracking.store import open_store

CHAMPION, CHALLENGER = "champion", "challenger"  # aliases


def promote(md5: str, started: str) -> None:
    """Put the champion of a comparison that has just run in use, unless the one in use is of a later comparison.

    Args:
        md5: of its archive.
        started: when the comparison started, as its version is tagged.
    """
    chosen, in_use = find_version(REGISTERED, md5), version_in_use()
    if chosen is None or (in_use and in_use.version == chosen.version):
        return
    if in_use and in_use.tags.get("started", "") > started:
        print(f"{_named(chosen)} is not in use: {_named(in_use)} is of a later comparison; {_how_to_use(chosen)}")
    else:
        _set_champion(chosen)


def challenge(md5: str, started: str) -> None:
    """Give the challenger of a comparison its alias, unless it is in use, or the one that has it is of a later one.

    Args:
        md5: of its archive.
        started: when the comparison started, as its version is tagged.
    """
    chosen, in_use, before = find_version(REGISTERED, md5), version_in_use(), version_in_use(CHALLENGER)
    later = before and before.tags.get("started", "") > started
    if chosen and not later and not (in_use and in_use.version == chosen.version):
        mlflow.MlflowClient().set_registered_model_alias(REGISTERED, CHALLENGER, chosen.version)


def version_in_use(alias: str = CHAMPION) -> ModelVersion | None:
    """Return the version with the alias `champion`, or another."""
    client = mlflow.MlflowClient()
    for model in client.search_registered_models(f"name = '{REGISTERED}'"):
        if alias in model.aliases:
            return client.get_model_version(REGISTERED, model.aliases[alias])
    return None


def _set_champion(chosen: ModelVersion) -> None:
    """Give a version the alias `champion`; it is no challenger any more."""
    challenger, client = version_in_use(CHALLENGER), mlflow.MlflowClient()
    client.set_registered_model_alias(REGISTERED, CHAMPION, chosen.version)
    if challenger and challenger.version == chosen.version:
        client.delete_registered_model_alias(REGISTERED, CHALLENGER)


def use_version(number: str) -> str:
    """Put a version of the champions in use, whatever is in use now, and say what it is.

    Raises:
        UserError: if there is no version of this number, or the store is unavailable.
    """
    with store_errors(), deferred_interrupts():
        open_store()
        chosen = next((each for each in _versions() if str(each.version) == number), None)
        if chosen is None:
            raise UserError(f"VERSION: {number}: {REGISTERED} has no such version; list them: make promote")
        _set_champion(chosen)
        return f"in use: {_named(chosen)}"


def list_versions() -> list[str]:
    """Return a line for each version of the champions, the newest first.

    Raises:
        UserError: if there is none, or the store is unavailable.
    """
    with store_errors():
        open_store()
        versions, in_use = _versions(), version_in_use()
    if not versions:
        raise UserError(
            f"no version of {REGISTERED} in MLflow's store {store_name()}; a comparison registers one: make repro; to "
            "restore those of the files here: make mlflow-sync"
        )
    return [f"{_named(each)}{' IN USE' if in_use and in_use.version == each.version else ''}" for each in versions]


def champion_not_in_use(md5: str) -> str | None:
    """Say of the champion with this archive that it is registered and not in use, and how to use it."""
    with store_errors():
        chosen, in_use = find_version(REGISTERED, md5), version_in_use()
    if chosen is None or (in_use and in_use.version == chosen.version):
        return None
    now = f"version {in_use.version} is" if in_use else "none is"
    return f"{_named(chosen)} is registered and not in use, {now}; {_how_to_use(chosen)}"


def describe_champion_in_use(started: str, data: Mapping[str, str] | None) -> list[str]:
    """Say what becomes of the champion in use, for the report of a comparison.

    Args:
        started: when the comparison started, as versions are tagged.
        data: md5s of the comparison's clips, by tag, if it makes no champion.
    """
    in_use = version_in_use()
    still = f"The champion in use is still {_named(in_use)}, which" if in_use else ""
    if data is None:
        if not in_use or in_use.tags.get("started", "") <= started:
            return []
        return [f"{still} is of a later comparison; to use another: make promote."]
    if not in_use:
        return ["No champion is in use."]
    clips = {True: "the same clips", False: "OTHER clips", None: "clips that are not recorded"}
    return [f"{still} was made from {clips[_is_made_from(in_use, data)]}."]


def _is_made_from(version: ModelVersion, data: Mapping[str, str]) -> bool | None:
    """Return whether the clips of a version are those with these md5s, by tag; None if that is not known."""
    recorded = {key: md5 for key, md5 in version.tags.items() if key.startswith("data.md5.")}
    return all(data.get(key) == md5 for key, md5 in recorded.items()) if recorded and data else None


def _versions() -> list[ModelVersion]:
    """Return the versions of the champions, the newest first."""
    found = mlflow.MlflowClient().search_model_versions(f"name = '{REGISTERED}'", order_by=["version_number DESC"])
    return list(found)


def _named(version: ModelVersion) -> str:
    return f"version {version.version} of {REGISTERED} ({describe_model(version.tags)})"


def _how_to_use(version: ModelVersion) -> str:
    return f"to use it: make promote VERSION={version.version}"


class Champion(NamedTuple):
    """The registered model that is in use."""

    name: str
    what: str  # which version it is, and what it was made from
    preprocessing: Preprocessing  # of the clips that it was trained with
    seconds: float  # their median duration
    predict: Callable[[Clips], pd.DataFrame]  # returns the probability of each class, a column each


def load_champion() -> Champion:
    """Load the champion, with what it needs to know of its training to classify a file.

    Raises:
        UserError: if there is no champion, if its files are gone, or if the store fails. Its function raises it for
            clips of another shape than the champion was trained on.
    """
    with store_errors():
        open_store()
        if (champion := version_in_use()) is None:
            raise UserError(
                f"no champion in MLflow's store {store_name()}; a model becomes one when it passes the gate in "
                "params.yaml: make repro; to use an earlier one: make promote; to log the models of the files here "
                "again: make mlflow-sync"
            )
    LOGGER.setLevel(logging.WARNING)  # The caller says what the champion is.
    try:
        with store_errors():
            # Its comparison of the installed packages with those required takes a second; they are the lock's here.
            model = mlflow.pyfunc.load_model(f"models:/{REGISTERED}/{champion.version}", suppress_warnings=True)
    except UserError as error:
        if isinstance(error, OutOfReachError):
            raise
        reason = str(error).partition("; ")[0]  # without what would help with another file
        raise UserError(
            f"{_named(champion)} cannot be loaded: {reason}; to log the models of the files here again: "
            "make mlflow-sync; to use another version: make promote"
        ) from error

    def predict(clips: Clips) -> pd.DataFrame:
        try:
            return pd.DataFrame(model.predict(clips))
        except MlflowException as error:
            raise UserError(f"the champion refuses the clip: {one_line(error)}") from error

    described = model.metadata.metadata or {}
    frames, height, width, channels = described["clip_shape"]
    # A model that an earlier version of this project logged does not say how clips of other shapes are resized.
    resize = described.get("resize", "pad")
    preprocessing = Preprocessing(frames, height, width, "grey" if channels == 1 else "rgb", resize)
    seconds = described.get("seconds") or frames * FRAME_SECONDS
    what = _named(champion)
    if _is_made_from(champion, _recorded_clips()) is False:
        what = f"{what}: OTHER clips than dvc.lock records here"
    return Champion(f"{REGISTERED} version {champion.version}", what, preprocessing, seconds, predict)


def _recorded_clips() -> dict[str, str]:
    """Return the md5s by tag of the clips that dvc.lock records here; none if it does not."""
    with suppress(UserError):
        lock = read_lock()
        if "generate" in lock:
            return clip_md5s(lock["generate"].outs)
    return {}
