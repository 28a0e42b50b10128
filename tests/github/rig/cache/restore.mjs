// A stand-in for actions/cache/restore, on the same client library.
import * as cache from "@actions/cache";
import * as core from "@actions/core";

const paths = core.getMultilineInput("path", { required: true });
const more = core.getMultilineInput("restore-keys");
const found = await cache.restoreCache(paths, core.getInput("key", { required: true }), more);
core.setOutput("cache-matched-key", found ?? "");
core.info(`restored: ${found ?? "nothing"}`);
