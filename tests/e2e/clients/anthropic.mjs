// Anthropic's own library.
import Anthropic from "@anthropic-ai/sdk";
import { NUMBER, gathering } from "./serve.mjs";

const client = (call) => new Anthropic({
  baseURL: call.base, apiKey: call.key ?? "any", fetch: call.fetch, maxRetries: call.retries ?? 0,
});
const question = (call) => ({
  model: call.model, max_tokens: call.tokens, messages: [{ role: "user", content: call.prompt }],
});
const tools = [{ name: "count_to", description: "Counts.", input_schema: NUMBER }];
const counts = (usage) => usage && { prompt: usage.input_tokens, answer: usage.output_tokens };
const joined = (blocks, kind, field) => blocks.filter((b) => b.type === kind).map((b) => b[field]).join("");
const calls = (blocks) => blocks.filter((b) => b.type === "tool_use")
  .map((b) => ({ id: b.id, name: b.name, arguments: JSON.stringify(b.input) }));

const facts = (message) => ({
  text: joined(message.content, "text", "text"), reasoning: joined(message.content, "thinking", "thinking"),
  calls: calls(message.content), role: message.role, model: message.model, finish: message.stop_reason,
  usage: counts(message.usage), id: message.id, object: message.type, request_id: message._request_id,
});

const whole = async (call, more = {}) => facts(await client(call).messages.create({ ...question(call), ...more }));

async function streamed(call, more = {}, each = () => {}) {
  const got = [];
  return gathering(got, async () => {
    const stream = client(call).messages.stream({ ...question(call), ...more });
    stream.on("text", (text) => {
      got.push(text);
      each(stream, got);
    });
    const message = await stream.finalMessage();
    return { ...facts(message), pieces: got, message };
  });
}

const unwrapped = async (answer) => {
  const { message, ...rest } = await answer;
  return rest;
};

export const anthropic = {
  chat: (call) => whole(call),
  stream: (call) => unwrapped(streamed(call)),
  stream_usage: (call) => unwrapped(streamed(call)),
  tools: (call) => whole(call, { tools }),
  async tools_stream(call) {
    const first = await streamed(call, { tools });
    const results = first.calls.map((c) => ({ type: "tool_result", tool_use_id: c.id, content: "3" }));
    const messages = [...question(call).messages, { role: "assistant", content: first.message.content },
      { role: "user", content: results }];
    const second = await streamed(call, { tools, messages });
    return { calls: first.calls, finish: first.finish, text: second.text };
  },
  async reasoning(call) {
    const thinking = { type: "enabled", budget_tokens: 1024 };
    const { reasoning, text } = await whole(call, { thinking, max_tokens: 1030 });
    const stream = await streamed(call, { thinking, max_tokens: 1030 });
    return { reasoning, text, streamed: { reasoning: stream.reasoning, text: stream.text } };
  },
  async count_tokens(call) {
    const { model, messages } = question(call);
    return { tokens: (await client(call).messages.countTokens({ model, messages })).input_tokens };
  },
  async models(call) {
    const names = [];
    for await (const model of client(call).models.list()) names.push(model.id);
    return { names, one: (await client(call).models.retrieve(call.model)).id };
  },
  abort: (call) => streamed(call, {}, (stream, got) => got.length === 3 && stream.abort()),
  customary: (call) => whole(call, {
    system: [{ type: "text", text: "Be brief.", cache_control: { type: "ephemeral" } }],
    metadata: { user_id: "somebody" }, stop_sequences: ["never"], top_k: 20, top_p: 0.9,
  }),
  wrong: (call) => whole(call, { temperature: "hot" }),
};
