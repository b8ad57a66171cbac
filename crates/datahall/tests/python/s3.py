"""boto3, unmodified and with its default settings, against the store."""
import base64
import datetime
import hashlib
import http.client
import io
import os
import time
import urllib.error
import urllib.parse
import urllib.request

import boto3
import botocore
from botocore.config import Config
from botocore.exceptions import ClientError

s3 = boto3.client("s3")


def refused(expected, call, **arguments):
    """The call must fail with this error code or this HTTP status."""
    try:
        call(**arguments)
    except ClientError as error:
        got = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        assert expected in got, f"{call.__name__}: wanted {expected}, got {got}"
        return
    raise AssertionError(f"{call.__name__} was not refused with {expected}")


def listed(**arguments):
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="boto", **arguments)
    return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


def objects():
    """What is put comes back byte by byte, with its metadata, at any size."""
    # Half of a body compresses, half does not.
    for size in (0, 1, 4096, 4097, 300 << 10):
        body = os.urandom(size // 2) + b"a" * (size - size // 2)
        key = f"sizes/{size}"
        put = s3.put_object(Bucket="boto", Key=key, Body=body, Metadata={"size": str(size)}, ContentType="x/y")
        assert put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"', "the ETag of a plain object is its MD5"
        got = s3.get_object(Bucket="boto", Key=key)
        assert got["Body"].read() == body and got["ETag"] == put["ETag"], key
        assert got["Metadata"] == {"size": str(size)} and got["ContentType"] == "x/y"
        head = s3.head_object(Bucket="boto", Key=key)
        assert head["ContentLength"] == size and head["Metadata"] == {"size": str(size)}
        age = datetime.datetime.now(datetime.timezone.utc) - head["LastModified"]
        assert abs(age) < datetime.timedelta(minutes=5), head["LastModified"]
    s3.put_object(Bucket="boto", Key="sizes/1", Body=b"other")
    assert s3.get_object(Bucket="boto", Key="sizes/1")["Body"].read() == b"other", "the newest content counts"
    refused("NoSuchKey", s3.get_object, Bucket="boto", Key="nothing")
    refused(404, s3.head_object, Bucket="boto", Key="nothing")
    refused("NoSuchBucket", s3.put_object, Bucket="nothing", Key="x", Body=b"")


def ranges():
    whole = os.urandom(300_000)
    s3.put_object(Bucket="boto", Key="ranges", Body=whole)
    for first, last in ((0, 0), (10, 99), (262_140, 262_150), (299_999, 400_000)):
        part = s3.get_object(Bucket="boto", Key="ranges", Range=f"bytes={first}-{last}")
        assert part["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert part["ContentRange"] == f"bytes {first}-{min(last, 299_999)}/300000", part["ContentRange"]
        assert part["Body"].read() == whole[first : last + 1], (first, last)
    assert s3.get_object(Bucket="boto", Key="ranges", Range="bytes=-5")["Body"].read() == whole[-5:]
    assert s3.get_object(Bucket="boto", Key="ranges", Range="bytes=299990-")["Body"].read() == whole[299_990:]
    refused("InvalidRange", s3.get_object, Bucket="boto", Key="ranges", Range="bytes=300000-")


def multipart():
    large = os.urandom(9 << 20)
    s3.upload_fileobj(io.BytesIO(large), "boto", "large")  # 8 MiB parts are the default
    assert s3.head_object(Bucket="boto", Key="large")["ETag"].endswith('-2"')
    back = io.BytesIO()
    s3.download_fileobj("boto", "large", back)
    assert back.getvalue() == large
    edge = s3.get_object(Bucket="boto", Key="large", Range=f"bytes={(8 << 20) - 3}-{(8 << 20) + 2}")["Body"].read()
    assert edge == large[(8 << 20) - 3 : (8 << 20) + 3], "a range over the seam of two parts"

    upload = s3.create_multipart_upload(Bucket="boto", Key="left")["UploadId"]
    part = s3.upload_part(Bucket="boto", Key="left", UploadId=upload, PartNumber=1, Body=b"x" * (5 << 20))
    assert [one["ETag"] for one in s3.list_parts(Bucket="boto", Key="left", UploadId=upload)["Parts"]] == [part["ETag"]]
    assert [one["Key"] for one in s3.list_multipart_uploads(Bucket="boto")["Uploads"]] == ["left"]
    refused("NoSuchKey", s3.get_object, Bucket="boto", Key="left")
    s3.abort_multipart_upload(Bucket="boto", Key="left", UploadId=upload)
    refused("NoSuchUpload", s3.list_parts, Bucket="boto", Key="left", UploadId=upload)
    wrong = {"Parts": [{"PartNumber": 1, "ETag": '"00000000000000000000000000000000"'}]}
    upload = s3.create_multipart_upload(Bucket="boto", Key="left")["UploadId"]
    s3.upload_part(Bucket="boto", Key="left", UploadId=upload, PartNumber=1, Body=b"x")
    refused("InvalidPart", s3.complete_multipart_upload, Bucket="boto", Key="left", UploadId=upload, MultipartUpload=wrong)
    s3.abort_multipart_upload(Bucket="boto", Key="left", UploadId=upload)


def checksums():
    """The checksums that boto3 adds by itself, those that are asked for, and wrong ones."""
    body = os.urandom(10_000)
    put = s3.put_object(Bucket="boto", Key="sum", Body=body)
    assert "ChecksumCRC32" in put, "the default checksum of this client was not answered"
    got = s3.get_object(Bucket="boto", Key="sum", ChecksumMode="ENABLED")
    assert got["Body"].read() == body and got["ChecksumCRC32"] == put["ChecksumCRC32"]
    for name, digest in (("SHA1", hashlib.sha1), ("SHA256", hashlib.sha256)):
        wanted = base64.b64encode(digest(body).digest()).decode()
        put = s3.put_object(Bucket="boto", Key="sum", Body=body, ChecksumAlgorithm=name)
        assert put[f"Checksum{name}"] == wanted, name
        got = s3.get_object(Bucket="boto", Key="sum", ChecksumMode="ENABLED")
        assert got[f"Checksum{name}"] == wanted and got["Body"].read() == body, name
    wrong = base64.b64encode(hashlib.sha256(b"something else").digest()).decode()
    refused(400, s3.put_object, Bucket="boto", Key="sum", Body=body, ChecksumSHA256=wrong)
    refused("BadDigest", s3.put_object, Bucket="boto", Key="sum", Body=body, ContentMD5=base64.b64encode(b"0" * 16).decode())
    assert s3.get_object(Bucket="boto", Key="sum")["Body"].read() == body, "a refused put changed the object"
    # As older clients do: no checksum but the signature.
    old = boto3.client("s3", config=Config(request_checksum_calculation="when_required"))
    old.put_object(Bucket="boto", Key="sum", Body=b"old")
    assert old.get_object(Bucket="boto", Key="sum")["Body"].read() == b"old"


def listings():
    names = ("a/1", "a/2", "b/1", "c", "d é &<>+%")
    for name in names:
        s3.put_object(Bucket="boto", Key=f"list/{name}", Body=b"x")
    page = s3.list_objects_v2(Bucket="boto", Prefix="list/", Delimiter="/")
    assert [prefix["Prefix"] for prefix in page["CommonPrefixes"]] == ["list/a/", "list/b/"]
    assert [entry["Key"] for entry in page["Contents"]] == ["list/c", "list/d é &<>+%"]
    assert listed(Prefix="list/", PaginationConfig={"PageSize": 2}) == [f"list/{name}" for name in names]
    assert listed(Prefix="list/", StartAfter="list/b/1") == ["list/c", "list/d é &<>+%"]
    first = s3.list_objects_v2(Bucket="boto", Prefix="list/", MaxKeys=1, Delimiter="/")
    assert first["IsTruncated"] and first["KeyCount"] == 1, first
    older = s3.list_objects(Bucket="boto", Prefix="list/a/")
    assert [entry["Key"] for entry in older["Contents"]] == ["list/a/1", "list/a/2"]
    assert s3.get_object(Bucket="boto", Key="list/d é &<>+%")["Body"].read() == b"x"


def copies_and_conditions():
    put = s3.put_object(Bucket="boto", Key="source é", Body=b"content", Metadata={"a": "b"})
    s3.copy_object(Bucket="boto", Key="copy", CopySource={"Bucket": "boto", "Key": "source é"})
    copy = s3.get_object(Bucket="boto", Key="copy")
    assert copy["Body"].read() == b"content" and copy["Metadata"] == {"a": "b"}
    refused("NoSuchKey", s3.copy_object, Bucket="boto", Key="copy", CopySource={"Bucket": "boto", "Key": "nothing"})

    s3.put_object(Bucket="boto", Key="once", Body=b"1", IfNoneMatch="*")
    refused("PreconditionFailed", s3.put_object, Bucket="boto", Key="once", Body=b"2", IfNoneMatch="*")
    assert s3.get_object(Bucket="boto", Key="once")["Body"].read() == b"1"
    refused(304, s3.get_object, Bucket="boto", Key="source é", IfNoneMatch=put["ETag"])
    refused(412, s3.get_object, Bucket="boto", Key="once", IfMatch=put["ETag"])
    assert s3.get_object(Bucket="boto", Key="source é", IfMatch=put["ETag"])["Body"].read() == b"content"


def with_another_signature(url):
    parts = urllib.parse.urlsplit(url)
    query = dict(urllib.parse.parse_qsl(parts.query))
    name = "Signature" if "Signature" in query else "X-Amz-Signature"
    query[name] = ("b" if query[name][0] == "a" else "a") + query[name][1:]
    return parts._replace(query=urllib.parse.urlencode(query)).geturl()


def presigned():
    """URLs that carry their signature, for programs without a key: in boto3's default form and in version 4."""
    clients = s3, boto3.client("s3", config=Config(signature_version="s3v4"))
    s3.put_object(Bucket="boto", Key="presigned", Body=b"nobody's")
    short = [c.generate_presigned_url("get_object", Params={"Bucket": "boto", "Key": "presigned"}, ExpiresIn=1) for c in clients]
    for client, late in zip(clients, short):
        url = client.generate_presigned_url("put_object", Params={"Bucket": "boto", "Key": "presigned"}, ExpiresIn=60)
        target = urllib.parse.urlsplit(url)
        # `urllib` would add a content type, which is not in the signature of the default form.
        plain = http.client.HTTPConnection(target.netloc)
        plain.request("PUT", f"{target.path}?{target.query}", body=b"hello")
        answer = plain.getresponse()
        assert answer.status == 200, (answer.status, answer.read())
        url = client.generate_presigned_url("get_object", Params={"Bucket": "boto", "Key": "presigned"}, ExpiresIn=60)
        assert urllib.request.urlopen(url).read() == b"hello"
        forged = with_another_signature(url)
        elsewhere = url.replace("/boto/presigned", "/boto/once")
        assert len({url, late, forged, elsewhere}) == 4
        time.sleep(2)  # until `late` is late
        for broken in (late, forged, elsewhere, url.split("?")[0]):
            try:
                urllib.request.urlopen(broken)
            except urllib.error.HTTPError as error:
                assert error.code == 403, error.code
            else:
                raise AssertionError("a late, forged, moved or missing signature was accepted")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": "boto", "Key": "nothing"}, ExpiresIn=60)
    try:
        urllib.request.urlopen(url)
    except urllib.error.HTTPError as error:
        assert error.code == 404, error.code


def strangers():
    wrong = boto3.client("s3", aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"], aws_secret_access_key="wrong")
    refused("SignatureDoesNotMatch", wrong.list_buckets)
    refused("SignatureDoesNotMatch", wrong.put_object, Bucket="boto", Key="sizes/0", Body=b"x" * 100_000)
    unknown = boto3.client("s3", aws_access_key_id="nobody", aws_secret_access_key="wrong")
    refused("InvalidAccessKeyId", unknown.list_buckets)
    anonymous = boto3.client("s3", config=Config(signature_version=botocore.UNSIGNED))
    refused("AccessDenied", anonymous.get_object, Bucket="boto", Key="sizes/0")
    refused("AccessDenied", anonymous.put_object, Bucket="boto", Key="sizes/0", Body=b"x")
    assert s3.head_object(Bucket="boto", Key="sizes/0")["ContentLength"] == 0, "a stranger changed an object"


def deletes():
    refused("BucketNotEmpty", s3.delete_bucket, Bucket="boto")
    s3.delete_object(Bucket="boto", Key="sizes/0")
    s3.delete_object(Bucket="boto", Key="nothing")  # S3 does not mind
    refused("NoSuchKey", s3.get_object, Bucket="boto", Key="sizes/0")
    keys = [{"Key": key} for key in listed()]
    assert len(keys) > 10
    done = s3.delete_objects(Bucket="boto", Delete={"Objects": keys})
    assert len(done["Deleted"]) == len(keys) and "Errors" not in done
    assert listed() == []
    s3.delete_bucket(Bucket="boto")
    refused("NoSuchBucket", s3.list_objects_v2, Bucket="boto")


s3.create_bucket(Bucket="boto")
assert "boto" in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
assert s3.head_bucket(Bucket="boto")["ResponseMetadata"]["HTTPStatusCode"] == 200
refused(404, s3.head_bucket, Bucket="nothing")
for check in (objects, ranges, multipart, checksums, listings, copies_and_conditions, presigned, strangers, deletes):
    check()
    print(f"boto3 {boto3.__version__}: {check.__name__}", flush=True)
