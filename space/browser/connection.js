// A connection that breaks costs one reply, not the talk.
//
// Gradio's page gives up at the first request that fails: it takes no more messages, and loads itself anew once its server can be
// reached, without the conversation. So it is told of an ordinary failure instead, which app.py's steps answer with words.

const LOST = JSON.stringify({ error: "lost", detail: "lost" });
const EVENT = { "content-type": "text/event-stream" };

const waiting = new Set(); // ids of what the server was asked for and has not finished
const SLOW = 15_000; // milliseconds; reading a message takes a few
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
      const { done, value } = await reader.read().catch(() => ({ done: true }));
      if (done) {
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

function eventIn(text) {
  try {
    return JSON.parse(text).event_id;
  } catch {
    return ""; // a proxy's own page
  }
}

export function mendConnections() {
  const fetched = window.fetch;
  window.fetch = async (what, options) => {
    const path = new URL(what.url ?? what, location.href).pathname;
    if (!path.includes("/gradio_api/")) return fetched(what, options);
    if (path.endsWith("/cancel")) {
      const id = eventIn(options?.body);
      waiting.delete(id); // stopping is no failure
      stopped.add(id);
    }
    let answer;
    try {
      answer = await fetched(what, path.endsWith("/run/predict") ? { ...options, signal: AbortSignal.timeout(SLOW) } : options);
    } catch (fault) {
      if (fault.name === "AbortError") throw fault;
      return path.endsWith("/queue/data") ? new Response(failures(), { headers: EVENT }) : new Response(LOST, { status: 503 });
    }
    if (path.endsWith("/queue/join") && answer.ok) waiting.add(eventIn(await answer.clone().text()));
    if (!path.endsWith("/queue/data")) return answer;
    return answer.ok && answer.body ? mended(answer) : new Response(failures(), { headers: EVENT }); // refused: a flood, a proxy
  };
}
