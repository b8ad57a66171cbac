"""Two workers of TensorFlow that know nothing but `TF_CONFIG`: an all-reduce between them, and a few steps of a loop of our own."""
import json
import os

import numpy as np
import tensorflow as tf

strategy = tf.distribute.MultiWorkerMirroredStrategy()
task = json.loads(os.environ["TF_CONFIG"])["task"]
rank, ranks = task["index"], strategy.num_replicas_in_sync
assert task["type"] == "worker" and ranks == int(os.environ["DH_RANKS"])


@tf.function
def total():
    return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(lambda: tf.constant(10.0 + rank)), axis=None)


found = float(total())
assert found == sum(10.0 + other for other in range(ranks)), found

with strategy.scope():
    weight = tf.Variable(0.0)


@tf.function
def step(x, y):
    def one(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((weight * x - y) ** 2)
        gradient = tape.gradient(loss, weight)
        context = tf.distribute.get_replica_context()
        weight.assign_sub(0.1 * context.all_reduce(tf.distribute.ReduceOp.MEAN, gradient))
        return loss

    return strategy.run(one, args=(x, y))


# Each worker has other points; the slope that both end with fits all of them.
x = tf.constant(np.random.default_rng(rank).normal(size=64).astype(np.float32))
for _ in range(50):
    step(x, (2.0 + rank) * x)
assert 2.2 < float(weight.numpy()) < 2.8, float(weight.numpy())
print(f"rank {rank} of {ranks}: total {found}", flush=True)
