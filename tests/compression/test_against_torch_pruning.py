"""Our groups against the dependency graph that torch-pruning finds by tracing the same part: an independent opinion."""

import pytest
import torch
import torch_pruning as tp

from medsearch.blocks.channels.conv_mlp import ConvMlp
from medsearch.blocks.channels.mlp import Mlp

PRUNE_OUTPUTS = {torch.nn.Linear: tp.prune_linear_out_channels}


def their_group(part, size):
    """Layers that lose outputs, and layers that lose inputs, when hidden channel 3 goes."""
    graph = tp.DependencyGraph().build_dependency(part, example_inputs=torch.randn(2, 8, *size))
    prune = PRUNE_OUTPUTS.get(type(part.expand), tp.prune_conv_out_channels)
    names = {module: name for name, module in part.named_modules()}
    made, read = set(), set()
    for dependency, _ in graph.get_pruning_group(part.expand, prune, idxs=[3]):
        name = names.get(dependency.target.module)
        if name and list(dependency.target.module.parameters()):
            (made if "out_channels" in dependency.handler.__name__ else read).add(name)
    return made, read


@pytest.mark.parametrize("kind", [Mlp, ConvMlp])
@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("size", [(6, 5), (4, 3, 5)])
def test_the_hidden_channels_move_together_as_torch_pruning_says(kind, norm, size):
    part = kind(8, dims=len(size), hidden=12, norm=norm).eval()
    group = part.groups()["hidden"]
    assert their_group(part, size) == ({axis.name for axis in group.made}, {group.read.name.removesuffix(".weight")})
