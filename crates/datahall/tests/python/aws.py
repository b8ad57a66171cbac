"""awscli, unmodified and with its default settings, against the store."""
import json
import os
import pathlib
import subprocess
import sys

aws = str(pathlib.Path(sys.executable).with_name("aws"))


def run(*arguments, fails=False):
    done = subprocess.run([aws, *arguments], capture_output=True, text=True)
    assert (done.returncode != 0) == fails, f"aws {' '.join(arguments)}: {done.returncode} {done.stdout}{done.stderr}"
    return done.stderr if fails else done.stdout


folder = pathlib.Path("awscli")
(folder / "deep").mkdir(parents=True)
large = folder / "large.bin"
large.write_bytes(os.urandom(20 << 20))
(folder / "deep" / "small.txt").write_text("small")

run("s3", "mb", "s3://awscli")
assert "awscli" in run("s3", "ls")

# 20 MiB goes in parts, and comes back in parts.
run("s3", "cp", str(large), "s3://awscli/large.bin")
head = json.loads(run("s3api", "head-object", "--bucket", "awscli", "--key", "large.bin"))
assert head["ContentLength"] == 20 << 20 and head["ETag"].endswith('-3"'), head
run("s3", "cp", "s3://awscli/large.bin", "back.bin")
assert pathlib.Path("back.bin").read_bytes() == large.read_bytes()

run("s3", "sync", str(folder), "s3://awscli/tree")
tree = [line.split()[-1] for line in run("s3", "ls", "s3://awscli/tree/", "--recursive").splitlines()]
assert tree == ["tree/deep/small.txt", "tree/large.bin"], tree
assert "PRE deep/" in run("s3", "ls", "s3://awscli/tree/")
assert run("s3", "sync", str(folder), "s3://awscli/tree") == "", "nothing changed, and yet something was sent"
(folder / "deep" / "small.txt").write_text("smaller")
again = run("s3", "sync", str(folder), "s3://awscli/tree")
assert "small.txt" in again and "large.bin" not in again, again
run("s3", "sync", "s3://awscli/tree", "again")
assert pathlib.Path("again/deep/small.txt").read_text() == "smaller"
run("s3", "mv", "s3://awscli/tree/deep/small.txt", "s3://awscli/moved.txt")
assert run("s3", "cp", "s3://awscli/moved.txt", "-") == "smaller"

assert "BucketNotEmpty" in run("s3", "rb", "s3://awscli", fails=True)
run("s3", "rm", "s3://awscli", "--recursive")
assert run("s3", "ls", "s3://awscli", "--recursive") == ""
run("s3", "rb", "s3://awscli")
assert "NoSuchBucket" in run("s3", "ls", "s3://awscli", fails=True)
print("awscli is content")
