// What every peer does: a job is one request to the sink, and jobs come from callers of whom so many wait at a time.
import { appendFileSync, readFileSync } from "node:fs";

export const database = process.env.DATABASE_URL;
// The peer's own settings, as contenders.py gives them.
export const settings = JSON.parse(process.env.SETTINGS);

const login = `Basic ${Buffer.from(process.env.SINK_LOGIN).toString("base64")}`;

/** Sends the text of a job. Throws unless the sink took it, so that the queue tries again. */
export async function deliver({ to, body }) {
  const form = new URLSearchParams({ To: to, From: process.env.SINK_FROM, Body: body });
  const answer = await fetch(process.env.SINK_URL, { method: "POST", headers: { authorization: login }, body: form });
  await answer.arrayBuffer();
  if (answer.status !== 201) throw new Error(`the sink answered ${answer.status}`);
}

/** Enqueues all jobs of the run and writes down each that the queue has acknowledged. */
export async function produce(enqueue) {
  const jobs = JSON.parse(readFileSync(process.env.JOBS, "utf8"));
  const caller = async () => {
    for (let job = jobs.shift(); job; job = jobs.shift()) {
      await enqueue(job);
      appendFileSync(process.env.ACCEPTED, `${JSON.stringify({ number: job.number, time: Date.now() / 1000 })}\n`);
    }
  };
  await Promise.all(Array.from({ length: Number(process.env.CALLERS) }, caller));
}

/** Does what the first argument says; a worker then runs until it is killed. */
export async function main(parts) {
  await parts[process.argv[2]]();
  console.log(`${process.argv[2]} is ready`);
}
