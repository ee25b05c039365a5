"""Model and data to trained model and scores."""

from medsearch.train.evaluator import EVALUATORS, Evaluation, Evaluator, Trained, fresh
from medsearch.train.evaluators.training import Training
from medsearch.train.loop import Epoch, TrainingError, TrainingRecipe, evaluate, predict, train
from medsearch.train.session import Leg, Session

__all__ = [
    "EVALUATORS",
    "Epoch",
    "Evaluation",
    "Evaluator",
    "Leg",
    "Session",
    "TrainingRecipe",
    "Trained",
    "Training",
    "TrainingError",
    "evaluate",
    "fresh",
    "predict",
    "train",
]
