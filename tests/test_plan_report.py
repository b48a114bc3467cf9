"""Plans of steps: their work against tables written by hand, and what freezing leaves of them."""

from __future__ import annotations

import json
import re

import msgspec
import pytest

from fercore import freeze, plan_report
from fercore.backends.sketch import SketchBackend
from fercore.config import Recipe, Study
from fercore.costs import GPUS, NARROW
from fercore.errors import FercoreError
from fercore.memory import Workload
from fercore.pricing import fused_bytes, launches
from fercore.profiling import Step

# name: side of the input, channels in and out, whether a 2x2 pool follows
CONVOLUTIONS = {
    "svgg10": [
        ("conv1_1", 48, 1, 64, False),
        ("conv1_2", 48, 64, 64, True),
        ("conv2_1", 24, 64, 128, False),
        ("conv2_2", 24, 128, 128, True),
        ("conv3_1", 12, 128, 256, False),
        ("conv3_2", 12, 256, 256, False),
        ("conv3_3", 12, 256, 256, True),
        ("conv4_1", 6, 256, 512, False),
        ("conv4_2", 6, 512, 512, False),
        ("conv4_3", 6, 512, 512, True),
    ],
    "tiny": [
        ("conv1_1", 48, 1, 16, False),
        ("conv1_2", 48, 16, 16, True),
        ("conv2_1", 24, 16, 32, False),
        ("conv2_2", 24, 32, 32, True),
        ("conv3_1", 12, 32, 64, False),
        ("conv3_2", 12, 64, 64, False),
        ("conv3_3", 12, 64, 64, True),
        ("conv4_1", 6, 64, 128, False),
        ("conv4_2", 6, 128, 128, False),
        ("conv4_3", 6, 128, 128, True),
    ],
}
LINEAR = {
    "svgg10": [("fc1", 4608, 2048), ("fc2", 2048, 1024), ("fc3", 1024, 7)],
    "tiny": [("fc1", 1152, 512), ("fc2", 512, 256), ("fc3", 256, 7)],
}


def plan(model="svgg10", strategy="BL", batch=64, device="emulated", precision="fp32", **options):
    study = Study()
    chosen = study.strategy_named(strategy)
    recipe = msgspec.structs.replace(study.recipe_of(chosen), batch_size=batch)
    workload = Workload(model, chosen, recipe, max(batch, 28709), **options)
    return plan_report.make(workload, device, precision, GPUS["h200"])


def flops_by_hand(model):
    """Of an image: each convolution forward and two gradients, but none of the image itself."""
    total = 0
    for _, side, inputs, outputs, _ in CONVOLUTIONS[model]:
        total += (3 if inputs > 1 else 2) * 2 * side * side * 9 * inputs * outputs
    return total + sum(3 * 2 * inputs * outputs for _, inputs, outputs in LINEAR[model])


def bytes_by_hand(model, batch):
    """Of a step in float32: what every call reads and writes, one by one."""
    n, total = batch, 0
    total += 2 * 4 * n + 2 * 12 + 32 + 16 + 32  # order, indices; cursor, rates twice, counters
    total += n * (48 * 48 * 5 + 4 + 4 + 4) + 16  # images, labels, indices; x, y; counters
    for _, side, inputs, outputs, pooled in CONVOLUTIONS[model]:
        x, before = n * side**2 * inputs, n * side**2 * outputs
        weight, after = 9 * inputs * outputs, before // 4 if pooled else before
        places = after if pooled else 0  # one byte each
        total += 4 * (x + weight + outputs + after) + places  # forward
        # The product above reads what the epilogue made, and writes the gradient before it, here
        # in place of that after it (its x, below).
        total += 4 * before + places
        total += 4 * (x + before + weight + outputs)  # weight and bias gradients
        total += 4 * (before + weight + x) if inputs > 1 else 0  # input gradient
    for name, inputs, outputs in LINEAR[model]:
        x, weight, out = n * inputs, inputs * outputs, n * outputs
        total += 4 * (x + weight + outputs + out)
        total += 4 * (x + weight + outputs + out)
        total += 4 * (x + weight + out)
        if name != "fc3":
            total += 16  # dropout's counters
            total += 4 * out  # the product above reads what the epilogue made
    total += 4 * 2 * n * 7 + 4 * n + 2 * 32  # loss: logits, gradient, labels, statistics
    sizes = [9 * i * o for _, _, i, o, _ in CONVOLUTIONS[model]]
    sizes += [i * o for _, i, o in LINEAR[model]]
    sizes += [row[3] for row in CONVOLUTIONS[model]] + [o for _, _, o in LINEAR[model]]
    # Parameter and velocity in and out, and the gradient; the rates.
    return total + sum(4 * 5 * size + 32 for size in sizes)


@pytest.mark.parametrize("model", ["svgg10", "tiny"])
@pytest.mark.parametrize("batch", [3, 256])
def test_work_is_that_of_the_layer_table(model, batch):
    report = plan(model, batch=batch, device="cpu")
    assert report.flops == batch * flops_by_hand(model)
    assert sum(call.bytes for call in report.calls) == bytes_by_hand(model, batch)
    assert report.bytes_an_image["this step"].own == bytes_by_hand(model, batch) / batch
    assert report.kernels == 0, "the cpu launches no kernels"


def test_svgg10_needs_the_operations_and_bytes_that_it_should():
    """3.897 GFLOP; fused in bf16, 5.1 MB an image at batch 1024: see ``fused_by_hand``."""
    report = plan(batch=1024)
    assert report.flops / 1024 == pytest.approx(3.897e9, rel=2e-4)
    fused = report.bytes_an_image["everything fused"]
    assert fused.in_bf16 == pytest.approx(5.1e6, rel=0.01)
    assert fused.in_bf16 == pytest.approx(fused_by_hand("svgg10", 1024) / 1024, rel=1e-3)
    order = ("everything fused", "this step", "nothing fused")
    sizes = [report.bytes_an_image[name] for name in order]
    for one in ("own", "in_bf16"):
        least, here, most = (getattr(size, one) for size in sizes)
        assert least < here < most


def fused_by_hand(model, batch):
    """In bf16: each layer reads its input and writes its output, forward; and again backward, once
    for each gradient. Pooled maps come with a quarter of a byte an entry."""
    total = batch * 48 * 48 * (1 + 4)  # uint8 in, float32 out
    for _, side, inputs, outputs, pooled in CONVOLUTIONS[model]:
        x, out = batch * side**2 * inputs, batch * side**2 * outputs // (4 if pooled else 1)
        places, weight = out / 4 if pooled else 0, 9 * inputs * outputs
        passes = 3 if inputs > 1 else 2
        total += passes * (2 * (x + out) + places) + (passes - 1) * 2 * weight
        total += (4 * 4 + 2 * 2) * weight  # parameter, velocity; two copies
    for _, inputs, outputs in LINEAR[model]:
        weight = inputs * outputs
        total += 3 * 2 * batch * (inputs + outputs) + 2 * 2 * weight + (4 * 4 + 2 * 2) * weight
    return total


# -- kernels --------------------------------------------------------------------------------------


def test_kernels_of_a_pooled_convolution():
    report = plan(batch=1024, precision="bf16x3")
    (call,) = (c for c in report.calls if c.label == "conv4_3 forward")
    (kernel,) = call.kernels
    assert kernel.kernel == "conv2d_forward_pool_bf16x3_mma"
    # 1024 * 6 * 6 pixels and 512 channels in tiles of 128 x 128.
    assert kernel.grid == (288 * 4, 1, 1)
    assert kernel.tile == (128, 128)
    assert kernel.waves == pytest.approx(1152 / (132 * 2))
    assert (
        ": 1152x1x1 blocks of 128 threads, tiles of 128x128, 4.36 waves\n"
        in plan_report.to_text(report)
    )
    assert call.flops == kernel.flops == 2 * 1024 * 36 * 9 * 512 * 512
    assert call.floor == pytest.approx(call.flops / (790e12 / 3))
    assert call.bound == "FLOPs"


def test_what_tensor_cores_do_not_suit_is_priced_in_fp32():
    report = plan(batch=1024, precision="bf16x3")
    (call,) = (c for c in report.calls if c.label == "conv1_1 forward")
    assert call.kernels[0].precision == "fp32"
    assert call.bound == "bytes"
    assert call.floor == pytest.approx(call.bytes / 4.3e12)


def test_every_call_on_a_device_launches():
    report = plan("tiny-bn", batch=8)
    assert all(call.kernels for call in report.calls)
    assert report.kernels == len(launches(report.calls)) > len(report.calls)


# -- frozen layers --------------------------------------------------------------------------------

TRAINED = {
    "BL": ("conv", "fc"),
    "RE": ("conv", "fc"),
    "FU": ("conv", "fc"),
    "TO": ("conv", "fc"),
    "FC": ("fc",),
    "FC+CL": ("conv4_3", "fc"),
}


def test_every_strategy_is_tried():
    assert TRAINED.keys() == freeze.STRATEGIES.keys()


@pytest.mark.parametrize("model", ["svgg10", "tiny-bn"])
@pytest.mark.parametrize("strategy", TRAINED)
def test_frozen_layers_have_no_calls_no_launches_and_no_buffers(model, strategy):
    """Their features are kept: steps begin above them."""
    report = plan(model, strategy, batch=32)
    named = [call.label for call in report.calls] + [buffer.name for buffer in report.buffers]
    layers = {re.match(r"[a-z]+[\d_]*", name)[0] for name in named}
    learns = {layer for layer in layers if layer.startswith(TRAINED[strategy])}
    rest = {"batch", "augment", "features", "loss"}
    pools = {"pool1_2", "pool2_2", "pool3_3", "pool4_3"} if model == "tiny-bn" else set()
    assert layers - learns - rest - pools == set()
    assert (
        ("augment" in layers) == (report.starts_from == "images") == ("conv" in TRAINED[strategy])
    )
    convolutions = {row[0] for row in CONVOLUTIONS["svgg10"]}
    expected = {name for name in convolutions if name.startswith(TRAINED[strategy])}
    assert learns == expected | {"fc1", "fc2", "fc3"}


@pytest.mark.parametrize(("strategy", "last"), [("FC", "conv4_3"), ("FC+CL", "conv4_2")])
def test_in_ever_new_views_frozen_layers_only_run_forward(strategy, last):
    study = Study()
    chosen = study.strategy_named(strategy)
    recipe = msgspec.structs.replace(study.recipe_of(chosen), views=0, batch_size=32)
    report = plan_report.make(
        Workload("svgg10", chosen, recipe, 1000), "emulated", "fp32", GPUS["h200"]
    )
    assert report.starts_from == "images"
    for call in report.calls:
        layer, _, direction = call.label.partition(" ")
        if direction != "forward":
            assert layer.startswith(TRAINED[strategy]), call.label
    # What a frozen layer wrote is read by the next one, and gone; but for the last one's.
    for buffer in report.buffers:
        layer = buffer.name.partition(" ")[0]
        if layer.startswith("conv") and not layer.startswith(TRAINED[strategy]):
            assert layer == last or buffer.last == buffer.first + 1, buffer
            assert not buffer.name.endswith("argmax")


def test_what_is_kept_of_frozen_layers_is_said():
    """Their forward pass: a third of what their three passes would take."""
    report = plan(strategy="FC", batch=32)
    forward = sum(2 * side**2 * 9 * i * o for _, side, i, o, _ in CONVOLUTIONS["svgg10"])
    assert report.frozen_flops == forward
    assert report.views == 8
    assert "1.277 GFLOP an image in the layers below, once for each of 8 views" in (
        plan_report.to_text(report)
    )
    assert plan(strategy="BL").frozen_flops == 0


# -- the report -----------------------------------------------------------------------------------


def test_a_large_plan_takes_no_memory():
    """A step of a million images would take two terabytes."""
    report = plan(batch=2**20)
    assert report.memory.peak > 2**40
    assert report.flops == 2**20 * flops_by_hand("svgg10")


def test_buffers_lie_in_the_arena_and_apart():
    report = plan("tiny", batch=16)
    for one in report.buffers:
        assert 0 <= one.offset <= one.offset + one.bytes <= report.arena_bytes
        assert 0 <= one.first <= one.last < len(report.calls)
        for other in report.buffers:
            together = one.first <= other.last and other.first <= one.last
            if one is not other and together:
                apart = one.offset + one.bytes <= other.offset
                assert apart or other.offset + other.bytes <= one.offset
    assert "conv1_1 forward: out" in {one.name for one in report.buffers}
    assert max(one.bytes for one in report.buffers) <= report.live_bytes <= report.arena_bytes


def test_what_fusions_save():
    """A pool apart: the map is written and read once more each way, with twice the places."""
    report = plan(batch=64)
    pooled = [64 * row[1] ** 2 * row[3] for row in CONVOLUTIONS["svgg10"] if row[4]]
    # Forward, the whole map is written and read (8 bytes an entry, of which there are 4 for each
    # pooled one). Backward, its gradient is written by the pool's and read by the ReLU's, and the
    # ReLU's reads the whole output in place of the pooled one: see functions.
    assert report.saved_bytes["relu_pool"] == sum(4 * 2 * size for size in pooled) + sum(
        4 * (2 * size + size) - 4 * size // 4 for size in pooled
    ) + sum(4 * 2 * size // 4 for size in pooled)
    # A ReLU apart takes its gradient with it, and the hidden layers' dropout, too. What a product
    # leaves to them is written, and read again; so are the counters of dropout's second call.
    plain = sum(64 * row[1] ** 2 * row[3] for row in CONVOLUTIONS["svgg10"] if not row[4])
    hidden, counters = 64 * (2048 + 1024), 2 * 16
    assert report.saved_bytes["relu"] == 4 * 2 * (2 * plain + 4 * hidden) + counters
    assert report.saved_bytes["dropout"] == 4 * 2 * 3 * hidden + counters
    outputs = plain + sum(pooled) // 4
    assert report.saved_bytes["epilogue_gradient"] == 4 * 2 * (outputs + 2 * hidden) + counters


def test_what_an_update_that_sums_slices_saves():
    """Gradients written and read. conv4's weights have tiles for all blocks, and no slices."""
    fused, apart = plan(batch=64), plan(batch=64, without=("update",))
    layers = [layer for layer in CONVOLUTIONS["svgg10"] if not layer[0].startswith("conv4")]
    saved = 2 * 4 * sum(9 * i * o + o for _, _, i, o, _ in layers)
    assert fused.saved_bytes["update"] == apart.saved_bytes["update"] == saved
    assert fused.kernels < apart.kernels
    assert fused.arena_bytes <= apart.arena_bytes
    assert fused.memory.peak < apart.memory.peak
    assert fused.slice_bytes > 0 == apart.slice_bytes
    assert plan(device="cpu").slice_bytes == plan(device="numba").slice_bytes == 0


def test_without_a_fusion_it_is_what_the_step_would_save():
    fused, apart = plan("tiny", batch=16), plan("tiny", batch=16, without=("relu_pool",))
    moved = [sum(call.bytes for call in report.calls) for report in (fused, apart)]
    assert moved[1] - moved[0] == fused.saved_bytes["relu_pool"] == apart.saved_bytes["relu_pool"]
    assert "relu_pool would save" in plan_report.to_text(apart)
    assert apart.memory.parts["steps"] > fused.memory.parts["steps"]
    assert "relu_pool saves" in plan_report.to_text(fused)


def test_the_text():
    text = plan_report.to_text(plan("tiny", batch=64))
    head, limits, *rest = text.splitlines()
    assert head == "tiny, BL, batch 64, fp32 on emulated: a training step from images"
    assert limits == f"limits of {GPUS['h200']}"
    assert any("conv2d_forward_pool: 2304x1x1 blocks of 256 threads" in line for line in rest)
    assert f"calls      {67}, " in text
    assert "at the peak of training: parameters 4.6 MiB, moments 4.6 MiB" in text


def test_json_holds_the_same():
    report = plan("tiny", "FC", batch=64)
    read = json.loads(report.to_json())
    assert read["flops"] == report.flops
    assert read["limits"]["products"]["bf16"] == 790e12
    assert [call["label"] for call in read["calls"]] == [call.label for call in report.calls]
    assert read["calls"][0]["kernels"][0]["grid"] == list(report.calls[0].kernels[0].grid)
    assert read["memory"]["peak"] == report.memory.peak


def test_an_unknown_fusion():
    with pytest.raises(FercoreError, match="no fusion 'pool'"):
        plan("tiny", without=("pool",))


@pytest.mark.parametrize(("optimizer", "more"), [("sgd", 0), ("adam", 8)])
def test_fused_bytes_know_the_optimizers_state(optimizer, more):
    """Adam has one more moment to read and write."""
    recipe = Recipe(optimizer=optimizer)
    apart = ("epilogue_gradient",)
    workload = Workload("tiny", Study().strategy_named("BL"), recipe, 100, without=apart)
    step = Step(workload, SketchBackend())
    weights = step.model.num_parameters()
    expected = fused_by_hand("tiny", recipe.batch_size) + more * weights
    assert fused_bytes(step.plan.recording, NARROW) == pytest.approx(expected, rel=0.01)


def test_a_plan_in_bf16_is_what_the_one_in_fp32_foretells():
    """But for the logits, in fp32, and for the copy of the weights: one for both products."""
    foretold, plain = (plan(precision=precision).bytes_an_image for precision in ("fp32", "bf16"))
    for of_what, found in plain.items():
        assert found.own == pytest.approx(found.in_bf16, rel=1e-4), of_what
        assert found.own == pytest.approx(foretold[of_what].in_bf16, rel=0.08), of_what
