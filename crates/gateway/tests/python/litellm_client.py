"""LiteLLM as a client, unmodified, against a gateway in front of a stub engine."""
import os

import litellm

litellm.telemetry = False
where = {"api_base": os.environ["OPENAI_BASE_URL"], "api_key": os.environ["OPENAI_API_KEY"]}
messages = [{"role": "user", "content": "hello"}]
tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]

chat = litellm.completion(model="openai/m", messages=messages, tools=tools, **where)
assert chat.choices[0].message.tool_calls[0].function.name == "f"
assert chat.usage.total_tokens == 8
pieces = litellm.completion(model="openai/m", messages=messages, stream=True, **where)
assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == "hi"
embedded = litellm.embedding(model="openai/m", input=["x"], **where)
assert embedded.data[0]["embedding"] == [0.5, 0.25]
try:
    litellm.completion(model="openai/nobody", messages=messages, num_retries=0, max_retries=0, **where)
except litellm.NotFoundError as error:
    assert "nobody" in str(error)
else:
    raise AssertionError("a model that is not there was answered")
try:
    litellm.completion(model="openai/m", messages=messages, max_retries=0, **{**where, "api_key": "wrong"})
except litellm.AuthenticationError:
    pass
else:
    raise AssertionError("a wrong key was let in")
print("litellm is content")
