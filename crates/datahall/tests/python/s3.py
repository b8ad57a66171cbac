"""boto3, unmodified and with its default settings, against the store."""
import http.client, io, os, urllib.error, urllib.parse, urllib.request
import boto3, botocore
from botocore.config import Config
from botocore.exceptions import ClientError

s3 = boto3.client("s3", config=Config(s3={"addressing_style": "path"}))


def refused(code, call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        got = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        assert code in got, f"wanted {code}, got {got}"
        return
    raise AssertionError(f"{call.__name__} was not refused with {code}")


s3.create_bucket(Bucket="boto")
assert "boto" in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]

bodies = {size: os.urandom(size // 2) + b"a" * (size - size // 2) for size in (0, 1, 4096, 4097, 300_000)}
for size, body in bodies.items():
    put = s3.put_object(Bucket="boto", Key=f"sizes/{size}", Body=body, Metadata={"size": str(size)}, ContentType="x/y")
    got = s3.get_object(Bucket="boto", Key=f"sizes/{size}")
    assert got["Body"].read() == body and got["ETag"] == put["ETag"]
    assert got["Metadata"] == {"size": str(size)} and got["ContentType"] == "x/y"
    head = s3.head_object(Bucket="boto", Key=f"sizes/{size}")
    assert head["ContentLength"] == size

whole = bodies[300_000]
for first, last in ((0, 0), (10, 99), (262_140, 262_150), (299_999, 400_000)):
    part = s3.get_object(Bucket="boto", Key="sizes/300000", Range=f"bytes={first}-{last}")
    assert part["Body"].read() == whole[first : last + 1] and part["ResponseMetadata"]["HTTPStatusCode"] == 206
assert s3.get_object(Bucket="boto", Key="sizes/300000", Range="bytes=-5")["Body"].read() == whole[-5:]
refused("InvalidRange", s3.get_object, Bucket="boto", Key="sizes/300000", Range="bytes=300000-")

large = os.urandom(9 << 20)
s3.upload_fileobj(io.BytesIO(large), "boto", "large", Config=boto3.s3.transfer.TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20))
back = io.BytesIO()
s3.download_fileobj("boto", "large", back)
assert back.getvalue() == large
assert s3.head_object(Bucket="boto", Key="large")["ETag"].endswith('-2"')

upload = s3.create_multipart_upload(Bucket="boto", Key="left")["UploadId"]
s3.upload_part(Bucket="boto", Key="left", UploadId=upload, PartNumber=1, Body=b"x" * (5 << 20))
assert len(s3.list_parts(Bucket="boto", Key="left", UploadId=upload)["Parts"]) == 1
s3.abort_multipart_upload(Bucket="boto", Key="left", UploadId=upload)
refused("NoSuchKey", s3.get_object, Bucket="boto", Key="left")

for key in ("a/1", "a/2", "b/1", "c", "d é &<>"):
    s3.put_object(Bucket="boto", Key=f"list/{key}", Body=b"x")
page = s3.list_objects_v2(Bucket="boto", Prefix="list/", Delimiter="/")
assert [prefix["Prefix"] for prefix in page["CommonPrefixes"]] == ["list/a/", "list/b/"]
assert [entry["Key"] for entry in page["Contents"]] == ["list/c", "list/d é &<>"]
pages = s3.get_paginator("list_objects_v2").paginate(Bucket="boto", Prefix="list/", PaginationConfig={"PageSize": 2})
assert [e["Key"] for p in pages for e in p["Contents"]] == [f"list/{k}" for k in ("a/1", "a/2", "b/1", "c", "d é &<>")]

s3.copy_object(Bucket="boto", Key="copy", CopySource={"Bucket": "boto", "Key": "sizes/4097"})
assert s3.get_object(Bucket="boto", Key="copy")["Body"].read() == bodies[4097]
s3.put_object(Bucket="boto", Key="once", Body=b"1", IfNoneMatch="*")
refused("PreconditionFailed", s3.put_object, Bucket="boto", Key="once", Body=b"2", IfNoneMatch="*")

url = s3.generate_presigned_url("put_object", Params={"Bucket": "boto", "Key": "presigned"}, ExpiresIn=60)
target = urllib.parse.urlsplit(url)
plain = http.client.HTTPConnection(target.netloc)  # urllib would add a content type, which is not in the signature
plain.request("PUT", f"{target.path}?{target.query}", body=b"hello")
answer = plain.getresponse()
assert answer.status == 200, (answer.status, answer.read())
url = s3.generate_presigned_url("get_object", Params={"Bucket": "boto", "Key": "presigned"}, ExpiresIn=60)
assert urllib.request.urlopen(url).read() == b"hello"
for broken in (url[:-3] + "abc", url.split("?")[0]):
    try:
        urllib.request.urlopen(broken)
        raise AssertionError("a broken or missing signature was accepted")
    except urllib.error.HTTPError as error:
        assert error.code == 403, error.code

wrong = boto3.client("s3", aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"], aws_secret_access_key="wrong")
refused("SignatureDoesNotMatch", wrong.list_buckets)
unknown = boto3.client("s3", aws_access_key_id="nobody", aws_secret_access_key="wrong")
refused(403, unknown.list_buckets)
anonymous = boto3.client("s3", config=Config(signature_version=botocore.UNSIGNED))
refused(403, anonymous.get_object, Bucket="boto", Key="presigned")
refused("NoSuchKey", s3.get_object, Bucket="boto", Key="nothing")
refused("NoSuchBucket", s3.list_objects_v2, Bucket="nothing")
refused("BucketNotEmpty", s3.delete_bucket, Bucket="boto")

keys = [{"Key": e["Key"]} for p in s3.get_paginator("list_objects_v2").paginate(Bucket="boto") for e in p["Contents"]]
assert len(s3.delete_objects(Bucket="boto", Delete={"Objects": keys})["Deleted"]) == len(keys)
s3.delete_object(Bucket="boto", Key="nothing")
s3.delete_bucket(Bucket="boto")
print("boto3", boto3.__version__, "is content")
