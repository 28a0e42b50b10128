"use strict";

// Everything is saved before the transaction ends. Each save takes one turn of the loop of promises.

const path = require("node:path");
const { importRows } = require(path.resolve(process.argv[2], "lib/import.js"));

const saved = [];
let committed = null;
const store = {
  async save(contact) {
    await null;
    saved.push(contact.email);
  },
  async commit() {
    committed = saved.length;
  },
};
const rows = [
  { name: "Ann", email: "ann@example.com" },
  { name: "", email: "nobody@example.com" },
  { name: "Bob", email: "bob@example.com" },
];

importRows(rows, store).then((report) => {
  if (committed !== 2 || report.saved !== 2 || report.skipped.length !== 1) {
    console.error(`of 2 valid rows, ${committed} were saved before the commit; the report says ${report.saved}`);
    process.exitCode = 1;
  }
});
