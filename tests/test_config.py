"""Reading, checking and writing studies."""

import pytest

from fercore.config import Recipe, Study, read_study, study_from, with_settings
from fercore.config_text import changes, commented_toml, to_toml
from fercore.errors import FercoreError


def real_study(**settings):
    return study_from({"source": "fer2013=/data/fer", "targets": ["jaffe=/data/jaffe"], **settings})


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


def test_comments_stand_beside_the_settings():
    text = commented_toml(real_study())
    assert "epochs = 60  # passes over the training images" in text
    assert 'splits = "paper"  # paper, strict, or a folder' in text


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
        ({"strategy": [{"name": "BL"}]}, "strategy 'BL' is there twice"),
        ({"strategy": [{"name": "random"}]}, "rename the strategy"),
        ({"strategies": ["random"]}, "no strategy 'random'"),
        ({"strategy": [{"name": "x", "trains_on": "sauce"}]}, "did you mean 'source'"),
        ({"strategy": [{"name": "x", "starts_from": "FD"}]}, "no strategy 'FD'"),
        ({"strategy": [{"name": "x", "starts_from": "x"}]}, "in a circle: x"),
        ({"strategy": [{"name": "x", "recipe": {"epohcs": 1}}]}, "strategy x .* 'epochs'"),
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
