"""Denoising: mean absolute error; peak signal-to-noise ratio and structural similarity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from medsearch.tasks import TASKS, Images, Metric, Task

if TYPE_CHECKING:
    from torch import Tensor


@TASKS.add("denoising")
class Denoising(Task):
    """Noisy images to clean ones, in raw intensities; the peak signal-to-noise ratio (dB) decides.

    A network has as many outputs as the image has channels.
    """

    TARGET = Images(key="clean")
    METRICS = {
        "psnr": Metric(label="PSNR", unit="dB", digits=1, point=0.1),
        "ssim": Metric(label="SSIM"),
    }
    DENSE = True
    RESTORES = True

    primary = "psnr"

    def loss(self, output_BCS: Tensor, target_BCS: Tensor) -> Tensor:
        """Mean absolute error over the target's own deviation, so that no intensity unit enters the step size."""
        from torch.nn import functional as F

        return F.l1_loss(output_BCS, target_BCS) / target_BCS.std().clamp_min(1e-6)

    def match(self, output_BCS: Tensor, wanted_BCS: Tensor) -> Tensor:
        """The loss, against another network's result: mean absolute error relative to its deviation."""
        return self.loss(output_BCS, wanted_BCS)

    def metrics(self, output_BCS: Tensor, target_BCS: Tensor) -> dict[str, float]:
        """PSNR (dB, against the range of the targets) and SSIM."""
        import torch
        from torchmetrics.functional.image import structural_similarity_index_measure

        span = float(target_BCS.max() - target_BCS.min())
        squared = torch.mean((output_BCS - target_BCS) ** 2).clamp_min(1e-12 * span**2)
        ssim = structural_similarity_index_measure(output_BCS, target_BCS, data_range=span)
        assert isinstance(ssim, torch.Tensor)
        return {"psnr": float(10 * torch.log10(span**2 / squared)), "ssim": float(ssim)}

    def error(self, metrics: Mapping[str, float]) -> float:
        """Root mean squared error as a share of the intensity range: 10^(-PSNR/20)."""
        return 10 ** (-metrics["psnr"] / 20)

    @property
    def error_label(self) -> str:
        return "RMS error / intensity range"
