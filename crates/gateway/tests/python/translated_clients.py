"""The anthropic and openai packages, unmodified, against a gateway whose engine has nothing but chat completions."""
import os

import anthropic
import openai

key = os.environ["KEY"]
claude = anthropic.Anthropic(base_url=os.environ["GATEWAY"], api_key=key, max_retries=0)
tools = [{"name": "f", "description": "d", "input_schema": {"type": "object", "properties": {"x": {"type": "integer"}}}}]
messages = [{"role": "user", "content": "hi"}]

message = claude.messages.create(model="m", max_tokens=20, system="be brief", messages=messages)
assert message.content[0].text == "hello" and message.stop_reason == "end_turn", message
assert (message.usage.input_tokens, message.usage.output_tokens) == (3, 5)

message = claude.messages.create(model="m", max_tokens=20, messages=messages, tools=tools)
assert message.stop_reason == "tool_use" and message.content[0].input == {"x": 1}, message
messages += [
    {"role": "assistant", "content": message.content},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": message.content[0].id, "content": "2"}]},
]
assert claude.messages.create(model="m", max_tokens=20, messages=messages).content[0].text == "hello"

with claude.messages.stream(model="m", max_tokens=20, messages=messages) as stream:
    assert "".join(stream.text_stream) == "hello"
    final = stream.get_final_message()
assert final.content[0].text == "hello" and final.stop_reason == "end_turn"
assert (final.usage.input_tokens, final.usage.output_tokens) == (3, 5), final.usage
with claude.messages.stream(model="m", max_tokens=20, messages=messages, tools=tools) as stream:
    final = stream.get_final_message()
assert final.content[0].name == "f" and final.content[0].input == {"x": 1} and final.stop_reason == "tool_use", final
kinds = [event.type for event in claude.messages.create(model="m", max_tokens=20, messages=messages, stream=True)]
assert kinds == ["message_start", "content_block_start", "content_block_delta", "content_block_delta",
                 "content_block_stop", "message_delta", "message_stop"], kinds
for expected, more in [(anthropic.BadRequestError, {"extra_body": {"mcp_servers": [{"url": "x"}]}}),
                       (anthropic.NotFoundError, {"model": "nobody"})]:
    try:
        claude.messages.create(**{"model": "m", "max_tokens": 20, "messages": messages, **more})
        raise AssertionError("a refusal was expected")
    except expected as error:
        assert error.body["type"] == "error" and error.body["error"]["message"], error.body

client = openai.OpenAI(base_url=os.environ["GATEWAY"] + "/v1", api_key=key, max_retries=0)
function = {"type": "function", "name": "f", "parameters": tools[0]["input_schema"], "strict": False}
response = client.responses.create(model="m", instructions="be brief", input="hi")
assert response.output_text == "hello" and response.status == "completed", response
assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == (3, 5, 8)
response = client.responses.create(model="m", input="hi", tools=[function])
call = response.output[0]
assert call.type == "function_call" and call.arguments == '{"x":1}', response
items = [{"role": "user", "content": "hi"}, call, {"type": "function_call_output", "call_id": call.call_id, "output": "2"}]
assert client.responses.create(model="m", input=items).output_text == "hello"

with client.responses.stream(model="m", input="hi") as stream:
    events = list(stream)
    final = stream.get_final_response()
assert final.output_text == "hello" and events[0].type == "response.created", events
assert [event.delta for event in events if event.type == "response.output_text.delta"] == ["hel", "lo"]
assert events[-1].type == "response.completed" and events[-1].response.usage.total_tokens == 8
with client.responses.stream(model="m", input="hi", tools=[function]) as stream:
    final = stream.get_final_response()
assert final.output[0].name == "f" and final.output[0].arguments == '{"x":1}', final
try:
    client.responses.create(model="m", input="hi", previous_response_id="resp_1")
    raise AssertionError("a refusal was expected")
except openai.BadRequestError as error:
    assert "previous_response_id" in error.message
print("anthropic", anthropic.__version__, "and openai", openai.__version__, "are content")
