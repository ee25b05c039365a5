"""Model and data to trained model and scores."""

from medsearch.train.evaluator import Trained, Training, fresh
from medsearch.train.loop import Epoch, Recipe, TrainingError, evaluate, predict, train

__all__ = [
    "Epoch",
    "Recipe",
    "Trained",
    "Training",
    "TrainingError",
    "evaluate",
    "fresh",
    "predict",
    "train",
]
