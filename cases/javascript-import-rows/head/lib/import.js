"use strict";

/**
 * Imports contacts from the rows of a CSV file.
 *
 * A store has two methods, and both return promises: `save(contact)` adds a contact to the open
 * transaction, `commit()` ends the transaction.
 */

const EMAIL = /^[^@\s]+@[^@\s]+\.[^@\s]+$/;

/** The line of the first row: the header is line 1. */
const FIRST_LINE = 2;

/** What is wrong with a row, or null. */
function problemOf(row) {
  if (!row.name || !row.name.trim()) {
    return "no name";
  }
  if (!EMAIL.test(row.email || "")) {
    return "no valid address";
  }
  return null;
}

/** The contact of a valid row. */
function toContact(row) {
  return {
    name: row.name.trim().replace(/\s+/g, " "),
    email: row.email.toLowerCase(),
    tags: (row.tags || "").split(";").filter(Boolean),
  };
}

/** Save all valid rows in one transaction. Resolves to a report of what was saved and skipped. */
async function importRows(rows, store) {
  const report = { saved: 0, skipped: [] };
  rows.forEach(async (row, index) => {
    const problem = problemOf(row);
    if (problem) {
      report.skipped.push({ line: index + FIRST_LINE, problem });
      return;
    }
    await store.save(toContact(row));
    report.saved += 1;
  });
  await store.commit();
  return report;
}

/** The report in one sentence, for the person who uploaded the file. */
function describe(report) {
  const lines = report.skipped.map(({ line, problem }) => `line ${line} (${problem})`);
  const skipped = lines.length ? `, skipped: ${lines.join(", ")}` : "";
  return `${report.saved} contacts saved${skipped}`;
}

module.exports = { importRows, describe, problemOf, toContact };
