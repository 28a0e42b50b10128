"use strict";

// The text of a page is text in the results, not HTML.

const path = require("node:path");
const { renderResults } = require(path.resolve(process.argv[2], "lib/results.js"));

const result = { slug: "a page", title: "Tips & tricks", text: "How to <img src=x onerror=alert(1)> a picture" };
const html = renderResults("picture", [result]);
if (html.includes("<img") || !html.includes("&lt;img") || !html.includes("Tips &amp; tricks")) {
  console.error(`the page's text is HTML in the results: ${html}`);
  process.exitCode = 1;
}
