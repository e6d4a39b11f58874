"""The contract of a kernel: a call, its gradient in two matrices, and a check."""

from typing import Protocol, runtime_checkable

import jax
from jaxtyping import Array, Float


@runtime_checkable
class Kernel(Protocol):
    """A kernel k(x, z): a pytree of hyper-parameters that is called on two sets of rows.

    The call is all that a machine needs. Every kernel of the library also has `check()`, which raises
    ValueError for hyper-parameters outside their range (traced ones pass) and is called before a fit, and the
    gradient terms of a `ClosedFormKernel`.
    """

    def __call__(self, x: Float[Array, "n *shape"], z: Float[Array, "m *shape"]) -> Float[Array, "n m"]:
        """Returns the Gram matrix of the rows of x against the rows of z."""
        raise NotImplementedError


@runtime_checkable
class ImageKernel(Kernel, Protocol):
    """A kernel of images (n, h, w, d) instead of rows."""

    def check_images(self, images: Float[Array, "n h w d"]) -> None:
        """Raises ValueError for images that it cannot take."""
        raise NotImplementedError


@runtime_checkable
class ClosedFormKernel(Kernel, Protocol):
    """A kernel of |x|, |z| and x.z alone: its gradient lies in the plane of x and z."""

    def gradient_terms(
        self, x: Float[Array, "n d"], z: Float[Array, "m d"]
    ) -> tuple[Float[Array, "n m"], Float[Array, "n m"]]:
        """Returns (own, other) with grad_x k(x_i, z_m) = own_im x_i + other_im z_m.

        Finite everywhere: at a cusp of k, the part that has no limit counts as 0.
        """
        raise NotImplementedError


def check_kernel(kernel: Kernel) -> None:
    """Raises ValueError if the kernel is no pytree, or has a check that its hyper-parameters do not pass."""
    if any(leaf is kernel for leaf in jax.tree.leaves(kernel)):
        raise ValueError(
            f"kernel must be a pytree, so that it can enter compiled functions: got {kernel!r}; register its "
            "class with jax.tree_util.register_dataclass, or wrap a function in jax.tree_util.Partial"
        )
    check = getattr(kernel, "check", None)
    if check is not None:
        check()
