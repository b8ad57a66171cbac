"""The openai package, unmodified, against the gateway."""
import os
import openai

model = os.environ["MODEL"]
client = openai.OpenAI(max_retries=0)
assert model in [one.id for one in client.models.list()], "the model is not listed"
messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "Hello!"}]}]
whole = client.chat.completions.create(model=model, messages=messages, max_tokens=12, temperature=0)
assert whole.choices[0].finish_reason in ("stop", "length") and whole.usage.completion_tokens <= 12
assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens

stream = client.chat.completions.create(
    model=model, messages=messages, max_tokens=12, temperature=0, stream=True, stream_options={"include_usage": True}
)
text, usage, reason = "", None, None
for event in stream:
    usage = event.usage or usage
    if event.choices:
        text += event.choices[0].delta.content or ""
        reason = event.choices[0].finish_reason or reason
assert text == whole.choices[0].message.content, (text, whole.choices[0].message.content)
assert usage == whole.usage and reason == whole.choices[0].finish_reason

for key, name, error in (("wrong", model, openai.AuthenticationError), (None, "nobody", openai.NotFoundError)):
    try:
        openai.OpenAI(api_key=key, max_retries=0).chat.completions.create(model=name, messages=messages)
        raise AssertionError(f"{error.__name__} was expected")
    except error:
        pass
try:
    client.chat.completions.create(model=model, messages=messages, max_tokens=-1)
    raise AssertionError("a bad request was accepted")
except openai.BadRequestError:
    pass
print("openai", openai.__version__, "is content")
