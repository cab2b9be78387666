// Ollama's own library.
import { Ollama } from "ollama";
import { ANSWER, TOOL, gathering, rounded } from "./serve.mjs";

const client = (call) => new Ollama({
  host: call.base, fetch: call.fetch, headers: call.key ? { Authorization: `Bearer ${call.key}` } : {},
});
const question = (call) => ({
  model: call.model, messages: [{ role: "user", content: call.prompt }], options: { num_predict: call.tokens },
});
const counts = (answer) => ({ prompt: answer.prompt_eval_count, answer: answer.eval_count });
const calls = (message) => message.tool_calls
  ?.map((c) => ({ id: c.id ?? null, name: c.function.name, arguments: JSON.stringify(c.function.arguments) }));

async function whole(call, more = {}) {
  const answer = await client(call).chat({ ...question(call), ...more });
  return {
    text: answer.message.content, role: answer.message.role, reasoning: answer.message.thinking,
    calls: calls(answer.message), model: answer.model, finish: answer.done_reason, usage: counts(answer),
    done: answer.done, created: String(answer.created_at),
  };
}

async function streamed(call, more = {}, each = () => {}) {
  const got = [];
  return gathering(got, async () => {
    const stream = await client(call).chat({ ...question(call), stream: true, ...more });
    const facts = { pieces: got, models: [], finish: null, usage: null, reasoning: "", calls: [] };
    for await (const chunk of stream) {
      if (!facts.models.includes(chunk.model)) facts.models.push(chunk.model);
      facts.reasoning += chunk.message.thinking ?? "";
      facts.calls.push(...(calls(chunk.message) ?? []));
      if (chunk.message.tool_calls) facts.message = chunk.message;
      if (chunk.done) Object.assign(facts, { finish: chunk.done_reason, usage: counts(chunk) });
      if (chunk.message.content) got.push(chunk.message.content);
      each(stream, got);
    }
    return { ...facts, text: got.join("") };
  });
}

export const ollama = {
  chat: (call) => whole(call),
  stream: (call) => streamed(call),
  stream_usage: (call) => streamed(call),
  tools: (call) => whole(call, { tools: [TOOL] }),
  async tools_stream(call) {
    const first = await streamed(call, { tools: [TOOL] });
    const results = first.calls.map((c) => ({ role: "tool", tool_name: c.name, content: "3" }));
    const messages = [...question(call).messages, first.message, ...results];
    const second = await streamed(call, { messages, tools: [TOOL] });
    return { calls: first.calls, finish: first.finish, text: second.text };
  },
  json: async (call) => ({
    schema: (await whole(call, { format: ANSWER })).text, object: (await streamed(call, { format: "json" })).text,
  }),
  async reasoning(call) {
    const { reasoning, text } = await whole(call, { think: true });
    const stream = await streamed(call, { think: true });
    return { reasoning, text, streamed: { reasoning: stream.reasoning, text: stream.text } };
  },
  async completions(call) {
    const ask = { model: call.model, prompt: call.prompt, options: { num_predict: call.tokens } };
    const answer = await client(call).generate(ask);
    const raw = await client(call).generate({ ...ask, raw: true });
    let text = "", usage = null;
    for await (const chunk of await client(call).generate({ ...ask, stream: true })) {
      text += chunk.response;
      if (chunk.done) usage = counts(chunk);
    }
    return {
      text: answer.response, raw: raw.response, finish: answer.done_reason, usage: counts(answer),
      model: answer.model, streamed: { text, usage },
    };
  },
  async load(call) {
    const loaded = await client(call).generate({ model: call.model, prompt: "", keep_alive: "5m" });
    const chat = await client(call).chat({ model: call.model, messages: [] });
    return { done: loaded.done, text: loaded.response, finish: loaded.done_reason, chat: chat.done_reason };
  },
  async embeddings(call) {
    const many = await client(call).embed({ model: call.model, input: call.inputs });
    const one = await client(call).embed({ model: call.model, input: call.inputs[7] });
    const old = await client(call).embeddings({ model: call.model, prompt: call.inputs[7] });
    return {
      vectors: many.embeddings.map(rounded), one: rounded(one.embeddings[0]), old: rounded(old.embedding),
      model: many.model, tokens: many.prompt_eval_count,
    };
  },
  models: async (call) => ({ names: (await client(call).list()).models.map((m) => m.name) }),
  async show(call) {
    const [shown, running, version] =
      [await client(call).show({ model: call.model }), await client(call).ps(), await client(call).version()];
    return {
      capabilities: shown.capabilities, details: shown.details, info: shown.model_info,
      running: running.models.map((m) => m.name), version: version.version,
    };
  },
  manage: (call) => client(call).delete({ model: call.model }),
  abort: (call) => streamed(call, {}, (stream, got) => got.length === 3 && stream.abort()),
  customary: (call) => whole(call, {
    options: { num_predict: call.tokens, num_ctx: 2048, seed: 7, stop: ["never"], top_k: 20, repeat_penalty: 1.1 },
    keep_alive: "10m", think: false, tools: [],
  }),
  wrong: (call) => whole(call, { options: { temperature: "hot" } }),
};
