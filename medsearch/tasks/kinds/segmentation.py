"""Segmentation: Dice plus cross-entropy; mean Dice over images and structures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medsearch.tasks import TASKS, ClassMaps, Metric, Task

if TYPE_CHECKING:
    from torch import Tensor

TEMPERATURE = 2.0


@TASKS.add("segmentation")
class Segmentation(Task):
    """Images to masks; the mean Dice over images and foreground structures decides.

    A structure that is absent from both mask and prediction of an image is left out of the mean.  The outputs are the
    classes, background included as class 0.
    """

    TARGET = ClassMaps()
    METRICS = {"dice": Metric(label="Dice"), "iou": Metric(label="IoU")}
    DENSE = True
    BALANCED = "Dice per class"

    primary = "dice"

    def __init__(self, *, outputs: int, dims: int) -> None:
        from monai.losses import DiceCELoss

        super().__init__(outputs=outputs, dims=dims)
        self._loss = DiceCELoss(include_background=False, softmax=True, to_onehot_y=True, batch=True)

    def loss(self, output_BKS: Tensor, target_BS: Tensor) -> Tensor:
        return self._loss(output_BKS, target_BS[:, None])

    def match(self, output_BKS: Tensor, wanted_BKS: Tensor) -> Tensor:
        """T^2 KL(softmax(wanted / T) || softmax(output / T)) with T = 2, mean over pixels (arXiv:1503.02531)."""
        from torch.nn import functional as F

        log_output_BKS, log_wanted_BKS = ((logits / TEMPERATURE).log_softmax(1) for logits in (output_BKS, wanted_BKS))
        divergence_BKS = F.kl_div(log_output_BKS, log_wanted_BKS, reduction="none", log_target=True)
        return TEMPERATURE**2 * divergence_BKS.sum(1).mean()

    def metrics(self, output_BKS: Tensor, target_BS: Tensor) -> dict[str, float]:
        """Mean Dice and intersection over union of the foreground structures; 1 where there are none to be found."""
        from monai.metrics import compute_dice, compute_iou

        predicted, wanted = (self._one_hot(labels) for labels in (output_BKS.argmax(1), target_BS))
        dice_BK = compute_dice(predicted, wanted, include_background=False, ignore_empty=False)
        iou_BK = compute_iou(predicted, wanted, include_background=False, ignore_empty=False)
        present_BK = (predicted + wanted)[:, 1:].flatten(2).any(2)
        means = {"dice": dice_BK[present_BK].mean(), "iou": iou_BK[present_BK].mean()}
        return {name: float(mean.nan_to_num(1.0)) for name, mean in means.items()}

    def _one_hot(self, labels_BS: Tensor) -> Tensor:
        from torch.nn import functional as F

        return F.one_hot(labels_BS.long(), self.outputs).movedim(-1, 1)
