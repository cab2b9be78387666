// node main.mjs CLIENT: reads cases, runs them with that client, writes facts. Only the module that is needed is
// loaded: LangChain takes a second, and a newer Node than the others.
import { serve } from "./serve.mjs";

const modules = { openai: "openai", ollama: "ollama", anthropic: "anthropic",
  langchain_openai: "langchain", langchain_ollama: "langchain" };
const name = process.argv[2];
const { [name]: cases } = await import(`./${modules[name]}.mjs`);
await serve({ [name]: cases });
process.exit(0); // whatever connections a library keeps
