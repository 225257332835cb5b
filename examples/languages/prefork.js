#!/usr/bin/env node
// A child of ExecServer in Node: serves connections and says when it is busy.
//
//     require("./prefork").serve((client) => { ... });     // client: net.Socket
//
// Node accepts whatever is queued, so such a child may have several connections in hand: it is busy
// from the first to the last of them. Run as a program it is a line echo server, which the line
// `spin` hangs.
"use strict";

const fs = require("fs");
const net = require("net");

const WORDS = { control: ["\x06", "\x13", "\x11"], poe: ["1", "2", "3"] };

// Calls `handler` with each connection, until told to stop or after `maxRequests` (0: no limit).
function serve(handler, { maxRequests = 25, words = "control" } = {}) {
  const [ACK, BUSY, NOT_BUSY] = WORDS[words];
  let state = NOT_BUSY;
  let inHand = 0;
  let served = 0;
  let stopping = false;

  // One write, nothing buffered. The newline before a word ends whatever was printed before.
  const say = (...said) => fs.writeSync(1, said.map((word) => `\n${word}`).join("") + "\n");
  const turn = (to) => say((state = to));
  // The state too, so that a word that was lost does no harm. Only a process that is stuck in code
  // is silent, since the timer needs the event loop.
  const ack = () => say(ACK, state);

  const server = net.createServer({ allowHalfOpen: true }, (client) => {
    inHand += 1;
    served += 1;
    if (inHand === 1) turn(BUSY);
    // What the client does wrong ends its connection only.
    client.on("error", () => client.destroy());
    client.on("close", () => {
      inHand -= 1;
      if (inHand === 0 && !stopping) turn(NOT_BUSY);
    });
    if (served === maxRequests) stop();
    handler(client);
  });

  // SIGINT: finish what is in hand, and leave: nothing else keeps the process. It also comes when the
  // parent dies.
  function stop() {
    stopping = true;
    server.close();
  }
  process.on("SIGINT", stop);
  process.on("SIGTERM", stop);

  server.listen({ fd: listener() }, () => {
    ack();
    const interval = Number(process.env.PREFORK_SEND_ACK || 0);
    if (interval > 0) setInterval(ack, interval * 1000).unref();
  });
}

// Descriptor 3, if it is meant for this process.
function listener() {
  const { LISTEN_PID, LISTEN_FDS } = process.env;
  if (LISTEN_PID !== String(process.pid) || !(Number(LISTEN_FDS) >= 1)) {
    console.error("no socket from the parent: run this under ExecServer");
    process.exit(1);
  }
  return 3;
}

// A handler that sends each line back.
function echo(client) {
  let buffer = "";
  client.setEncoding("latin1");
  client.on("data", (data) => {
    const lines = (buffer + data).split("\n");
    buffer = lines.pop();
    for (const line of lines) {
      while (line === "spin"); // What the parent is there for.
      client.write(`${line}\n`, "latin1");
    }
    // A client that reads nothing is given nothing more to keep for it.
    if (client.writableNeedDrain) client.pause();
  });
  client.on("drain", () => client.resume());
  client.on("end", () => client.end());
}

module.exports = { serve };

if (require.main === module) {
  const { parseArgs } = require("util");
  const { values } = parseArgs({
    options: {
      "max-requests": { type: "string", default: "25" },
      words: { type: "string", default: "control" },
    },
  });
  serve(echo, { maxRequests: Number(values["max-requests"]), words: values.words });
}
