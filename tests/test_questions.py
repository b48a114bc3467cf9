"""The paper's questions: verdicts worked out by hand, and what is said of them.

In the folder's study every network gets the first images right and the rest wrong, so that of any
two the better one is right wherever the other is. A difference of d images then has the exact
p-value 2 / 2^d, and on the source Holm's correction for 12 pairs leaves five of them below 0.05:
BL, FU 50 and FU 100 against TO, and FU 100 against FC 100.
"""

import re

import pytest

from fercore import evidence, questions, versus
from fercore.page.study import read
from tests.page.folder import STUDY, Column, StudyFolder


def asked(folder):
    found = evidence.gather(folder.directory, read(folder.directory).records)
    return questions.ask(found), found.comparisons


@pytest.fixture
def folder(tmp_path):
    folder = StudyFolder(tmp_path / "run")
    folder.write_study()
    return folder


def test_memory(folder):
    memory = asked(folder)[0][0]
    assert memory.short == (
        "Of 6 adapted networks, 2 know less of src than BL, none knows more of src than BL and 4 "
        "are not distinguishable from BL. 6 of them are judged by image alone: too few people "
        "were tested."
    )
    ((target, sentences),) = memory.answers
    assert target == "tgt"
    minus = "\N{MINUS SIGN}"
    assert sentences[:2] == [
        f"TO 50 ({minus}66.7) and TO 100 ({minus}61.9) know less of src than BL.",
        f"FC 50 ({minus}28.6), FC 100 ({minus}38.1), FU 50 (0.0) and FU 100 (+4.8) are not "
        "distinguishable from BL.",
    ]
    # Three people can never give a p below 0.25.
    assert "the 3 people in src's test part are too few" in sentences[2]


def test_the_best_on_both_sets_is_named_by_validation(folder):
    best = asked(folder)[0][1]
    assert best.short == "By the mean of both validation accuracies: FU 100 for tgt."
    ((_, sentences),) = best.answers
    assert sentences[0] == (
        "FU 100 has the best mean validation accuracy: 85.7 % of 1,000 and 20 images. Next comes "
        "FU 50 with 71.4 %."
    )
    # 7, 6 and 6 of three people's 7 images: 90.5 % plus or minus Student's 4.30 times 4.8.
    assert sentences[1].startswith("On test images it reaches 90.5 % on src (70.0 to 100.0, n=21)")
    assert sentences[2].endswith("are worse than FU 100 on src.")
    assert "FC 100" in sentences[2]
    assert "TO 100" in sentences[2]
    assert "BL" not in sentences[2]


def test_transfer(folder):
    transfer = asked(folder)[0][2]
    assert transfer.short == (
        "Of 4 networks that saw both sets, none is better than training on the target alone, none "
        "is worse than training on the target alone and 4 are not distinguishable from training on "
        "the target alone. 4 of them are judged by image alone: too few people were tested."
    )
    ((_, sentences),) = transfer.answers
    assert sentences[0].startswith("With 50 % of tgt's training images and nothing else")
    assert "42.9 % of 21 test images" in sentences[0]  # 9 of 21
    assert "FC 50 (+9.5) and FU 50 (+14.3) are not distinguishable" in sentences[1]


def test_transfer_that_helps_and_that_harms(tmp_path):
    folder = StudyFolder(tmp_path / "run")
    folder.write_study(
        [
            *(Column("BL", None, 18, 8), Column("FC", 100, 9, 21)),
            *(Column("RE", 100, 9, 0), Column("TO", 100, 3, 10)),
        ]
    )
    transfer = asked(folder)[0][2]
    ((_, sentences),) = transfer.answers
    assert "FC 100 (+52.4) is better than training on the target alone." in sentences
    assert "RE 100 (\N{MINUS SIGN}47.6) is worse than training on the target alone." in sentences
    assert transfer.short.startswith("Of 2 networks that saw both sets, 1 is better than")


def test_networks_that_never_saw_the_source_are_no_transfer(tmp_path):
    folder = StudyFolder(tmp_path / "run")
    folder.write_study([*STUDY, Column("mine", 100, 5, 15)])  # from random weights, on the target
    transfer = asked(folder)[0][2]
    assert transfer.short.startswith("Of 4 networks that saw both sets")
    assert "mine" not in " ".join(transfer.answers[0][1])


def test_without_a_network_of_the_target_alone_nothing_is_claimed(tmp_path):
    folder = StudyFolder(tmp_path / "run")
    folder.write_study(STUDY[:5])
    transfer = asked(folder)[0][2]
    assert transfer.short.startswith("That cannot be said yet")
    assert transfer.answers == []


def test_enough_people_give_the_verdict(tmp_path):
    """With a person an image, judging by person is judging by image, and is said to be neither."""
    folder = StudyFolder(tmp_path / "run")
    for name in ("src", "tgt"):
        manifest = folder.path / "splits" / f"{name}.csv"
        lines = [line.split(",") for line in manifest.read_text().splitlines()]
        lines[1:] = [[line[0], f"person {i}", *line[2:]] for i, line in enumerate(lines[1:])]
        manifest.write_text("\n".join(map(",".join, lines)) + "\n")
    folder.write_study()
    memory = asked(folder)[0][0]
    assert "by image" not in memory.short
    ((_, sentences),) = memory.answers
    assert len(sentences) == 2
    assert sentences[0].endswith("know less of src than BL.")


def test_a_comparison_is_seen_from_either_side(folder):
    _, comparisons = asked(folder)
    beside = {v.name: v for v in comparisons.against("tgt", "src", ("BL", None))}
    (back,) = (v for v in comparisons.against("tgt", "src", ("TO", 50)) if v.column == ("BL", None))
    there = beside["TO 50"]
    assert there.difference == pytest.approx(-14 / 21)
    assert back.difference == pytest.approx(14 / 21)
    assert (there.judgements[-1].verdict, back.judgements[-1].verdict) == ("worse", "better")
    assert back.judgements[-1].interval == pytest.approx(
        [-bound for bound in reversed(there.judgements[-1].interval)]
    )
    assert [v.name for v in comparisons.against("tgt", "src", ("FU", 50))] == [
        "BL",
        "FC 50",
        "TO 50",
    ]


def test_every_pair_is_listed_with_its_p_values(folder):
    _, comparisons = asked(folder)
    rows = versus.rows(comparisons.pairs["tgt", "src"])
    assert len(rows) == 12 * 2  # by person and by image
    row = next(r for r in rows if r.pair == "TO 50 \N{MINUS SIGN} BL" and "images" in r.unit)
    assert (row.difference, row.unit) == ("\N{MINUS SIGN}66.7", "21 images")
    assert float(row.p) == pytest.approx(2 / 2**14, rel=0.05)
    assert float(row.p_holm) == pytest.approx(12 * 2 / 2**14, rel=0.05)
    assert row.verdict == "worse"


def test_a_pair_judged_by_one_person_says_so(folder):
    manifest = folder.path / "splits" / "tgt.csv"
    manifest.write_text(re.sub(r",test\d,", ",anna,", manifest.read_text()))
    _, comparisons = asked(folder)
    rows = versus.rows(comparisons.pairs["tgt", "tgt"])
    assert {row.unit for row in rows} == {"1 person", "21 images"}


def test_pairs_tell_how_other_trainings_would_differ(tmp_path):
    folder = StudyFolder(tmp_path / "run", seeds=2)
    records = [r for column in STUDY[:2] for r in folder.write_run(column, seed=0)]
    records += folder.write_run(STUDY[0], seed=1)
    records += folder.write_run(Column("FC", 50, 15, 11), seed=1)
    folder.finish(records)
    _, comparisons = asked(folder)
    (pair,) = {(row.pair, row.seeds) for row in versus.rows(comparisons.pairs["tgt", "src"])}
    # 6 and 3 of 21 images lost: mean 21.4 points, half of their distance times Student's 12.7062.
    mean, half = 100 * 4.5 / 21, 12.7062 * 100 * 1.5 / 21
    expected = " to ".join(f"{-mean + sign * half:+.1f}" for sign in (-1, 1))
    assert pair == ("FC 50 \N{MINUS SIGN} BL", expected.replace("-", "\N{MINUS SIGN}"))


def test_without_answers_it_says_how_to_get_them(tmp_path):
    folder = StudyFolder(tmp_path / "run")
    folder.write_run(STUDY[0], with_answers=False)
    found, comparisons = asked(folder)
    assert found == []
    assert "--resume" in comparisons.missing


def test_a_class_that_the_target_lacks_is_left_out_beside(tmp_path):
    """What is lost of it is lost mechanically, so verdicts over the shared classes stand beside."""
    folder = StudyFolder(tmp_path / "run")
    manifest = folder.path / "splits" / "tgt.csv"
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join(line.replace(",neutral,", ",sad,") for line in lines) + "\n")
    folder.write_study(shared_classes=6)
    ((_, sentences),) = asked(folder)[0][0].answers
    minus = "\N{MINUS SIGN}"
    assert f"TO 50 ({minus}66.7)" in sentences[0]
    # Of the 18 source images of six classes BL knows all 18, FC 50 twelve, TO 50 four.
    beside = [text for text in sentences if text.startswith("Over the 6 classes that both sets")]
    assert f"TO 50 ({minus}77.8)" in beside[0]
    assert f"FC 50 ({minus}33.3)" in " ".join(beside)
