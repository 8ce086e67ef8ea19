/* SPDX-License-Identifier: Apache-2.0 */
/* Small things that every test needs. */
import { spawn } from "node:child_process";
import net from "node:net";

export const sleep = (ms) => new Promise((ok) => setTimeout(ok, ms));

export function freePort() {
	return new Promise((ok, bad) => {
		const s = net.createServer().once("error", bad);

		s.listen(0, "127.0.0.1", () => {
			const { port } = s.address();

			s.close(() => ok(port));
		});
	});
}

/* until - ask @fn again until it says something; an exception of it is kept for the message, unless it is `final` */
export async function until(what, ms, fn, every = 100) {
	const end = Date.now() + ms;
	let why = "";

	for (;;) {
		try {
			const got = await fn();

			if (got)
				return got;
			why = "";
		} catch (e) {
			if (e.final)
				throw e;
			why = ": " + e.message;
		}
		if (Date.now() > end)
			throw new Error(`not within ${ms / 1000} s: ${what}${why}`);
		await sleep(every);
	}
}

/*
 * run - start a program, give it @input, return { code, out, err }. Killed by
 * its own pid after @ms.
 */
export function run(file, args, { input = "", ms = 120000, env = process.env, cwd, binary = false } = {}) {
	return new Promise((ok, bad) => {
		const p = spawn(file, args, { env, cwd, stdio: ["pipe", "pipe", "pipe"] });
		const out = [], err = [];
		const timer = setTimeout(() => p.kill("SIGKILL"), ms);

		p.stdout.on("data", (d) => out.push(d));
		p.stderr.on("data", (d) => err.push(d));
		p.stdin.on("error", () => {});
		p.stdin.end(input);
		p.on("error", bad);
		p.on("close", (code, signal) => {
			clearTimeout(timer);
			ok({ code: code ?? signal, out: binary ? Buffer.concat(out) : Buffer.concat(out).toString(), err: Buffer.concat(err).toString() });
		});
	});
}
