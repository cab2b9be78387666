// OpenAI's own library.
import OpenAI from "openai";
import { ANSWER, TOOL, gathering, rounded } from "./serve.mjs";

const client = (call) => new OpenAI({
  baseURL: `${call.base}/v1`, apiKey: call.key ?? "any", fetch: call.fetch, maxRetries: call.retries ?? 0,
});
const question = (call) => ({ model: call.model, messages: [{ role: "user", content: call.prompt }] });
const told = (call) => ({ id: call.id, name: call.function.name, arguments: call.function.arguments });
const counts = (usage) => usage && { prompt: usage.prompt_tokens, answer: usage.completion_tokens };

async function whole(call, more = {}) {
  const answer = await client(call).chat.completions.create({ ...question(call), max_tokens: call.tokens, ...more });
  const [choice] = answer.choices;
  return {
    text: choice.message.content, role: choice.message.role, reasoning: choice.message.reasoning_content,
    calls: choice.message.tool_calls?.map(told),
    model: answer.model, finish: choice.finish_reason, usage: counts(answer.usage), id: answer.id,
    object: answer.object, choices: answer.choices.length, request_id: answer._request_id,
  };
}

async function streamed(call, more = {}, each = () => {}) {
  const got = [];
  return gathering(got, async () => {
    const stream = await client(call).chat.completions.create({
      ...question(call), max_completion_tokens: call.tokens, stream: true, ...more,
    });
    const facts = { pieces: got, models: [], ids: [], objects: [], finish: null, usage: null, reasoning: "" };
    const once = (list, value) => list.includes(value) || list.push(value);
    for await (const chunk of stream) {
      once(facts.models, chunk.model);
      once(facts.ids, chunk.id);
      once(facts.objects, chunk.object);
      facts.usage = counts(chunk.usage) ?? facts.usage;
      if (!chunk.choices.length) continue;
      const [{ delta, finish_reason }] = chunk.choices;
      facts.finish = finish_reason ?? facts.finish;
      facts.reasoning += delta.reasoning_content ?? "";
      if (delta.content) got.push(delta.content);
      await each(stream, got);
    }
    return { ...facts, text: got.join("") };
  });
}

export const openai = {
  chat: (call) => whole(call),
  stream: (call) => streamed(call),
  stream_usage: (call) => streamed(call, { stream_options: { include_usage: true } }),
  tools: (call) => whole(call, { tools: [TOOL] }),
  async tools_stream(call) {
    const messages = question(call).messages;
    const final = await client(call).chat.completions
      .stream({ model: call.model, messages, tools: [TOOL] }).finalChatCompletion();
    const [{ message, finish_reason }] = final.choices;
    const calls = message.tool_calls.map(told);
    const results = calls.map((c) => ({ role: "tool", tool_call_id: c.id, content: "3" }));
    const second = await streamed(call, { messages: [...messages, message, ...results], tools: [TOOL] });
    return { calls, finish: finish_reason, text: second.text };
  },
  async json(call) {
    const schema = { type: "json_schema", json_schema: { name: "answer", schema: ANSWER, strict: true } };
    return {
      schema: (await whole(call, { response_format: schema })).text,
      object: (await streamed(call, { response_format: { type: "json_object" } })).text,
    };
  },
  async reasoning(call) {
    const { reasoning, text } = await whole(call);
    const stream = await streamed(call);
    return { reasoning, text, streamed: { reasoning: stream.reasoning, text: stream.text } };
  },
  async completions(call) {
    const ask = { model: call.model, prompt: call.prompt, max_tokens: call.tokens };
    const answer = await client(call).completions.create(ask);
    const streaming = { stream: true, stream_options: { include_usage: true } };
    const stream = await client(call).completions.create({ ...ask, ...streaming });
    let text = "", usage = null;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.text ?? "";
      usage = counts(chunk.usage) ?? usage;
    }
    return {
      text: answer.choices[0].text, finish: answer.choices[0].finish_reason, usage: counts(answer.usage),
      object: answer.object, model: answer.model, streamed: { text, usage },
    };
  },
  async embeddings(call) {
    const embed = (input, more) => client(call).embeddings.create({ model: call.model, input, ...more });
    const many = await embed(call.inputs); // as the library likes it: base64
    const plain = await embed(call.inputs, { encoding_format: "float" });
    const one = await embed(call.inputs[7]);
    return {
      vectors: many.data.map((d) => rounded(d.embedding)), order: many.data.map((d) => d.index),
      plain: plain.data.map((d) => rounded(d.embedding)), one: rounded(one.data[0].embedding),
      model: many.model, tokens: many.usage.prompt_tokens,
    };
  },
  async models(call) {
    const names = [];
    for await (const model of client(call).models.list()) names.push(model.id);
    return { names, one: (await client(call).models.retrieve(call.model)).id };
  },
  abort: (call) => streamed(call, {}, (stream, got) => got.length === 3 && stream.controller.abort()),
  customary: (call) => whole(call, {
    messages: [{ role: "developer", content: "Be brief." },
      { role: "user", content: [{ type: "text", text: call.prompt }] }],
    n: 1, seed: 7, stop: ["never"], top_p: 0.9, presence_penalty: 0.1, frequency_penalty: 0.1, user: "somebody",
    metadata: { topic: "counting" }, store: false, tools: [], response_format: { type: "text" },
  }),
  async two_answers(call) {
    const answer = await client(call).chat.completions.create({ ...question(call), max_tokens: call.tokens, n: 2 });
    return { texts: answer.choices.map((c) => c.message.content), order: answer.choices.map((c) => c.index),
      usage: counts(answer.usage) };
  },
  responses: (call) => client(call).responses.create({ model: call.model, input: call.prompt }),
  wrong: (call) => whole(call, { temperature: "hot" }),
};
