"""Model and data to trained model and scores."""

from medsearch.train.evaluator import Trained, Training, fresh
from medsearch.train.loop import Epoch, TrainingError, TrainingRecipe, evaluate, predict, train
from medsearch.train.task import Task, make_task

__all__ = [
    "Epoch",
    "TrainingRecipe",
    "Task",
    "Trained",
    "Training",
    "TrainingError",
    "evaluate",
    "fresh",
    "make_task",
    "predict",
    "train",
]
