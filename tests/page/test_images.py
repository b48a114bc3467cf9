"""Images by name: the hardest, the forgotten, the learned."""

import pytest

from fercore.answers import StudyAnswers
from fercore.page import images
from fercore.page.study import read
from tests.page.folder import STUDY, StudyFolder


def lists(folder):
    return images.lists(read(folder.directory), StudyAnswers(folder.directory))


@pytest.fixture
def folder(tmp_path):
    folder = StudyFolder(tmp_path / "run")
    folder.write_study()
    return folder


def test_the_hardest_images_of_those_who_learned_the_set(folder):
    source, target, *_ = lists(folder).lists
    # BL, FU 50 and FU 100 learned the source: 18, 18 and 19 of 21 right, from the first on.
    assert source.title == "Hardest test images of src"
    assert [(line.file, line.texts) for line in source.lines] == [
        ("neutral/test-1.png", ("3 of 3", "angry")),
        ("neutral/test-2.png", ("3 of 3", "angry")),
        ("neutral/test-0.png", ("2 of 3", "angry")),
    ]
    # Of the target, FC 50 gets 11, TO 50 9 right and so on: the last 4 are wrong for all six.
    assert [line.texts[0] for line in target.lines[:5]] == [*["6 of 6"] * 4, "5 of 6"]


def test_what_adapting_made_forgotten_and_learned(folder):
    *_, forgotten, learned = lists(folder).lists
    # FC alone starts from BL (18 right): FC 50 keeps 12 and FC 100 ten.
    assert "most forgotten in adapting to tgt" in forgotten.title
    assert sorted(line.file for line in forgotten.lines[:6]) == [
        f"{label}/test-{n}.png" for label in ("sad", "surprise") for n in range(3)
    ]
    turned = [line.texts[1] for line in forgotten.lines]
    assert turned[:6] == ["2 of 2"] * 6
    assert turned[6:] == ["1 of 2"] * 2
    # Probability 1 / (1 + 6 e^-3) of the right class where the answer is right.
    assert forgotten.lines[0].texts[0] == "77 → 4 %"
    assert [line.texts[1] for line in learned.lines] == [*["2 of 2"] * 3, *["1 of 2"] * 3]
    assert "most learned" in learned.title


def test_a_network_that_was_not_tested_yet_has_no_say(tmp_path):
    folder = StudyFolder(tmp_path / "run")
    folder.write_run(STUDY[0])
    folder.write_run(STUDY[1], tested=False)
    (listing,) = lists(folder).lists
    assert [line.texts[0] for line in listing.lines] == ["1 of 1"] * 3


def test_older_runs_say_how_to_get_the_answers(tmp_path):
    folder = StudyFolder(tmp_path / "run")
    folder.write_run(STUDY[0], with_answers=False)
    found = lists(folder)
    assert found.lists == []
    assert "answers.safetensors: is missing" in found.missing
    assert "--resume" in found.missing
