// graphile-worker: its table made, its worker, its callers.
import { WorkerPreset, makeWorkerUtils, run, runMigrations } from "graphile-worker";
import { database, deliver, main, produce, settings } from "./job.mjs";

await main({
  prepare: () => runMigrations({ connectionString: database }),
  work: () =>
    run({
      preset: { extends: [WorkerPreset], worker: { connectionString: database, ...settings.worker } },
      taskList: { send: deliver },
    }),
  produce: async () => {
    const utils = await makeWorkerUtils({ connectionString: database });
    await produce((job) => utils.addJob("send", job));
    await utils.release();
  },
});
