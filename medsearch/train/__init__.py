"""Model and data to trained model and scores."""

from medsearch.train.evaluator import EVALUATORS, Evaluation, Evaluator, Trained, fresh
from medsearch.train.evaluators.training import Training
from medsearch.train.loop import Epoch, TrainingError, TrainingRecipe, evaluate, predict, train

__all__ = [
    "EVALUATORS",
    "Epoch",
    "Evaluation",
    "Evaluator",
    "TrainingRecipe",
    "Trained",
    "Training",
    "TrainingError",
    "evaluate",
    "fresh",
    "predict",
    "train",
]
