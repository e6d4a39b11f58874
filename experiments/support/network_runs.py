"""The epochs of a network's run: trained, measured, recorded, saved, and resumed after any kill."""

import dataclasses
import time
from typing import Protocol

import jax
import jax.numpy as jnp
from flax import nnx
from optax import GradientTransformation

from dnc_jax import class_stats
from dnc_jax.networks import Functional
from dnc_jax.training import (
    LearningRate,
    Loss,
    TrainState,
    check_losses,
    evaluate,
    init_state,
    train_epoch,
)
from experiments.support import network_measures as measures
from experiments.support.checkpoint import CheckpointError, save_arrays
from experiments.support.devices import replicate_beside
from experiments.support.epoch_table import EpochTable
from experiments.support.layers import Points
from experiments.support.records import Row, Run
from experiments.support.snapshots import agop_arrays, epoch_arrays
from experiments.support.training_checkpoint import load_epoch, save_epoch, saved_epochs
from experiments.support.training_story import terminal_epoch

# Rows of an evaluation that are held at once: few, since a convolution holds all patches of its images.
EVALUATED = 128
# Independent random streams of one seed.
WEIGHTS, ORDER = range(2)


class Schedule(Protocol):
    """Options that say how many epochs there are and what happens in which."""

    @property
    def epochs(self) -> int:
        """Passes over the training points."""
        ...

    @property
    def measure_every(self) -> int:
        """Epochs between measurements."""
        ...

    @property
    def checkpoint_every(self) -> int:
        """Epochs between checkpoints."""
        ...

    @property
    def num_measured(self) -> int:
        """Training points that are measured."""
        ...

    @property
    def batch_size(self) -> int:
        """Points of a step."""
        ...

    @property
    def restart_optimizer(self) -> bool:
        """Whether every epoch starts the optimizer anew."""
        ...

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the run; arrays are kept of the first."""
        ...

    @property
    def resume(self) -> bool:
        """Whether to continue from checkpoints."""
        ...


@dataclasses.dataclass(frozen=True)
class Session:
    """Everything that the epochs of a run share."""

    schedule: Schedule
    run: Run
    table: EpochTable
    train: Points
    test: Points | None
    num_classes: int
    optimizer: GradientTransformation
    loss: Loss
    rate: LearningRate


def weights_key(seed: int) -> jax.Array:
    """Returns the key that the weights of a seed are drawn with."""
    return jax.random.fold_in(jax.random.key(seed), WEIGHTS)


def run_seed(
    session: Session, seed: int, network: Functional, params: nnx.State, stats: nnx.State
) -> list[Row]:
    """Trains a network from its first epoch or its last checkpoint; returns all rows of the seed."""
    schedule, run, table = session.schedule, session.run, session.table
    initial = [layer.matrix for layer in network.layers(params, stats)]
    # Copies: training consumes its state, and the caller keeps its arrays.
    params, stats = jax.tree.map(jnp.copy, (params, stats))
    fresh = replicate_beside(session.train.x, init_state(params, stats, session.optimizer))
    table.header(seed)
    done, state, rows = load(session, seed, fresh) if schedule.resume else (-1, fresh, [])
    run.log(rows)
    table.rows(rows)
    for epoch in range(done + 1, schedule.epochs + 1):
        began = time.perf_counter()
        if epoch:
            state = train(session, network, state, seed, epoch)
        trained = time.perf_counter()
        new_rows = measure(session, network, state, initial, seed, epoch, rows)
        measured = time.perf_counter()
        run.log(new_rows)
        rows = rows + new_rows
        if epoch and (epoch % schedule.checkpoint_every == 0 or epoch == schedule.epochs):
            save_epoch(run.epochs(seed), epoch, state, rows, run.owner(seed))
        timing = {"seed": seed, "epoch": epoch, "train_seconds": trained - began}
        run.log_timing(timing | {"measure_seconds": measured - trained})
        table.rows(new_rows, measured - began)
    return rows


def load(session: Session, seed: int, fresh: TrainState) -> tuple[int, TrainState, list[Row]]:
    """Returns the last epoch that can be read, its state and the rows until then; if none, -1 and fresh."""
    for path in reversed(saved_epochs(session.run.epochs(seed))):
        try:
            return load_epoch(path, fresh, session.run.owner(seed))
        except CheckpointError as error:
            session.table.say(f"{error}; going back to the checkpoint before it")
    return -1, fresh, []


def last_state(run: Run, seed: int, fresh: TrainState) -> TrainState:
    """Returns the state that a seed was saved with last; fresh tells shapes and dtypes.

    Raises:
        CheckpointError: If there is no checkpoint, or the last is damaged.
    """
    found = saved_epochs(run.epochs(seed))
    if not found:
        raise CheckpointError(f"{run.epochs(seed)} has no checkpoint: train the network first")
    return load_epoch(found[-1], fresh, run.owner(seed))[1]


def train(session: Session, network: Functional, state: TrainState, seed: int, epoch: int) -> TrainState:
    """Returns the state after one more epoch.

    Raises:
        TrainingError: If a loss is NaN or infinite.
    """
    first_step = int(state.step)
    if session.schedule.restart_optimizer:
        state = state._replace(opt_state=session.optimizer.init(state.params))
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), ORDER), epoch)
    points = session.train.x, session.train.labels
    size = session.schedule.batch_size
    state, losses = train_epoch(network, session.optimizer, session.loss, state, *points, key, size)
    check_losses(losses, epoch=epoch, first_step=first_step, learning_rate=session.rate)
    return state


def measure(
    session: Session,
    network: Functional,
    state: TrainState,
    initial: list[jax.Array],
    seed: int,
    epoch: int,
    known: list[Row],
) -> list[Row]:
    """Returns loss and accuracy after an epoch, and everything else where the epoch is one to measure.

    Those are the epochs of the schedule, and the first at which all training points are correct.
    """
    schedule, train, test = session.schedule, session.train, session.test
    on_train = evaluate(network, session.loss, state, train.x, train.labels, batch_size=EVALUATED)
    check_losses(on_train.loss[None], epoch=epoch, first_step=int(state.step), learning_rate=session.rate)
    values = {"train_loss": on_train.loss, "train_accuracy": on_train.accuracy}
    found: list[measures.Measured] = [{(len(initial), measures.NETWORK): values}]
    is_terminal = on_train.accuracy == 1 and terminal_epoch(known, seed) is None
    if epoch % schedule.measure_every == 0 or epoch == schedule.epochs or is_terminal:
        layers = replicate_beside(train.x, network.layers(state.params, state.stats))
        x, labels = train.x[: schedule.num_measured], train.labels[: schedule.num_measured]
        columns, k = measures.linear_columns(layers), session.num_classes
        collapse, features = measures.measure_collapse(layers, columns, x, labels, k)
        agops = measures.measure_agops(layers, x)
        found += [collapse, measures.measure_ansatz(layers, initial, agops)]
        if test is not None:
            on_test = evaluate(network, session.loss, state, test.x, test.labels, batch_size=EVALUATED)
            values |= {"test_loss": on_test.loss, "test_accuracy": on_test.accuracy}
            stats = class_stats(features, labels, k)
            found.append(measures.measure_held_out(layers, columns, test.x, test.labels, stats, k))
        if seed == session.schedule.seeds[0]:
            shown = epoch_arrays(features, labels, k) | agop_arrays([a.matrix for a in layers], agops)
            save_arrays(session.run.epoch_arrays(epoch), shown)
    rows, undefined = measures.to_rows(seed, epoch, *found)
    if undefined:
        session.table.say(f"epoch {epoch}: not defined, and left out: {', '.join(undefined)}")
    return rows
