"""Classification: cross-entropy with label smoothing; accuracy, balanced accuracy and AUC."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medsearch.tasks import TASKS, ClassLabels, Metric, Task

if TYPE_CHECKING:
    from torch import Tensor

LABEL_SMOOTHING = 0.1
TEMPERATURE = 2.0


@TASKS.add("classification")
class Classification(Task):
    """Images to classes; AUC decides between two classes, accuracy among more."""

    TARGET = ClassLabels()
    METRICS = {
        "accuracy": Metric(label="accuracy"),
        "balanced_accuracy": Metric(label="balanced accuracy"),
        "auc": Metric(label="AUC"),
    }
    BALANCED = "balanced accuracy"

    def __init__(self, *, outputs: int, dims: int) -> None:
        super().__init__(outputs=outputs, dims=dims)
        self.primary = "auc" if outputs == 2 else "accuracy"

    def loss(self, output_BK: Tensor, target_B: Tensor) -> Tensor:
        from torch.nn import functional as F

        return F.cross_entropy(output_BK, target_B, label_smoothing=LABEL_SMOOTHING)

    def match(self, output_BK: Tensor, wanted_BK: Tensor) -> Tensor:
        """T^2 KL(softmax(wanted / T) || softmax(output / T)) with T = 2 (Hinton et al. 2015, arXiv:1503.02531)."""
        from torch.nn import functional as F

        log_output_BK, log_wanted_BK = ((logits / TEMPERATURE).log_softmax(1) for logits in (output_BK, wanted_BK))
        return TEMPERATURE**2 * F.kl_div(log_output_BK, log_wanted_BK, reduction="batchmean", log_target=True)

    def metrics(self, output_BK: Tensor, target_B: Tensor) -> dict[str, float]:
        """Accuracy, recall averaged over the classes present, and their one-against-rest AUC averaged likewise.

        The AUC is 0.5 where only one class is present.
        """
        from torchmetrics.functional.classification import binary_auroc, multiclass_accuracy

        present = target_B.unique()
        recall_K = multiclass_accuracy(output_BK, target_B, self.outputs, average=None)
        share_BK = output_BK.softmax(1)
        aucs = [float(binary_auroc(share_BK[:, k], (target_B == k).long())) for k in present if len(present) > 1]
        return {
            "accuracy": float((output_BK.argmax(1) == target_B).float().mean()),
            "balanced_accuracy": float(recall_K[present].mean()),
            "auc": sum(aucs) / len(aucs) if aucs else 0.5,
        }
