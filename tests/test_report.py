"""The table, its answers and its layouts, from records with known figures."""

import csv
import io

import msgspec
import pytest

from fercore import findings, paper, report
from tests.records import record, study


def rows(table, block=0):
    return {f"{row.label}{'*' * row.detail}": row.cells for row in table.blocks[block]}


def test_columns_stand_as_in_the_paper():
    assert report.make_table(study()).columns == (
        "BL",
        *("FC 50", "FC 100"),
        *("FU 50", "FU 100"),
        *("TO 50", "TO 100"),
    )
    shuffled = [study()[i] for i in (0, 2, 4, 6, 1, 3, 5)]  # a plan runs amount by amount
    assert report.make_table(shuffled).columns == report.make_table(study()).columns


def test_accuracies_with_n_interval_and_the_papers_figures():
    block = report.make_table(study()).blocks[0]
    labels = [row.label for row in block]
    assert labels[:6] == [
        *("fer2013 (n=1000)", "95 % interval", "paper"),
        *("jaffe (n=50)", "95 % interval", "paper"),
    ]
    assert block[0].cells[:3] == ("60.00", "50.00", "45.00")
    assert block[1].cells[0] == "56.9..63.0"  # Wilson, 600 of 1000
    assert block[2].cells == ("68.35", "43.08", "44.61", "67.69", "68.40", "", "")
    assert block[5].cells[:3] == ("40.30", "53.73", "55.22")


def test_forgetting_and_gain():
    block = report.make_table(study()).blocks[0]
    changes = {row.label: row.cells for row in block}
    assert changes["forgetting"] == (
        *("", "+10.00", "+15.00", "+0.00", "-1.00"),
        *("+40.00", "+40.00"),
    )
    assert changes["target gain"][1:5] == ("+10.00", "+20.00", "+10.00", "+30.00")
    # Newcombe: 600/1000 - 500/1000; the baseline itself has no change.
    at = [row.label for row in block].index("forgetting") + 1
    assert block[at].cells[:2] == ("", "+5.6..+14.3")


def test_a_source_of_our_own_has_no_paper_rows():
    mine = [record(), record("FC", 50)]
    table = report.make_table([msgspec.structs.replace(r, source="mine") for r in mine])
    assert not any(row.label == "paper" for row in table.blocks[0])


def test_targets_of_our_own_have_no_paper_rows():
    mine = [msgspec.structs.replace(r, target="mine") for r in study()]
    assert not any(row.label == "paper" for row in report.make_table(mine).blocks[0])


def test_each_target_is_a_block():
    both = [*study(), *(msgspec.structs.replace(r, target="mug") for r in study())]
    table = report.make_table(both)
    assert len(table.blocks) == 2
    assert any("mug (n=50)" in row.label for row in table.blocks[1])


def test_several_seeds_give_mean_and_deviation():
    repeated = [msgspec.structs.replace(r, seed=1, source_accuracy=0.5) for r in study()]
    table = report.make_table([*study(), *repeated])
    assert table.blocks[0][0].cells[0] == "55.00 ±7.07"
    assert table.blocks[0][1].cells[0] == "51.9..58.1"  # of the mean, for 1000 images
    assert "2 seeds" in table.title
    assert any(note.startswith("All seeds share the parts") for note in table.notes)
    assert not any("seeds" in note for note in report.make_table(study()).notes)


def test_synthetic_faces_are_announced():
    table = report.make_table([msgspec.structs.replace(r, synthetic=True) for r in study()])
    assert table.title.startswith("SYNTHETIC FACES")
    for render in (report.to_text, report.to_markdown, report.to_latex):
        assert "SYNTHETIC FACES" in render(table)
    assert "SYNTHETIC" not in report.to_text(report.make_table(study()))


def test_missing_classes_get_their_own_rows():
    six = [
        msgspec.structs.replace(r, shared_classes=6, source_accuracy_shared=0.75) for r in study()
    ]
    table = report.make_table(six)
    cells = {row.label: row.cells for row in table.blocks[0]}
    assert cells["fer2013, shared classes (n=1000)"][0] == "75.00"
    assert any("share 6 of 7 classes" in note for note in table.notes)


def test_small_test_sets_are_noted():
    notes = report.make_table(study()).notes
    assert "jaffe has 50 test images: an accuracy near 50 % is known to ±13 points." in notes
    one = [msgspec.structs.replace(r, n_target=1, target_accuracy=1.0) for r in study()]
    notes = report.make_table(one).notes
    assert any(note.startswith("jaffe has 1 test image: an accuracy near") for note in notes)


def test_the_best_strategy_is_chosen_on_validation_not_on_test():
    records = study()
    records[1] = msgspec.structs.replace(  # FC 50: poor on test, best on validation
        records[1], source_validation_accuracy=0.9, target_validation_accuracy=0.9
    )
    assert findings.by_target(records)[0].best().name == "FC 50"
    best = next(answer for answer in report.make_table(records).answers if "best on both" in answer)
    assert "FC 50 (mean validation accuracy 90.0 %, of 1,000 and 20 images): 50.0 % on" in best


def test_whether_transfer_helps_is_said_with_its_interval():
    said = report.make_table(study()).answers[-1]
    assert "above TO 100 (34.0 %)" in said
    assert "FU 100 +36.0" in said
    assert said.count("] helps") == 2
    few = [msgspec.structs.replace(r, n_target=5) for r in study()]
    assert "undecided" in report.make_table(few).answers[-1]


def test_memory_lost_is_listed():
    assert report.make_table(study()).answers[0] == (
        "jaffe, memory lost (points of fer2013 accuracy below BL): FC 50 +10.0, FC 100 +15.0, "
        "FU 50 +0.0, FU 100 -1.0, TO 50 +40.0, TO 100 +40.0."
    )


def test_a_strategy_missing_for_one_target_leaves_empty_cells():
    records = [*study(), msgspec.structs.replace(record(), target="mug")]
    table = report.make_table(records)
    assert table.blocks[1][0].cells == ("60.00", "", "", "", "", "", "")


# -- layouts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [200, 60, 10])
def test_text_keeps_every_cell_whatever_the_width(width):
    table = report.make_table(study())
    text = report.to_text(table, width)
    body = text.partition("memory lost")[0]
    for row in table.blocks[0]:
        for cell in filter(None, row.cells):
            assert cell in body


def test_text_fits_the_terminal():
    text = report.to_text(report.make_table(study()), 80)
    lines = text.partition("jaffe, memory")[0].splitlines()[2:]
    assert max(map(len, lines)) <= 80
    assert len({len(line) for line in lines if line.startswith("---")}) <= 2


def test_markdown_rows_have_as_many_cells_as_the_header():
    lines = report.to_markdown(report.make_table(study())).splitlines()
    pipes = {line.count("|") for line in lines if line.startswith("|")}
    assert pipes == {9}


def test_latex_escapes_and_is_balanced():
    names = [msgspec.structs.replace(r, target="my_set") for r in study()]
    text = report.to_latex(report.make_table(names))
    assert r"my\_set (n=50)" in text
    assert r"95 \% interval" in text
    body = text.partition(r"\toprule")[2].partition(r"\bottomrule")[0]
    assert {line.count("&") for line in body.splitlines() if line.endswith(r"\\")} == {7}
    assert text.count(r"\begin") == text.count(r"\end")


def test_csv_reads_back():
    table = report.make_table(study())
    lines = list(csv.reader(io.StringIO(report.to_csv(table))))
    assert lines[0] == ["", *table.columns]
    assert lines[1][1:] == list(table.blocks[0][0].cells)


def test_the_papers_table_is_complete():
    # Spot checks against the published table, first and last columns of each target.
    assert paper.ACCURACIES["jaffe"]["BL", None] == (68.35, 40.30)
    assert paper.ACCURACIES["tfeid"]["FC+CL", 100] == (45.36, 87.93)
    assert paper.ACCURACIES["mug"]["FU", 100] == (68.68, 81.24)
    assert {len(figures) for figures in paper.ACCURACIES.values()} == {9}
