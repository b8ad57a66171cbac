// The openai package of npm, unmodified and with its default settings, against a gateway in front of a stub engine.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const require = createRequire(process.env.DATAHALL_NODE_MODULES + "/");
const { OpenAI, NotFoundError, AuthenticationError, toFile } = require("openai");

const client = new OpenAI();
const messages = [{ role: "user", content: "hello" }];
const tools = [{ type: "function", function: { name: "f", parameters: { type: "object", properties: {} } } }];

const models = [];
for await (const one of client.models.list()) models.push(one.id);
assert.deepEqual(models, ["m"]);
const chat = await client.chat.completions.create({ model: "m", messages, tools });
assert.equal(chat.choices[0].message.tool_calls[0].function.name, "f");
let text = "";
for await (const piece of await client.chat.completions.create({ model: "m", messages, stream: true })) {
  text += piece.choices[0].delta.content ?? "";
}
assert.equal(text, "hi");
const embedded = await client.embeddings.create({ model: "m", input: "x", encoding_format: "float" });
assert.deepEqual(embedded.data[0].embedding, [0.5, 0.25]);
assert.equal((await client.responses.create({ model: "m", input: "x" })).output_text, "hi");

await assert.rejects(client.chat.completions.create({ model: "nobody", messages }), NotFoundError);
await assert.rejects(async () => { for await (const one of new OpenAI({ apiKey: "wrong" }).models.list()) one; }, AuthenticationError);

const lines = [...Array(5).keys()].map((number) => JSON.stringify({
  custom_id: `r${number}`, method: "POST", url: "/v1/chat/completions", body: { model: "m", messages },
}));
const file = await client.files.create({ file: await toFile(Buffer.from(lines.join("\n")), "in.jsonl"), purpose: "batch" });
assert.equal(await (await client.files.content(file.id)).text(), lines.join("\n"));
let batch = await client.batches.create({
  input_file_id: file.id, endpoint: "/v1/chat/completions", completion_window: "24h",
});
for (let turn = 0; turn < 3000 && !["completed", "failed", "expired", "cancelled"].includes(batch.status); turn++) {
  await new Promise((resolve) => setTimeout(resolve, 10));
  batch = await client.batches.retrieve(batch.id);
}
assert.equal(batch.status, "completed");
assert.equal(batch.request_counts.completed, 5);
console.log("openai of npm is content");
