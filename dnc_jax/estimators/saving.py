"""Fitted estimators as arrays, and back: for files without pickle.

A node (a kernel, a machine, a layer, a scaler) becomes its class name and its fields, named by their path.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any, Self, TypeAlias

import jax
import numpy as np
from jaxtyping import Shaped
from sklearn.base import BaseEstimator, is_classifier

from dnc_jax.deep_rfm import DeepRFM, DeepRFMLayer
from dnc_jax.estimators.inputs import precision, predictions
from dnc_jax.estimators.scaling import Standardized, UnitRows, Unscaled
from dnc_jax.features import FourierFeatures, ReLUFeatures
from dnc_jax.kernels import NTK, Gaussian, Laplace, Polynomial
from dnc_jax.machine import KernelMachine
from dnc_jax.rfm import RFM

Arrays: TypeAlias = dict[str, Shaped[np.ndarray, "..."]]

FORMAT = 1
# What a fit leaves behind.
STATE = {
    *("rfm_", "deep_rfm_", "scaler_", "classes_", "is_single_output_"),
    *("n_features_in_", "feature_names_in_"),
}
NODES: dict[str, Any] = {
    node.__name__: node
    for node in (
        *(Laplace, Gaussian, Polynomial, NTK),
        *(KernelMachine, RFM, DeepRFMLayer, DeepRFM, ReLUFeatures, FourierFeatures),
        *(Standardized, UnitRows, Unscaled),
    )
}


class SavableEstimator(BaseEstimator):
    """`to_arrays` and `from_arrays` of an estimator, whose attribute `_fitted` names its machine."""

    _fitted: str

    def to_arrays(self) -> Arrays:
        """Returns all that prediction needs, and the options, as arrays of numbers and of strings.

        Nothing is pickled, so `numpy.savez` and `numpy.load` need no more. `history_` is left out. Labels
        and names that are objects become unicode.

        Raises:
            TypeError: If an option is neither a number, a name nor a kernel of the library, such as a
                RandomState.
        """
        state = {name: value for name, value in vars(self).items() if name.endswith("_")}
        state.pop("history_", None)
        options = self.get_params(deep=False)
        kernel = options.pop("kernel")
        arrays = {
            "format": np.asarray(FORMAT),
            "estimator": np.asarray(type(self).__name__),
            "options": np.asarray(_json(options)),
        }
        arrays |= encode("options.kernel", kernel)
        for name, value in state.items():
            arrays |= encode(name, value)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Shaped[np.ndarray, "..."]]) -> Self:
        """Returns the estimator whose `to_arrays` these are; it predicts the same numbers.

        Raises:
            ValueError: If they are those of another class or of another format, or not whole.
        """
        found = tuple(arrays[key].tolist() if key in arrays else None for key in ("estimator", "format"))
        if found != (cls.__name__, FORMAT):
            raise ValueError(
                f"arrays must be those of {cls.__name__}.to_arrays, format {FORMAT}: got an estimator "
                f"{found[0]} of format {found[1]}"
            )
        try:
            estimator = cls._restored(arrays)
            check_whole(estimator, cls._fitted)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"arrays must be whole, as {cls.__name__}.to_arrays made them: got {reason}; save the "
                "estimator again"
            ) from error
        return estimator

    @classmethod
    def _restored(cls, arrays: Mapping[str, Shaped[np.ndarray, "..."]]) -> Self:
        options = json.loads(arrays["options"].item()) | {"kernel": decode("options.kernel", arrays)}
        estimator = cls(**options)
        names = {key.split(".")[0] for key in arrays} - {"format", "estimator", "options"}
        for name in sorted(names):
            if name not in STATE:
                raise ValueError(f"{name}, which is no attribute of a fitted estimator")
            value = decode(name, arrays, as_numbers=f"{name}.class" not in arrays)
            # scikit-learn compares names of columns as objects.
            setattr(estimator, name, value.astype(object) if name == "feature_names_in_" else value)
        return estimator


def check_whole(estimator: Any, fitted: str) -> None:  # noqa: ANN401
    """Raises if an estimator lacks what prediction needs, or holds numbers that are not finite.

    Raises:
        ValueError, TypeError, AttributeError: It says what is missing, or which shapes do not fit.
    """
    model, scaler = getattr(estimator, fitted), estimator.scaler_
    leaves = jax.tree.leaves((model, scaler))
    if not all(np.all(np.isfinite(leaf)) for leaf in leaves):
        raise ValueError("numbers that are not finite")
    dtype = jax.tree.leaves(model)[0].dtype
    row = jax.ShapeDtypeStruct((1, estimator.n_features_in_), dtype)
    with precision(dtype):
        outputs = jax.eval_shape(predictions, scaler, model, row)
    classes = getattr(estimator, "classes_", None)
    if is_classifier(estimator) and (classes is None or len(classes) != outputs.shape[1]):
        count = None if classes is None else len(classes)
        raise ValueError(f"{count} classes for a machine of {outputs.shape[1]} outputs")


def encode(name: str, value: Any) -> Arrays:  # noqa: ANN401
    """Returns the arrays of a value: an array, a number, a string, a tuple or a node.

    Raises:
        TypeError: If it is none of these, or made of such.
    """
    if isinstance(value, tuple):
        parts = {str(index): part for index, part in enumerate(value)}
        return {f"{name}.class": np.asarray("tuple")} | _encode_all(name, parts)
    if type(value) in NODES.values():
        parts = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {f"{name}.class": np.asarray(type(value).__name__)} | _encode_all(name, parts)
    array = np.asarray(value)
    if array.dtype == object and all(isinstance(entry, str) for entry in array.flat):
        array = array.astype(str)
    if array.dtype.kind not in "biufU":
        raise TypeError(
            f"{name} cannot become an array of numbers or strings: got {value!r}; objects of your own are "
            "for pickle"
        )
    return {name: array}


def _encode_all(name: str, parts: Mapping[str, Any]) -> Arrays:
    arrays: Arrays = {}
    for part, value in parts.items():
        arrays |= encode(f"{name}.{part}", value)
    return arrays


def decode(name: str, arrays: Mapping[str, Shaped[np.ndarray, "..."]], *, as_numbers: bool = True) -> Any:  # noqa: ANN401
    """Returns the value that `encode` made arrays of.

    Args:
        as_numbers: Arrays without axes become Python numbers or strings, which leave the dtype of what they
            meet alone; static fields always do.
    """
    if f"{name}.class" not in arrays:
        array = np.asarray(arrays[name])
        return array.item() if as_numbers and array.ndim == 0 else array
    kind = arrays[f"{name}.class"].item()
    if kind == "tuple":
        indices = {key.removeprefix(f"{name}.").split(".")[0] for key in arrays if key.startswith(f"{name}.")}
        count = len(indices - {"class"})
        return tuple(decode(f"{name}.{index}", arrays, as_numbers=as_numbers) for index in range(count))
    return _rebuilt(
        NODES[kind],
        lambda part, static: decode(f"{name}.{part}", arrays, as_numbers=as_numbers or static),
    )


def _rebuilt(cls: Any, value_of: Callable[[str, bool], Any]) -> Any:  # noqa: ANN401
    # Past __init__, as JAX rebuilds nodes: numpy arrays are no arguments of it.
    node = object.__new__(cls)
    for field in dataclasses.fields(cls):
        value = value_of(field.name, field.metadata.get("static", False))
        object.__setattr__(node, field.name, value)
    return node


def _json(options: Mapping[str, Any]) -> str:
    try:
        return json.dumps(options, default=lambda value: value.item())
    except (AttributeError, ValueError) as error:
        values = {
            name: value for name, value in options.items() if not isinstance(value, str | float | int | None)
        }
        raise TypeError(f"options must be numbers, names or None to become arrays: got {values}") from error
