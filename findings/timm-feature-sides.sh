#!/usr/bin/env bash
# timm 1.0.31: the reductions that a backbone reports say its maps' sides for even images only, and not where the channels are.
#
# Guess: with features_only the map at reduction r of an image of side s is (B, channels, s / r, s / r), rounded up.
# Seen: at 97 pixels and reduction 32, reported alike by all five, resnet18 gives 4 positions, convnext_atto, which cuts off what
#   is left, 3; densenet121 rounds up in its first two maps and down in the others, so 13 and 12 positions stand where 8 is
#   reported.  mambaout_femto gives (B, H, W, channels) - as Swin is known to - and inception_v3 fewer positions at *every*
#   size, even 224 (5 where 7 are reported).  Nothing in feature_info tells these apart; a decoder that doubles its map
#   and adds the next works with one backbone and not with the other.
# Who meets it: whoever puts a decoder on interchangeable backbones, and tests it at 224 pixels.
# Exits with 1 if a backbone gives maps of other sides.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
  torch==2.13.0 torchvision==0.28.0 timm==1.0.31 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import warnings

import torch
import torch.library

# torchvision as built for a GPU cannot name its operators beside a torch that is not; none of them is used here.
torch.library.register_fake = lambda *args, **options: lambda function: function
import timm

warnings.simplefilter("ignore")
STATED = {
    ("resnet18", 97): [49, 25, 13, 7, 4],
    ("convnext_atto", 97): [24, 12, 6, 3],
    ("densenet121", 97): [49, 25, 12, 6, 3],
    ("mambaout_femto", 97): [25, 13, 7, 4],
    ("inception_v3", 224): [109, 52, 25, 12, 5],
}
as_stated = True
for (name, side), stated in STATED.items():
    model = timm.create_model(name, pretrained=False, features_only=True).eval()
    with torch.no_grad():
        maps = model(torch.zeros(1, 3, side, side))
    channels, reductions = model.feature_info.channels(), model.feature_info.reduction()
    last = all(x.shape[3] == count != x.shape[1] for x, count in zip(maps, channels))
    first = all(x.shape[1] == count != x.shape[3] for x, count in zip(maps, channels))
    sides = [x.shape[1 if last else 2] for x in maps]
    print(f"{name} at {side}: {reductions} gives {sides}, channels {'last' if last else 'first' if first else '?'}")
    as_stated &= sides == stated and (last if name == "mambaout_femto" else first)
    as_stated &= reductions == [2, 4, 8, 16, 32][-len(sides) :]
print("as stated" if as_stated else "CHANGED")
sys.exit(0 if as_stated else 1)
PYTHON
