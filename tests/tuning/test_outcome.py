from pathlib import Path

import pytest

from motionbench.core.errors import UserError
from motionbench.tuning.outcome import read_outcome


def test_damaged_or_missing_outcome_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing; search first: make tune MODEL=convlstm"):
        read_outcome(tmp_path, "convlstm")
    (tmp_path / "best.json").write_text('{"study": 3', encoding="utf-8")
    with pytest.raises(UserError, match="not readable; write it again"):
        read_outcome(tmp_path, "convlstm")
