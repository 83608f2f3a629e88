// A connection that breaks costs one reply, not the talk.
//
// Gradio's page gives up at the first request that fails: it takes no more messages, and loads itself anew once its server can be
// reached, without the conversation. So it is told of an ordinary failure instead, which app.py's steps answer with words.

const LOST = JSON.stringify({ error: "lost", detail: "lost" });
const EVENT = { "content-type": "text/event-stream" };
const JSON_HEAD = { "content-type": "application/json" };

const waiting = new Set(); // ids of what the server was asked for and has not finished
const joining = new Map(); // by step: who asked last, and what the server calls it
const reading = new Set(); // messages on their way
const SLOW = 15_000; // milliseconds; reading a message takes a few
const SILENT = 45_000; // the server says something every 15 seconds
const stopped = new Set(); // of what it was asked to stop, and may go on with until it hears of that

/** What the server would have sent, had each of these failed there. */
function failures() {
  const said = [...waiting].map((id) => ({ msg: "process_completed", event_id: id, output: { error: "lost" }, success: false }));
  waiting.clear();
  return [...said, { msg: "close_stream" }].map((event) => `data: ${JSON.stringify(event)}\n\n`).join("");
}

/** Pass a stream of events on, without those of a reply that was stopped: each would write the old talk on the page. One that ends too early ends in failures of whatever still waited for it. */
function mended(answer) {
  const reader = answer.body.getReader();
  const [decoder, encoder] = [new TextDecoder(), new TextEncoder()];
  let line = "";
  const stream = new ReadableStream({
    async pull(controller) {
      const { done, value } = await within(reader.read(), SILENT).catch(() => ({ done: true }));
      if (done) {
        reader.cancel().catch(() => null);
        if (waiting.size) controller.enqueue(encoder.encode(`\n\n${failures()}`));
        controller.close();
        return;
      }
      const lines = (line + decoder.decode(value, { stream: true })).split("\n");
      line = lines.pop();
      const passed = lines.filter((one) => {
        const id = /"event_id": ?"(\w+)"/.exec(one)?.[1];
        if (one.includes('"process_completed"')) waiting.delete(id);
        return !stopped.has(id);
      });
      controller.enqueue(encoder.encode(passed.map((one) => `${one}\n`).join("")));
    },
    cancel: (reason) => reader.cancel(reason),
  });
  return new Response(stream, { status: answer.status, headers: answer.headers });
}

/** What a body says; nothing where it is no JSON, such as a proxy's own page. */
function read(body) {
  try {
    return JSON.parse(body) ?? {};
  } catch {
    return {};
  }
}

/** What is awaited, unless that takes too long. */
function within(awaited, wait) {
  let timer;
  const late = new Promise((_, fail) => (timer = setTimeout(() => fail(new Error("slow")), wait)));
  return Promise.race([awaited, late]).finally(() => clearTimeout(timer));
}

/** Messages that are being read are not wanted any more. */
export function dropReading() {
  for (const one of reading) one.abort(new Error("dropped"));
}

export function mendConnections() {
  const fetched = window.fetch;

  /** Ask for something within SLOW. */
  async function limited(what, options, known = new Set()) {
    const limit = new AbortController();
    const timer = setTimeout(() => limit.abort(new Error("slow")), SLOW);
    known.add(limit);
    try {
      return await fetched(what, { ...options, signal: limit.signal });
    } finally {
      clearTimeout(timer);
      known.delete(limit);
    }
  }

  /** Ask for a reply's place in the queue. */
  async function join(what, options) {
    const { fn_index, session_hash } = read(options?.body);
    const asked = { stopped: false, id: "" };
    joining.set(fn_index, asked);
    const answer = await limited(what, options);
    if (!answer.ok) return answer;
    asked.id = read(await answer.clone().text()).event_id;
    waiting.add(asked.id);
    if (asked.stopped) forsake(String(what.url ?? what).replace(/queue\/join.*$/, "cancel"), { fn_index, session_hash }, asked.id);
    return answer;
  }

  /** Stop a reply, for the page at once. */
  function forsake(address, about, id) {
    waiting.delete(id); // stopping is no failure
    stopped.add(id);
    fetched(address, { method: "POST", headers: JSON_HEAD, body: JSON.stringify({ ...about, event_id: id }) }).catch(() => null);
  }

  /** Gradio would wait for the answer before it lets the next reply begin, and then call the old one failed in the middle of that. */
  function leave(what, options) {
    const about = read(options?.body);
    const asked = joining.get(about.fn_index);
    const id = about.event_id || asked?.id; // Gradio does not know it yet while the reply is asked for
    if (id) forsake(what, about, id);
    else if (asked) asked.stopped = true;
    return new Response("{}", { headers: JSON_HEAD });
  }

  window.fetch = async (what, options) => {
    const path = new URL(what.url ?? what, location.href).pathname;
    if (!path.includes("/gradio_api/")) return fetched(what, options);
    if (/\/(cancel|reset)$/.test(path)) return leave(what, options);
    try {
      if (path.endsWith("/run/predict")) return await limited(what, options, reading);
      if (path.endsWith("/queue/join")) return await join(what, options);
      if (!path.endsWith("/queue/data")) return await fetched(what, options);
      const answer = await within(fetched(what, options), SLOW);
      return answer.ok && answer.body ? mended(answer) : new Response(failures(), { headers: EVENT }); // refused: a flood, a proxy
    } catch (fault) {
      if (fault.name === "AbortError") throw fault;
      return path.endsWith("/queue/data") ? new Response(failures(), { headers: EVENT }) : new Response(LOST, { status: 503 });
    }
  };
}
