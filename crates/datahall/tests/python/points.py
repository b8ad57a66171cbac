"""Puts the points for examples/jax-job into the store, or checks the weights that it found."""
import io, sys
import boto3, numpy as np

s3 = boto3.client("s3")
truth = np.array([1, -2, 3], np.float32)
if sys.argv[1:] == ["check"] or __import__("os").environ.get("STEP") == "check":
    found = np.load(io.BytesIO(s3.get_object(Bucket="checkpoints", Key="line/final.npz")["Body"].read()))
    assert found["ranks"] == 2 and found["steps"] == 200
    assert np.allclose(found["weights"], [*truth, 0.5], atol=1e-2), found["weights"]
else:
    x = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
    out = io.BytesIO()
    np.savez(out, x=x, y=x @ truth + np.float32(0.5))
    s3.put_object(Bucket="datasets", Key="line/points.npz", Body=out.getvalue())
