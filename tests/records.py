"""Records as a study leaves them, for tests of everything that reads them."""

from pathlib import Path

from fercore.answers import StudyAnswers
from fercore.evidence import Evidence
from fercore.results import Record
from fercore.run_directory import RunDirectory
from fercore.versus import Comparisons


def record(strategy="BL", amount=None, source=0.6, target=0.4, **changes):
    """A record with these test accuracies: 1000 source images, 50 of the target."""
    values = {
        "run": strategy if amount is None else f"jaffe-{strategy}-{amount}",
        "strategy": strategy,
        "source": "fer2013",
        "target": "jaffe",
        "amount": amount,
        "seed": 0,
        "model": "tiny",
        "synthetic": False,
        "shared_classes": 7,
        "source_accuracy": source,
        "n_source": 1000,
        "target_accuracy": target,
        "n_target": 50,
        "source_accuracy_shared": source,
        "n_source_shared": 1000,
        "target_accuracy_shared": target,
        "n_target_shared": 50,
        "source_balanced_accuracy": source,
        "target_balanced_accuracy": target,
        "source_macro_f1": source,
        "target_macro_f1": target,
        "source_validation_accuracy": source,
        "n_source_validation": 1000,
        "target_validation_accuracy": target,
        "n_target_validation": 20,
        "training_images": 100,
        "epochs": 3,
        "best_epoch": 2,
        "source_loss": 1.0,
        "target_loss": 2.0,
        "source_confusion": [[0]],
        "target_confusion": [[0]],
    }
    return Record(**{**values, **changes})


def study():
    """BL, then FC (forgets, gains), FU (keeps, gains) and TO, each with half and all images."""
    return [
        record(),
        record("FC", 50, 0.5, 0.5),
        record("FC", 100, 0.45, 0.6),
        record("FU", 50, 0.6, 0.5),
        record("FU", 100, 0.61, 0.7),
        record("TO", 50, 0.2, 0.3),
        record("TO", 100, 0.2, 0.34),
    ]


def unanswered(records):
    """Evidence of records alone, where the answers of the networks are lost."""
    answers = StudyAnswers(RunDirectory(Path("nowhere")))
    missing = Comparisons({}, {}, "the answers are lost")
    return Evidence(records, answers, missing, missing)
