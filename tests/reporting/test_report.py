import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from motionbench.comparison.audit import AuditCheck
from motionbench.comparison.findings import Findings
from motionbench.comparison.notes import Search
from motionbench.core.paths import ReplicateKey
from motionbench.reporting.report import (
    describe_classes,
    describe_missed_clips,
    describe_models,
    describe_perturbations,
    describe_perturbed,
    print_summary,
    write_reports,
)
from tests.comparison.made_up import (
    CLASS_NAMES,
    FILES,
    FIVE,
    GROUPS,
    HOSTILE,
    THREE,
    change,
    compared,
    models,
    register,
    result,
)
from tests.conftest import ROOT

ORIGIN = {"run_id": "1234567890", "url": "https://mlflow/#/runs/1234567890", "commit": "abcdefghij"}
PICTURES = ("cost", "reliability", "perturbations", "confusions", "learning_curves", "samples", "disagreements")


BOTH = compared(models(result(80), result(70), baseline=result(75)))


def write(folder: Path, findings: Findings, notes: Sequence[str] = ("a note",)) -> tuple[str, str]:
    """Write the reports, their pictures empty files, and return the page and the Markdown."""
    for name in PICTURES:
        (folder / f"{name}.png").touch()
    write_reports(folder, findings, notes, {name: f"About {name}" for name in PICTURES}, ORIGIN)
    return (folder / "report.html").read_text(encoding="utf-8"), (folder / "report.md").read_text(encoding="utf-8")


def test_names_cannot_inject_html_or_pictures(tmp_path: Path) -> None:
    page, text = write(tmp_path, BOTH._replace(verdict=[HOSTILE]), [HOSTILE, "*a* _b_ $c$ ~d~ e_f"])
    assert r"\*a\* \_b\_ \$c\$ \~d\~ e_f" in text, "neither emphasis nor a formula"
    for written in (page, text):
        assert "&lt;b&gt;" in written
        assert "<b>" not in written
    assert not re.search(r"[^\\]\]\(http:", text), "a picture from elsewhere"


def test_every_picture_is_shown_with_its_origin(tmp_path: Path) -> None:
    page, text = write(tmp_path, BOTH)
    assert page.count(f'<a href="{ORIGIN["url"]}">MLflow run 12345678</a>, commit\nabcdefgh.') == len(PICTURES)
    assert text.count(f"[MLflow run 12345678]({ORIGIN['url']}), commit abcdefgh.") == len(PICTURES)
    for name in PICTURES:
        assert f"![About {name}]({name}.png)" in text


def test_the_title_asks_which_contender_and_the_verdict_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, THREE)
    found = compared(models(result(80), result(70), result(60)))
    page, text = write(tmp_path, found)
    assert "<h1>cnn_lstm, convlstm or cnn3d?</h1>" in page
    assert page.count('<p class="verdict">') == len(found.verdict) == 4
    assert all(f'<p class="verdict">{sentence}</p>' in page for sentence in found.verdict)
    bold = "\n\n".join(f"**{sentence}**" for sentence in found.verdict)
    assert text.startswith(f"# cnn_lstm, convlstm or cnn3d?\n\n{bold}\n\na note\n")


def tables(text: str) -> list[list[list[str]]]:
    """The tables of a Markdown text: rows of cells, which may hold escaped bars."""
    found = re.findall(r"(?m)(?:^\|.*\|$\n)+", text)
    return [[re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines()] for table in found]


def test_tables_of_three_contenders_have_a_cell_per_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, THREE)
    page, text = write(tmp_path, compared(models(result(80), result(70), result(60))))
    summary, perturbed, classes = tables(text)
    for table in (summary, perturbed, classes):
        assert {len(row) for row in table} == {len(table[0])}
    pairs = ["cnn_lstm less convlstm", "cnn_lstm less cnn3d", "convlstm less cnn3d"]
    header = ["perturbation", "level", *THREE, "single_frame", "bag_of_frames"]
    assert [cell.strip() for cell in perturbed[0]] == [*header, *(cell for pair in pairs for cell in (pair, "p"))]
    plain = page.replace("<wbr>", "")
    for pair in pairs:
        assert f"<th>{pair}</th><th>p</th>" in plain
    rows = [row.count("<td>") or row.count("<th>") for row in re.findall(r"(?s)<tr>.*?</tr>", plain)]
    assert rows == [6] * len(summary[1:]) + [13] * len(perturbed[1:]) + [5] * len(classes[1:])


def test_one_seed_claims_nothing_of_training_again(tmp_path: Path) -> None:
    again = "as these networks and trained again; it is adjusted"
    for written in write(tmp_path, BOTH):
        assert "95 % intervals of these networks; p tests" in written
        assert again not in written
        assert "95 % interval, if seeds differ by 3 points" in written
    for written in write(tmp_path, compared(models(result(80, 80), result(70, 70)))):
        assert again in written
        assert "if seeds differ" not in written


def sections(text: str) -> dict[str, str]:
    """Heading and content of each section of a Markdown text."""
    return dict(part.split("\n", 1) for part in text.split("\n## ")[1:])


def test_there_is_no_part_without_content(tmp_path: Path) -> None:
    for written in write(tmp_path, compared(models(result(80, at_speed={}), result(70, at_speed={})))):
        for part in ("Perturbed", "Groups, mean", "every contender misses", "Leak audit", "FIRES", "machine"):
            assert part not in written


def test_the_report_shows_the_worst_groups_first(tmp_path: Path) -> None:
    found = compared(models(result(80, 80), result(62, 60), controls=(0, 80)), groups=GROUPS)
    page, text = write(tmp_path, found)
    [table] = tables(sections(text)["Groups, mean over the seeds"])
    assert {len(row) for row in table} == {6}
    rows = [[cell.strip() for cell in row] for row in table[2:]]
    assert rows[:3] == [
        ["person 8", "8", "1.000", "0.000", "0.000", "1.000"],
        ["person 9", "8", "1.000", "0.000", "0.000", "1.000"],
        ["person 7", "8", "1.000", "0.625", "0.000", "1.000"],
    ]
    assert rows[3][0] == "person 0"
    assert len(rows) == page.count("<td>person") == 10
    assert "more are in" not in text


def test_the_report_shows_some_groups_and_says_how_many_more(tmp_path: Path) -> None:
    many = np.array([f"{HOSTILE}\x1b[31m\n{number // 2:02}" for number in range(80)], object)
    page, text = write(tmp_path, compared(models(result(80), result(70)), groups=many))
    [table] = tables(sections(text)["Groups, mean over the seeds"])
    assert len(table) == 2 + 30
    assert "\n10 more are in metrics/comparison/groups.csv.\n" in text
    assert "<p>10 more are in metrics/comparison/groups.csv.</p>" in page
    for written in (page, text):
        assert "\x1b" not in written
        assert "<b>" not in written
    assert not re.search(r"[^\\]\]\(http:", text), "a picture from elsewhere"


def test_the_report_shows_the_clips_that_every_contender_misses(tmp_path: Path) -> None:
    made = models(result(50, 50, 80), result(55, 55, 80))
    found = compared(made, files=FILES)
    page, text = write(tmp_path, found)
    section = sections(text)["Clips that every contender misses"]
    [table] = tables(section)
    assert {len(row) for row in table} == {4}
    assert len(table) == 2 + 20
    assert "25 of the 80 clips: more than half" in section
    assert section.rstrip().endswith("5 more.")
    assert describe_missed_clips(found).rows[0] == [
        f"wave/{HOSTILE}55.mp4",
        CLASS_NAMES[0],
        CLASS_NAMES[1],
        CLASS_NAMES[1],
    ]
    assert describe_missed_clips(compared(made)).rows[0][0] == "55"
    hostile = np.array(["a\n\x1b[31m.mp4"] * 80, object)
    assert describe_missed_clips(compared(made, files=hostile)).rows[0][0] == r"a\n\x1b[31m.mp4"
    for written in (page, text):
        assert "<b>" not in written
    assert page.count("<td>wave/&lt;b&gt;") == 20


def test_the_audit_shows_what_fires(tmp_path: Path) -> None:
    findings = [
        AuditCheck("single_frame", "the first frame alone", 0.5, 0.875, False, "is not enough"),
        AuditCheck("metadata", "rate, audio", 0.9, 0.25, True, HOSTILE),
        AuditCheck("duplicates", "decoded pixels", None, None, False, "none"),
    ]
    page, text = write(tmp_path, BOTH._replace(audit=findings))
    headings = re.findall(r"<h2>(.*)</h2>", page)
    assert headings[:3] == ["On the test split", "Leak audit", "Perturbed"]
    assert re.findall(r"(?m)^## (.*)$", text) == headings
    [firing] = re.findall(r'<tr class="fires">.*</tr>', page)
    assert firing.startswith('<tr class="fires"><td>metadata</td><td>0.900</td><td>0.250</td><td>FIRES')
    assert page.count("FIRES") == 1
    audit = tables(text)[1]
    assert {len(row) for row in audit} == {5}
    assert audit[2] == [f" {cell} " for cell in ("single frame", "0.500", "0.875", "silent", "is not enough")]
    assert audit[3][:4] == [" **metadata** ", " **0.900** ", " **0.250** ", " **FIRES** "]
    assert audit[4] == [" duplicates ", "  ", "  ", " silent ", " none "]
    for written in (page, text):
        assert "<b>" not in written


def test_machines_that_differ_are_shown_with_what_they_trained(tmp_path: Path) -> None:
    found = compared(models(result(80, 80), result(70, 70)))
    found.models["convlstm"].training.machines[ReplicateKey(1)] = HOSTILE
    page, text = write(tmp_path, found)
    [table] = tables(sections(text)["Training"])
    rows = [[cell.strip() for cell in row] for row in table]
    assert rows[0] == ["machine", *found.models]
    assert rows[2] == ["machine", "seed 0, seed 1", "seed 0", "seed 0, seed 1", "seed 0, seed 1"]
    assert rows[3][1:] == ["", "seed 1", "", ""]
    assert page.count("<td>seed 1</td>") == 1
    for written in (page, text):
        assert "<b>" not in written


def test_each_level_has_the_differences_of_each_two_of_three(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, THREE)
    speeds = ({0.5: [80], 2.0: [80]}, {0.5: [70], 2.0: [80]}, {0.5: [80], 2.0: [60]})
    made = models(*(result(80, at_speed=each) for each in speeds), controls=(20, 20))
    unchanged, slow, fast = describe_perturbed(compared(made)).rows
    assert unchanged[:7] == ["unchanged", "", "1.000", "1.000", "1.000", "0.250", "0.250"]
    assert slow[:7] == ["speed", "0.5", "1.000", "0.875", "1.000", "0.250", "0.250"]
    assert fast[:7] == ["speed", "2", "1.000", "1.000", "0.750", "0.250", "0.250"]
    # Differences of first and second, first and third, second and third.
    assert [cell.split(" ")[0] for cell in slow[7::2]] == ["+0.125", "+0.000", "-0.125"]
    assert [cell.split(" ")[0] for cell in fast[7::2]] == ["+0.000", "+0.250", "+0.250"]
    # Of nine p-values by Benjamini and Hochberg's procedure: the two smallest times 9/2, the next two times 9/4.
    p_slow, p_fast = 2 * 0.5**10 * 9 / 4, 2 * 0.5**20 * 9 / 2
    assert slow[8::2] == [f"{p_slow:.2g}", "1", f"{p_slow:.2g}"]
    assert fast[8::2] == ["1", f"{p_fast:.2g}", f"{p_fast:.2g}"]


def test_where_nothing_can_be_shown_there_is_no_p_value_but_why(tmp_path: Path) -> None:
    few = np.array([f"person {number // 20}" for number in range(80)], object)
    why = "Where it is missing, these clips are in too few groups to show any difference."
    found = compared(models(result(80, 80), result(70, 70)), groups=few)
    assert [row[-1] for row in describe_perturbed(found).rows] == ["-", "-"]
    for written in write(tmp_path, found):
        assert why in written
    for written in write(tmp_path, compared(models(result(80, 80), result(70, 70)), groups=GROUPS)):
        assert why not in written


def test_the_summary_has_a_cell_per_model() -> None:
    search = Search(study="s", trials=40, number=7, validation_loss=0.1, search_loss=0.1, retrained_loss=0.2)
    found = change(compared(models(result(80, 80), result(60, 80, latency=2.0))), "convlstm", search=search)
    rows = {name: cells for name, *cells in describe_models(found).rows}
    assert {len(cells) for cells in rows.values()} == {4}
    assert rows["test clips right, per seed"][:2] == ["80/80, 80/80", "60/80, 80/80"]
    # Of one seed 20 clips are wrong, all of the class of 60: its recall is 2/3, the other's 1.
    assert (rows["accuracy, mean"][1], rows["balanced accuracy, mean"][1]) == ("0.8750", "0.9167")
    assert rows["log loss (nats)"][0] == f"{-np.log(0.9):.3f}"
    assert rows["expected calibration error"][0] == "0.100"
    assert rows["parameters"][0] == "13,039"
    assert rows["million FLOPs per clip"][0] == "1"
    assert rows["latency of one clip (ms, quartiles)"][1] == "2.0 (1.8 to 2.2)"
    assert rows["tuning"] == ["none", "40 trials", "none", "none"]


def test_measures_of_a_class_are_means_over_the_seeds() -> None:
    found = compared(models(result(80, 80), result(80, 40)))
    rows = describe_classes(found).rows
    assert [row[:2] for row in rows] == [[name, model] for name in CLASS_NAMES for model in found.models]
    # Of one seed 20 clips of each class are right and 40 of the first wrong: recalls 1/3 and 1, precisions 1 and 1/3.
    assert [row[2:] for row in rows[:2]] == [["1.000"] * 3, ["1.000", "0.667", "0.750"]]
    assert rows[5][2:] == ["0.667", "1.000", "0.750"]


def test_the_terminal_tells_what_the_report_tells(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    notes = [*BOTH.notes, "No [bold]markup[/bold]."]
    print_summary(BOTH, notes, Path("reports/report.html"))
    shown = capsys.readouterr().out
    assert shown.endswith("No [bold]markup[/bold].\nThe report: reports/report.html\n")
    _, text = write(tmp_path, BOTH, notes)
    for sentence in [*BOTH.verdict, *BOTH.notes]:
        assert f"\n{sentence}\n" in shown
        assert sentence in text


def test_the_terminals_table_has_a_row_per_model_in_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, FIVE)
    found = compared(models(*[result(70, 72, 74, latency=123.4)] * 5, baseline=result(70, 70, 70, latency=123.4)))
    print_summary(found, [], Path("report.html"))
    lines = capsys.readouterr().out.partition("Between")[0].splitlines()
    assert max(map(len, lines)) <= 80
    rows = {line.split()[0]: line for line in lines if line.split()}
    assert all(name in rows for name in found.models)
    assert all("123.4 ms" in rows[name] for name in FIVE)


def test_page_of_perturbations_is_up_to_date() -> None:
    assert (ROOT / "docs/perturbations.md").read_text(encoding="utf-8") == describe_perturbations(), "run: make docs"
