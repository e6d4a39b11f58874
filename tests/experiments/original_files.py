"""Writes small files in the original layouts of the image datasets, with known contents."""

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from scipy.io import savemat

NUM_TRAIN, NUM_TEST = 30, 20
MNIST_STEMS = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
EMNIST_STEMS = tuple(f"emnist-balanced-{stem.replace('t10k', 'test')}" for stem in MNIST_STEMS)


def pixels(count, shape, seed=0):
    """Random images (count, h, w, c)."""
    return np.random.default_rng([seed, count]).integers(0, 256, (count, *shape), dtype=np.uint8)


def labels(count, num_classes=10):
    """Class numbers in turn."""
    return np.arange(count) % num_classes


def idx_bytes(array):
    """The bytes of an idx file of unsigned bytes."""
    shape = np.array(array.shape, ">u4").tobytes()
    return bytes([0, 0, 8, array.ndim]) + shape + array.astype(np.uint8).tobytes()


def idx_contents(*, num_classes=10, seed=0):
    """The bytes of the four files: images and labels of the training split, then of the test split."""
    contents = []
    for count in (NUM_TRAIN, NUM_TEST):
        contents.append(idx_bytes(pixels(count, (28, 28, 1), seed)[..., 0]))
        contents.append(idx_bytes(labels(count, num_classes)))
    return contents


def write_idx(folder: Path, *, stems=MNIST_STEMS, packed=True, seed=0, num_classes=10):
    """Four idx files, gzipped or not."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem, raw in zip(stems, idx_contents(seed=seed, num_classes=num_classes), strict=True):
        name = f"{stem}.gz" if packed else stem
        (folder / name).write_bytes(gzip.compress(raw) if packed else raw)
    return folder


def write_emnist_archive(folder: Path):
    """The archive of all EMNIST splits, with the balanced members and one more."""
    with zipfile.ZipFile(folder / "gzip.zip", "w") as archive:
        archive.writestr("gzip/emnist-letters-mapping.txt", "1 65 97")
        for stem, raw in zip(EMNIST_STEMS, idx_contents(num_classes=47), strict=True):
            archive.writestr(f"gzip/{stem}.gz", gzip.compress(raw))
    return folder


def write_svhn(folder: Path):
    """The two MATLAB files: images (h, w, c, n), digit 0 as label 10."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", NUM_TRAIN), ("test", NUM_TEST)):
        numbers = labels(count)
        fields = {
            "X": pixels(count, (32, 32, 3)).transpose(1, 2, 3, 0),
            "y": np.where(numbers == 0, 10, numbers).astype(np.uint8)[:, None],
        }
        savemat(folder / f"{part}_32x32.mat", fields, do_compression=True)
    return folder


def cifar_records(count, *, num_label_bytes=1, num_classes=10, seed=0):
    """The bytes of one binary file: a coarse label where there are two, the label, then the pixels."""
    rows = pixels(count, (32, 32, 3), seed).transpose(0, 3, 1, 2).reshape(count, -1)
    numbers = labels(count, num_classes)[:, None]
    coarse = [np.full((count, 1), 99)] * (num_label_bytes - 1)
    return np.concatenate([*coarse, numbers, rows], axis=1).astype(np.uint8).tobytes()


def cifar10_members():
    """File names and contents of CIFAR-10's binary version."""
    batches = {f"data_batch_{i}.bin": cifar_records(NUM_TRAIN // 5, seed=i) for i in range(1, 6)}
    return {**batches, "test_batch.bin": cifar_records(NUM_TEST)}


def cifar100_members():
    """File names and contents of CIFAR-100's binary version, one image of each class for training."""
    return {
        "train.bin": cifar_records(100, num_label_bytes=2, num_classes=100),
        "test.bin": cifar_records(NUM_TEST, num_label_bytes=2, num_classes=100),
    }


def write_tarball(path: Path, members, *, prefix):
    """A tar.gz file of the members inside one folder."""
    with tarfile.open(path, "w:gz") as tar:
        for name, raw in members.items():
            info = tarfile.TarInfo(f"{prefix}/{name}")
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    return path.parent


def cut(path: Path, fraction=0.5):
    """Keeps only the first part of a file."""
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * fraction)])
