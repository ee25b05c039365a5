"""Train deep networks in less memory: branches keep their input alone and are run again in the backward pass.

Source: Chen et al. 2016, arXiv:1604.06174, with one segment per residual branch or downsampling.  Differs: running
statistics of batch norms are left alone by the second run, so that training is the same with and without.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from medsearch.backbones import Network, ResidualBlock, Stage
from medsearch.backbones.network import ROLES, laid_out


class Again(nn.Module):
    """A block that forgets what happened inside it.

    Args:
        block: any module that is the same function each time.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x_BCS: Tensor) -> Tensor:
        found = checkpoint(self.block, x_BCS, use_reentrant=False, context_fn=self._contexts)
        assert isinstance(found, Tensor)
        return found

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_kept(self.block)


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Run batch norms on the batch's statistics without noting them a second time."""
    norms = [module for module in block.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    kept = [[buffer.clone() for buffer in norm.buffers()] for norm in norms]
    try:
        yield
    finally:
        for norm, before in zip(norms, kept, strict=True):
            for buffer, was in zip(norm.buffers(), before, strict=True):
                buffer.data = was


def checkpointed(model: Network) -> Network:
    """The same network, weights shared with ``model``, with every branch and downsampling run again when needed."""
    return type(model)(
        standardize=model.standardize,
        stem=model.stem,
        stages=[nn.Sequential(*map(Again, _steps(stage))) for stage in model.stages],
        head=model.head,
    )


def _steps(stage: nn.Module) -> Iterator[nn.Module]:
    """The downsampling of a stage, and every residual branch of its blocks."""
    assert isinstance(stage, Stage)
    if stage.down is not None:
        yield stage.down
    for block in stage.blocks:
        assert isinstance(block, ResidualBlock)
        yield from branches(block)


def branches(block: ResidualBlock) -> Iterator[ResidualBlock]:
    """Every residual branch of a block as a block of its own, weights shared with ``block``."""
    filled = [role for role in ROLES if getattr(block, role) is not None]
    for roles in laid_out(filled, joint=block.joint):
        parts = {role: getattr(block, role) for role in roles}
        branch = ResidualBlock(block.dim, dims=block.dims, joint=len(roles) > 1, **parts)
        scale = "joint_scale" if branch.joint else f"{roles[0]}_scale"
        if hasattr(block, scale):
            setattr(branch, scale, getattr(block, scale))
        yield branch
