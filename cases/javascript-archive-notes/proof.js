"use strict";

// Nobody archives a note of somebody else, alone or among their own.

const path = require("node:path");
const handlers = require(path.resolve(process.argv[2], "lib/notes.js"));

const notes = new handlers.Notes([
  { id: 1, owner: "ann" },
  { id: 2, owner: "bob" },
]);
const user = { id: "ann" };
const attempts = [() => handlers.archiveNote({ user, params: { id: 2 } }, notes)];
if (handlers.archiveNotes) {
  attempts.push(() => handlers.archiveNotes({ user, body: { ids: [2] } }, notes));
  attempts.push(() => handlers.archiveNotes({ user, body: { ids: [1, 2] } }, notes));
}
for (const attempt of attempts) {
  try {
    attempt();
  } catch (error) {
    if (error.status !== 403) {
      throw error;
    }
  }
}
if (notes.list("bob").length !== 1) {
  console.error("ann has archived a note of bob");
  process.exitCode = 1;
}
