"""A study of two runs, told to a listener."""

from fercore.forecast import Job, Work
from fercore.run_directory import DatasetFacts
from tests.records import record

NO_TESTS = {"work": Work(0, 1), "views": 0, "followed": 0, "tested": 0}
JOBS = [
    Job(run="BL", kind="all", images=100, epochs=2, steps=4, **NO_TESTS),
    Job(run="jaffe-FC-50", kind="fc", images=10, epochs=1, steps=1, **NO_TESTS),
]


class Data:
    """As much of a StudyData as is shown."""

    def facts(self):
        return {
            "jaffe": DatasetFacts(
                format="jaffe",
                synthetic=False,
                images={"train": 131, "validation": 15, "test": 67},
                shares={},
                digest="",
                notes=("A note.",),
                skipped=(("a.png", "truncated"), ("b.png", "empty")),
            )
        }


def line(epoch, **changes):
    values = {
        "epoch": epoch,
        "train_loss": 1.25,
        "train_accuracy": 0.5,
        "learning_rate": 0.5,
        "validation": {
            "source": {"accuracy": 0.25, "loss": 1.5},
            "target": {"accuracy": 0.125, "loss": 1.75},
        },
        "images_per_s": 50.0,
        "kept_features": 0,
    }
    return {**values, **changes}


def play(listener):
    """A study of two runs, the second of which was finished before."""
    with listener:
        listener.drawing("faces", 5, 10)
        listener.drawing("faces", 10, 10)
        listener.planned(JOBS, Data())
        listener.started("BL")
        for epoch in (1, 2):
            listener.step("BL", 1, 2)
            listener.step("BL", 2, 2)
            listener.epoch("BL", line(epoch))
        listener.finished("BL", [record()])
        listener.started("jaffe-FC-50")
        listener.finished("jaffe-FC-50", [record("FC", 50, 0.5, 0.75)])
