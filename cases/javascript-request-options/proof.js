"use strict";

// A request that must not be sent twice is sent once.

const path = require("node:path");
const { complete, request } = require(path.resolve(process.argv[2], "lib/options.js"));

let sent = 0;
async function send() {
  sent += 1;
  throw new Error("no answer");
}

request("/payments", { retries: 0 }, send).catch(() => {
  const { timeoutMs, redirects } = complete({ timeoutMs: 0 });
  if (sent !== 1 || timeoutMs !== 0 || redirects !== 5) {
    console.error(`a request with retries: 0 was sent ${sent} times; timeoutMs: 0 became ${timeoutMs}`);
    process.exitCode = 1;
  }
});
