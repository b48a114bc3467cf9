"""The plan of runs: which, in which order, from what, on what."""

import msgspec
import pytest

from fercore.config import study_from
from fercore.errors import FercoreError
from fercore.plan import Part, Run, fingerprint, make_plan, single_run


def study(**settings):
    return study_from({"source": "fer2013=/f", "targets": ["jaffe=/j"], **settings})


def plan(targets=("jaffe",), **settings):
    return make_plan(study(**settings), "fer2013", targets)


def by_id(runs):
    return {run.id: run for run in runs}


def test_the_papers_study_of_one_target():
    assert [run.id for run in plan()] == [
        "BL",
        *("jaffe-FC-50", "jaffe-FC+CL-50", "jaffe-RE-50", "jaffe-FU-50", "jaffe-TO-50"),
        *("jaffe-FC-100", "jaffe-FC+CL-100", "jaffe-RE-100", "jaffe-FU-100", "jaffe-TO-100"),
    ]


def test_the_baseline_is_trained_once_for_all_targets():
    ids = [run.id for run in plan(("jaffe", "mug"))]
    assert len(ids) == 21
    assert ids.count("BL") == 1


def test_what_each_strategy_sees():
    runs = by_id(plan())
    source, target = Part("fer2013", "train"), Part("jaffe", "train", 50)
    assert runs["BL"].trains_on == (source,)
    assert runs["BL"].choose_on == ("source",)
    assert runs["BL"].validation == {"source": Part("fer2013", "validation")}
    assert runs["jaffe-FC-50"].trains_on == (target,)
    assert runs["jaffe-FC-50"].starts_from == "BL"
    assert runs["jaffe-FC-50"].choose_on == ("target",)
    assert runs["jaffe-FU-50"].trains_on == (source, target)
    assert runs["jaffe-FU-50"].starts_from is None
    assert runs["jaffe-FU-50"].choose_on == ("source", "target")
    assert runs["jaffe-TO-50"].starts_from is None
    both = {"source": Part("fer2013", "validation"), "target": Part("jaffe", "validation")}
    assert runs["jaffe-FC-50"].validation == both  # the source is followed while it is forgotten


def test_a_given_network_stands_for_bl_alone():
    ordinary, given = by_id(plan()), by_id(plan(baseline="/b.safetensors"))
    assert given["BL"].network == "/b.safetensors"
    assert ordinary["BL"].network is None
    for name in ordinary.keys() - {"BL"}:
        assert given[name] == ordinary[name]


def test_finetuning_and_training_from_scratch_have_their_own_recipes():
    runs = by_id(plan(recipe={"epochs": 9}, finetune={"epochs": 4}))
    assert runs["BL"].recipe.epochs == runs["jaffe-TO-100"].recipe.epochs == 9
    assert runs["jaffe-RE-100"].recipe.epochs == 4


def test_only_runs_on_a_target_alone_are_lengthened():
    runs = by_id(plan(recipe={"epochs": 9, "min_steps": 100}, finetune={"min_steps": 50}))
    assert runs["BL"].recipe_for(64).epochs == 9
    assert runs["jaffe-FU-50"].recipe_for(64).epochs == 9
    assert runs["jaffe-TO-50"].recipe_for(64).epochs == 100
    assert runs["jaffe-RE-50"].recipe_for(64).epochs == 50


def test_a_strategy_brings_along_what_it_starts_from():
    own = [{"name": "then", "starts_from": "RE", "trains_on": "both"}]
    runs = plan(strategies=["then"], strategy=own, amounts=[50])
    assert [run.id for run in runs] == ["BL", "jaffe-RE-50", "jaffe-then-50"]
    assert runs[2].starts_from == "jaffe-RE-50"


def test_a_strategy_that_only_ever_sees_the_source_is_trained_once():
    own = [{"name": "more", "starts_from": "BL", "trains_on": "source"}]
    runs = plan(("jaffe", "mug"), strategies=["more"], strategy=own)
    assert [run.id for run in runs] == ["BL", "more"]
    back = [{"name": "back", "starts_from": "RE", "trains_on": "source"}]
    runs = plan(strategies=["back"], strategy=back, amounts=[100])
    assert runs[-1].id == "jaffe-back-100"
    assert runs[-1].trains_on == (Part("fer2013", "train"),)


def test_several_seeds():
    runs = plan(seed=5, seeds=2, strategies=["FC"], amounts=[100])
    assert [run.id for run in runs] == ["BL-s5", "jaffe-FC-100-s5", "BL-s6", "jaffe-FC-100-s6"]
    assert runs[3].starts_from == "BL-s6"
    assert runs[3].seed == 6


def test_a_seeds_networks_do_not_depend_on_how_many_seeds_there_are():
    alone, among = plan(seed=1)[0], plan(seed=1, seeds=3)[0]
    assert (alone.seed, alone.number) == (among.seed, among.number)


def test_run_numbers_differ():
    numbers = [run.number for run in plan(("jaffe", "mug", "tfeid"))]
    assert len(set(numbers)) == len(numbers)


def test_every_run_comes_after_the_one_it_starts_from():
    seen = set()
    for run in plan(("jaffe", "mug"), seeds=2):
        assert run.starts_from is None or run.starts_from in seen
        seen.add(run.id)


def test_runs_survive_being_written_down():
    for run in plan():
        assert msgspec.json.decode(msgspec.json.encode(run), type=Run) == run


def test_ids_that_collide_are_refused():
    own = [{"name": "x-FC"}]
    with pytest.raises(FercoreError, match="two runs would be called a-x-FC-50"):
        plan(("a", "a-x"), strategies=["FC", "x-FC"], strategy=own, amounts=[50])


def test_a_fingerprint_moves_with_everything_that_decides_the_weights():
    manifests = {"fer2013": "1", "jaffe": "2", "mug": "3"}
    run = by_id(plan())["jaffe-FC-50"]
    base = fingerprint(run, "parent", manifests)
    assert fingerprint(run, "parent", {**manifests, "mug": "9"}) == base
    assert fingerprint(run, "other", manifests) != base
    assert fingerprint(run, "parent", {**manifests, "jaffe": "9"}) != base
    other = by_id(plan(finetune={"learning_rate": 0.5}))["jaffe-FC-50"]
    assert fingerprint(other, "parent", manifests) != base


def test_a_single_run_trains_on_one_dataset():
    run = single_run(study(), "jaffe")
    assert run.trains_on == (Part("jaffe", "train"),)
    assert run.choose_on == ("source",)
