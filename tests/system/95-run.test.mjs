/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ./run itself, with the simulated model: twice in a row, after kill -9 of each
 * program, and after kill -9 of everything that could start them again.
 */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { CLI, Service, UID_BASE } from "../lib/stack.mjs";
import { root } from "../lib/packages.mjs";
import { freePort, run, until } from "../lib/util.mjs";

const PROGRAMS = ["cloister-broker", "cloister-api", "cloister-ledger", "cloisterd"];

export const tests = [
	{
		name: "./run: two links, twice in a row, after kill -9 of each program and of all that restarts them",
		needs: "nothing",
		async fn({ say }) {
			const dir = Service.scratch(), port = await freePort(), model = await freePort();
			const s = new Service(dir, { yaml: `uid_base: ${UID_BASE + 500}\nlisten_model: "127.0.0.1:${model}"\n` });
			const env = { ...process.env };

			delete env.OPENAI_API_KEY;
			delete env.ANTHROPIC_API_KEY;
			const begin = async () => {
				const got = await run(path.join(root, "run"), ["--dir", dir, "--listen", `127.0.0.1:${port}`, "--detach"], { ms: 400000, env });

				assert.equal(got.code, 0, (got.out + got.err).slice(-1500));
				for (const id of ["alice", "bob"])
					assert.match(got.out, new RegExp(`${id} +http://127\\.0\\.0\\.1:${port}/i/\\S+`));
				s.up = { pid: Number(/pid (\d+)/.exec(got.out)[1]) };
			};
			const chat = (id, text, want) => until(`${id} answers`, 180000, async () => {
				const got = await run(CLI, ["--dir", dir, "chat", id, text, "--timeout", "60"], { ms: 90000 });

				return got.code === 0 && got.out.includes(want) && /simulated/.test(got.out);
			}, 1000);
			const down = async () => {
				await s.ok(["down"], { ms: 90000 });
				await until("all of it ended", 30000, () => !fs.existsSync(`/proc/${s.up.pid}`));
			};

			try {
				await begin();
				await chat("alice", "write over-the-runs into kept.txt", "over-the-runs");
				for (const name of PROGRAMS) {
					const pid = s.pid(name);

					assert.ok(pid, `${name} runs`);
					process.kill(pid, "SIGKILL");
					await until(`${name} is back`, 30000, async () => {
						const now = s.pid(name);

						return now && now !== pid && (await s.cli(["status"])).code === 0;
					});
				}
				await chat("bob", "hello", "hello");
				await down();
				say("stopped; again");
				await begin();
				await chat("alice", "read kept.txt", "over-the-runs");
				say("kill -9 of the starter and of cloisterd");
				const last = [s.up.pid, s.pid("cloisterd")];

				for (const pid of last)
					process.kill(pid, "SIGKILL");
				await until("they are gone", 20000, async () => last.every((p) => !fs.existsSync(`/proc/${p}`)) &&
					(await s.cli(["status"])).code !== 0);
				await begin();
				await chat("alice", "read kept.txt", "over-the-runs");
			} finally {
				await s.cli(["down"], { ms: 90000 }).catch(() => {});
				await until("all of it ended", 60000, () => !s.up || !fs.existsSync(`/proc/${s.up.pid}`)).catch(() => {});
				s.rm();
			}
		},
	},
];
