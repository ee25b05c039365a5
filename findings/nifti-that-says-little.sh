#!/usr/bin/env bash
# nibabel 5.4.2, SimpleITK 2.5.7: what a NIfTI leaves out, or says in another unit, each reader settles in its own way.
#
# Guess: both readers give the spacing that is written, whatever its unit; and a file that has no transform (both codes 0)
#   has its first voxel at 0 and its axes towards right, anterior and superior.
# Seen: voxels of 0.5 with the unit metre or micron have zooms of 0.5 in nibabel, and spacings of 500 and 0.0005 in
#   SimpleITK, which turns all into mm.  Without a transform nibabel's first axis goes to the *left* and 0 lies in the
#   centre of the volume; SimpleITK's first axis goes to the left as well, but the second to the *back*, and 0 is the first
#   voxel.  So the two see mirror images of each other.
# Who meets it: whoever reads microscopy, micro-CT or converted ANALYZE files with one library for training and with another
#   for use, or resamples to "1 mm".
# Exits with 1 if a spacing, an axis or an origin differs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check nibabel==5.4.2 SimpleITK==2.5.7 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys

import nibabel
import numpy as np
import SimpleITK as sitk

voxels = np.arange(24, dtype=np.int16).reshape(2, 3, 4)


def affine(image):
    """From voxels to right, anterior and superior, as nibabel has it."""
    size = image.GetDimension()
    to_left_back_up = np.reshape(image.GetDirection(), (size, size)) * image.GetSpacing()
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = to_left_back_up, image.GetOrigin()
    return np.diag([-1, -1, 1, 1]) @ matrix


def read(image):
    nibabel.save(image, "image.nii")
    return nibabel.load("image.nii"), sitk.ReadImage("image.nii")


spacings = {}
for unit in ("mm", "meter", "micron"):
    image = nibabel.Nifti1Image(voxels, np.diag([0.5, 0.5, 0.5, 1]))
    image.header.set_xyzt_units(unit)
    one, other = read(image)
    spacings[unit] = float(one.header.get_zooms()[0]), other.GetSpacing()[0]
    print(f"0.5 {unit}: nibabel {spacings[unit][0]}, SimpleITK {spacings[unit][1]:.4f}")
units = np.allclose([*spacings.values()], [(0.5, 0.5), (0.5, 500.0), (0.5, 0.0005)])

image = nibabel.Nifti1Image(voxels, None)
image.header.set_zooms((0.5, 0.5, 2))
one, other = read(image)
codes = int(one.header["qform_code"]), int(one.header["sform_code"])
seen = one.affine, affine(other)
names = ["".join(nibabel.aff2axcodes(matrix)) for matrix in seen]
centre = one.affine @ [0.5, 1, 1.5, 1]  # of the 2 x 3 x 4 voxels
print(f"codes {codes}: nibabel {names[0]}, first voxel at {seen[0][:3, 3]}; SimpleITK {names[1]}, at {seen[1][:3, 3]}")
plain = codes == (0, 0) and names == ["LAS", "LPS"] and np.allclose(centre[:3], 0) and np.allclose(seen[1][:3, 3], 0)
print("as stated" if units and plain else "CHANGED")
sys.exit(0 if units and plain else 1)
PYTHON
