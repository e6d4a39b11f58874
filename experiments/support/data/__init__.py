"""Image datasets by name: embedded, from files, prepared by TensorFlow Datasets, or downloaded.

`load` returns what was stored; `experiments.support.preprocess.prepare` makes training data of it.
"""

from experiments.support.data.catalog import Name
from experiments.support.data.images import DataError, Images, Split
from experiments.support.data.loading import load

__all__ = ["DataError", "Images", "Name", "Split", "load"]
