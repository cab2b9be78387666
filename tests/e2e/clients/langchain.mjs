// LangChain, which speaks two of the dialects through libraries of its own.
import { AIMessage, HumanMessage, ToolMessage } from "@langchain/core/messages";
import { ChatOllama, Ollama, OllamaEmbeddings } from "@langchain/ollama";
import { ChatOpenAI, OpenAI, OpenAIEmbeddings } from "@langchain/openai";
import { ANSWER, TOOL, gathering, rounded } from "./serve.mjs";

const counts = (usage) => usage && { prompt: usage.input_tokens, answer: usage.output_tokens };
const calls = (message) => message.tool_calls
  ?.map((c) => ({ id: c.id ?? null, name: c.name, arguments: JSON.stringify(c.args) }));

const facts = (message) => ({
  text: message.content, reasoning: message.additional_kwargs.reasoning_content, calls: calls(message),
  finish: message.response_metadata.finish_reason ?? message.response_metadata.done_reason,
  model: message.response_metadata.model_name ?? message.response_metadata.model,
  usage: counts(message.usage_metadata),
});

// `to` makes what a dialect needs: chat(call, more), plain(call), embeddings(call).
function cases(to) {
  const whole = async (call, model = to.chat(call)) => facts(await model.invoke([new HumanMessage(call.prompt)]));
  async function streamed(call, model = to.chat(call), { messages, signal, each = () => {} } = {}) {
    const got = [];
    return gathering(got, async () => {
      let all;
      for await (const chunk of await model.stream(messages ?? [new HumanMessage(call.prompt)], { signal })) {
        all = all ? all.concat(chunk) : chunk;
        if (chunk.content) got.push(chunk.content);
        each(got);
      }
      return { ...facts(all), pieces: got, message: all };
    });
  }
  const unwrapped = async (answer) => {
    const { message, ...rest } = await answer;
    return rest;
  };
  return {
    chat: (call) => whole(call),
    stream: (call) => unwrapped(streamed(call)),
    stream_usage: (call) => unwrapped(streamed(call)),
    tools: (call) => whole(call, to.chat(call).bindTools([TOOL])),
    async tools_stream(call) {
      const model = to.chat(call).bindTools([TOOL]);
      const first = await streamed(call, model);
      const asked = new AIMessage({ content: first.message.content, tool_calls: first.message.tool_calls });
      const results = first.message.tool_calls
        .map((c) => new ToolMessage({ content: "3", tool_call_id: c.id ?? c.name, name: c.name }));
      const second = await streamed(call, model, { messages: [new HumanMessage(call.prompt), asked, ...results] });
      return { calls: first.calls, finish: first.finish, text: second.text };
    },
    async json(call) {
      const schema = { title: "answer", ...ANSWER };
      const parsed = async (method) => JSON.stringify(
        await to.chat(call).withStructuredOutput(schema, { method }).invoke([new HumanMessage(call.prompt)]));
      return { schema: await parsed("jsonSchema"), object: await parsed("jsonMode") };
    },
    async reasoning(call) {
      const { reasoning, text } = await whole(call, to.chat(call, { think: true }));
      const stream = await streamed(call, to.chat(call, { think: true }));
      return { reasoning, text, streamed: { reasoning: stream.reasoning, text: stream.text } };
    },
    async completions(call) {
      let text = "";
      for await (const piece of await to.plain(call).stream(call.prompt)) text += piece;
      return { text: await to.plain(call).invoke(call.prompt), streamed: { text, usage: null } };
    },
    async embeddings(call) {
      const model = to.embeddings(call);
      const many = await model.embedDocuments(call.inputs);
      return { vectors: many.map(rounded), one: rounded(await model.embedQuery(call.inputs[7])) };
    },
    abort(call) {
      const controller = new AbortController();
      const each = (got) => got.length === 3 && controller.abort();
      return unwrapped(streamed(call, to.chat(call), { signal: controller.signal, each }));
    },
    customary: (call) => whole(call, to.chat(call, to.options)),
    wrong: (call) => whole(call, to.chat(call, { temperature: "hot" })),
  };
}

const openai = (call) => ({
  model: call.model, apiKey: call.key ?? "any", maxRetries: call.retries ?? 0,
  configuration: { baseURL: `${call.base}/v1`, fetch: call.fetch },
});
const ollama = (call) => ({
  model: call.model, baseUrl: call.base, fetch: call.fetch, maxRetries: call.retries ?? 0,
  headers: call.key ? { Authorization: `Bearer ${call.key}` } : {},
});

export const langchain_openai = cases({
  chat: (call, { think, ...more } = {}) => new ChatOpenAI({ ...openai(call), maxTokens: call.tokens, ...more }),
  options: { temperature: 0, topP: 0.9, stop: ["never"], presencePenalty: 0.1, user: "somebody", n: 1 },
  plain: (call) => new OpenAI({ ...openai(call), maxTokens: call.tokens }),
  embeddings: (call) => new OpenAIEmbeddings(openai(call)),
});
export const langchain_ollama = cases({
  chat: (call, more = {}) => new ChatOllama({ ...ollama(call), numPredict: call.tokens, ...more }),
  options: { temperature: 0, topP: 0.9, topK: 20, numCtx: 2048, numThread: 4, keepAlive: "10m", repeatPenalty: 1.1 },
  plain: (call) => new Ollama({ ...ollama(call), numPredict: call.tokens }),
  embeddings: (call) => new OllamaEmbeddings(ollama(call)),
});
