"""The openai package, unmodified and with its default settings, against the gateway."""
import os
import re
import urllib.request

import openai

model = os.environ["MODEL"]
client = openai.OpenAI()


def refused(expected, client, **arguments):
    try:
        client.chat.completions.create(**{"model": model, "messages": messages, "max_tokens": 4, **arguments})
    except expected as error:
        assert error.message and error.body["message"], error
        return
    raise AssertionError(f"{expected.__name__} was expected")


assert model in [one.id for one in client.models.list()], "the model is not listed"
assert client.models.retrieve(model).id == model
messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "Hello!"}]}]
asked = {"model": model, "messages": messages, "max_tokens": 12, "temperature": 0}

whole = client.chat.completions.create(**asked)
assert whole.model == model and whole.choices[0].message.role == "assistant"
assert whole.choices[0].finish_reason in ("stop", "length") and 0 < whole.usage.completion_tokens <= 12
assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens

# A stream brings the same text in pieces, and the usage at its end.
text, usage, reason, pieces = "", None, None, 0
for event in client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
    usage = event.usage or usage
    if event.choices:
        piece = event.choices[0].delta.content or ""
        text, pieces = text + piece, pieces + bool(piece)
        reason = event.choices[0].finish_reason or reason
assert text == whole.choices[0].message.content, (text, whole.choices[0].message.content)
assert usage == whole.usage and reason == whole.choices[0].finish_reason and pieces > 1

# A stream that is not read to its end blocks nobody.
stream = client.chat.completions.create(**{**asked, "max_tokens": 400}, stream=True)
next(iter(stream))
stream.close()
completion = client.completions.create(model=model, prompt="Once", max_tokens=4, temperature=0)
assert completion.usage.completion_tokens <= 4

# Both replicas are there, and healthy, and what they computed is counted.
page = urllib.request.Request(f"{client.base_url}".removesuffix("v1/") + "metrics")
page.add_header("Authorization", f"Bearer {client.api_key}")
metrics = urllib.request.urlopen(page).read().decode()
healthy = re.findall(r'^datahall_gateway_engine_healthy\{engine="(.*?)",.*\} 1$', metrics, re.MULTILINE)
assert sorted(healthy) == ["job/1.1", "job/2.1"], metrics
answered = re.findall(r"^datahall_gateway_requests_total\{model=\"(.*?)\",code=\"200\"\} (\d+)$", metrics, re.MULTILINE)
assert [(name, int(count) >= 3) for name, count in answered] == [(model, True)], answered

refused(openai.AuthenticationError, openai.OpenAI(api_key="wrong"))
refused(openai.NotFoundError, client, model="nobody")
refused(openai.BadRequestError, client, max_tokens=-1)
refused(openai.BadRequestError, client, messages=[])
print("openai", openai.__version__, "is content")
