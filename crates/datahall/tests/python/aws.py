"""awscli, unmodified, against the store."""
import json, os, pathlib, subprocess, sys

aws = str(pathlib.Path(sys.executable).with_name("aws"))


def run(*arguments):
    done = subprocess.run([aws, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"aws {arguments}: {done.stderr}"
    return done.stdout


folder = pathlib.Path("awscli")
(folder / "deep").mkdir(parents=True)
(folder / "large.bin").write_bytes(os.urandom(20 << 20))
(folder / "deep" / "small.txt").write_text("small")
run("s3", "mb", "s3://awscli")
run("s3", "cp", str(folder / "large.bin"), "s3://awscli/large.bin")
run("s3", "cp", "s3://awscli/large.bin", "back.bin")
assert pathlib.Path("back.bin").read_bytes() == (folder / "large.bin").read_bytes()
run("s3", "sync", str(folder), "s3://awscli/tree")
assert "small.txt" in run("s3", "ls", "s3://awscli/tree/", "--recursive")
run("s3", "sync", "s3://awscli/tree", "again")
assert pathlib.Path("again/deep/small.txt").read_text() == "small"
head = json.loads(run("s3api", "head-object", "--bucket", "awscli", "--key", "large.bin"))
assert head["ContentLength"] == 20 << 20
run("s3", "rm", "s3://awscli", "--recursive")
run("s3", "rb", "s3://awscli")
print("awscli is content")
