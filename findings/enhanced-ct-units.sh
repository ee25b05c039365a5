#!/usr/bin/env bash
# pydicom 3.0.2, SimpleITK 2.5.7: Hounsfield units of an enhanced (multi-frame) CT: one reader gives none, one wrong ones.
#
# Guess: pydicom's apply_modality_lut and SimpleITK's ReadImage give the same Hounsfield units for every DICOM file of a CT.
# Seen: for a classic CT they do.  In an enhanced CT slope and intercept stand in functional groups: there pydicom returns the
#   stored numbers as they are, without a word; SimpleITK applies those of the first frame to *all* frames, so that a
#   frame with another intercept (-1000 after -1024) is 24 off.
# Who meets it: whoever windows or standardises CT (or PET, whose slopes do differ from frame to frame) from newer scanners.
# Exits with 1 if a reader gives other numbers.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check pydicom==3.0.2 SimpleITK==2.5.7 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_modality_lut
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

STORED = np.full((4, 4), 40, np.int16)


def holding(**values):
    dataset = Dataset()
    for name, value in values.items():
        setattr(dataset, name, value)
    return dataset


def rescale(intercept):
    return {"RescaleIntercept": str(intercept), "RescaleSlope": "1"}


def written(kind, frames, **values):
    """A file of 4 x 4 voxels a frame, axial, 1 mm apart."""
    uid = generate_uid()
    dataset = holding(SOPClassUID=kind, SOPInstanceUID=uid, StudyInstanceUID=generate_uid(), Modality="CT")
    dataset.SeriesInstanceUID = generate_uid()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID, dataset.file_meta.MediaStorageSOPInstanceUID = kind, uid
    dataset.Rows = dataset.Columns = 4
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.PixelData = np.stack([STORED] * frames).tobytes()
    for name, value in values.items():
        setattr(dataset, name, value)
    dataset.save_as("image.dcm", enforce_file_format=True)


def read():
    """One number a frame: pydicom's and SimpleITK's."""
    dataset = pydicom.dcmread("image.dcm")
    one = apply_modality_lut(dataset.pixel_array, dataset)
    other = sitk.GetArrayFromImage(sitk.ReadImage("image.dcm"))
    return [np.reshape(volume, (-1, 4, 4))[:, 0, 0].tolist() for volume in (one, other)]


place = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
written(CTImageStorage, 1, PixelSpacing=[1, 1], ImagePositionPatient=[0, 0, 0], **place, **rescale(-1024))
classic = read()

shared = holding(
    PixelMeasuresSequence=[holding(PixelSpacing=[1, 1], SliceThickness=1)], PlaneOrientationSequence=[holding(**place)]
)
frames = [
    holding(
        PlanePositionSequence=[holding(ImagePositionPatient=[0, 0, z])],
        PixelValueTransformationSequence=[holding(**rescale(intercept), RescaleType="HU")],
    )
    for z, intercept in enumerate((-1024, -1000))
]
groups = {"SharedFunctionalGroupsSequence": [shared], "PerFrameFunctionalGroupsSequence": frames}
written(EnhancedCTImageStorage, 2, NumberOfFrames=2, **groups)
enhanced = read()

print(f"classic, expected [-984]: pydicom {classic[0]}, SimpleITK {classic[1]}")
print(f"enhanced, expected [-984, -960]: pydicom {enhanced[0]}, SimpleITK {enhanced[1]}")
as_stated = classic == [[-984], [-984]] and enhanced == [[40, 40], [-984, -984]]
print("as stated" if as_stated else "CHANGED")
sys.exit(0 if as_stated else 1)
PYTHON
