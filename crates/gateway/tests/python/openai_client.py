"""The openai package, unmodified and with its default settings, against a gateway in front of a stub engine."""
import json
import time

import openai

client = openai.OpenAI()
messages = [{"role": "user", "content": "hello"}]
tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]

assert [one.id for one in client.models.list()] == ["m"]
chat = client.chat.completions.create(model="m", messages=messages, tools=tools)
assert chat.choices[0].message.tool_calls[0].function.name == "f"
pieces = client.chat.completions.create(model="m", messages=messages, stream=True)
assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == "hi"
embedded = client.embeddings.create(model="m", input="x", encoding_format="float")
assert embedded.data[0].embedding == [0.5, 0.25]
assert client.responses.create(model="m", input="x").output_text == "hi"


def refused(expected, call, *arguments, **more):
    try:
        call(*arguments, **more)
    except expected as error:
        assert error.message and error.body["message"], error
        return
    raise AssertionError(f"{expected.__name__} was expected")


refused(openai.NotFoundError, client.chat.completions.create, model="nobody", messages=messages)
refused(openai.AuthenticationError, openai.OpenAI(api_key="wrong").models.list)

lines = [
    {"custom_id": f"r{number}", "method": "POST", "url": "/v1/chat/completions",
     "body": {"model": "m" if number else "nobody", "messages": messages}}
    for number in range(30)
]
text = "\n".join(json.dumps(line) for line in lines).encode()
file = client.files.create(file=("in.jsonl", text), purpose="batch")
assert file.bytes == len(text) and file.filename == "in.jsonl" and file.status == "processed"
assert client.files.retrieve(file.id) == file
assert [one.id for one in client.files.list(purpose="batch")] == [file.id]
assert client.files.content(file.id).read() == text

batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h",
                              metadata={"of": "a test"})
assert batch.metadata == {"of": "a test"} and [one.id for one in client.batches.list(limit=1)] == [batch.id]
for _ in range(3000):
    batch = client.batches.retrieve(batch.id)
    if batch.status in ("completed", "failed", "expired", "cancelled"):
        break
    time.sleep(0.01)
assert batch.status == "completed", batch
assert (batch.request_counts.completed, batch.request_counts.failed) == (29, 1), batch
results = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
assert sorted(one["custom_id"] for one in results) == sorted(line["custom_id"] for line in lines[1:])
assert all(one["response"]["status_code"] == 200 and one["error"] is None for one in results)
failed = [json.loads(line) for line in client.files.content(batch.error_file_id).text.splitlines()]
assert failed[0]["custom_id"] == "r0" and failed[0]["response"]["body"]["error"]["code"] == "model_not_found"

broken = client.files.create(file=("bad.jsonl", b"{}\n"), purpose="batch")
batch = client.batches.create(input_file_id=broken.id, endpoint="/v1/embeddings", completion_window="24h")
while batch.status == "validating":
    batch = client.batches.retrieve(batch.id)
    time.sleep(0.01)
assert batch.status == "failed" and batch.errors.data[0].line == 1 and batch.errors.data[0].param == "custom_id"
refused(openai.ConflictError, client.batches.cancel, batch.id)
assert client.files.delete(file.id).deleted
refused(openai.NotFoundError, client.files.retrieve, file.id)
refused(openai.BadRequestError, client.batches.create, input_file_id=broken.id, endpoint="/v1/x", completion_window="24h")
print("openai", openai.__version__, "is content")
