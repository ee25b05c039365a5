#!/usr/bin/env bash
# scipy 1.17.1, SimpleITK 2.5.7: the distance to the background, where there is no background, is four different things.
#
# Guess: a distance transform of a mask that is foreground everywhere gives infinity, or an error.
# Seen: scipy.ndimage.distance_transform_edt gives finite, plausible distances: to a background voxel at (-1, 0), outside
#   the array, in the units of `sampling`; distance_transform_cdt gives -1; distance_transform_bf 1.3e154; SimpleITK's
#   SignedMaurerDistanceMap 3.4e38.
# Who meets it: whoever computes boundary losses or distance maps on patches: one that lies wholly inside an organ gets
#   weights that grow away from its first corner, and no one sees a huge number.
# Exits with 1 if one of the four gives something else.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check scipy==1.17.1 SimpleITK==2.5.7 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

mask = np.ones((4, 5), np.uint8)
row, column = np.indices(mask.shape)
image = sitk.GetImageFromArray(mask)
seen = {
    "edt": ndimage.distance_transform_edt(mask),
    "edt, rows 3 mm apart": ndimage.distance_transform_edt(mask, sampling=(3, 1)),
    "cdt": ndimage.distance_transform_cdt(mask),
    "bf": ndimage.distance_transform_bf(mask),
    "SignedMaurerDistanceMap": sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(image, insideIsPositive=True)),
}
for name, distance in seen.items():
    print(f"{name}: {distance.min():.4g} to {distance.max():.4g}")
edt, spaced, cdt, bf, maurer = seen.values()
as_stated = (
    np.allclose(edt, np.hypot(row + 1, column))
    and np.allclose(spaced, np.hypot(3 * (row + 1), column))
    and (cdt == -1).all()
    and (bf > 1e150).all()
    and (maurer > 1e38).all()
)
print("as stated" if as_stated else "CHANGED")
sys.exit(0 if as_stated else 1)
PYTHON
