"""Workers of TensorFlow that know nothing but their `TF_CONFIG`: a custom loop under MultiWorkerMirroredStrategy. Keras' own `fit` does
not take values per replica under this strategy, so the loop is written out."""
import json
import os

import tensorflow as tf

strategy = tf.distribute.MultiWorkerMirroredStrategy()
task = json.loads(os.environ["TF_CONFIG"])["task"]
rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
assert (task["type"], task["index"]) == ("worker", rank), task
assert strategy.num_replicas_in_sync == ranks, strategy.num_replicas_in_sync

with strategy.scope():
    weight = tf.Variable(tf.zeros([4, 1]))


@tf.function
def step(inputs, targets):
    def replica(inputs, targets):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((tf.matmul(inputs, weight) - targets) ** 2)
        gradient = tape.gradient(loss, weight)
        context = tf.distribute.get_replica_context()
        mean = context.all_reduce(tf.distribute.ReduceOp.MEAN, gradient)
        weight.assign_sub(0.1 * mean)
        return loss

    losses = strategy.run(replica, args=(inputs, targets))
    return strategy.reduce(tf.distribute.ReduceOp.MEAN, losses, axis=None)


# Each worker has other data; the same weights everywhere show that gradients were averaged.
generator = tf.random.Generator.from_seed(rank)
first = last = None
for _ in range(20):
    inputs = generator.normal([32, 4])
    last = float(step(inputs, tf.reduce_sum(inputs, axis=1, keepdims=True)))
    first = last if first is None else first
assert last < first / 2, (first, last)


@tf.function
def total():
    value = strategy.run(lambda: tf.constant(10.0) + float(rank))
    return strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)


print(f"rank {rank} of {ranks}: total {float(total())} weight {float(tf.reduce_sum(weight)):.6f}", flush=True)
