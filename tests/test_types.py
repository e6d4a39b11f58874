import jax
import jax.numpy as jnp
import pytest

from dnc_jax.types import pytree, static_field


@pytree
class Scaled:
    times: int = static_field()
    by: float = 1.0
    mode: str = static_field(default="up")


@pytree
class Twin:
    times: int = static_field()
    by: float = 1.0
    mode: str = static_field(default="up")


def test_static_fields_are_structure_and_the_others_children():
    node = Scaled(3, by=2.0)
    leaves, structure = jax.tree.flatten(node)
    assert leaves == [2.0]
    assert jax.tree.unflatten(structure, leaves) == node
    assert node.mode == "up"
    paths = jax.tree_util.tree_flatten_with_path(node)[0]
    assert [jax.tree_util.keystr(path) for path, _ in paths] == [".by"]


def test_structures_differ_by_class_and_by_static_values():
    nodes = Scaled(3), Scaled(4), Scaled(3, mode="down"), Twin(3)
    structures = [jax.tree.structure(node) for node in nodes]
    assert len(set(structures)) == len(nodes)
    assert jax.tree.structure(Scaled(3, by=5.0)) == structures[0]


def test_a_program_is_compiled_for_each_static_value_and_not_for_each_child():
    traces = []

    @jax.jit
    def grow(node):
        traces.append(node.times)
        return node.by * jnp.ones(node.times)

    sizes = [grow(Scaled(times, by)).size for times, by in ((2, 1.0), (2, 3.0), (5, 1.0))]
    assert sizes == [2, 2, 5]
    assert traces == [2, 5]


def test_nodes_are_frozen():
    with pytest.raises(AttributeError, match=r"cannot assign to field 'times'"):
        Scaled(3).times = 4
