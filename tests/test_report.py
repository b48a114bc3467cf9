"""The table, its answers and its layouts, from records with known figures."""

import csv
import io
import re

import msgspec
import pytest

from fercore import evidence, findings, page, paper, report, results
from fercore.words import MINUS
from tests.page.folder import STUDY, StudyFolder
from tests.page.markup import by_id, parse, words
from tests.records import record, study, unanswered


def make_table(records):
    return report.make_table(unanswered(records))


@pytest.fixture
def answered(tmp_path):
    """The table of a study whose answers are known, and the evidence that it is made from."""
    folder = StudyFolder(tmp_path / "run")
    folder.write_study()
    found = evidence.gather(folder.directory, results.read(folder.directory.results))
    return report.read(folder.directory), found


def rows(table, block=0):
    return {f"{row.label}{'*' * row.detail}": row.cells for row in table.blocks[block]}


def test_columns_stand_as_in_the_paper():
    assert make_table(study()).columns == (
        "BL",
        *("FC 50", "FC 100"),
        *("FU 50", "FU 100"),
        *("TO 50", "TO 100"),
    )
    shuffled = [study()[i] for i in (0, 2, 4, 6, 1, 3, 5)]  # a plan runs amount by amount
    assert make_table(shuffled).columns == make_table(study()).columns


def test_accuracies_with_n_interval_and_the_papers_figures():
    block = make_table(study()).blocks[0]
    labels = [row.label for row in block]
    assert labels[:6] == [
        *("fer2013 (n=1000)", "95 % interval", "paper"),
        *("jaffe (n=50)", "95 % interval", "paper"),
    ]
    assert block[0].cells[:3] == ("60.00", "50.00", "45.00")
    assert not any(block[1].cells)  # without answers
    assert block[2].cells == ("68.35", "43.08", "44.61", "67.69", "68.40", "", "")
    assert block[5].cells[:3] == ("40.30", "53.73", "55.22")


def test_every_figure_has_its_interval_from_the_answers(answered):
    table, found = answered
    block = table.blocks[0]
    labels = [row.label for row in block]
    assert labels == [
        *("src (n=21)", "95 % interval", "tgt (n=21)", "95 % interval"),
        *("forgetting", "95 % interval", "target gain", "95 % interval"),
        *("memory kept, % of BL's", "95 % interval", "harmonic mean of both", "95 % interval"),
    ]
    assert block[4].cells == (
        *("", "+28.57", "+38.10", "0.00"),
        *(f"{MINUS}4.76", "+66.67", "+61.90"),
    )
    assert block[6].cells == (
        *("", "+14.29", "+28.57", "+19.05"),
        *("+42.86", "+4.76", "+23.81"),
    )
    for at, name in (
        *((1, "source"), (3, "target"), (5, "forgetting"), (7, "gain")),
        *((9, "retention"), (11, "harmonic_mean")),
    ):
        for column, text in zip(STUDY, block[at].cells, strict=True):
            known = getattr(found.memory["tgt", (column.strategy, column.amount)], name)
            bounds = known.interval if known else ()
            read = [float(bound.replace(MINUS, "-")) for bound in text.split("..") if bound]
            assert read == [round(100 * bound, 1) for bound in bounds]
            assert all(
                (bound[0] in f"+{MINUS}") == (name in ("forgetting", "gain") and number != 0)
                for bound, number in zip(text.split(".."), read, strict=False)
            )


def test_intervals_that_a_single_person_cannot_give_are_explained(answered, tmp_path):
    table, _ = answered
    assert not any("show one person" in note for note in table.notes)
    folder = StudyFolder(tmp_path / "alone")
    folder.write_study()
    manifest = folder.path / "splits" / "tgt.csv"
    manifest.write_text(re.sub(r",test\d,", ",anna,", manifest.read_text()))
    table = report.read(folder.directory)
    assert not any(table.blocks[0][3].cells)
    assert all(table.blocks[0][1].cells)
    (note,) = (note for note in table.notes if "show one person" in note)
    assert note.startswith("All test images of tgt")


def test_changes_are_tested_on_the_same_images(answered):
    """FU 50 is right and wrong on just the source images that BL is: nothing can vary."""
    table, _ = answered
    at = [row.label for row in table.blocks[0]].index("forgetting") + 1
    assert table.blocks[0][at].cells[3] == "0.0..0.0"


def test_without_answers_it_says_why_it_knows_no_more():
    table = make_table(study())
    labels = [row.label for row in table.blocks[0]]
    assert "forgetting" not in labels
    assert report.to_text(table).count("compared image by image: the answers are lost.") == 1


def test_the_table_the_terminal_and_the_page_give_the_same_answers(tmp_path):
    folder = StudyFolder(tmp_path / "run")
    folder.write_study()
    table = report.read(folder.directory)
    shown = words(by_id(parse(page.render(folder.directory)), "questions"))
    layouts = [render(table) for render in (report.to_markdown, report.to_latex)]
    layouts.append(" ".join(report.to_text(table, 100).split()))
    assert len(table.answers) == 3
    for question in table.answers:
        sentences = [text for _, said in question.answers for text in said]
        assert sentences
        for text in (question.title, question.short, *sentences):
            assert text in shown
            assert all(text in layout for layout in layouts), text


def test_a_source_of_our_own_has_no_paper_rows():
    mine = [record(), record("FC", 50)]
    table = make_table([msgspec.structs.replace(r, source="mine") for r in mine])
    assert not any(row.label == "paper" for row in table.blocks[0])


def test_targets_of_our_own_have_no_paper_rows():
    mine = [msgspec.structs.replace(r, target="mine") for r in study()]
    assert not any(row.label == "paper" for row in make_table(mine).blocks[0])


def test_each_target_is_a_block():
    both = [*study(), *(msgspec.structs.replace(r, target="mug") for r in study())]
    table = make_table(both)
    assert len(table.blocks) == 2
    assert any("mug (n=50)" in row.label for row in table.blocks[1])


def test_several_seeds_give_mean_and_deviation():
    repeated = [msgspec.structs.replace(r, seed=1, source_accuracy=0.5) for r in study()]
    table = make_table([*study(), *repeated])
    assert table.blocks[0][0].cells[0] == "55.00 ±7.07"
    assert "2 seeds" in table.title
    assert any(note.startswith("All seeds share the parts") for note in table.notes)
    assert not any("seeds" in note for note in make_table(study()).notes)


def test_synthetic_faces_are_announced():
    table = make_table([msgspec.structs.replace(r, synthetic=True) for r in study()])
    assert table.title.startswith("SYNTHETIC FACES")
    for render in (report.to_text, report.to_markdown, report.to_latex):
        assert "SYNTHETIC FACES" in render(table)
    assert "SYNTHETIC" not in report.to_text(make_table(study()))


def test_missing_classes_get_their_own_rows():
    six = [
        msgspec.structs.replace(r, shared_classes=6, source_accuracy_shared=0.75) for r in study()
    ]
    table = make_table(six)
    cells = {row.label: row.cells for row in table.blocks[0]}
    assert cells["fer2013, shared classes (n=1000)"][0] == "75.00"
    assert any("share 6 of 7 classes" in note for note in table.notes)


def test_small_test_sets_are_noted():
    notes = make_table(study()).notes
    assert "jaffe has 50 test images: an accuracy near 50 % is known to ±13 points." in notes
    one = [msgspec.structs.replace(r, n_target=1, target_accuracy=1.0) for r in study()]
    notes = make_table(one).notes
    assert any(note.startswith("jaffe has 1 test image: an accuracy near") for note in notes)


def test_the_best_strategy_is_chosen_on_validation_not_on_test():
    records = study()
    records[1] = msgspec.structs.replace(  # FC 50: poor on test, best on validation
        records[1], source_validation_accuracy=0.9, target_validation_accuracy=0.9
    )
    assert findings.by_target(records)[0].best().name == "FC 50"


def test_a_strategy_missing_for_one_target_leaves_empty_cells():
    records = [*study(), msgspec.structs.replace(record(), target="mug")]
    table = make_table(records)
    assert table.blocks[1][0].cells == ("60.00", "", "", "", "", "", "")


# -- layouts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [200, 60, 10])
def test_text_keeps_every_cell_whatever_the_width(width):
    table = make_table(study())
    text = report.to_text(table, width)
    body = text.partition("Networks")[0]
    for row in table.blocks[0]:
        for cell in filter(None, row.cells):
            assert cell in body


def test_text_fits_the_terminal():
    text = report.to_text(make_table(study()), 80)
    lines = text.partition("Networks")[0].splitlines()[2:]
    assert max(map(len, lines)) <= 80
    assert len({len(line) for line in lines if line.startswith("---")}) <= 2


def test_answers_on_a_terminal_stand_apart_and_fit(answered):
    table, _ = answered
    lines = report.to_text(table, 80).splitlines()
    assert max(map(len, lines)) <= 80
    assert not any(line.lstrip().startswith("%") for line in lines)
    for number, question in enumerate(table.answers, 1):
        at = lines.index(f"{number}. {question.title}")
        assert lines[at - 1] == ""
        assert lines[at + 1].startswith("   ")
        assert lines[lines.index("   tgt", at) - 1] == ""
    reading = next(at for at, line in enumerate(lines) if line.startswith("In brackets"))
    assert lines[reading - 1] == ""


def test_long_lines_of_prose_are_folded_on_a_wide_terminal(answered):
    table, _ = answered
    lines = report.to_text(table, 300).splitlines()
    prose = lines[lines.index(f"1. {table.answers[0].title}") :]
    assert 90 < max(map(len, prose)) <= report.PROSE


def test_programs_can_read_the_csvs_minus_signs(answered):
    table, _ = answered
    assert any(MINUS in cell for row in table.blocks[0] for cell in row.cells)
    text = report.to_csv(table)
    assert text.isascii()
    assert ",-4.76," in text
    assert "$-$4.76" in report.to_latex(table)


def test_markdown_rows_have_as_many_cells_as_the_header():
    lines = report.to_markdown(make_table(study())).splitlines()
    pipes = {line.count("|") for line in lines if line.startswith("|")}
    assert pipes == {9}


def test_latex_escapes_and_is_balanced():
    names = [msgspec.structs.replace(r, target="my_set") for r in study()]
    text = report.to_latex(make_table(names))
    assert r"my\_set (n=50)" in text
    assert r"95 \% interval" in text
    body = text.partition(r"\toprule")[2].partition(r"\bottomrule")[0]
    assert {line.count("&") for line in body.splitlines() if line.endswith(r"\\")} == {7}
    assert text.count(r"\begin") == text.count(r"\end")


def test_csv_reads_back():
    table = make_table(study())
    lines = list(csv.reader(io.StringIO(report.to_csv(table))))
    assert lines[0] == ["", *table.columns]
    assert lines[1][1:] == list(table.blocks[0][0].cells)


def test_the_papers_table_is_complete():
    # Spot checks against the published table, first and last columns of each target.
    assert paper.ACCURACIES["jaffe"]["BL", None] == (68.35, 40.30)
    assert paper.ACCURACIES["tfeid"]["FC+CL", 100] == (45.36, 87.93)
    assert paper.ACCURACIES["mug"]["FU", 100] == (68.68, 81.24)
    assert {len(figures) for figures in paper.ACCURACIES.values()} == {9}
