/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runner SUITE... [--only TEXT[|TEXT...]] - runs tests/SUITE/*.test.mjs in one process, so
 * that they share one started stack. A file exports `tests`: [{ name, needs, fn }],
 * in the order in which they run; `needs: "stack"` (the default) passes the shared
 * stack, `needs: "nothing"` an empty object. Prints "ok SUITE: NAME" or
 * "not ok SUITE: NAME reason", which ./test counts.
 */
import fs from "node:fs";
import path from "node:path";
import { root } from "./packages.mjs";
import { Stack } from "./stack.mjs";

const args = process.argv.slice(2);
const at = args.indexOf("--only");
const only = at < 0 ? "" : args.splice(at, 2)[1];
let stack = null, broken = null, failed = 0, stopping = false;
const say = (text) => console.log("# " + text);

async function shared() {
	if (broken)
		throw broken;
	if (!stack)
		try {
			stack = await Stack.start({ say });
		} catch (e) {
			broken = new Error("the stack did not start (see above)");
			throw new Error("the stack did not start: " + e.message);
		}
	return stack;
}

async function end() {
	if (stopping)
		return;
	stopping = true;
	await stack?.stop().catch((e) => { say(e.message); failed++; });
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"])
	process.on(signal, async () => {
		await end();
		process.exit(130);
	});

for (const suite of args) {
	const dir = path.join(root, "tests", suite);

	for (const file of fs.readdirSync(dir).filter((f) => f.endsWith(".test.mjs")).sort()) {
		const { tests } = await import(path.join(dir, file));

		for (const t of tests) {
			if (only && !only.split("|").some((part) => (file + " " + t.name).includes(part)) || stopping)
				continue;
			const t0 = Date.now();

			try {
				await t.fn(t.needs === "nothing" ? { say } : await shared());
				console.log(`ok ${suite}: ${t.name} (${((Date.now() - t0) / 1000).toFixed(1)} s)`);
			} catch (e) {
				failed++;
				console.log(`not ok ${suite}: ${t.name} ${String(e.message).replace(/\s+/g, " ").slice(0, 900)}`);
				if (process.env.CLOISTER_TEST_VERBOSE)
					say(e.stack.replace(/\n/g, "\n# "));
			}
		}
	}
}
if (stack && failed)
	say("last lines of the service:\n# " + stack.service.logs.trim().split("\n").slice(-40).join("\n# "));
await end();
process.exit(failed ? 1 : 0);
