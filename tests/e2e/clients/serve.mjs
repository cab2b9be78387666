// Runs a client's cases one by one: a line of JSON in for each, a line of facts out. What the facts should be is not
// known here: the Python side judges.
import readline from "node:readline";

export const NUMBER = { type: "object", properties: { n: { type: "integer" } }, required: ["n"] };
export const ANSWER = { type: "object", properties: { answer: { type: "string" } }, required: ["answer"] };
export const TOOL = { type: "function", function: { name: "count_to", description: "Counts.", parameters: NUMBER } };

const SHOWN = ["x-request-id", "x-phone", "x-should-retry", "retry-after", "content-type"];

// A client's own words to the console go with its facts: on standard output they would be taken for them.
let noise = [];
for (const kind of ["log", "info", "warn", "error", "debug"]) console[kind] = (...words) => noise.push(words.join(" "));

// fetch that writes down what passes, so that a client's own retries are seen.
function recording(wire, answered) {
  return async (input, init) => {
    const response = await fetch(input, init);
    const url = new URL(input.url ?? input);
    const headers = Object.fromEntries(SHOWN.map((name) => [name, response.headers.get(name)]).filter(([, v]) => v));
    wire.push({ method: init?.method ?? input.method ?? "GET", path: url.pathname, status: response.status, headers });
    await answered?.(response, wire.length);
    return response;
  };
}

const known = (value) => value ?? null;

function refusal(e) {
  return {
    class: known(e?.constructor?.name), name: known(e?.name), message: String(e?.message ?? e),
    status: known(e?.status ?? e?.status_code), type: known(e?.type), code: known(e?.code), param: known(e?.param),
    said: known(e?.error?.error?.message ?? e?.error?.message ?? e?.error ?? e?.message),
    request_id: known(e?.requestID ?? e?.request_id), cause: known(e?.cause && String(e.cause.message ?? e.cause)),
  };
}

export const rounded = (vector) => Array.from(vector, (x) => Math.round(x * 1e5) / 1e5);

export async function serve(clients) {
  const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const say = (what) => process.stdout.write(JSON.stringify(what) + "\n");
  for await (const line of lines) {
    const call = JSON.parse(line);
    const wire = [];
    // Tells the Python side how far it is, and waits until that has done what it wants to.
    const begun = async () => {
      say({ begun: true });
      await lines.next();
    };
    noise = [];
    call.fetch = recording(wire, call.pause_at && (async (_, count) => count === call.pause_at && begun()));
    let result;
    try {
      const act = clients[call.client][call.case];
      result = act ? { facts: await act(call) } : { missing: true };
    } catch (e) {
      // Streams keep what had come before they broke.
      result = { error: { ...refusal(e), pieces: known(e?.pieces) } };
    }
    say({ ...result, wire, noise });
  }
}

// For streams: what had come goes along with the error.
export async function gathering(got, act) {
  try {
    return await act();
  } catch (e) {
    if (e && typeof e === "object") e.pieces = got;
    throw e;
  }
}
