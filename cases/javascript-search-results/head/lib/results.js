"use strict";

/** Renders the results of a search as HTML, on the server. */

const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };

/** Text as HTML. */
function escape(text) {
  return String(text).replace(/[&<>"']/g, (character) => ENTITIES[character]);
}

/** The beginning of a text, cut between two words. */
function excerpt(text, length = 80) {
  if (text.length <= length) {
    return text;
  }
  const end = text.lastIndexOf(" ", length);
  return `${text.slice(0, end > 0 ? end : length)} …`;
}

/** A pattern of the words that somebody searched. */
function patternOf(query) {
  const words = query.split(/\s+/).filter(Boolean);
  return new RegExp(words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|") || "(?!)", "gi");
}

/** A text with these words marked. */
function highlight(text, pattern) {
  return text.replace(pattern, "<mark>$&</mark>");
}

/** One result: a link with the title, and the beginning of the text with the words that were found. */
function renderResult(result, pattern) {
  return [
    "<li>",
    `<a href="/pages/${encodeURIComponent(result.slug)}">${escape(result.title)}</a>`,
    `<p>${highlight(excerpt(result.text), pattern)}</p>`,
    "</li>",
  ].join("");
}

/** The list of results for what somebody searched. */
function renderResults(query, results) {
  if (results.length === 0) {
    return `<p>Nothing found for “${escape(query)}”.</p>`;
  }
  const heading = `<h2>${results.length} results for “${escape(query)}”</h2>`;
  const pattern = patternOf(query);
  return `${heading}<ul>${results.map((result) => renderResult(result, pattern)).join("")}</ul>`;
}

module.exports = { escape, excerpt, renderResult, renderResults };
