// pg-boss: its queue made, its worker, its callers.
import { PgBoss } from "pg-boss";
import { database, deliver, main, produce, settings } from "./job.mjs";

async function start(options) {
  const boss = new PgBoss({ connectionString: database, ...options });
  boss.on("error", (error) => console.error(error));
  await boss.start();
  return boss;
}

/** Each job of a batch has its own outcome where the worker was told so. */
async function one(job) {
  try {
    await deliver(job.data);
    return { id: job.id, status: "completed" };
  } catch (error) {
    return { id: job.id, status: "failed", output: { message: error.message } };
  }
}

await main({
  prepare: async () => {
    const boss = await start({});
    await boss.createQueue("send", settings.queue);
    await boss.stop();
  },
  work: async () => {
    const boss = await start(settings.boss);
    const each = settings.work.perJobResults ? one : (job) => deliver(job.data);
    await boss.work("send", settings.work, (jobs) => Promise.all(jobs.map(each)));
  },
  produce: async () => {
    // Only workers supervise: what becomes of jobs after a kill shall be theirs alone.
    const boss = await start({ supervise: false, schedule: false });
    await produce((job) => boss.send("send", job));
    await boss.stop();
  },
});
