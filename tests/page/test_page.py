"""The page of whole run directories: what it says, and that it is sound HTML that loads nothing."""

import itertools
import json

import msgspec
import pytest

from fercore import page
from fercore.errors import FercoreError
from tests.page.folder import STUDY, TESTED, Column, StudyFolder
from tests.page.markup import by_id, elements, parse, rows, tag, words

HOSTILE = '<script>alert("1")<&"\''


def finished(path):
    folder = StudyFolder(path)
    folder.write_study()
    return folder


def two_targets(path):
    folder = StudyFolder(path, targets=("tgt", "other"), synthetic=True)
    folder.write_study()
    return folder


def two_seeds(path):
    folder = StudyFolder(path, seeds=2)
    folder.write_study()
    return folder


def half_done(path):
    folder = StudyFolder(path)
    for column in STUDY[:2]:
        folder.write_run(column)
    folder.write_run(STUDY[2], tested=False)
    return folder


def without_baseline(path):
    """As while BL is trained again and networks of before are still there."""
    folder = StudyFolder(path)
    folder.write_run(STUDY[0], tested=False)
    for column in STUDY[1:]:
        folder.write_run(column)
    return folder


def one_target_ahead(path):
    folder = StudyFolder(path, targets=("tgt", "other"))
    folder.write_run(STUDY[0])
    folder.write_run(STUDY[2])
    folder.targets = ("tgt",)
    folder.write_run(STUDY[4])
    return folder


def one_seed_ahead(path):
    folder = StudyFolder(path, seeds=2)
    for column in STUDY:
        folder.write_run(column, seed=0)
    folder.write_run(STUDY[0], seed=1)
    return folder


def baseline_alone(path):
    folder = StudyFolder(path)
    folder.write_run(STUDY[0])
    return folder


def no_targets(path):
    folder = StudyFolder(path, targets=())
    folder.write_study(STUDY[:1])
    return folder


def just_begun(path):
    return StudyFolder(path)


def without_datasets(path):
    folder = StudyFolder(path)
    for name in ("datasets.json", "environment.json"):
        (path / name).unlink()
    return folder


def hostile(path):
    folder = StudyFolder(path, targets=(HOSTILE,))
    folder.write_study()
    return folder


STATES = (
    *(finished, two_targets, two_seeds, half_done, baseline_alone, no_targets),
    *(just_begun, without_datasets, hostile),
    *(without_baseline, one_target_ahead, one_seed_ahead),
)


@pytest.fixture(scope="module", params=STATES, ids=lambda state: state.__name__)
def document(request, tmp_path_factory):
    """The page of a run directory, in each of its states."""
    return show(request.param(tmp_path_factory.mktemp("study") / "run"))


def show(folder, **options):
    return parse(page.render(folder.directory, **options))


# -- sound in every state ---------------------------------------------------------------------


def test_nothing_is_loaded_and_no_script_runs(document):
    assert not elements(document, "script")
    for element in document.iter():
        for name, value in element.attrib.items():
            assert not name.startswith("on"), name
            if name in ("src", "href", "action", "data", "poster", "srcset"):
                assert value.startswith(("#", "data:image/png;base64,")), value
    (style,) = elements(document, "style")
    assert "url(" not in style.text
    assert "@import" not in style.text
    policy = next(e for e in elements(document, "meta") if "http-equiv" in e.attrib)
    assert policy.get("content").startswith("default-src 'none'")


def test_headings_step_down_one_by_one(document):
    levels = [int(tag(e)[1]) for e in document.iter() if tag(e) in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_charts_have_a_title_and_a_text_and_pictures_an_alternative(document):
    for chart in elements(document, "svg"):
        if chart.get("aria-hidden") != "true":
            assert chart.get("role") == "img"
            for id in chart.get("aria-labelledby").split():
                assert words(by_id(document, id))
    for picture in elements(document, "img"):
        assert picture.get("alt")


def test_ids_are_unique_and_links_lead_somewhere(document):
    ids = [e.get("id") for e in document.iter() if "id" in e.attrib]
    assert len(ids) == len(set(ids))
    for link in elements(document, "a"):
        assert link.get("href").removeprefix("#") in ids


def test_tables_name_their_rows_and_columns(document):
    for table in elements(document, "table"):
        assert len(elements(table, "caption")) == 1
        for head in elements(table, "th"):
            assert head.get("scope") in ("row", "col")


def test_regions_that_scroll_can_be_reached_and_told_apart(document):
    regions = [e for e in elements(document, "div") if e.get("role") == "region"]
    assert all(region.get("tabindex") == "0" for region in regions)
    names = [region.get("aria-label") for region in regions]
    assert all(names)
    assert len(names) == len(set(names))


def test_it_has_a_language_and_fits_a_phone(document):
    html = document if tag(document) == "html" else elements(document, "html")[0]
    assert html.get("lang") == "en"
    (viewport,) = (e for e in elements(document, "meta") if e.get("name") == "viewport")
    assert viewport.get("content").startswith("width=device-width")


# -- what a finished study shows --------------------------------------------------------------


def test_the_table_has_the_figures_of_the_records(tmp_path):
    document = show(finished(tmp_path / "run"))
    table = elements(by_id(document, "table"), "table")[0]
    cells = rows(table)
    assert cells["measure"] == ["BL", "FC 50", "FC 100", "FU 50", "FU 100", "TO 50", "TO 100"]
    assert cells["src (n=21)"] == [f"{100 * column.source / 21:.2f}" for column in STUDY]
    assert cells["tgt (n=21)"] == [f"{100 * column.target / 21:.2f}" for column in STUDY]
    assert cells["forgetting"][1] == f"+{100 * 6 / 21:.2f}"
    assert cells["target gain"][5] == f"+{100 * 1 / 21:.2f}"


def test_memory_in_numbers_and_what_it_is_held_against(tmp_path):
    document = show(finished(tmp_path / "run"))
    section = by_id(document, "table")
    cells = rows(elements(section, "table")[0])
    assert cells["memory kept, % of BL's"] == [f"{100 * c.source / 18:.2f}" for c in STUDY]
    mean = [2 * c.source * c.target / (c.source + c.target) / TESTED for c in STUDY]
    assert cells["harmonic mean of both"] == [f"{100 * value:.2f}" for value in mean]
    said = words(section)
    assert "On src's 21 test images, guessing gets 14.3 %" in said
    assert "the commonest class of its training part 14.3 %" in said
    assert "twins" not in said


def test_a_column_that_one_target_has_not_is_empty_there(tmp_path):
    document = show(one_target_ahead(tmp_path / "run"))
    first, second = map(rows, elements(by_id(document, "table"), "table"))
    assert first["measure"] == second["measure"] == ["BL", "FC 100", "FU 100"]
    for label in ("src (n=21)", "memory kept, % of BL's", "harmonic mean of both"):
        assert [bool(cell) for cell in first[label]] == [True] * 3
        assert [bool(cell) for cell in second[label]] == [True, True, False]


def test_twins_in_training_are_said_to_flatter(tmp_path):
    folder = finished(tmp_path / "run")
    twin = "f" * 64  # an image that BL learned and then gets right
    folder.write_manifest("src", **{"sad/train-0.png": twin, "angry/test-0.png": twin})
    said = words(by_id(show(folder), "table"))
    assert (
        "BL had seen exact twins of 1 of 21 test images of src; without them it reaches 85.0 % "
        "rather than 85.7 %."
    ) in said  # 17 of 20, 18 of 21
    assert "TO 50 had seen" not in said


def test_recall_by_class_and_its_change(tmp_path):
    document = show(finished(tmp_path / "run"))
    source, target = elements(by_id(document, "recall"), "table")
    # BL gets the first 18 of 21 source images right, three a class; FC 50 the first 12.
    assert rows(source)["BL"] == [*["100"] * 6, "0"]
    assert rows(source)["FC 50"] == [*["100 0"] * 4, *["0 \N{MINUS SIGN}100"] * 2, "0 0"]
    assert rows(target)["FU 100"][5] == "67 +67"
    assert rows(target)["strategy"][0] == "angry n=3"


def test_confusion_matrices_before_and_after_on_both_sets(tmp_path):
    document = show(finished(tmp_path / "run"))
    tables = elements(by_id(document, "matrices"), "table")
    names = [words(elements(table, "caption")[0]) for table in tables]
    assert names[:4] == [
        *("BL on src: 85.7 %", "BL on tgt: 38.1 %"),
        *("FC 50 on src: 57.1 %", "FC 50 on tgt: 52.4 %"),
    ]
    assert len(tables) == 2 * len(STUDY)
    assert rows(tables[0])["neutral"] == ["3", "0", "0", "0", "0", "0", "0"]
    assert rows(tables[0])["sad"] == ["0", "0", "0", "0", "3", "0", "0"]


def test_how_it_was_made_can_be_read_and_repeated(tmp_path):
    folder = finished(tmp_path / "run")
    section = by_id(show(folder), "making")
    (table,) = elements(section, "table")
    cells = rows(table)
    assert cells["tgt-FC-50"] == ["tested", "all", "3 of 3", "2 (target 62.5 %)", "60 s"]
    assert "7 min of training in all. Energy was not measured." in words(section)
    assert "abacus" in words(section)
    command, settings = (words(e) for e in elements(section, "pre"))
    assert command == "fercore-train protocol study.toml --out again"
    assert 'strategies = ["BL", "FC", "FU", "TO"]' in settings


def test_energy_stands_beside_time_as_far_as_it_was_read(tmp_path):
    folder = finished(tmp_path / "run")
    for run, epochs in (("BL", 2), ("tgt-FC-50", 3)):
        metrics = folder.path / "runs" / run / "metrics.jsonl"
        lines = [json.loads(line) for line in metrics.read_text().splitlines()]
        for line in lines[:epochs]:
            line["joules"] = {"processor": 1500.0}
        metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    section = by_id(show(folder), "making")
    cells = rows(elements(section, "table")[0])
    assert cells["run"][-2:] == ["time", "energy, processor"]
    assert [cells[run][-1] for run in ("BL", "tgt-FC-50", "tgt-FC-100")] == [
        *("3 kJ, a part", "4.5 kJ", "not read")
    ]
    assert (
        "7 min of training in all took 7.5 kJ of the processor (counted in 2 min of that, not in "
        "the rest), other programs included."
    ) in words(section)


def test_every_target_has_its_part(tmp_path):
    document = show(two_targets(tmp_path / "run"))
    for section, kind, each in (
        ("table", "table", 1),
        ("memory", "figure", 1),
        ("changes", "figure", 2),
    ):
        assert len(elements(by_id(document, section), kind)) == 2 * each
    assert "adapted to tgt and other" in words(elements(document, "h1")[0])


def test_several_seeds(tmp_path):
    document = show(two_seeds(tmp_path / "run"))
    table = elements(by_id(document, "table"), "table")[0]
    assert rows(table)["src (n=21)"][0] == "85.71 ±0.00"
    points = [e for e in by_id(document, "memory").iter() if "point" in e.get("class", "").split()]
    hinted = [point for point in points if len(point)]
    assert len(hinted) == 2 * len(STUDY)
    matrix = elements(by_id(document, "matrices"), "table")[0]
    assert rows(matrix)["angry"][0] == "6"
    assert rows(elements(by_id(document, "recall"), "table")[0])["strategy"][0] == "angry n=3"


def test_synthetic_faces_are_announced_first(tmp_path):
    drawn = show(two_targets(tmp_path / "drawn"))
    (banner,) = (e for e in elements(drawn, "p") if e.get("class") == "banner")
    assert words(banner).startswith("Synthetic faces. The images of src, tgt and other were drawn")
    real = show(finished(tmp_path / "real"))
    assert not [e for e in elements(real, "p") if e.get("class") == "banner"]


# -- what an unfinished one shows -------------------------------------------------------------


def test_a_half_done_study_says_how_far_it_is(tmp_path):
    folder = half_done(tmp_path / "run")
    planned = ["BL", "tgt-FC-50", "tgt-FC-100", "tgt-FU-50"]
    document = show(folder, planned=planned)
    (banner,) = (e for e in elements(document, "p") if e.get("class") == "banner")
    assert "2 of 4 runs are trained and tested" in words(banner)
    assert "tgt-FC-100 has trained 3 of 3 epochs" in words(banner)
    states = {
        name: cells[0]
        for name, cells in rows(elements(by_id(document, "making"), "table")[0]).items()
    }
    assert list(states.items()) == [
        *(("run", "state"), ("BL", "tested"), ("tgt-FC-50", "tested")),
        *(("tgt-FC-100", "in training"), ("tgt-FU-50", "to come")),
    ]
    charts = [words(e) for e in elements(by_id(document, "curves"), "figcaption")]
    assert charts == ["BL", "FC 50", "FC 100"]
    table = elements(by_id(document, "table"), "table")[0]
    assert rows(table)["measure"] == ["BL", "FC 50"]


def test_a_baseline_without_targets_is_no_empty_table(tmp_path):
    document = show(no_targets(tmp_path / "run"))
    assert "BL: 85.7 % of 21 test images of src" in words(by_id(document, "baseline"))
    assert not [e for e in document.iter() if e.get("id") == "table"]


def test_a_study_before_its_first_epoch(tmp_path):
    document = show(just_begun(tmp_path / "run"))
    assert [e.get("id") for e in elements(document, "section")] == ["data", "making"]


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(FercoreError, match="is no run directory"):
        page.render(StudyFolder(tmp_path / "run").directory.__class__(tmp_path))
    folder = StudyFolder(tmp_path / "single")
    (folder.path / "run.json").write_text("{}")
    with pytest.raises(FercoreError, match="holds one network"):
        page.render(folder.directory)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("runs/BL/metrics.jsonl", "{"),
        ("runs/BL/results.json", "[]"),
        ("runs/BL/run.json", "{}"),
        ("runs/BL/state.json", ""),
        ("datasets.json", "[]"),
        ("config.toml", "a = "),
    ],
)
def test_a_damaged_file_is_named(tmp_path, file, text):
    folder = finished(tmp_path / "run")
    (folder.path / file).write_text(text)
    with pytest.raises(FercoreError, match=file):
        page.render(folder.directory)


# -- names that mean harm ---------------------------------------------------------------------


def test_hostile_names_are_words_like_others(tmp_path):
    folder = StudyFolder(tmp_path / "run", targets=(HOSTILE,))
    folder.write_study()
    facts = folder.facts("src") | {"notes": [HOSTILE], "skipped": [[HOSTILE, HOSTILE]]}
    datasets = {"src": facts, HOSTILE: folder.facts(HOSTILE)}
    (folder.path / "datasets.json").write_bytes(msgspec.json.encode(datasets))
    text = (folder.path / "splits" / "src.csv").read_text()
    evil = text.replace("sad/test-2.png", "</td><img src=x onerror=alert(1)>")
    (folder.path / "splits" / "src.csv").write_text(evil)
    html = page.render(folder.directory)
    document = parse(html)
    assert not elements(document, "script")
    assert not elements(document, "img")
    assert HOSTILE in words(by_id(document, "data"))
    assert "</td><img src=x onerror=alert(1)>" in words(by_id(document, "images"))


def test_file_names_that_are_no_unicode(tmp_path):
    folder = finished(tmp_path / "run")
    manifest = folder.path / "splits" / "src.csv"
    manifest.write_bytes(manifest.read_bytes().replace(b"neutral/test-2", b"neutral/\xfc"))
    path = page.write(folder.directory)
    assert "neutral/?.png" in words(by_id(parse(path.read_text("utf-8")), "images"))


# -- writing it -------------------------------------------------------------------------------


def test_the_same_directory_gives_the_same_page(tmp_path):
    folder = finished(tmp_path / "run")
    first = page.write(folder.directory).read_bytes()
    assert page.write(folder.directory).read_bytes() == first


def test_only_a_page_that_is_watched_loads_itself_again(tmp_path):
    folder = finished(tmp_path / "run")
    refreshed = [e.get("http-equiv") for e in elements(show(folder, refresh=5), "meta")]
    assert refreshed.count("refresh") == 1
    assert "refresh" not in [e.get("http-equiv") for e in elements(show(folder), "meta")]


def test_a_strategy_of_ones_own_is_shown_too(tmp_path):
    folder = StudyFolder(tmp_path / "run")
    folder.write_study([*STUDY, Column("my <b> net", 100, TESTED, TESTED)])
    cells = rows(elements(by_id(show(folder), "table"), "table")[0])
    assert cells["measure"][-1] == "my <b> net 100"
    assert cells["src (n=21)"][-1] == "100.00"
