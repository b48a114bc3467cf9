"""Reading, checking and writing studies."""

import re
import tomllib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fercore.config import Recipe, Study, read_study, study_from, with_settings
from fercore.config_text import changes, commented_toml, to_toml
from fercore.errors import FercoreError
from fercore.freeze import STRATEGIES
from tests.data.values import steady


def real_study(**settings):
    return study_from({"source": "fer2013=/data/fer", "targets": ["jaffe=/data/jaffe"], **settings})


def target(**settings):
    return {"name": "mug", "path": "/x", **settings}


def write(tmp_path, text):
    path = tmp_path / "study.toml"
    path.write_text(text)
    return path


EVERYTHING = """
strategies = ["BL", "FC", "half"]
amounts = [25, 100]
model = "svgg5-bn"
seeds = 3
splits = "manifests"
baseline = "given.safetensors"

[source]
name = "fer2013"
path = "fer"

[[targets]]
name = "mine"
format = "folder"
path = "/faces"
crop = [0.1, 0.2, 0.9, 1.0]
options = { subject = "s(\\\\d+)" }

[recipe]
epochs = 7
optimizer = "adamw"

[finetune]
epochs = 3

[[strategy]]
name = "half"
starts_from = "BL"
trainable = ["fc1.*"]
channels = { "conv1_1.weight" = [0, 2] }
recipe = { learning_rate = 0.5 }
"""


def test_nothing_given_is_a_synthetic_study_with_a_small_model():
    study = read_study()
    assert study.synthetic
    assert study.model == "tiny-bn"
    assert study.strategies == ("BL", "FC", "FC+CL", "RE", "FU", "TO")
    assert study.amounts == (50, 100)


def test_real_data_takes_the_papers_model():
    assert real_study().model == "svgg10"
    assert not real_study().synthetic


def test_a_file_with_every_kind_of_setting(tmp_path):
    study = read_study(write(tmp_path, EVERYTHING))
    assert study.source.path == str(tmp_path / "fer")
    assert study.source.format == "fer2013"
    assert study.splits == str(tmp_path / "manifests")
    assert study.baseline == str(tmp_path / "given.safetensors")
    assert study.targets[0].crop == (0.1, 0.2, 0.9, 1.0)
    assert study.targets[0].options == {"subject": "s(\\d+)"}
    assert study.strategy_named("half").channels == {"conv1_1.weight": (0, 2)}
    assert study.recipe_of(study.strategy_named("half")).learning_rate == 0.5
    assert study.recipe_of(study.strategy_named("FC")).epochs == 3
    assert study.recipe_of(study.strategy_named("FU")).epochs == 7


def test_finetuning_inherits_from_the_recipe_what_it_does_not_set():
    study = real_study(recipe={"batch_size": 128}, finetune={"epochs": 2})
    assert study.finetune.batch_size == 128
    assert study.finetune.epochs == 2


def test_flags_win_over_the_file(tmp_path):
    path = write(tmp_path, EVERYTHING)
    study = read_study(path, {"seeds": 1, "recipe": {"epochs": 1}, "targets": ["jaffe=/j"]})
    assert study.seeds == 1
    assert study.recipe.epochs == 1
    assert study.recipe.optimizer == "adamw"  # the file's table is not forgotten
    assert [target.name for target in study.targets] == ["jaffe"]


@pytest.mark.parametrize("write_text", [to_toml, commented_toml])
def test_what_is_written_reads_back_equal(tmp_path, write_text):
    study = read_study(write(tmp_path, EVERYTHING))
    again = read_study(write(tmp_path, write_text(study)))
    assert again == study
    synthetic = read_study()
    assert read_study(write(tmp_path, write_text(synthetic))) == synthetic


def test_a_built_in_strategy_takes_a_recipe_of_its_own(tmp_path):
    text = """
        source = "fer2013=/a"
        targets = ["jaffe=/b"]
        [[strategy]]
        name = "RE"
        recipe = { learning_rate = 0.25 }
    """
    study = read_study(write(tmp_path, text))
    assert study.strategies == ("BL", "FC", "FC+CL", "RE", "FU", "TO")
    changed = study.strategy_named("RE")
    assert changed == msgspec.structs.replace(STRATEGIES["RE"], recipe={"learning_rate": 0.25})
    assert study.recipe_of(changed).learning_rate == 0.25
    assert study.recipe_of(changed).epochs == study.finetune.epochs
    assert study.recipe_of(study.strategy_named("FC")) == study.finetune
    assert read_study(write(tmp_path, to_toml(study))) == study


def test_a_flag_changes_one_setting_of_the_files_source(tmp_path):
    path = write(tmp_path, EVERYTHING)
    study = read_study(path, {"source": {"crop": [0.0, 0.0, 0.5, 0.5]}})
    assert study.source.crop == (0.0, 0.0, 0.5, 0.5)
    assert study.source.path == str(tmp_path / "fer")
    assert read_study(path, {"source": "jaffe=/j"}).source.path == "/j"


def test_the_home_folder_may_be_written_short(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    text = (
        "out = '~/run'\nsplits = '~/s'\nsource = 'fer2013=~/f'\ntargets = ['jaffe=~nobody-here/j']"
    )
    study = read_study(write(tmp_path, text))
    assert (study.out, study.splits) == ("/home/me/run", "/home/me/s")
    assert study.source.path == "/home/me/f"
    assert study.targets[0].path == str(tmp_path / "~nobody-here/j")


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
shares = st.floats(0, 1, exclude_max=True)


@steady
@given(
    path=words,
    out=words,
    pattern=words,
    left=st.floats(0, 0.4),
    rate=st.floats(0, 1e300, exclude_min=True),
    momentum=shares,
    channels=st.dictionaries(words, st.lists(st.integers(0, 9)), max_size=2),
    amounts=st.lists(st.integers(1, 100), min_size=1, unique=True),
)
@pytest.mark.parametrize("write_text", [to_toml, commented_toml])
def test_whatever_can_be_written_reads_back_equal(
    write_text, path, out, pattern, left, rate, momentum, channels, amounts
):
    own = {
        "name": "own",
        "starts_from": "BL",
        "trainable": [pattern],
        "channels": channels,
        "recipe": {"momentum": momentum},
    }
    study = study_from(
        {
            "source": {
                "name": "s",
                "format": "folder",
                "path": path,
                "options": {"subject": pattern},
            },
            "targets": [target(crop=[left, left, 1.0, 1.0], options={"middle": [left, 1]})],
            "out": out,
            "amounts": amounts,
            "recipe": {"learning_rate": rate},
            "strategy": [own],
        }
    )
    assert study_from(tomllib.loads(write_text(study))) == study


def test_comments_stand_beside_the_settings():
    text = commented_toml(real_study())
    assert "epochs = 60  # passes over the training images" in text
    assert 'splits = "paper"  # paper, strict, or a folder' in text
    assert text.count("need to see each but once; 0: a new one every epoch\n") == 2  # in one line


def test_every_setting_has_a_comment(tmp_path):
    text = commented_toml(read_study(write(tmp_path, EVERYTHING)))
    inner = ("subject", '"conv1_1.weight"', "learning_rate")  # of options, channels and recipe
    settings = [line for line in text.splitlines() if re.match(r"\w+ = |\[", line)]
    bare = [line for line in settings if "  # " not in line]
    assert [line for line in bare if not line.startswith(inner)] == []
    assert "[targets.options]  # further settings of the format's loader" in text


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16x3", "bf16"])
@pytest.mark.parametrize("device", ["auto", "cuda", "emulated"])
def test_a_gpu_has_every_precision(device, precision):
    study = read_study(flags={"device": device, "precision": precision})
    assert (study.device, study.precision) == (device, precision)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"modle": "tiny"}, "no setting 'modle'; did you mean 'model'?"),
        (
            {"recipe": {"epoch": 3}},
            r"\[recipe\]: there is no setting 'epoch'; did you mean 'epochs'",
        ),
        ({"recipe": {"optimizer": "adm"}}, "optimizer cannot be 'adm'; did you mean 'adam'?"),
        ({"recipe": {"learning_rate": 0.0}}, r"\[recipe\]: learning_rate: .*> 0"),
        ({"recipe": {"epochs": 0}}, r"epochs: .*>= 1"),
        ({"recipe": {"epochs": "many"}}, "epochs: expected int, got str"),
        ({"finetune": {"flip": 1.5}}, r"\[finetune\]: flip: .*<= 1"),
        ({"precision": "double"}, "precision cannot be 'double'; choose from .*fp32"),
        ({"precision": "bf16x"}, "precision cannot be 'bf16x'; did you mean 'bf16x3'"),
        (
            {"precision": "bf16", "device": "cpu"},
            "backend cpu computes in fp32, not in bf16; choose precision fp32, or device cuda",
        ),
        (
            {"precision": "tf32", "device": "cpu"},
            "backend cpu computes in fp32, not in tf32; choose precision fp32, or device cuda",
        ),
        ({"model": "svg10"}, "no model 'svg10'; did you mean 'svgg10'?"),
        ({"device": "gpu"}, "no device 'gpu'"),
        ({"strategies": ["BL", "FC-CL"]}, r"no strategy 'FC-CL'; did you mean 'FC\+CL'?"),
        ({"strategies": []}, "strategies: .*length >= 1"),
        ({"amounts": [0]}, r"amounts\[0\]: .*>= 1"),
        ({"amounts": [50, 50]}, "amount '50' is there twice"),
        ({"targets": ["jafe=/x"]}, "'jafe' is not a dataset format; did you mean 'jaffe'?"),
        ({"targets": [{"name": "x", "format": "jafe", "path": "/x"}]}, "did you mean 'jaffe'"),
        ({"targets": ["jaffe=/a", "jaffe=/b"]}, "dataset 'jaffe' is there twice"),
        ({"targets": [{"name": "a/b", "format": "jaffe", "path": "/x"}]}, "cannot name a dataset"),
        ({"targets": [3]}, 'expected "NAME=PATH"'),
        ({"targets": [target(pth="/y")]}, "no setting 'pth'; did you mean 'path'"),
        ({"targets": [target(path="")]}, "path: expected str of length >= 1"),
        ({"targets": [target(crop=[48, 68, 208, 228])]}, "as fractions of the image between"),
        ({"targets": [target(crop=[0, 0, 1])]}, "crop: expected list of length 4, got 3"),
        ({"targets": [target(options={"totl": 9})]}, "mug .options.: .*; did you mean 'total'"),
        ({"targets": [target(options={"total": "9"})]}, "total: expected int, got str"),
        (
            {
                "targets": [
                    {"name": "k", "format": "kdef", "path": "/x", "options": {"angles": ["HLL"]}}
                ]
            },
            "angles cannot hold 'HLL'; did you mean 'HL'",
        ),
        ({"targets": [target(seeds=3)]}, "seeds belongs to the study; write it above"),
        ({"recipe": {"seed": 3}}, r"\[recipe\]: seed belongs to the study; write it above"),
        ({"recipe": {"FC": {"epochs": 3}}}, r"write \[\[strategy\]\], name = \"FC\""),
        ({"strategy": [{"name": "x"}, {"name": "x"}]}, "strategy 'x' is there twice"),
        (
            {"strategy": [{"name": "FC", "trainable": ["all"]}]},
            "FC is built in, and only its recipe can be changed; .* another name",
        ),
        ({"strategy": [{"name": "FC", "recipe": {"epoch": 1}}]}, "FC recipe: .* 'epochs'"),
        ({"strategy": [{"nam": "x"}]}, r"\[\[strategy\]\]: .* 'nam'; did you mean 'name'"),
        ({"strategy": [{"name": ["x"]}]}, "name: expected str, got list"),
        ({"strategy": [{"starts_from": "BL"}]}, "missing required field name"),
        ({"strategy": [{"name": "random"}]}, "rename the strategy"),
        ({"strategies": ["random"]}, "no strategy 'random'"),
        ({"strategy": [{"name": "x", "trains_on": "sauce"}]}, "did you mean 'source'"),
        ({"strategy": [{"name": "x", "starts_from": "FD"}]}, "no strategy 'FD'"),
        ({"strategy": [{"name": "x", "starts_from": "x"}]}, "in a circle: x"),
        ({"strategy": [{"name": "x", "recipe": {"epohcs": 1}}]}, "x recipe: .* 'epochs'"),
    ],
)
def test_a_wrong_setting_is_named_with_its_mend(settings, message):
    with pytest.raises(FercoreError, match=message):
        real_study(**settings)


def test_targets_need_a_source():
    with pytest.raises(FercoreError, match="add --source NAME=PATH"):
        study_from({"targets": ["jaffe=/j"]})


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FercoreError, match=r"absent\.toml: cannot be read"):
        read_study(tmp_path / "absent.toml")
    with pytest.raises(FercoreError, match="is not valid TOML"):
        read_study(write(tmp_path, "seeds = = 3"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("target = ['jaffe=/x']", "no setting 'target'; did you mean 'targets'"),
        ("[recip]", "no setting 'recip'; did you mean 'recipe'"),
        ("[targets]", r"\[targets\]: expected a list, or tables that are each headed"),
        ("[source]\nname = 'jaffe'", "missing required field path"),
        ("source = 'jafe=/x'", r"study.toml \[source\]: 'jafe' is not .* did you mean 'jaffe'"),
        ("seed = 1\nseed = 2", "is not valid TOML"),
        (
            r'splits = "a\d"',
            r"is not valid TOML \(.*\); put text with a backslash in single quotes",
        ),
        ("[[strategies]]\nname = 'x'", r"head a strategy's own table \[\[strategy\]\]"),
        ("recipe = 3", r"\[recipe\]: expected a table"),
        ("targets = 'jaffe=/x'", r"\[targets\]: expected a list"),
        ("strategy = 'FC'", r"\[strategy\]: expected a list of tables"),
        ("strategy = ['FC']", r"\[\[strategy\]\]: expected a table"),
        ("source = 3", r"\[source\]: expected \"NAME=PATH\""),
        ("splits = 3", "splits: expected str, got int"),
    ],
)
def test_settings_of_a_wrong_shape(tmp_path, text, message):
    with pytest.raises(FercoreError, match=message):
        read_study(write(tmp_path, text))


def test_changes_are_said_in_words():
    old = real_study()
    new = real_study(
        recipe={"epochs": 5},
        amounts=[100],
        out="elsewhere",
        targets=["jaffe=/data/jaffe", "mug=/data/mug"],
    )
    assert changes(old, old) == []
    assert changes(old, new) == [
        "amounts: 50, 100 -> 100",
        "recipe.epochs: 60 -> 5",
        "targets mug: added",
    ]
    assert "targets mug: removed" in changes(new, old)
    cropped = {"name": "jaffe", "path": "/data/jaffe", "crop": [0, 0, 1, 1]}
    assert changes(old, real_study(targets=[cropped])) == [
        "targets jaffe.crop: unset -> 0.0, 0.0, 1.0, 1.0"
    ]


def test_small_sets_train_for_more_epochs():
    recipe = Recipe(epochs=10, min_steps=300, batch_size=64)
    assert recipe.for_images(131).epochs == 100  # 3 updates an epoch
    assert recipe.for_images(28_709).epochs == 10
    assert recipe.steps_per_epoch(131) == 3


def test_recipe_settings_are_checked_wherever_they_come_from():
    with pytest.raises(FercoreError, match="here: momentum"):
        with_settings(Recipe(), {"momentum": 1.0}, "here")


def test_a_study_is_frozen():
    with pytest.raises(AttributeError):
        Study().seed = 3
